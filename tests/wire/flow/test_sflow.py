from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowray.columns import Layout
from flowray.fields import REGISTRY
from flowray.wire.flow.dissect import SLOT_FIELDS, Status, Tunnel, tunnel_word
from flowray.wire.flow.sflow import (
    COUNTER_KEYS,
    DIRECTION_UNKNOWN,
    NO_HEADER,
    CounterType,
    Malformed,
    SflowDecoder,
    SflowResult,
)
from flowray.wire.packets import PacketBatch
from tests.wire.flow import datagrams as d
from tests.wire.flow import frames as f
from tests.wire.flow.sflow_twin import Row, Twin
from tests.wire.flow.test_dissect import run_with_bounds_checks

OWN = (
    "in_iface", "out_iface", "packets", "flows", "bytes", "_rate", "sampling_rate",
    "sampling_direction", "fwd_status", "out_vlan", "peer_dst_ip", "src_mask", "dst_mask",
    "src_as", "dst_as", "peer_src_as", "peer_dst_as", "post_nat_src_host", "post_nat_dst_host",
    "post_nat_src_port", "post_nat_dst_port",
)  # fmt: skip
LAYOUT = Layout([*(name for name in SLOT_FIELDS if name), *OWN])
TUNNELS = Tunnel.GRE | Tunnel.IPIP | Tunnel.VXLAN | Tunnel.GTP | Tunnel.GENEVE
DECODER = SflowDecoder(LAYOUT, tunnel_word(TUNNELS))
V4 = 0xFFFF << 32
FRAME = f.ethernet(0x0800, f.ipv4(6, f.tcp(80, 443)))


def batch_of(payloads: list[bytes]) -> PacketBatch:
    """A batch whose payloads stand apart from each other by octets of no payload."""
    length = np.array([len(p) for p in payloads], np.int64)
    offset = np.cumsum(np.concatenate(([0], length + 5)))[:-1] + 3
    buf = np.frombuffer(b"\x01" * 3 + b"".join(p + b"\x01" * 5 for p in payloads), np.uint8)
    exporter = np.arange(len(payloads), dtype=np.uint32) + 10
    arrival = np.arange(len(payloads), dtype=np.int64) + 10**18
    return PacketBatch(buf, offset.astype(np.int64), length, exporter, arrival)


def rows_of(result: SflowResult) -> list[Row]:
    rows = []
    columns = result.columns
    for i in range(len(columns)):
        row: Row = {}
        for name in columns.layout.names:
            value = columns[name][..., i]
            row[name] = int(value[0]) << 64 | int(value[1]) if value.ndim else int(value)
        row["_status"] = int(result.statuses[i])
        rows.append({name: value for name, value in row.items() if value})
    return rows


def decode(*payloads: bytes, decoder: SflowDecoder = DECODER) -> SflowResult:
    return decoder.decode(batch_of(list(payloads)), np.arange(len(payloads)))


def one(payload: bytes) -> Row:
    result = decode(payload)
    assert len(result.malformed) == 0
    (row,) = rows_of(result)
    return row


def check(payloads: list[bytes]) -> None:
    result = decode(*payloads)
    twin = Twin(TUNNELS)
    found = [twin.read(payload) for payload in payloads]
    h = result.headers
    for i, datagram in enumerate(found):
        version, agent, *rest = datagram.header
        assert int(h.version[i]) == version
        assert int(h.agent[0, i]) << 64 | int(h.agent[1, i]) == agent
        assert [int(h.sub_agent[i]), int(h.sequence[i]), int(h.uptime_ms[i])] == rest
        counts = [int(c[i]) for c in (h.flows, h.counters, h.drops, h.unknown)]
        assert counts == datagram.counts
    expected = [[i, g.cause] for i, g in enumerate(found) if g.cause]
    assert result.malformed.tolist() == expected
    rows = [{k: v for k, v in row.items() if v} for g in found for row in g.flows]
    assert rows_of(result) == rows
    check_blocks(result, [(i, block) for i, g in enumerate(found) for block in g.blocks])


def check_blocks(result: SflowResult, blocks: list[tuple[int, Row]]) -> None:
    if not blocks:
        assert result.counters is None
        return
    assert result.counters is not None
    assert len(result.counters) == len(blocks)
    for k, (packet, block) in enumerate(blocks):
        for name, value in block.items():
            assert int(result.counters[name][k]) == value
        assert int(result.counters["_packet"][k]) == packet
        assert int(result.counters["timestamp"][k]) == 10**18 + packet
        assert int(result.counters["sflow_seq"][k]) == int(result.headers.sequence[packet])


