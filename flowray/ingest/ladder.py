"""Where flows look for their routes: the routing instance that their route distinguisher names, of
their router, and after it the fall-backs of the operator, in order.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from flowray.hashing import MISSING, U64, Index, Interner
from flowray.ingest.agents import Agents
from flowray.maps import AddressWords
from flowray.rib.snapshot import Instance, Snapshot
from flowray.wire.bgp.distinguisher import rd_number
from flowray.wire.packets import Exporters

U8 = npt.NDArray[np.uint8]

NOWHERE = 1 << 62
"""Number of no table. (An `Index` takes any number but the highest.)"""

NOT_FOUND = 255
"""Rung of an address without a route."""

GLOBAL_TABLE = None
FallBack = AddressWords | None
"""The same routing instance of another router, or `GLOBAL_TABLE`, that of the own router."""


class Rung(IntEnum):
    """What gave the route of an address, or why there is none; fall-backs count from the last."""

    INSTANCE = 0
    GLOBAL = 1
    NO_ROUTE = 2
    NO_TABLE = 3
    NO_ROUTER = 4
    NO_SNAPSHOT = 5
    FALL_BACK = 6


class Ladder:
    """The tables of a snapshot by who asks and for which route distinguisher.

    Rung 0 is the router's own routing instance, rung *k* the *k*-th fall-back.
    """

    def __init__(
        self,
        fall_backs: tuple[FallBack, ...],
        names: tuple[str, ...],
        agents: Agents,
    ) -> None:
        """`names` are of the fall-backs, for rows; `agents` tell the router of who asks."""
        self._fall_backs, self._names, self._agents = fall_backs, names, agents
        self._snapshot: Snapshot | None = None
        self.install(None)

    def __len__(self) -> int:
        return 1 + len(self._fall_backs)

    def install(self, snapshot: Snapshot | None) -> None:
        """Look up in this snapshot from now on."""
        self._snapshot = snapshot
        self._tables = [Index() for _ in range(len(self))]
        self._reasons, self._stale, self._global = Index(), Index(), Index()

    def place(self, who: U64, rd: U64, exporters: Exporters, texts: Interner) -> None:
        """Find the tables of all (who, rd), (n,) each."""
        missing = np.flatnonzero(self._reasons.get_many(who, rd) == MISSING)
        if not missing.size:
            return
        pairs = np.unique(np.stack((who[missing], rd[missing])), axis=1)
        for asking, r in pairs.T.tolist():
            router = self._agents.router(asking, exporters)
            self._place(asking, r, router, rd_number(texts[r].decode()))

    def _place(self, who: int, rd: int, router: AddressWords, number: int | None) -> None:
        s = self._snapshot
        own = None if s is None else s.routers.get(router)
        steps = [self._step(own, number)]
        for other in self._fall_backs:
            if other is not GLOBAL_TABLE:
                steps.append(self._step(None if s is None else s.routers.get(other), number))
            else:
                steps.append(self._step(own, None if number == 0 else 0))
        reason = Rung.GLOBAL if number == 0 else Rung.INSTANCE
        if s is None or own is None:
            reason = Rung.NO_SNAPSHOT if s is None else Rung.NO_ROUTER
        elif steps[0][0] == NOWHERE:
            reason = Rung.NO_TABLE
        self._reasons.put(who, rd, reason)
        self._stale.put(who, rd, sum(stale << k for k, (_, stale, _) in enumerate(steps)))
        self._global.put(who, rd, sum(of_all << k for k, (_, _, of_all) in enumerate(steps)))
        for tables, (table, _, _) in zip(self._tables, steps, strict=True):
            tables.put(who, rd, table)

    def _step(self, router: int | None, number: int | None) -> tuple[int, int, int]:
        """Table, whether it is stale, and whether it is a global one."""
        if self._snapshot is None or router is None:
            return NOWHERE, 0, 0
        table = NOWHERE
        if number is not None:
            table = self._snapshot.instances.get(Instance(router, number), NOWHERE)
        return table, int(self._snapshot.stale[router]), int(number == 0)

    def tables(self, rung: int, who: U64, rd: U64) -> npt.NDArray[np.int64]:
        """(n,) tables of a rung, of what `place` has found."""
        return self._tables[rung].get_many(who, rd).view(np.int64)

    def in_global(self, who: U64, rd: U64, found: U8) -> npt.NDArray[np.bool_]:
        """(n,) whether the rung `found` is a global table."""
        marked = self._bit(self._global, who, rd, found)
        return np.asarray(marked & (found != NOT_FOUND), np.bool_)

    @staticmethod
    def _bit(marks: Index, who: U64, rd: U64, found: U8) -> npt.NDArray[np.bool_]:
        rung = np.where(found == NOT_FOUND, 0, found).astype(np.uint64)
        return np.asarray(marks.get_many(who, rd) >> rung & np.uint64(1), np.bool_)

    def labels(self, who: U64, rd: U64, found: U8, texts: Interner) -> U64:
        """(n,) interned texts of the rungs `found`."""
        reason = self._reasons.get_many(who, rd).astype(np.int64)
        without = np.where(reason <= Rung.GLOBAL, Rung.NO_ROUTE, reason)
        of_fall_back = Rung.FALL_BACK + found.astype(np.int64) - 1
        rung = np.where(found == 0, reason, np.where(found == NOT_FOUND, without, of_fall_back))
        stale = self._bit(self._stale, who, rd, found)
        plain = [r.name.lower().replace("_", "-") for r in Rung if r is not Rung.FALL_BACK]
        plain += [f"fall-back {name}" for name in self._names]
        ids = texts.add_all(x.encode() for x in (*plain, *(f"{x}, stale" for x in plain)))
        labels: U64 = ids[rung + stale * len(plain)]
        return labels
