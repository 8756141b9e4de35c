"""`flowray replay` of captures with routing sessions, and of MRT files, as an operator sees it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.cluster import route_capture as rc
from tests.cluster.route_capture import BGP, BMP, NONE, SEED, RouteCapture, flow
from tests.cluster.test_replay import replay
from tests.wire.bgp import mrt_records as m

JOINED = [
    *("peer_src_ip", "dst_host", "src_as", "dst_as", "peer_dst_as", "as_path", "std_comm"),
    *("local_pref", "med", "dst_net", "dst_mask", "peer_dst_ip", "dst_rung", "src_rung"),
]


def config(folder: Path, **more: Any) -> str:
    content = {
        "listen": {"bgp": {"local_as": 65000}, "bmp": {}},
        "views": [{"name": "flows", "keys": JOINED}],
        **more,
    }
    path = folder / "flowray.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def seed(folder: Path) -> Path:
    """A table of the router SEED, dumped before the capture begins."""
    index = m.peer_index([m.MrtPeer(*m.address_words(SEED), 65004, 0x0A000004)])
    attributes = m.ORIGIN + m.path(65004, 64504) + m.next_hop("198.51.100.4")
    table = m.table(2, m.prefix("203.0.113.0/24"), m.Entry(0, attributes))
    path = folder / "seed.mrt"
    path.write_bytes(index + table)
    return path


Capsys = pytest.CaptureFixture[str]

JOIN_KEYS = ("peer_ip_src", "ip_dst", "as_dst", "peer_as_dst", "as_path", "mask_dst", "rung_dst")


def joined(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in JOIN_KEYS)


FLOWS = [
    (BGP, "203.0.113.200", 64501, 65001, "65001_64501", 24, "global"),
    (BMP, "203.0.113.200", 64509, 65009, "65009_64509", 24, "global"),
    (NONE, "203.0.113.200", 0, 0, "", 0, "no-router"),
    (SEED, "203.0.113.200", 64504, 65004, "65004_64504", 24, "global"),
    (BGP, "203.0.113.200", 64502, 65001, "65001_64502", 25, "global"),
    (BGP, "203.0.113.9", 64501, 65001, "65001_64501", 24, "global"),
    (BGP, "203.0.113.200", 0, 0, "", 0, "no-router"),
    (BMP, "203.0.113.200", 64509, 65009, "65009_64509", 24, "global"),
]


def test_flows_have_the_routes_of_their_time(tmp_path: Path, capsys: Capsys) -> None:
    pcap = str(rc.usual_capture().write(tmp_path / "in.pcap"))
    out = tmp_path / "out"
    code, _, summary = replay(
        capsys, pcap, str(seed(tmp_path)), "-c", config(tmp_path), "--out", str(out), "--json"
    )
    assert (code, summary["balanced"], summary["records"]) == (0, True, 8)
    assert [Path(c["path"]).name for c in summary["captures"]] == ["in.pcap", "seed.mrt"]
    found = rows(out / "flows.jsonl")
    assert [joined(row) for row in found] == FLOWS
    first, changed, gone = found[0], found[4], found[6]
    # The source has a route of its own until it is withdrawn.
    assert [row["rung_src"] for row in (first, changed, gone)] == [
        "global",
        "no-route",
        "no-router",
    ]
    assert [row["as_src"] for row in (first, changed)] == [64500, 0]
    assert (first["comms"], first["local_pref"], first["med"]) == ("65001:1_65001:2", 90, 7)
    assert (first["net_dst"], first["peer_ip_dst"]) == ("203.0.113.0", "198.51.100.1")
    assert (changed["net_dst"], changed["peer_ip_dst"]) == ("203.0.113.128", "198.51.100.2")


def test_flows_follow_the_sessions_of_an_mrt_file(tmp_path: Path, capsys: Capsys) -> None:
    # All flows are one batch of the capture.
    c = RouteCapture()
    for seconds in range(0, 60, 10):
        c.flows(seconds, SEED, flow("10.0.0.1", "203.0.113.9"))
    head = m.session(65004, 65000, SEED, "192.0.2.254")
    records = [
        m.record(16, 4, head + m.update(m.ORIGIN + m.path(65004, n) + m.next_hop("198.51.100.4"),
                                        m.prefix("203.0.113.0/24")), m.SECONDS + n)
        for n in (5, 25, 45)
    ]  # fmt: skip
    mrt = tmp_path / "updates.mrt"
    mrt.write_bytes(b"".join(records))
    pcap = str(c.write(tmp_path / "in.pcap"))
    out = tmp_path / "out"
    replay(capsys, pcap, str(mrt), "-c", config(tmp_path), "--out", str(out), "--json")
    assert [r["as_dst"] for r in rows(out / "flows.jsonl")] == [0, 5, 5, 25, 25, 45]


def told(capsys: Capsys, folder: Path, method: str) -> list[tuple[Any, ...]]:
    """AS number, mask and next hop of flows that tell their own."""
    c = RouteCapture()
    c.session(0, "bgp", BGP, rc.opened(BGP), rc.announced("203.0.113.0/24", 65001, 64501))
    own = {"numbers": (1, 2), "hop": "198.51.100.9"}
    for mask in (16, 24, 28):
        c.flows(1, BGP, flow("10.0.0.1", "203.0.113.9", masks=(8, mask), **own))  # type: ignore[arg-type]
    c.flows(1, BGP, flow("10.0.0.1", "192.0.2.9", masks=(8, 24), **own))  # type: ignore[arg-type]
    join = {"join": {"as_numbers": method, "networks": method}}
    pcap = str(c.write(folder / f"{method}.pcap"))
    out = folder / method
    replay(capsys, pcap, "-c", config(folder, routes=join), "--out", str(out), "--json")
    found = rows(out / "flows.jsonl")
    return [(r["as_dst"], r["mask_dst"], r["peer_ip_dst"]) for r in found]


def test_who_tells_numbers_and_networks(tmp_path: Path, capsys: Capsys) -> None:
    route, record = (64501, 24, "198.51.100.1"), "198.51.100.9"
    kept = [(2, mask, record) for mask in (16, 24, 28, 24)]
    assert told(capsys, tmp_path, "flows") == kept
    routes = told(capsys, tmp_path, "routes")
    assert routes[:3] == [route] * 3
    assert routes[3][:2] == (0, 0)
    # The longer prefix, the route where they are equal, the record where there is no route.
    assert told(capsys, tmp_path, "longest") == [route, route, kept[2], kept[3]]


STREAMS = {name: {"sinks": ["lake"]} for name in ("bgp_log", "bmp_log")}
DUMP = {"every": "1m", "sinks": ["lake"]}


def test_streams_as_json_lines(tmp_path: Path, capsys: Capsys) -> None:
    c = rc.usual_capture()
    for seconds in (70, 130):
        c.flows(seconds, NONE, flow("10.0.0.1", "10.0.0.2"))
    pcap = str(c.write(tmp_path / "in.pcap"))
    streams = {**STREAMS, "bgp_dump": DUMP, "bmp_dump": DUMP}
    sinks = {"lake": {"type": "jsonl", "path": str(tmp_path / "lake")}}
    file = config(tmp_path, routes={"streams": streams}, sinks=sinks)
    out = tmp_path / "out"
    code, _, summary = replay(
        capsys, pcap, str(seed(tmp_path)), "-c", file, "--out", str(out), "--json"
    )
    assert (code, summary["balanced"]) == (0, True)
    log = rows(out / "bgp_log.jsonl")
    assert [(r["event_type"], r.get("log_type"), r.get("ip_prefix")) for r in log[:6]] == [
        ("log_init", None, None),
        ("log", "update", "10.0.0.0/8"),
        ("log", "update", "203.0.113.0/24"),
        ("log", "withdraw", "10.0.0.0/8"),
        ("log", "update", "203.0.113.128/25"),
        ("log", "delete", "203.0.113.0/24"),
    ]
    assert [r["seq"] for r in log] == list(range(7))
    assert (log[6]["log_type"], log[6]["ip_prefix"]) == ("delete", "203.0.113.128/25")
    assert [r.get("bmp_msg_type") for r in rows(out / "bmp_log.jsonl")] == [
        *(None, "init", "peer_up", "route_monitor"),
    ]
    # Dumps after one and two minutes of the capture: BMP, and what the MRT file told.
    for name in ("bmp_dump", "bgp_dump"):
        dump = rows(out / f"{name}.jsonl")
        kinds = Counter(r["event_type"] for r in dump)
        assert (kinds["dump_init"], kinds["dump_close"]) == (2, 2), name
        assert [r["ip_prefix"] for r in dump if r.get("ip_prefix")] == ["203.0.113.0/24"] * 2


def test_streams_as_parquet_in_configured_sinks(tmp_path: Path, capsys: Capsys) -> None:
    pcap = str(rc.usual_capture().write(tmp_path / "in.pcap"))
    lake = tmp_path / "lake"
    sinks = {"lake": {"type": "parquet", "path": str(lake)}}
    views = [{"name": "flows", "keys": JOINED, "sinks": ["lake"]}]
    file = config(tmp_path, routes={"streams": STREAMS}, sinks=sinks, views=views)
    code, _, summary = replay(capsys, pcap, "-c", file, "--json")
    assert (code, summary["balanced"], summary["unstored"]) == (0, True, [])
    found = {
        path.relative_to(lake).parts[0]: pq.read_table(path) for path in lake.rglob("*.parquet")
    }
    assert set(found) == {"flows", "bgp_log", "bmp_log"}
    assert found["bgp_log"]["log_type"].to_pylist()[1:3] == ["update", "update"]
    assert found["bgp_log"].num_rows == 7
    assert found["flows"]["as_dst"].to_pylist()[0] == 64501


def test_rows_of_a_stream_that_no_sink_takes_are_told(tmp_path: Path, capsys: Capsys) -> None:
    pcap = str(rc.usual_capture().write(tmp_path / "in.pcap"))
    (tmp_path / "taken").write_text("a file where the sink wants a directory")
    sinks = {"lake": {"type": "jsonl", "path": f"{tmp_path}/taken/deep"}}
    file = config(tmp_path, routes={"streams": STREAMS}, sinks=sinks)
    code, said, summary = replay(capsys, pcap, "-c", file, "--json")
    assert code == 2
    assert "flowray: 7 rows of bgp_log are not stored: cannot write" in said
    assert len(summary["unstored"]) == 2


def test_an_mrt_file_without_a_listener_is_an_error(tmp_path: Path, capsys: Capsys) -> None:
    from cluster.cli import main

    file = tmp_path / "flowray.yaml"
    file.write_text(yaml.safe_dump({"views": [{"name": "a", "keys": ["src_host"]}]}))
    for workers in ("0", "2"):
        with pytest.raises(SystemExit) as end:
            main(["replay", str(seed(tmp_path)), "-c", str(file), "--workers", workers])
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "an MRT file only where the configuration has listen.bgp" in said
