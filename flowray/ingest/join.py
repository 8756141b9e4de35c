"""Flows join the routes of their router: longest-prefix match against a snapshot, a column at a
time.

A record is matched in the routing instance that its route distinguisher names, source and
destination apart, among the routes of its exporter (or of the router that the agent map names). The
ladder goes on from there, with the fall-backs that the plan lists. Which rung gave the route, or
why there is none, is a field of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns
from flowray.hashing import U64, Interner
from flowray.ingest import join_kernels as k
from flowray.ingest.agents import Agents
from flowray.ingest.join_plan import JoinPlan
from flowray.ingest.ladder import NOT_FOUND, Ladder
from flowray.ingest.next_hops import FollowedHops
from flowray.ingest.route_texts import TEXTS
from flowray.networks import find
from flowray.rib.lpm import Forest, look_up
from flowray.rib.roa import STATE_CODES
from flowray.rib.snapshot import Snapshot
from flowray.wire.bgp.attribute_store import AttributeColumns
from flowray.wire.bgp.attributes import decode_attributes
from flowray.wire.packets import Exporters

U32 = npt.NDArray[np.uint32]
U8 = npt.NDArray[np.uint8]


@dataclass(slots=True)
class _Match:
    """Routes of n addresses: attribute set (n,) uint32 or NO_ROUTE, prefix length (n,) uint8,
    validation state (n,) uint8, and the rung of the ladder that gave each (n,) uint8.
    """

    payload: U32
    plen: U8
    state: U8
    found: U8

    @classmethod
    def none(cls, n: int) -> _Match:
        """No routes."""
        zero = np.zeros(n, np.uint8)
        return cls(np.full(n, k.NO_ROUTE), zero, zero.copy(), np.full(n, NOT_FOUND, np.uint8))


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
    roa: str
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
    "dst_roa",
    "dst_rung",
)
_SOURCE = _Side(
    "src_host",
    "src_mask",
    (("src_local_pref", "local_pref"), ("src_med", "med")),
    (("src_as", "origin_as"), ("peer_src_as", "peer_as")),
    _texts("src_"),
    "",
    "src_roa",
    "src_rung",
)
SIDES = (_DESTINATION, _SOURCE)

FILLS = tuple(
    name
    for side in SIDES
    for name in (
        *(field for field, _ in (*side.numbers, *side.as_numbers, *side.texts)),
        side.mask,
        side.roa,
        side.rung,
        *((side.next_hop,) if side.next_hop else ()),
    )
)
"""Fields that the join fills, wholly or where it finds a route."""

NEEDS = (
    *("src_host", "dst_host", "src_mask", "dst_mask", "peer_dst_ip"),
    *("mpls_vpn_rd", "_exporter"),
)

_NO_COLUMNS = AttributeColumns.empty(1)


class RouteJoin:
    """Joins the records of one shard. Not thread-safe."""

    def __init__(self, plan: JoinPlan) -> None:
        self._plan = plan
        self.snapshot: Snapshot | None = None
        self._texts: Interner | None = None
        self._ids: dict[str, U64] = {}
        self._agents = Agents(plan.agents)
        self._ladder = Ladder(plan.fall_backs, plan.fall_back_names, self._agents)
        self._columns = _NO_COLUMNS
        self._told = _NO_COLUMNS
        """AS numbers told by communities, of the sets seen so far."""
        self._followed: FollowedHops | None = None

    def install(self, snapshot: Snapshot) -> None:
        """Join with this snapshot from now on."""
        if self.snapshot is None or self.snapshot.epoch != snapshot.epoch:
            self._ids.clear()
            self._told = AttributeColumns.empty(0)
        self.snapshot = snapshot
        self._ladder.install(snapshot)
        self._columns = self._as_told(snapshot)
        follow = self._plan.follow
        if follow is not None:
            self._followed = FollowedHops.of(snapshot, follow.within, follow.hops, follow.external)

    def _as_told(self, s: Snapshot) -> AttributeColumns:
        """The columns of attribute sets, their AS numbers as the plan wants them."""
        columns = s.columns
        peer_as = columns.peer_as
        if self._plan.skip_confederations:
            peer_as = columns.peer_as_skip_confed
        if not self._plan.community_as:
            return replace(columns, peer_as=peer_as)
        done, n = self._told.origin_as.size, columns.origin_as.size
        told = AttributeColumns.empty(n)
        told.origin_as[:done], told.peer_as[:done] = self._told.origin_as, self._told.peer_as
        lacking = (columns.origin_as[done:] == 0) | (peer_as[done:] == 0)
        for i in (np.flatnonzero(lacking) + done).tolist():
            peer, origin = self._plan.community_as(decode_attributes(s.attribute_set(i)))
            told.peer_as[i], told.origin_as[i] = peer, origin
        self._told = told
        return replace(
            columns,
            origin_as=np.where(columns.origin_as == 0, told.origin_as, columns.origin_as),
            peer_as=np.where(peer_as == 0, told.peer_as, peer_as),
        )

    def fill(self, c: Columns, exporters: Exporters, texts: Interner) -> None:
        """Fill the fields of the join that the layout of `c` holds."""
        if texts is not self._texts:
            self._texts = texts
            self._ids.clear()
            self._ladder.install(self.snapshot)
        who, rd = self._agents.who(c, exporters), c["mpls_vpn_rd"]
        self._ladder.place(who, rd, exporters, texts)
        sides = [side for side in SIDES if any(name in c.layout for name in self._fields(side))]
        # All are matched first: a record's own next hop chooses paths, not the one it is given.
        matches = [self._match(c, side, who) for side in sides]
        for side, match in zip(sides, matches, strict=True):
            self._fill_side(c, side, match, who, texts)

    def _fields(self, side: _Side) -> Iterable[str]:
        yield from (name for name, _ in (*side.numbers, *side.texts))
        if self._plan.as_numbers != "flows":
            yield from (name for name, _ in side.as_numbers)
        if self._plan.networks != "flows":
            yield side.mask
            yield side.next_hop
        yield side.roa
        yield side.rung

    # -- what is found -----------------------------------------------------------------------------

    def _match(self, c: Columns, side: _Side, who: U64) -> _Match:
        """The routes of the addresses of a side."""
        hi, lo = c[side.host]
        s, rd = self.snapshot, c["mpls_vpn_rd"]
        match = _Match.none(hi.size)
        if s is None:
            return match
        payload, plen, found = match.payload, match.plen, match.found
        payload[:], plen[:] = look_up(s.forest, self._ladder.tables(0, who, rd), hi, lo)
        found[payload != k.NO_ROUTE] = 0
        for rung in range(1, len(self._ladder)):
            lost = np.flatnonzero(payload == k.NO_ROUTE)
            if not lost.size:
                break
            tables = self._ladder.tables(rung, who[lost], rd[lost])
            payload[lost], plen[lost] = look_up(s.forest, tables, hi[lost], lo[lost])
            found[lost[payload[lost] != k.NO_ROUTE]] = rung
        if s.paths.size:
            self._choose_paths(c, side, s, match)
        if s.validated:
            k.part_states(payload, match.state)
        return match

    def _choose_paths(self, c: Columns, side: _Side, s: Snapshot, match: _Match) -> None:
        """Of several paths (ADD-PATH) the one that the router took, which it tells of destinations
        alone; else the first.
        """
        if side.next_hop and side.next_hop in c.layout:
            hop_hi, hop_lo = c[side.next_hop]
            k.choose_paths(
                match.payload, match.plen, s.paths, s.path_begin, s.columns.next_hop_hi,
                s.columns.next_hop_lo, hop_hi, hop_lo,
            )  # fmt: skip
            match.found[match.payload == k.NO_ROUTE] = NOT_FOUND
        else:
            k.first_paths(match.payload, s.paths, s.path_begin)

    def _fill_side(self, c: Columns, side: _Side, match: _Match, who: U64, texts: Interner) -> None:
        if side.rung in c.layout:
            rungs = self._ladder.labels(who, c["mpls_vpn_rd"], match.found, texts)
            c[side.rung][:] = rungs
        if side.roa in c.layout:
            self._fill_roa(c[side.roa], match, texts)
        if self.snapshot is not None:
            self._fill_texts(c, side, match.payload, self.snapshot, texts)
        _take(c, side.numbers, self._columns, match.payload, k.take_always)
        # AS numbers before networks: both compare with the record's own mask.
        if self._plan.as_numbers != "flows":
            self._fill_as_numbers(c, side, match)
        if self._plan.networks != "flows":
            self._fill_networks(c, side, match, who)

    def _fill_roa(self, out: U64, match: _Match, texts: Interner) -> None:
        """The validation state, empty without a route or where nothing validates."""
        if self.snapshot is None or not self.snapshot.validated:
            out[:] = 0
            return
        ids = texts.add_all(code.encode() for code in STATE_CODES)
        k.take_states(match.payload, match.state, ids, out)

    def _fill_as_numbers(self, c: Columns, side: _Side, match: _Match) -> None:
        keep = self._plan.peer_source_as
        fields = [pair for pair in side.as_numbers if keep or pair[0] != "peer_src_as"]
        if self._plan.as_numbers == "routes":
            _take(c, fields, self._columns, match.payload, k.take_always)
            return
        file = self._plan.networks_file
        payload, rows, _ = self._longest(c, side, match, None if file is None else file.with_as)
        _take(c, fields, self._columns, payload, k.take_if_found)
        if file is not None:
            _take(c, fields, file.columns, rows, k.take_if_found)

    def _longest(
        self, c: Columns, side: _Side, match: _Match, forest: Forest | None
    ) -> tuple[U32, U32, U8]:
        """Attribute sets (n,) and rows of the networks file (n,) that count, NO_ROUTE where not;
        and the lengths of the rows' prefixes.
        """
        payload, mask = match.payload.copy(), c[side.mask]
        if forest is None:
            k.drop_shorter(payload, match.plen, mask)
            return payload, _Match.none(0).payload, _Match.none(0).plen
        rows, plen = find(forest, c[side.host])
        k.choose_longest(payload, match.plen, rows, plen, mask)
        return payload, rows, plen

    def _fill_networks(self, c: Columns, side: _Side, match: _Match, who: U64) -> None:
        file, mask = self._plan.networks_file, c[side.mask]
        if self._plan.networks == "routes":
            self._fill_next_hop(c, side, match, match.payload, who, k.take_always)
            mask[:] = np.where(match.payload != k.NO_ROUTE, match.plen, np.uint64(0))
            return
        payload, rows, plen = self._longest(c, side, match, None if file is None else file.every)
        self._fill_next_hop(c, side, match, payload, who, k.take_if_found)
        mask[:] = np.where(payload != k.NO_ROUTE, match.plen, mask)
        if file is None:
            return
        mask[:] = np.where(rows != k.NO_ROUTE, plen, mask)
        if side.next_hop and side.next_hop in c.layout and file.columns.origin_as.size:
            hop = file.columns.next_hop_hi | file.columns.next_hop_lo
            told = rows.copy()
            told[hop[np.where(rows == k.NO_ROUTE, 0, rows)] == 0] = k.NO_ROUTE
            _take_hop(c[side.next_hop], file.columns, told, k.take_if_found)

    def _fill_next_hop(
        self, c: Columns, side: _Side, match: _Match, payload: U32, who: U64, take: _Take
    ) -> None:
        if not side.next_hop or side.next_hop not in c.layout:
            return
        hops = payload
        if self._followed is not None and self.snapshot is not None:
            rd = c["mpls_vpn_rd"]
            within = self._ladder.in_global(who, rd, match.found) & (payload != k.NO_ROUTE)
            at = np.flatnonzero(within)
            hi, lo = c[side.host]
            hops = payload.copy()
            hops[at] = self._followed.last(payload[at], hi[at], lo[at])
        _take_hop(c[side.next_hop], self._columns, hops, take)

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
        render, shape = TEXTS[kind], self._plan.shape
        decoded = (decode_attributes(s.attribute_set(i)) for i in new.tolist())
        ids[new] = texts.add_all(render(a, shape).encode() for a in decoded)


def _take(
    c: Columns,
    fields: Iterable[tuple[str, str]],
    columns: AttributeColumns,
    payload: U32,
    take: _Take,
) -> None:
    """Fill fields (name, column) by attribute set."""
    for name, column in fields:
        if name in c.layout:
            take(payload, getattr(columns, column), c[name])


def _take_hop(out: U64, columns: AttributeColumns, payload: U32, take: _Take) -> None:
    """Fill (2, n) addresses with the next hops of attribute sets."""
    take(payload, columns.next_hop_hi, out[0])
    take(payload, columns.next_hop_lo, out[1])
