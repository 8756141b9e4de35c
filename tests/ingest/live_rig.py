"""A shard with aggregators in this process, real sockets and generated exporters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowray.generate import ExporterSpec, Truth, default_exporters, traffic
from flowray.generate.send import Sender
from flowray.ingest.delivery import LocalTransport
from flowray.ingest.knowledge import KnowledgeStore
from flowray.ingest.ledger import merge_snapshots, problems
from flowray.ingest.ring import Ring
from flowray.ingest.shard import Shard
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation
from flowray.views.checkpoint import Checkpoint
from flowray.views.view import ViewPlan

DEADLINE = 30.0
Batches = Sequence[tuple[int, int, list[bytes]]]


def wait_for(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds:.0f} s"
        time.sleep(0.01)
    return answer


def generated(
    seconds: float, rate: float = 2000, seed: int = 1, exporters: int = 7
) -> tuple[tuple[ExporterSpec, ...], Batches, Truth]:
    """Datagrams of all kinds of exporters on loopback addresses, and the truth about them."""
    specs = default_exporters(exporters, "127.0.3.1")
    truth: list[Truth] = []
    batches = [*traffic(seed, specs, rate=rate, seconds=seconds, truth=truth)]
    return specs, batches, Truth.joined(truth)


def send(
    port: int,
    specs: Sequence[ExporterSpec],
    batches: Batches,
    rate: float = 5000,
    host: str = "127.0.0.1",
) -> int:
    """Send all from the exporters' addresses; the number of datagrams."""
    with Sender(host, port, [spec.address for spec in specs]) as sender:
        return sum(
            sender.send(payloads, exporter=index, rate=rate).sent for _, index, payloads in batches
        )


def scaled(truth: Truth) -> dict[str, int]:
    """What views that renormalise must count."""
    return {
        "packets": int((truth.packets * truth.sampling).sum()),
        "bytes": int((truth.octets * truth.sampling).sum()),
        "flows": len(truth),
    }


class Rig:
    """Views over live shards. `sink` keeps the rows of all views."""

    def __init__(self, path: Path, views: Sequence[dict[str, Any]], **settings: Any) -> None:
        content = {
            "listen": {"flows": ["udp://127.0.0.1:0"]},
            "views": list(views),
            "cluster": {"hand_over": "50ms", **settings},
        }
        self.path = path
        self.program = compile_settings(parse_settings(content, "test"), "test")
        self.sinks = {plan.name: MemorySink() for plan in self.program.views}
        self.store = KnowledgeStore(open_store(path))
        self.transport = LocalTransport(())
        self.shards: list[Shard] = []
        self.drained: list[dict[str, Any]] = []
        self.bring_up()

    def bring_up(self, *plans: ViewPlan) -> None:
        """Start the aggregators of views, of all if none is named, from their checkpoints if there
        are some.
        """
        for plan in plans or self.program.views:
            for p in range(plan.partitions):
                checkpoint = Checkpoint(open_store(self.path), f"{plan.name}-{p}")
                sinks = [self.sinks[plan.name]]
                made = Aggregation(plan, sinks, p, checkpoint=checkpoint, interval_ns=1 << 60)
                made.expect([shard.name for shard in self.shards])
                self.transport.aggregations[plan.name, p] = made

    def publish(self, entries: list[Any]) -> object:
        """As the template store does."""
        return self.store.publish(entries)

    def since(self, epoch: str, generation: int) -> tuple[str, int, list[Any]]:
        """As the template store does."""
        return self.store.since(epoch, generation)

    def start(self, name: str, port: int = 0, *, ring: bool = False) -> Shard:
        """Start a shard; with a ring it goes on from a killed one of its name."""
        transport = LocalTransport(())
        transport.aggregations = self.transport.aggregations
        listen = [f"udp://127.0.0.1:{port}"]
        kept = Ring(self.path / "ring" / name, 8 << 20) if ring else None
        shard = Shard(self.program, name, transport, self, listen=listen, ring=kept)
        self.shards.append(shard)
        for aggregation in transport.aggregations.values():
            aggregation.expect([s.name for s in self.shards])
        shard.start()
        return shard

    def kill(self, shard: Shard) -> None:
        """End a shard as the kernel does: wherever it is, without a last word."""
        shard.close()
        self.shards.remove(shard)

    def drain(self, shard: Shard, *, final: bool = True) -> dict[str, Any]:
        """Drain a shard and keep its accounts."""
        figures = shard.drain(DEADLINE, final=final)
        self.drained.append(figures)
        self.shards.remove(shard)
        return figures

    def finish(self, gone: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """Drain all, close the windows; the ledger, which balances. `gone`: the ledgers of
        aggregators that are no more.
        """
        for shard in list(self.shards):
            self.drain(shard)
        aggregations = self.transport.aggregations.values()
        for aggregation in aggregations:
            aggregation.finish()
        ledger = merge_snapshots(
            [*gone, *(f["ledger"] for f in self.drained), *(a.ledger() for a in aggregations)]
        )
        held = sum(f["sets_held"] for f in self.drained)
        assert problems(ledger, held=held) == []
        assert all(f["unacknowledged"] == 0 for f in self.drained)
        return ledger

    def sums(self, view: str) -> dict[str, int]:
        """Sums over all rows in the sink."""
        sums = dict.fromkeys(("packets", "bytes", "flows"), 0)
        for table in self.sinks[view].tables.values():
            for name in sums:
                sums[name] += sum(table[name].to_pylist())
        return sums

    def close(self) -> None:
        """End what still runs."""
        for shard in self.shards:
            shard.close()


def port_of(shard: Shard) -> int:
    """The UDP port of a shard's only listener."""
    return int(shard.addresses[0].rpartition(":")[2])
