"""Sampling rates that two elements tell together, against exact fractions."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.flow.rates import RatePair, rates

NUMBERS = st.integers(0, 1 << 32) | st.integers(0, 20)


def naive(first: int, second: int, *, spaced: bool) -> int:
    if second == 0:
        return 0
    return min(round(Fraction(first + second * spaced, second)), 0xFFFFFFFF)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5),
    st.sampled_from([(5, 8), (8, 5)]),
    st.booleans(),
    st.booleans(),
)
def test_like_fractions(
    told: list[tuple[int, int]], size: tuple[int, int], spaced: bool, turned: bool
) -> None:
    records, places = b"", []
    for pair in told:
        values = [v.to_bytes(n) for v, n in zip(pair, size, strict=True)]
        records += b"\xff"
        places.append(len(records) + (size[1] if turned else 0))
        records += b"".join(reversed(values) if turned else values)
    location = np.array([p << 16 | size[0] for p in places], np.uint64)
    pair_at = RatePair(0, -size[1] if turned else size[0], size, spaced)
    got = rates(np.frombuffer(records, np.uint8), location, pair_at)
    assert got.tolist() == [naive(*pair, spaced=spaced) for pair in told]
