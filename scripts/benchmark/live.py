"""Live over UDP on loopback: cost per record, loss, and the highest rate without loss."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmark import sums
from benchmark.context import RECORDS_PER_PACKET, Bench
from benchmark.processes import (
    Cost,
    FailedError,
    Server,
    cpu_seconds,
    descendants,
    free_port,
)
from benchmark.report import Figure, Section
from benchmark.source import Sent
from benchmark.tools import Collector, MissingError


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a collector. `cost` begins when it has taken its first datagrams: start, imports
    and memory that is touched once are left out for all alike; its end is in. `own` is what our
    actors had of it, `others` what all other processes had until it was told to end; both None
    without Ray.
    """

    cost: Cost
    after: Cost
    sent: Sent
    drops: int
    own: float | None
    others: float | None
    octets: int
    rows: pa.Table

    @property
    def records(self) -> int:
        """Records received; template packets, one in a thousand, are taken for full ones."""
        return max(self.sent.datagrams - self.drops, 1) * RECORDS_PER_PACKET


def trial(bench: Bench, collector: Collector) -> Trial:
    """Start it, send the capture, end it; may raise as `serve`."""
    with bench.folder() as folder:
        return serve(bench, collector, folder, bench.rate)


def serve(
    bench: Bench, collector: Collector, folder: Path, rate: float, limit: int | None = None
) -> Trial:
    """As `trial`, at another rate, the first `limit` datagrams at most, in a folder that stays.
    Raises MissingError, FailedError.
    """
    port = free_port()
    with Server(collector.command(folder, port), port, folder, collector.quiet) as server:
        server.settle()
        bench.source.send(port, rate=rate, limit=bench.first, ports=bench.ports)
        server.settle()
        start, begun, own = server.cpu(), time.monotonic(), actor_seconds(server.pid)
        sent = bench.source.send(port, rate=rate, skip=bench.first, limit=limit, ports=bench.ports)
        drops = server.settle().drops
        used = server.cpu() - start
        carried = actor_seconds(server.pid)
        cost = server.stop().beyond(Cost(start, begun - server.started))
        text = server.text()
    octets = stored_octets(folder)
    after = collector.after(folder) if collector.after else Cost(0, 0)
    rows = collector.rows(folder) if collector.rows else sums.EMPTY
    if own is None or carried is None:
        return Trial(cost, after, sent, drops, None, None, octets, rows)
    others = max(used - (carried - own), 0.0)
    return Trial(cost, after, sent, drops, _told(text) - own, others, octets, rows)


CARRIERS = ("ingest", "aggregat")
"""Parts of the titles of the actors that carry records."""


def actor_seconds(pid: int) -> float | None:
    """CPU seconds so far of the actors below a process that carry records; None without Ray."""
    used = None
    for child in descendants(pid):
        try:
            title = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].decode().lower()
        except OSError:
            continue
        if title.startswith("ray::") and any(name in title for name in CARRIERS):
            used = (used or 0.0) + cpu_seconds(child)
    return used


def _told(text: str) -> float:
    """CPU seconds of shards and aggregators at their end, of the summary that `up` prints last."""
    end = json.loads(text.strip().splitlines()[-1])
    return float(end["shard_cpu_seconds"] + end["aggregator_cpu_seconds"])


def stored_octets(folder: Path) -> int:
    """Octets of rows or records on disk."""
    places = (folder / "flows", folder / "out")
    files = (f for place in places for f in place.rglob("*") if f.is_file() and not f.is_symlink())
    return sum(f.stat().st_size for f in files)


def best(trials: Sequence[Trial]) -> Trial:
    """Least loss first, then least CPU."""
    return min(trials, key=lambda t: (t.drops, t.cost.cpu + t.after.cpu))


def figure(name: str, one: Trial) -> Figure:
    """Its CPU per record received."""
    extra: dict[str, Any] = {"sent": f"{one.sent.rate:,.0f} datagrams/s", "lost": one.drops}
    if one.after.cpu:
        extra["of_it_nfdump"] = round(one.after.cpu, 2)
    return Figure(name, one.cost + one.after, one.records, extra)


def compared(bench: Bench, collectors: Sequence[Collector], section: Section) -> dict[str, Trial]:
    """The best trial of several collectors, run in turn. What cannot be run becomes a note."""
    trials: dict[str, list[Trial]] = {collector.name: [] for collector in collectors}
    for _ in range(bench.repeats):
        for collector in collectors:
            if collector.name not in trials:
                continue
            try:
                trials[collector.name].append(trial(bench, collector))
            except (MissingError, FailedError) as reason:
                section.notes.append(f"{collector.name}: {reason}")
                del trials[collector.name]
    return {name: best(mine) for name, mine in trials.items()}
