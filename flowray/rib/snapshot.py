"""Snapshots: what ingest shards join flows with, immutable, in flat arrays.

A routing instance of a router (its global table, or a VRF by route distinguisher) is one table of a
`Forest`, whatever number of peers, policy views and address families its routes came by. Where two
have a route to the same prefix the policy view decides, then the peer that was there first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowray.rib.lpm import Forest, PrefixTable
from flowray.rib.peers import Peer, PolicyView
from flowray.rib.rib import PeerTables, Rib
from flowray.rib.table import Rows
from flowray.wire.bgp.attribute_store import AttributeColumns
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.packets import address_words

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

MANY_PATHS = 1 << 31
"""Bit of a payload that numbers a list of paths (ADD-PATH) instead of an attribute set."""

DEFAULT_VIEWS = (PolicyView.ADJ_RIB_IN_POST, PolicyView.LOC_RIB, PolicyView.ADJ_RIB_IN_PRE)
"""Policy views that flows are joined with, most preferred first. What a router sends to others
(Adj-RIB-Out) says nothing of its own forwarding.
"""


class Instance(NamedTuple):
    """A routing instance of a router: `rd` 0 is the global table; `version` is 4 or 6."""

    router: int
    rd: int
    version: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Routes as of `as_of_ns`. Attribute ids hold within an `epoch`; they are only added to.

    - `routers`: number of a router by its address words, and by those of its BGP identifier
    - `instances`: table of the forest by routing instance
    - `stale` (routers,) bool: routes that no session keeps true at this time
    - `paths` (p,) uint32 and `path_begin` (q + 1,) int64: attribute sets of the lists of paths
    - `arena`, `offset`: the attribute sets, for their texts
    """

    epoch: str
    generation: int
    as_of_ns: int
    routers: dict[tuple[int, int], int]
    instances: dict[Instance, int]
    stale: npt.NDArray[np.bool_]
    forest: Forest
    paths: U32
    path_begin: I64
    columns: AttributeColumns
    arena: npt.NDArray[np.uint8]
    offset: I64

    def attribute_set(self, number: int) -> bytes:
        """Canonical octets of an attribute set."""
        return self.arena[self.offset[number] : self.offset[number + 1]].tobytes()


@dataclass(slots=True)
class _Contribution:
    """Routes of one peer, family and RD, and what they are built from."""

    source: tuple[int, int, int]
    hi: U64
    lo: U64
    plen: npt.NDArray[np.uint8]
    attributes: U32
    add_path: bool


@dataclass(slots=True)
class _Built:
    """A table of the forest, and what it was built from."""

    sources: tuple[tuple[int, int, int], ...]
    table: PrefixTable
    paths: list[U32]


@dataclass(slots=True)
class _Numbers:
    """Dense numbers of routers, in order of first sight."""

    by_address: dict[str, int] = field(default_factory=dict)

    def number(self, address: str) -> int:
        return self.by_address.setdefault(address, len(self.by_address))


