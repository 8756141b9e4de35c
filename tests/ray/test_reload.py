"""Another configuration for actors that run, while exporters send."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cluster.live import Live, running
from cluster.reload import ReloadError, apply, compared, wait_agreed
from cluster.topology import plan_of, with_ports
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.settings.model import Settings
from tests.ingest.live_rig import generated, scaled, send, wait_for

pytestmark = pytest.mark.ray

WINDOW = {"window": "1m", "time": "start", "lateness": "10000d", "sinks": ["rows"]}
HOSTS = {"name": "hosts", "keys": ["label", "src_host"], **WINDOW}
RAW = {"name": "raw", "keys": ["src_host", "dst_host"]}
PORTS = {"name": "ports", "keys": ["dst_port"], **WINDOW}
CHANGED = {"name": "ports", "keys": ["dst_port", "proto"], **WINDOW, "sinks": ["rows", "more"]}


def settings(path: Path, *views: dict[str, Any], **sections: Any) -> Settings:
    content = {
        "listen": {"flows": ["udp://127.0.0.1:0"]},
        "views": list(views),
        "maps": {"labels": str(path / "labels.map")},
        "sinks": {
            "rows": {"type": "jsonl", "path": str(path / "rows")},
            "more": {"type": "jsonl", "path": str(path / "more")},
        },
        "state": {"path": str(path / "state"), "checkpoint": "500ms"},
        "cluster": {"shards": 2, "hand_over": "200ms"},
        **sections,
    }
    return parse_settings(content, "test")


@pytest.fixture
def live(ray_local: ModuleType, tmp_path: Path) -> Iterator[Live]:
    (tmp_path / "labels.map").write_text("set_label=before ip=0.0.0.0/0\n")
    one = with_ports(settings(tmp_path, HOSTS, RAW, PORTS))
    with running(plan_of(compile_settings(one, "test"), "test")) as live:
        live.wait_ready()
        yield live


def reload(live: Live, new: Settings) -> list[str]:
    """The plan that was carried out."""
    whole, found = compared(live.supervisor, new)
    apply(live.supervisor, whole, "test")
    wait_agreed(live.supervisor)
    return list(found.lines())


def test_views_maps_and_sinks_change_while_exporters_send(live: Live, tmp_path: Path) -> None:
    port = int(live.plan.settings.listen.flows[0].rpartition(":")[2])
    before = live.status()
    with pytest.raises(ReloadError, match=r"listen\.flows: found"):
        reload(live, settings(tmp_path, HOSTS, listen={"flows": ["udp://127.0.0.1:1"]}))
    specs, batches, truth = generated(4)
    half = len(batches) // 2
    sent = [send(port, specs, batches[:half])]
    rest = threading.Thread(target=lambda: sent.append(send(port, specs, batches[half:], rate=200)))
    rest.start()
    (tmp_path / "labels.map").write_text("set_label=after ip=0.0.0.0/0\n")
    assert reload(live, settings(tmp_path, HOSTS, CHANGED)) == [
        "view raw: removed",
        "view ports: folded anew",
        "maps.labels: read again",
    ]
    rest.join()

    def received() -> bool:
        return sum(s["datagrams"] for s in live.status()["shards"].values()) == sum(sent)

    wait_for(received, "datagrams", 60)
    now = live.status()
    for name, shard in before["shards"].items():
        assert (now["shards"][name]["pid"], now["shards"][name]["restarts"]) == (shard["pid"], 0)
    assert len({s["configuration"] for s in now["shards"].values()}) == 1
    assert set(now["aggregators"]) == {"aggregate/hosts/0", "aggregate/ports/0"}
    summary = live.drain()
    assert summary["problems"] == []
    assert summary["datagrams"] + summary["kernel_drops"] == sum(sent)
    assert summary["kernel_drops"] == 0
    for view in ("hosts", "ports"):
        committed = dict(summary["committed"][view])
        committed.pop("rows")
        assert committed == scaled(truth)
    raw = summary["ledger"]["views"]["raw"]
    assert raw["committed"] + raw["absent"] == len(truth)
    written = "".join(f.read_text() for f in (tmp_path / "rows").rglob("*.jsonl"))
    assert '"label":"before"' in written.replace(": ", ":")
    assert '"label":"after"' in written.replace(": ", ":")
    assert "ip_proto" in written
    assert list((tmp_path / "more").rglob("*.jsonl"))
