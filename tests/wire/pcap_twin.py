"""Naive captures for the tests: builders of packets and files, and a plain parser of frames."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

ETHERNET, NULL, LOOP, RAW, SLL, SLL2 = 1, 0, 108, 101, 113, 276
PPP, PPP_HDLC, JUNIPER = 9, 50, 178
LINKS = (ETHERNET, NULL, LOOP, RAW, SLL, SLL2, 12, 14, 228, 229, PPP, PPP_HDLC, JUNIPER)


# ------------------------------------------------------------------------------------- building
def udp(payload: bytes, port: int = 2055, *, size: int | None = None) -> bytes:
    return struct.pack(">HHHH", 4000, port, 8 + len(payload) if size is None else size, 0) + payload


def tcp(
    payload: bytes,
    port: int = 179,
    *,
    source_port: int = 4000,
    sequence: int = 1,
    flags: int = 0x10,
    options: bytes = b"",
    words: int | None = None,
) -> bytes:
    words = 5 + len(options) // 4 if words is None else words
    head = struct.pack(">HHIIBB", source_port, port, sequence, 7, words << 4, flags)
    return head + struct.pack(">HHH", 8192, 0, 0) + options + payload


def ipv4(
    body: bytes,
    src: str = "192.0.2.1",
    *,
    options: bytes = b"",
    protocol: int = 17,
    piece: int = 0,
    ident: int = 1,
    total: int | None = None,
) -> bytes:
    words = 5 + len(options) // 4
    size = words * 4 + len(body) if total is None else total
    addresses = ipaddress.IPv4Address(src).packed + bytes([198, 51, 100, 7])
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, size, ident, piece, 64, protocol, 0)
    return head + addresses + options + body


def ipv6(
    body: bytes,
    src: str = "2001:db8::1",
    *,
    chain: tuple[int, ...] = (),
    total: int | None = None,
    protocol: int = 17,
) -> bytes:
    """`chain` are extension headers to put in front: hop-by-hop 0, routing 43, options 60, AH 51,
    44 an atomic fragment."""
    following = protocol
    for kind in reversed(chain):
        words = 1 + kind % 3 if kind not in {44, 51} else (0 if kind == 44 else 2)
        size = (words + 2) * 4 if kind == 51 else (words + 1) * 8
        body = (bytes([following, words]) + bytes(size - 2)) + body
        following = kind
    return ipv6_packet(body, src, following, total=total)


def ipv6_packet(body: bytes, src: str, following: int, *, total: int | None = None) -> bytes:
    size = len(body) if total is None else total
    addresses = ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address("2001:db8::7").packed
    return struct.pack(">IHBB", 0x60000000, size, following, 64) + addresses + body


def ipv6_fragment(following: int, offset: int, more: bool, ident: int, body: bytes) -> bytes:
    return struct.pack(">BBHI", following, 0, offset | more, ident) + body


def frame(packet: bytes, link: int, vlans: tuple[int, ...] = ()) -> bytes:
    kind = 0x86DD if packet[:1] and packet[0] >> 4 == 6 else 0x0800
    kinds = [*vlans, kind]
    tags = b"".join(struct.pack(">HH", 100 + n, k) for n, k in enumerate(kinds[1:]))
    first = struct.pack(">H", kinds[0])
    if link == ETHERNET:
        return bytes(12) + first + tags + packet
    if link == SLL:
        return bytes(14) + first + tags + packet
    if link == SLL2:
        return first + bytes(18) + tags + packet
    if link == NULL:
        return struct.pack("<I", 30 if kind == 0x86DD else 2) + packet
    if link == LOOP:
        return struct.pack(">I", 24 if kind == 0x86DD else 2) + packet
    if link == PPP:
        return (b"\x57" if kind == 0x86DD else b"\x21") + packet
    if link == PPP_HDLC:
        return b"\xff\x03\x00" + (b"\x57" if kind == 0x86DD else b"\x21") + packet
    if link == JUNIPER and vlans:
        return b"MGC\x80\x00\x03abc" + bytes(12) + first + tags + packet
    if link == JUNIPER:
        return b"MGC\x02" + bytes(4) + packet
    return packet


@dataclass(frozen=True)
class Record:
    data: bytes
    time_ns: int = 0
    wire: int | None = None


def pcap(
    records: list[Record], link: int = ETHERNET, *, big: bool = False, nano: bool = True
) -> bytes:
    order = ">" if big else "<"
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)]
    for one in records:
        seconds, fraction = divmod(one.time_ns, 10**9)
        wire = len(one.data) if one.wire is None else one.wire
        fraction //= 1 if nano else 1000
        parts.append(struct.pack(order + "IIII", seconds, fraction, len(one.data), wire))
        parts.append(one.data)
    return b"".join(parts)


class Section:
    """Builds a pcapng section block by block."""

    def __init__(self, *, big: bool = False) -> None:
        self.order = ">" if big else "<"
        self.out = bytearray()
        self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, 1, 0, -1))

    def pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self.order + form, *values)

    def block(self, kind: int, body: bytes) -> Section:
        body += bytes(-len(body) % 4)
        size = self.pack("I", len(body) + 12)
        self.out += self.pack("I", kind) + size + body + size
        return self

    def interface(self, link: int, *options: tuple[int, bytes], snap: int = 0) -> Section:
        body = self.pack("HHI", link, 0, snap)
        for code, value in options:
            body += self.pack("HH", code, len(value)) + value + bytes(-len(value) % 4)
        return self.block(1, body + bytes(4))

    def enhanced(self, data: bytes, ticks: int, interface: int = 0) -> Section:
        head = self.pack("IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        return self.block(6, head + data + bytes(-len(data) % 4) + self.pack("HH", 0, 0))

    def obsolete(self, data: bytes, ticks: int, interface: int = 0) -> Section:
        head = self.pack("HH", interface, 9)
        head += self.pack("IIII", ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        return self.block(2, head + data)

    def simple(self, data: bytes, wire: int | None = None) -> Section:
        return self.block(3, self.pack("I", len(data) if wire is None else wire) + data)


# ------------------------------------------------------------------------------------- parsing
@dataclass(frozen=True)
class Datagram:
    payload: bytes
    src: str
    port: int
    truncated: bool


@dataclass(frozen=True)
class Segment:
    payload: bytes
    src: str
    source_port: int
    port: int
    sequence: int
    flags: int
    truncated: bool


Found = Datagram | Segment | str


def parse(data: bytes, link: int, wire: int, tcp_ports: frozenset[int] = frozenset()) -> Found:
    """The datagram of one frame, or what it is instead, as the counters call it."""
    try:
        return _link(data, link, wire, tcp_ports)
    except (struct.error, IndexError):
        return "malformed"


def _link(data: bytes, link: int, wire: int, tcp_ports: frozenset[int]) -> Found:
    if link in {NULL, LOOP}:
        family = {struct.unpack("<I", data[:4])[0], struct.unpack(">I", data[:4])[0]}
        if not family & {2, 10, 24, 28, 30}:
            return "not_udp"
        return _ip(data[4:], wire - 4, tcp_ports)
    if link in {PPP, PPP_HDLC}:
        rest = data.removeprefix(b"\xff\x03")
        size = 1 if rest[0] & 1 else 2
        if len(rest) < size:
            return "malformed"
        if int.from_bytes(rest[:size]) not in {0x21, 0x57}:
            return "not_udp"
        rest = rest[size:]
        return _ip(rest, wire - (len(data) - len(rest)), tcp_ports)
    if link == JUNIPER:
        if data[:3] != b"MGC":
            return "malformed"
        at = 6 + struct.unpack(">H", data[4:6])[0] if data[3] & 0x80 else 4
        if data[3] & 0x02:
            return _ip(data[at + 4 :], wire - at - 4, tcp_ports)
        return _link(data[at:], ETHERNET, wire - at, tcp_ports)
    if link not in {ETHERNET, SLL, SLL2}:
        return _ip(data, wire, tcp_ports)
    at, header = {ETHERNET: (12, 14), SLL: (14, 16), SLL2: (0, 20)}[link]
    if len(data) < header:
        return "malformed"
    (kind,) = struct.unpack(">H", data[at : at + 2])
    rest = data[header:]
    while kind in {0x8100, 0x88A8, 0x9100}:
        (kind,) = struct.unpack(">2xH", rest[:4])
        rest = rest[4:]
    if kind not in {0x0800, 0x86DD}:
        return "not_udp"
    return _ip(rest, wire - (len(data) - len(rest)), tcp_ports)


def _ip(data: bytes, wire: int, tcp_ports: frozenset[int]) -> Found:
    """`wire` is what data would measure had it not been cut."""
    version = data[0] >> 4
    if version not in {4, 6} or len(data) < (20 if version == 4 else 40):
        return "malformed"
    if version == 4:
        size, piece, protocol, packed = struct.unpack(">2xH2xHxB2x4s", data[:16])
        words = (data[0] & 15) * 4
        size = size or wire
        if words < 20 or words > size or words > len(data):
            return "malformed"
        if protocol != 17 and not (protocol == 6 and tcp_ports):
            return "not_udp"
        if piece & 0x3FFF:
            return "fragments"
        src = str(ipaddress.IPv4Address(packed))
        if protocol == 6:
            return _tcp(data[words:size], size - words, src, tcp_ports)
        return _udp(data[words:size], size - words, src)
    size, protocol, packed = struct.unpack(">4xHBx16s", data[:24])
    size = size or wire - 40
    rest = data[40 : 40 + size]
    while protocol in {0, 43, 44, 51, 60, 135, 139, 140}:
        if protocol == 44:
            following, piece = struct.unpack(">BxH4x", rest[:8])
            if piece & 0xFFF9:
                return "fragments"
            step = 8
        else:
            following, words = rest[0], rest[1]
            step = (words + 2) * 4 if protocol == 51 else (words + 1) * 8
        if step > len(rest):
            return "malformed"
        protocol, rest, size = following, rest[step:], size - step
    address = ipaddress.IPv6Address(packed)
    if protocol == 6:
        return _tcp(rest, size, str(address.ipv4_mapped or address), tcp_ports)
    if protocol != 17:
        return "not_udp"
    return _udp(rest, size, str(address.ipv4_mapped or address))


def _udp(data: bytes, wire: int, src: str) -> Datagram | str:
    port, size = struct.unpack(">2xHH2x", data[:8])
    size = size or wire
    if size < 8 or size > wire:
        return "malformed"
    return Datagram(data[8:size], src, port, size > len(data))


def _tcp(data: bytes, wire: int, src: str, tcp_ports: frozenset[int]) -> Segment | str:
    if len(data) < 4:
        return "not_udp"
    source_port, port = struct.unpack(">HH", data[:4])
    if port not in tcp_ports:
        return "not_udp"
    sequence, words, flags = struct.unpack(">4xI4xBB6x", data[:20])
    header = (words >> 4) * 4
    if header < 20 or header > len(data):
        return "malformed"
    if header == wire and not flags & 7:
        return "acknowledgements"
    payload = data[header:]
    return Segment(payload, src, source_port, port, sequence, flags, wire > len(data))
