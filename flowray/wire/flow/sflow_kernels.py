"""Compiled passes over sFlow datagrams: list their samples, read their counters.

sFlow version 5 (sflow.org, sflow_version_5.txt); versions 2 and 4 (RFC 3176). All is XDR: words of
four octets, opaque data padded to words. Version 5 states the length of every sample and record;
in the older versions only a reading of all that comes before tells where a sample ends, so that
`old_packet_size` and `old_extension_size` measure what they pass over.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.wire.flow.link_kernels import Bytes, Words, kernel, u32, u64

Ints: TypeAlias = npt.NDArray[np.int64]

# Rows of the header matrix, one column per datagram.
H_VERSION = 0
H_AGENT = 1  # two rows: high, low
H_SUB_AGENT = 3
H_SEQUENCE = 4
H_UPTIME = 5
H_FLOWS = 6
H_COUNTERS = 7
H_DROPS = 8
H_UNKNOWN = 9
HEADER_ROWS = 10

# Rows of the sample table, one column per sample; H indexes the header matrix.
S_HEADER = 0
S_PACKET = 1
S_KIND = 2
S_OFFSET = 3
S_LENGTH = 4
SAMPLE_ROWS = 5
LEAST_SAMPLE = 20
"""Octets of the smallest sample that is listed: bounds how many a buffer can hold."""

# Kinds of sample; the first are the formats of version 5.
FLOW = 1
COUNTER = 2
FLOW_EXPANDED = 3
COUNTER_EXPANDED = 4
DROP = 5
FLOW_OLD = 6
COUNTER_OLD = 7
UNKNOWN = 0

OK = 0
SHORT_HEADER = 1
BAD_VERSION = 2
BAD_ADDRESS_TYPE = 3
SAMPLE_OVERRUN = 4
SHORT_SAMPLE = 5
BAD_SAMPLE = 6
TRUNCATED = 7
RECORD_OVERRUN = 8

# Octets before the records of a version 5 sample, by kind.
_FIXED = (0, 32, 12, 44, 16, 32)
# Octets of the counter blocks of versions 2 and 4, by type: generic, Ethernet, token ring, FDDI,
# 100BaseVG, WAN, VLAN.
_OLD_COUNTERS = (0, 88, 140, 160, 88, 168, 88, 28)

COUNTER_GENERIC = 1
COUNTER_ETHERNET = 2
COUNTER_VLAN = 5
# Octets of each counter, in the order of the wire.
_GENERIC = (4, 4, 8, 4, 4, 8, 4, 4, 4, 4, 4, 4, 8, 4, 4, 4, 4, 4, 4)
_ETHERNET = (4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4)
_VLAN = (4, 8, 4, 4, 4, 4)
# All three side by side: where a block begins, how many counters and octets it has.
_WIDTHS = np.array(_GENERIC + _ETHERNET + _VLAN, np.int64)
_BLOCKS = np.array(
    ((0, 0, 0), (0, 19, 88), (19, 13, 52), (0, 0, 0), (0, 0, 0), (32, 6, 28)), np.int64
)

# Rows of the counter matrix, one column per counter block.
C_HEADER = 0
C_TYPE = 1
C_SOURCE = 2
C_SEQUENCE = 3
C_FIRST = 4
COUNTER_ROWS = C_FIRST + len(_GENERIC) + len(_ETHERNET) + len(_VLAN)


@kernel
def padded(size: int) -> int:
    """Octets that opaque data of `size` octets takes in XDR (RFC 4506 section 4.9)."""
    return (size + 3) & ~3


@kernel
def address_size(buf: Bytes, pos: int, end: int) -> int:
    """Octets of an address with its type word, or -1 if it is cut off or of an unknown type."""
    if end - pos < 4:
        return -1
    kind = u32(buf, pos)
    size = 4 if kind == 0 else (8 if kind == 1 else (20 if kind == 2 else -1))
    return size if end - pos >= size else -1


@kernel
def _strings_size(buf: Bytes, pos: int, end: int, count: int) -> int:
    """Octets of `count` strings one after another, or -1 if they do not fit."""
    start = pos
    for _ in range(count):
        if end - pos < 4 or end - pos - 4 < u32(buf, pos):
            return -1
        pos += 4 + padded(u32(buf, pos))
    return pos - start


@kernel
def path_size(buf: Bytes, pos: int, end: int) -> int:
    """Octets of an AS path: a count of segments, each with type and count; or -1."""
    if end - pos < 4:
        return -1
    start = pos
    segments = u32(buf, pos)
    pos += 4
    for _ in range(segments):  # each turn takes eight octets or ends the loop
        if end - pos < 8 or (end - pos - 8) // 4 < u32(buf, pos + 4):
            return -1
        pos += 8 + 4 * u32(buf, pos + 4)
    return pos - start


@kernel
def _old_gateway_size(buf: Bytes, pos: int, end: int, version: int) -> int:
    """Octets of extended gateway data: the path is plain in version 2, in segments in version 4."""
    if end - pos < 16:
        return -1
    if version == 2:
        count = u32(buf, pos + 12)
        return 16 + 4 * count if (end - pos - 16) // 4 >= count else -1
    size = path_size(buf, pos + 12, end)
    at = pos + 12 + size
    if size < 0 or end - at < 8 or (end - at - 8) // 4 < u32(buf, at):
        return -1
    return 12 + size + 4 + 4 * u32(buf, at) + 4


@kernel
def old_packet_size(buf: Bytes, pos: int, end: int) -> int:
    """Octets of the packet data of a version 2 or 4 flow sample, its type word included, or -1."""
    if end - pos < 4:
        return -1
    kind = u32(buf, pos)
    size = -1
    if kind == 1:
        if end - pos >= 16 and end - pos - 16 >= u32(buf, pos + 12):
            size = 16 + padded(u32(buf, pos + 12))
    elif kind == 2:
        size = 4 + 32
    elif kind == 3:
        size = 4 + 56
    return size if end - pos >= size else -1


@kernel
def old_extension_size(buf: Bytes, pos: int, end: int, version: int) -> int:
    """Octets of one piece of extended data of version 2 or 4, its type word included, or -1."""
    if end - pos < 4:
        return -1
    kind = u32(buf, pos)
    at = pos + 4
    size = -1
    if kind == 1:
        size = 16
    elif kind == 2:
        hop = address_size(buf, at, end)
        size = hop + 8 if hop > 0 else -1
    elif kind == 3:
        size = _old_gateway_size(buf, at, end, version)
    elif kind == 4:
        size = _strings_size(buf, at, end, 2)
    elif kind == 5 and end - at >= 4:
        url = _strings_size(buf, at + 4, end, 1)
        size = url + 4 if url > 0 else -1
    return 4 + size if size >= 0 and end - at >= size else -1


@kernel
def _old_flow_size(buf: Bytes, pos: int, end: int, version: int) -> int:
    """Octets of a version 2 or 4 flow sample behind its type word, or -1."""
    size = 28  # sequence, source, rate, pool, drops, input, output
    step = old_packet_size(buf, pos + size, end)
    if step < 0 or end - pos - size - step < 4:
        return -1
    size += step
    extensions = u32(buf, pos + size)
    size += 4
    for _ in range(extensions):  # each turn takes four octets or ends the loop
        step = old_extension_size(buf, pos + size, end, version)
        if step < 0:
            return -1
        size += step
    return size


@kernel
def _next_old(buf: Bytes, pos: int, end: int, version: int) -> tuple[int, int, int, int]:
    """(cause, kind, body position, body size) of the next sample of version 2 or 4."""
    if end - pos < 4:
        return TRUNCATED, UNKNOWN, pos, 0
    kind = u32(buf, pos)
    pos += 4
    if kind == 1:
        size = _old_flow_size(buf, pos, end, version)
        return (SAMPLE_OVERRUN if size < 0 else OK), FLOW_OLD, pos, size
    if kind == 2:
        if end - pos < 16:
            return SAMPLE_OVERRUN, UNKNOWN, pos, 0
        counters = u32(buf, pos + 12)
        if counters == 0 or counters >= len(_OLD_COUNTERS):
            return BAD_SAMPLE, UNKNOWN, pos, 0
        size = 16 + _OLD_COUNTERS[counters]
        return (SAMPLE_OVERRUN if end - pos < size else OK), COUNTER_OLD, pos, size
    return BAD_SAMPLE, UNKNOWN, pos, 0


@kernel
def _next(buf: Bytes, pos: int, end: int) -> tuple[int, int, int, int]:
    """(cause, kind, body position, body size) of the next sample of version 5."""
    if end - pos < 8:
        return TRUNCATED, UNKNOWN, pos, 0
    kind = u32(buf, pos)
    size = u32(buf, pos + 4)
    pos += 8
    if end - pos < size:
        return SAMPLE_OVERRUN, UNKNOWN, pos, 0
    if kind == 0 or kind >= len(_FIXED):
        return OK, UNKNOWN, pos, size
    return (SHORT_SAMPLE if size < _FIXED[kind] else OK), kind, pos, size


@kernel
def _read_header(
    buf: Bytes, pos: int, end: int, headers: Words, i: int
) -> tuple[int, int, int, int]:
    """(cause, version, position of the first sample, samples claimed); fills column `i`."""
    for row in range(HEADER_ROWS):
        headers[row, i] = 0
    if end - pos < 8:
        return SHORT_HEADER, 0, pos, 0
    version = u32(buf, pos)
    if not (version == 5 or version == 4 or version == 2):
        return BAD_VERSION, 0, pos, 0
    kind = u32(buf, pos + 4)
    if kind != 1 and kind != 2:
        return BAD_ADDRESS_TYPE, 0, pos, 0
    agent = pos + 8
    pos = agent + (4 if kind == 1 else 16)
    if end - pos < (16 if version == 5 else 12):
        return SHORT_HEADER, 0, pos, 0
    headers[H_VERSION, i] = version
    if kind == 1:
        headers[H_AGENT + 1, i] = np.uint64(0xFFFF00000000) | np.uint64(u32(buf, agent))
    else:
        headers[H_AGENT, i] = u64(buf, agent)
        headers[H_AGENT + 1, i] = u64(buf, agent + 8)
    if version == 5:
        headers[H_SUB_AGENT, i] = u32(buf, pos)
        pos += 4
    headers[H_SEQUENCE, i] = u32(buf, pos)
    headers[H_UPTIME, i] = u32(buf, pos + 4)
    return OK, version, pos + 12, u32(buf, pos + 8)


@kernel
def _count_row(kind: int) -> int:
    """The header row that counts samples of a kind."""
    if kind == FLOW or kind == FLOW_EXPANDED or kind == FLOW_OLD:
        return H_FLOWS
    if kind == COUNTER or kind == COUNTER_EXPANDED or kind == COUNTER_OLD:
        return H_COUNTERS
    return H_DROPS if kind == DROP else H_UNKNOWN


@kernel
def scan(
    buf: Bytes,
    offset: Ints,
    length: Ints,
    which: Ints,
    headers: Words,
    samples: Ints,
    causes: Ints,
) -> int:
    """List the samples of the datagrams ``which``, (n,) indices into `offset` and `length`.

    Fills `headers`, (HEADER_ROWS, n) uint64, `causes`, (n,) int64: 0 or why the datagram could not
    be read to its end, and `samples`, (SAMPLE_ROWS, capacity) int64 with room for one sample per
    LEAST_SAMPLE octets of payload. Samples of unknown kind are counted, not listed. Returns how
    many are listed.
    """
    listed = 0
    for i in range(which.size):
        packet = which[i]
        pos = offset[packet]
        end = pos + length[packet]
        causes[i], version, pos, claimed = _read_header(buf, pos, end, headers, i)
        for _ in range(claimed):  # each turn takes four octets or ends the loop
            if version == 5:
                cause, kind, body, size = _next(buf, pos, end)
            else:
                cause, kind, body, size = _next_old(buf, pos, end, version)
            if cause != OK:
                causes[i] = cause
            if cause != OK and cause != SHORT_SAMPLE:
                break
            pos = body + padded(size)
            if cause != OK:
                continue
            headers[_count_row(kind), i] += np.uint64(1)
            if kind != UNKNOWN and listed < samples.shape[1]:
                samples[S_HEADER, listed] = i
                samples[S_PACKET, listed] = packet
                samples[S_KIND, listed] = kind
                samples[S_OFFSET, listed] = body
                samples[S_LENGTH, listed] = size
                listed += 1
    return listed


@kernel
def decode_counters(buf: Bytes, samples: Ints, causes: Ints, counters: Words) -> int:
    """Read the generic, Ethernet and VLAN blocks of version 5 counter samples.

    `samples` are those of kind COUNTER and COUNTER_EXPANDED. `counters` is (COUNTER_ROWS, capacity)
    uint64, zeros; once it is full blocks are counted only. Returns the number of blocks, so that a
    call with no capacity tells how much is needed.
    """
    found = 0
    for k in range(samples.shape[1]):
        i = samples[S_HEADER, k]
        pos = samples[S_OFFSET, k]
        end = pos + samples[S_LENGTH, k]
        sequence = u32(buf, pos)
        if samples[S_KIND, k] == COUNTER:
            source = u32(buf, pos + 4) & 0xFFFFFF
            pos += 8
        else:
            source = u32(buf, pos + 8)
            pos += 12
        records = u32(buf, pos)
        pos += 4
        for _ in range(records):  # each turn takes eight octets or ends the loop
            if end - pos < 8 or end - pos - 8 < u32(buf, pos + 4):
                if causes[i] == OK:
                    causes[i] = RECORD_OVERRUN
                break
            kind = u32(buf, pos)
            size = u32(buf, pos + 4)
            pos += 8
            if 0 < kind < len(_BLOCKS) and 0 < _BLOCKS[kind, 2] <= size:
                if found < counters.shape[1]:
                    counters[C_HEADER, found] = i
                    counters[C_TYPE, found] = kind
                    counters[C_SOURCE, found] = source
                    counters[C_SEQUENCE, found] = sequence
                    _read_block(buf, pos, _BLOCKS[kind, 0], _BLOCKS[kind, 1], counters, found)
                found += 1
            pos += padded(size)
    return found


@kernel
def _read_block(buf: Bytes, pos: int, first: int, count: int, counters: Words, column: int) -> None:
    """Read counters `first` to `first + count - 1` of the table of widths."""
    for c in range(first, first + count):
        if _WIDTHS[c] == 8:
            counters[C_FIRST + c, column] = u64(buf, pos)
        else:
            counters[C_FIRST + c, column] = u32(buf, pos)
        pos += _WIDTHS[c]
