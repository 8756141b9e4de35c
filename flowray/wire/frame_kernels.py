"""Compiled dissection of captured frames: link header, IP, UDP or TCP, down to the payload.

Every length is checked before the bytes behind it are read.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "ACKNOWLEDGEMENT",
    "BIG",
    "CLOCK",
    "COUNT",
    "DATAGRAM",
    "FRAGMENT",
    "LIMIT",
    "LISTED",
    "LISTED_FRAGMENT",
    "LISTED_SEGMENT",
    "LISTED_WORDS",
    "MALFORMED",
    "NOT_UDP",
    "OTHER_PORT",
    "OUTCOMES",
    "PACKETS",
    "POSITION",
    "SEGMENT",
    "STATE_WORDS",
    "TCP",
    "TCP_PORTS",
    "TRUNCATED",
    "UNKNOWN_LINK",
    "Int",
    "append",
    "dissect",
    "dissect_transport",
    "list_segment",
    "plain_udp",
    "u32",
]

# Rows of the walk state, int64.
POSITION = 0  # of the next record in the buffer
CLOCK = 1  # latest time seen, ns
COUNT = 2  # datagrams in the chunk
LISTED = 3  # rows in the list of fragments and segments
LIMIT = 4  # position past which the chunk is full
BIG = 5  # byte order of the section or file: 1 = big endian
TCP = 6  # whether any TCP is wanted (0, 1)
STATE_WORDS = 7

# What became of a packet: rows of the counters, int64.
DATAGRAM = 0
NOT_UDP = 1
OTHER_PORT = 2
FRAGMENT = 3
MALFORMED = 4
UNKNOWN_LINK = 5
TRUNCATED = 6  # besides DATAGRAM
PACKETS = 7  # besides all others
SEGMENT = 8
ACKNOWLEDGEMENT = 9  # a segment without payload, SYN, FIN and RST
OUTCOMES = 10

LISTED_WORDS = 14
"""uint64 words of what the caller takes up itself: kind, datagrams before it, time, source hi and
lo, and then of a fragment: destination hi and lo, identification, protocol, offset, more follow
(0, 1), position, bytes, cut short (0, 1); of a segment: source port, destination port, sequence,
flags, position, bytes.
"""
LISTED_FRAGMENT, LISTED_SEGMENT = 0, 1

TCP_PORTS = 65536
"""Where the TCP ports begin in the set of ports wanted: (131072,) bool, those of UDP first."""

Int: TypeAlias = int | np.int64
"""An integer of Python or of numpy: numba makes both int64."""

_MAPPED = np.uint64(0xFFFF << 32)  # an IPv4 address within IPv6 (RFC 4291, section 2.5.5.2)


@njit(nogil=True, cache=True)
def _u16(data: NDArray[np.uint8], at: Int) -> Int:
    return np.int64(data[at]) << 8 | np.int64(data[at + 1])


@njit(nogil=True, cache=True)
def u32(data: NDArray[np.uint8], at: Int, big: Int) -> Int:
    """Four bytes at a position as a number."""
    if big:
        return _u16(data, at) << 16 | _u16(data, at + 2)
    low = np.int64(data[at]) | np.int64(data[at + 1]) << 8
    return low | np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24


@njit(nogil=True, cache=True)
def _u64(data: NDArray[np.uint8], at: Int) -> np.uint64:
    return np.uint64(u32(data, at, 1)) << np.uint64(32) | np.uint64(u32(data, at + 4, 1))


@njit(nogil=True, cache=True)
def _behind_ppp(data: NDArray[np.uint8], at: Int, end: Int) -> tuple[Int, Int]:
    """As `_network_layer`, for PPP (RFC 1661), in HDLC-like framing (RFC 1662) or not; the protocol
    may be compressed to one octet.
    """
    if at + 2 <= end and data[at] == 0xFF and data[at + 1] == 0x03:
        at += 2
    if at < end and data[at] & 1:
        protocol: Int = np.int64(data[at])
        at += 1
    elif at + 2 <= end:
        protocol = _u16(data, at)
        at += 2
    else:
        return MALFORMED, 0
    return (DATAGRAM, at) if protocol == 0x21 or protocol == 0x57 else (NOT_UDP, 0)


@njit(nogil=True, cache=True)
def _behind_juniper(data: NDArray[np.uint8], at: Int, end: Int) -> tuple[Int, Int, Int]:
    """(outcome, position, whether an Ethernet header follows) behind Juniper's header of captured
    packets: "MGC", flags, and extensions behind their length in two octets if flag 0x80 is set.

    Flag 0x02: no link header was captured; four octets stand before the IP header.
    """
    if data[at] != 0x4D or data[at + 1] != 0x47 or data[at + 2] != 0x43:
        return MALFORMED, 0, 0
    flags = data[at + 3]
    at += 4
    if flags & 0x80:
        if at + 2 > end:
            return MALFORMED, 0, 0
        at += 2 + _u16(data, at)
    behind = at + (4 if flags & 0x02 else 14)
    if behind > end:
        return MALFORMED, 0, 0
    return DATAGRAM, (behind if flags & 0x02 else at), np.int64(not flags & 0x02)


@njit(nogil=True, cache=True)
def _network_layer(
    data: NDArray[np.uint8], start: Int, end: Int, type_at: Int, header: Int
) -> tuple[Int, Int]:
    """Outcome and position of the IP header of a frame; FRAGMENT is never the outcome here.

    `type_at` is where the EtherType stands: -1 there is none, -2 a BSD address family instead, -3
    PPP, -4 Juniper's header before Ethernet. `header` is the length of the link header, the least
    for the last two, -1 for a link type that is not understood.
    VLAN tags (IEEE 802.1Q, 802.1ad, and 0x9100 of old) are skipped, however many.
    """
    if header < 0:
        return UNKNOWN_LINK, 0
    at = start + header
    if at > end:
        return MALFORMED, 0
    if type_at == -3:
        return _behind_ppp(data, start, end)
    if type_at == -4:
        outcome, at, ethernet = _behind_juniper(data, start, end)
        if outcome != DATAGRAM or not ethernet:
            return outcome, at
        start = at
        at, type_at = start + 14, 12
    if type_at == -2:
        # The family is in the byte order of the capturing machine; its number varies by system.
        family = min(u32(data, start, 0), u32(data, start, 1))
        if family != 2 and family != 10 and family != 24 and family != 28 and family != 30:
            return NOT_UDP, 0
    elif type_at >= 0:
        kind = _u16(data, start + type_at)
        while kind == 0x8100 or kind == 0x88A8 or kind == 0x9100:
            if at + 4 > end:
                return MALFORMED, 0
            kind = _u16(data, at + 2)
            at += 4
        if kind != 0x0800 and kind != 0x86DD:
            return NOT_UDP, 0
    return DATAGRAM, at


@njit(nogil=True, cache=True)
def _tcp_header(data: NDArray[np.uint8], at: Int) -> Int:
    """Bytes of a TCP header with its options (RFC 9293 section 3.1)."""
    return np.int64(data[at + 12] >> 4) * 4


@njit(nogil=True, cache=True)
def dissect_transport(
    data: NDArray[np.uint8],
    at: Int,
    end: Int,
    wire_end: Int,
    protocol: Int,
    ports: NDArray[np.bool_],
) -> tuple[Int, Int, Int, Int]:
    """(outcome, position, bytes on the wire, port) of the UDP payload behind an IP header.

    `ports` is the set of those wanted (see TCP_PORTS).  `at` is where the header of `protocol`
    begins; IPv6 extension headers (RFC 8200 section 4) are skipped.  `end` ends the captured
    bytes, `wire_end` those that the IP header promises.
    Outcome FRAGMENT: (FRAGMENT, position of the fragment header, its end, 0).  Outcome SEGMENT:
    position and bytes are those of the TCP header and payload together.
    """
    limit = min(end, wire_end)
    while protocol != 17:
        if protocol == 6:
            if at + 4 > limit or not ports[TCP_PORTS + _u16(data, at + 2)]:
                return NOT_UDP, 0, 0, 0
            if at + 20 > limit or at + _tcp_header(data, at) > limit:
                return MALFORMED, 0, 0, 0
            if _tcp_header(data, at) < 20:
                return MALFORMED, 0, 0, 0
            return SEGMENT, at, wire_end - at, _u16(data, at + 2)
        if protocol == 44:
            if at + 8 > limit:
                return MALFORMED, 0, 0, 0
            if _u16(data, at + 2) & 0xFFF9:
                return FRAGMENT, at, at + 8, 0
            step: Int = 8  # an atomic fragment is whole (RFC 6946)
        elif (
            protocol == 0
            or protocol == 43
            or protocol == 51
            or protocol == 60
            or protocol == 135
            or protocol == 139
            or protocol == 140
        ):
            if at + 2 > limit:
                return MALFORMED, 0, 0, 0
            words = np.int64(data[at + 1])
            step = (words + 2) * 4 if protocol == 51 else (words + 1) * 8
        else:
            return NOT_UDP, 0, 0, 0
        if at + step > limit:
            return MALFORMED, 0, 0, 0
        protocol = np.int64(data[at])
        at += step
    if at + 8 > limit:
        return MALFORMED, 0, 0, 0
    port = _u16(data, at + 2)
    if not ports[port]:
        return OTHER_PORT, 0, 0, 0
    size = _u16(data, at + 4)
    if size == 0:  # a jumbogram (RFC 2675), or captured before the card segmented it
        size = wire_end - at
    if size < 8 or at + size > wire_end:
        return MALFORMED, 0, 0, 0
    return DATAGRAM, at + 8, size - 8, port


@njit(nogil=True, cache=True)
def _list_fragment(
    listed: NDArray[np.uint64],
    state: NDArray[np.int64],
    hi: np.uint64,
    lo: np.uint64,
    to_hi: np.uint64,
    to_lo: np.uint64,
    identification: Int,
    protocol: Int,
    offset: Int,
    more: Int,
    at: Int,
    end: Int,
    wire_end: Int,
) -> None:
    row = listed[state[LISTED]]
    row[0] = LISTED_FRAGMENT
    row[1] = state[COUNT]
    row[2] = state[CLOCK]
    row[3] = hi
    row[4] = lo
    row[5] = to_hi
    row[6] = to_lo
    row[7] = identification
    row[8] = protocol
    row[9] = offset
    row[10] = more
    row[11] = at
    row[12] = max(min(end, wire_end) - at, 0)
    row[13] = wire_end > end
    state[LISTED] += 1


@njit(nogil=True, cache=True)
def list_segment(
    data: NDArray[np.uint8],
    listed: NDArray[np.uint64],
    state: NDArray[np.int64],
    hi: np.uint64,
    lo: np.uint64,
    at: Int,
    end: Int,
    wire_end: Int,
) -> Int:
    """List the segment whose TCP header is at `at`; SEGMENT, or ACKNOWLEDGEMENT: not listed."""
    header = _tcp_header(data, at)
    flags = np.int64(data[at + 13])
    payload = at + header
    if wire_end == payload and not flags & 0x07:  # FIN, SYN, RST
        return ACKNOWLEDGEMENT
    row = listed[state[LISTED]]
    row[0] = LISTED_SEGMENT
    row[1] = state[COUNT]
    row[2] = state[CLOCK]
    row[3] = hi
    row[4] = lo
    row[5] = _u16(data, at)
    row[6] = _u16(data, at + 2)
    row[7] = u32(data, at + 4, 1)
    row[8] = flags
    row[9] = payload
    row[10] = min(end, wire_end) - payload
    state[LISTED] += 1
    return SEGMENT


@njit(nogil=True, cache=True)
def append(
    at: Int,
    size: Int,
    end: Int,
    to_port: Int,
    source_hi: np.uint64,
    source_lo: np.uint64,
    state: NDArray[np.int64],
    offset: NDArray[np.int64],
    length: NDArray[np.int64],
    arrival: NDArray[np.int64],
    port: NDArray[np.uint16],
    hi: NDArray[np.uint64],
    lo: NDArray[np.uint64],
    counters: NDArray[np.int64],
) -> None:
    """Append a datagram to the chunk: a payload of `size` bytes, captured up to `end`."""
    row = state[COUNT]
    counters[TRUNCATED] += at + size > end
    offset[row] = at
    length[row] = min(size, end - at)
    arrival[row] = state[CLOCK]
    port[row] = to_port
    hi[row] = source_hi
    lo[row] = source_lo
    state[COUNT] += 1


@njit(nogil=True, cache=True)
def dissect(
    data: NDArray[np.uint8],
    start: Int,
    end: Int,
    frame_end: Int,
    type_at: Int,
    header: Int,
    ports: NDArray[np.bool_],
    state: NDArray[np.int64],
    offset: NDArray[np.int64],
    length: NDArray[np.int64],
    arrival: NDArray[np.int64],
    port: NDArray[np.uint16],
    hi: NDArray[np.uint64],
    lo: NDArray[np.uint64],
    listed: NDArray[np.uint64],
    counters: NDArray[np.int64],
) -> Int:
    """Outcome of one frame, captured from `start` to `end` and on the wire up to `frame_end`.

    A datagram is appended to the chunk, a fragment or segment listed.
    """
    outcome, at = _network_layer(data, start, end, type_at, header)
    if outcome != DATAGRAM:
        return outcome
    if at + 20 > end:
        return MALFORMED
    version = data[at] >> 4
    if version == 4:
        words = np.int64(data[at] & 15) * 4
        total = _u16(data, at + 2)
        wire_end = at + total if total else frame_end  # 0: captured before the card segmented it
        if words < 20 or at + words > min(end, wire_end):
            return MALFORMED
        protocol = np.int64(data[at + 9])
        if protocol != 17 and (protocol != 6 or not state[TCP]):
            return NOT_UDP
        source_hi = np.uint64(0)
        source_lo = _MAPPED | np.uint64(u32(data, at + 12, 1))
        piece = _u16(data, at + 6)
        if piece & 0x3FFF:
            to_lo = _MAPPED | np.uint64(u32(data, at + 16, 1))
            _list_fragment(
                listed, state, source_hi, source_lo, np.uint64(0), to_lo,
                _u16(data, at + 4) | protocol << 16, protocol, (piece & 0x1FFF) * 8,
                piece >> 13 & 1, at + words, end, wire_end,
            )  # fmt: skip
            return FRAGMENT
        at += words
    elif version == 6:
        if at + 40 > end:
            return MALFORMED
        total = _u16(data, at + 4)
        wire_end = at + 40 + total if total else frame_end
        protocol = np.int64(data[at + 6])
        source_hi = _u64(data, at + 8)
        source_lo = _u64(data, at + 16)
    else:
        return MALFORMED
    ip = at
    if version == 6:
        at += 40
    outcome, at, size, to_port = dissect_transport(data, at, end, wire_end, protocol, ports)
    if outcome == FRAGMENT:
        piece = _u16(data, at + 2)
        _list_fragment(
            listed, state, source_hi, source_lo, _u64(data, ip + 24), _u64(data, ip + 32),
            u32(data, at + 4, 1), np.int64(data[at]), piece & 0xFFF8, piece & 1, at + 8, end,
            wire_end,
        )  # fmt: skip
    if outcome == SEGMENT:
        counters[TRUNCATED] += at + size > end
        return list_segment(data, listed, state, source_hi, source_lo, at, end, at + size)
    if outcome != DATAGRAM:
        return outcome
    append(
        at, size, end, to_port, source_hi, source_lo, state, offset, length, arrival, port, hi, lo,
        counters,
    )  # fmt: skip
    return DATAGRAM


@njit(nogil=True, cache=True)
def plain_udp(
    data: NDArray[np.uint8], start: Int, end: Int, type_at: Int, header: Int
) -> tuple[Int, Int, Int, np.uint64]:
    """(position, bytes on the wire, port, low word of the source) of the UDP payload of a frame as
    nearly all are: IPv4 in one piece and without options, behind an EtherType. Position 0: it is
    another, see `dissect`, which says the same of these.

    For speed alone: in `dissect` numba counts references to ten arrays, and that takes longer than
    all else; this is short enough for it to see that it need not.
    """
    at = start + header
    none = np.uint64(0)
    if type_at < 0 or at + 28 > end or _u16(data, start + type_at) != 0x0800:
        return 0, 0, 0, none
    size = _u16(data, at + 24)
    other = (data[at] ^ 0x45) | (data[at + 9] ^ 17) | (_u16(data, at + 6) & 0x3FFF)
    if other or size < 8 or size > _u16(data, at + 2) - 20:
        return 0, 0, 0, none
    return at + 28, size - 8, _u16(data, at + 22), _MAPPED | np.uint64(u32(data, at + 12, 1))
