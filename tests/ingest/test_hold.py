"""Held sets against a plain list, with bounds on memory and age."""

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.hold import SET_COST, HeldSet, Hold
from flowray.ingest.templates import TemplateKey

KEYS = [TemplateKey(exporter, 0, 10, number) for exporter in (1, 2) for number in (256, 257)]
AGE = 10

PUT = st.tuples(st.just("put"), st.sampled_from(KEYS), st.integers(0, 30), st.integers(0, 60))
TAKE = st.tuples(st.just("take"), st.sampled_from(KEYS), st.just(0), st.just(0))
EXPIRE = st.tuples(st.just("expire"), st.none(), st.just(0), st.integers(0, 70))


def cost(sets: list[tuple[TemplateKey, HeldSet]]) -> int:
    return sum(len(s.raw) + SET_COST for _, s in sets)


@given(
    st.lists(st.one_of(PUT, PUT, PUT, TAKE, EXPIRE), max_size=60),
    st.integers(0, 5 * SET_COST),
    st.integers(0, 8 * SET_COST),
)
def test_like_a_list(
    steps: list[tuple[str, TemplateKey | None, int, int]], per_exporter: int, limit: int
) -> None:
    hold, twin = Hold(per_exporter, limit, AGE), list[tuple[TemplateKey, HeldSet]]()
    for what, key, size, moment in steps:
        if what == "put":
            assert key is not None
            mine = [(k, s) for k, s in twin if k.exporter == key.exporter]
            fits = max(cost(mine) - per_exporter, cost(twin) - limit) + size + SET_COST <= 0
            assert hold.room(key.exporter, size) == fits
            if fits:
                held = HeldSet(bytes(size), np.zeros(8, np.int64), moment)
                hold.put(key, held)
                twin.append((key, held))
        elif what == "take":
            assert key is not None
            taken = [s for k, s in twin if k == key]
            assert all(a is b for a, b in zip(hold.take(key), taken, strict=True))
            twin = [(k, s) for k, s in twin if k != key]
        else:
            old = [(k, s) for k, s in twin if moment - s.arrival > AGE]
            counted = sorted(hold.expire(moment))
            expected = [
                (k.exporter, len(list(group)))
                for k, group in groupby(sorted((k for k, _ in old), key=repr))
            ]
            assert counted == sorted(expected)
            twin = [(k, s) for k, s in twin if moment - s.arrival <= AGE]
        assert len(hold) == len(twin)
        assert hold.octets == cost(twin) <= limit
        assert set(hold.waiting) == {k for k, _ in twin}


def test_sets_without_octets_are_bounded() -> None:
    hold = Hold(100 * SET_COST, 100 * SET_COST, AGE)
    held = 0
    while hold.room(1, 0):
        hold.put(KEYS[0], HeldSet(b"", np.zeros(8, np.int64), 0))
        held += 1
    assert held == 100
