"""Sequence accounts: what exporters numbered and we did not receive."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.hashing import MISSING, Index
from flowray.ingest.ledger import Account, Ledger
from flowray.wire.flow.kernels import sequence_gaps

I64 = npt.NDArray[np.int64]


class Sequences:
    """An account per exporter and place (32 bits of observation domain or sub-agent, 4 of version),
    of which there are at most `limit`: others go without.
    """

    def __init__(self, ledger: Ledger, limit: int) -> None:
        self._ledger = ledger
        self._limit = limit
        self._slots = Index(64)
        self._allocate(64)

    def _allocate(self, size: int) -> None:
        self._state = np.zeros((size, 4), np.int64)
        self._restarted = np.zeros(size, np.int64)
        self._owner = np.zeros(size, np.int64)

    def __len__(self) -> int:
        return len(self._slots)

    def account(self, exporter: I64, place: I64, sequence: I64, step: I64) -> None:
        """Messages in the order of arrival, each (n,); `step` as for `sequence_gaps`."""
        slot = self._slots_of(exporter, place)
        known = np.flatnonzero(slot >= 0)
        slot = slot[known]
        gap = np.zeros(slot.size, np.int64)
        sequence_gaps(slot, sequence[known], step[known], self._state, gap, self._restarted)
        missing = gap != 0
        self._ledger.add(Account.SEQUENCE_GAP, exporter[known][missing], gap[missing])
        restarted = np.unique(slot[self._restarted[slot] != 0])
        self._ledger.add(Account.RESTARTS, self._owner[restarted], self._restarted[restarted])
        self._restarted[restarted] = 0

    def _slots_of(self, exporter: I64, place: I64) -> I64:
        """Rows (n,) of accounts, -1 past the limit."""
        slot = self._slots.get_many(exporter.view(np.uint64), place.view(np.uint64))
        new = np.flatnonzero(slot == MISSING)
        if new.size and len(self) < self._limit:
            for owner, where in np.unique(np.stack((exporter[new], place[new])), axis=1).T.tolist():
                self._open(owner, where)
            slot[new] = self._slots.get_many(
                exporter[new].view(np.uint64), place[new].view(np.uint64)
            )
        return slot.view(np.int64)  # MISSING is -1

    def _open(self, exporter: int, place: int) -> None:
        slot = len(self)
        if slot >= self._limit:
            return
        if slot >= len(self._state):
            state, restarted, owner = self._state, self._restarted, self._owner
            self._allocate(2 * slot)
            self._state[:slot], self._restarted[:slot] = state, restarted
            self._owner[:slot] = owner
        self._slots.put(exporter, place, slot)
        self._owner[slot] = exporter

    # -- for a successor ---------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """All accounts: exporter, place, and the words of their state."""
        keys, slot = self._slots.items()
        state = self._state[slot.view(np.int64)]
        columns = {"exporter": keys[:, 0], "place": keys[:, 1]}
        words = {f"state{i}": state[:, i] for i in range(state.shape[1])}
        return pa.table({name: np.ascontiguousarray(x) for name, x in (columns | words).items()})

    def restore(self, table: pa.Table) -> None:
        """Go on from the accounts that others told; there are none here yet."""
        exporter, place = (table[name].to_numpy() for name in ("exporter", "place"))
        slot = self._slots_of(exporter.view(np.int64), place.view(np.int64))
        known = np.flatnonzero(slot >= 0)
        for i in range(self._state.shape[1]):
            self._state[slot[known], i] = table[f"state{i}"].to_numpy()[known]
