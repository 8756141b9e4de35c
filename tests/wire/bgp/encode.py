"""Plain builders of BGP UPDATE messages, for tests: what RFC 4271 and RFC 4760 draw, in Python."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED = 0x80, 0x40, 0x20, 0x10
AS_SET, AS_SEQUENCE, CONFED_SEQUENCE, CONFED_SET = 1, 2, 3, 4
UNICAST, MULTICAST, LABELED, VPN = 1, 2, 4, 128
MARKER = b"\xff" * 16

Segment = tuple[int, Sequence[int]]


def message(kind: int, body: bytes) -> bytes:
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


def update(withdrawn: bytes = b"", attributes: bytes = b"", nlri: bytes = b"") -> bytes:
    head = struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes))
    return message(2, head + attributes + nlri)


def end_of_rib(afi: int = 1, safi: int = 1) -> bytes:
    if (afi, safi) == (1, 1):
        return update()
    return update(attributes=mp_unreach(afi, safi, b""))


# Attributes.


def attribute(kind: int, value: bytes, flags: int = OPTIONAL | TRANSITIVE) -> bytes:
    """One path attribute; the extended length is used if asked for or needed."""
    if flags & EXTENDED or len(value) > 255:
        return struct.pack("!BBH", flags | EXTENDED, kind, len(value)) + value
    return struct.pack("!BBB", flags, kind, len(value)) + value


def origin(value: int = 0) -> bytes:
    return attribute(1, bytes([value]), TRANSITIVE)


def segments(path: Sequence[Segment], *, four: bool = True) -> bytes:
    code = "I" if four else "H"
    return b"".join(
        struct.pack(f"!BB{len(numbers)}{code}", kind, len(numbers), *numbers)
        for kind, numbers in path
    )


def as_path(*numbers: int, four: bool = True) -> bytes:
    """AS_PATH of one AS_SEQUENCE, or an empty one."""
    return as_path_segments([(AS_SEQUENCE, numbers)] if numbers else [], four=four)


def as_path_segments(path: Sequence[Segment], *, four: bool = True) -> bytes:
    return attribute(2, segments(path, four=four), TRANSITIVE)


def as4_path(path: Sequence[Segment]) -> bytes:
    return attribute(17, segments(path))


def next_hop(text: str) -> bytes:
    return attribute(3, address(text), TRANSITIVE)


def med(value: int) -> bytes:
    return attribute(4, struct.pack("!I", value), OPTIONAL)


def local_pref(value: int) -> bytes:
    return attribute(5, struct.pack("!I", value), TRANSITIVE)


def atomic_aggregate() -> bytes:
    return attribute(6, b"", TRANSITIVE)


def aggregator(number: int, text: str, *, four: bool = True) -> bytes:
    return attribute(7, struct.pack("!I" if four else "!H", number) + address(text))


def as4_aggregator(number: int, text: str) -> bytes:
    return attribute(18, struct.pack("!I", number) + address(text))


def communities(*pairs: tuple[int, int]) -> bytes:
    return attribute(8, b"".join(struct.pack("!HH", *pair) for pair in pairs))


def originator_id(text: str) -> bytes:
    return attribute(9, address(text), OPTIONAL)


def cluster_list(*texts: str) -> bytes:
    return attribute(10, b"".join(map(address, texts)), OPTIONAL)


def extended_communities(*values: bytes) -> bytes:
    return attribute(16, b"".join(values))


def large_communities(*triples: tuple[int, int, int]) -> bytes:
    return attribute(32, b"".join(struct.pack("!III", *triple) for triple in triples))


def aigp(metric: int) -> bytes:
    return attribute(26, struct.pack("!BHQ", 1, 11, metric), OPTIONAL)


def only_to_customer(number: int) -> bytes:
    return attribute(35, struct.pack("!I", number))


def usual(*numbers: int, hop: str | None = "192.0.2.1", four: bool = True) -> bytes:
    """ORIGIN, AS_PATH and, unless `hop` is None, NEXT_HOP."""
    return origin() + as_path(*numbers, four=four) + (next_hop(hop) if hop else b"")


# Addresses and NLRI.


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def path_id(value: int | None) -> bytes:
    return b"" if value is None else struct.pack("!I", value)


def prefix(text: str, path: int | None = None) -> bytes:
    """NLRI of a prefix; host bits are kept in the last octet, as a careless sender does."""
    host, bits = text.split("/")
    octets = (int(bits) + 7) // 8
    return path_id(path) + bytes([int(bits)]) + address(host)[:octets]


def label_stack(labels: Sequence[int]) -> bytes:
    """Labels of 20 bits, the last one with the bottom-of-stack bit."""
    last = len(labels) - 1
    words = [label << 4 | (k == last) for k, label in enumerate(labels)]
    return b"".join(struct.pack("!I", word)[1:] for word in words)


WITHDRAWN_LABEL = b"\x80\x00\x00"


def labeled(text: str, stack: bytes, rd: bytes = b"", path: int | None = None) -> bytes:
    """NLRI of a prefix behind a label stack (`label_stack`) and, for VPN, a route distinguisher."""
    plain = prefix(text)
    bits = plain[0] + 8 * (len(stack) + len(rd))
    return path_id(path) + bytes([bits]) + stack + rd + plain[1:]


def rd_as(number: int, value: int) -> bytes:
    """Route distinguisher of type 0, or of type 2 for an AS number of four octets."""
    if number > 0xFFFF:
        return struct.pack("!HIH", 2, number, value)
    return struct.pack("!HHI", 0, number, value)


def evpn(kind: int, value: bytes, path: int | None = None) -> bytes:
    return path_id(path) + bytes([kind, len(value)]) + value


def flowspec(value: bytes, path: int | None = None) -> bytes:
    if len(value) < 0xF0:
        return path_id(path) + bytes([len(value)]) + value
    return path_id(path) + struct.pack("!H", 0xF000 | len(value)) + value


def link_state(kind: int, value: bytes, path: int | None = None) -> bytes:
    return path_id(path) + struct.pack("!HH", kind, len(value)) + value


def route_target(value: bytes = b"", bits: int | None = None, path: int | None = None) -> bytes:
    return path_id(path) + bytes([8 * len(value) if bits is None else bits]) + value


def mp_reach(afi: int, safi: int, hop: bytes, *nlri: bytes, flags: int = OPTIONAL) -> bytes:
    head = struct.pack("!HBB", afi, safi, len(hop)) + hop + b"\0"
    return attribute(14, head + b"".join(nlri), flags)


def mp_unreach(afi: int, safi: int, *nlri: bytes, flags: int = OPTIONAL) -> bytes:
    return attribute(15, struct.pack("!HB", afi, safi) + b"".join(nlri), flags)
