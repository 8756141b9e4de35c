"""The same replay in one process and on Ray."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pyarrow as pa

from benchmark import batch, tools
from benchmark.context import Bench
from benchmark.processes import Cost, run
from benchmark.report import Section, Verdict

HERE, ONE, TWO = "replay in-process", "replay --workers 1", "replay --workers 2"
MORE = 1.10


def _replay(folder: Path, capture: Path, workers: int) -> tuple[Cost, pa.Table]:
    """A replay. Its CPU is what it says of itself: driver and actors, without Ray's daemons."""
    out = folder / "summary.json"
    whole = run(tools.flowray_replay(folder, capture, workers), folder, stdout=out)
    used = json.loads(out.read_text().splitlines()[-1])["cpu_seconds"]
    return Cost(used, whole.wall, whole.rss), tools.flowray_rows(folder)


PROGRAMS: dict[str, batch.Program] = {
    HERE: partial(_replay, workers=0),
    ONE: partial(_replay, workers=1),
    TWO: partial(_replay, workers=2),
}


def on_ray(bench: Bench) -> Section:
    """Ray against in-process, same work."""
    section = Section("the same replay in-process and on Ray: CPU of driver and actors")
    runs = batch.measured(bench, PROGRAMS, section)
    section.figures = [batch.figure(bench, name, mine) for name, mine in runs.items()]
    if HERE in runs and ONE in runs:
        ratio = runs[ONE].cost.cpu / runs[HERE].cost.cpu
        section.verdicts.append(Verdict.at_most(f"{ONE} to {HERE}, CPU", ratio, MORE, " x"))
    section.notes.append("all records of the capture are of one exporter, hence of one worker")
    batch.equal(section, {name: mine.rows for name, mine in runs.items()})
    return section
