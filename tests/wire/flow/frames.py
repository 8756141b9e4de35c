"""Builders of layered packets, and hypothesis strategies that stack them at random."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

MAC_A, MAC_B = bytes.fromhex("0a0000000001"), bytes.fromhex("0a0000000002")
MAC_C, MAC_D = bytes.fromhex("0a0000000003"), bytes.fromhex("0a0000000004")


def ethernet(kind: int, payload: bytes, source: bytes = MAC_A, target: bytes = MAC_B) -> bytes:
    return target + source + struct.pack("!H", kind) + payload


def snap(kind: int, payload: bytes) -> bytes:
    return (
        MAC_B + MAC_A + struct.pack("!H", len(payload) + 8)
        + bytes.fromhex("aaaa03000000") + struct.pack("!H", kind) + payload
    )  # fmt: skip


def vlan(kind: int, payload: bytes, tag: int) -> bytes:
    return struct.pack("!HH", tag, kind) + payload


def mpls(labels: list[int], payload: bytes) -> bytes:
    last = len(labels) - 1
    entries = (label << 12 | (0x100 if i == last else 0) | 64 for i, label in enumerate(labels))
    return b"".join(struct.pack("!I", entry) for entry in entries) + payload


def pppoe(protocol: int, payload: bytes) -> bytes:
    return struct.pack("!BBHHH", 0x11, 0, 7, len(payload) + 2, protocol) + payload


def ipv4(
    proto: int,
    payload: bytes,
    *,
    source: str = "0a000001",
    target: str = "0a000002",
    options: bytes = b"",
    fragment: int = 0,
    tos: int = 0,
) -> bytes:
    size = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH", 0x40 | size // 4, tos, size + len(payload), 1, fragment, 64, proto, 0
    )
    return head + bytes.fromhex(source) + bytes.fromhex(target) + options + payload


def ipv6(
    following: int,
    payload: bytes,
    *,
    source: int = 0x20010DB8 << 96 | 1,
    target: int = 0x20010DB8 << 96 | 2,
    traffic_class: int = 0,
    label: int = 0,
) -> bytes:
    head = struct.pack("!IHBB", 6 << 28 | traffic_class << 20 | label, len(payload), following, 64)
    return head + source.to_bytes(16, "big") + target.to_bytes(16, "big") + payload


def extension(following: int, payload: bytes, body: bytes = bytes(6)) -> bytes:
    """A hop-by-hop, routing or destination header: length in units of eight octets."""
    return struct.pack("!BB", following, (len(body) + 2) // 8 - 1) + body + payload


def authentication(following: int, payload: bytes) -> bytes:
    return struct.pack("!BB", following, 1) + bytes(10) + payload


def fragment_header(following: int, payload: bytes, offset: int) -> bytes:
    return struct.pack("!BBHI", following, 0, offset << 3, 9) + payload


def tcp(source: int, target: int, flags: int = 0x18) -> bytes:
    return struct.pack("!HHIIHHHH", source, target, 1, 2, 0x5000 | flags, 1000, 0, 0)


def udp(source: int, target: int, payload: bytes = b"") -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


def vxlan(network: int, payload: bytes, port: int = 4789) -> bytes:
    return udp(50000, port, struct.pack("!II", 8 << 24, network << 8) + payload)


def geneve(network: int, kind: int, payload: bytes, options: bytes = b"") -> bytes:
    head = struct.pack("!BBHI", len(options) // 4, 0, kind, network << 8)
    return udp(50001, 6081, head + options + payload)


def gtp(payload: bytes, flags: int = 0x30, extra: bytes = b"") -> bytes:
    size = len(payload) + len(extra)
    return udp(2152, 2152, struct.pack("!BBHI", flags, 255, size, 77) + extra + payload)


def gre(kind: int, payload: bytes, *, flags: int = 0, key: int = 0) -> bytes:
    extra = b"".join(
        struct.pack("!I", key if bit == 0x2000 else 0)
        for bit in (0x8000, 0x2000, 0x1000)
        if flags & bit
    )
    return struct.pack("!HH", flags, kind) + extra + payload


ports = st.integers(0, 65535)
byte = st.integers(0, 255)
short = st.binary(max_size=24)

leaves = st.one_of(
    st.tuples(st.just(6), st.builds(tcp, ports, ports, st.integers(0, 0xFFF))),
    st.tuples(st.sampled_from([17, 33, 132, 136]), st.builds(udp, ports, ports, short)),
    st.tuples(byte, short),
)


def wrap_extension(item: tuple[int, bytes], kind: int, size: int) -> tuple[int, bytes]:
    following, payload = item
    if kind == 51:
        return kind, authentication(following, payload)
    if kind == 44:
        return kind, fragment_header(following, payload, size)
    return kind, extension(following, payload, bytes(6 + 8 * size))


def wrap_ip(item: tuple[int, bytes], version: int, knob: int, options: int) -> tuple[int, bytes]:
    proto, payload = item
    if version == 4:
        fragment = knob if knob < 2 else 0
        return 0x0800, ipv4(proto, payload, options=bytes(4 * options), fragment=fragment, tos=knob)
    return 0x86DD, ipv6(proto, payload, traffic_class=knob, label=options * 1000)


def wrap_link(item: tuple[int, bytes], how: int, tag: int) -> tuple[int, bytes]:
    kind, payload = item
    if how == 0:
        return [0x8100, 0x88A8, 0x9100][tag % 3], vlan(kind, payload, tag)
    if how == 1:
        return 0x8847, mpls([tag, 16, 17][: tag % 3 + 1], payload)
    if how == 2:
        return 0x8864, pppoe({0x0800: 0x21, 0x86DD: 0x57, 0x8847: 0x281}.get(kind, 0xC021), payload)
    return 0x8847, mpls([tag], bytes(4) + ethernet(kind, payload, MAC_C, MAC_D))


def wrap_tunnel(item: tuple[int, bytes], how: int, knob: int) -> tuple[int, bytes]:
    """An item of link kind to one of IP protocol."""
    kind, payload = item
    frame = ethernet(kind, payload, MAC_C, MAC_D)
    flags = (0, 0x8000, 0x2000, 0x3000, 0xB000, 0x0001)[knob % 6]
    made: list[Any] = [
        lambda: (17, vxlan(knob, frame)),
        lambda: (17, geneve(knob, 0x6558, frame, bytes(4 * (knob % 4)))),
        lambda: (17, geneve(knob, kind, payload)),
        lambda: (17, gtp(payload)),
        lambda: (17, gtp(payload, 0x34, bytes([0, 0, 0, 0x85, 1, 0, 0, 0]))),
        lambda: (47, gre(kind, payload, flags=flags, key=knob << 8)),
        lambda: (47, gre(0x6558, frame, flags=flags, key=knob << 8)),
        lambda: ({0x0800: 4, 0x86DD: 41, 0x8847: 137}.get(kind, 59), payload),
        lambda: (143, frame),
    ]
    result: tuple[int, bytes] = made[how]()
    return result


transports = st.recursive(
    leaves,
    lambda inner: (
        st.builds(
            wrap_tunnel,
            st.builds(
                wrap_link,
                st.builds(wrap_ip, inner, st.sampled_from([4, 6]), byte, st.integers(0, 10)),
                st.integers(0, 3),
                st.integers(0, 65535),
            )
            | st.builds(wrap_ip, inner, st.sampled_from([4, 6]), byte, st.integers(0, 2)),
            st.integers(0, 8),
            st.integers(0, 0xFFFF),
        )
        | st.builds(
            wrap_extension,
            inner,
            st.sampled_from([0, 43, 44, 51, 60, 135, 139, 140]),
            st.integers(0, 2),
        )
    ),
    max_leaves=6,
)
packets = st.builds(wrap_ip, transports, st.sampled_from([4, 6]), byte, st.integers(0, 10))
links = st.recursive(
    packets,
    lambda inner: st.builds(wrap_link, inner, st.integers(0, 3), st.integers(0, 65535)),
    max_leaves=4,
)


def as_frame(item: tuple[int, bytes], how: int) -> tuple[int, bytes]:
    """(link kind, frame) of an item of link kind."""
    kind, payload = item
    direct = {0x0800: 11, 0x86DD: 12, 0x8847: 13}
    if how == 0 and kind in direct:
        return direct[kind], payload
    if how == 1 and kind in direct:
        protocol = {0x0800: 0x21, 0x86DD: 0x57, 0x8847: 0x281}[kind]
        return 7, b"\xff\x03" + struct.pack("!H", protocol) + payload
    if how == 2:
        return 1, snap(kind, payload)
    return 1, ethernet(kind, payload)


frames = st.builds(as_frame, links, st.integers(0, 5))
"""(link kind, frame): what a well-behaved network may carry, and some of what it may not."""


def mutate(frame: bytes, edits: list[tuple[int, int]], cut: int | None) -> bytes:
    data = bytearray(frame)
    for place, value in edits:
        if data:
            data[place % len(data)] = value
    return bytes(data if cut is None else data[:cut])


edits = st.lists(st.tuples(st.integers(0, 200), byte), max_size=4)
cuts = st.none() | st.integers(0, 160)
