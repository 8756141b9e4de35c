"""Aggregators: the same commits however records are spread over shards, partials and crashes."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.ledger import ViewAccount
from flowray.sinks.base import Commit, MemorySink, SinkError
from flowray.state.store import open_store
from flowray.views import aggregate
from flowray.views.aggregate import END_OF_INPUT, Aggregator
from flowray.views.view import Partial, ViewPlan
from flowray.views.window import Windows
from tests.views.records import (
    NOW,
    PLANS,
    Record,
    Row,
    S,
    Shard,
    column,
    plan,
    records,
    rows_of,
)

WINDOWED = tuple(kind for kind in PLANS if kind.get("windows", 1) is not None)


class Run:
    """Aggregators of all partitions, each with a sink; `restart` crashes and restores one."""

    def __init__(self, view: ViewPlan, shards: Iterable[str]) -> None:
        self.plan, self.shards = view, list(shards)
        self.sinks = [MemorySink() for _ in range(view.partitions)]
        self.aggregators = [self._new(p) for p in range(view.partitions)]

    def _new(self, partition: int) -> Aggregator:
        return Aggregator(self.plan, [self.sinks[partition]], partition, self.shards)

    def deliver(self, partials: Iterable[Partial]) -> None:
        for partial in partials:
            self.aggregators[partial.partition].merge(partial)
            self.aggregators[partial.partition].advance()

    def checkpoint(self, partition: int) -> tuple[dict[str, Any], dict[str, pa.Table]]:
        description, tables, _ = self.aggregators[partition].state()
        description = json.loads(json.dumps(description))
        self.aggregators[partition].acknowledge(description)
        return description, tables

    def restart(self, partition: int, state: tuple[dict[str, Any], dict[str, pa.Table]]) -> None:
        self.aggregators[partition] = self._new(partition)
        self.aggregators[partition].restore(*state)

    def committed(self) -> dict[str, list[Row]]:
        """Rows by commit."""
        return {name: rows_of(table) for sink in self.sinks for name, table in sink.tables.items()}

    def account(self, account: ViewAccount) -> int:
        return sum(int(a.accounts[account]) for a in self.aggregators)


def at_once(view: ViewPlan, rows: list[Record]) -> Run:
    """Everything through one shard in one partial."""
    shard, run = Shard(view), Run(view, ["0"])
    shard.offer(rows)
    run.deliver(shard.hand_over(END_OF_INPUT))
    return run


def spread(view: ViewPlan, rows: list[Record], rng: random.Random) -> tuple[Run, list[Shard]]:
    """Each record to its shard in the order of arrival, hand-overs whenever it pleases."""
    shards = [Shard(view, str(n)) for n in range(3)]
    run = Run(view, [s.name for s in shards])
    for x in rows:
        shards[x.shard].offer([x])
        if rng.random() < 0.3:
            giver = rng.choice(shards)
            run.deliver(giver.hand_over(x.arrival))
    for shard in shards:
        run.deliver(shard.hand_over(END_OF_INPUT))
    return run, shards


def by_window(commits: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Rows by commit; those of views without windows in one, for they are numbered by partial."""
    joined: dict[str, list[Row]] = {}
    for name, rows in commits.items():
        place = "" if "/-/" in name else name
        joined[place] = sorted(joined.get(place, []) + rows)
    return joined


