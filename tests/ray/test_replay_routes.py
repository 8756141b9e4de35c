"""Replays with routes on workers: the rows of flows and streams do not depend on their number."""

from pathlib import Path
from types import ModuleType

import pytest

from cluster.replay import replay_here, sinks_for
from cluster.replay_workers import replay_on
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from tests.cluster import route_capture as rc
from tests.cluster.test_replay_routes import DUMP, JOINED, STREAMS, seed

pytestmark = pytest.mark.ray


def program(folder: Path) -> Program:
    streams = {**STREAMS, "bgp_dump": DUMP, "bmp_dump": DUMP}
    views = [
        {"name": "flows", "keys": JOINED},
        {"name": "by_as", "keys": ["peer_src_ip", "dst_as", "as_path"], "window": "1m"},
    ]
    content = {
        "listen": {"bgp": {"local_as": 65000}, "bmp": {}},
        "views": views,
        "routes": {"streams": streams},
        "sinks": {"lake": {"type": "jsonl", "path": str(folder / "lake")}},
    }
    return compile_settings(parse_settings(content, "test"), "test")


def test_rows_do_not_depend_on_the_workers(ray_local: ModuleType, tmp_path: Path) -> None:
    capture = rc.usual_capture()
    for n in range(10, 200, 10):
        for router in (rc.BGP, rc.BMP, rc.NONE, rc.SEED):
            capture.flows(n, router, rc.flow("10.1.1.1", "203.0.113.200"))
    inputs = [capture.write(tmp_path / "in.pcap"), seed(tmp_path)]
    p = program(tmp_path)
    here = replay_here(p, inputs, sinks_for(p, tmp_path / "0", "jsonl"), quiet=True)
    assert (here.problems, here.records) == ([], 84)
    for workers in (1, 3):
        out = tmp_path / str(workers)
        summary = replay_on(p, inputs, out, "jsonl", workers, quiet=True)
        assert (summary.problems, summary.unstored) == ([], [])
        assert summary.ledger == here.ledger
        assert summary.captures == here.captures
        for file in (tmp_path / "0").iterdir():
            ours, theirs = (out / file.name).read_text(), file.read_text()
            if file.stem in ("flows", "by_as"):
                assert sorted(ours.splitlines()) == sorted(theirs.splitlines())
            else:
                assert ours == theirs, file.name
    assert {f.stem for f in (tmp_path / "0").iterdir()} == {
        *("flows", "by_as", "bgp_log", "bmp_log", "bgp_dump", "bmp_dump"),
    }
