"""The looking glass: questions about the tables of a RIB, answered while updates pour in.

Only the thread of a RIB may look at it. So an answer is made in two steps: the RIB's thread copies
rows out of its tables, some at a time (`take`), and whoever asked does the rest with what was taken
(`matching`, `rows_of`): conditions on attributes, sorting, texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.rib.attribute_match import AttributeSets, matching_sets
from flowray.rib.peers import Peer
from flowray.rib.rib import PeerTables, Rib
from flowray.rib.roa import RoaSet
from flowray.rib.route_query import GLOBAL, RouteQuery, UnknownPeerError
from flowray.rib.row_states import row_states
from flowray.rib.rows import bgp_rows, bmp_rows
from flowray.rib.table import Rows
from flowray.rib.table_rows import bgp_peer, bmp_peer, distinguishers, routes_of_table
from flowray.wire.bgp.families import FAMILIES, Family, Shape
from flowray.wire.bgp.nlri import read_nlri

__all__ = [
    "NO_PAYLOADS",
    "Ask",
    "LabelOf",
    "Payloads",
    "PayloadsNow",
    "PeerStatus",
    "TableStatus",
    "TakenRoutes",
    "Target",
    "answer",
    "asking",
    "no_label",
    "peer_statuses",
    "rows_of",
    "take",
    "targets",
]

_T = TypeVar("_T")

SLICE_ROUTES = 1 << 20
"""Routes that a RIB's thread looks at before it goes back to its updates: some 20 ms."""


class Ask(Protocol):
    """Runs a question in the thread of a RIB and waits for what it returns or raises."""

    def __call__(self, question: Callable[[Rib], _T], /) -> _T:
        """What the question returns."""


def asking(rib: Rib) -> Ask:
    """Asks a RIB that nobody changes, in the thread that asks."""

    def ask(question: Callable[[Rib], _T], /) -> _T:
        return question(rib)

    return ask


LabelOf = Callable[[str, str], str | None]
"""Label of a router by protocol and address, None without one."""


def no_label(protocol: str, router: str) -> str | None:
    """The label of every router where no map gives one."""
    del protocol, router
    return None


