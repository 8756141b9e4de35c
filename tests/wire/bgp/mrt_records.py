"""MRT records made plainly, and UPDATE messages taken apart plainly."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from flowray.wire.bgp.mrt import MrtPeer
from flowray.wire.packets import address_words

SECONDS = 1_700_000_000
NS = 10**9

V4 = MrtPeer(*address_words("192.0.2.1"), 65001, 0x0A000001)
V6 = MrtPeer(*address_words("2001:db8::1"), 4200000001, 0x0A000002)


def record(kind: int, subtype: int, body: bytes, seconds: int = SECONDS) -> bytes:
    return struct.pack(">IHHI", seconds, kind, subtype, len(body)) + body


def message(body: bytes, kind: int = 2) -> bytes:
    return b"\xff" * 16 + struct.pack(">HB", len(body) + 19, kind) + body


def update(attributes: bytes = b"", nlri: bytes = b"", withdrawn: bytes = b"") -> bytes:
    parts = struct.pack(">H", len(withdrawn)), withdrawn, struct.pack(">H", len(attributes))
    return message(b"".join((*parts, attributes, nlri)))


def session(
    asn: int, own: int, address: str, local: str, *, four: bool = True, interface: int = 0
) -> bytes:
    remote, near = ip_address(address), ip_address(local)
    numbers = struct.pack(">II" if four else ">HH", asn, own)
    afi = struct.pack(">HH", interface, 1 if remote.version == 4 else 2)
    return numbers + afi + remote.packed + near.packed


def attribute(kind: int, value: bytes, flags: int = 0x40, *, wide: bool = False) -> bytes:
    if wide or len(value) > 255:
        return struct.pack(">BBH", flags | 0x10, kind, len(value)) + value
    return struct.pack(">BBB", flags, kind, len(value)) + value


def path(*numbers: int, width: int = 4) -> bytes:
    segment = b"".join(n.to_bytes(width, "big") for n in numbers)
    return attribute(2, bytes([2, len(numbers)]) + segment if numbers else b"")


def prefix(text: str) -> bytes:
    address, _, bits = text.partition("/")
    octets = (int(bits) + 7) // 8
    return bytes([int(bits)]) + ip_address(address).packed[:octets]


ORIGIN = attribute(1, b"\0")


def next_hop(address: str) -> bytes:
    return attribute(3, ip_address(address).packed)


def reach(hop: bytes) -> bytes:
    """MP_REACH_NLRI as in tables."""
    return attribute(14, bytes([len(hop)]) + hop, 0x80)


def full_reach(afi: int, safi: int, hop: bytes, nlri: bytes = b"") -> bytes:
    return attribute(14, struct.pack(">HBB", afi, safi, len(hop)) + hop + b"\0" + nlri, 0x80)


def peer_index(peers: list[MrtPeer], *, name: bytes = b"view", width: int = 4) -> bytes:
    body = struct.pack(">IH", 0x0A0000FE, len(name)) + name + struct.pack(">H", len(peers))
    for peer in peers:
        v4 = not peer.hi
        address = (peer.hi << 64 | peer.lo).to_bytes(16, "big")[12 if v4 else 0 :]
        body += bytes([(not v4) | (width == 4) << 1]) + peer.bgp_id.to_bytes(4, "big")
        body += address + peer.asn.to_bytes(width, "big")
    return record(13, 1, body)


@dataclass(frozen=True)
class Entry:
    peer: int
    attributes: bytes
    path_id: int | None = None

    def __bytes__(self) -> bytes:
        path_id = b"" if self.path_id is None else struct.pack(">I", self.path_id)
        head = struct.pack(">HI", self.peer, SECONDS - 60)
        return head + path_id + struct.pack(">H", len(self.attributes)) + self.attributes


def table(subtype: int, nlri: bytes, *entries: Entry, family: bytes = b"") -> bytes:
    rows = b"".join(map(bytes, entries))
    head = struct.pack(">I", 7) + family + nlri
    return record(13, subtype, head + struct.pack(">H", len(entries)) + rows)


@dataclass(frozen=True)
class Route:
    """An UPDATE of one route: where its NLRI stood, the next hop, the other attributes."""

    afi: int
    safi: int
    nlri: bytes  # with path identifier
    hop: bytes
    attributes: tuple[bytes, ...]


def route_of(raw: bytes) -> Route:
    assert raw[:16] == b"\xff" * 16
    assert struct.unpack(">HB", raw[16:19]) == (len(raw), 2)
    gone, size = struct.unpack(">HH", raw[19:23])
    assert gone == 0
    left, at, afi, safi, hop, nlri = [], 23, 1, 1, b"", raw[23 + size :]
    while at < 23 + size:
        wide = raw[at] & 0x10
        octets = int.from_bytes(raw[at + 2 : at + 4], "big") if wide else raw[at + 2]
        begin = at + (4 if wide else 3)
        value = raw[begin : begin + octets]
        if raw[at + 1] == 14:
            assert not nlri
            afi, safi = int.from_bytes(value[:2], "big"), value[2]
            hop, nlri = value[4 : 4 + value[3]], value[5 + value[3] :]
        elif raw[at + 1] == 3:
            hop = value
        else:
            left.append(raw[at : begin + octets])
        at = begin + octets
    assert at == 23 + size
    return Route(afi, safi, nlri, hop, tuple(left))
