"""Sequence accounts by exporter and place, against a plain account of each place."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.sequence_runs import IN_LINE, LATE, LATE_NS, Run, Told, bounded
from flowray.ingest.sequences import Sequences

NEAR = st.one_of(
    st.integers(0, 60), st.integers((1 << 32) - 20, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)
)
MESSAGE = st.tuples(
    st.integers(1, 3),
    st.sampled_from([0, 1, (1 << 36) - 1]),
    NEAR,
    st.integers(-1, 30),
    st.sampled_from([0, 1, LATE_NS // 2, 2 * LATE_NS]),
)
Messages = list[tuple[int, int, int, int, int]]


@dataclass
class Naive:
    """One place. A message: number, units (-1: not known), arrival."""

    run: Run | None = None
    unsure: bool = False
    bad: tuple[int, int, int] | None = None
    ended: list[Run] = field(default_factory=list)

    def take(self, q: int, step: int, at: int) -> None:
        units, run = max(step, 0), self.run
        if run is None:
            self.run, self.unsure = Run(q, units, units, 0, at, at), step < 0
            return
        ahead = (q - run.lo - run.span) % (1 << 32)
        behind = (1 << 32) - ahead
        if ahead < IN_LINE:
            self.run = Run(
                run.lo,
                run.span + ahead + units,
                run.received + units,
                run.skipped + (ahead if self.unsure else 0),
                run.first,
                at,
            )
            self.unsure, self.bad = step < 0, None
        elif at - run.first <= LATE_NS and run.span < behind <= run.span + LATE:
            self.run = run._replace(lo=q, span=behind, received=run.received + units)
        elif (
            behind <= LATE
            and units <= run.span - run.received - run.skipped
            and at - run.last <= LATE_NS
        ):
            self.run = run._replace(received=run.received + units)
        elif self.bad is not None and (q - self.bad[0] - self.bad[1]) % (1 << 32) < IN_LINE:
            first, had, since = self.bad
            self.ended = bounded([*self.ended, run])
            span = (q - first) % (1 << 32) + units
            self.run = Run(first, span, had + units, 0, since, at)
            self.unsure, self.bad = step < 0, None
        else:
            self.bad = q, units, at

    @property
    def runs(self) -> list[list[int]]:
        return [list(run) for run in [*self.ended, self.run] if run is not None]


def name(exporter: int) -> str:
    return f"192.0.2.{exporter}"


def feed(sequences: Sequences, batch: Messages, since: int) -> list[tuple[int, ...]]:
    exporter, place, number, step, pause = np.array(batch, np.int64).reshape(-1, 5).T.copy()
    arrival = since + np.cumsum(pause)
    sequences.account(exporter, place, number, step, arrival)
    return list(zip(*(c.tolist() for c in (exporter, place, number, step, arrival)), strict=True))


@given(st.lists(st.lists(MESSAGE, max_size=40), max_size=3), st.sampled_from([2, 1000]))
def test_accounts(batches: list[Messages], limit: int) -> None:
    sequences = Sequences(limit)
    naive: dict[tuple[int, int], Naive] = {}
    now = 1_000_000
    for batch in batches:
        messages = feed(sequences, batch, now)
        # New places of a batch take their accounts in order of exporter and place.
        for where in sorted({(x, p) for x, p, *_ in messages} - naive.keys()):
            if len(naive) < limit:
                naive[where] = Naive()
        for x, p, *message in messages:
            if (x, p) in naive:
                naive[x, p].take(*message)
        now = messages[-1][-1] if messages else now
    expected: Told = {}
    for (x, p), account in naive.items():
        expected.setdefault(name(x), {})[str(p)] = account.runs
    assert sequences.told(name) == expected


def test_growth_keeps_accounts() -> None:
    sequences = Sequences(1000)
    place, ones = np.arange(500, dtype=np.int64), np.ones(500, np.int64)
    for number in (10, 15):
        sequences.account(ones, place, ones * number, ones, ones)
    told = sequences.told(name)["192.0.2.1"]
    assert len(told) == 500
    assert {Run(*runs[0]).missing for runs in told.values()} == {4}


def test_places_past_the_limit_disturb_no_one() -> None:
    sequences = Sequences(1)
    one, many = np.ones(1, np.int64), np.arange(50, dtype=np.int64)
    sequences.account(one, one, one, one, one)
    sequences.account(np.full(50, 2), many, many * 1000, np.ones(50, np.int64), many)
    sequences.found(np.full(50, 2), many, many * 1000, np.ones(50, np.int64))
    sequences.account(one, one, one + 1, one, one)
    assert sequences.told(name) == {"192.0.2.1": {"1": [[1, 2, 2, 0, 1, 1]]}}


@given(st.lists(MESSAGE, max_size=40), st.lists(MESSAGE, max_size=20))
def test_a_successor_goes_on(before: Messages, after: Messages) -> None:
    """As if there had been no other."""
    one, two, both = Sequences(10), Sequences(10), Sequences(10)
    for sequences in (one, both):
        feed(sequences, before, 1_000_000)
    two.restore(one.table())
    assert two.told(name) == one.told(name)
    for sequences in (two, both):
        feed(sequences, after, 1 << 40)
    assert two.told(name) == both.told(name)
