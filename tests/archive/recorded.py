"""Live runs with the archive on, in this process: shards, RIB group and aggregators of a
configuration with sinks of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flowray.ingest.delivery import LocalTransport
from flowray.ingest.knowledge import KnowledgeStore
from flowray.ingest.ledger import merge_snapshots, problems
from flowray.ingest.ring import Ring
from flowray.ingest.shard import Shard
from flowray.rib.service import RouteService
from flowray.rib.snapshot import Snapshot
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.opening import open_sinks
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation
from flowray.views.checkpoint import Checkpoint
from tests.ingest.live_rig import DEADLINE

KEYS = ["peer_src_ip", "src_host", "dst_as", "as_path", "dst_rung", "dst_net", "dst_mask"]

VIEWS: list[dict[str, Any]] = [
    {"name": "by_as", "keys": KEYS, "window": "1s", "time": "arrival"},
    {"name": "by_start", "keys": ["peer_src_ip", "dst_as", "dst_rung"], "window": "10s",
     "time": "start"},
    {"name": "raw", "keys": ["peer_src_ip", "src_host", "dst_host", "src_port", "dst_as",
                             "timestamp_arrival"]},
]  # fmt: skip


def program(root: Path, lake: str, **more: Any) -> Program:
    """A configuration that joins flows with routes and keeps its rows in `lake` below `root`."""
    content = {
        "listen": {
            "flows": ["udp://127.0.0.1:0"],
            "bgp": {"address": "127.0.0.1:0"},
            "bmp": {"address": "127.0.0.1:0"},
        },
        "routes": {
            "snapshot": "100ms",
            "join": {"as_numbers": "routes", "networks": "routes"},
            "looking_glass": None,
        },
        "views": [{**view, "sinks": ["lake"]} for view in VIEWS],
        "sinks": {"lake": {"type": "parquet", "path": str(root / lake)}},
        "state": {"path": str(root / "state")},
        "cluster": {"hand_over": "50ms"},
        **more,
    }
    return compile_settings(parse_settings(content, "test"), "test")


def archived(root: Path, **options: Any) -> dict[str, Any]:
    """The section that switches the archive on."""
    return {"archive": {"path": str(root / "archive"), "spool": str(root / "spool"), **options}}


class Running:
    """Shards of a program, and its RIB group."""

    def __init__(self, of: Program, root: Path) -> None:
        self.program, self.root = of, root
        self.store = KnowledgeStore(open_store(root))
        self.transport = LocalTransport(())
        self.shards: list[Shard] = []
        self.service = self._routes()
        for plan in of.views:
            checkpoint = Checkpoint(open_store(root), plan.name)
            sinks = open_sinks(of, plan.name)
            made = Aggregation(plan, sinks, 0, checkpoint=checkpoint, interval_ns=1 << 60)
            self.transport.aggregations[plan.name, 0] = made

    def _routes(self) -> RouteService:
        service = RouteService(self.program, self.program.settings.route_groups[0], {})
        service.start()
        return service

    def stop_routes(self) -> None:
        """End the RIB group; nobody answers for it until `start_routes`."""
        self.service.stop()

    def start_routes(self) -> None:
        """Start it again: it has what it saved."""
        self.service = self._routes()

    def newest(self, group: str, epoch: str, generation: int) -> Snapshot | None:
        """As RIB groups do."""
        del group
        if self.service.state != "running":
            raise ConnectionError("nobody is there")
        return self.service.newest(epoch, generation)

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
        kept = Ring(self.root / "ring" / name, 8 << 20) if ring else None
        shard = Shard(self.program, name, transport, self, routes=self, listen=listen, ring=kept)
        self.shards.append(shard)
        for aggregation in transport.aggregations.values():
            aggregation.expect([s.name for s in self.shards])
        shard.start()
        return shard

    def port(self, protocol: str) -> int:
        """Where routers connect to."""
        port: int = self.service.status()["listeners"][protocol]["port"]
        return port

    def finish(self) -> dict[str, Any]:
        """Drain all, close the windows; the ledger, which balances."""
        figures = [shard.drain(DEADLINE, final=True) for shard in self.shards]
        aggregations = self.transport.aggregations.values()
        for aggregation in aggregations:
            aggregation.finish()
        ledger = merge_snapshots(
            [f["ledger"] for f in figures] + [a.ledger() for a in aggregations]
        )
        assert problems(ledger, held=sum(f["sets_held"] for f in figures)) == []
        return ledger


@contextmanager
def running(of: Program, root: Path) -> Iterator[Running]:
    """It all, up and ready; ended whatever happens."""
    made = Running(of, root)
    try:
        yield made
    finally:
        for shard in made.shards:
            shard.close()
        made.service.stop()


def rows_in(lake: Path, view: str) -> pa.Table:
    """All rows of a view in a lake, in an order of their own."""
    files = sorted((lake / view).rglob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files]).unify_dictionaries()
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    table = pa.table(plain, names=table.column_names)
    return table.sort_by([(name, "ascending") for name in table.column_names])
