"""Sequence accounts of a shard: what exporters numbered and what of it came here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.hashing import MISSING, Index
from flowray.ingest.sequence_kernels import COLUMNS, RUN, STATE, find, follow
from flowray.ingest.sequence_runs import Run, Told, bounded

I64 = npt.NDArray[np.int64]


ENDED = -1
"""State of runs that have ended, in `table`."""

FOUND_LIMIT = 4096
"""Times that held records were decoded since the last batch of messages, at most."""


class Sequences:
    """An account per exporter and place (32 bits of observation domain or sub-agent, 4 of version),
    of which there are at most `limit`: others go without.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots = Index(64)
        self._allocate(64)
        self._ended: dict[int, list[Run]] = defaultdict(list)
        self._found: list[tuple[I64, I64, I64, I64]] = []

    def _allocate(self, size: int) -> None:
        self._state = np.zeros((size, COLUMNS), np.int64)
        self._owner = np.zeros((size, 2), np.int64)

    def __len__(self) -> int:
        return len(self._slots)

    def account(self, exporter: I64, place: I64, sequence: I64, step: I64, arrival: I64) -> None:
        """Messages in the order of arrival, each (n,); `step` as for `follow`."""
        slot = self._slots_of(exporter, place)
        known = np.flatnonzero(slot >= 0)
        closed = np.empty((known.size // 2 + 1, 7), np.int64)
        ended = follow(
            slot[known], sequence[known], step[known], arrival[known], self._state, closed
        )
        for owner, *run in closed[:ended].tolist():
            self._end(owner, Run(*run))
        self._find()

    def found(self, exporter: I64, place: I64, sequence: I64, units: I64) -> None:
        """Units of messages that could not be counted when they came, each (n,). The messages may
        be of the batch that is accounted next.
        """
        self._found.append((exporter, place, sequence, units))
        if len(self._found) > FOUND_LIMIT:
            self._find()

    def _find(self) -> None:
        if not self._found:
            return
        exporter, place, sequence, units = map(np.concatenate, zip(*self._found, strict=True))
        self._found.clear()
        slot = self._slots_of(exporter, place)
        known = np.flatnonzero(slot >= 0)
        find(slot[known], sequence[known], units[known], self._state)

    def _end(self, slot: int, run: Run) -> None:
        self._ended[slot] = bounded([*self._ended[slot], run])

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
            state, owner = self._state, self._owner
            self._allocate(2 * slot)
            self._state[:slot], self._owner[:slot] = state, owner
        self._slots.put(exporter, place, slot)
        self._owner[slot] = exporter, place

    # -- looking at it -----------------------------------------------------------------------------

    def told(self, address: Callable[[int], str]) -> Told:
        """All runs, those that go on last. `address` names an exporter."""
        self._find()
        out: Told = {}
        rows = self._state[: len(self)]
        for slot, ((exporter, place), begun, run) in enumerate(
            zip(
                self._owner[: len(self)].tolist(),
                rows[:, STATE].tolist(),
                rows[:, RUN].tolist(),
                strict=True,
            )
        ):
            runs = [list(ended) for ended in self._ended.get(slot, ())]
            runs += [run] if begun else []
            out.setdefault(address(exporter), {})[str(place)] = runs
        return out

    # -- for a successor ---------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """All accounts: exporter, place, and the words of their state; in rows of their own, marked
        by `ENDED` in place of the state, the runs that have ended.
        """
        self._find()
        rows = self._state[: len(self)]
        ended = np.array(
            [[slot, ENDED, *run] for slot, runs in self._ended.items() for run in runs], np.int64
        ).reshape(-1, 2 + len(Run._fields))
        past = np.zeros((len(ended), COLUMNS), np.int64)
        past[:, STATE], past[:, RUN] = ended[:, 1], ended[:, 2:]
        state = np.concatenate((rows, past))
        owner = np.concatenate((self._owner[: len(self)], self._owner[ended[:, 0]]))
        columns = {"exporter": owner[:, 0], "place": owner[:, 1]}
        words = {f"state{i}": state[:, i] for i in range(COLUMNS)}
        return pa.table({name: np.ascontiguousarray(x) for name, x in (columns | words).items()})

    def restore(self, table: pa.Table) -> None:
        """Go on from the accounts that others told; there are none here yet."""
        exporter, place = (table[name].to_numpy() for name in ("exporter", "place"))
        slot = self._slots_of(exporter, place)
        state = np.stack([table[f"state{i}"].to_numpy() for i in range(COLUMNS)], axis=1)
        goes_on = (slot >= 0) & (state[:, STATE] != ENDED)
        self._state[slot[goes_on]] = state[goes_on]
        past = np.flatnonzero((slot >= 0) & ~goes_on)
        for at, run in zip(slot[past].tolist(), state[past, RUN].tolist(), strict=True):
            self._end(at, Run(*run))
