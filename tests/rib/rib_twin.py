"""A RIB of dictionaries, and steps that are done to it and to the real one alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from flowray.rib.peers import Peer, PolicyView
from flowray.rib.rib import FIRST_MARK, MARKS, Changes, Removed, Rib
from flowray.rib.table import NONE
from flowray.wire.bgp.events import Action, RouteEvents
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.bgp.update import parse_updates
from tests.wire.bgp import encode as e
from tests.wire.bgp import update_twin
from tests.wire.bgp.updates import ALL_PATHS, batch, contexts

CONTEXTS = ((True, 0), (True, ALL_PATHS))
BY_NAME = {family.name: family for family in FAMILIES}
TOLD = tuple(
    BY_NAME[name].index
    for name in ("ipv4 unicast", "ipv6 unicast", "ipv4 multicast", "ipv4 labeled unicast", "vpnv4",
                 "vpnv6", "evpn")
)  # fmt: skip

Key: TypeAlias = tuple[int, int, int, int, int, bytes]
"""Distinguisher, path identifier, words, length, NLRI where they identify the route."""

Change: TypeAlias = tuple[int, int, Key, bytes, bytes | None]
"""Slot of the peer, action, route, attribute set, set before."""

ROUTER = "198.51.100.{}"


def peers_of_slots() -> list[Peer]:
    """Two BGP routers, and three views of a third by BMP; the odd ones send path identifiers."""
    bgp = [Peer("bgp", ROUTER.format(n), 1000 + n, ROUTER.format(n), f"10.0.0.{n}", 65001 + n)
           for n in range(2)]  # fmt: skip
    of = Peer("bmp", ROUTER.format(9), 2000, "192.0.2.7", "10.0.0.9", 65009)
    views = (PolicyView.ADJ_RIB_IN_PRE, PolicyView.ADJ_RIB_IN_POST, PolicyView.ADJ_RIB_OUT_PRE)
    return bgp + [replace(of, view=view) for view in views]


PEERS = peers_of_slots()


def context_of(slot: int) -> int:
    return slot % 2


# -- messages


def _prefix(number: int, *, wide: bool) -> str:
    """Prefixes inside each other and beside each other."""
    plen = (0, 8, 9, 16, 23, 24, 32)[number % 7]
    host = 10 << 24 | (number // 7) << 8 | (1 if plen == 32 else 0)
    host = host >> (32 - plen) << (32 - plen) if plen else 0
    if wide:
        return f"2001:db8::{host >> 16:x}:{host & 0xFFFF:x}/{96 + plen}" if plen else "::/0"
    return f"{host >> 24}.{host >> 16 & 255}.{host >> 8 & 255}.{host & 255}/{plen}"


def addresses() -> Iterator[str]:
    """Addresses in and around the prefixes."""
    for third in range(4):
        for last in (0, 1, 200):
            yield f"10.0.{third}.{last}"
            yield f"2001:db8::a00:{third << 8 | last:x}"
    yield "10.99.0.1"
    yield "11.0.0.1"
    yield "2001:db9::1"


Route: TypeAlias = tuple[int, int, int]
"""Number of the prefix, of the path, of the distinguisher."""


def _nlri(family: int, route: Route, *, paths: bool) -> bytes:
    number, path, rd = route
    row, identifier = FAMILIES[family], path if paths else None
    if row.shape is Shape.EVPN:
        return e.evpn(2, bytes([number]) * (8 + rd), identifier)
    text = _prefix(number, wide=row.address_octets == 16)
    if row.shape is Shape.PREFIX:
        return e.prefix(text, identifier)
    octets = e.rd_as(64512, rd) if row.shape is Shape.VPN else b""
    return e.labeled(text, e.label_stack([16 + number]), octets, identifier)


def announcement(slot: int, family: int, routes: list[Route], attributes: int) -> bytes:
    """An UPDATE; `attributes` numbers a set."""
    row, paths = FAMILIES[family], bool(context_of(slot))
    nlri = b"".join(_nlri(family, route, paths=paths) for route in routes)
    told = e.usual(65001, 64500 + attributes, hop=None) + e.med(attributes)
    hop = e.address(f"192.0.2.{attributes}" if row.afi != 2 else f"2001:db8:f::{attributes:x}")
    hop = bytes(8) + hop if row.shape is Shape.VPN else hop
    return e.update(attributes=told + e.mp_reach(row.afi, row.safi, hop, nlri))


def withdrawal(slot: int, family: int, routes: list[Route]) -> bytes:
    row, paths = FAMILIES[family], bool(context_of(slot))
    nlri = b"".join(_nlri(family, route, paths=paths) for route in routes)
    return e.update(attributes=e.mp_unreach(row.afi, row.safi, nlri))


def end_of_rib(family: int) -> bytes:
    return e.end_of_rib(FAMILIES[family].afi, FAMILIES[family].safi)


# -- the twin


@dataclass
class TwinPeer:
    slot: int
    tables: dict[int, dict[Key, tuple[bytes, int]]] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    stale: bool = False

    def mark(self, family: int) -> int:
        return self.marks.get(family, FIRST_MARK)


def key_of(slot: int, event: tuple[Any, ...]) -> Key:
    family, rd, path, hi, lo, plen, _, _, raw = event
    opaque = not FAMILIES[family].of_prefixes
    return (0 if opaque else rd, path if context_of(slot) else 0, hi, lo, plen,
            raw if opaque else b"")  # fmt: skip


class RibTwin:
    """Peers by slot."""

    def __init__(self) -> None:
        self.peers: dict[int, TwinPeer] = {}

    def apply(self, slot: int, data: bytes) -> list[Change]:
        peer = self.peers[slot]
        changes: list[Change] = []
        told = update_twin.parse(data, four=True, add_path=CONTEXTS[context_of(slot)][1])
        for event, canonical in told.events:
            family, action = event[0], event[7]
            key = key_of(slot, event)
            if action == Action.END_OF_RIB:
                peer.ended.add(family)
                changes.append((slot, action, key, b"", None))
                continue
            table = peer.tables.setdefault(family, {})
            before = table.pop(key, (None, 0))[0]
            if action == Action.ANNOUNCE:
                table[key] = canonical, peer.mark(family)
                changes.append((slot, action, key, canonical, before))
            elif before is not None:
                changes.append((slot, action, key, before, before))
        return changes

    def sweep(self, slot: int, family: int) -> list[tuple[int, Key, bytes]]:
        peer = self.peers[slot]
        table = peer.tables.get(family, {})
        gone = [key for key, (_, mark) in table.items() if mark != peer.mark(family)]
        return [(family, key, table.pop(key)[0]) for key in gone]

    def drop(self, slot: int) -> list[tuple[int, Key, bytes]]:
        peer = self.peers.pop(slot)
        return [(f, key, octets) for f, t in peer.tables.items() for key, (octets, _) in t.items()]


# -- both


class Pair:
    """The RIB and its twin. Every step checks that they agree."""

    def __init__(self) -> None:
        self.rib, self.twin = Rib(), RibTwin()
        self.number: dict[int, int] = {}

    def open(self, slot: int) -> None:
        if slot in self.number:
            return
        self.number[slot] = self.rib.open(PEERS[slot])
        self.rib.adopt(self.number[slot])
        restored = self.twin.peers.pop(-1 - slot, None)
        self.twin.peers[slot] = TwinPeer(slot)
        if restored is not None:
            self.twin.peers[slot].tables, self.twin.peers[slot].stale = restored.tables, True

    def tell(self, told: list[tuple[int, bytes]]) -> tuple[RouteEvents, Changes, Any]:
        """Messages of several peers as one batch."""
        for slot, _ in told:
            self.open(slot)
        updates = batch([data for _, data in told], [context_of(slot) for slot, _ in told])
        parsed = parse_updates(updates, contexts(*CONTEXTS), self.rib.store)
        peers = np.array([self.number[slot] for slot, _ in told], np.int64)
        add_path = contexts(*CONTEXTS).add_path[updates.context]
        changes = self.rib.apply(peers, parsed.events, updates.buf, add_path)
        expected = [change for slot, data in told for change in self.twin.apply(slot, data)]
        assert self._changes(parsed.events, changes, updates.buf) == expected
        self.changed(parsed.events, changes, updates, expected)
        return parsed.events, changes, updates

    def changed(
        self, events: RouteEvents, changes: Changes, updates: Any, expected: list[Change]
    ) -> None:
        """For tests of what is made of changes."""

    def gone(
        self, slot: int, removed: list[Removed], expected: list[tuple[int, Key, bytes]]
    ) -> None:
        """Routes went without a withdrawal."""
        del slot
        assert self.listed(removed) == sorted(expected)

    def _changes(self, events: RouteEvents, changes: Changes, buf: Any) -> list[Change]:
        slots = {number: slot for slot, number in self.number.items()}
        found: list[Change] = []
        for i, row in enumerate(changes.rows.tolist()):
            slot, before = slots[int(changes.peer[i])], int(changes.before[i])
            start, size = int(events.nlri_offset[row]), int(events.nlri_length[row])
            columns = (events.rd, events.path_id, events.hi, events.lo, events.plen)
            rd, path, hi, lo, plen = (int(c[row]) for c in columns)
            raw = buf[start : start + size].tobytes()
            event = (int(events.family[row]), rd, path, hi, lo, plen, 0, 0, raw)
            action = int(events.action[row])
            had = None if before == NONE else self.rib.store[before]
            octets = self.rib.store[int(changes.attributes[i])]
            found.append((slot, action, key_of(slot, event), octets, had))
        return found

    def drop(self, slot: int) -> None:
        if slot in self.number:
            removed = self.rib.drop(self.number.pop(slot))
            self.gone(slot, removed, self.twin.drop(slot))

    def restart(self, slot: int) -> None:
        """The peer's routes as a restart gives them back, without a session."""
        if slot not in self.number or -1 - slot in self.twin.peers:
            return
        tables = self.rib.peer(self.number.pop(slot))
        tables.session, tables.stale = False, True
        peer = self.twin.peers.pop(slot)
        for family, table in peer.tables.items():
            peer.tables[family] = {key: (octets, 0) for key, (octets, _) in table.items()}
            tables.tables[family]._marks[:] = 0
        tables.marks.clear()
        tables.end_of_rib.clear()
        peer.marks, peer.ended, peer.stale = {}, set(), True
        self.twin.peers[-1 - slot] = peer

    def expire(self, slot: int) -> None:
        """Stale routes have waited long enough."""
        for tables in list(self.rib.peers()):
            if tables.peer != PEERS[slot] or not tables.stale:
                continue
            place = slot if tables.session else -1 - slot
            removed = self.rib.expire(tables.number)
            if place < 0:
                expected = self.twin.drop(place)
            else:
                self.twin.peers[slot].stale = False
                families = list(self.twin.peers[slot].tables)
                expected = [r for f in families for r in self.twin.sweep(slot, f)]
            self.gone(slot, removed, expected)

    def end_of_rib(self, slot: int, family: int) -> None:
        self.tell([(slot, end_of_rib(family))])
        peer = self.twin.peers[slot]
        removed = self.rib.end_restart(self.number[slot], family)
        expected = self.twin.sweep(slot, family) if peer.stale else []
        peer.stale = peer.stale and not peer.ended.issuperset(peer.tables)
        self.gone(slot, removed, expected)

    def begin_refresh(self, slot: int, family: int) -> None:
        if slot in self.number:
            self.rib.begin_refresh(self.number[slot], family)
            peer = self.twin.peers[slot]
            peer.marks[family] = peer.mark(family) % MARKS + 1

    def end_refresh(self, slot: int, family: int) -> None:
        if slot in self.number:
            removed = self.rib.end_refresh(self.number[slot], family)
            self.gone(slot, removed, self.twin.sweep(slot, family))

    def listed(self, removed: list[Removed]) -> list[tuple[int, Key, bytes]]:
        found = []
        for gone in removed:
            r = gone.rows
            raw = gone.nlri or [b""] * len(r)
            for i in range(len(r)):
                rd, path, hi, lo, plen = (int(c[i]) for c in (r.rd, r.path_id, r.hi, r.lo, r.plen))
                octets = self.rib.store[int(r.attributes[i])]
                found.append((gone.family, (rd, path, hi, lo, plen, raw[i]), octets))
        return sorted(found)

    def agree(self) -> None:
        """All tables of both are the same."""
        ours: dict[int, dict[int, dict[Key, bytes]]] = {}
        for tables in self.rib.peers():
            slot = PEERS.index(tables.peer)
            place = slot if tables.session else -1 - slot
            assert tables.stale == self.twin.peers[place].stale
            found = ours[place] = {}
            for family, table in tables.tables.items():
                rows = table.rows()
                nlri = [] if FAMILIES[family].of_prefixes else table.nlri(rows.nlri)
                listed = self.listed([Removed(tables.peer, family, rows, nlri)])
                found[family] = {key: octets for _, key, octets in listed}
        theirs = {
            place: {f: {k: octets for k, (octets, _) in t.items()} for f, t in peer.tables.items()}
            for place, peer in self.twin.peers.items()
        }
        assert ours == theirs


# -- steps

slots = st.integers(0, len(PEERS) - 1)
families = st.sampled_from(TOLD)
routes = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=6
)


@st.composite
def _messages(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    told = []
    for _ in range(draw(st.integers(1, 4))):
        slot, family, some = draw(slots), draw(families), draw(routes)
        if draw(st.integers(0, 3)):
            told.append((slot, announcement(slot, family, some, draw(st.integers(1, 12)))))
        else:
            told.append((slot, withdrawal(slot, family, some)))
    return told


Step: TypeAlias = tuple[Any, ...]

steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), _messages()),
        st.tuples(st.just("tell"), _messages()),
        st.tuples(st.just("tell"), _messages()),
        st.tuples(st.sampled_from(["begin_refresh", "end_refresh", "end_of_rib"]), slots, families),
        st.tuples(st.sampled_from(["drop", "restart", "expire", "open"]), slots),
        st.just(("compact",)),
        st.just(("look",)),
    ),
    max_size=25,
)


def take(pair: Pair, step: Step) -> None:
    """Do a step to both ("look" and what else a test adds is its own)."""
    name, *arguments = step
    if name == "compact":
        pair.rib.compact()
    elif name != "look":
        getattr(pair, name)(*arguments)
