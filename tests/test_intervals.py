"""Addresses as numbers, and sets of intervals against plain Python."""

from ipaddress import ip_address, ip_network
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.addresses import MAPPED, MAPPED_LAST, address, prefix
from flowray.intervals import AddressSet, Interval, WordSet, disjoint

WORD = (1 << 64) - 1


def intervals(bits: int) -> st.SearchStrategy[list[Interval]]:
    """Intervals around few centres, so that they overlap and touch."""
    edge = st.one_of(
        st.integers(0, 40),
        st.integers((1 << bits) - 40, (1 << bits) - 1),
        st.integers((1 << 64) - 20, (1 << 64) + 20).map(lambda n: min(n, (1 << bits) - 1)),
        st.integers(0, (1 << bits) - 1),
    )
    pair = st.tuples(edge, edge).map(lambda p: (min(p), max(p)))
    return st.lists(pair, max_size=12)


@st.composite
def sets(draw: st.DrawFn, bits: int) -> tuple[list[Interval], list[int]]:
    """Intervals and numbers to test for: their edges, what is beside them, and any."""
    spans = draw(intervals(bits))
    top = (1 << bits) - 1
    edges = [n for span in spans for n in (span[0] - 1, *span, span[1] + 1) if 0 <= n <= top]
    numbers = draw(st.lists(st.integers(0, top), max_size=8))
    return spans, edges + numbers


@given(intervals(16))
def test_disjoint_keeps_the_union(spans: list[Interval]) -> None:
    merged = disjoint(spans)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(merged))
    for low, high in spans:
        assert any(a <= low and high <= b for a, b in merged)
    edges = {n for low, high in merged for n in (low, high)}
    assert edges <= {n for span in spans for n in span}


@given(sets(64))
def test_words_in_a_set(case: tuple[list[Interval], list[int]]) -> None:
    spans, numbers = case
    got = WordSet.of(spans).contains(np.array(numbers, np.uint64))
    assert got.tolist() == [any(low <= n <= high for low, high in spans) for n in numbers]


@given(sets(128))
def test_addresses_in_a_set(case: tuple[list[Interval], list[int]]) -> None:
    spans, numbers = case
    high = np.array([n >> 64 for n in numbers], np.uint64)
    low = np.array([n & WORD for n in numbers], np.uint64)
    got = AddressSet.of(spans).contains(high, low)
    assert got.tolist() == [any(a <= n <= b for a, b in spans) for n in numbers]


@given(st.ip_addresses(), st.data())
def test_a_prefix_is_the_networks_addresses(host: object, data: st.DataObject) -> None:
    text = str(host)
    length = data.draw(st.integers(0, 32 if "." in text and ":" not in text else 128))
    network = ip_network(f"{text}/{length}", strict=False)
    spans = prefix(f"{text}/{length}")
    edges = [address(str(network[0])), address(str(network[-1])), MAPPED, MAPPED_LAST, 0, 1]
    for number in (*edges, *data.draw(st.lists(st.integers(0, (1 << 128) - 1), max_size=4))):
        is_v4 = MAPPED <= number <= MAPPED_LAST
        plain = ip_address(number & 0xFFFF_FFFF) if is_v4 else ip_address(number.to_bytes(16))
        # A prefix within the mapped block is IPv4 in other words.
        narrow = network.version == 6 and network.subnet_of(ip_network("::ffff:0:0/96"))
        if narrow:
            expected = int(network[0]) <= number <= int(network[-1])
        else:
            expected = plain in network and (number != 0 or network.num_addresses == 1)
        assert any(low <= number <= high for low, high in spans) == expected, number


def test_families_stay_apart() -> None:
    assert prefix("0.0.0.0/0") == ((MAPPED, MAPPED_LAST),)
    assert prefix("::/0") == ((1, MAPPED - 1), (MAPPED_LAST + 1, (1 << 128) - 1))
    assert prefix("::fffe:0:0/95") == ((0xFFFE << 32, MAPPED - 1),)
    assert prefix("::") == ((0, 0),)
    assert prefix("::ffff:10.0.0.0/104") == prefix("10.0.0.0/8")


@pytest.mark.parametrize(
    "text",
    ["", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "::/129", "fe80::1%eth0", "fe80::%1/64",
     "10.0.0.0/+8", "10.0.0.0/0.0.0.255", "1", "x"],
)  # fmt: skip
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(ValueError):
        prefix(text)
