"""Compiled walks over capture files: records, then frames, down to UDP payloads and fragments.

A walk fills the arrays of one chunk and returns why it stopped.  Every length is checked before
the bytes behind it are read, so damaged files end a walk and never leave the buffer.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "BIG",
    "CLOCK",
    "COUNT",
    "CONTROL",
    "DAMAGED",
    "DATAGRAM",
    "FRAGMENT",
    "FRAGMENTS",
    "FRAGMENT_WORDS",
    "FULL",
    "LIMIT",
    "MALFORMED",
    "NOT_UDP",
    "OTHER_PORT",
    "OUTCOMES",
    "PACKETS",
    "POSITION",
    "RECORD_LIMIT",
    "STARVED",
    "STATE_WORDS",
    "TRUNCATED",
    "UNKNOWN_LINK",
    "dissect_transport",
    "walk_classic",
    "walk_next_generation",
]

# Why a walk returned.
FULL = 0  # no room for another datagram or fragment, or past the byte limit of a chunk
STARVED = 1  # the buffer ends inside a record, or exactly after one
CONTROL = 2  # at a complete section header or interface description block
DAMAGED = 3  # at a record whose lengths cannot be

# Rows of the walk state, int64.
POSITION = 0  # of the next record in the buffer
CLOCK = 1  # latest time seen, ns
COUNT = 2  # datagrams in the chunk
FRAGMENTS = 3  # fragments in the chunk
LIMIT = 4  # position past which the chunk is full
BIG = 5  # byte order of the section or file: 1 = big endian
STATE_WORDS = 6

# What became of a packet: rows of the counters, int64.
DATAGRAM = 0
NOT_UDP = 1
OTHER_PORT = 2
FRAGMENT = 3
MALFORMED = 4
UNKNOWN_LINK = 5
TRUNCATED = 6  # besides DATAGRAM
PACKETS = 7  # besides all others
OUTCOMES = 8

FRAGMENT_WORDS = 13
"""uint64 words of a fragment: datagrams before it, time, source hi and lo, destination hi and lo,
identification, protocol, offset, more follow (0, 1), position, bytes, cut short (0, 1).
"""

RECORD_LIMIT = 1 << 24
"""Longest record believed, bytes: above any snap length, below what would exhaust memory."""

_SECTION = 0x0A0D0D0A  # reads the same in both byte orders
_INTERFACE = 1
_PACKET = 2
_SIMPLE = 3
_ENHANCED = 6

_Int: TypeAlias = int | np.int64  # an integer of Python or of numpy: numba makes both int64

_FOREVER = (1 << 63) - 1
_GIGA = 1_000_000_000


@njit(nogil=True, cache=True)
def _u16(data: NDArray[np.uint8], at: _Int) -> _Int:
    return np.int64(data[at]) << 8 | np.int64(data[at + 1])


@njit(nogil=True, cache=True)
def _u32(data: NDArray[np.uint8], at: _Int, big: _Int) -> _Int:
    if big:
        return _u16(data, at) << 16 | _u16(data, at + 2)
    low = np.int64(data[at]) | np.int64(data[at + 1]) << 8
    return low | np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24


@njit(nogil=True, cache=True)
def _u64(data: NDArray[np.uint8], at: _Int) -> np.uint64:
    return np.uint64(_u32(data, at, 1)) << np.uint64(32) | np.uint64(_u32(data, at + 4, 1))


@njit(nogil=True, cache=True)
def _network_layer(
    data: NDArray[np.uint8], start: _Int, end: _Int, type_at: _Int, header: _Int
) -> tuple[_Int, _Int]:
    """Outcome and position of the IP header of a frame; FRAGMENT is never the outcome here.

    `type_at` is where the EtherType stands: -1 there is none, -2 a BSD address family instead.
    `header` is the length of the link header, -1 for a link type that is not understood.
    VLAN tags (IEEE 802.1Q, 802.1ad, and 0x9100 of old) are skipped, however many.
    """
    if header < 0:
        return UNKNOWN_LINK, 0
    at = start + header
    if at > end:
        return MALFORMED, 0
    if type_at == -2:
        # The family is in the byte order of the capturing machine; its number varies by system.
        family = min(_u32(data, start, 0), _u32(data, start, 1))
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
def dissect_transport(
    data: NDArray[np.uint8],
    at: _Int,
    end: _Int,
    wire_end: _Int,
    protocol: _Int,
    ports: NDArray[np.bool_],
) -> tuple[_Int, _Int, _Int, _Int]:
    """(outcome, position, bytes on the wire, port) of the UDP payload behind an IP header.

    `at` is where the header of `protocol` begins; IPv6 extension headers (RFC 8200 section 4) are
    skipped.  `end` ends the captured bytes, `wire_end` those that the IP header promises.
    Outcome FRAGMENT: (FRAGMENT, position of the fragment header, its end, 0).
    """
    limit = min(end, wire_end)
    while protocol != 17:
        if protocol == 44:
            if at + 8 > limit:
                return MALFORMED, 0, 0, 0
            if _u16(data, at + 2) & 0xFFF9:
                return FRAGMENT, at, at + 8, 0
            step: _Int = 8  # an atomic fragment is whole (RFC 6946)
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
    fragments: NDArray[np.uint64],
    state: NDArray[np.int64],
    hi: np.uint64,
    lo: np.uint64,
    to_hi: np.uint64,
    to_lo: np.uint64,
    identification: _Int,
    protocol: _Int,
    offset: _Int,
    more: _Int,
    at: _Int,
    end: _Int,
    wire_end: _Int,
) -> None:
    row = fragments[state[FRAGMENTS]]
    row[0] = state[COUNT]
    row[1] = state[CLOCK]
    row[2] = hi
    row[3] = lo
    row[4] = to_hi
    row[5] = to_lo
    row[6] = identification
    row[7] = protocol
    row[8] = offset
    row[9] = more
    row[10] = at
    row[11] = max(min(end, wire_end) - at, 0)
    row[12] = wire_end > end
    state[FRAGMENTS] += 1


@njit(nogil=True, cache=True)
def _dissect(
    data: NDArray[np.uint8],
    start: _Int,
    end: _Int,
    frame_end: _Int,
    type_at: _Int,
    header: _Int,
    ports: NDArray[np.bool_],
    state: NDArray[np.int64],
    offset: NDArray[np.int64],
    length: NDArray[np.int64],
    arrival: NDArray[np.int64],
    port: NDArray[np.uint16],
    hi: NDArray[np.uint64],
    lo: NDArray[np.uint64],
    fragments: NDArray[np.uint64],
    counters: NDArray[np.int64],
) -> _Int:
    """Outcome of one frame, captured from `start` to `end` and on the wire up to `frame_end`.

    A datagram is appended to the chunk, a fragment to the fragments.
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
        if protocol != 17:
            return NOT_UDP
        mapped = np.uint64(0xFFFF00000000)
        source_hi = np.uint64(0)
        source_lo = mapped | np.uint64(_u32(data, at + 12, 1))
        piece = _u16(data, at + 6)
        if piece & 0x3FFF:
            to_lo = mapped | np.uint64(_u32(data, at + 16, 1))
            _list_fragment(
                fragments, state, source_hi, source_lo, np.uint64(0), to_lo, _u16(data, at + 4),
                protocol, (piece & 0x1FFF) * 8, piece >> 13 & 1, at + words, end, wire_end,
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
            fragments, state, source_hi, source_lo, _u64(data, ip + 24), _u64(data, ip + 32),
            _u32(data, at + 4, 1), np.int64(data[at]), piece & 0xFFF8, piece & 1, at + 8, end,
            wire_end,
        )  # fmt: skip
    if outcome != DATAGRAM:
        return outcome
    row = state[COUNT]
    counters[TRUNCATED] += at + size > end
    offset[row] = at
    length[row] = min(size, end - at)
    arrival[row] = state[CLOCK]
    port[row] = to_port
    hi[row] = source_hi
    lo[row] = source_lo
    state[COUNT] += 1
    return DATAGRAM