@given(records(), st.sampled_from(PLANS), st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_shards_nor_on_hand_overs(
    rows: list[Record], kind: dict[str, Any], rng: random.Random
) -> None:
    view = plan(**kind)
    one = at_once(view, rows)
    several, shards = spread(view, rows, rng)
    assert by_window(several.committed()) == by_window(one.committed())
    aggregated = sum(s.accounts().get("aggregated", 0) for s in shards)
    for run in (one, several):
        assert run.account(ViewAccount.COMMITTED) == aggregated
        assert sum(a.open_records for a in run.aggregators) == 0


@given(records(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_totals_do_not_depend_on_max_keys(
    rows: list[Record], max_keys: int, rng: random.Random
) -> None:
    run, _ = spread(plan(max_keys=max_keys, by_start=True), rows, rng)
    for name, value in (("packets", "packets"), ("bytes", "octets")):
        found = [v for t in run.sinks[0].tables.values() for v in column(t, name)]
        assert sum(found) % (1 << 64) == sum(getattr(x, value) for x in rows) % (1 << 64)
    for table in run.sinks[0].tables.values():
        assert column(table, "_others").count(False) <= max_keys
    assert run.account(ViewAccount.COMMITTED) == len(rows)


@given(records(), st.sampled_from(PLANS), st.randoms(use_true_random=False))
def test_crashes_and_repeats_change_nothing(
    rows: list[Record], kind: dict[str, Any], rng: random.Random
) -> None:
    """Checkpoints, crashes back to the last one, partials sent again until acknowledged."""
    view = plan(**kind)
    shards = [Shard(view, str(n)) for n in range(3)]
    run = Run(view, [s.name for s in shards])
    stored = [run.checkpoint(p) for p in range(view.partitions)]
    kept: list[Partial] = []

    def deliver(partials: list[Partial]) -> None:
        kept.extend(partials)
        run.deliver(partials)

    def resend() -> None:
        for p in kept:
            if p.sequence > run.aggregators[p.partition].acknowledged(p.shard, p.incarnation):
                run.deliver([p])

    for x in rows:
        shards[x.shard].offer([x])
        what = rng.randrange(6)
        p = rng.randrange(view.partitions)
        if what < 2:
            deliver(rng.choice(shards).hand_over(x.arrival))
        elif what == 2:
            stored[p] = run.checkpoint(p)
        elif what == 3:
            run.restart(p, stored[p])
            resend()
        elif what == 4:
            resend()
    for shard in shards:
        deliver(shard.hand_over(END_OF_INPUT))
    resend()
    assert by_window(run.committed()) == by_window(at_once(view, rows).committed())
    assert run.account(ViewAccount.COMMITTED) == sum(
        s.accounts().get("aggregated", 0) for s in shards
    )


@given(records())
def test_a_repeat_is_dropped(rows: list[Record]) -> None:
    view = plan()
    shard, run = Shard(view), Run(view, ["0"])
    shard.offer(rows)
    first = shard.hand_over(0)
    run.deliver(first * 3)
    shard.offer(rows)
    second = shard.hand_over(0)
    run.deliver([*second, *first, *second])
    assert sum(a.open_records for a in run.aggregators) == 2 * len(rows)


def partial(view: ViewPlan, rows: list[Record], sequence: int = 1, **changes: Any) -> Partial:
    shard = Shard(view)
    shard.offer(rows)
    shard.sequence = sequence - 1
    (found,) = shard.hand_over(changes.pop("watermark", 0))
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_partials_of_an_earlier_incarnation_may_come_late() -> None:
    view, rows = plan(), [Record(0, NOW)]
    aggregator = Aggregator(view, [], shards=["0"])
    old = partial(view, rows, 5, incarnation="a", watermark=NOW)
    new = partial(view, rows, 1, incarnation="b", watermark=NOW + 5)
    for p in (old, new, old, new, old):
        aggregator.merge(p)
    assert aggregator.open_records == 2
    assert aggregator.watermark == NOW + 5


def test_the_least_watermark_counts() -> None:
    view = plan()
    aggregator = Aggregator(view, [], shards=["0", "1"])
    assert aggregator.watermark == 0
    aggregator.merge(partial(view, [], 1, watermark=NOW + 9))
    assert aggregator.watermark == 0
    aggregator.merge(partial(view, [], 1, shard="1", watermark=NOW + 5))
    assert aggregator.watermark == NOW + 5
    aggregator.merge(partial(view, [], 2, shard="1", watermark=NOW + 20))
    assert aggregator.watermark == NOW + 9
    # A repeat does not turn it back.
    aggregator.merge(partial(view, [], 1, shard="1", watermark=NOW + 5))
    assert aggregator.watermark == NOW + 9
    aggregator.expect(["1"])
    assert aggregator.watermark == NOW + 20


@pytest.mark.parametrize(("late_by", "revision"), [(0, 0), (59, 0), (60, 1), (119, 1), (120, 2)])
def test_late_records_are_a_later_revision(late_by: int, revision: int) -> None:
    start = NOW // (60 * S) * 60 * S
    view, sink = plan(by_start=True, windows=Windows(60 * S)), MemorySink()
    aggregator = Aggregator(view, [sink], shards=["0"])
    arrival = start + late_by * S
    aggregator.merge(partial(view, [Record(0, arrival, age=late_by * S)], watermark=arrival))
    deadline = start + (revision + 1) * 60 * S
    assert aggregator.advance() == 0
    aggregator.merge(partial(view, [], 2, watermark=deadline - 1))
    assert aggregator.advance() == 0
    aggregator.merge(partial(view, [], 3, watermark=deadline))
    assert aggregator.advance() == 1
    assert list(sink.tables) == [Commit("v", start, start + 60 * S, 0, revision).id]


def test_what_comes_after_its_window_was_committed_is_a_revision_of_its_own() -> None:
    """As when a shard was not expected: nothing is lost, nothing committed is written over."""
    view, sink = plan(), MemorySink()
    aggregator = Aggregator(view, [sink], shards=["0"])
    aggregator.merge(partial(view, [Record(0, NOW)], watermark=NOW + 300 * S))
    assert aggregator.advance() == 1
    aggregator.merge(partial(view, [Record(0, NOW)], 2, watermark=NOW + 300 * S))
    aggregator.merge(partial(view, [], 3, watermark=END_OF_INPUT))
    aggregator.advance()
    assert len(sink.tables) == 2
    assert sum(pc.sum(t["flows"]).as_py() for t in sink.tables.values()) == 2
    assert aggregator.accounts[ViewAccount.LATE] == 1


class Reluctant(MemorySink):
    """Takes nothing for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.down = True
        self.asked: list[str] = []

    def commit(self, commit: Commit, table: pa.Table) -> None:
        self.asked.append(commit.id)
        if self.down:
            raise SinkError("not now")
        super().commit(commit, table)


def test_a_sink_that_is_down_gets_its_commits_in_order(tmp_path: Path) -> None:
    view, up, down, store = plan(), MemorySink(), Reluctant(), open_store(tmp_path)
    aggregator = Aggregator(view, [up, down], shards=["0"], store=store)
    rows = [Record(0, NOW + 60 * n * S) for n in range(4)]
    aggregator.merge(partial(view, rows, watermark=END_OF_INPUT))
    assert aggregator.advance() == 4
    assert (len(up.tables), len(down.tables), aggregator.outstanding) == (4, 0, 4)
    assert aggregator.open_records == 4
    assert set(down.asked) == {next(iter(up.tables))}  # never one before its elder
    restored = Aggregator(view, [up, down], shards=["0"], store=store)
    description, tables, listed = aggregator.state()
    restored.restore(description, tables)
    aggregator.outbox.store(listed)
    down.down = False
    restored.advance()
    assert list(down.tables) == list(up.tables)
    assert (restored.outstanding, restored.open_records) == (0, 0)
    assert restored.accounts[ViewAccount.COMMITTED] == 4


def test_windows_made_up_by_a_sender_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregate, "MAX_WINDOWS", 10)
    view, sink = plan(by_start=True), MemorySink()
    aggregator = Aggregator(view, [sink], shards=["0"])
    rows = [Record(0, NOW, age=n * 60 * S, packets=n) for n in range(500)]
    aggregator.merge(partial(view, rows))
    assert aggregator.open_windows == 10
    assert aggregator.open_records == 500
    aggregator.merge(partial(view, [], 2, watermark=END_OF_INPUT))
    aggregator.advance()
    assert sum(pc.sum(t["packets"]).as_py() for t in sink.tables.values()) == sum(range(500))
    assert sum(pc.sum(t["_others"]).as_py() for t in sink.tables.values()) == 1
    assert aggregator.accounts[ViewAccount.OTHERS] == 490
    assert aggregator.accounts[ViewAccount.COMMITTED] == 500


def test_texts_of_closed_windows_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are never all closed at once, and yet the texts of a long life do not pile up."""
    monkeypatch.setattr(aggregate, "TEXTS_KEPT", 50)
    view, sink = plan(), MemorySink()
    aggregator = Aggregator(view, [sink], shards=["0"])
    aggregator._renew_at = 50
    for n in range(60):
        rows = [Record(0, NOW + n * 60 * S, label=b"%d-%d" % (n, i)) for i in range(10)]
        aggregator.merge(partial(view, rows, n + 1, watermark=NOW + n * 60 * S))
        aggregator.advance()
        assert aggregator.open_windows >= 1
        assert len(aggregator._texts) <= 61
    aggregator.merge(partial(view, [], 100, watermark=END_OF_INPUT))
    aggregator.advance()
    labels = [v for t in sink.tables.values() for v in column(t, "label")]
    assert sorted(labels) == sorted(b"%d-%d" % (n, i) for n in range(60) for i in range(10))
    assert aggregator.accounts[ViewAccount.COMMITTED] == 600
