"""Several nodes: who collects where, exporters that move, nodes that are emptied or die."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowray.generate import Truth
from tests.ingest.live_rig import generated, scaled, send, wait_for
from tests.ray.nodes_rig import COLLECTORS, Nodes, nodes

pytestmark = pytest.mark.ray

VIEWS = [
    # One window for all starts, and for arrivals, which are the time of samples: rows depend on
    # nothing but the records.
    {
        "name": "hosts",
        "keys": ["peer_src_ip", "src_host", "in_iface_name"],
        "window": "300d",
        "time": "start",
        "lateness": "10000d",
        "sinks": ["rows"],
    },
    {"name": "raw", "keys": ["src_host", "dst_host"], "sinks": ["rows"]},
]
RULE = {"labels": {"role": "collector"}, "listen": ["udp://{flow.ip}:0"]}


@pytest.fixture(scope="module")
def two() -> Iterator[Nodes]:
    with nodes("n1", "n2") as cluster:
        yield cluster


def content(path: Path, **cluster: Any) -> dict[str, Any]:
    return {
        "views": VIEWS,
        "sinks": {"rows": {"type": "jsonl", "path": str(path / "rows")}},
        "state": {"path": str(path / "state"), "ring": str(path / "ring"), "checkpoint": "500ms"},
        "cluster": {
            "shards": 1,
            "hand_over": "200ms",
            "nodes": [RULE],
            "node_grace": "1s",
            **cluster,
        },
    }


def port_of(status: dict[str, Any], node: str) -> int:
    return int(status["nodes"][node]["listen"][0].rpartition(":")[2])


def rows(path: Path, view: str = "hosts") -> list[str]:
    """All rows of a view, in order."""
    files = [f for f in (path / "rows").rglob("*.jsonl") if view in f.as_posix()]
    return sorted(line for file in files for line in file.read_text().splitlines())


def check(summary: dict[str, Any], sent: int, truth: Truth) -> None:
    assert summary["problems"] == []
    assert summary["kernel_drops"] == 0
    assert summary["datagrams"] == sent
    for view in ("hosts", "raw"):
        committed = dict(summary["committed"][view])
        committed.pop("rows")
        assert committed == scaled(truth)


def test_exporters_move_between_nodes_and_one_is_emptied(two: Nodes, tmp_path: Path) -> None:
    missing = {"labels": {"role": "edge"}}
    status = two.call("up", content(tmp_path, nodes=[missing, RULE]))
    assert status["waiting"] == ["waiting for a node with role=edge"]
    assert {n for n, report in status["nodes"].items() if report["state"] == "collects"} == {
        *COLLECTORS
    }
    assert {m["node"] for m in status["aggregators"].values()} > {"head"}  # they are spread
    specs, batches, truth = generated(3)
    third = len(batches) // 3
    port, sent = {n: port_of(status, n) for n in COLLECTORS}, 0
    for i, batch in enumerate(batches[: 2 * third]):
        node = ("n1", "n2")[i // 10 % 2]
        sent += send(port[node], specs, [batch], host=COLLECTORS[node])
    assert two.call("supervisor", "drain_node", "nowhere").startswith("no node nowhere")
    assert two.call("supervisor", "drain_node", "n1") == ""
    assert two.call("supervisor", "drain_node", "n2") == "no node but n2 collects"
    sent += send(port["n2"], specs, batches[2 * third :], host=COLLECTORS["n2"])
    wait_for(lambda: two.status()["nodes"]["n1"]["state"] == "drained", "empty node", 90)
    moved = two.status()["aggregators"].values()
    assert "n1" not in {m["node"] for m in moved}
    check(two.call("down"), sent, truth)
    assert len(rows(tmp_path, "raw")) == len(truth)


def committed(cluster: Nodes, path: Path, where: Sequence[str], shards: int) -> list[str]:
    """The rows of one run over these nodes, to which exporters send in turn."""
    rules = [{**RULE, "labels": {"flow.ip": COLLECTORS[name]}} for name in where]
    status = cluster.call("up", content(path, nodes=rules, shards=shards))
    assert len(status["shards"]) == shards * len(where)
    specs, batches, truth = generated(2)
    sent = 0
    for first in range(0, len(batches), 10):
        name = where[first // 10 % len(where)]
        some = batches[first : first + 10]
        sent += send(port_of(status, name), specs, some, host=COLLECTORS[name])
    check(cluster.call("down"), sent, truth)
    return rows(path)


def test_rows_depend_neither_on_shards_nor_on_nodes(two: Nodes, tmp_path: Path) -> None:
    one = committed(two, tmp_path / "one", ["n1"], 1)
    assert committed(two, tmp_path / "two", ["n1", "n2"], 2) == one


@pytest.mark.slow
@pytest.mark.parametrize("where", [["n1"], ["n1", "n2"]])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_rows_are_the_same_on_any_number_of_shards_and_nodes(
    two: Nodes, tmp_path: Path, where: list[str], shards: int
) -> None:
    one = committed(two, tmp_path / "one", ["n1"], 1)
    assert committed(two, tmp_path / "other", where, shards) == one


def pids(status: dict[str, Any]) -> dict[str, int]:
    return {n: m["pid"] for kind in ("shards", "aggregators") for n, m in status[kind].items()}


def test_a_killed_supervisor_restarts_none_and_a_dead_node_is_given_up(
    two: Nodes, tmp_path: Path
) -> None:
    status = two.call("up", content(tmp_path))
    wait_for(lambda: len(two.healthy("aggregators")) == 2, "aggregators", 90)
    before = pids(two.status())
    old = two.call("pid", "supervisor")
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: two.pid("supervisor") not in (None, old), "supervisor", 60)
    wait_for(lambda: two.healthy() and two.healthy("aggregators"), "probes", 60)
    assert pids(two.status()) == before
    specs, batches, truth = generated(2)
    half = len(batches) // 2
    sent = send(port_of(status, "n1"), specs, batches[:half], host=COLLECTORS["n1"])
    (on_n1,) = two.on("n1")

    def arrived() -> bool:
        heard = two.status()["shards"][on_n1]["heard"]
        return bool(heard == {"datagrams": sent, "pending_rows": 0, "unacknowledged": 0})

    wait_for(arrived, "accounts and acknowledgements", 60)
    two.call("kill_node", "n1")
    wait_for(lambda: two.status()["given_up"] == [on_n1], "end of grace", 60)
    sent += send(port_of(status, "n2"), specs, batches[half:], host=COLLECTORS["n2"])
    wait_for(lambda: len(two.healthy("aggregators")) == 2, "aggregators elsewhere", 90)
    two.call("add", "n1")
    wait_for(lambda: two.on("n1"), "shard on the new node", 90)
    # Its memory outlived its Ray: the shard there goes on from it, and its accounts count once.
    wait_for(lambda: not two.status()["given_up"], "return of the shard", 30)
    check(two.call("down"), sent, truth)
    assert len(rows(tmp_path, "raw")) == len(truth)
