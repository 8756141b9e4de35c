"""NetFlow v5: records, the header's sampling, lengths that contradict the count."""

import pytest

from flowray.generate.encode import v5_headers, v5_packets, v5_records
from tests.ingest.decoding import T0, decode

KEYS = [
    "src_host", "dst_host", "src_port", "dst_port", "proto", "tcpflags", "tos", "src_as", "dst_as",
    "src_mask", "dst_mask", "in_iface", "out_iface", "src_net", "export_proto_version",
    "export_proto_sysid", "sampling_rate",
]  # fmt: skip


def _packet(records: int = 2, *, interval: int = 0, mode: int = 0, engine: int = 3) -> bytes:
    header = v5_headers(
        1, records, uptime_ms=1000, unix_secs=T0, engine_type=1, engine_id=engine,
        sampling_mode=mode, sampling_interval=interval,
    )  # fmt: skip
    return v5_packets(
        header,
        v5_records(
            records, src=0x0A000001, dst=0xC0000201, in_iface=7, out_iface=8, packets=3, octets=300,
            first_ms=100, last_ms=900, src_port=1234, dst_port=80, tcpflags=0x1B, proto=6, tos=32,
            src_as=64500, dst_as=64501, src_mask=24, dst_mask=16,
        ),
    ).tobytes()  # fmt: skip


def test_records() -> None:
    got = decode(_packet(), keys=KEYS)
    assert len(got.rows) == 2
    row = got.rows[0]
    assert (row["ip_src"], row["ip_dst"], row["net_src"]) == ("10.0.0.1", "192.0.2.1", "10.0.0.0")
    assert (row["port_src"], row["port_dst"], row["ip_proto"]) == (1234, 80, "6")
    assert (row["tcp_flags"], row["tos"], row["mask_src"], row["mask_dst"]) == (0x1B, 32, 24, 16)
    assert (row["as_src"], row["as_dst"]) == (64500, 64501)
    assert (row["iface_in"], row["iface_out"]) == (7, 8)
    assert (row["packets"], row["bytes"], row["flows"]) == (3, 300, 1)
    assert (row["export_proto_version"], row["export_proto_sysid"]) == (5, 0x103)


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_sampling_of_the_header_without_its_mode(mode: int) -> None:
    got = decode(_packet(interval=1000, mode=mode), keys=KEYS, renormalise=True)
    assert got.column("sampling_rate") == [1000, 1000]
    assert got.column("packets") == [3000, 3000]


def test_octets_after_the_records_are_padding() -> None:
    got = decode(_packet() + bytes(30), keys=KEYS)
    assert len(got.rows) == 2
    assert got.accounts["decoded"] == 1


@pytest.mark.parametrize("count", [0, 3, 31, 163, 0xFFFF])
def test_count_that_the_datagram_cannot_hold(count: int) -> None:
    raw = bytearray(_packet())
    raw[2:4] = count.to_bytes(2)
    got = decode(bytes(raw), keys=KEYS)
    assert got.rows == []
    assert got.accounts == {"datagrams": 1, "bad_count": 1}


@pytest.mark.parametrize("size", range(24))
def test_cut_header(size: int) -> None:
    got = decode(_packet()[:size], keys=KEYS)
    assert got.rows == []
    assert got.accounts["datagrams"] == 1
