"""Real exporters, live over loopback: what they were given is what we count."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest

from flowray.generate import frames
from flowray.generate.frames import TCP, UDP
from flowray.ingest.delivery import LocalTransport
from flowray.ingest.knowledge import KnowledgeStore
from flowray.ingest.ledger import merge_snapshots, problems, totals
from flowray.ingest.shard import Shard
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.sinks.render import render
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation
from flowray.wire.pcap import PcapWriter

pytestmark = pytest.mark.peers

Peer = Callable[[str], Path]
Key = tuple[str, str, int, int, int]
Sums = dict[Key, tuple[int, int]]

PACKETS, FLOWS, LAST = 1200, 60, 20
"""The last packets are a flow of their own: sfprobe never sends its last, unfinished datagram."""

FRAME_OCTETS = 18
"""Ethernet header and frame check sequence: both count in an sFlow sample's frame length."""

LONGEST_PAYLOAD = 1400
GAP_NS = 1_000_000
START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """A capture of packets, and the packets and octets (of IP, of frames) of each flow."""

    path: Path
    ip: Sums
    frames: Sums
    last: Key


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    rng = np.random.default_rng(7)
    flow = np.append(rng.integers(0, FLOWS, PACKETS - LAST), np.full(LAST, FLOWS))
    proto = np.where(flow % 3 == 0, UDP, TCP)
    src, dst = 0x0A000001 + flow % 17, 0x0A010001 + flow // 17
    src_port, dst_port = 20_000 + flow, np.where(proto == TCP, 443, 4500)
    payload = rng.integers(20, LONGEST_PAYLOAD, PACKETS)
    length = 20 + np.where(proto == TCP, 20, 8) + payload
    ethernet = frames.ethernet(PACKETS, 0x02_00_5E_00_53_01, 0x02_00_5E_00_53_02, 0x0800)
    ip = frames.ipv4(PACKETS, src=src, dst=dst, proto=proto, total_length=length)
    tcp = frames.tcp(PACKETS, src_port=src_port, dst_port=dst_port)
    udp = frames.udp(PACKETS, src_port=src_port, dst_port=dst_port, length=8 + payload)
    data = frames.filler(PACKETS, LONGEST_PAYLOAD)
    packets = []
    for i in range(PACKETS):
        layer = (udp if proto[i] == UDP else tcp)[i]
        row = np.concatenate([ethernet[i], ip[i], layer, data[i, : payload[i]]])
        packets.append(row.tobytes())
    path = tmp_path_factory.mktemp("exporters") / "packets.pcap"
    with PcapWriter(path, nanoseconds=False) as writer:
        writer.write_frames(packets, START_NS + np.arange(PACKETS) * GAP_NS)
    count: Counter[Key] = Counter()
    octets: Counter[Key] = Counter()
    columns = (dotted(src), dotted(dst), *(c.tolist() for c in (src_port, dst_port, proto)))
    for *key, size in zip(*columns, length.tolist(), strict=True):
        count[tuple(key)] += 1
        octets[tuple(key)] += size
    of_ip = {key: (n, octets[key]) for key, n in count.items()}
    framed = {key: (n, octets[key] + n * FRAME_OCTETS) for key, n in count.items()}
    return Traffic(path, of_ip, framed, last=tuple(key))


def dotted(addresses: Any) -> list[str]:
    return [".".join(str(a >> shift & 255) for shift in (24, 16, 8, 0)) for a in addresses.tolist()]


@dataclass(slots=True)
class Live:
    """A shard and its aggregator, listening on a port of loopback."""

    shard: Shard
    aggregation: Aggregation
    sink: MemorySink
    render: Callable[[pa.Table], pa.Table]

    @property
    def port(self) -> int:
        port = urlsplit(self.shard.addresses[0]).port
        assert port
        return port

    def finish(self) -> tuple[Sums, dict[str, int]]:
        """Take what waits at the socket; the sums of all flows and the accounts, which balance."""
        figures = self.shard.drain(final=True)
        self.aggregation.finish()
        ledger = merge_snapshots([figures["ledger"], self.aggregation.ledger()])
        assert problems(ledger, held=figures["sets_held"]) == []
        assert (figures["kernel_drops"], figures["errors"], figures["unacknowledged"]) == (0, 0, 0)
        rows = [row for t in self.sink.tables.values() for row in self.render(t).to_pylist()]
        return summed(rows), totals(ledger)


def summed(rows: Iterable[dict[str, Any]]) -> Sums:
    sums: Sums = {}
    for row in rows:
        key = row["ip_src"], row["ip_dst"], row["port_src"], row["port_dst"]
        proto = {"tcp": TCP, "udp": UDP}[row["ip_proto"]]
        packets, octets = sums.get((*key, proto), (0, 0))
        sums[*key, proto] = packets + row["packets"], octets + row["bytes"]
    return sums


