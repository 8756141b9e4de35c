"""Flows joined with routes of a live session, through the death of the RIB group's actor."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cluster.live import Live, running
from cluster.topology import plan_of, with_ports
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from tests.ingest.live_rig import generated, send, wait_for
from tests.rib.service_rig import Router

pytestmark = pytest.mark.ray

ROUTER = "127.0.3.1"
"""An exporter of `generated`, too."""

VIEW = {"name": "by_as", "keys": ["peer_src_ip", "dst_as", "dst_rung"], "window": "1h"}
GROUP = "rib/default"


@pytest.fixture
def live(ray_local: ModuleType, tmp_path: Path) -> Iterator[Live]:
    """One shard, one RIB group and an aggregator."""
    content = {
        "listen": {"flows": ["udp://127.0.0.1:0"], "bgp": {"address": "127.0.0.1:0"}},
        "routes": {
            "snapshot": "100ms",
            "save": "1s",
            "join": {"as_numbers": "routes"},
            "streams": {"bgp_log": {"sinks": ["rows"]}},
        },
        "views": [{**VIEW, "sinks": ["rows"]}],
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


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def router_of(live: Live) -> Router:
    bgp = live.plan.settings.listen.bgp
    assert bgp is not None
    return Router(port(bgp.address), ROUTER)


def group(live: Live) -> dict[str, Any]:
    status: dict[str, Any] = live.status()["ribs"][GROUP]
    return status


def joined(live: Live, **figures: int) -> bool:
    """Whether the shard has the newest snapshot of a group that has such figures."""
    status = live.status()
    rib = status["ribs"][GROUP]
    (shard,) = status["shards"].values()
    found = shard.get("joined", {}).get("default", {})
    newest = found and not found["stale"] and found["generation"] == rib.get("generation")
    same = newest and found["epoch"] == rib["epoch"]
    return bool(same) and all(rib[name] == value for name, value in figures.items())


def test_joins_go_on_while_the_actor_of_the_routes_is_dead(live: Live, tmp_path: Path) -> None:
    specs, batches, truth = generated(3)
    third = len(batches) // 3
    flows = port(live.plan.settings.listen.flows[0])
    with router_of(live) as router:
        router.establish()
        router.announce(["0.0.0.0/0"], 65551, 64500, end=True)
        wait_for(lambda: joined(live, routes=1), "routes in the shard", 60)
        sent = send(flows, specs, batches[:third])
        wait_for(lambda: group(live)["saves"] > 0, "saved routes", 60)
        wait_for(lambda: received(live) == sent, "first flows")
        os.kill(group(live)["pid"], signal.SIGKILL)
        wait_for(lambda: stale(live), "stale routes", 60)
    sent += send(flows, specs, batches[third : 2 * third])
    wait_for(lambda: received(live) == sent, "second flows")
    wait_for(lambda: joined(live, routes=1, stale_peers=1), "restored routes", 60)
    with router_of(live) as router:
        router.establish()
        router.announce(["0.0.0.0/0"], 65551, 64501, end=True)
        wait_for(lambda: joined(live, routes=1, stale_peers=0), "fresh routes", 60)
        sent += send(flows, specs, batches[2 * third :])
        wait_for(lambda: received(live) == sent, "third flows")
        summary = live.drain()
        assert router.message()[18] == 3  # NOTIFICATION: it is told that we stop
    assert summary["problems"] == []
    assert (summary["datagrams"], summary["kernel_drops"]) == (sent, 0)
    assert summary["records"] == len(truth)
    rows = [row for f in (tmp_path / "rows" / "by_as").rglob("*.jsonl") for row in read(f)]
    mine = {(r["as_dst"], r["rung_dst"]) for r in rows if r["peer_ip_src"] == ROUTER}
    assert {(64500, "global"), (64500, "global, stale"), (64501, "global")} <= mine
    assert {rung.partition(",")[0] for asn, rung in mine if not asn} <= {"no-route", "no-table"}
    log = [row for f in (tmp_path / "rows" / "bgp_log").rglob("*.jsonl") for row in read(f)]
    assert {row["event_type"] for row in log} >= {"log_init", "log"}


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def received(live: Live) -> int:
    (shard,) = live.status()["shards"].values()
    datagrams: int = shard["datagrams"]
    return datagrams


def stale(live: Live) -> bool:
    """Whether flows are joined with routes that no session keeps true: the last snapshot when
    nobody answers any more, or what was saved.
    """
    status = live.status()
    (shard,) = status["shards"].values()
    return shard["joined"]["default"]["stale"] or joined(live, stale_peers=1)


def test_the_group_reads_well(live: Live) -> None:
    wait_for(lambda: group(live)["state"] == "healthy", "group", 60)
    status = live.status()
    assert json.loads(json.dumps(status)) == status
    from actors.metrics import RIB

    assert {m.figure for m in RIB} <= set(status["ribs"][GROUP])
