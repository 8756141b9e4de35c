"""From a capture to grouped rows: flowray replay, nfacctd, and nfdump on what nfcapd stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from benchmark import live, sums, tools
from benchmark.context import Bench
from benchmark.processes import Cost, FailedError, cheapest, run
from benchmark.report import Figure, Section, Verdict

REPLAY = "flowray replay"
NFACCTD, NFACCTD_SMALL = tools.NFACCTD.name, tools.NFACCTD_SMALL.name


@dataclass(slots=True)
class Runs:
    """Costs of a program over the whole capture and over next to nothing, and its rows."""

    full: list[Cost] = field(default_factory=list)
    short: list[Cost] = field(default_factory=list)
    rows: pa.Table = field(default_factory=lambda: sums.EMPTY)

    @property
    def cost(self) -> Cost:
        """The run itself."""
        return cheapest(self.full).beyond(cheapest(self.short))


def flowray(folder: Path, capture: Path, workers: int = 0) -> tuple[Cost, pa.Table]:
    cost = run(tools.flowray_replay(folder, capture, workers), folder)
    return cost, tools.flowray_rows(folder)


def _nfacctd(folder: Path, capture: Path, buffers: tools.NfacctdBuffers) -> tuple[Cost, pa.Table]:
    cost = run(tools.nfacctd(folder, f"pcap_savefile: {capture}", buffers), folder)
    return cost, tools.nfacctd_rows(folder)


Program = Callable[[Path, Path], tuple[Cost, pa.Table]]

PROGRAMS: dict[str, Program] = {
    REPLAY: flowray,
    NFACCTD: partial(_nfacctd, buffers=tools.TUNED),
    NFACCTD_SMALL: partial(_nfacctd, buffers=tools.CONSERVATIVE),
}


def measured(bench: Bench, programs: dict[str, Program], section: Section) -> dict[str, Runs]:
    """Run all in turn, again and again, so that a busy minute does not hit one alone."""
    runs: dict[str, Runs] = {}
    for _ in range(bench.repeats):
        for name, program in programs.items():
            try:
                for capture, kept in ((bench.short, "short"), (bench.full, "full")):
                    with bench.folder() as folder:
                        cost, rows = program(folder, capture)
                    mine = runs.setdefault(name, Runs())
                    getattr(mine, kept).append(cost)
                    mine.rows = rows
            except (tools.MissingError, FailedError) as reason:
                note = f"{name}: {reason}"
                if note not in section.notes:
                    section.notes.append(note)
    return {name: mine for name, mine in runs.items() if mine.full}


def figure(bench: Bench, name: str, runs: Runs) -> Figure:
    """The run itself; the whole process beside it."""
    whole, start = cheapest(runs.full), cheapest(runs.short)
    extra = {"whole_process": round(whole.cpu, 2), "of_it_start": round(start.cpu, 2)}
    return Figure(name, runs.cost, bench.records, extra)


def equal(section: Section, rows: dict[str, pa.Table]) -> None:
    """Note whether all programs have the same sums of all keys."""
    if not rows:
        return
    (first, reference), *others = rows.items()
    packets, octets = sums.totals(reference)
    section.notes.append(f"{first}: {len(reference)} keys, {packets} packets, {octets} bytes")
    for name, table in others:
        found = sums.difference(reference, table)
        section.verdicts.append(
            Verdict(f"rows of {first} and {name}", "equal", found or "equal", not found)
        )


def pcap(bench: Bench) -> Section:
    """pcap of IPFIX to grouped rows."""
    section = Section(
        "pcap of IPFIX to grouped rows (CPU of the run itself: whole process less its start)"
    )
    runs = measured(bench, PROGRAMS, section)
    figures = {name: figure(bench, name, mine) for name, mine in runs.items()}
    rows = {name: mine.rows for name, mine in runs.items()}
    for name, stored in live.compared(bench, [tools.NFCAPD_NFDUMP], section).items():
        figures[name] = live.figure(name, stored)
        rows[name] = stored.rows
        section.notes.append("Debian's nfcapd reads no captures: it was sent the datagrams")
    section.figures = list(figures.values())
    for name, target in ((NFACCTD, 10), (NFACCTD_SMALL, 10), (tools.NFCAPD_NFDUMP.name, 4)):
        if REPLAY in figures and name in figures:
            section.verdicts.append(Verdict.faster(figures[REPLAY], figures[name], target))
    equal(section, rows)
    return section
