"""Sequence accounts: what exporters numbered and we did not receive."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowray.ingest.ledger import Account, Ledger
from flowray.wire.flow.kernels import sequence_gaps

I64 = npt.NDArray[np.int64]

PLACE_BITS = 36
"""An account's place: 32 bits of observation domain or sub-agent, 4 of version."""


class Sequences:
    """An account per exporter and place, of which there are at most `limit`: others go without."""

    def __init__(self, ledger: Ledger, limit: int) -> None:
        self._ledger = ledger
        self._limit = limit
        self._slot: dict[int, int] = {}
        self._allocate(64)

    def _allocate(self, size: int) -> None:
        self._state = np.zeros((size, 4), np.int64)
        self._restarted = np.zeros(size, np.int64)
        self._owner = np.zeros(size, np.int64)

    def __len__(self) -> int:
        return len(self._slot)

    def account(self, exporter: I64, place: I64, sequence: I64, step: I64) -> None:
        """Messages in the order of arrival, each (n,); `step` as for `sequence_gaps`."""
        distinct, inverse = np.unique(exporter << PLACE_BITS | place, return_inverse=True)
        slot = np.array([self._slot_of(p) for p in distinct.tolist()], np.int64)[inverse]
        known = np.flatnonzero(slot >= 0)
        slot = slot[known]
        gap = np.zeros(slot.size, np.int64)
        sequence_gaps(slot, sequence[known], step[known], self._state, gap, self._restarted)
        missing = gap != 0
        self._ledger.add(Account.SEQUENCE_GAP, exporter[known][missing], gap[missing])
        restarted = np.unique(slot[self._restarted[slot] != 0])
        self._ledger.add(Account.RESTARTS, self._owner[restarted], self._restarted[restarted])
        self._restarted[restarted] = 0

    def _slot_of(self, packed: int) -> int:
        """Row of an account, -1 past the limit."""
        slot = self._slot.get(packed)
        if slot is not None:
            return slot
        slot = len(self._slot)
        if slot >= self._limit:
            return -1
        if slot >= len(self._state):
            state, restarted, owner = self._state, self._restarted, self._owner
            self._allocate(2 * slot)
            self._state[:slot], self._restarted[:slot] = state, restarted
            self._owner[:slot] = owner
        self._slot[packed] = slot
        self._owner[slot] = packed >> PLACE_BITS
        return slot
