"""Runs of numbers seen by several shards, put together, against one who saw what was sent."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.sequence_kernels import COLUMNS, RUN, STATE, find, follow
from flowray.ingest.sequence_runs import MOST_RUNS, Run, bounded, join_runs, join_told, with_gaps

WORD = 1 << 32
SECOND = 1_000_000_000


@dataclass
class Shard:
    """What one shard keeps of one place."""

    state: np.ndarray = field(default_factory=lambda: np.zeros((1, COLUMNS), np.int64))
    ended: list[Run] = field(default_factory=list)

    def take(self, messages: list[tuple[int, int, int]]) -> None:
        sequence, step, arrival = np.array(messages, np.int64).reshape(-1, 3).T.copy()
        closed = np.empty((len(messages) // 2 + 1, 7), np.int64)
        slot = np.zeros(len(messages), np.int64)
        n = follow(slot, sequence, step, arrival, self.state, closed)
        self.ended += [Run(*row) for row in closed[:n, 1:].tolist()]

    def found(self, sequence: int, units: int) -> None:
        one = np.zeros(1, np.int64)
        find(one, one + sequence, one + units, self.state)

    @property
    def runs(self) -> list[Run]:
        now = [Run(*self.state[0, RUN].tolist())] if self.state[0, STATE] else []
        return [*self.ended, *now]


@dataclass(frozen=True)
class Sent:
    """A message: its life of the exporter, number (not wrapped), units, arrival."""

    life: int
    number: int
    units: int
    at: int


def naive(received: list[Sent]) -> tuple[int, int]:
    """Units missing between the first and last of each life that came, and lives but one."""
    missing = 0
    lives = {m.life for m in received}
    for life in lives:
        mine = [m for m in received if m.life == life]
        begin = min(m.number for m in mine)
        end = max(m.number + m.units for m in mine)
        missing += end - begin - sum(m.units for m in mine)
    return missing, len(lives) - 1


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Sent], list[int]]:
    """What arrived, in order of arrival, and which shard got it."""
    shards = draw(st.integers(1, 4))
    at = 0
    received: list[Sent] = []
    where: list[int] = []
    for life in range(draw(st.integers(1, 3))):
        # Lives are told apart where more was counted than can have been overtaken or lost.
        number = draw(st.integers(100_000, 3_000_000_000)) if not life else 0
        n = draw(st.integers(30, 60))
        units = draw(st.lists(st.integers(300, 900), min_size=n, max_size=n))
        lost = draw(st.sets(st.integers(8, n - 5), max_size=n // 3))
        for i, step in enumerate(units):
            if i not in lost:
                received.append(Sent(life, number, step, at))
                # The first and last few go to all shards in turn: each sees every life twice
                # before its numbers are past those of the last one.
                spread = i % shards if i < 8 or i >= n - 4 else draw(st.integers(0, shards - 1))
                where.append(spread)
            number += step
            at += SECOND // 10
        at += 60 * SECOND
    return received, where


@given(stories())
def test_what_shards_saw_adds_up(story: tuple[list[Sent], list[int]]) -> None:
    received, where = story
    shards = [Shard() for _ in range(4)]
    for message, shard in zip(received, where, strict=True):
        shards[shard].take([(message.number % WORD, message.units, message.at)])
    joined = join_runs(run for shard in shards for run in shard.runs)
    missing, restarts = naive(received)
    assert sum(run.missing for run in joined) == missing
    assert len(joined) - 1 == restarts


@given(stories(), st.integers(0, 50))
def test_an_exporter_that_moves_leaves_no_gap(
    story: tuple[list[Sent], list[int]], cut: int
) -> None:
    """All to one shard, then all to another; and the first is restored in a third."""
    received, _ = story
    first, second = Shard(), Shard()
    first.take([(m.number % WORD, m.units, m.at) for m in received[:cut]])
    second.take([(m.number % WORD, m.units, m.at) for m in received[cut:]])
    joined = join_runs([*second.runs, *join_runs(first.runs)])
    assert (sum(run.missing for run in joined), len(joined) - 1) == naive(received)


def test_numbers_wrap() -> None:
    shards = [Shard(), Shard()]
    number = WORD - 5_000
    for i in range(100):
        shards[i % 2].take([(number % WORD, 100, i * SECOND)])
        number += 100
    (run,) = join_runs([*shards[0].runs, *shards[1].runs])
    assert (run.missing, run.span, run.lo) == (0, 10_000, WORD - 5_000)


def test_many_rounds_of_the_numbers_are_told_by_time() -> None:
    """One shard saw an exporter for three rounds, another from the second on."""
    one, two = Shard(), Shard()
    number, step = 7, 1 << 27
    for i in range(100):
        shard = two if i >= 40 and i % 2 else one
        if i != 70:
            shard.take([(number % WORD, step, i * SECOND)])
        number += step
    (run,) = join_runs([*two.runs, *one.runs])
    assert run.missing == step


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (2, 1, 3, 0), (3, 2, 1, 0)])
def test_reordering_is_no_loss(order: tuple[int, ...]) -> None:
    shard = Shard()
    shard.take([(10 * i, 10, 0) for i in order])
    (run,) = shard.runs
    assert (run.lo, run.span, run.missing) == (0, 40, 0)


def test_doubled_and_spoofed_messages_begin_nothing_anew() -> None:
    shard = Shard()
    for i in range(50):
        shard.take([(i, 1, i), (i, 1, i)])
        shard.take([(2_000_000_000 + 77 * i * i, 1, i)] if i % 5 == 3 else [])
    (run,) = shard.runs
    assert run.missing == 0
    assert run.span == 50


def test_records_found_later_are_none_missing() -> None:
    shard = Shard()
    shard.take([(100, 0, 0), (110, 4, 1)])  # the first message waits for its template
    assert shard.runs[0].missing == 10
    shard.found(100, 10)
    assert shard.runs[0].missing == 0
    shard.take([(114, 0, 2)])
    shard.found(114, 6)
    shard.take([(120, 1, 3)])
    assert shard.runs[0].missing == 0
    shard.found(3_000_000_000, 5)  # of a life that is over
    assert shard.runs[0].received == 21


def test_records_that_nobody_can_count_are_none_missing() -> None:
    shard = Shard()
    shard.take([(100, 5, 0), (105, -1, 1), (135, 5, 2), (150, 5, 3)])
    (run,) = shard.runs
    assert (run.skipped, run.missing) == (30, 10)


def test_runs_are_bounded() -> None:
    shard = Shard()
    for life in range(100):
        start = 10_000 if life % 2 else 3_000_000_000
        at = life * 60 * SECOND
        shard.take([(start + 5000 * i, 5000, at) for i in (0, 1, 9)])
    runs = bounded(shard.runs)
    assert len(runs) == MOST_RUNS
    assert sum(run.missing for run in runs) == 700 * 5000
    again = join_runs([*runs, *bounded(runs[:1])])
    assert sum(run.missing for run in again) == 700 * 5000 + runs[0].missing


def test_gaps_are_told_by_exporter() -> None:
    told = [
        {"192.0.2.1": {"10": [[0, 10, 5, 0, 0, 90]]}},
        {"192.0.2.1": {"10": [[5, 5, 4, 0, 50, 90]], "26": [[0, 9, 9, 0, 0, 1]]}},
    ]
    joined = join_told(told)
    assert joined["192.0.2.1"]["10"] == [[0, 10, 9, 0, 0, 90]]
    snapshot = {"exporters": {"192.0.2.1": {"sequence_gap": 77}}, "sequences": joined}
    assert with_gaps(snapshot)["exporters"] == {"192.0.2.1": {"sequence_gap": 1}}
