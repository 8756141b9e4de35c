"""The RIB against a twin of dictionaries: sessions, refreshes, restarts, compactions."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given

from flowray.rib import rib as rib_module
from flowray.rib.rib import Rib
from flowray.wire.bgp.families import FAMILIES
from tests.rib.rib_twin import (
    BY_NAME,
    PEERS,
    Pair,
    Step,
    announcement,
    steps,
    take,
    withdrawal,
)

UNICAST = BY_NAME["ipv4 unicast"].index


@given(steps)
def test_tables_are_those_of_a_naive_rib(todo: list[Step]) -> None:
    with patch.object(rib_module, "COMPACT_FLOOR", 4):
        pair = Pair()
        for step in todo:
            take(pair, step)
            pair.agree()


def sets_of(rib: Rib) -> set[bytes]:
    return {rib.store[i] for i in range(len(rib.store))}


def test_compaction_keeps_what_routes_have() -> None:
    with patch.object(rib_module, "COMPACT_FLOOR", 8):
        pair = Pair()
        told: list[int] = []
        pair.rib.before_compaction = lambda: told.append(len(pair.rib.store))
        pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], n)) for n in range(1, 21)])
        assert (len(pair.rib.store), pair.rib.compactions) == (21, 0)
        assert pair.rib.compact()
        assert (told, pair.rib.compactions) == ([21], 1)
        # The empty set, and that of the one route.
        assert len(pair.rib.store) == 2
        pair.agree()
        assert not pair.rib.compact(), "nothing is dead"


def test_a_store_of_which_most_lives_is_left_alone_until_it_has_doubled() -> None:
    with patch.object(rib_module, "COMPACT_FLOOR", 8):
        pair = Pair()
        for n in range(1, 13):
            pair.tell([(0, announcement(0, UNICAST, [(n, 1, 1)], n))])
        assert not pair.rib.compact()
        pair.drop(0)
        assert not pair.rib.compact(), "not before 26 sets"
        pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], n)) for n in range(20, 40)])
        assert pair.rib.compact()
        assert len(sets_of(pair.rib)) == 2


def test_a_dropped_peer_is_not_there() -> None:
    rib = Rib()
    number = rib.open(PEERS[0])
    assert rib.drop(number) == []
    with pytest.raises(KeyError):
        rib.peer(number)
    assert list(rib.peers()) == []
    # The number is given again.
    assert rib.open(PEERS[1]) == number


def test_every_change_of_a_table_is_a_new_generation() -> None:
    pair = Pair()
    pair.open(0)
    before = pair.rib.generation
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], 1))])
    assert pair.rib.generation > before
    before = pair.rib.generation
    pair.begin_refresh(0, UNICAST)
    pair.end_refresh(0, UNICAST)
    assert pair.rib.generation > before
    before = pair.rib.generation
    pair.drop(0)
    assert pair.rib.generation > before


def test_marks_of_refreshes_go_round() -> None:
    pair = Pair()
    pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1), (2, 1, 1)], 1))])
    for _ in range(300):
        pair.begin_refresh(0, UNICAST)
        pair.tell([(0, announcement(0, UNICAST, [(1, 1, 1)], 1))])
        pair.end_refresh(0, UNICAST)
        pair.agree()
    assert pair.rib.peer(pair.number[0]).routes == 1


def test_path_identifiers_tell_routes_apart_only_where_they_are_sent() -> None:
    pair = Pair()
    for slot in (0, 1):
        pair.tell([(slot, announcement(slot, UNICAST, [(1, 1, 1), (1, 2, 1)], 1))])
    routes = {tables.peer.router: tables.routes for tables in pair.rib.peers()}
    assert routes == {"198.51.100.0": 1, "198.51.100.1": 2}
    pair.tell([(1, withdrawal(1, UNICAST, [(1, 1, 1)]))])
    assert pair.rib.peer(pair.number[1]).routes == 1


def test_routes_that_go_with_their_peer_are_in_order() -> None:
    pair = Pair()
    pair.tell([(0, announcement(0, UNICAST, [(n, 1, 1)], 1)) for n in range(40)])
    (removed,) = pair.rib.drop(pair.number[0])
    prefixes = list(zip(removed.rows.lo.tolist(), removed.rows.plen.tolist(), strict=True))
    assert prefixes == sorted(prefixes)


def test_figures_of_a_peer() -> None:
    pair = Pair()
    for family in FAMILIES:
        if family.of_prefixes:
            pair.tell([(0, announcement(0, family.index, [(1, 1, 1), (2, 1, 2)], 1))])
    tables = pair.rib.peer(pair.number[0])
    assert tables.routes == 2 * sum(f.of_prefixes for f in FAMILIES)
    assert tables.nbytes == sum(t.nbytes for t in tables.tables.values()) > 0
    assert np.isin(list(tables.tables), [f.index for f in FAMILIES]).all()
