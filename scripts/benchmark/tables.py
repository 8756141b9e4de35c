"""Full tables over BGP sessions: one, beside nfacctd, and ten, with snapshots and under churn."""

from __future__ import annotations

from typing import Any

from benchmark import ribs
from benchmark.context import Bench
from benchmark.processes import Cost, FailedError, Server
from benchmark.report import Figure, Section, Verdict
from benchmark.ribs import Load
from benchmark.router import Routers
from benchmark.tools import MissingError

COLLECTORS = (ribs.FLOWRAY, ribs.FLOWRAY_PUBLISHING, ribs.NFACCTD)
CPU_TARGET, OCTETS_TARGET = 15, 64

PEERS = 10
MEMORY_TARGET_GIB = 2
CHURN_RATE, CHURN_SECONDS = 1000, 30.0
LAG_TARGET = 5
GIB = 1 << 30


def one_table(bench: Bench) -> Section:
    """A full table over one BGP session."""
    section = Section(
        f"full table, {bench.routes:,} IPv4 and {bench.routes // 5:,} IPv6 routes over one BGP"
        " session, no logging (CPU and memory of the run itself)"
    )
    loads: dict[str, list[Load]] = {}
    with Routers(bench.routes) as routers:
        for _ in range(bench.repeats):
            for collector in COLLECTORS:
                try:
                    with bench.folder() as folder:
                        done = ribs.load(collector, folder, routers)
                    loads.setdefault(collector.name, []).append(done)
                except (MissingError, FailedError) as reason:
                    section.notes.append(f"{collector.name}: {reason}")
    figures = {name: _figure(name, mine) for name, mine in loads.items()}
    section.figures = list(figures.values())
    own, peer = figures.get(ribs.FLOWRAY.name), figures.get(ribs.NFACCTD.name)
    if own is not None and peer is not None:
        section.verdicts.append(Verdict.faster(own, peer, CPU_TARGET))
    if own is not None:
        told = own.extra["own_octets_a_route"]
        used = own.extra["octets_a_route"]
        section.verdicts += [
            Verdict.at_most("tables and attributes, octets a route", told, OCTETS_TARGET, ""),
            Verdict.at_most("growth of the process, octets a route", used, OCTETS_TARGET, ""),
        ]
    for done in loads.get(ribs.FLOWRAY.name, ())[:1]:
        section.notes.append(
            f"{done.announced.updates:,} UPDATEs of {done.announced.octets:,} octets"
        )
        if done.figures["routes"] != done.announced.routes:
            section.notes.append(f"{done.figures['routes']:,} of {done.announced.routes:,} routes")
    return section


def _figure(name: str, loads: list[Load]) -> Figure:
    """The cheapest load."""
    best = min(loads, key=lambda done: done.cost.cpu)
    routes = best.announced.routes
    extra: dict[str, Any] = {"octets_a_route": round(best.octets / routes, 1)}
    if figures := best.figures:
        octets = figures["table_octets"] + figures["attribute_octets"]
        extra["own_octets_a_route"] = round(octets / routes, 1)
    return Figure(name, best.cost, routes, extra)


def ten_peers(bench: Bench) -> Section:
    """Ten peers with full tables, and their snapshots."""
    section = Section(f"{PEERS} peers with full tables, snapshots every 2 s")
    with (
        bench.folder() as folder,
        Routers(bench.routes) as routers,
        ribs.FLOWRAY_PUBLISHING.serve(folder) as server,
    ):
        done = ribs.loaded(ribs.FLOWRAY_PUBLISHING, server, routers, PEERS)
        section.figures.append(_loaded(done))
        _churn(section, server, routers)
        peak = server.peak() / GIB
        routers.leave()
        server.kill()
    what = "most memory that the process used"
    section.verdicts.append(Verdict.at_most(what, peak, MEMORY_TARGET_GIB, " GiB"))
    return section


def _loaded(done: Load) -> Figure:
    figures, routes = done.figures, done.announced.routes
    octets = figures["table_octets"] + figures["attribute_octets"]
    extra = {
        "own_octets_a_route": round(octets / routes, 1),
        "snapshot_octets_a_route": round(figures["snapshot_octets"] / routes, 1),
        "octets_a_route": round(done.octets / routes, 1),
        "memory": f"{done.cost.rss / GIB:.2f} GiB",
        "most": f"{done.peak / GIB:.2f} GiB",
    }
    return Figure("loading, with snapshots meanwhile", done.cost, routes, extra)


def _churn(section: Section, server: Server, routers: Routers) -> None:
    """How old the newest snapshot gets while routes change, and what that costs."""
    before, cpu = ribs.figures(server), server.cpu()
    sent = routers.churn(CHURN_RATE, CHURN_SECONDS)
    after, cost = ribs.figures(server), server.cpu() - cpu
    made = after["snapshots"] - before["snapshots"]
    publishing = after["snapshot_cpu_seconds"] - before["snapshot_cpu_seconds"]
    extra = {
        "updates_a_second": round(sent.updates / sent.seconds),
        "snapshots": made,
        "cpu_share": f"{cost / sent.seconds:.0%} of a core",
        "publishing_cpu": round(publishing, 2),
        "cpu_a_snapshot": round(publishing / max(made, 1), 3),
    }
    section.figures.append(Figure("churn", Cost(cost, sent.seconds), sent.updates, extra))
    what = "oldest that the newest snapshot got"
    section.verdicts.append(Verdict.at_most(what, after["oldest_seconds"], LAG_TARGET, " s"))
