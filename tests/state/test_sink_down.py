"""A sink that is really down under load: figures of the outbox and of the other sink."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flowray.filesystems import filesystem_of
from flowray.ingest.delivery import LocalTransport
from flowray.ingest.knowledge import KnowledgeStore
from flowray.ingest.ledger import merge_snapshots, problems
from flowray.ingest.shard import Shard
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.opening import open_sinks
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation
from flowray.views.checkpoint import Checkpoint
from tests.ingest.live_rig import generated, port_of, scaled, send, wait_for
from tests.s3_rig import S3Server
from tests.state.test_outbox import Reluctant

LIMIT = 1 << 30


def run(s3: S3Server, folder: Path, up_seconds: float, down_seconds: float) -> dict[str, Any]:
    """Send all the time; the S3 server is away in the middle of it."""
    content = {
        "listen": {"flows": ["udp://127.0.0.1:0"]},
        "views": [
            {
                "name": "hosts",
                "keys": ["src_host", "dst_host", "src_port"],
                "window": "1s",
                "sinks": ["far", "near"],
            }
        ],
        "sinks": {
            "far": {"type": "parquet", "path": s3.uri(f"{folder.name}/lake")},
            "near": {"type": "jsonl", "path": str(folder / "near")},
        },
        "cluster": {"hand_over": "200ms"},
    }
    program = compile_settings(parse_settings(content, "test"), "test")
    store = open_store(folder / "state")
    aggregation = Aggregation(
        program.views[0],
        open_sinks(program, "hosts"),
        checkpoint=Checkpoint(store, "checkpoints/hosts-0.checkpoint"),
        interval_ns=1_000_000_000,
        outbox_limit=LIMIT,
    )
    aggregation.start()
    aggregation.expect(["s"])
    done = threading.Event()
    lateness: list[float] = []
    most = {"octets": 0, "files": 0}
    box = folder / "state" / "outbox" / "hosts-0"

    def work() -> None:
        while not done.wait(0.1):
            aggregation.tick()
            report = aggregation.status()["outbox"]
            files = list(box.glob("*.commit")) if box.exists() else []
            most["files"] = max(most["files"], len(files))
            most["octets"] = max(most["octets"], report["far"]["octets"])
            lateness.append(report["near"]["commits"])

    ticking = threading.Thread(target=work)
    ticking.start()
    shard = Shard(
        program,
        "s",
        LocalTransport([aggregation]),
        KnowledgeStore(store),
        listen=["udp://127.0.0.1:0"],
    )
    shard.start()
    specs, batches, truth = generated(2)
    datagrams, rounds = 0, 0
    begun = time.monotonic()

    def load(seconds: float) -> None:
        nonlocal datagrams, rounds
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            datagrams += send(port_of(shard), specs, batches)
            rounds += 1

    load(up_seconds)
    s3.kill()
    load(down_seconds)
    waiting = aggregation.status()["outbox"]["far"]
    s3.start()
    back = time.monotonic()
    load(up_seconds)
    figures = shard.drain(60, final=True)
    wait_for(lambda: not aggregation.status()["outbox"]["far"]["commits"], "drained outbox", 300)
    drained = time.monotonic() - back
    done.set()
    ticking.join()
    aggregation.finish()
    status = aggregation.status()
    ledger = merge_snapshots([figures["ledger"], aggregation.ledger()])
    aggregation.close()
    assert problems(ledger, held=figures["sets_held"]) == []
    total = scaled(truth)["flows"] * rounds
    assert status["committed"]["flows"] == total
    filesystem, base = filesystem_of(s3.uri(f"{folder.name}/lake"))
    far = pq.read_table(f"{base}/hosts", filesystem=filesystem, columns=["flows"])
    assert sum(far["flows"].to_pylist()) == total
    near = 0
    for file in (folder / "near").rglob("*.jsonl"):
        near += sum(json.loads(line)["flows"] for line in file.read_text().splitlines())
    assert near == total
    assert list(box.iterdir()) == []
    return {
        "seconds": round(time.monotonic() - begun),
        "datagrams": datagrams,
        "flows": total,
        "waited_commits": waiting["commits"],
        "most_octets": most["octets"],
        "most_files": most["files"],
        "drained_after_seconds": round(drained, 1),
        "most_behind_other_sink_commits": max(lateness),
        "refused_partials": status["refused"],
        "offers_refused": status["sink_errors"],
        "checkpoints": status["checkpoints"],
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_minutes_under_load(s3: S3Server, tmp_path: Path) -> None:
    if not s3.durable:
        pytest.skip("moto's server forgets; scripts/services install builds versitygw where Go is")
    figures = run(s3, tmp_path, 10, 300)
    print(json.dumps(figures))
    assert figures["waited_commits"] >= 250
    assert figures["most_octets"] < LIMIT
    assert figures["refused_partials"] == 0
    assert figures["most_behind_other_sink_commits"] <= 5


def test_some_seconds_under_load(s3: S3Server, tmp_path: Path) -> None:
    if not s3.durable:
        pytest.skip("moto's server forgets; scripts/services install builds versitygw where Go is")
    figures = run(s3, tmp_path, 0.5, 2)
    assert figures["waited_commits"] > 0
    assert figures["refused_partials"] == 0


def test_at_the_bound_shards_hold_what_they_have(tmp_path: Path) -> None:
    content = {
        "listen": {"flows": ["udp://127.0.0.1:0"]},
        "views": [{"name": "hosts", "keys": ["src_host"], "window": "1s"}],
        "cluster": {"hand_over": "100ms"},
    }
    program = compile_settings(parse_settings(content, "test"), "test")
    store, sink = open_store(tmp_path), Reluctant()
    aggregation = Aggregation(
        program.views[0],
        {"down": sink},
        checkpoint=Checkpoint(store, "c"),
        interval_ns=100_000_000,
        outbox_limit=1,
    )
    aggregation.start()
    aggregation.expect(["s"])
    transport, knowledge = LocalTransport([aggregation]), KnowledgeStore(store)
    shard = Shard(program, "s", transport, knowledge, listen=["udp://127.0.0.1:0"])
    shard.start()
    specs, batches, truth = generated(1)
    rounds = 0

    def full() -> bool:
        nonlocal rounds
        send(port_of(shard), specs, batches)
        rounds += 1
        aggregation.tick()
        return bool(aggregation.status()["refused"] > 2)

    wait_for(full, "refusals", 60)
    assert aggregation.status()["outbox_full"] == "down"
    sink.down = False

    def empty() -> bool:
        aggregation.tick()
        return not aggregation.status()["outbox_full"]

    wait_for(empty, "room", 60)
    figures = shard.drain(60, final=True)
    aggregation.finish()
    ledger = merge_snapshots([figures["ledger"], aggregation.ledger()])
    assert problems(ledger, held=figures["sets_held"]) == []
    total = scaled(truth)["flows"] * rounds
    assert aggregation.status()["committed"]["flows"] == total
    assert sum(sum(t["flows"].to_pylist()) for t in sink.tables.values()) == total
    aggregation.close()
