"""Actors on a Ray of this machine, real sockets, generated exporters."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from actors.naming import NAMESPACE, aggregate_name
from cluster.live import Live, running
from cluster.topology import plan_of, with_ports
from flowray.generate import Truth
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from tests.ingest.live_rig import generated, scaled, send, wait_for

pytestmark = pytest.mark.ray

VIEWS = [
    {"name": "hosts", "keys": ["peer_src_ip", "src_host", "in_iface_name"], "window": "2s"},
    {"name": "raw", "keys": ["src_host", "dst_host"], "sinks": ["rows"]},
]


@pytest.fixture
def live(ray_local: ModuleType, tmp_path: Path) -> Iterator[Live]:
    """One shard and an aggregator for each view."""
    content = {
        "listen": {"flows": ["udp://127.0.0.1:0"]},
        "views": VIEWS,
        "sinks": {"rows": {"type": "jsonl", "path": str(tmp_path / "rows")}},
        "state": {
            "path": str(tmp_path / "state"),
            "ring": str(tmp_path / "ring"),
            "checkpoint": "500ms",
        },
        "cluster": {"shards": 1, "hand_over": "200ms"},
    }
    settings = with_ports(parse_settings(content, "test"))
    with running(plan_of(compile_settings(settings, "test"), "test")) as one:
        one.wait_ready()
        yield one


def port(live: Live) -> int:
    return int(live.plan.settings.listen.flows[0].rpartition(":")[2])


def healthy(live: Live) -> list[str]:
    shards = live.status()["shards"]
    return [name for name, s in shards.items() if s["state"] == "healthy"]


def states(live: Live, kind: str) -> list[str]:
    return [member["state"] for member in live.status()[kind].values()]


def check(summary: dict[str, Any], sent: int, truth: Truth) -> None:
    assert summary["problems"] == []
    assert summary["datagrams"] + summary["kernel_drops"] == sent
    assert summary["kernel_drops"] == 0
    for view in ("hosts", "raw"):
        committed = dict(summary["committed"][view])
        committed.pop("rows")
        assert committed == scaled(truth)


def test_shards_come_and_go_while_exporters_send(live: Live, tmp_path: Path) -> None:
    import ray

    specs, batches, truth = generated(4)
    quarter = len(batches) // 4
    sent = send(port(live), specs, batches[:quarter])
    ray.get(live.supervisor.set_shards.remote(2))
    (first,) = healthy(live)
    wait_for(lambda: len(healthy(live)) == 2, "second shard", 60)
    sent += send(port(live), specs, batches[quarter : 2 * quarter])
    ray.get(live.supervisor.restart_shard.remote(first))
    wait_for(lambda: first not in live.status()["shards"], "replacement", 60)
    sent += send(port(live), specs, batches[2 * quarter : 3 * quarter])
    ray.get(live.supervisor.set_shards.remote(1))
    wait_for(lambda: len(live.status()["shards"]) == 1, "removal", 60)
    sent += send(port(live), specs, batches[3 * quarter :])
    summary = live.drain()
    check(summary, sent, truth)
    rows = sum(len(f.read_text().splitlines()) for f in (tmp_path / "rows").rglob("*.jsonl"))
    assert rows == len(truth)


def test_the_only_shard_is_replaced_without_a_gap(live: Live) -> None:
    import ray

    specs, batches, truth = generated(4)
    (first,) = healthy(live)
    sent = send(port(live), specs, batches[:20])
    ray.get(live.supervisor.restart_shard.remote(first))
    for batch in batches[20:]:
        sent += send(port(live), specs, [batch])
    wait_for(lambda: first not in live.status()["shards"], "replacement", 60)
    assert len(healthy(live)) == 1
    check(live.drain(), sent, truth)


def test_a_killed_aggregator_changes_no_total(live: Live) -> None:
    import ray

    specs, batches, truth = generated(3)
    third = len(batches) // 3
    sent = send(port(live), specs, batches[:third])

    def statuses() -> list[dict[str, Any]]:
        return list(live.status()["aggregators"].values())

    wait_for(lambda: all(a.get("checkpoints") for a in statuses()), "checkpoints")
    sent += send(port(live), specs, batches[third : 2 * third])
    for view in ("hosts", "raw"):
        ray.kill(ray.get_actor(aggregate_name(view, 0), NAMESPACE), no_restart=False)
    sent += send(port(live), specs, batches[2 * third :])
    wait_for(lambda: all(a.get("restored") for a in statuses()), "restored aggregators", 60)
    check(live.drain(), sent, truth)


def test_a_hung_shard_is_replaced(live: Live) -> None:
    (name,) = healthy(live)
    before = live.status()["shards"][name]
    os.kill(before["pid"], signal.SIGSTOP)

    def replaced() -> bool:
        shard = live.status()["shards"][name]
        return shard["state"] == "healthy" and shard["pid"] != before["pid"]

    wait_for(replaced, "replacement", 60)
    specs, batches, truth = generated(1)
    sent = send(port(live), specs, batches)
    summary = live.drain()
    check(summary, sent, truth)


def test_actors_read_well(live: Live) -> None:
    import ray

    names = {e["name"] for e in ray.util.list_named_actors(all_namespaces=True)}
    assert {"supervisor", "templates", "aggregate/hosts/0", "aggregate/raw/0"} <= names
    (shard,) = healthy(live)
    assert shard in names
    wait_for(lambda: set(states(live, "aggregators")) == {"healthy"}, "aggregators", 60)
    status = live.status()
    assert json.loads(json.dumps(status)) == status
    from actors.metrics import AGGREGATOR, SHARD, STORE

    for metrics, found in (
        (SHARD, status["shards"][shard]),
        (AGGREGATOR, status["aggregators"]["aggregate/hosts/0"]),
        (STORE, status["templates"]),
    ):
        assert {m.figure for m in metrics} <= set(found)
