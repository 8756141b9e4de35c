"""How many shards a node should have, on traces of load."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flowray.fleet.scaling import FALL_SECONDS, SETTLE_SECONDS, Load, Scale, no_room, scaled


def run(
    trace: list[tuple[float, Load]], least: int = 1, most: int = 4, shards: int = 1
) -> list[tuple[float, int]]:
    """When the number changed, and to what."""
    scale, changes = Scale(shards), []
    for now, load in trace:
        after = scaled(scale, load, now, least, most)
        if after.shards != scale.shards:
            changes.append((now, after.shards))
        scale = after
    return changes


def seconds(n: int, load: Load, start: int = 0) -> list[tuple[float, Load]]:
    return [(float(start + i), load) for i in range(n)]


BUSY_ONE = Load((0.9,))


def test_a_busy_shard_gets_company_after_a_while() -> None:
    assert run(seconds(10, BUSY_ONE)) == []
    assert run(seconds(12, BUSY_ONE)) == [(10.0, 2)]


def test_a_burst_changes_nothing() -> None:
    trace = seconds(8, BUSY_ONE) + seconds(1, Load((0.3,)), 8) + seconds(8, BUSY_ONE, 9)
    assert run(trace) == []


def test_drops_ask_at_once() -> None:
    assert run([(0.0, Load((0.2,), drops=5))]) == [(0.0, 2)]


def test_a_full_buffer_asks_too() -> None:
    assert run(seconds(12, Load((0.2,), buffer_full=0.9))) == [(10.0, 2)]


def test_after_a_change_the_load_is_left_alone_for_a_while() -> None:
    trace = seconds(200, Load((0.9, 0.9, 0.9, 0.9), drops=1))
    changes = run(trace)
    assert [n for _, n in changes] == [2, 3, 4]
    assert all(b[0] - a[0] >= SETTLE_SECONDS for a, b in pairwise(changes))


def test_shards_that_start_are_waited_for() -> None:
    assert run(seconds(60, Load((0.9,), drops=1)), shards=2) == []


def test_calm_shards_become_fewer_one_by_one_but_not_too_few() -> None:
    calm = Load((0.1, 0.1, 0.1))
    changes = run(seconds(2000, calm), shards=3, least=1)
    assert [n for _, n in changes] == [2, 1]
    assert changes[0][0] == FALL_SECONDS
    assert run(seconds(2000, calm), shards=3, least=3) == []


def test_what_the_rest_could_not_bear_stays() -> None:
    assert run(seconds(2000, Load((0.3, 0.3))), shards=2) == []


def test_it_does_not_swing() -> None:
    """The same work on any number of shards: there is a number at which it stays."""
    for work in (0.2, 0.8, 1.4, 2.2, 3.5):
        scale, changes = Scale(1), 0
        for now in range(20_000):
            share = work / scale.shards
            after = scaled(scale, Load((min(share, 1.0),) * scale.shards), now, 1, 4)
            changes += after.shards != scale.shards
            scale = after
        assert changes <= 3, work


def test_bounds_hold_at_once() -> None:
    assert scaled(Scale(7), BUSY_ONE, 0, 1, 4).shards == 4
    assert scaled(Scale(1), BUSY_ONE, 0, 2, 4).shards == 2


def test_a_node_at_its_bound_asks_for_others() -> None:
    scale = Scale(2)
    load = Load((0.9, 0.9))
    for now in range(12):
        scale = scaled(scale, load, now, 1, 2)
        assert no_room(scale, load, now, 2) == (now >= 10)
    assert not no_room(scaled(Scale(1), load, 0, 1, 2), load, 20, 2)


@given(
    st.lists(
        st.tuples(st.lists(st.floats(0, 1), max_size=5), st.floats(0, 1), st.integers(0, 2)),
        max_size=100,
    ),
    st.integers(1, 3),
    st.integers(3, 6),
)
def test_any_load_keeps_within_bounds_and_one_step_at_a_time(
    trace: list[tuple[list[float], float, int]], least: int, most: int
) -> None:
    scale = Scale(least)
    for now, (busy, full, drops) in enumerate(trace):
        after = scaled(scale, Load(tuple(busy), full, drops), now * 5, least, most)
        assert least <= after.shards <= most
        assert abs(after.shards - scale.shards) <= 1
        scale = after
