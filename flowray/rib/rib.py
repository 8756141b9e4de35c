"""The routing information base: the tables of all peers of a group, and their path attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flowray.rib.peers import Peer
from flowray.rib.table import NONE, Applied, RouteTable, Rows
from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.events import I64, U32, U64, Action, RouteEvents
from flowray.wire.bgp.families import FAMILIES

COMPACT_FLOOR = 1 << 16
"""Attribute sets below which dead ones are not looked for."""

FIRST_MARK, MARKS = 1, 255
"""Refresh marks of a family's routes go round; 0 marks routes restored from disk."""


@dataclass(slots=True)
class PeerTables:
    """The routes of one peer: a table a family.

    `session` while one feeds them; without, they were restored from disk. `stale` as long as some
    of them may be such. `end_of_rib` are the families (index) whose initial routes are complete.
    `since_ns` is when the session that feeds them began to, 0 where that is not known.
    """

    peer: Peer
    number: int
    tables: dict[int, RouteTable] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    end_of_rib: set[int] = field(default_factory=set)
    session: bool = True
    stale: bool = False
    since_ns: int = 0

    @property
    def routes(self) -> int:
        """Routes in all families."""
        return sum(len(table) for table in self.tables.values())

    @property
    def nbytes(self) -> int:
        """Octets of all tables, attributes not included."""
        return sum(table.nbytes for table in self.tables.values())


@dataclass(slots=True)
class Changes:
    """What a batch of UPDATEs changed: rows of `events` in order, and beside each the peer number
    (m,) int64, the attribute set (m,) uint32 and label stack (m,) uint64 that it announced, or
    that the route had which it withdrew; and `before` (m,) uint32, the set that the route had, NONE
    where there was none. Withdrawals of unknown routes are not among them.
    """

    rows: I64
    peer: I64
    attributes: U32
    labels: U64
    before: U32


@dataclass(slots=True)
class Removed:
    """Routes of a peer that went without a withdrawal."""

    peer: Peer
    family: int
    rows: Rows
    nlri: list[bytes]
    """NLRI of the rows in families that are not of prefixes, else empty."""


