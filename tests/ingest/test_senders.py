"""Who sent a datagram: envelopes of proxies and the operator's map, through to rows."""

from pathlib import Path

import numpy as np
import pytest

from flowray.errors import ConfigError
from flowray.generate.encode import ipfix_template_set
from flowray.ingest.collector import Collector
from flowray.ingest.ledger import problems
from flowray.ingest.sender_kernels import domains
from flowray.maps import load_exporters
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.wire.packets import PacketBatch
from tests.ingest.decoding import FLOW, Ipfix, data, flow
from tests.wire.test_envelope import packet, proxy

PROXY, OTHER = "198.51.100.1", "198.51.100.2"
VIEW = {"name": "v", "keys": ["peer_src_ip"], "window": "1h"}


def collector(**settings: object) -> Collector:
    content = {"views": [VIEW], **settings}
    return Collector(compile_settings(parse_settings(content, "test"), "test"))


def feed(into: Collector, *datagrams: tuple[str, bytes]) -> dict[str, dict[str, int]]:
    """Feed datagrams of senders; the accounts by exporter."""
    length = np.array([len(d) for _, d in datagrams], np.int64)
    buf = np.frombuffer(b"".join(d for _, d in datagrams), np.uint8)
    exporter = np.array([into.exporters.intern_one(a) for a, _ in datagrams], np.uint32)
    arrival = np.full(len(datagrams), 1_760_000_000 * 10**9, np.int64)
    into.feed(PacketBatch(buf, np.cumsum(length) - length, length, exporter, arrival))
    snapshot = into.snapshot()
    still_open = {view: row["aggregated"] for view, row in snapshot["views"].items()}
    assert problems(snapshot, open_records=still_open) == []
    return snapshot["exporters"]


def message(n: int = 2, domain: int = 7) -> bytes:
    return Ipfix(domain=domain).message(ipfix_template_set(FLOW), data(FLOW, *[flow()] * n))


def test_envelopes_of_proxies_name_the_exporter() -> None:
    into = collector(listen={"proxies": ["198.51.100.1/32"]})
    accounts = feed(
        into,
        (PROXY, proxy("192.0.2.1", message())),
        (PROXY, packet("2001:db8::2", message(3))),
        (PROXY, message(1)),
        (PROXY, proxy("192.0.2.1", message())[:20]),
        (OTHER, proxy("192.0.2.3", message())),
    )
    assert accounts["192.0.2.1"]["records"] == 2
    assert accounts["2001:db8::2"]["records"] == 3
    assert accounts[PROXY]["records"] == 1
    assert accounts[PROXY]["bad_envelope"] == 1
    assert "192.0.2.3" not in accounts
    assert accounts[OTHER]["unknown_version"] == 1
    (partial,) = into.hand_over(1 << 62)
    assert sorted(partial.table["flows"].to_pylist()) == [1, 2, 3]


def test_envelopes_are_opened_for_those_alone_that_may_send_them() -> None:
    accounts = feed(collector(), (PROXY, proxy("192.0.2.1", message())))
    assert accounts == {PROXY: {"datagrams": 1, "unknown_version": 1}}


def test_the_map_replaces_addresses(tmp_path: Path) -> None:
    path = tmp_path / "exporters.map"
    path.write_text(
        "exporter=192.0.2.71 ip=198.51.100.0/24 domain=7\nexporter=2001:db8::1 ip=198.51.100.0/24\n"
    )
    into = collector(maps={"exporters": str(path)})
    for _ in range(2):
        accounts = feed(
            into,
            (PROXY, message(1, 7)),
            (OTHER, message(2, 8)),
            ("203.0.113.1", message(4, 7)),
        )
    records = {address: row["records"] for address, row in accounts.items()}
    assert records == {"192.0.2.71": 2, "2001:db8::1": 4, "203.0.113.1": 8}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("ip=192.0.2.1", "row: found no result, allowed one of exporter"),
        ("exporter=x ip=192.0.2.1", "exporter: found 'x', allowed the address of an exporter"),
        ("exporter=192.0.2.1 domain=x", "domain: found 'x', allowed a number up to 4294967295"),
    ],
)
def test_mistakes_in_the_map_are_told(tmp_path: Path, row: str, line: str) -> None:
    path = tmp_path / "exporters.map"
    path.write_text(row + "\n")
    with pytest.raises(ConfigError, match=line):
        load_exporters(path)


@pytest.mark.parametrize(
    ("datagram", "domain"),
    [
        (b"\x00\x09" + bytes(14) + b"\x00\x00\x01\x02", 258),
        (b"\x00\x0a" + bytes(10) + b"\x80\x00\x00\x00", 1 << 31),
        (b"\x00\x05" + bytes(18) + b"\x01\x02", 258),
        (b"\x00\x00\x00\x05\x00\x00\x00\x01" + bytes(4) + b"\x00\x00\x00\x09", 9),
        (b"\x00\x00\x00\x05\x00\x00\x00\x02" + bytes(16) + b"\x00\x00\x00\x09", 9),
        (b"\x00\x09" + bytes(17), 0),
        (b"\x00\x0a\x00", 0),
        (b"", 0),
        (b"\xff\xff\xff\xff\xff", 0),
    ],
)
def test_domains(datagram: bytes, domain: int) -> None:
    one = np.zeros(1, np.int64)
    found = np.full(1, 77, np.uint64)
    domains(np.frombuffer(datagram, np.uint8), one, one + len(datagram), found)
    assert found.tolist() == [domain]
