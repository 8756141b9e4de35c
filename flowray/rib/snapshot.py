"""Snapshots: what ingest shards join flows with, immutable, in flat arrays.

A routing instance of a router (its global table, or a VRF by route distinguisher) is one table of a
`Forest`, whatever number of peers, policy views and address families its routes came by. Where two
have a route to the same prefix the policy view decides, then the peer that was there first; tables
out of files come after sessions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowray.rib.halves import MANY_PATHS, Half, Sources, layered
from flowray.rib.lpm import MISSING, Forest, Intervals, Prefixes
from flowray.rib.peers import Peer, PolicyView
from flowray.rib.rib import PeerTables, Rib
from flowray.rib.roa import RoaSet
from flowray.rib.table import NONE, RouteTable, Rows
from flowray.rib.validation import route_states
from flowray.wire.bgp.attribute_store import AttributeColumns
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.packets import address_words

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

PIECE = 1 << 22
"""Octets of attribute sets that a snapshot holds together."""

MANY, MOST = 1 / 16, 1 / 8
"""Shares of the lines of a table that an overlay replaces: from the first on the table is made anew
in its turn, past the second at once.
"""

DEFAULT_VIEWS = (PolicyView.ADJ_RIB_IN_POST, PolicyView.LOC_RIB, PolicyView.ADJ_RIB_IN_PRE)
"""Policy views that flows are joined with, most preferred first. What a router sends to others
(Adj-RIB-Out) says nothing of its own forwarding.
"""


class Instance(NamedTuple):
    """A routing instance of a router: `rd` 0 is the global table."""

    router: int
    rd: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Routes as of `as_of_ns`. Attribute ids hold within an `epoch`; they are only added to.

    - `routers`: number of a router by its address words, and by those of its BGP identifier
    - `instances`: table of the forest by routing instance
    - `stale` (routers,) bool: routes that no session keeps true at this time
    - `validated`: whether payloads of the forest and `paths` tell validation states
      (`halves.STATE_SHIFT`)
    - `paths` (p,) uint32 and `path_begin` (q + 1,) int64: attribute sets of the lists of paths
    - `arena`, `offset`: the attribute sets, for their texts; the octets in pieces of PIECE, of
      which only the last one is another the next time
    """

    epoch: str
    generation: int
    as_of_ns: int
    routers: dict[tuple[int, int], int]
    instances: dict[Instance, int]
    stale: npt.NDArray[np.bool_]
    forest: Forest
    validated: bool
    paths: U32
    path_begin: I64
    columns: AttributeColumns
    arena: tuple[npt.NDArray[np.uint8], ...]
    offset: I64

    @property
    def nbytes(self) -> int:
        """Octets of all its arrays."""
        own = (self.stale, self.paths, self.path_begin, self.offset)
        arrays = (*own, *self.arena, *self.columns.arrays)
        return self.forest.nbytes + sum(array.nbytes for array in arrays)

    def attribute_set(self, number: int) -> bytes:
        """Canonical octets of an attribute set."""
        begin, end = int(self.offset[number]), int(self.offset[number + 1])
        pieces = range(begin // PIECE, -(-end // PIECE))
        parts = (
            self.arena[i][max(begin - i * PIECE, 0) : end - i * PIECE].tobytes() for i in pieces
        )
        return b"".join(parts)


Part = tuple[PeerTables, int]
"""A peer's tables, and a family of them."""


@dataclass(slots=True)
class _Routers:
    """Dense numbers of routers, in order of first sight; whether routes of each may be stale."""

    numbers: dict[str, int] = field(default_factory=dict)
    words: dict[tuple[int, int], int] = field(default_factory=dict)
    stale: list[bool] = field(default_factory=list)

    def add(self, tables: PeerTables) -> None:
        number = self.numbers.setdefault(tables.peer.router, len(self.numbers))
        if number == len(self.stale):
            self.stale.append(False)
        self.stale[number] |= tables.stale
        for address in _identities(tables.peer):
            self.words.setdefault(address_words(address), number)


class Publisher:
    """Makes snapshots of a RIB. Tables that have not changed are kept; where few routes of a large
    one have, they are laid over it, until these are so many that it is made anew.
    """

    def __init__(self, rib: Rib, epoch: str, views: Sequence[PolicyView] = DEFAULT_VIEWS) -> None:
        self._rib, self._epoch = rib, epoch
        self._rank = {view: rank for rank, view in enumerate(views)}
        self._halves: dict[tuple[Instance, int], Half] = {}
        self._generation = 0
        self._compactions = rib.compactions
        self._columns = AttributeColumns.empty(1)
        self._roas: RoaSet | None = None
        self._own_as = 0

    def validate_with(self, roas: RoaSet | None, own_as: int = 0) -> None:
        """Tell the validation state of routes by these payloads from now on, or no more. `own_as`
        is the origin of routes whose AS path is empty.
        """
        self._roas, self._own_as = roas, own_as
        self._halves.clear()

    def publish(self, now_ns: int) -> Snapshot:
        """A snapshot of the RIB as it is."""
        if self._compactions != self._rib.compactions:
            # Attribute ids were given anew.
            self._halves.clear()
            self._compactions = self._rib.compactions
        wanted = (t for t in self._rib.peers() if t.peer.view in self._rank)
        # A table out of a file (no port) is the next best to what the router's session tells.
        peers = sorted(wanted, key=lambda t: (self._rank[t.peer.view], not t.peer.port, t.number))
        routers = _Routers()
        for tables in peers:
            routers.add(tables)
        sources = _sources(peers, routers)
        self._columns = self._rib.store.columns()
        # What a table was is let go of as soon as it is made anew: tables are large.
        before, self._halves = self._halves, {}
        for place, parts in sources.items():
            self._halves[place] = self._half(place, parts, before.pop(place, None))
        self._flatten()
        return self._assemble(now_ns, routers)

    def _flatten(self) -> None:
        """Make tables anew whose overlays have grown too large, of those that can wait a while the
        one that can the least: nobody has to wait for all of them.
        """
        shares = {place: half.layered.share for place, half in self._halves.items()}
        waiting = {place: share for place, share in shares.items() if MANY <= share <= MOST}
        due = [place for place, share in shares.items() if share > MOST]
        if waiting and not due:
            due = [max(waiting, key=lambda place: waiting[place])]
        for place in due:
            self._halves[place].flatten()

    def _half(
        self, place: tuple[Instance, int], parts: Sequence[Part], before: Half | None
    ) -> Half:
        instance, version = place
        sources = tuple((t.tables[f], t.tables[f].generation) for t, f in parts)
        if before is not None and before.sources == sources:
            return before
        if (
            before is not None
            and _only_table(parts)
            and _tables(before.sources) == _tables(sources)
        ):
            news = _news(version, parts[0])
            if news is not None:
                return self._changed(sources, before, news)
        rows = [_of_instance(tables, family, instance.rd) for tables, family in parts]
        columns = _concatenated(rows)
        paths: list[U32] = []
        if any(tables.tables[family].add_path for tables, family in parts):
            columns, paths = _listed(columns, np.repeat(np.arange(len(rows)), list(map(len, rows))))
        if _only_table(parts):
            # From here on the table remembers what changes.
            parts[0][0].tables[parts[0][1]].changes()
        return self._finished(sources, Prefixes.of(version, *columns), paths)

    def _changed(self, sources: Sources, before: Half, news: Prefixes) -> Half:
        """A table of one path a prefix, with changes."""
        if self._roas is None:
            return Half(sources, before.layered.changed(news, MOST))
        # The state of a route may follow from that of others around it.
        return self._finished(sources, before.layered.base.merge(news), [])

    def _finished(self, sources: Sources, prefixes: Prefixes, paths: list[U32]) -> Half:
        states = None
        if self._roas is not None:
            states = route_states(self._roas, prefixes, paths, self._columns, self._own_as)
        return Half(sources, layered(prefixes, states), paths, states)

    def _assemble(self, now_ns: int, routers: _Routers) -> Snapshot:
        self._generation += 1
        instances = {
            instance: number
            for number, instance in enumerate(dict.fromkeys(i for i, _ in self._halves))
        }
        pairs: list[tuple[Intervals | None, Intervals | None]] = []
        paths: list[U32] = []
        for instance in instances:
            four, six = (self._placed(instance, version, paths) for version in (4, 6))
            pairs.append((four, six))
        first = np.zeros(len(paths) + 1, np.int64)
        np.cumsum([p.size for p in paths], out=first[1:])
        store = self._rib.store
        return Snapshot(
            epoch=f"{self._epoch}.{self._compactions}",
            generation=self._generation,
            as_of_ns=now_ns,
            routers=routers.words,
            instances=instances,
            stale=_frozen(np.array(routers.stale, np.bool_)),
            forest=Forest(pairs),
            validated=self._roas is not None,
            paths=_frozen(np.concatenate(paths) if paths else np.empty(0, np.uint32)),
            path_begin=_frozen(first),
            columns=self._columns.each(_frozen),
            # Sets are only added, or all of them move: what is there now stays as it is.
            arena=tuple(
                _frozen(store.arena[begin : begin + PIECE])
                for begin in range(0, store.arena.size, PIECE)
            ),
            offset=_frozen(store.offset),
        )

    def _placed(self, instance: Instance, version: int, paths: list[U32]) -> Intervals | None:
        """A table of the forest; its lists of paths get their numbers among all."""
        half = self._halves.get((instance, version))
        if half is None:
            return None
        if half.paths and half.first != len(paths):
            half.renumber(len(paths))
        paths += half.told
        return half.layered.intervals


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as one that is only read, as it is where the object store maps it: kernels are
    compiled once more for such arrays, and so they are for these alone.
    """
    view = array.view()
    view.flags.writeable = False
    return view


def _sources(
    peers: Sequence[PeerTables], routers: _Routers
) -> dict[tuple[Instance, int], list[Part]]:
    """Which tables routing instances are made of, most preferred first, by version of IP."""
    sources: defaultdict[tuple[Instance, int], list[Part]] = defaultdict(list)
    for tables in peers:
        router = routers.numbers[tables.peer.router]
        for family, table in sorted(tables.tables.items()):
            if FAMILIES[family].forwards and len(table):
                version = 4 if FAMILIES[family].afi == 1 else 6
                for rd in _instance_rds(tables, family):
                    sources[Instance(router, rd), version].append((tables, family))
    return sources


def _instance_rds(tables: PeerTables, family: int) -> Iterable[int]:
    shape = FAMILIES[family].shape
    if shape is not Shape.VPN:
        return (0 if shape is Shape.LABELED else tables.peer.instance_rd,)
    distinguishers: list[int] = np.unique(tables.tables[family].rows().rd).tolist()
    return distinguishers


def _only_table(parts: Sequence[Part]) -> bool:
    """Whether an instance is one whole table, one path a prefix."""
    (tables, family), *others = parts
    of_rds = FAMILIES[family].shape is Shape.VPN
    return not (others or of_rds or tables.tables[family].add_path)


def _tables(sources: Sources) -> list[RouteTable]:
    return [table for table, _ in sources]


def _news(version: int, part: Part) -> Prefixes | None:
    """What has changed in a table since it was asked last, payload MISSING where a route is gone;
    None if too much has.
    """
    changes = part[0].tables[part[1]].changes()
    if changes is None:
        return None
    payload = np.where(changes.attributes == NONE, np.uint32(MISSING), changes.attributes)
    return Prefixes.of(version, changes.hi, changes.lo, changes.plen, payload)


def _identities(peer: Peer) -> tuple[str, ...]:
    """What an exporter's address is compared with: the session's, and the router's own identifier
    (of a BMP session only its Loc-RIB peers tell it).
    """
    if peer.protocol == "bgp" or peer.view is PolicyView.LOC_RIB:
        return peer.router, peer.bgp_id
    return (peer.router,)


def _of_instance(tables: PeerTables, family: int, rd: int) -> Rows:
    table = tables.tables[family]
    # The first of several paths is the one with the lowest identifier.
    rows = table.rows().ordered() if table.add_path else table.rows()
    if FAMILIES[family].shape is not Shape.VPN:
        return rows
    return rows.take(np.flatnonzero(rows.rd == np.uint64(rd)))


_Columns = tuple[U64, U64, npt.NDArray[np.uint8], U32]
"""Prefixes and payloads: `hi`, `lo`, `plen`, payload (n,)."""


def _concatenated(rows: Sequence[Rows]) -> _Columns:
    return (
        np.concatenate([r.hi for r in rows]),
        np.concatenate([r.lo for r in rows]),
        np.concatenate([r.plen for r in rows]),
        np.concatenate([r.attributes for r in rows]),
    )


def _listed(columns: _Columns, part: I64) -> tuple[_Columns, list[U32]]:
    """Prefixes once each, those of several paths with the number of their list. `part` (n,) is
    where each row is from: all paths of a prefix are of the most preferred part that has it.
    """
    hi, lo, plen, attributes = columns
    order = np.lexsort((np.arange(hi.size), plen, lo, hi))
    hi, lo, plen, attributes = hi[order], lo[order], plen[order], attributes[order]
    part = part[order]
    new = np.ones(hi.size, np.bool_)
    new[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1]) | (plen[1:] != plen[:-1])
    begin = np.flatnonzero(new)
    preferred = part == part[begin][np.cumsum(new) - 1]
    begin = np.flatnonzero(new[preferred])
    hi, lo, plen = hi[preferred], lo[preferred], plen[preferred]
    attributes = attributes[preferred]
    count = np.diff(np.append(begin, hi.size))
    payload = attributes[begin].copy()
    many = np.flatnonzero(count > 1)
    payload[many] = MANY_PATHS | np.arange(many.size, dtype=np.uint32)
    paths = [attributes[begin[i] : begin[i] + count[i]] for i in many.tolist()]
    return (hi[begin], lo[begin], plen[begin], payload), paths