mutated = st.builds(f.mutate, d.datagrams, f.edits, st.none() | st.integers(0, 600))
old = d.old_datagrams(2) | d.old_datagrams(4)
mutated_old = st.builds(f.mutate, old, f.edits, st.none() | st.integers(0, 400))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(d.datagrams, mutated), max_size=3))
def test_version_5_equals_twin(payloads: list[bytes]) -> None:
    check(payloads)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(old, mutated_old), max_size=3))
def test_versions_2_and_4_equal_twin(payloads: list[bytes]) -> None:
    check(payloads)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([2, 4, 5]), st.binary(max_size=300), st.integers(0, 5))
def test_noise_behind_a_header_equals_twin(version: int, noise: bytes, count: int) -> None:
    header = d.datagram(count=count) if version == 5 else d.old_datagram(version)[:-4]
    check([header + noise])


def test_flow_sample() -> None:
    row = one(
        d.datagram(
            d.flow(
                d.header(FRAME),
                d.tagged(1001, d.switch_body(20, 3, 30)),
                d.tagged(1002, d.router_body(bytes([10, 0, 0, 9]))),
                d.tagged(1003, d.gateway_body(5, d.AGENT_V6, [[7, 8], [9]])),
                d.tagged(1007, d.address(bytes([1, 2, 3, 4])) + d.address(b"")),
                d.tagged(1020, d.words(1024, 80)),
            )
        )
    )
    assert row == {
        "src_mac": 0x0A0000000001, "dst_mac": 0x0A0000000002, "etype": 0x0800, "proto": 6,
        "src_host": V4 | 0x0A000001, "dst_host": V4 | 0x0A000002, "src_port": 80, "dst_port": 443,
        "tcpflags": 0x18, "bytes": 40, "packets": 1, "flows": 1, "_rate": 1000,
        "sampling_rate": 1000, "in_iface": 1, "out_iface": 2, "vlan": 20, "in_vlan": 20, "cos": 3,
        "out_vlan": 30, "src_mask": 24, "dst_mask": 16, "peer_dst_ip": int.from_bytes(d.AGENT_V6),
        "src_as": 65001, "peer_src_as": 65002, "peer_dst_as": 7, "dst_as": 9,
        "post_nat_src_host": V4 | 0x01020304, "post_nat_src_port": 1024, "post_nat_dst_port": 80,
    }  # fmt: skip


def test_order_of_next_hops_is_of_no_matter() -> None:
    gateway = d.tagged(1003, d.gateway_body(5, bytes([1, 1, 1, 1]), []))
    router = d.tagged(1002, d.router_body(bytes([2, 2, 2, 2])))
    mpls = d.tagged(1006, d.mpls_body(bytes([3, 3, 3, 3]), [5 << 12 | 0x100]))
    zero = d.tagged(1003, d.gateway_body(5, bytes(4), []))
    for records, hop in (
        ([gateway, router, mpls], 0x01010101),
        ([mpls, router, gateway], 0x01010101),
        ([mpls, router, zero], 0x02020202),
        ([mpls], 0x03030303),
    ):
        assert one(d.datagram(d.flow(*records)))["peer_dst_ip"] == V4 | hop
    assert one(d.datagram(d.flow(mpls)))["_mpls_1"] == 5 << 4 | 1


def test_bytes_are_those_of_ip_or_else_of_the_frame() -> None:
    arp = f.ethernet(0x0806, bytes(28))
    assert one(d.datagram(d.flow(d.header(FRAME + bytes(6)))))["bytes"] == 40
    assert one(d.datagram(d.flow(d.header(arp, length=64))))["bytes"] == 64
    assert one(d.datagram(d.flow(d.tagged(3, d.ip_body(4, 777, 17, 1, 2)))))["bytes"] == 777
    assert one(d.datagram(d.flow(d.ethernet())))["bytes"] == 1200
    decoder = SflowDecoder(Layout(["bytes"]), frame_bytes=True)
    sample = d.flow(d.header(FRAME, length=64))
    assert decode(d.datagram(sample), decoder=decoder).columns["bytes"].tolist() == [64]


def test_header_outdoes_the_agents_reading_of_it() -> None:
    record = d.tagged(3, d.ip_body(4, 777, 17, 1, 2))
    for records in ([d.header(FRAME), record], [record, d.header(FRAME)]):
        row = one(d.datagram(d.flow(*records)))
        assert (row["bytes"], row["proto"], row["dst_port"]) == (40, 6, 443)