# -- peers -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table of a peer; `octets` without its path attributes."""

    family: Family
    routes: int
    octets: int
    end_of_rib: bool
    add_path: bool


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer: `up` while a session feeds its tables, `stale` if some of its routes may be from
    before a restart, `since_ns` as in `PeerTables`.
    """

    peer: Peer
    up: bool
    stale: bool
    since_ns: int
    tables: tuple[TableStatus, ...]


def peer_statuses(rib: Rib) -> list[PeerStatus]:
    """All peers of a RIB, in its thread."""
    return [
        PeerStatus(t.peer, t.session, t.stale, t.since_ns, tuple(_table_statuses(t)))
        for t in rib.peers()
    ]


def _table_statuses(tables: PeerTables) -> Iterator[TableStatus]:
    for index in sorted({*tables.tables, *tables.end_of_rib}):
        table, complete = tables.tables.get(index), index in tables.end_of_rib
        if table is None:
            yield TableStatus(FAMILIES[index], 0, 0, complete, add_path=False)
        else:
            yield TableStatus(table.family, len(table), table.nbytes, complete, table.add_path)


# -- routes ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TakenRoutes:
    """Routes of one table as they were at one moment: `rows` (n,), and in families that are not of
    prefixes their `nlri` (n,), else empty.
    """

    peer: Peer
    stale: bool
    family: Family
    rows: Rows
    nlri: list[bytes]
    sets: AttributeSets

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: npt.NDArray[Any]) -> TakenRoutes:
        """The routes at `index` (positions or mask)."""
        if index.dtype == np.bool_:
            index = np.flatnonzero(index)
        nlri = [self.nlri[i] for i in index.tolist()] if self.nlri else []
        return replace(self, rows=self.rows.take(index), nlri=nlri)

    def ordered(self) -> TakenRoutes:
        """The routes by prefix, or by NLRI."""
        if self.nlri:
            key = [(nlri, p) for nlri, p in zip(self.nlri, self.rows.path_id, strict=True)]
            return self.take(np.array(sorted(range(len(key)), key=key.__getitem__), np.int64))
        return replace(self, rows=self.rows.ordered())

    def slices(self, size: int) -> Iterator[TakenRoutes]:
        """The routes, `size` at a time."""
        for begin in range(0, len(self), size):
            yield self.take(np.arange(begin, min(begin + size, len(self))))


class Target(NamedTuple):
    """A table that may be looked at."""

    number: int
    peer: Peer
    family: int


def answer(ask: Ask, query: RouteQuery) -> Iterator[TakenRoutes]:
    """The routes that a query asks for, a table at a time, each in order.

    Tables are looked at one after another: each is as of one moment, not all of the same. Raises
    UnknownPeerError if nobody is the peer asked for.
    """
    todo: Sequence[Target] = ask(partial(targets, query))
    left = query.limit or None
    while todo:
        taken, todo = ask(partial(_take_some, query, todo))
        for routes in taken:
            found = matching(routes, query).ordered()
            if left is not None:
                found = found.take(np.arange(min(left, len(found))))
                left -= len(found)
            if len(found):
                yield found
            if left == 0:
                return


def _concerns(query: RouteQuery, peer: Peer, family: Family) -> bool:
    """Whether a table can have such routes at all."""
    if query.family is not None and query.family != family.index:
        return False
    if query.place is not None and not family.of_prefixes:
        return False
    if query.rd is None or not family.of_prefixes:
        return True
    if family.shape is Shape.VPN:
        return query.rd != GLOBAL
    own = GLOBAL if family.shape is Shape.LABELED else peer.instance_rd
    return query.rd == own


def _take_some(
    query: RouteQuery, todo: Sequence[Target], rib: Rib
) -> tuple[list[TakenRoutes], Sequence[Target]]:
    """What the first few tables have, and the tables that are left; one table at least."""
    found: list[TakenRoutes] = []
    looked_at = 0
    for done, target in enumerate(todo, 1):
        routes = take(query, target, rib)
        if routes is not None:
            looked_at += len(rib.peer(target.number).tables[target.family])
            found.append(routes)
        if looked_at >= SLICE_ROUTES:
            return found, todo[done:]
    return found, ()


def targets(query: RouteQuery, rib: Rib) -> list[Target]:
    """The tables that may have routes which a query asks for, in the RIB's thread.

    Raises UnknownPeerError if nobody is the peer asked for.
    """
    peers = [t for t in rib.peers() if query.peer in ("", t.peer.address, t.peer.router)]
    if query.peer and not peers:
        raise UnknownPeerError(f"peer: found {query.peer}, of which there are no routes here")
    return [
        Target(tables.number, tables.peer, family)
        for tables in peers
        for family in sorted(tables.tables)
        if _concerns(query, tables.peer, FAMILIES[family])
    ]


def take(query: RouteQuery, target: Target, rib: Rib) -> TakenRoutes | None:
    """What a table has at the place that a query asks about, in the RIB's thread. None if the table
    is gone: peers come and go between questions.
    """
    try:
        tables = rib.peer(target.number)
    except KeyError:
        return None
    table = tables.tables.get(target.family)
    if tables.peer is not target.peer or table is None:
        return None
    rows = table.rows() if query.place is None else table.select(*query.place)
    nlri = [] if table.family.of_prefixes else table.nlri(rows.nlri)
    sets = AttributeSets(rib.store.arena, rib.store.offset)
    return TakenRoutes(tables.peer, tables.stale, table.family, rows, nlri, sets)


def matching(routes: TakenRoutes, query: RouteQuery) -> TakenRoutes:
    """Those that meet the conditions that `take` does not look at."""
    if query.rd is not None:
        routes = routes.take(_distinguishers(routes) == np.uint64(query.rd))
    if query.as_path or query.communities:
        used = np.zeros(len(routes.sets), np.bool_)
        used[routes.rows.attributes] = True
        ids = np.flatnonzero(used)
        used[ids] = matching_sets(routes.sets, ids, query)
        routes = routes.take(used[routes.rows.attributes])
    if query.longest and len(routes):
        _, table = np.unique(_distinguishers(routes), return_inverse=True)
        most = np.zeros(len(routes), np.uint8)
        np.maximum.at(most, table, routes.rows.plen)
        routes = routes.take(routes.rows.plen == most[table])
    return routes


def _distinguishers(routes: TakenRoutes) -> npt.NDArray[np.uint64]:
    """Route distinguishers (n,) as rows show them."""
    n = len(routes)
    family = np.full(n, routes.family.index, np.uint8)
    rd, _ = distinguishers([routes.peer], np.zeros(n, np.int64), routes.rows.rd, family)
    if routes.nlri:
        own = [read_nlri(routes.family, raw).rd for raw in routes.nlri]
        rd = np.where(np.array(own, np.uint64) != 0, np.array(own, np.uint64), rd)
    return rd


class Payloads(NamedTuple):
    """What routes are validated with, None for nothing; the origin of those without AS path."""

    roas: RoaSet | None
    own_as: int = 0


PayloadsNow = Callable[[], Payloads]
NO_PAYLOADS = Payloads(None)


def rows_of(
    routes: TakenRoutes, label: LabelOf = no_label, payloads: Payloads = NO_PAYLOADS
) -> pa.Table:
    """Native rows of routes, as of a look-up."""
    seq = np.zeros(len(routes), np.uint64)
    columns = routes_of_table(
        routes.peer, routes.family.index, routes.rows, routes.nlri, seq, now_ns=0
    )
    if routes.stale:
        columns.stale = np.ones(len(routes), np.bool_)
    if payloads.roas is not None:
        ids, sets = np.unique(columns.attributes.astype(np.int64), return_inverse=True)
        of_sets = routes.sets.described(ids)
        columns.roa = row_states(
            columns, payloads.roas, sets.astype(np.uint32), of_sets, payloads.own_as, table=False
        )
    peer, text = routes.peer, label(routes.peer.protocol, routes.peer.router)
    if peer.protocol == "bgp":
        return bgp_rows(columns, [bgp_peer(peer, text)], routes.sets.decode, "lglass")
    return bmp_rows(columns, [bmp_peer(peer, text)], routes.sets.decode, "lglass")
