from pathlib import Path
from types import ModuleType

import pytest

from cluster.replay import replay_here, sinks_for
from cluster.replay_workers import replay_on
from flowray.errors import CaptureError
from flowray.generate import MIX, bench_traffic, default_exporters, traffic
from flowray.generate.capture import write_capture, write_traffic
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings

pytestmark = pytest.mark.ray

VIEWS = {
    "views": [
        {"name": "talkers", "keys": ["src_host", "dst_host", "proto"], "window": "5s"},
        {
            "name": "interfaces",
            "keys": ["peer_src_ip", "in_iface", "in_iface_name", "mpls_vpn_rd", "label"],
            "window": "20s",
            "time": "start",
            "split": True,
            "lateness": "5s",
            "partitions": 2,
        },
        {"name": "raw", "keys": ["peer_src_ip", "src_host", "tcpflags"], "filter": "proto = tcp"},
    ]
}


def rows(path: Path) -> dict[str, list[str]]:
    return {f.name: sorted(f.read_text().splitlines()) for f in path.glob("*.jsonl")}


def program() -> Program:
    return compile_settings(parse_settings(VIEWS, "test"), "test")


def test_rows_and_accounts_do_not_depend_on_the_workers(
    ray_local: ModuleType, tmp_path: Path
) -> None:
    inputs = [tmp_path / "bench.pcap", tmp_path / "live.pcap"]
    write_capture(inputs[0], bench_traffic(20_000, distinct=2000, mix=MIX, exporters=2))
    specs = default_exporters(7, "198.51.100.1")
    write_traffic(inputs[1], traffic(3, specs, rate=500, seconds=20), specs)
    here = replay_here(program(), inputs, sinks_for(program(), tmp_path / "0", "jsonl"), quiet=True)
    assert here.problems == []
    assert here.records > 20_000
    expected = rows(tmp_path / "0")
    assert all(expected.values())
    for workers in (1, 2):
        out = tmp_path / str(workers)
        summary = replay_on(program(), inputs, out, "jsonl", workers, quiet=True)
        assert summary.problems == []
        assert summary.ledger == here.ledger
        assert summary.captures == here.captures
        assert (summary.records, summary.rows) == (here.records, here.rows)
        assert rows(out) == expected


def test_a_missing_capture_is_told_as_in_process(ray_local: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(CaptureError):
        replay_on(program(), [tmp_path / "none.pcap"], tmp_path, "jsonl", 1, quiet=True)
