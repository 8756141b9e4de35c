"""What more shards, Ray, Redis and checkpoints cost: CPU of our actors per million records."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark import batch, live, tools
from benchmark.context import Bench
from benchmark.live import Trial
from benchmark.processes import Cost, Server, free_tcp_port, tcp_sockets
from benchmark.report import Figure, Section, Verdict
from benchmark.tools import FLOWRAY, Collector

SHARDS = (1, 2, 3, 4)
PORTS = 16
"""Source ports of the exporter: the kernel deals them out to the shards."""

NEVER = "1h"
"""Longer than a trial: no checkpoint but the one at the end."""


def _on_ray(**options: Any) -> Callable[[Path, int], list[Any]]:
    def command(folder: Path, port: int) -> list[Any]:
        config = tools.flowray_config(folder, "grouped", port, **options)
        return [FLOWRAY, "up", "-c", config, "--json"]

    return command


def _collector(name: str, **options: Any) -> Collector:
    return Collector(name, _on_ray(**options), tools.flowray_rows, quiet=0.4)


def _shards(n: int) -> str:
    return f"flowray on Ray, {n} shard{'s' if n > 1 else ''}"


WITHOUT_CHECKPOINTS = "flowray on Ray, 1 shard, no checkpoints"
WITH_REDIS = "flowray on Ray, 1 shard, Redis"


def scaling(bench: Bench) -> Section:
    """CPU of our actors per million records, at 1 to 4 shards, and what parts of it cost."""
    title = f"1 to 4 shards, {bench.rate:,.0f} datagrams/s from {PORTS} ports: our actors' CPU"
    section = Section(title)
    spread = replace(bench, ports=PORTS)
    with ExitStack() as stack:
        folder = stack.enter_context(bench.folder())
        redis = free_tcp_port()
        command = [tools.peer("redis-server", "redis-server"), "--port", str(redis), "--save", ""]
        stack.enter_context(Server(command, redis, folder, look=tcp_sockets))
        collectors = [
            tools.SHARD,
            *(_collector(_shards(n), shards=n) for n in SHARDS),
            _collector(WITHOUT_CHECKPOINTS, checkpoint=NEVER),
            _collector(WITH_REDIS, redis=f"redis://127.0.0.1:{redis}/0"),
        ]
        trials = live.compared(spread, collectors, section)
    section.figures = [_figure(name, one) for name, one in trials.items()]
    one = _shards(1)
    for what, more, less in (
        ("Ray (to in-process)", one, tools.SHARD.name),
        ("checkpoints", one, WITHOUT_CHECKPOINTS),
        ("Redis", WITH_REDIS, one),
        ("a second shard", _shards(2), one),
    ):
        if more in trials and less in trials:
            share = _own(trials[more]) / _own(trials[less]) - 1
            section.verdicts.append(Verdict(f"{what}: more CPU in our actors", "", f"{share:+.1%}"))
    batch.equal(section, {name: one.rows for name, one in trials.items()})
    return section


def _own(one: Trial) -> float:
    return one.cost.cpu if one.own is None else one.own


def _figure(name: str, one: Trial) -> Figure:
    """Our actors alone; what all of Ray's processes cost beside them is told."""
    extra: dict[str, Any] = {"per_million": f"{_own(one) / one.records * 1e6:.3f} s"}
    extra |= {"lost": one.drops}
    if one.others is not None:
        extra["other_processes"] = f"{one.others:.2f} s"
    return Figure(name, Cost(_own(one), one.cost.wall), one.records, extra)
