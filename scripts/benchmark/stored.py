"""Live UDP to stored records, and grouping those again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from benchmark import batch, live, sums, tools
from benchmark.batch import Runs
from benchmark.context import Bench
from benchmark.processes import PYTHON, Cost, FailedError, run
from benchmark.report import Section, Verdict
from benchmark.tools import Collector, MissingError

COLLECTORS = (tools.SHARD_RECORDS, tools.NFCAPD, tools.NFCAPD_LZ4)
OCTETS_TARGET = 30
GROUPING_TARGET = 5
GENTLE = 0.5
"""Share of the rate at which records are stored that are then grouped: none shall be missing."""


def records(bench: Bench) -> Section:
    """Live UDP to stored raw records."""
    section = Section(f"live UDP to stored raw records, {bench.rate:,.0f} datagrams/s")
    trials = live.compared(bench, COLLECTORS, section)
    for name, one in trials.items():
        figure = live.figure(name, one)
        figure.extra["octets_a_record"] = round(one.octets / one.records, 1)
        section.figures.append(figure)
    by_name = {figure.program: figure for figure in section.figures}
    own = by_name.get(tools.SHARD_RECORDS.name)
    if own is None:
        return section
    octets = own.extra["octets_a_record"]
    section.verdicts.append(Verdict.at_most("octets a record on disk", octets, OCTETS_TARGET, ""))
    for peer in (tools.NFCAPD.name, tools.NFCAPD_LZ4.name):
        if peer in by_name:
            section.verdicts.append(Verdict.faster(own, by_name[peer], 1))
    return section


def _by_pyarrow(folder: Path) -> Cost:
    command: list[str | Path] = [
        PYTHON,
        "-m",
        "benchmark.group",
        folder / "out",
        folder / "grouped.csv",
    ]
    return run(command, folder)


Grouping = tuple[str, Collector, Callable[[Path], Cost], Callable[[Path], pa.Table]]

GROUPINGS: tuple[Grouping, ...] = (
    (
        "flowray's Parquet by pyarrow",
        tools.SHARD_RECORDS,
        _by_pyarrow,
        lambda folder: sums.read_flowray(folder / "grouped.csv"),
    ),
    (
        "nfdump -A",
        tools.NFCAPD,
        tools.nfdump,
        lambda folder: sums.read_nfdump(folder / "nfdump.csv"),
    ),
)


def grouping(bench: Bench) -> Section:
    """Grouping stored records again."""
    section = Section("grouping stored records again by the same key, to CSV")
    runs: dict[str, Runs] = {}
    for name, collector, group, read in GROUPINGS:
        try:
            runs[name] = _grouped(bench, collector, group, read)
        except (MissingError, FailedError) as reason:
            section.notes.append(f"{name}: {reason}")
    section.figures = [batch.figure(bench, name, mine) for name, mine in runs.items()]
    if len(runs) == len(GROUPINGS):
        own, peer = section.figures
        section.verdicts.append(Verdict.faster(own, peer, GROUPING_TARGET))
    batch.equal(section, {name: mine.rows for name, mine in runs.items()})
    return section


def _grouped(
    bench: Bench,
    collector: Collector,
    group: Callable[[Path], Cost],
    read: Callable[[Path], pa.Table],
) -> Runs:
    """Store the traffic once, group it again and again."""
    runs = Runs()
    for limit, kept in ((bench.first, runs.short), (None, runs.full)):
        with bench.folder() as folder:
            live.serve(bench, collector, folder, bench.rate * GENTLE, limit)
            kept += [group(folder) for _ in range(bench.repeats)]
            runs.rows = read(folder)
    return runs
