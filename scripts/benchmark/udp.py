"""Live UDP to grouped rows: cost per record and loss of every collector at one rate."""

from __future__ import annotations

from benchmark import batch, live, tools
from benchmark.context import Bench
from benchmark.live import Trials
from benchmark.processes import Cost
from benchmark.report import Figure, Section, Verdict

COLLECTORS = (tools.SHARD, tools.ON_RAY, tools.NFACCTD, tools.NFCAPD_NFDUMP)
ACTORS = "flowray on Ray: shard and aggregator"
DAEMONS = "flowray on Ray: all other processes"
CARRIERS = ("shard", "aggregat", "ingest")
"""Parts of the names of the actor classes that carry records."""

TARGETS = ((tools.NFACCTD.name, 5), (tools.NFCAPD_NFDUMP.name, 4))


def udp(bench: Bench) -> Section:
    """Live UDP to grouped rows."""
    section = Section(f"live UDP to grouped rows, {bench.rate:,.0f} datagrams/s of 20 records")
    trials = live.compared(bench, COLLECTORS, section)
    figures: dict[str, Figure] = {}
    for name, mine in trials.items():
        parts = _apart(mine) if name == tools.ON_RAY.name else [mine.figure()]
        figures |= {part.program: part for part in parts}
    section.figures = list(figures.values())
    for own in (ACTORS, tools.SHARD.name):
        for peer, target in TARGETS:
            if own in figures and peer in figures:
                section.verdicts.append(Verdict.faster(figures[own], figures[peer], target))
    batch.equal(section, {name: mine.rows for name, mine in trials.items()})
    return section


def _apart(trials: Trials) -> list[Figure]:
    """What the run on Ray cost, split into our two actors and the rest."""
    whole = trials.figure()
    used = {
        name: seconds
        for name, seconds in sorted(trials.actors().items())
        if any(part in name.lower() for part in CARRIERS)
    }
    own = sum(used.values())
    extra = whole.extra | {name: round(seconds, 2) for name, seconds in used.items()}
    actors = Figure(ACTORS, Cost(own, whole.cost.wall, whole.cost.rss), whole.records, extra)
    return [actors, Figure(DAEMONS, Cost(max(whole.cost.cpu - own, 0), whole.cost.wall))]
