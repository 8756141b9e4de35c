"""Compiled walks over capture files: record by record, each frame down to its UDP or TCP payload.

A walk fills the arrays of one chunk and returns why it stopped.  Every length is checked before
the bytes behind it are read, so damaged files end a walk and never leave the buffer.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowray.wire.frame_kernels import (
    BIG,
    CLOCK,
    COUNT,
    DATAGRAM,
    LIMIT,
    LISTED,
    MALFORMED,
    PACKETS,
    POSITION,
    Int,
    append,
    dissect,
    plain_udp,
    u32,
)

__all__ = [
    "CONTROL",
    "DAMAGED",
    "FULL",
    "RECORD_LIMIT",
    "STARVED",
    "walk_classic",
    "walk_next_generation",
]

# Why a walk returned.
FULL = 0  # no room for another datagram, fragment or segment, or past the byte limit of a chunk
STARVED = 1  # the buffer ends inside a record, or exactly after one
CONTROL = 2  # at a complete section header or interface description block
DAMAGED = 3  # at a record whose lengths cannot be

RECORD_LIMIT = 1 << 24
"""Longest record believed, bytes: above any snap length, below what would exhaust memory."""

_SECTION = 0x0A0D0D0A  # reads the same in both byte orders
_INTERFACE = 1
_PACKET = 2
_SIMPLE = 3
_ENHANCED = 6

_FOREVER = (1 << 63) - 1
_GIGA = 1_000_000_000


@njit(nogil=True, cache=True)
def _tick(state: NDArray[np.int64], time_ns: Int) -> None:
    """Set the clock: a packet earlier than its predecessor counts as simultaneous."""
    state[CLOCK] = max(state[CLOCK], time_ns)


@njit(nogil=True, cache=True)
def _full(state: NDArray[np.int64], offset: NDArray[np.int64], listed: NDArray[np.uint64]) -> bool:
    no_room = state[COUNT] == len(offset) or state[LISTED] == len(listed)
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
    listed: NDArray[np.uint64],
    counters: NDArray[np.int64],
) -> Int:
    """Walk the records of a pcap file (draft-ietf-opsawg-pcap) from ``state[POSITION]``.

    `data` is (bytes,) uint8, `state` (STATE_WORDS,) int64, `interfaces` (1, 6) int64 as in
    `walk_next_generation` with the factor in ns per tick, `ports` (131072,) bool, see
    TCP_PORTS.  The chunk: `offset`, `length`, `arrival` (ns) int64, `port` uint16, `hi` and `lo`
    (source address) uint64, all of (capacity,); and the fragments and segments, which the caller
    takes up: `listed`, (capacity, LISTED_WORDS) uint64.  `counters` is
    (OUTCOMES,) int64 and added to.  Returns FULL, STARVED or DAMAGED.
    """
    big = state[BIG]
    while not _full(state, offset, listed):
        at = state[POSITION]
        if len(data) - at < 16:
            return STARVED
        captured = u32(data, at + 8, big)
        if captured > RECORD_LIMIT:
            return DAMAGED
        if len(data) - at - 16 < captured:
            return STARVED
        _tick(state, u32(data, at, big) * _GIGA + u32(data, at + 4, big) * interfaces[0, 3])
        state[POSITION] = at + 16 + captured
        start = at + 16
        counters[PACKETS] += 1
        payload, size, to_port, source = plain_udp(
            data, start, start + captured, interfaces[0, 0], interfaces[0, 1]
        )
        if payload and ports[to_port]:
            append(
                payload, size, start + captured, to_port, np.uint64(0), source, state, offset,
                length, arrival, port, hi, lo, counters,
            )  # fmt: skip
            counters[DATAGRAM] += 1
            continue
        wire = max(u32(data, at + 12, big), captured)
        outcome = dissect(
            data, start, start + captured, start + wire, interfaces[0, 0], interfaces[0, 1], ports,
            state, offset, length, arrival, port, hi, lo, listed, counters,
        )  # fmt: skip
        counters[outcome] += 1
    return FULL


@njit(nogil=True, cache=True)
def _interface_time(ticks: np.uint64, mode: Int, factor: Int, offset: Int) -> Int:
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
    listed: NDArray[np.uint64],
    counters: NDArray[np.int64],
) -> Int:
    """Walk the blocks of a pcapng file (draft-ietf-opsawg-pcapng), as `walk_classic` does.

    `interfaces` is (n, 6) int64: position of the EtherType, length of the link header, mode and
    factor of `_interface_time`, offset in ns, snap length (0 = none).  Section headers (whose byte
    order is put into ``state[BIG]``) and interface descriptions are left to the caller: CONTROL.
    """
    while not _full(state, offset, listed):
        at = state[POSITION]
        left = len(data) - at
        if left < 12:
            return STARVED
        kind = u32(data, at, state[BIG])
        if kind == _SECTION:
            if u32(data, at + 8, 1) == 0x1A2B3C4D:
                state[BIG] = 1
            elif u32(data, at + 8, 0) == 0x1A2B3C4D:
                state[BIG] = 0
            else:
                return DAMAGED
        big = state[BIG]
        size = u32(data, at + 4, big)
        if size < 12 or size & 3 or size > RECORD_LIMIT:
            return DAMAGED
        if left < size:
            return STARVED
        if u32(data, at + size - 4, big) != size:
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
        interface: Int = 0
        if room < 0:
            counters[MALFORMED] += 1
            continue
        if kind == _SIMPLE:
            wire = u32(data, at + 8, big)
            captured = min(wire, room)
        else:
            interface = u32(data, at + 8, big)
            if kind == _PACKET:  # interface and drop count are 16 bits each
                interface = interface >> 16 if big else interface & 0xFFFF
            captured = u32(data, at + 20, big)
            wire = u32(data, at + 24, big)
        if interface >= len(interfaces) or captured > room:
            counters[MALFORMED] += 1
            continue
        if kind == _SIMPLE:
            if interfaces[0, 5]:
                captured = min(captured, interfaces[0, 5])
        else:
            ticks = np.uint64(u32(data, at + 12, big)) << np.uint64(32)
            ticks |= np.uint64(u32(data, at + 16, big))
            scale = interfaces[interface]
            _tick(state, _interface_time(ticks, scale[2], scale[3], scale[4]))
        payload, size, to_port, source = plain_udp(
            data, start, start + captured, interfaces[interface, 0], interfaces[interface, 1]
        )
        if payload and ports[to_port]:
            append(
                payload, size, start + captured, to_port, np.uint64(0), source, state, offset,
                length, arrival, port, hi, lo, counters,
            )  # fmt: skip
            counters[DATAGRAM] += 1
            continue
        outcome = dissect(
            data, start, start + captured, start + max(wire, captured), interfaces[interface, 0],
            interfaces[interface, 1], ports, state, offset, length, arrival, port, hi, lo,
            listed, counters,
        )  # fmt: skip
        counters[outcome] += 1
    return FULL