@pytest.mark.parametrize("padded", [True, False])
def test_ethernet_record(padded: bool) -> None:
    row = one(d.datagram(d.flow(d.ethernet(padded=padded))))
    assert (row["src_mac"], row["dst_mac"]) == (0x0A0000000001, 0x0A0000000002)
    assert (row["etype"], row["_status"]) == (0x0806, NO_HEADER)


def test_direction_and_interfaces() -> None:
    def told(sample: bytes) -> tuple[int, int, int, int]:
        row = one(d.datagram(sample))
        direction = row.get("sampling_direction", 0)
        return direction, row["in_iface"], row["out_iface"], row.get("fwd_status", 0)

    assert told(d.flow(source=1)) == (0, 1, 2, 0)
    assert told(d.flow(source=2)) == (1, 1, 2, 0)
    assert told(d.flow(source=3)) == (DIRECTION_UNKNOWN, 1, 2, 0)
    assert told(d.flow(source=1 << 24 | 1)) == (DIRECTION_UNKNOWN, 1, 2, 0)  # a VLAN
    assert told(d.flow(source=1, outside=1 << 30 | 256)) == (0, 1, 1 << 30 | 256, 128)
    assert told(d.flow(source=3, outside=2 << 30 | 9)) == (1, 1, 2 << 30 | 9, 0)
    assert told(d.expanded(source=(0, 2))) == (1, 1, 2, 0)
    assert told(d.expanded(outside=(1, 256))) == (0, 1, 1 << 30 | 256, 128)
    # An ifIndex of an expanded sample may use the bits that hold the form in compact ones.
    assert told(d.expanded(outside=(0, 0x4CA3FD91))) == (0, 1, 0x4CA3FD91, 0)


def test_discarded_packet() -> None:
    result = decode(d.datagram(d.drop(d.header(FRAME))))
    (row,) = rows_of(result)
    assert (row["fwd_status"], row["_rate"], row["dst_port"]) == (128, 1, 443)
    assert (result.headers.flows.tolist(), result.headers.drops.tolist()) == ([0], [1])


@pytest.mark.parametrize("version", [2, 4])
def test_old_versions(version: int) -> None:
    sample = d.old_flow(
        d.old_header(FRAME, version),
        d.words(4) + d.opaque(b"alice") + d.opaque(b""),
        d.words(5, 1) + d.opaque(b"http://example.net/"),
        d.words(1) + d.switch_body(20, 3, 30),
        d.words(2) + d.router_body(bytes([10, 0, 0, 9])),
        d.words(3) + d.gateway_body(version, b"", [[7, 8], [9]]),
    )
    result = decode(d.old_datagram(version, d.old_counters(2, 140), sample, d.old_counters(7, 28)))
    (row,) = rows_of(result)
    assert (row["dst_port"], row["bytes"], row["vlan"], row["out_vlan"]) == (443, 40, 20, 30)
    assert (row["peer_dst_as"], row["dst_as"], row["dst_mask"]) == (7, 9, 16)
    assert row["peer_dst_ip"] == V4 | 0x0A000009
    assert len(result.malformed) == 0
    assert result.headers.counters.tolist() == [2]
    assert result.counters is None


def test_counters() -> None:
    generic = struct.pack(
        "!IIQIIQ6IQ6I", 3, 6, 10**10, 1, 3, 2**40, *range(6), 2**41, *range(10, 16)
    )
    result = decode(
        d.datagram(d.counter_sample(d.counters(1, generic), d.counters(2, d.words(*range(13))))),
        d.datagram(
            d.counter_expanded(d.counters(5, struct.pack("!IQIIII", 7, 2**33, 1, 2, 3, 4))),
            agent=d.AGENT_V6, sequence=8,
        ),
    )  # fmt: skip
    found = result.counters
    assert found is not None
    assert found["sf_cnt_type"].tolist() == [1, 2, 5]
    assert found["ifSpeed"].tolist() == [10**10, 0, 0]
    assert found["ifOutOctets"].tolist() == [2**41, 0, 0]
    assert found["ifPromiscuousMode"].tolist() == [15, 0, 0]
    assert found["dot3StatsSymbolErrors"].tolist() == [0, 12, 0]
    assert (found["vlan"].tolist(), found["octets"].tolist()) == ([0, 0, 7], [0, 0, 2**33])
    assert found["sflow_cnt_seq"].tolist() == [21, 21, 22]
    assert found["sflow_seq"].tolist() == [7, 7, 8]
    agents = found["peer_ip_src"].T.astype(">u8")
    assert agents[0].tobytes() == bytes(10) + b"\xff\xff" + d.AGENT
    assert agents[2].tobytes() == d.AGENT_V6
    assert CounterType(1).name.lower() == "sflow_cnt_generic"
    assert [len(keys) for keys in COUNTER_KEYS.values()] == [19, 13, 6]


