from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flowray.generate import bench_traffic, default_exporters, traffic
from flowray.generate.capture import read_capture, write_capture, write_traffic
from flowray.generate.rows import Datagrams
from flowray.generate.send import Sender


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def drain(sock: socket.socket, count: int) -> list[tuple[bytes, str]]:
    received = [sock.recvfrom(65536) for _ in range(count)]
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recvfrom(1)
    sock.settimeout(5)
    return [(data, source[0]) for data, source in received]


def mixed(count: int) -> Datagrams:
    parts = [Datagrams.of([b"%d" % i], i % 3) for i in range(count)]
    return Datagrams.joined(parts)


@pytest.mark.parametrize("rate", [None, 500.0, 20_000.0])
def test_all_arrive_each_exporter_in_order(receiver: socket.socket, rate: float | None) -> None:
    sources = ["127.0.0.21", "127.0.0.22", "127.0.0.23"]
    with Sender("127.0.0.1", receiver.getsockname()[1], sources) as sender:
        result = sender.send(mixed(200), rate=rate)
    assert (result.sent, result.octets) == (200, 10 + 90 * 2 + 100 * 3)
    received = drain(receiver, 200)
    for i, source in enumerate(sources):
        own = [int(data) for data, sender_address in received if sender_address == source]
        assert own == list(range(i, 200, 3))
    if rate:
        assert result.seconds >= 199 // max(1, rate / 1000) * max(1, rate / 1000) / rate * 0.9
        assert result.rate <= rate * 1.3
    assert 0 <= result.cpu_seconds < 5


def test_one_socket_keeps_the_order(receiver: socket.socket) -> None:
    with Sender("127.0.0.1", receiver.getsockname()[1]) as sender:
        assert sender.send(mixed(130), limit=100).sent == 100
        assert sender.send([b"a", b"b"], exporter=5).sent == 2
        assert sender.send([]).sent == 0
    received = [data for data, _ in drain(receiver, 102)]
    assert received == [b"%d" % i for i in range(100)] + [b"a", b"b"]


def test_seconds_bound_a_run(receiver: socket.socket) -> None:
    with Sender("127.0.0.1", receiver.getsockname()[1]) as sender:
        result = sender.send(mixed(1000), rate=100, seconds=0.2)
    assert 0 < result.sent <= 21


def test_nobody_listening_is_no_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with Sender("127.0.0.1", port) as sender:
        assert sender.send(mixed(300), rate=3000).sent == 300


def test_wrong_addresses_and_sizes_are_errors() -> None:
    with pytest.raises(OSError, match="assign"):
        Sender("127.0.0.1", 9, ["192.0.2.77"])
    with Sender("127.0.0.1", 9) as sender, pytest.raises(OSError, match="long"):
        sender.send([bytes(65_536)])


def test_ipv6(receiver: socket.socket) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on loopback")
        sock.settimeout(5)
        with Sender("::1", sock.getsockname()[1]) as sender:
            sender.send([b"six"])
        assert sock.recv(100) == b"six"


def test_capture_round_trip(tmp_path: Path) -> None:
    datagrams = bench_traffic(3000, distinct=100, mix={"ipfix": 1, "v5": 1, "sflow": 1})
    path = tmp_path / "x.pcap"
    assert write_capture(path, datagrams) == len(datagrams)
    back = read_capture(path)
    assert list(back) == list(datagrams)
    assert (back.time_ns == datagrams.time_ns).all()
    names = [np.array(d.addresses)[d.exporter] for d in (back, datagrams)]
    assert (names[0] == names[1]).all()
    only = read_capture(path, ports=[6343])
    assert set(only.addresses) == {"192.0.2.3"}
    assert len(read_capture(path, ports=[1])) == 0
    with pytest.raises(ValueError, match="times"):
        write_capture(path, mixed(3))


def test_traffic_capture(tmp_path: Path) -> None:
    exporters = default_exporters(3, "2001:db8::1")
    batches = list(traffic(1, exporters, rate=200, seconds=2))
    path = tmp_path / "x.pcap"
    count = write_traffic(path, batches, exporters)
    back = read_capture(path)
    assert list(back) == [datagram for _, _, datagrams in batches for datagram in datagrams]
    assert count == len(back)
    assert write_traffic(path, [], exporters) == 0


def test_command_line(receiver: socket.socket, tmp_path: Path) -> None:
    datagrams = bench_traffic(1000, distinct=50, exporters=2)
    write_capture(tmp_path / "x.pcap", datagrams)
    target = f"127.0.0.1:{receiver.getsockname()[1]}"
    command = [sys.executable, "-m", "flowray.generate.send", "--to", target, "--rate", "2000"]
    command += ["--pcap", str(tmp_path / "x.pcap"), "--limit", "40"]
    command += ["--source", "127.0.0.31", "--source", "127.0.0.32"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["sent"] == 40
    received = drain(receiver, 40)
    assert sorted(data for data, _ in received) == sorted(list(datagrams)[:40])
    assert {source for _, source in received} == {"127.0.0.31", "127.0.0.32"}
