"""AS paths: reading, the merge with AS4_PATH, texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp.as_path import Segment, SegmentType, as_path_text, merge_as4, read_as_path
from tests.wire.bgp.sets import segment

SET, SEQUENCE, CONFED, CONFED_SET = SegmentType
AS_TRANS = 23456


def seq(*numbers: int) -> Segment:
    return Segment(SegmentType.SEQUENCE, numbers)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", ""),
        (segment(2, 64496, 4200000000), "64496 4200000000"),
        (segment(2, 64496) + segment(1, 7, 3, 7), "64496 {3,7}"),
        (segment(3, 65001, 65002) + segment(2, 64496), "(65001 65002) 64496"),
        (segment(4, 65002, 65001), "[65001,65002]"),
        (segment(2, 1) + segment(2, 2), "1 2"),
    ],
)
def test_texts(value: bytes, text: str) -> None:
    path = read_as_path(value, four_octets=True)
    assert path is not None
    assert as_path_text(path) == text


def test_two_octets_a_number() -> None:
    assert read_as_path(segment(2, 1, 65535, width=2), four_octets=False) == (seq(1, 65535),)


def test_long_path_cut_into_segments_is_one() -> None:
    value = segment(2, *range(255)) + segment(2, 255, 256)
    assert read_as_path(value, four_octets=True) == (seq(*range(257)),)


@pytest.mark.parametrize(
    "value",
    [
        b"\x02",
        b"\x02\x00",
        b"\x05\x01\x00\x00\x00\x01",
        segment(2, 1)[:-1],
        segment(2, 1) + b"\x00",
        b"\x02\xff\x00\x00\x00\x01",
    ],
)
def test_malformed_paths_are_none(value: bytes) -> None:
    assert read_as_path(value, four_octets=True) is None


@given(st.binary(max_size=60), st.booleans())
def test_any_octets_give_a_path_or_none(value: bytes, four: bool) -> None:
    path = read_as_path(value, four_octets=four)
    if path:
        assert all(s.numbers for s in path)


@pytest.mark.parametrize(
    ("path", "as4", "merged"),
    [
        # RFC 6793 section 4.2.3: the leading hops that AS4_PATH lacks stay.
        ((seq(1, AS_TRANS, 3),), (seq(70000, 3),), (seq(1, 70000, 3),)),
        ((seq(AS_TRANS, 3),), (seq(70000, 3),), (seq(70000, 3),)),
        # An AS4_PATH that is longer is ignored.
        ((seq(1),), (seq(70000, 70001),), (seq(1),)),
        ((seq(1, 2),), (), (seq(1, 2),)),
        # A set counts as one hop.
        (
            (seq(1), Segment(SET, (2, 3)), seq(AS_TRANS)),
            (seq(70000),),
            (seq(1), Segment(SET, (2, 3)), seq(70000)),
        ),
        # Confederation segments do not count, and have no business in AS4_PATH.
        (
            (Segment(CONFED, (65001,)), seq(1, AS_TRANS)),
            (Segment(CONFED, (65002,)), seq(70000)),
            (Segment(CONFED, (65001,)), seq(1, 70000)),
        ),
        (
            (Segment(CONFED, (65001,)), seq(AS_TRANS)),
            (seq(70000),),
            (Segment(CONFED, (65001,)), seq(70000)),
        ),
    ],
)
def test_merge(
    path: tuple[Segment, ...], as4: tuple[Segment, ...], merged: tuple[Segment, ...]
) -> None:
    assert merge_as4(path, as4) == merged


@given(st.lists(st.integers(1, 70000), min_size=1, max_size=20), st.integers(0, 20))
def test_merge_restores_what_a_short_router_hid(numbers: list[int], old: int) -> None:
    """A router of two octets shows AS_TRANS; AS4_PATH holds the tail behind it."""
    shown = seq(*(n if n < 65536 else AS_TRANS for n in numbers))
    tail = tuple(numbers[min(old, len(numbers)) :])
    whole = merge_as4((shown,), (seq(*tail),) if tail else ())
    kept = shown.numbers[: len(numbers) - len(tail)]
    assert whole == (seq(*kept, *tail),)