def test_working_and_header_fields() -> None:
    names = (
        "_packet", "_exporter", "_domain", "peer_src_ip", "export_proto_seqno",
        "export_proto_version", "export_proto_sysid", "timestamp_arrival", "timestamp_start",
        "timestamp_end",
    )  # fmt: skip
    decoder = SflowDecoder(Layout(names))
    batch = batch_of([b"?", d.datagram(d.flow(), d.flow()), b"?", d.datagram(d.flow())])
    columns = decoder.decode(batch, np.array([1, 3])).columns
    assert columns["_packet"].tolist() == [1, 1, 3]
    assert columns["_exporter"].tolist() == [11, 11, 13]
    assert columns["peer_src_ip"][1].tolist() == [V4 | 0xC0000201] * 3
    assert columns["export_proto_seqno"].tolist() == [7, 7, 7]
    assert columns["export_proto_version"].tolist() == [5, 5, 5]
    assert columns["export_proto_sysid"].tolist() == columns["_domain"].tolist() == [3, 3, 3]
    for name in names[-3:]:
        assert columns[name].tolist() == [10**18 + 1, 10**18 + 1, 10**18 + 3]


@pytest.mark.parametrize(
    ("payload", "cause", "rows"),
    [
        (b"\x00\x00\x00\x05", Malformed.SHORT_HEADER, 0),
        (d.datagram()[:27], Malformed.SHORT_HEADER, 0),
        (d.words(3) + d.datagram()[4:], Malformed.BAD_VERSION, 0),
        (d.words(5, 3) + bytes(40), Malformed.BAD_ADDRESS_TYPE, 0),
        (d.datagram(d.flow(), count=2), Malformed.TRUNCATED, 1),
        (d.datagram(d.flow(), d.flow())[:-4], Malformed.SAMPLE_OVERRUN, 1),
        (d.datagram(d.tagged(1, bytes(28)), d.flow()), Malformed.SHORT_SAMPLE, 1),
        (d.old_datagram(4, d.old_counters(8, 88)), Malformed.BAD_SAMPLE, 0),
        (d.datagram(d.flow(d.words(1, 500) + bytes(20))), Malformed.RECORD_OVERRUN, 1),
        (d.datagram(d.flow(d.tagged(1001, bytes(8)))), Malformed.RECORD_OVERRUN, 1),
    ],
)
def test_malformed(payload: bytes, cause: Malformed, rows: int) -> None:
    result = decode(d.datagram(), payload)
    assert result.malformed.tolist() == [[1, cause]]
    assert len(result.columns) == rows


def test_truncated_header_keeps_what_was_read() -> None:
    result = decode(d.datagram(d.flow(d.header(FRAME[:36]))))
    (row,) = rows_of(result)
    assert Status(row["_status"]) is Status.TRUNCATED
    assert row["dst_host"] == V4 | 0x0A000002
    assert len(result.malformed) == 0


def test_nothing_to_decode() -> None:
    result = decode()
    assert (len(result.columns), len(result.malformed), result.counters) == (0, 0, None)


def test_every_field_may_be_asked_for() -> None:
    result = decode(d.datagram(d.flow(d.header(FRAME))), decoder=SflowDecoder(Layout(REGISTRY)))
    assert result.columns["dst_port"].tolist() == [443]


@pytest.mark.fuzz
def test_a_flood_of_noise_ends() -> None:
    """Counts of all ones, lengths of zero and pure noise: time is bounded by the octets."""
    generator = random.Random(7)
    payloads = [generator.randbytes(generator.randrange(1400)) for _ in range(2000)]
    for version in (2, 4, 5):
        head = d.words(version) + d.address()
        payloads += [head + bytes([value]) * 1300 for value in (0, 1, 2, 3, 255)] * 20
        payloads += [head + generator.randbytes(1300) for _ in range(1000)]
        payloads += [head + d.words(1, 1, 0xFFFFFFFF, 1, 0) + bytes(1300)] * 20
    result = decode(*payloads)
    assert len(result.headers.version) == len(payloads)


@pytest.mark.slow
def test_nothing_is_read_out_of_bounds() -> None:
    run_with_bounds_checks("sflow")
