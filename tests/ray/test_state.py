"""A cluster whose state is on object storage: actors and the server die, a new cluster goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.live import Live, running
from cluster.state import seeded
from cluster.topology import plan_of, with_ports
from flowray.filesystems import filesystem_of
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.settings.model import Settings
from flowray.state.snapshots import Shelf
from flowray.state.store import open_store
from tests.ingest.live_rig import generated, scaled, send, wait_for
from tests.s3_rig import S3Server

pytestmark = pytest.mark.ray


def configured(s3: S3Server, near: Path, state: str) -> Settings:
    content = {
        "listen": {"flows": ["udp://127.0.0.1:0"]},
        "views": [
            {
                "name": "hosts",
                "keys": ["peer_src_ip", "src_host"],
                "window": "1d",
                "sinks": ["far", "near"],
            },
            {"name": "raw", "keys": ["src_host", "dst_host"], "sinks": ["far"]},
        ],
        "sinks": {
            "far": {"type": "parquet", "path": s3.uri("lake", keys=True)},
            "near": {"type": "jsonl", "path": str(near)},
        },
        "state": {
            "path": s3.uri(state, keys=True),
            "checkpoint": "300ms",
            "snapshots": {"every": "1s", "path": s3.uri("snapshots", keys=True)},
        },
        "cluster": {"shards": 1, "hand_over": "200ms"},
    }
    return with_ports(parse_settings(content, "test"))


def aggregators(live: Live) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = live.status()["aggregators"]
    return found


def each(live: Live, figure: str) -> bool:
    """Whether this figure is not zero in any aggregator."""
    return all(aggregator.get(figure) for aggregator in aggregators(live).values())


def test_all_of_it_dies_and_nothing_is_lost(
    ray_local: ModuleType, tmp_path: Path, s3: S3Server
) -> None:
    if not s3.durable:
        pytest.skip("moto's server forgets; scripts/services install builds versitygw where Go is")
    specs, batches, truth = generated(3)
    third = len(batches) // 3
    old = configured(s3, tmp_path / "near", "old")
    with running(plan_of(compile_settings(old, "test"), "test")) as live:
        live.wait_ready()
        port = int(old.listen.flows[0].rpartition(":")[2])
        sent = send(port, specs, batches[:third])
        wait_for(lambda: all(a.get("partials") for a in aggregators(live).values()), "partials", 60)
        wait_for(
            lambda: all(a.get("checkpoints") for a in aggregators(live).values()), "stored", 60
        )
        for aggregator in aggregators(live).values():
            os.kill(aggregator["pid"], signal.SIGKILL)
        sent += send(port, specs, batches[third : 2 * third])
        wait_for(lambda: each(live, "restored"), "restored aggregators", 60)
        s3.kill()
        sent += send(port, specs, batches[2 * third :])
        wait_for(lambda: each(live, "errors"), "errors", 60)
        s3.start()
        shelf = Shelf(open_store(s3.uri("snapshots")))

        def complete() -> bool:
            name = next((n for n in reversed(shelf.names()) if shelf.complete(n)), None)
            if name is None:
                return False
            parts = shelf.manifests(name)
            left = sum(len(part["aggregator"]["outbox"]) for part in parts.values())
            rows = shelf.windows(name, "hosts-0")
            got = sum(rows["flows"].to_pylist()) if rows.num_rows else 0
            return left == 0 and got == scaled(truth)["flows"]

        wait_for(complete, "a snapshot of everything", 60)
        raw = aggregators(live)["aggregate/raw/0"]
        assert raw["committed"] == scaled(truth)
        live.end_all()  # nothing is drained, and the state path is lost with it
    new = seeded(configured(s3, tmp_path / "near", "new"), "latest")
    with running(plan_of(compile_settings(new, "test"), "test")) as live:
        live.wait_ready()
        summary = live.drain()
    assert summary["problems"] == []
    committed = dict(summary["committed"]["hosts"])
    committed.pop("rows")
    assert committed == scaled(truth)
    lines = [
        json.loads(line)
        for file in (tmp_path / "near").rglob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert sum(line["flows"] for line in lines) == scaled(truth)["flows"]
    filesystem, base = filesystem_of(s3.uri("lake"))
    for view in ("hosts", "raw"):
        found = pq.read_table(f"{base}/{view}", filesystem=filesystem)
        assert sum(found["flows"].to_pylist()) == scaled(truth)["flows"]