@njit(nogil=True, cache=True)
def _tick(state: NDArray[np.int64], time_ns: _Int) -> None:
    """Set the clock: a packet earlier than its predecessor counts as simultaneous."""
    state[CLOCK] = max(state[CLOCK], time_ns)


@njit(nogil=True, cache=True)
def _full(
    state: NDArray[np.int64], offset: NDArray[np.int64], fragments: NDArray[np.uint64]
) -> bool:
    no_room = state[COUNT] == len(offset) or state[FRAGMENTS] == len(fragments)
    return bool(no_room or state[POSITION] >= state[LIMIT])


@njit(nogil=True, cache=True)
def walk_classic(
    data: NDArray[np.uint8],
    state: NDArray[np.int64],
    interfaces: NDArray[np.int64],
    ports: NDArray[np.bool_],
    offset: NDArray[np.int64],
    length: NDArray[np.int64],
    arrival: NDArray[np.int64],
    port: NDArray[np.uint16],
    hi: NDArray[np.uint64],
    lo: NDArray[np.uint64],
    fragments: NDArray[np.uint64],
    counters: NDArray[np.int64],
) -> _Int:
    """Walk the records of a pcap file (draft-ietf-opsawg-pcap) from ``state[POSITION]``.

    `data` is (bytes,) uint8, `state` (STATE_WORDS,) int64, `interfaces` (1, 6) int64 as in
    `walk_next_generation` with the factor in ns per tick, `ports` (65536,) bool.  The chunk:
    `offset`, `length`, `arrival` (ns) int64, `port` uint16, `hi` and `lo` (source address) uint64,
    all of (capacity,), and `fragments` (capacity, FRAGMENT_WORDS) uint64.  `counters` is
    (OUTCOMES,) int64 and added to.  Returns FULL, STARVED or DAMAGED.
    """
    big = state[BIG]
    while not _full(state, offset, fragments):
        at = state[POSITION]
        if len(data) - at < 16:
            return STARVED
        captured = _u32(data, at + 8, big)
        if captured > RECORD_LIMIT:
            return DAMAGED
        if len(data) - at - 16 < captured:
            return STARVED
        _tick(state, _u32(data, at, big) * _GIGA + _u32(data, at + 4, big) * interfaces[0, 3])
        state[POSITION] = at + 16 + captured
        start = at + 16
        wire = max(_u32(data, at + 12, big), captured)
        outcome = _dissect(
            data, start, start + captured, start + wire, interfaces[0, 0], interfaces[0, 1], ports,
            state, offset, length, arrival, port, hi, lo, fragments, counters,
        )  # fmt: skip
        counters[outcome] += 1
        counters[PACKETS] += 1
    return FULL


