"""Generated BGP sessions are taken by our own collector, live and out of captures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cluster.replay import Captures
from flowray.generate.bench import bench_traffic
from flowray.generate.capture import write_capture
from flowray.generate.population import Population
from flowray.generate.routes import PEER_AS, peer_as, routing_table, seen_by, updates
from flowray.generate.session import write_session
from flowray.generate.speaker import END_OF_RIB, Speaker
from flowray.generate.traffic import START_NS
from flowray.replay import Replay
from flowray.rib.replay import route_ports
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from tests.ingest.live_rig import wait_for
from tests.rib.service_rig import group, program

TABLE = routing_table(1, 600, 120, Population(1).prefixes)
EXPORTER, COLLECTOR = "192.0.2.1", "203.0.113.1"


def test_a_speaker_announces_its_table(tmp_path: Path) -> None:
    with group(program(tmp_path)) as running, Speaker(("127.0.0.1", running.port("bgp"))) as one:
        one.send(updates(TABLE).buf)
        one.send(END_OF_RIB)
        wait_for(lambda: running.service.status().get("routes") == len(TABLE), "all routes")
        assert running.service.status()["malformed"] == {}


def test_peers_have_the_same_routes_and_their_own_paths() -> None:
    other = seen_by(TABLE, 3)
    first = TABLE.path_offset[:-1]
    np.testing.assert_array_equal(other.lo, TABLE.lo)
    assert set(other.path[first].tolist()) == {peer_as(3)}
    assert set(TABLE.path[first].tolist()) == {PEER_AS}


def test_flows_join_the_routes_of_a_captured_session(tmp_path: Path) -> None:
    session, flows = tmp_path / "session.pcap", tmp_path / "flows.pcap"
    write_session(
        session, updates(TABLE), EXPORTER, COLLECTOR,
        asn=PEER_AS, start_ns=START_NS - 10**9, end_ns=START_NS - 1,
    )  # fmt: skip
    write_capture(flows, bench_traffic(400, 20, 100))
    content: dict[str, Any] = {
        "listen": {"bgp": {"address": "127.0.0.1:1179"}},
        "views": [
            {"name": "all", "keys": ["src_as", "dst_as", "peer_dst_ip", "dst_rung"], "window": "1h"}
        ],
        "state": {"path": str(tmp_path)},
        "routes": {"join": {"as_numbers": "routes", "networks": "routes"}},
    }
    of = compile_settings(parse_settings(content, "test"), "test")
    sink = MemorySink()
    replay = Replay(of, lambda _view, _partition: [sink])
    for batch in Captures(
        [session, flows], replay.collector.exporters, frozenset(route_ports(of.settings))
    ):
        replay.feed(batch)
    replay.finish()
    rows = [row for table in sink.tables.values() for row in table.to_pylist()]
    known = set(Population(1).prefixes.asn.tolist())
    assert rows
    assert {row["src_as"] for row in rows} | {row["dst_as"] for row in rows} <= known
    assert {row["dst_rung"] for row in rows} == {b"global"}
    assert len({row["peer_dst_ip"] for row in rows}) == 1
