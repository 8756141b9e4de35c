"""BMP read plainly, one message at a time: what the compiled walks are checked against."""

from __future__ import annotations

from dataclasses import dataclass

from flowray.wire.bgp import bmp_kernels as kernels

ONES = b"\xff" * 16


def frame(data: bytes, limit: int) -> tuple[list[tuple[int, int, int]], int, int]:
    """(where, octets, type) of each message, where they end, and why."""
    found: list[tuple[int, int, int]] = []
    at = 0
    while at < len(data):
        if data[at] not in (3, 4):
            return found, at, kernels.BAD_VERSION
        if at + 6 > len(data):
            break
        length = int.from_bytes(data[at + 1 : at + 5])
        if length < 6:
            return found, at, kernels.TOO_SHORT
        if length > limit:
            return found, at, kernels.TOO_LONG
        if at + length > len(data):
            break
        found.append((at, length, data[at + 5]))
        at += length
    return found, at, kernels.COMPLETE


@dataclass(frozen=True, slots=True)
class Route:
    """What is known of a Route Monitoring message."""

    verdict: int
    update: bytes = b""
    kind: int = -1
    more: bool = False
    context: int = 0
    time_ns: int = 0


def _begins(value: bytes) -> bool:
    return len(value) >= 19 and value[:16] == ONES


def find_update(message: bytes) -> Route:
    """The UPDATE of a Route Monitoring message with a whole per-peer header."""
    body = message[48:]
    kind, more = -1, False
    if message[0] == 4 and not _begins(body):
        tlvs = []
        while body:
            if len(body) < 6 or len(body) < 6 + int.from_bytes(body[2:4]):
                return Route(kernels.TLV_CUT)
            length = int.from_bytes(body[2:4])
            tlvs.append((int.from_bytes(body[:2]), body[6 : 6 + length]))
            body = body[6 + length :]
        holds = [i for i, (_, value) in enumerate(tlvs) if _begins(value)]
        if not holds:
            return Route(kernels.NO_UPDATE)
        kind, body = tlvs[holds[0]]
        more = len(tlvs) > 1
    if len(body) < 19:
        return Route(kernels.UPDATE_CUT)
    length = int.from_bytes(body[16:18])
    if not 19 <= length <= len(body):
        return Route(kernels.UPDATE_CUT)
    if body[18] != 2:
        return Route(kernels.NO_UPDATE)
    if kind < 0 and message[0] == 4:
        more = len(body) > length
    return Route(kernels.GOOD, body[:length], kind, more)


def find_route(
    message: bytes, peers: dict[bytes, int], contexts: list[tuple[int, int]]
) -> tuple[int, Route]:
    """The peer of a Route Monitoring message and the rest of it; -1 if there is none."""
    if len(message) < 48:
        return -1, Route(kernels.HEADER_CUT)
    peer = peers[message[6:40]]
    if peer < 0:
        return -1, Route(kernels.PEER_REFUSED)
    two = message[6] != 3 and bool(message[7] & 0x20)
    context = contexts[peer][0 if two else 1]
    if context < 0:
        return peer, Route(kernels.PEER_NOT_UP)
    seconds, micros = int.from_bytes(message[40:44]), int.from_bytes(message[44:48])
    found = find_update(message)
    time_ns = seconds * 1_000_000_000 + micros * 1000 if seconds else 0
    return peer, Route(found.verdict, found.update, found.kind, found.more, context, time_ns)
