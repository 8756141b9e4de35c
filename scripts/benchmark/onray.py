"""The same replay in this process and on Ray."""

from __future__ import annotations

from functools import partial

from benchmark import batch
from benchmark.context import Bench
from benchmark.report import Section, Verdict

HERE, ONE, TWO = "replay in-process", "replay --workers 1", "replay --workers 2"
PROGRAMS: dict[str, batch.Program] = {
    HERE: batch.flowray,
    ONE: partial(batch.flowray, workers=1),
    TWO: partial(batch.flowray, workers=2),
}
MORE = 1.10


def on_ray(bench: Bench) -> Section:
    """Ray against in-process."""
    section = Section("the same replay in-process and on Ray")
    runs = batch.measured(bench, PROGRAMS, section)
    figures = {name: batch.figure(bench, name, mine) for name, mine in runs.items()}
    section.figures = list(figures.values())
    batch.equal(section, {name: mine.rows for name, mine in runs.items()})
    return section
