"""Live over UDP on loopback: cost per record, loss, and the highest rate without loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from benchmark import sums
from benchmark.context import RECORDS_PER_PACKET, Bench
from benchmark.processes import (
    Cost,
    FailedError,
    Server,
    cheapest,
    cpu_seconds,
    descendants,
    free_port,
)
from benchmark.report import Figure, Section
from benchmark.source import Sent
from benchmark.tools import Collector, MissingError


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a collector. `actors` are CPU seconds by Ray actor class, none without Ray."""

    cost: Cost
    after: Cost
    sent: Sent
    drops: int
    actors: dict[str, float]
    octets: int
    rows: pa.Table


def trial(bench: Bench, collector: Collector, limit: int | None = None) -> Trial:
    """Start it, send the capture (the first `limit` datagrams), end it; may raise as `serve`."""
    with bench.folder() as folder:
        return serve(bench, collector, folder, bench.rate, limit)


def serve(
    bench: Bench, collector: Collector, folder: Path, rate: float, limit: int | None = None
) -> Trial:
    """As `trial`, at another rate and in a folder that stays. Raises MissingError, FailedError."""
    port = free_port()
    with Server(collector.command(folder, port), port, folder) as server:
        server.settle()
        sent = bench.source.send(port, rate=rate, limit=limit)
        drops = server.settle().drops
        actors = actor_seconds(server.pid)
        cost = server.stop()
    octets = stored_octets(folder)
    after = collector.after(folder) if collector.after else Cost(0, 0)
    rows = collector.rows(folder) if collector.rows else sums.EMPTY
    return Trial(cost, after, sent, drops, actors, octets, rows)


def actor_seconds(pid: int) -> dict[str, float]:
    """CPU seconds of Ray actors below a process, by class; idle workers are Ray's own."""
    out: dict[str, float] = {}
    for child in descendants(pid):
        try:
            title = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if title.startswith("ray::") and not title.startswith("ray::IDLE"):
            name = title.removeprefix("ray::").partition(".")[0].partition("(")[0].strip()
            out[name] = out.get(name, 0.0) + cpu_seconds(child)
    return out


def stored_octets(folder: Path) -> int:
    """Octets of rows or records on disk."""
    places = (folder / "flows", folder / "out")
    files = (f for place in places for f in place.rglob("*") if f.is_file() and not f.is_symlink())
    return sum(f.stat().st_size for f in files)


@dataclass(slots=True)
class Trials:
    """Trials of a collector with all the traffic, and with next to none."""

    collector: Collector
    full: list[Trial] = field(default_factory=list)
    short: list[Trial] = field(default_factory=list)

    @property
    def best(self) -> Trial:
        """Least loss first, then least CPU."""
        return min(self.full, key=lambda t: (t.drops, t.cost.cpu + t.after.cpu))

    @property
    def rows(self) -> pa.Table:
        return self.best.rows

    @property
    def records(self) -> int:
        """Records received in the best trial, template packets taken for full ones."""
        best = self.best
        return max(best.sent.datagrams - best.drops, 1) * RECORDS_PER_PACKET

    @property
    def cost(self) -> Cost:
        """The run itself: without what start and end cost."""
        best = self.best
        live = best.cost.beyond(cheapest([t.cost for t in self.short]))
        return live + best.after.beyond(cheapest([t.after for t in self.short]))

    def actors(self) -> dict[str, float]:
        """CPU seconds by actor class in the best trial, less those of the short one."""
        start: dict[str, float] = {}
        for one in self.short:
            for name, used in one.actors.items():
                start[name] = min(start.get(name, used), used)
        return {n: max(used - start.get(n, 0.0), 0) for n, used in self.best.actors.items()}

    def figure(self) -> Figure:
        """CPU of the run itself, per record received."""
        best = self.best
        extra = {"sent": f"{best.sent.rate:,.0f} datagrams/s", "lost": best.drops}
        if best.after.cpu:
            extra["nfdump_of_it"] = round(best.after.cpu, 2)
        return Figure(self.collector.name, self.cost, self.records, extra)


def compared(bench: Bench, collectors: Sequence[Collector], section: Section) -> dict[str, Trials]:
    """Trials of several collectors in turn. What cannot be run becomes a note of the section."""
    out = {collector.name: Trials(collector) for collector in collectors}
    for _ in range(bench.repeats):
        for name, trials in list(out.items()):
            try:
                trials.short.append(trial(bench, trials.collector, bench.short_datagrams))
                trials.full.append(trial(bench, trials.collector))
            except (MissingError, FailedError) as reason:
                section.notes.append(f"{name}: {reason}")
                del out[name]
    return out
