"""Snapshots against the longest match of a naive search, after any churn."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from unittest.mock import patch

import numpy as np
from hypothesis import given

from flowray.rib import overlay as overlay_module
from flowray.rib import parcel as parcel_module
from flowray.rib import rib as rib_module
from flowray.rib import snapshot as snapshot_module
from flowray.rib.lpm import MISSING, look_up
from flowray.rib.peers import Peer, PolicyView
from flowray.rib.snapshot import DEFAULT_VIEWS, MANY_PATHS, Instance, Publisher, Snapshot
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.packets import address_words
from tests.rib.rib_twin import (
    BY_NAME,
    PEERS,
    Pair,
    Step,
    addresses,
    announcement,
    end_of_rib,
    steps,
    take,
    withdrawal,
)

UNICAST, UNICAST_6 = BY_NAME["ipv4 unicast"].index, BY_NAME["ipv6 unicast"].index
VPN = BY_NAME["vpnv4"].index

Found = tuple[int, tuple[bytes, ...]]
"""Length of a prefix, and the sets of its paths."""

NOTHING: Found = (0, ())


def naive(pair: Pair, router: str, rd: int, address: str, views: tuple[PolicyView, ...]) -> Found:
    """Of the longest prefixes the paths of the first peer and family that has it."""
    bits = int(ip_address(address))
    version = ip_address(address).version
    width = 32 if version == 4 else 128
    best: Found = NOTHING
    order = sorted(
        (views.index(tables.peer.view), tables.number, PEERS.index(tables.peer), tables.session)
        for tables in pair.rib.peers()
        if tables.peer.router == router and tables.peer.view in views
    )
    for _, _, slot, session in order:
        peer = pair.twin.peers[slot if session else -1 - slot]
        for family, table in sorted(peer.tables.items()):
            row = FAMILIES[family]
            if row.afi != (1 if version == 4 else 2) or row.safi == 2 or not row.of_prefixes:
                continue
            longest: dict[int, list[tuple[int, bytes]]] = {}
            for key, (octets, _) in table.items():
                told_rd, path, hi, lo, plen, _ = key
                if (told_rd if row.shape is Shape.VPN else 0) != rd:
                    continue
                of_prefix = lo & 0xFFFFFFFF if version == 4 else hi << 64 | lo
                if (bits ^ of_prefix) >> (width - plen) == 0:
                    longest.setdefault(plen, []).append((path, octets))
            if not longest:
                continue
            plen = max(longest)
            if best == NOTHING or plen > best[0]:
                best = plen, tuple(octets for _, octets in sorted(longest[plen]))
    return best


def found(s: Snapshot, router: str, rd: int, addresses: list[str]) -> list[Found]:
    number = s.routers.get(address_words(router), -1)
    table = s.instances.get(Instance(number, rd), 1 << 62)
    words = np.array([address_words(a) for a in addresses], np.uint64)
    hi, lo = words[:, 0].copy(), words[:, 1].copy()
    payload, plen = look_up(s.forest, np.full(len(addresses), table, np.int64), hi, lo)
    rows: list[Found] = []
    for p, n in zip(payload.tolist(), plen.tolist(), strict=True):
        if p == MISSING:
            rows.append(NOTHING)
        elif p >= MANY_PATHS:
            first, last = s.path_begin[p - MANY_PATHS], s.path_begin[p - MANY_PATHS + 1]
            sets = s.paths[first:last].tolist()
            rows.append((n, tuple(s.attribute_set(i) for i in sets)))
        else:
            rows.append((n, (s.attribute_set(p),)))
    return rows


RDS = (0, *(64512 << 32 | n for n in (1, 2)))


def check(pair: Pair, s: Snapshot, views: tuple[PolicyView, ...] = DEFAULT_VIEWS) -> None:
    where = list(addresses())
    for router in dict.fromkeys(peer.router for peer in PEERS):
        for rd in RDS:
            expected = [naive(pair, router, rd, address, views) for address in where]
            assert found(s, router, rd, where) == expected, (router, rd)


@given(steps)
def test_a_snapshot_is_the_naive_longest_match_whatever_came_between(todo: list[Step]) -> None:
    with patch.object(rib_module, "COMPACT_FLOOR", 4):
        pair = Pair()
        publisher = Publisher(pair.rib, "test")
        for step in todo:
            take(pair, step)
            if step[0] == "look":
                check(pair, publisher.publish(0))
        check(pair, publisher.publish(0))


@given(steps)
def test_a_snapshot_with_overlays_is_too(todo: list[Step]) -> None:
    with patch.object(overlay_module, "LEAST_LINES", 1), patch.object(snapshot_module, "MOST", 2.0):
        pair = Pair()
        publisher = Publisher(pair.rib, "test")
        for step in todo:
            take(pair, step)
            check(pair, publisher.publish(0))


@given(steps)
def test_views_are_preferred_as_configured(todo: list[Step]) -> None:
    views = (PolicyView.ADJ_RIB_OUT_PRE, PolicyView.ADJ_RIB_IN_PRE)
    pair = Pair()
    publisher = Publisher(pair.rib, "test", views)
    for step in todo:
        take(pair, step)
        if step[0] == "look":
            check(pair, publisher.publish(0), views)
    check(pair, publisher.publish(0), views)


def test_a_peer_that_comes_back_under_the_same_number_has_nothing_of_before() -> None:
    # It has as many changes behind it as the table of before: neither number tells them apart.
    pair = Pair()
    publisher = Publisher(pair.rib, "test")
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1), (8, 1, 1)], 1))])
    check(pair, publisher.publish(0))
    for routes in ([(2, 1, 1)], [(3, 1, 1), (4, 1, 1)]):
        number = pair.number[0]
        pair.drop(0)
        pair.tell([(0, announcement(0, UNICAST, routes, 2))])
        assert pair.number[0] == number
        check(pair, publisher.publish(0))


def test_routes_of_a_peer_that_leaves_a_shared_instance_go() -> None:
    pair = Pair()
    publisher = Publisher(pair.rib, "test")
    pair.tell([(3, announcement(3, UNICAST, [(1, 1, 1)], 1))])
    pair.tell([(2, announcement(2, UNICAST, [(2, 1, 1), (1, 1, 1)], 2))])
    check(pair, publisher.publish(0))
    pair.drop(3)
    pair.tell([(2, announcement(2, UNICAST, [(3, 1, 1)], 2))])
    check(pair, publisher.publish(0))


def test_a_few_changes_of_a_table_are_merged_and_the_rest_is_kept() -> None:
    pair = Pair()
    publisher = Publisher(pair.rib, "test")
    pair.tell([(0, announcement(0, UNICAST, [(n, 1, 1)], 1)) for n in range(20)])
    pair.tell([(0, announcement(0, UNICAST_6, [(1, 1, 1)], 1))])
    check(pair, publisher.publish(0))
    with patch.object(snapshot_module, "_of_instance", side_effect=AssertionError("built anew")):
        pair.tell([(0, announcement(0, UNICAST, [(3, 1, 1)], 2))])
        pair.tell([(0, withdrawal(0, UNICAST, [(4, 1, 1), (5, 1, 1)]))])
        check(pair, publisher.publish(0))
        check(pair, publisher.publish(0))


def test_tables_are_made_anew_in_turn() -> None:
    pair = Pair()
    publisher = Publisher(pair.rib, "test")
    with (
        patch.object(overlay_module, "LEAST_LINES", 1),
        patch.multiple(snapshot_module, MANY=1e-6, MOST=1.0),
    ):
        for slot in (0, 1):
            pair.tell(
                [
                    (slot, announcement(slot, family, [(n, 1, 1)], 1))
                    for n in range(20)
                    for family in ((UNICAST, UNICAST_6) if slot == 0 else (UNICAST_6,))
                ]
            )
        check(pair, publisher.publish(0))
        layers = []
        for n in range(4):
            if n == 0:
                for family in (UNICAST, UNICAST_6):
                    pair.tell([(0, announcement(0, family, [(3, 1, 1)], 2))])
            s = publisher.publish(0)
            check(pair, s)
            tables = [table for two in s.forest.tables for table in two if table is not None]
            layers.append(sum(table.overlay is not None for table in tables))
        assert layers == [1, 0, 0, 0]


def test_lists_of_paths_of_several_routers_are_numbered_apart() -> None:
    pair = Pair()
    publisher = Publisher(pair.rib, "test")
    for n in (1, 2, 3):
        pair.tell([(1, announcement(1, UNICAST, [(1, n, 1)], n))])
        pair.tell([(1, announcement(1, VPN, [(1, n, 1)], 3 + n))])
        pair.tell([(3, announcement(3, UNICAST, [(2, n, 1)], 6 + n))])
    s = publisher.publish(0)
    check(pair, s)
    assert s.path_begin.tolist() == [0, 3, 6, 9]
    pair.tell([(1, withdrawal(1, UNICAST, [(1, 2, 1), (1, 3, 1)]))])
    check(pair, publisher.publish(0))


def test_paths_of_a_prefix_are_those_of_the_preferred_view() -> None:
    pair = Pair()
    # Slot 3 (after policy) sends path identifiers, slot 2 (before policy) does not.
    pair.tell([(2, announcement(2, UNICAST, [(1, 1, 1), (2, 1, 1)], 1))])
    pair.tell([(3, announcement(3, UNICAST, [(1, 1, 1), (1, 2, 1)], n)) for n in (2, 3)])
    s = Publisher(pair.rib, "test").publish(0)
    check(pair, s)
    assert s.paths.size == 2


def test_a_table_out_of_a_file_is_the_next_best_to_the_session() -> None:
    seed = replace(PEERS[0], port=0)
    pair = Pair()
    file = pair.rib.peer(pair.rib.open(seed))
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1), (2, 1, 1)], 1))])
    session = pair.rib.peer(pair.number[0])
    file.tables, session.tables = session.tables, {}
    pair.twin.peers[0].tables.clear()
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], 2))])
    ((changed, _),) = pair.twin.peers[0].tables[UNICAST].values()
    s = Publisher(pair.rib, "test").publish(0)
    first, second = found(s, PEERS[0].router, 0, ["10.200.0.1", "10.0.0.1"])
    assert first == (8, (changed,))
    assert second[0] == 9


def test_routers_by_address_and_identifier_and_whether_their_routes_are_stale() -> None:
    pair = Pair()
    for slot in (0, 1, 2):
        pair.tell([(slot, announcement(slot, UNICAST, [(1, 1, 1)], 1))])
    pair.restart(1)
    s = Publisher(pair.rib, "boot").publish(17)
    assert (s.epoch, s.generation, s.as_of_ns) == ("boot.0", 1, 17)
    names = ("198.51.100.0", "10.0.0.0", "198.51.100.1", "10.0.0.1", "198.51.100.9")
    numbers = [s.routers[address_words(name)] for name in names]
    assert numbers == [0, 0, 1, 1, 2]
    assert s.stale.tolist() == [False, True, False]
    # Of a BMP router only Loc-RIB peers tell the identifier of itself.
    assert address_words("10.0.0.9") not in s.routers
    local = Peer("bmp", "198.51.100.9", 1, "0.0.0.0", "10.0.0.9", 1, PolicyView.LOC_RIB, 3)
    pair.rib.open(local)
    again = Publisher(pair.rib, "boot").publish(17)
    assert again.routers[address_words("10.0.0.9")] == again.routers[address_words("198.51.100.9")]


def test_ids_of_attributes_hold_within_an_epoch() -> None:
    with patch.object(rib_module, "COMPACT_FLOOR", 4):
        pair = Pair()
        publisher = Publisher(pair.rib, "test")
        seen: dict[str, dict[int, bytes]] = {}
        for n in range(1, 40):
            pair.rib.compact()
            pair.tell([(0, announcement(0, UNICAST, [(n % 3, 1, 1)], n))])
            s = publisher.publish(0)
            known = seen.setdefault(s.epoch, {})
            sets = {i: s.attribute_set(i) for i in range(len(s.offset) - 1)}
            assert {**sets, **known} == sets
            seen[s.epoch] = sets
        assert len(seen) > 1


def test_a_snapshot_is_not_changed_by_what_comes_after() -> None:
    pair = Pair()
    publisher = Publisher(pair.rib, "test")
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], 1))])
    s = publisher.publish(0)
    before = found(s, PEERS[0].router, 0, ["10.0.0.1"])
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1), (2, 1, 1)], 2))])
    publisher.publish(1)
    assert found(s, PEERS[0].router, 0, ["10.0.0.1"]) == before
    assert not any(piece.flags.writeable for piece in s.arena)
    assert s.nbytes > 0


def test_snapshots_in_parts_share_what_has_not_changed() -> None:
    pair = Pair()
    publisher = Publisher(pair.rib, "test")
    pair.tell([(0, announcement(0, UNICAST, [(n, 1, 1)], 1)) for n in range(20)])
    one = publisher.publish(0)
    pair.tell([(2, announcement(2, UNICAST_6, [(1, 1, 1)], 2))])
    two = publisher.publish(1)
    with patch.object(parcel_module, "LARGE", 1):
        packed, other = parcel_module.pack(one), parcel_module.pack(two)
    check(pair, parcel_module.unpack(other))
    places = {array.ctypes.data for array in packed.large if array.size}
    assert len(places & {array.ctypes.data for array in other.large if array.size}) >= 3
    small = parcel_module.pack(two)
    assert not small.large
    check(pair, parcel_module.unpack(small))


def test_attribute_sets_across_pieces() -> None:
    with patch.object(snapshot_module, "PIECE", 7):
        pair = Pair()
        pair.tell([(0, announcement(0, UNICAST, [(n, 1, 1)], n)) for n in range(1, 9)])
        s = Publisher(pair.rib, "test").publish(0)
        check(pair, s)
        store = pair.rib.store
        assert [s.attribute_set(i) for i in range(len(store))] == [
            store[i] for i in range(len(store))
        ]


def test_an_empty_rib_has_a_snapshot() -> None:
    pair = Pair()
    s = Publisher(pair.rib, "test").publish(0)
    assert (len(s.instances), s.routers, len(s.forest)) == (0, {}, 0)
    pair.tell([(0, end_of_rib(UNICAST))])
    check(pair, Publisher(pair.rib, "test").publish(0))
