"""Next hops followed through the network: where the router that a next hop names sends the same
destination, and so on to the edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.ingest import join_kernels as k
from flowray.ingest.ladder import NOWHERE
from flowray.intervals import AddressSet
from flowray.rib.lpm import look_up
from flowray.rib.snapshot import Instance, Snapshot

U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FollowedHops:
    """What a snapshot says of the next hop of each attribute set: `within` (sets,) bool, whether it
    is to be followed, and `table` (sets,) int64, the global table of the router that it names.
    """

    snapshot: Snapshot
    within: npt.NDArray[np.bool_]
    table: I64
    hops: int
    external: bool

    @classmethod
    def of(cls, s: Snapshot, within: AddressSet, hops: int, external: bool) -> FollowedHops:
        """For next hops in `within`, at most `hops` times; see `last`."""
        hi, lo = s.columns.next_hop_hi, s.columns.next_hop_lo
        inside = within.contains(hi, lo)
        table = np.full(hi.size, NOWHERE, np.int64)
        at = np.flatnonzero(inside)
        pairs, which = np.unique(np.stack((hi[at], lo[at])), axis=1, return_inverse=True)
        routers = [s.routers.get((h, w), -1) for h, w in pairs.T.tolist()]
        tables = [s.instances.get(Instance(router, 0), NOWHERE) for router in routers]
        table[at] = np.array(tables, np.int64)[which.reshape(-1)]
        return cls(s, inside, table, hops, external)

    def last(self, payload: U32, hi: U64, lo: U64) -> U32:
        """The attribute set (n,) whose next hop is the last one: starting from those of the routes
        `payload` (n,) to addresses (n,), the last that is followed, or with `external` the first
        that is not, if it comes to that.
        """
        told, current = payload.copy(), payload.copy()
        at = np.arange(payload.size)
        for _ in range(self.hops):
            inside = self.within[current[at]]
            self._leave(told, current, at[~inside])
            at = at[inside]
            told[at] = current[at]
            found = self._next(self.table[current[at]], hi[at], lo[at])
            there = (found != k.NO_ROUTE) & (found != current[at])
            at, found = at[there], found[there]
            if not at.size:
                return told
            current[at] = found
        self._leave(told, current, at[~self.within[current[at]]])
        return told

    def _leave(self, told: U32, current: U32, at: I64) -> None:
        """Next hops that are not to be followed."""
        if self.external:
            told[at] = current[at]

    def _next(self, table: I64, hi: U64, lo: U64) -> U32:
        s = self.snapshot
        payload, _ = look_up(s.forest, table, hi, lo)
        k.first_paths(payload, s.paths, s.path_begin)
        if s.validated:
            k.part_states(payload, np.empty(payload.size, np.uint8))
        return payload
