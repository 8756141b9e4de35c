"""Dump schedules: every router once a period, whatever the clock does."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.dumps import Due, DumpSchedule

SECOND = 1_000_000_000
ROUTERS = [f"198.51.100.{n}" for n in range(40)] + [f"2001:db8::{n:x}" for n in range(40)]

periods = st.sampled_from([60, 300, 3600, 86400]).map(lambda s: s * SECOND)


@given(periods, st.integers(1, 3600), st.integers(0, 10**18), st.lists(st.integers(0, 10**11)))
def test_no_router_is_missed_or_dumped_twice(
    every: int, slots: int, start: int, steps: list[int]
) -> None:
    schedule = DumpSchedule(every, slots)
    assert list(schedule.due(start)) == []
    now, told = start, list[Due]()
    for step in steps:
        now += step
        due = list(schedule.due(now))
        assert all(now - every < d.time_ns <= now for d in due), "late, but of this period"
        assert len({d.slot for d in due}) == len(due)
        told += due
    times = [d.time_ns for d in told]
    assert times == sorted(set(times))
    if all(step < every // slots for step in steps):
        expected = sum(1 for _ in steps_of(every, slots, start, now))
        assert len(told) == expected


def steps_of(every: int, slots: int, start: int, now: int) -> list[int]:
    """Beginnings of slots in (start, now], from the naive definition."""
    first, last = start // every, now // every
    return [
        at
        for period in range(first, last + 1)
        for slot in range(slots)
        if start < (at := period * every + slot * every // slots) <= now
    ]


@pytest.mark.parametrize("slots", [1, 3, 7, 60, 3600])
def test_every_router_once_a_period_at_its_own_time(slots: int) -> None:
    every = 3600 * SECOND
    schedule = DumpSchedule(every, slots)
    list(schedule.due(0))
    dumped: Counter[str] = Counter()
    when: dict[str, set[int]] = {}
    for second in range(1, 3 * 3600 + 1):
        for due in schedule.due(second * SECOND):
            for router in filter(due.takes, ROUTERS):
                dumped[router] += 1
                when.setdefault(router, set()).add(due.time_ns % every)
    assert set(dumped) == set(ROUTERS)
    assert set(dumped.values()) == {3}
    assert all(len(times) == 1 for times in when.values())
    assert len(set.union(*when.values())) > min(slots, 10) // 2


@pytest.mark.parametrize("slots", [1, 7, 13, 3599])
def test_periods_begin_at_whole_multiples_whatever_the_slots(slots: int) -> None:
    every = 60 * SECOND
    schedule = DumpSchedule(every, slots)
    start = 1_700_000_000 * SECOND // every * every
    list(schedule.due(start - 1))
    times = [d.time_ns for d in schedule.due(start + every - 1) if d.slot == 0]
    assert times == [start]


def test_a_clock_that_goes_back_repeats_nothing() -> None:
    schedule = DumpSchedule(60 * SECOND, 1)
    list(schedule.due(0))
    assert len(list(schedule.due(60 * SECOND))) == 1
    assert list(schedule.due(10 * SECOND)) == []
    assert list(schedule.due(60 * SECOND)) == []
    assert len(list(schedule.due(120 * SECOND))) == 1


def test_after_a_long_pause_there_is_one_dump() -> None:
    schedule = DumpSchedule(60 * SECOND, 2)
    list(schedule.due(0))
    assert [(d.time_ns // SECOND, d.slot) for d in schedule.due(1000 * SECOND)] == [
        (960, 0),
        (990, 1),
    ]