class Publisher:
    """Makes snapshots of a RIB; tables that have not changed since the last one are kept."""

    def __init__(self, rib: Rib, epoch: str, views: Sequence[PolicyView] = DEFAULT_VIEWS) -> None:
        self._rib, self._epoch = rib, epoch
        self._rank = {view: rank for rank, view in enumerate(views)}
        self._built: dict[Instance, _Built] = {}
        self._generation = 0
        self._compactions = rib.compactions

    def publish(self, now_ns: int) -> Snapshot:
        """A snapshot of the RIB as it is."""
        if self._compactions != self._rib.compactions:
            # Attribute ids were given anew.
            self._built.clear()
            self._compactions = self._rib.compactions
        routers, stale = _Numbers(), []
        words: dict[tuple[int, int], int] = {}
        peers = sorted(self._wanted(), key=lambda t: (self._rank[t.peer.view], t.number))
        for tables in peers:
            number = routers.number(tables.peer.router)
            if number == len(stale):
                stale.append(False)
            stale[number] |= tables.stale
            for address in _identities(tables.peer):
                words.setdefault(address_words(address), number)
        self._rebuild(peers, routers)
        return self._assemble(now_ns, words, np.array(stale, np.bool_))

    def _wanted(self) -> Iterable[PeerTables]:
        return (tables for tables in self._rib.peers() if tables.peer.view in self._rank)

    def _rebuild(self, peers: Sequence[PeerTables], routers: _Numbers) -> None:
        sources: defaultdict[Instance, list[tuple[PeerTables, int]]] = defaultdict(list)
        for tables in peers:
            router = routers.number(tables.peer.router)
            for family, table in sorted(tables.tables.items()):
                if FAMILIES[family].of_prefixes and len(table):
                    for rd in self._instance_rds(tables, family):
                        version = 4 if FAMILIES[family].afi == 1 else 6
                        sources[Instance(router, rd, version)].append((tables, family))
        self._built = {
            instance: self._table(instance, contributions)
            for instance, contributions in sources.items()
        }

    def _instance_rds(self, tables: PeerTables, family: int) -> Iterable[int]:
        if FAMILIES[family].shape is not Shape.VPN:
            return (tables.peer.instance_rd,)
        return np.unique(tables.tables[family].rows().rd).tolist()

    def _table(self, instance: Instance, parts: Sequence[tuple[PeerTables, int]]) -> _Built:
        sources = tuple((t.number, f, t.tables[f].generation) for t, f in parts)
        before = self._built.get(instance)
        if before is not None and before.sources == sources:
            return before
        rows = [_of_instance(tables, family, instance.rd) for tables, family in parts]
        hi, lo = np.concatenate([r.hi for r in rows]), np.concatenate([r.lo for r in rows])
        plen = np.concatenate([r.plen for r in rows])
        payload = np.concatenate([r.attributes for r in rows])
        paths: list[U32] = []
        if any(tables.tables[family].add_path for tables, family in parts):
            hi, lo, plen, payload, paths = _listed(hi, lo, plen, payload)
        table = PrefixTable.build(instance.version, hi, lo, plen, payload)
        return _Built(sources, table, paths)

    def _assemble(
        self, now_ns: int, words: dict[tuple[int, int], int], stale: npt.NDArray[np.bool_]
    ) -> Snapshot:
        paths = [p for built in self._built.values() for p in built.paths]
        begin = np.zeros(len(paths) + 1, np.int64)
        np.cumsum([p.size for p in paths], out=begin[1:])
        store = self._rib.store
        self._generation += 1
        first, tables = 0, []
        for built in self._built.values():
            # Lists of paths are numbered within their table; here they get their place among all.
            tables.append(built.table.shifted(MANY_PATHS, first) if built.paths else built.table)
            first += len(built.paths)
        return Snapshot(
            epoch=f"{self._epoch}.{self._compactions}",
            generation=self._generation,
            as_of_ns=now_ns,
            routers=words,
            instances={instance: i for i, instance in enumerate(self._built)},
            stale=stale,
            forest=Forest.of(tables),
            paths=np.concatenate(paths) if paths else np.empty(0, np.uint32),
            path_begin=begin,
            columns=store.columns(),
            arena=store.arena,
            offset=store.offset,
        )


def _identities(peer: Peer) -> tuple[str, ...]:
    """What an exporter's address is compared with: the session's, and the router's own identifier
    (of a BMP session only its Loc-RIB peers tell it).
    """
    if peer.protocol == "bgp" or peer.view is PolicyView.LOC_RIB:
        return peer.router, peer.bgp_id
    return (peer.router,)


def _of_instance(tables: PeerTables, family: int, rd: int) -> Rows:
    rows = tables.tables[family].rows()
    if FAMILIES[family].shape is not Shape.VPN:
        return rows
    return rows.take(np.flatnonzero(rows.rd == np.uint64(rd)))


def _listed(
    hi: U64, lo: U64, plen: npt.NDArray[np.uint8], attributes: U32
) -> tuple[U64, U64, npt.NDArray[np.uint8], U32, list[U32]]:
    """Prefixes once each, those of several paths with the number of their list."""
    order = np.lexsort((np.arange(hi.size), plen, lo, hi))
    hi, lo, plen, attributes = hi[order], lo[order], plen[order], attributes[order]
    new = np.ones(hi.size, np.bool_)
    new[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1]) | (plen[1:] != plen[:-1])
    begin = np.flatnonzero(new)
    count = np.diff(np.append(begin, hi.size))
    payload = attributes[begin].copy()
    many = np.flatnonzero(count > 1)
    payload[many] = MANY_PATHS | np.arange(many.size, dtype=np.uint32)
    paths = [attributes[begin[i] : begin[i] + count[i]] for i in many.tolist()]
    return hi[begin], lo[begin], plen[begin], payload, paths
