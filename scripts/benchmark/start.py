"""How soon a warm start has counted its first packet."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmark import tools
from benchmark.context import Bench
from benchmark.counted import COUNTED, LOOK_SECONDS
from benchmark.processes import FLOWRAY, Cost, FailedError, Server, free_port, run
from benchmark.report import Figure, Section, Verdict
from benchmark.tools import Collector

DEADLINE_SECONDS = 60.0
HELP, REPLAY = "flowray --help", "flowray replay of a few packets"


def _help(_: Bench, folder: Path) -> Cost:
    return run([FLOWRAY, "--help"], folder)


def _replay(bench: Bench, folder: Path) -> Cost:
    return run(tools.flowray_replay(folder, bench.short), folder)


def _first(collector: Collector) -> Callable[[Bench, Path], Cost]:
    """From the start of a collector until it says that it counted a packet."""

    def measure(bench: Bench, folder: Path) -> Cost:
        port = free_port()
        with Server(collector.command(folder, port), port, folder) as server:
            bench.source.send(port, rate=1000, limit=bench.first)
            while COUNTED not in server.text():
                if time.monotonic() - server.started > DEADLINE_SECONDS:
                    raise FailedError(
                        f"{collector.name}: counted nothing:\n{server.text()[-2000:]}"
                    )
                time.sleep(LOOK_SECONDS)
            wall = time.monotonic() - server.started
            return Cost(server.cpu(), wall)

    return measure


STARTS: dict[str, tuple[Callable[[Bench, Path], Cost], float]] = {
    HELP: (_help, 0.3),
    REPLAY: (_replay, 1.5),
    "one shard in-process, first packet": (_first(tools.SHARD), 1.5),
    "flowray up on Ray, first packet": (_first(tools.FIRST_ON_RAY), 6.0),
}


def start(bench: Bench) -> Section:
    """Warm starts."""
    section = Section("warm start, wall seconds")
    for name, (measure, target) in STARTS.items():
        costs = []
        try:
            for _ in range(max(bench.repeats, 3)):
                with bench.folder() as folder:
                    costs.append(measure(bench, folder))
        except FailedError as reason:
            section.notes.append(f"{name}: {reason}")
            continue
        best = min(costs, key=lambda cost: cost.wall)
        section.figures.append(Figure(name, best))
        section.verdicts.append(Verdict.at_most(name, best.wall, target, " s"))
    return section
