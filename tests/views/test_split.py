"""Splitting flows over windows: integer shares that add up."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.views import kernels as k
from tests.views.view_twin import parts_of

S = 10**9
WIDTH = st.sampled_from([S, 7 * S, 60 * S])
FLOW = st.tuples(
    st.one_of(st.integers(0, 200 * S), st.integers(0, 20).map(lambda n: n * 30 * S)),
    st.one_of(st.just(0), st.integers(0, 500 * S), st.integers(0, 20).map(lambda n: n * S)),
    st.lists(st.one_of(st.integers(0, 9), st.integers(0, (1 << 64) - 1)), min_size=2, max_size=2),
)


@given(
    st.lists(FLOW, max_size=10),
    WIDTH,
    st.integers(0, 6 * S),
    st.one_of(st.just(10_000), st.integers(1, 5)),
)
def test_shares(
    flows: list[tuple[int, int, list[int]]], width: int, offset: int, most: int
) -> None:
    start = np.array([s for s, _, _ in flows], np.int64)
    end = start + np.array([d for _, d, _ in flows], np.int64)
    totals = np.array([t for *_, t in flows], np.uint64).reshape(-1, 2).T.copy()
    parts = np.zeros(len(flows), np.int64)
    total = k.count_parts(start, end, width, offset, most, parts)
    source, begins = np.empty(total, np.int64), np.empty(total, np.int64)
    shares = np.empty((2, total), np.uint64)
    k.split(start, end, width, offset, parts, totals, source, begins, shares)
    at = 0
    for r, (begin, duration, amounts) in enumerate(flows):
        moments = parts_of(begin, begin + duration, width, offset, most)
        mine = slice(at, at + len(moments))
        assert source[mine].tolist() == [r] * len(moments)
        assert begins[mine].tolist() == moments
        for c, amount in enumerate(amounts):
            given_out = [int(v) for v in shares[c, mine]]
            assert sum(given_out) == amount
            assert all(v <= amount for v in given_out)
            if len(moments) < most:
                assert_proportional(given_out, amount, moments, begin, begin + duration)
        at += len(moments)
    assert at == total


def assert_proportional(
    shares: list[int], amount: int, moments: list[int], start: int, end: int
) -> None:
    """What is given out up to an edge is the floor of its share of the time in milliseconds."""
    duration = max((end - start) // 10**6, 1)
    given_out = 0
    for share, edge in zip(shares, moments[1:], strict=False):
        given_out += share
        elapsed = min((edge - start) // 10**6, duration)
        exact = Fraction(amount * elapsed, duration)
        assert exact - 1 < given_out <= exact


def test_an_end_on_the_edge_is_in_the_window_before() -> None:
    parts = np.zeros(3, np.int64)
    start, end = np.array([0, 0, 60], np.int64) * S, np.array([60, 61, 60], np.int64) * S
    assert k.count_parts(start, end, 60 * S, 0, 9, parts) == 4
    assert parts.tolist() == [1, 2, 1]