@njit(nogil=True, cache=True)
def _interface_time(ticks: np.uint64, mode: _Int, factor: _Int, offset: _Int) -> _Int:
    """Ticks of an interface as ns since the epoch, saturating.

    `mode` 0: `factor` ns a tick; 1: `factor` ticks a ns; 2: 2 ** `factor` ticks a second.
    """
    if mode == 2:
        seconds = np.uint64(0)
        rest = ticks
        if factor < 64:
            seconds = ticks >> np.uint64(factor)
            rest = ticks - (seconds << np.uint64(factor))
        if seconds >= np.uint64(_FOREVER // _GIGA):
            return _FOREVER
        # The fraction in 2 ** -32 s (0.23 ns), so that a billion times it fits 64 bits.
        if factor <= 32:
            rest <<= np.uint64(32 - factor)
        else:
            rest >>= np.uint64(factor - 32)
        nanos = np.int64((rest * np.uint64(_GIGA)) >> np.uint64(32))
        time_ns = np.int64(seconds) * _GIGA + nanos
    elif mode == 1:
        time_ns = np.int64(ticks // np.uint64(factor))
    elif ticks > np.uint64(_FOREVER) // np.uint64(factor):
        return _FOREVER
    else:
        time_ns = np.int64(ticks) * factor
    return _FOREVER if offset > 0 and time_ns > _FOREVER - offset else time_ns + offset


@njit(nogil=True, cache=True)
def walk_next_generation(
    data: NDArray[np.uint8],
    state: NDArray[np.int64],
    interfaces: NDArray[np.int64],
    ports: NDArray[np.bool_],
    offset: NDArray[np.int64],
    length: NDArray[np.int64],
    arrival: NDArray[np.int64],
    port: NDArray[np.uint16],
    hi: NDArray[np.uint64],
    lo: NDArray[np.uint64],
    fragments: NDArray[np.uint64],
    counters: NDArray[np.int64],
) -> _Int:
    """Walk the blocks of a pcapng file (draft-ietf-opsawg-pcapng), as `walk_classic` does.

    `interfaces` is (n, 6) int64: position of the EtherType, length of the link header, mode and
    factor of `_interface_time`, offset in ns, snap length (0 = none).  Section headers (whose byte
    order is put into ``state[BIG]``) and interface descriptions are left to the caller: CONTROL.
    """
    while not _full(state, offset, fragments):
        at = state[POSITION]
        left = len(data) - at
        if left < 12:
            return STARVED
        kind = _u32(data, at, state[BIG])
        if kind == _SECTION:
            if _u32(data, at + 8, 1) == 0x1A2B3C4D:
                state[BIG] = 1
            elif _u32(data, at + 8, 0) == 0x1A2B3C4D:
                state[BIG] = 0
            else:
                return DAMAGED
        big = state[BIG]
        size = _u32(data, at + 4, big)
        if size < 12 or size & 3 or size > RECORD_LIMIT:
            return DAMAGED
        if left < size:
            return STARVED
        if _u32(data, at + size - 4, big) != size:
            return DAMAGED
        if kind == _SECTION or kind == _INTERFACE:
            return CONTROL
        state[POSITION] = at + size
        if kind == _ENHANCED or kind == _PACKET:
            header = 28
        elif kind == _SIMPLE:
            header = 12
        else:
            continue
        start = at + header
        room = size - 4 - header
        counters[PACKETS] += 1
        interface: _Int = 0
        if room < 0:
            counters[MALFORMED] += 1
            continue
        if kind == _SIMPLE:
            wire = _u32(data, at + 8, big)
            captured = min(wire, room)
        else:
            interface = _u32(data, at + 8, big)
            if kind == _PACKET:  # interface and drop count are 16 bits each
                interface = interface >> 16 if big else interface & 0xFFFF
            captured = _u32(data, at + 20, big)
            wire = _u32(data, at + 24, big)
        if interface >= len(interfaces) or captured > room:
            counters[MALFORMED] += 1
            continue
        if kind == _SIMPLE:
            if interfaces[0, 5]:
                captured = min(captured, interfaces[0, 5])
        else:
            ticks = np.uint64(_u32(data, at + 12, big)) << np.uint64(32)
            ticks |= np.uint64(_u32(data, at + 16, big))
            scale = interfaces[interface]
            _tick(state, _interface_time(ticks, scale[2], scale[3], scale[4]))
        outcome = _dissect(
            data, start, start + captured, start + max(wire, captured), interfaces[interface, 0],
            interfaces[interface, 1], ports, state, offset, length, arrival, port, hi, lo,
            fragments, counters,
        )  # fmt: skip
        counters[outcome] += 1
    return FULL
