"""Replay in-process: captures through a collector and aggregators on capture time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowray.ingest.collector import Collector
from flowray.ingest.ledger import Snapshot, ViewAccount, merge_snapshots, problems
from flowray.ingest.sequence_runs import without_sequences
from flowray.rib.collector import RouteCollector
from flowray.rib.journal import Labels
from flowray.rib.mrt_routes import MrtRoutes
from flowray.rib.replay import RouteReplay
from flowray.rib.streams import Stream
from flowray.settings.compile import Program
from flowray.sinks.base import Sink
from flowray.views.aggregate import END_OF_INPUT, Aggregator
from flowray.views.view import Partial
from flowray.wire.packets import PacketBatch
from flowray.wire.segments import SegmentBatch

HAND_OVER_ROWS = 1 << 20
"""Rows of open partials at which a replay hands over. Live, a second's worth does."""

SinkFor = Callable[[str, int], Sequence[Sink]]
"""Sinks of a view's partition."""


@dataclass(slots=True)
class Summary:
    """What a run did. `problems` is empty if the ledger balances, `unstored` if sinks took all."""

    datagrams: int
    records: int
    rows: int
    seconds: float
    cpu_seconds: float
    ledger: Snapshot
    problems: list[str]
    captures: list[dict[str, Any]] = field(default_factory=list)
    unstored: list[str] = field(default_factory=list)
    missing: int = 0
    """Datagrams that shards took once and that the archive lacks."""

    def to_dict(self) -> dict[str, Any]:
        """The summary line that the command prints."""
        return {
            "datagrams": self.datagrams,
            "records": self.records,
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "balanced": not self.problems,
            "problems": self.problems,
            "unstored": self.unstored,
            "missing": self.missing,
            "captures": self.captures,
            "ledger": self.ledger,
        }


class Replay:
    """One collector and the aggregators of all views in this process."""

    def __init__(self, program: Program, sinks: SinkFor) -> None:
        self.collector = Collector(program)
        self.aggregators = {
            (plan.name, p): Aggregator(plan, sinks(plan.name, p), p)
            for plan in program.views
            for p in range(plan.partitions)
        }
        streams = {name: Stream(name, sinks(name, 0)) for name in program.streams}
        self.routes = routes_of(program, streams)
        self._clock = 0
        self._started = (time.monotonic(), time.process_time())

    def feed(self, batch: PacketBatch | SegmentBatch) -> None:
        """Take a batch in capture order."""
        if not len(batch):
            return
        self._clock = max(self._clock, int(batch.arrival[-1]))
        if isinstance(batch, SegmentBatch):
            assert self.routes is not None, "segments are read for the ports of listeners alone"
            self.routes.feed(batch)
            return
        for part in self._joined(batch):
            self.collector.feed(part)
        if self.collector.pending_rows >= HAND_OVER_ROWS:
            self._hand_over(self._clock)

    def add_mrt(self, path: Path) -> MrtRoutes:
        """Have the routes of an MRT file come in as capture time goes on. Raises CaptureError."""
        assert self.routes is not None, "the configuration has a BGP listener, or there is no join"
        return self.routes.add_mrt(path)

    def _joined(self, batch: PacketBatch) -> Iterator[PacketBatch]:
        """The parts of a batch, each when flows are joined with the routes of its time."""
        if self.routes is None:
            yield batch
            return
        for part, snapshot in self.routes.parts(batch):
            if snapshot is not None and self.collector.join is not None:
                self.collector.join.install(snapshot)
            yield part

    def _hand_over(self, watermark: int) -> None:
        for partial in self.collector.hand_over(watermark):
            self._deliver(partial)

    def _deliver(self, partial: Partial) -> None:
        aggregator = self.aggregators[partial.view, partial.partition]
        aggregator.merge(partial)
        aggregator.advance()
        # Nothing here outlives the process: merged is as good as stored.
        self.collector.acknowledge(partial.view, partial.partition, partial.sequence)

    def end_of_input(self) -> None:
        """Hand over what is open and close every window."""
        self._hand_over(END_OF_INPUT)
        if self.routes is not None:
            self.routes.end(self._clock)

    def finish(self) -> Summary:
        """Close windows and sinks; what the run did."""
        self.end_of_input()
        for aggregator in self.aggregators.values():
            aggregator.close()
        if self.routes is not None:
            self.routes.collector.close_streams()
        summary = summarise(
            [self.collector.snapshot()],
            self.collector.sets_held,
            list(self.aggregators.values()),
            self._started,
        )
        if self.routes is not None:
            summary.unstored += self.routes.collector.unstored()
        return summary


def routes_of(program: Program, streams: Mapping[str, Stream]) -> RouteReplay | None:
    """What takes routes, if the configuration has them received. Raises ConfigError."""
    if program.join is None:
        return None
    settings = program.settings
    labels = Labels(program.labels, frozenset(settings.maps.labels_apply_to))
    return RouteReplay(settings, RouteCollector(settings, streams, labels))


def aggregator_snapshot(aggregator: Aggregator) -> Snapshot:
    """The accounts of an aggregator as a ledger."""
    accounts = {a.label: int(aggregator.accounts[a]) for a in ViewAccount if aggregator.accounts[a]}
    return {"exporters": {}, "views": {aggregator.plan.name: accounts}}


def summarise(
    snapshots: Sequence[Snapshot],
    held: int,
    aggregators: Sequence[Aggregator],
    started: tuple[float, float],
) -> Summary:
    """Merge the accounts of collectors and aggregators of one process."""
    ledger = merge_snapshots([*snapshots, *map(aggregator_snapshot, aggregators)])
    still_open: dict[str, int] = {}
    for a in aggregators:
        still_open[a.plan.name] = still_open.get(a.plan.name, 0) + a.open_records
    exporters = ledger["exporters"].values()
    return Summary(
        datagrams=sum(row.get("datagrams", 0) for row in exporters),
        records=sum(row.get("records", 0) for row in exporters),
        rows=sum(a.rows_committed for a in aggregators),
        seconds=time.monotonic() - started[0],
        cpu_seconds=time.process_time() - started[1],
        ledger=without_sequences(ledger),
        problems=problems(ledger, held=held, open_records=still_open),
        unstored=[
            f"{a.outstanding} commits of {a.plan.name} are not stored: {a.last_sink_error}"
            for a in aggregators
            if a.outstanding
        ],
    )