def program_of(sinks: Mapping[str, object] | None = None, **more: object) -> Program:
    view = {
        "name": "flows",
        "keys": ["src_host", "dst_host", "src_port", "dst_port", "proto"],
        "window": "1h",
        "sinks": list(sinks or ()),
    }
    listen = {"flows": ["udp://127.0.0.1:0"]}
    settings = {"listen": listen, "views": [view], "sinks": dict(sinks or {}), **more}
    return compile_settings(parse_settings(settings, "test"), "test")


@contextmanager
def listening(folder: Path, **decode: object) -> Iterator[Live]:
    program = program_of(decode=decode)
    sink = MemorySink()
    aggregation = Aggregation(program.views[0], [sink])
    aggregation.expect(["s"])
    store = KnowledgeStore(open_store(folder))
    shard = Shard(program, "s", LocalTransport([aggregation]), store)
    shard.start()
    try:
        form = partial(
            render, fields=program.output_fields("flows"), encoding=program.encoding("flows")
        )
        yield Live(shard, aggregation, sink, form)
    finally:
        shard.close()


def run(*command: object, status: Sequence[int] = (0,)) -> None:
    """Until the program and those that it forked have closed their output."""
    done = subprocess.run([*map(str, command)], capture_output=True, timeout=60, check=False)
    assert done.returncode in status, (done.stdout + done.stderr).decode(errors="replace")


def configuration(folder: Path, traffic: Traffic, *lines: str) -> Path:
    path = folder / "pmacctd.conf"
    common = ("daemonize: false", f"pcap_savefile: {traffic.path}", "snaplen: 2000")
    path.write_text("\n".join((*common, *lines)) + "\n")
    return path


@pytest.mark.parametrize("version", [5, 9, 10])
def test_softflowd(peer: Peer, traffic: Traffic, tmp_path: Path, version: int) -> None:
    program = peer("softflowd")
    with listening(tmp_path) as live:
        # In the foreground, from a file and without a control socket it ends by itself.
        options = ("-d", "-c", "none", "-p", tmp_path / "pid", "-v", version)
        run(program, *options, "-r", traffic.path, "-n", f"127.0.0.1:{live.port}")
        sums, accounts = live.finish()
    assert sums == traffic.ip
    assert accounts["records"] >= len(traffic.ip)


@pytest.mark.ray
def test_softflowd_on_ray(
    peer: Peer, ray_local: ModuleType, traffic: Traffic, tmp_path: Path
) -> None:
    from cluster.live import running
    from cluster.topology import absolute, plan_of, with_ports

    program = peer("softflowd")
    given = program_of(
        sinks={"out": {"type": "jsonl", "path": f"{tmp_path}/out"}},
        state={"path": f"{tmp_path}/state"},
        cluster={"shards": 1},
    )
    settings = with_ports(absolute(given.settings))
    plan = plan_of(compile_settings(settings, "test"), "test")
    with running(plan) as live:
        live.wait_ready()
        target = f"127.0.0.1:{urlsplit(settings.listen.flows[0]).port}"
        options = ("-d", "-c", "none", "-p", tmp_path / "pid", "-v", 10)
        run(program, *options, "-r", traffic.path, "-n", target)
        end = live.drain()
    assert (end["problems"], end["kernel_drops"]) == ([], 0)
    files = (tmp_path / "out").rglob("*.jsonl")
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert summed(rows) == traffic.ip


@pytest.mark.parametrize("version", [5, 9, 10])
def test_nfprobe(peer: Peer, traffic: Traffic, tmp_path: Path, version: int) -> None:
    program = peer("pmacctd")
    with listening(tmp_path) as live:
        path = configuration(
            tmp_path,
            traffic,
            "plugins: nfprobe",
            "aggregate: src_host, dst_host, src_port, dst_port, proto, tos",
            f"nfprobe_receiver: 127.0.0.1:{live.port}",
            f"nfprobe_version: {version}",
        )
        # Its core asks the plug-in to end; which of them is first decides the status.
        run(program, "-f", path, status=(0, 1))
        sums, accounts = live.finish()
    assert sums == traffic.ip
    assert accounts["records"] >= len(traffic.ip)


@pytest.mark.parametrize("counted", ["ip", "frame"])
def test_sfprobe(peer: Peer, traffic: Traffic, tmp_path: Path, counted: str) -> None:
    program = peer("pmacctd")
    with listening(tmp_path, sflow_bytes=counted) as live:
        path = configuration(
            tmp_path,
            traffic,
            "plugins: sfprobe",
            f"sfprobe_receiver: 127.0.0.1:{live.port}",
            "sampling_rate: 1",
        )
        run(program, "-f", path, status=(0, 1))
        sums, accounts = live.finish()
    want = traffic.ip if counted == "ip" else traffic.frames
    assert {key: sums.get(key) for key in want if key != traffic.last} == {
        key: value for key, value in want.items() if key != traffic.last
    }
    assert set(sums) <= set(want)
    assert PACKETS - LAST <= accounts["records"] <= PACKETS
