from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.generate import frames, sflow


@given(st.lists(st.binary(min_size=7, max_size=7), min_size=1))
def test_checksum_makes_the_sum_all_ones(rows: list[bytes]) -> None:
    matrix = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 7)
    for row, value in zip(rows, frames.checksum(matrix).tolist(), strict=True):
        total = sum(struct.unpack(">4H", row + b"\0")) + value
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        assert total == 0xFFFF


def test_layers() -> None:
    frame = frames.stack(
        frames.ethernet(1, 0x0200_0000_0001, 0x0200_0000_0002, frames.ETHERTYPE_QINQ),
        frames.vlan_tag(1, 7, frames.ETHERTYPE_VLAN, priority=5),
        frames.vlan_tag(1, 8, frames.ETHERTYPE_MPLS),
        frames.mpls(1, 1000, 2000),
        frames.ipv4(1, src=1, dst=2, proto=17, total_length=36, ttl=9, identification=3),
        frames.udp(1, src_port=4, dst_port=4789, length=16),
        frames.vxlan(1, 0x123456),
    )
    assert frame.tobytes() == bytes.fromhex(
        "020000000001 020000000002 88a8 a007 8100 0008 8847"
        "003e8040 007d0140"
        "45000024 00034000 0911 71c4 00000001 00000002"
        "0004 12b5 0010 0000"
        "08000000 12345600"
    )
    src, dst = (np.full((1, 16), i, np.uint8) for i in (1, 2))
    header = frames.ipv6(
        1,
        src=src,
        dst=dst,
        next_header=6,
        payload_length=20,
        traffic_class=0xB8,
        flow_label=0xABCDE,
    )
    assert header.tobytes() == bytes.fromhex("6b8abcde 0014 063d") + b"\1" * 16 + b"\2" * 16
    segment = frames.tcp(1, src_port=1, dst_port=2, flags=0x12)
    assert segment.tobytes() == bytes.fromhex("0001 0002 00000001 00000001 5012 ffff 0000 0000")
    assert frames.filler(2, 3).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_records() -> None:
    header = sflow.raw_header(np.full((1, 5), 7, np.uint8), 64)
    assert header.tobytes() == struct.pack(">IIIIII", 1, 24, 1, 64, 4, 5) + b"\7" * 5 + bytes(3)
    switch = sflow.extended_switch(1, 10, 20, 1, 2)
    assert switch.tobytes() == struct.pack(">IIIIII", 1001, 16, 10, 1, 20, 2)
    v4, v6 = np.full((1, 4), 9, np.uint8), np.full((1, 16), 9, np.uint8)
    router = sflow.extended_router(1, v4, 24, 16)
    assert router.tobytes() == struct.pack(">III4sII", 1002, 16, 1, b"\x09" * 4, 24, 16)
    gateway = sflow.extended_gateway(
        1, v6, own_as=1, src_as=2, src_peer_as=3, as_path=[4, 5], communities=[6], local_pref=7
    )
    body = struct.pack(">I16sIIIIIIIIIII", 2, b"\x09" * 16, 1, 2, 3, 1, 2, 2, 4, 5, 1, 6, 7)
    assert gateway.tobytes() == struct.pack(">II", 1003, len(body)) + body
    local = sflow.extended_gateway(1, v4, own_as=1, src_as=2, src_peer_as=3, as_path=())
    body = struct.pack(">I4sIIIIII", 1, b"\x09" * 4, 1, 2, 3, 0, 0, 100)
    assert local.tobytes() == struct.pack(">II", 1003, len(body)) + body


@pytest.mark.parametrize("expanded", [False, True])
def test_samples_and_datagram(expanded: bool) -> None:
    record = sflow.record(99, np.full((2, 4), 1, np.uint8))
    raw = struct.pack(">II", 99, 4) + b"\1" * 4
    flow = sflow.flow_samples(
        [record, record], sequence=np.array([1, 2]), source_index=3, rate=4, pool=5, drops=6,
        input_if=7, output_if=8, expanded=expanded,
    )  # fmt: skip
    fields = (0, 3, 4, 5, 6, 0, 7, 0, 8) if expanded else (3, 4, 5, 6, 7, 8)
    for i, row in enumerate(flow):
        body = struct.pack(f">I{len(fields)}II", i + 1, *fields, 2) + raw * 2
        assert row.tobytes() == struct.pack(">II", 3 if expanded else 1, len(body)) + body
    counter = sflow.counter_samples([record], sequence=9, source_index=3, expanded=expanded)
    body = struct.pack(">IIII" if expanded else ">III", 9, *([0] if expanded else []), 3, 1) + raw
    assert counter[0].tobytes() == struct.pack(">II", 4 if expanded else 2, len(body)) + body
    datagram = sflow.datagram(b"\n\0\0\1", [b"aaaa", b"bbbb"], sequence=5, uptime_ms=6)
    assert datagram == struct.pack(">II4sIIII", 5, 1, b"\n\0\0\1", 0, 5, 6, 2) + b"aaaabbbb"
    datagram = sflow.datagram(bytes(16), [], sequence=5, uptime_ms=6, sub_agent=7)
    assert datagram == struct.pack(">II16sIIII", 5, 2, bytes(16), 7, 5, 6, 0)


def test_counters() -> None:
    values = {name: i + 1 for i, (name, _) in enumerate(sflow.GENERIC_FIELDS)}
    generic = sflow.generic_counters(1, **values)
    body = struct.pack(">IIQIIQIIIIIIQIIIIII", *range(1, 20))
    assert generic.tobytes() == struct.pack(">II", 1, 88) + body
    ethernet = sflow.ethernet_counters(1, fcs_errors=np.array([5]), symbol_errors=6)
    assert ethernet.tobytes() == struct.pack(">II13I", 2, 52, 0, 5, *[0] * 10, 6)
    with pytest.raises(KeyError):
        sflow.generic_counters(1, nonsense=1)
    with pytest.raises(KeyError):
        sflow.ethernet_counters(1, nonsense=1)