class Rib:
    """Tables of many peers over one store of path attributes. Not thread-safe."""

    def __init__(self) -> None:
        self.store = AttributeStore()
        self.generation = 0
        self.compactions = 0
        self.before_compaction: Callable[[], None] | None = None
        """Called before attribute ids change, for who still has old ones."""
        self._peers: list[PeerTables | None] = []
        self._free: list[int] = []
        self._compact_at = COMPACT_FLOOR

    # -- peers -------------------------------------------------------------------------------------

    def open(self, peer: Peer, now_ns: int = 0) -> int:
        """Make room for the routes of a peer; its number."""
        number = self._free.pop() if self._free else len(self._peers)
        tables = PeerTables(peer, number, since_ns=now_ns)
        if number == len(self._peers):
            self._peers.append(tables)
        else:
            self._peers[number] = tables
        return number

    def peer(self, number: int) -> PeerTables:
        """The tables of an open peer. Raises KeyError."""
        tables = self._peers[number]
        if tables is None:
            raise KeyError(number)
        return tables

    def peers(self) -> Iterator[PeerTables]:
        """All open peers, by number."""
        return (tables for tables in self._peers if tables is not None)

    def drop(self, number: int) -> list[Removed]:
        """Forget a peer; the routes it had, a family each."""
        tables = self.peer(number)
        self._peers[number] = None
        self._free.append(number)
        self.generation += 1
        return [
            _removed(tables.peer, table, table.rows())
            for _, table in sorted(tables.tables.items())
            if len(table)
        ]

    # -- restart -----------------------------------------------------------------------------------

    def adopt(self, number: int) -> None:
        """Give a peer the routes that were restored for it, if any, until it announces its own."""
        tables = self.peer(number)
        for restored in list(self.peers()):
            if restored.session or restored.peer.identity != tables.peer.identity:
                continue
            self._peers[restored.number] = None
            self._free.append(restored.number)
            tables.tables, tables.stale = restored.tables, True
            self.generation += 1

    def end_restart(self, number: int, family: int) -> list[Removed]:
        """The initial routes of a family are complete: restored ones not among them go."""
        tables = self.peer(number)
        tables.end_of_rib.add(family)
        if not tables.stale:
            return []
        tables.stale = not tables.end_of_rib.issuperset(tables.tables)
        self.generation += 1
        return self._sweep(tables, family)

    def expire(self, number: int) -> list[Removed]:
        """Restored routes have waited long enough for their peer: those not announced go."""
        tables = self.peer(number)
        if not tables.session:
            return self.drop(number)
        tables.stale = False
        self.generation += 1
        return [removed for family in tables.tables for removed in self._sweep(tables, family)]

    # -- routes ------------------------------------------------------------------------------------

    def apply(
        self, peers: I64, events: RouteEvents, buf: npt.NDArray[np.uint8], add_path: U64
    ) -> Changes:
        """Apply events in order. `peers` (n,) int64 are the peer numbers of their messages, and
        `add_path` (n,) uint64 the families with path identifiers, as in `Contexts`.
        """
        if not len(events):
            self.generation += 1
            none = np.empty(0, np.int64)
            return Changes(none, none, events.attributes, events.labels, events.attributes)
        groups, peer = _groups(peers, events)
        if len(groups) == 1:
            # As a rule; then nothing has to be put back in order.
            before = self._apply(groups[0], peer, events, buf, add_path)
        else:
            before = Applied(np.empty(len(events), np.uint32), np.empty(len(events), np.uint64))
            for group in groups:
                part = self._apply(group, peer, events, buf, add_path)
                before.attributes[group], before.labels[group] = part.attributes, part.labels
        self.generation += 1
        had, withdrawn = before.attributes, events.action == Action.WITHDRAW
        if not withdrawn.any():
            every = np.arange(len(events))
            return Changes(every, peer, events.attributes, events.labels, had)
        kept = np.flatnonzero(~withdrawn | (had != NONE))
        return Changes(
            kept,
            peer[kept],
            np.where(withdrawn, had, events.attributes)[kept],
            np.where(withdrawn, before.labels, events.labels)[kept],
            had[kept],
        )

    def _apply(
        self, group: I64, peer: I64, events: RouteEvents, buf: npt.NDArray[np.uint8], add_path: U64
    ) -> Applied:
        """Apply the events `group`, of one peer and family; End-of-RIB changes no route."""
        first = int(group[0])
        tables = self.peer(int(peer[first]))
        family = int(events.family[first])
        ends = events.action[group] == Action.END_OF_RIB
        if ends.any():
            tables.end_of_rib.add(family)
            before = Applied(np.full(len(group), NONE, np.uint32), np.zeros(len(group), np.uint64))
            if not ends.all():
                part = self._told(tables, family, group[~ends], events, buf, add_path)
                before.attributes[~ends], before.labels[~ends] = part.attributes, part.labels
            return before
        return self._told(tables, family, group, events, buf, add_path)

    def _told(
        self,
        tables: PeerTables,
        family: int,
        rows: I64,
        events: RouteEvents,
        buf: npt.NDArray[np.uint8],
        add_path: U64,
    ) -> Applied:
        """Apply the events `rows`, of routes of one table."""
        with_paths = bool(int(add_path[events.message[rows[0]]]) >> family & 1)
        table = self._table(tables, family, with_paths)
        mark = tables.marks.setdefault(family, FIRST_MARK)
        return table.apply(events, rows, buf, mark)

    def _table(self, tables: PeerTables, family: int, add_path: bool) -> RouteTable:
        table = tables.tables.get(family)
        if table is None or (add_path and not table.add_path):
            # A peer that begins to send path identifiers has begun anew: a new session's OPEN.
            table = tables.tables[family] = RouteTable(FAMILIES[family], add_path=add_path)
        return table

    def begin_refresh(self, number: int, family: int) -> None:
        """What is not announced again until `end_refresh` is gone (RFC 7313 section 4)."""
        tables = self.peer(number)
        mark = tables.marks.get(family, FIRST_MARK)
        tables.marks[family] = mark % MARKS + 1

    def end_refresh(self, number: int, family: int) -> list[Removed]:
        """The routes that were not announced since `begin_refresh`; they are gone."""
        return self._sweep(self.peer(number), family)

    def _sweep(self, tables: PeerTables, family: int) -> list[Removed]:
        table = tables.tables.get(family)
        if table is None:
            return []
        self.generation += 1
        rows = table.sweep(tables.marks.get(family, FIRST_MARK))
        return [_removed(tables.peer, table, rows)] if len(rows) else []

    # -- attributes --------------------------------------------------------------------------------

    def compact(self) -> bool:
        """Drop attribute sets that no route has, once there may be as many as live ones; whether
        ids have changed. Call between batches: ids handed out before are void.
        """
        if len(self.store) < self._compact_at:
            return False
        live = np.zeros(len(self.store), np.bool_)
        live[0] = True
        for tables in self.peers():
            for table in tables.tables.values():
                table.live(live)
        used = int(live.sum())
        self._compact_at = max(COMPACT_FLOOR, 2 * used)
        if 2 * used > live.size:
            self._compact_at = 2 * live.size
            return False
        if self.before_compaction is not None:
            self.before_compaction()
        remap = self.store.compact(live)
        for tables in self.peers():
            for table in tables.tables.values():
                table.remap(remap)
        self.compactions += 1
        return True


def _removed(peer: Peer, table: RouteTable, rows: Rows) -> Removed:
    # In order, so that logs of the same messages are the same; tables have a secret one.
    rows = rows.ordered()
    nlri = [] if table.family.of_prefixes else table.nlri(rows.nlri)
    return Removed(peer, table.family.index, rows, nlri)


def _groups(peers: I64, events: RouteEvents) -> tuple[list[I64], I64]:
    """Rows of one peer and family at a time, each in order; and the peer of each row."""
    n, family = len(events), events.family
    if (peers == peers[0]).all() and (family == family[0]).all():
        return [np.arange(n)], np.full(n, peers[0])
    peer = peers[events.message]
    place = peer << 8 | family
    order = np.argsort(place, kind="stable")
    ends = np.flatnonzero(np.diff(place[order])) + 1
    return np.split(order, ends), peer
