"""Live UDP to grouped rows: cost per record and loss of every collector at one rate."""

from __future__ import annotations

from benchmark import batch, live, tools
from benchmark.context import Bench
from benchmark.live import Trial
from benchmark.processes import Cost
from benchmark.report import Figure, Section, Verdict

COLLECTORS = (
    *(tools.SHARD, tools.ON_RAY),
    *(tools.NFACCTD, tools.NFACCTD_SMALL, tools.NFCAPD_NFDUMP),
)
ACTORS = "flowray on Ray: shard and aggregator"
DAEMONS = "flowray on Ray: all other processes"
TARGETS = ((tools.NFACCTD.name, 5), (tools.NFACCTD_SMALL.name, 5), (tools.NFCAPD_NFDUMP.name, 4))


def udp(bench: Bench) -> Section:
    """Live UDP to grouped rows."""
    section = Section(f"live UDP to grouped rows, {bench.rate:,.0f} datagrams/s of 20 records")
    trials = live.compared(bench, COLLECTORS, section)
    figures: dict[str, Figure] = {}
    for name, one in trials.items():
        figures |= {part.program: part for part in _parts(name, one)}
    section.figures = list(figures.values())
    for own in (ACTORS, tools.SHARD.name):
        for peer, target in TARGETS:
            if own in figures and peer in figures:
                section.verdicts.append(Verdict.faster(figures[own], figures[peer], target))
    batch.equal(section, {name: one.rows for name, one in trials.items()})
    return section


def _parts(name: str, one: Trial) -> list[Figure]:
    """What a run cost; on Ray, split into our two actors and the rest."""
    whole = live.figure(name, one)
    if one.own is None or one.others is None:
        return [whole]
    actors = Figure(ACTORS, Cost(one.own, whole.cost.wall), whole.records, whole.extra)
    rest = Figure(DAEMONS, Cost(one.others, whole.cost.wall), whole.records)
    return [actors, rest]
