"""Interning of attribute sets, and the numbers read from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.describe_kernels import (
    HAS_AS_PATH,
    HAS_LOCAL_PREF,
    HAS_MED,
    HAS_NEXT_HOP,
)
from flowray.wire.packets import address_words
from tests.wire.bgp import encode as e

SEQUENCE, SET = e.AS_SEQUENCE, e.AS_SET
CONFED, CONFED_SET = e.CONFED_SEQUENCE, e.CONFED_SET


def intern(store: AttributeStore, *sets: bytes) -> list[int]:
    length = np.array([len(data) for data in sets], np.int64)
    buf = np.frombuffer(b"".join(sets), np.uint8)
    return store.intern(buf, np.cumsum(length) - length, length).tolist()


def canonical(attributes: bytes = b"", hop: str | None = None, *, four: bool = True) -> bytes:
    packed = e.address(hop) if hop else b""
    return bytes([four, len(packed)]) + packed + attributes


@given(st.lists(st.binary(max_size=40), max_size=60))
def test_equal_sets_have_one_id(sets: list[bytes]) -> None:
    store = AttributeStore()
    ids = intern(store, *sets) + intern(store, *reversed(sets))[::-1]
    assert [store[i] for i in ids] == sets * 2
    assert len(store) == len({b"", *sets})
    assert store.arena.tobytes() == b"".join(store[i] for i in range(len(store)))
    assert len(store.offset) == len(store) + 1


def test_an_id_never_given_is_refused() -> None:
    with pytest.raises(IndexError, match="found 1, allowed 0 to 0"):
        AttributeStore()[1]


@pytest.mark.parametrize(("start", "length"), [(0, 4), (-1, 1), (1, -1), (3, 1)])
def test_a_set_outside_the_buffer_is_refused(start: int, length: int) -> None:
    store = AttributeStore()
    with pytest.raises(ValueError, match="attribute sets"):
        store.intern(np.zeros(3, np.uint8), np.array([start]), np.array([length]))


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.booleans()), max_size=300))
def test_compact_keeps_what_is_live(items: list[tuple[bytes, bool]]) -> None:
    store = AttributeStore()
    intern(store, *(data for data, _ in items))
    wanted = {data for data, keep in items if keep}
    before = [store[i] for i in range(len(store))]
    columns = store.columns()
    live = np.array([data in wanted for data in before])
    described = [column[live | (np.arange(live.size) == 0)].copy() for column in columns.arrays]
    remap = store.compact(live)
    assert len(store) == 1 + len(wanted)
    for old, data in enumerate(before):
        assert store[int(remap[old])] == (data if data in wanted else b"")
    assert intern(store, *wanted) == [int(remap[before.index(data)]) for data in wanted]
    for now, then in zip(store.columns().arrays, described, strict=True):
        assert np.array_equal(now, then)


def test_compact_wants_a_flag_for_each_set() -> None:
    with pytest.raises(ValueError, match="found 2 flags, allowed 1"):
        AttributeStore().compact(np.ones(2, np.bool_))


def test_memory_is_given_back() -> None:
    store = AttributeStore()
    first = store.nbytes
    intern(store, *(k.to_bytes(40, "big") for k in range(1, 5000)))
    assert store.nbytes >= first + 40 * 4999
    store.compact(np.zeros(len(store), np.bool_))
    assert len(store) == 1
    assert store.nbytes == first


def describe(data: bytes) -> dict[str, int]:
    store = AttributeStore()
    (number,) = intern(store, data)
    columns = store.columns()
    names = columns.__slots__
    return {name: int(getattr(columns, name)[number]) for name in names}


def numbers(path: bytes, *, four: bool = True) -> tuple[int, int, int]:
    row = describe(canonical(path, four=four))
    return row["origin_as"], row["peer_as"], row["peer_as_skip_confed"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([], (0, 0, 0)),
        ([(SEQUENCE, [1, 2, 3])], (3, 1, 1)),
        ([(SEQUENCE, [1, 2]), (SET, [7, 8])], (0, 1, 1)),
        ([(SET, [7, 8])], (0, 0, 0)),
        ([(SEQUENCE, [1, 2]), (SEQUENCE, [3])], (3, 1, 1)),
        ([(CONFED, [65001, 65002]), (SEQUENCE, [1, 2])], (2, 65001, 1)),
        ([(CONFED_SET, [65001]), (CONFED, [65003]), (SEQUENCE, [1])], (1, 0, 1)),
        ([(CONFED, [65001])], (0, 65001, 0)),
        ([(SEQUENCE, [4200000000])], (4200000000,) * 3),
    ],
)
def test_origin_and_peer(path: list[e.Segment], expected: tuple[int, int, int]) -> None:
    assert numbers(e.as_path_segments(path)) == expected


TRANS = 23456


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([(SEQUENCE, [1, TRANS])], [(SEQUENCE, [70000])], (70000, 1, 1)),
        ([(SEQUENCE, [TRANS, TRANS])], [(SEQUENCE, [70000, 70001])], (70001, 70000, 70000)),
        ([(SEQUENCE, [TRANS])], [(SEQUENCE, [70000, 70001])], (TRANS, TRANS, TRANS)),
        ([(SEQUENCE, [1]), (SET, [TRANS, 5])], [(SET, [70000, 5])], (0, 1, 1)),
        ([(CONFED, [9]), (SEQUENCE, [TRANS])], [(SEQUENCE, [70000])], (70000, 9, 70000)),
        ([(SEQUENCE, [1, TRANS])], [(CONFED, [70001]), (SEQUENCE, [70000])], (70000, 1, 1)),
    ],
)
def test_as4_path_replaces_the_end_of_a_two_octet_path(
    old: list[e.Segment], new: list[e.Segment], expected: tuple[int, int, int]
) -> None:
    attributes = e.as_path_segments(old, four=False) + e.as4_path(new)
    assert numbers(attributes, four=False) == expected


def test_as4_path_counts_for_nothing_behind_an_aggregator_of_old() -> None:
    path = e.as_path(1, TRANS, four=False)
    newer = e.as4_path([(SEQUENCE, [70000])])
    old = e.aggregator(64500, "192.0.2.3", four=False)
    trans = e.aggregator(TRANS, "192.0.2.3", four=False)
    assert numbers(path + old + newer, four=False) == (TRANS, 1, 1)
    assert numbers(path + trans + newer, four=False) == (70000, 1, 1)


@pytest.mark.parametrize(
    ("hop", "size"), [("192.0.2.9", 4), ("2001:db8::9", 16), ("::ffff:192.0.2.9", 16)]
)
def test_next_hop_is_two_words(hop: str, size: int) -> None:
    row = describe(canonical(hop=hop))
    assert len(e.address(hop)) == size
    assert (row["next_hop_hi"], row["next_hop_lo"]) == address_words(hop)
    assert row["present"] == HAS_NEXT_HOP


def test_the_link_local_next_hop_is_left_out() -> None:
    pair = e.address("2001:db8::9") + e.address("fe80::1")
    row = describe(bytes([1, 32]) + pair)
    assert (row["next_hop_hi"], row["next_hop_lo"]) == address_words("2001:db8::9")


def test_metrics_and_what_is_present() -> None:
    row = describe(canonical(e.as_path(1) + e.med(0) + e.local_pref(4000000000)))
    assert (row["med"], row["local_pref"]) == (0, 4000000000)
    assert row["present"] == HAS_AS_PATH | HAS_MED | HAS_LOCAL_PREF
    assert describe(canonical(e.as_path()))["present"] == 0


def test_columns_follow_new_sets() -> None:
    store = AttributeStore()
    for k in range(1, 300):
        intern(store, canonical(e.as_path(k)))
        assert store.columns().origin_as.tolist() == list(range(k + 1))


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_sets_that_nobody_checked_are_read_without_harm(sets: list[bytes]) -> None:
    store = AttributeStore()
    intern(store, *sets, *(bytes([k % 2, 0]) + data for k, data in enumerate(sets)))
    assert len(store.columns().present) == len(store)
