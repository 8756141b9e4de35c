"""The highest rate of datagrams that a collector takes without losing one."""

from __future__ import annotations

from benchmark import tools
from benchmark.context import RECORDS_PER_PACKET, Bench
from benchmark.processes import Cost, FailedError, Server, free_port, sockets
from benchmark.report import Figure, Section, Verdict
from benchmark.tools import Collector, MissingError

COLLECTORS = (tools.SHARD, tools.NFACCTD, tools.NFCAPD)
LOWEST = 20_000.0
STEP = 1.5
CLOSE_ENOUGH = 1.08
TRIAL_SECONDS = 2.5
TRIES = 3
"""A rate is taken if one of so many tries loses nothing: others on the machine only take away."""

REACHED = 0.95
"""Share of a rate below which the sender, not the collector, was the limit."""


def highest(bench: Bench, collector: Collector) -> tuple[float, bool]:
    """(datagrams a second without loss, whether the sender was what ended the search)."""
    with bench.folder() as folder:
        port = free_port()
        with Server(collector.command(folder, port), port, folder) as server:
            server.settle()
            bench.source.send(port, rate=LOWEST, seconds=1)
            server.settle()
            low, high = 0.0, 0.0
            rate = LOWEST
            while not high or high / low > CLOSE_ENOUGH:
                taken, reached = _try(bench, server, rate)
                if taken:
                    low = max(taken, low)
                    if not reached:
                        return low, True
                elif rate <= LOWEST / 8:
                    return 0.0, False
                else:
                    high = rate
                rate = _next(low, high)
            return low, False


def _next(low: float, high: float) -> float:
    if not high:
        return low * STEP
    return (low * high) ** 0.5 if low else high / 2


def _try(bench: Bench, server: Server, rate: float) -> tuple[float, bool]:
    """(the highest rate sent without loss in some tries, 0 if none; whether it was the asked)."""
    taken = 0.0
    for _ in range(TRIES):
        before = sockets(server.port).drops
        sent = bench.source.send(server.port, rate=rate, seconds=TRIAL_SECONDS)
        lost = server.settle().drops - before
        if not lost and "Missing data" not in server.text():
            taken = max(taken, sent.rate)
            if taken >= rate * REACHED:
                return taken, True
    return taken, False


def rates(bench: Bench) -> Section:
    """Live UDP without loss."""
    section = Section("highest rate without loss, one process or shard")
    found: dict[str, tuple[float, bool]] = {}
    for collector in COLLECTORS:
        try:
            rate, sender = found[collector.name] = highest(bench, collector)
        except (MissingError, FailedError) as reason:
            section.notes.append(f"{collector.name}: {reason}")
            continue
        extra = {
            "datagrams_a_second": f"{rate:,.0f}",
            "records_a_second": f"{rate * RECORDS_PER_PACKET:,.0f}",
            "limit": "the sender" if sender else "the collector",
        }
        section.figures.append(Figure(collector.name, Cost(0, TRIAL_SECONDS), None, extra))
    for name, target in ((tools.NFACCTD.name, 3.0), (tools.NFCAPD.name, 1.0)):
        if tools.SHARD.name in found and name in found:
            section.verdicts.append(_verdict(name, found[tools.SHARD.name], found[name], target))
    section.notes.append("lossless: the kernel dropped nothing; the sender runs on the same cores")
    return section


def _verdict(
    name: str, own: tuple[float, bool], peer: tuple[float, bool], target: float
) -> Verdict:
    """A rate that the sender limited is a bound, not a figure."""
    what = f"{tools.SHARD.name}, to {name}"
    ratio = own[0] / peer[0] if peer[0] else 0.0
    verdict = Verdict.at_least(what, ratio, target)
    if peer[1] or not ratio:
        return Verdict(what, verdict.target, "the sender was too slow to tell")
    if own[1] and not verdict.met:
        return Verdict(what, verdict.target, f"{ratio:.2f} x or more: the sender was the limit")
    return verdict
