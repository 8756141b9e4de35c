"""BMP as routers send it, for tests: messages of versions 3 and 4 out of plain numbers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

MARKER = b"\xff" * 16


def message(kind: int, body: bytes, version: int = 3) -> bytes:
    return struct.pack(">BIB", version, 6 + len(body), kind) + body


def address(text: str) -> bytes:
    return ip_address(text).packed.rjust(16, b"\0")


@dataclass(frozen=True, slots=True)
class Peer:
    """What a per-peer header says."""

    address: str = "192.0.2.1"
    peer_type: int = 0
    flags: int = 0
    distinguisher: int = 0
    asn: int = 65001
    bgp_id: str = "192.0.2.1"
    seconds: int = 1_700_000_000
    micros: int = 123_456

    def header(self) -> bytes:
        flags = self.flags | (0x80 if ":" in self.address else 0)
        return (
            struct.pack(">BBQ", self.peer_type, flags, self.distinguisher)
            + address(self.address)
            + struct.pack(">I", self.asn)
            + IPv4Address(self.bgp_id).packed
            + struct.pack(">II", self.seconds, self.micros)
        )


def tlv(kind: int, value: bytes, *, index: int | None = None, pen: int = 0) -> bytes:
    if pen:
        kind, value = kind | 0x8000, struct.pack(">I", pen) + value
    place = b"" if index is None else struct.pack(">H", index)
    return struct.pack(">HH", kind, len(value)) + place + value


def bgp(kind: int, body: bytes) -> bytes:
    return MARKER + struct.pack(">HB", 19 + len(body), kind) + body


def update(body: bytes = bytes(4)) -> bytes:
    return bgp(2, body)


def bgp_open(asn: int = 65001, capabilities: bytes = b"", bgp_id: str = "192.0.2.1") -> bytes:
    parameters = bytes((2, len(capabilities))) + capabilities if capabilities else b""
    fixed = struct.pack(">BHH", 4, asn if asn < 65536 else 23456, 90) + IPv4Address(bgp_id).packed
    return bgp(1, fixed + bytes((len(parameters),)) + parameters)


def capability(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def multiprotocol(afi: int, safi: int) -> bytes:
    return capability(1, struct.pack(">HxB", afi, safi))


def four_octet_as(asn: int) -> bytes:
    return capability(65, struct.pack(">I", asn))


def add_path(*rows: tuple[int, int, int]) -> bytes:
    return capability(69, b"".join(struct.pack(">HBB", *row) for row in rows))


def initiation(*tlvs: bytes, version: int = 3) -> bytes:
    return message(4, b"".join(tlvs), version)


def termination(reason: int | None = 0, *tlvs: bytes) -> bytes:
    told = b"" if reason is None else tlv(1, struct.pack(">H", reason))
    return message(5, told + b"".join(tlvs))


def peer_up(
    peer: Peer,
    sent: bytes | None = None,
    received: bytes | None = None,
    *tlvs: bytes,
    local: str = "192.0.2.254",
    version: int = 3,
) -> bytes:
    body = (
        peer.header()
        + address(local)
        + struct.pack(">HH", 179, 40000)
        + (bgp_open(65000) if sent is None else sent)
        + (bgp_open() if received is None else received)
        + b"".join(tlvs)
    )
    return message(3, body, version)


def peer_down(peer: Peer, reason: int, data: bytes = b"", version: int = 3) -> bytes:
    return message(2, peer.header() + bytes((reason,)) + data, version)


def statistics(peer: Peer, *rows: tuple[int, bytes], count: int | None = None) -> bytes:
    return message(1, peer.header() + statistics_rows(*rows, count=count))


def statistics_rows(*rows: tuple[int, bytes], count: int | None = None) -> bytes:
    told = len(rows) if count is None else count
    return struct.pack(">I", told) + b"".join(tlv(kind, value) for kind, value in rows)


def route_monitoring(peer: Peer, pdu: bytes | None = None) -> bytes:
    return message(0, peer.header() + (update() if pdu is None else pdu))


def route_monitoring_v4(peer: Peer, *tlvs: bytes) -> bytes:
    return message(0, peer.header() + b"".join(tlvs), 4)


def route_mirroring(peer: Peer, *tlvs: bytes, version: int = 3) -> bytes:
    return message(6, peer.header() + b"".join(tlvs), version)
