"""Flows join the routes of their router: longest-prefix match against a snapshot, a column at a
time.

A record is matched in the routing instance that its route distinguisher names, source and
destination apart, among the routes of its exporter (or of the peer that the agent map names). The
ladder goes on from there: the router's global table where the plan says so. Which rung gave the
route, or why there is none, is a field of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns
from flowray.hashing import MISSING, U64, Index, Interner
from flowray.ingest import join_kernels as k
from flowray.rib.lpm import look_up
from flowray.rib.snapshot import Instance, Snapshot
from flowray.wire.bgp.attribute_store import AttributeColumns
from flowray.wire.bgp.attributes import Attributes, decode_attributes
from flowray.wire.bgp.distinguisher import rd_number
from flowray.wire.packets import Exporters, address_words

Method = Literal["flows", "routes", "longest"]
"""Who tells AS numbers, or networks and next hops: the record alone, routes alone, or whoever has
the longer prefix, routes at equal length.
"""

U32 = npt.NDArray[np.uint32]

NOWHERE = 1 << 62
"""Number of no table. (An `Index` takes any number but the highest.)"""


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """How flows are joined."""

    as_numbers: Method = "longest"
    networks: Method = "longest"
    peer_source_as: bool = False
    global_fall_back: bool = False


class Rung(IntEnum):
    """What gave the route of an address, or why there is none."""

    INSTANCE = 0
    GLOBAL = 1
    FALL_BACK = 2
    NO_ROUTE = 3
    NO_TABLE = 4
    NO_ROUTER = 5
    NO_SNAPSHOT = 6
    STALE = 8

    @property
    def label(self) -> str:
        """Its text in rows."""
        return self.name.lower().replace("_", "-")


@dataclass(slots=True)
class _Match:
    """Routes of n addresses: attribute set (n,) uint32 or NO_ROUTE, prefix length (n,) uint8, and
    whether it is of the global table as the next best.
    """

    payload: U32
    plen: npt.NDArray[np.uint8]
    fell_back: npt.NDArray[np.bool_]


_Take = Callable[[U32, npt.NDArray[Any], U64], None]


@dataclass(frozen=True, slots=True)
class _Side:
    """The fields of one direction: name -> column of attribute sets, and text fields."""

    host: str
    mask: str
    numbers: tuple[tuple[str, str], ...]
    as_numbers: tuple[tuple[str, str], ...]
    texts: tuple[tuple[str, str], ...]
    next_hop: str
    rung: str


def _texts(prefix: str) -> tuple[tuple[str, str], ...]:
    kinds = ("std_comm", "ext_comm", "lrg_comm", "as_path")
    return tuple((prefix + kind, kind) for kind in kinds)


_DESTINATION = _Side(
    "dst_host",
    "dst_mask",
    (("local_pref", "local_pref"), ("med", "med")),
    (("dst_as", "origin_as"), ("peer_dst_as", "peer_as")),
    _texts(""),
    "peer_dst_ip",
    "dst_rung",
)
_SOURCE = _Side(
    "src_host",
    "src_mask",
    (("src_local_pref", "local_pref"), ("src_med", "med")),
    (("src_as", "origin_as"), ("peer_src_as", "peer_as")),
    _texts("src_"),
    "",
    "src_rung",
)
SIDES = (_DESTINATION, _SOURCE)

FILLS = tuple(
    name
    for side in SIDES
    for name in (
        *(field for field, _ in (*side.numbers, *side.as_numbers, *side.texts)),
        side.mask,
        side.rung,
        *((side.next_hop,) if side.next_hop else ()),
    )
)
"""Fields that the join fills, wholly or where it finds a route."""

NEEDS = ("src_host", "dst_host", "src_mask", "dst_mask", "mpls_vpn_rd", "_exporter")

_TEXTS: dict[str, Callable[[Attributes], str]] = {
    "std_comm": lambda a: a.communities_text or "",
    "ext_comm": lambda a: a.extended_communities_text or "",
    "lrg_comm": lambda a: a.large_communities_text or "",
    "as_path": lambda a: a.as_path_text or "",
}


_NO_COLUMNS = AttributeColumns.empty(1)


class RouteJoin:
    """Joins the records of one shard. Not thread-safe."""

    def __init__(
        self, plan: JoinPlan, routers: Callable[[str], str] = lambda address: address
    ) -> None:
        """`routers` names the peer whose routes the flows of an exporter are joined with."""
        self._plan, self._routers = plan, routers
        self.snapshot: Snapshot | None = None
        self._texts: Interner | None = None
        self._ids: dict[str, U64] = {}
        self._places, self._fall_backs, self._rungs = Index(), Index(), Index()

    def install(self, snapshot: Snapshot) -> None:
        """Join with this snapshot from now on."""
        if self.snapshot is None or self.snapshot.epoch != snapshot.epoch:
            self._ids.clear()
        self.snapshot = snapshot
        self._forget_places()

    def _forget_places(self) -> None:
        self._places, self._fall_backs, self._rungs = Index(), Index(), Index()

    def fill(self, c: Columns, exporters: Exporters, texts: Interner) -> None:
        """Fill the fields of the join that the layout of `c` holds."""
        if texts is not self._texts:
            self._texts = texts
            self._ids.clear()
            self._forget_places()
        exporter, rd = c["_exporter"], c["mpls_vpn_rd"]
        places = self._placed(exporter, rd, exporters, texts)
        for side in SIDES:
            if any(name in c.layout for name in self._fields(side)):
                self._fill_side(c, side, places, texts)

    def _fields(self, side: _Side) -> Iterable[str]:
        yield from (name for name, _ in (*side.numbers, *side.texts))
        if self._plan.as_numbers != "flows":
            yield from (name for name, _ in side.as_numbers)
        if self._plan.networks != "flows":
            yield side.mask
            yield side.next_hop
        yield side.rung

    # -- where to look -----------------------------------------------------------------------------

    def _placed(self, exporter: U64, rd: U64, exporters: Exporters, texts: Interner) -> U64:
        places = self._places.get_many(exporter, rd)
        missing = np.flatnonzero(places == MISSING)
        if missing.size:
            pairs = np.unique(np.stack((exporter[missing], rd[missing])), axis=1)
            for e, r in pairs.T.tolist():
                self._place(e, r, exporters.address(e), texts[r])
            places = self._places.get_many(exporter, rd)
        return places

    def _place(self, exporter: int, rd_id: int, address: str, rd: bytes) -> None:
        """Where records of an exporter and RD are looked up."""
        place = fall_back = NOWHERE
        rung: int = Rung.NO_SNAPSHOT
        if (s := self.snapshot) is not None:
            rung = Rung.NO_ROUTER
            router = s.routers.get(address_words(self._routers(address)))
            if router is not None:
                number = rd_number(rd.decode())
                if number is not None:
                    place = s.instances.get(Instance(router, number), NOWHERE)
                    rung = Rung.INSTANCE if number else Rung.GLOBAL
                if self._plan.global_fall_back and number != 0:
                    fall_back = s.instances.get(Instance(router, 0), NOWHERE)
                if place == NOWHERE:
                    rung = Rung.NO_TABLE
                rung |= Rung.STALE if s.stale[router] else 0
        self._places.put(exporter, rd_id, place)
        self._fall_backs.put(exporter, rd_id, fall_back)
        self._rungs.put(exporter, rd_id, int(rung))

    # -- what is found -----------------------------------------------------------------------------

    def _fill_side(self, c: Columns, side: _Side, places: U64, texts: Interner) -> None:
        match = self._match(c, c[side.host], places)
        if side.rung in c.layout:
            self._fill_rung(c, side, match, texts)
        if self.snapshot is not None:
            self._fill_texts(c, side, match.payload, self.snapshot, texts)
        columns = self.snapshot.columns if self.snapshot is not None else _NO_COLUMNS
        self._take(c, side.numbers, columns, match.payload, k.take_always)
        as_payload, take = self._by(self._plan.as_numbers, c, side, match)
        self._take(c, self._as_fields(side), columns, as_payload, take)
        if self._plan.networks != "flows":
            self._fill_networks(c, side, columns, match)

    def _match(self, c: Columns, address: U64, places: U64) -> _Match:
        """The routes of (2, n) addresses."""
        hi, lo = address
        n = hi.size
        s = self.snapshot
        if s is None:
            return _Match(np.full(n, k.NO_ROUTE), np.zeros(n, np.uint8), np.zeros(n, np.bool_))
        payload, plen = look_up(s.forest, places.view(np.int64), hi, lo)
        fell_back = np.zeros(n, np.bool_)
        if self._plan.global_fall_back:
            lost = np.flatnonzero(payload == k.NO_ROUTE)
            again = self._fall_backs.get_many(c["_exporter"][lost], c["mpls_vpn_rd"][lost])
            payload[lost], plen[lost] = look_up(s.forest, again.view(np.int64), hi[lost], lo[lost])
            fell_back[lost] = payload[lost] != k.NO_ROUTE
        if s.paths.size:
            hop = c["peer_dst_ip"] if "peer_dst_ip" in c.layout else np.zeros((2, n), np.uint64)
            k.choose_paths(
                payload, plen, s.paths, s.path_begin, s.columns.next_hop_hi, s.columns.next_hop_lo,
                hop[0], hop[1],
            )  # fmt: skip
        return _Match(payload, plen, fell_back)

    def _as_fields(self, side: _Side) -> Iterable[tuple[str, str]]:
        if self._plan.as_numbers == "flows":
            return ()
        keep = self._plan.peer_source_as
        return (pair for pair in side.as_numbers if keep or pair[0] != "peer_src_as")

    def _by(self, method: Method, c: Columns, side: _Side, match: _Match) -> tuple[U32, _Take]:
        """Routes that count by a method, and what becomes of a field where none does."""
        if method != "longest":
            return match.payload, k.take_always
        payload = match.payload.copy()
        k.drop_shorter(payload, match.plen, c[side.mask])
        return payload, k.take_if_found

    def _take(
        self,
        c: Columns,
        fields: Iterable[tuple[str, str]],
        columns: AttributeColumns,
        payload: U32,
        take: _Take,
    ) -> None:
        for name, column in fields:
            if name in c.layout:
                take(payload, getattr(columns, column), c[name])

    def _fill_networks(
        self, c: Columns, side: _Side, columns: AttributeColumns, match: _Match
    ) -> None:
        payload, take = self._by(self._plan.networks, c, side, match)
        if side.next_hop and side.next_hop in c.layout:
            take(payload, columns.next_hop_hi, c[side.next_hop][0])
            take(payload, columns.next_hop_lo, c[side.next_hop][1])
        # Last: `longest` compares with the record's own mask.
        mask = c[side.mask]
        found = payload != k.NO_ROUTE
        kept = mask if take is k.take_if_found else np.uint64(0)
        mask[:] = np.where(found, match.plen, kept)

    def _fill_rung(self, c: Columns, side: _Side, match: _Match, texts: Interner) -> None:
        rung = self._rungs.get_many(c["_exporter"], c["mpls_vpn_rd"])
        stale, rung = rung & np.uint64(Rung.STALE), rung & np.uint64(Rung.STALE - 1)
        without = (rung <= Rung.GLOBAL) & (match.payload == k.NO_ROUTE)
        rung = np.where(without, np.uint64(Rung.NO_ROUTE), rung)
        rung = np.where(match.fell_back, np.uint64(Rung.FALL_BACK), rung) | stale
        c[side.rung][:] = self._rung_ids(texts)[rung.astype(np.int64)]

    def _rung_ids(self, texts: Interner) -> U64:
        """(16,) interned labels of rungs, those of stale routes in the upper half."""
        labels = [r.label for r in Rung if r is not Rung.STALE]
        labels += [""] * (Rung.STALE - len(labels))
        return texts.add_all(x.encode() for x in (*labels, *(f"{x}, stale" for x in labels)))

    # -- texts -------------------------------------------------------------------------------------

    def _fill_texts(
        self, c: Columns, side: _Side, payload: U32, s: Snapshot, texts: Interner
    ) -> None:
        for name, kind in side.texts:
            if name not in c.layout:
                continue
            ids = self._text_ids(kind, len(s.offset) - 1)
            if k.take_texts(payload, ids, c[name]):
                self._render(kind, payload, s, texts)
                k.take_texts(payload, ids, c[name])

    def _text_ids(self, kind: str, sets: int) -> U64:
        ids = self._ids.get(kind, np.empty(0, np.uint64))
        if ids.size < sets:
            ids = np.concatenate((ids, np.full(sets - ids.size, k.UNSET)))
            self._ids[kind] = ids
        return ids

    def _render(self, kind: str, payload: U32, s: Snapshot, texts: Interner) -> None:
        """Render the texts that these records are the first to need, a set once."""
        ids = self._ids[kind]
        found = np.unique(payload[payload != k.NO_ROUTE])
        new = found[ids[found] == k.UNSET]
        render = _TEXTS[kind]
        decoded = (decode_attributes(s.attribute_set(i)) for i in new.tolist())
        ids[new] = texts.add_all(render(a).encode() for a in decoded)
