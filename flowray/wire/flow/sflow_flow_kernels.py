"""Compiled decoding of sFlow flow samples and discarded-packet notifications into columns.

The layouts are those of sflow_version_5.txt, sflow_drops.txt and RFC 3176.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.flow.link_kernels import (
    COS,
    IN_VLAN,
    VLAN,
    Bytes,
    Slots,
    Words,
    kernel,
    put,
    u32,
)
from flowray.wire.flow.sflow_kernels import (
    FLOW,
    FLOW_EXPANDED,
    FLOW_OLD,
    H_VERSION,
    OK,
    RECORD_OVERRUN,
    S_HEADER,
    S_KIND,
    S_LENGTH,
    S_OFFSET,
    Ints,
    old_extension_size,
    old_packet_size,
    padded,
)
from flowray.wire.flow.sflow_record_kernels import (
    BYTES,
    DIRECTION,
    DIRECTION_EGRESS,
    DIRECTION_INGRESS,
    DIRECTION_UNKNOWN,
    DROPPED,
    FLOWS,
    FORM_DISCARDED,
    FORM_MULTIPLE,
    FORWARDING,
    FRAME,
    IN_IFACE,
    NO_HEADER,
    OUT_IFACE,
    OUT_VLAN,
    PACKETS,
    RATE,
    RECORD_HEADER,
    SAMPLING_RATE,
    STATE,
    STATE_DST_VLAN,
    STATE_SRC_PRIORITY,
    STATE_SRC_VLAN,
    STATUS,
    read_record,
)

Statuses: TypeAlias = npt.NDArray[np.int8]


@kernel
def _records(
    buf: Bytes,
    pos: int,
    end: int,
    words: Words,
    row: int,
    dest: Slots,
    tunnels: int,
    state: Ints,
) -> int:
    """The records of a version 5 sample, from their count on. Returns a cause."""
    cause = OK
    count = u32(buf, pos)
    pos += 4
    for _ in range(count):  # each turn takes eight octets or ends the loop
        if end - pos < 8 or end - pos - 8 < u32(buf, pos + 4):
            return RECORD_OVERRUN
        kind = u32(buf, pos)
        size = u32(buf, pos + 4)
        pos += 8
        found = read_record(buf, kind, pos, size, 5, words, row, dest, tunnels, state)
        if found != OK:
            cause = found
        pos += padded(size)
    return cause


@kernel
def _old_records(
    buf: Bytes,
    pos: int,
    end: int,
    version: int,
    words: Words,
    row: int,
    dest: Slots,
    tunnels: int,
    state: Ints,
) -> None:
    """Packet data and extended data of a version 2 or 4 sample, which the scan has measured."""
    size = old_packet_size(buf, pos, end)
    kind = u32(buf, pos)
    # Packet data types 1, 2, 3 are records 1, 3, 4 of version 5; extended data 1 to 5 are 1001 on.
    record = RECORD_HEADER if kind == 1 else kind + 1
    read_record(buf, record, pos + 4, size - 4, version, words, row, dest, tunnels, state)
    pos += size
    count = u32(buf, pos)
    pos += 4
    for _ in range(count):
        size = old_extension_size(buf, pos, end, version)
        record = u32(buf, pos) + 1000
        read_record(buf, record, pos + 4, size - 4, version, words, row, dest, tunnels, state)
        pos += size


@kernel
def _interfaces(
    rate: int,
    source: int,
    inside: int,
    outside: int,
    form: int,
    words: Words,
    row: int,
    dest: Slots,
) -> None:
    """What the fixed part of a sample tells. `source` is an ifIndex or -1, `form` the output's."""
    put(words, row, dest, PACKETS, 1)
    put(words, row, dest, FLOWS, 1)
    put(words, row, dest, RATE, rate)
    put(words, row, dest, SAMPLING_RATE, rate)
    put(words, row, dest, IN_IFACE, inside)
    put(words, row, dest, OUT_IFACE, outside)
    if form == FORM_DISCARDED:
        put(words, row, dest, FORWARDING, DROPPED)
    if source < 0:
        direction = DIRECTION_UNKNOWN
    elif source == inside:
        direction = DIRECTION_INGRESS
    elif source == outside or form == FORM_MULTIPLE:
        direction = DIRECTION_EGRESS
    else:
        direction = DIRECTION_UNKNOWN
    put(words, row, dest, DIRECTION, direction)


@kernel
def _port(buf: Bytes, pos: int) -> int:
    """An interface of an expanded sample, in the form that compact samples have."""
    form = u32(buf, pos)
    value = u32(buf, pos + 4)
    return value if form == 0 else (form & 3) << 30 | (value & 0x3FFFFFFF)


@kernel
def _fixed(buf: Bytes, pos: int, kind: int, words: Words, row: int, dest: Slots) -> int:
    """The part of a sample before its records; returns the position after it."""
    if kind == FLOW or kind == FLOW_OLD:
        source = u32(buf, pos + 4)
        index = source & 0xFFFFFF if source >> 24 == 0 else -1
        inside, outside = u32(buf, pos + 20), u32(buf, pos + 24)
        form = outside >> 30
        _interfaces(u32(buf, pos + 8), index, inside, outside, form, words, row, dest)
        return pos + 28
    index = u32(buf, pos + 8) if u32(buf, pos + 4) == 0 else -1
    if kind == FLOW_EXPANDED:
        inside, outside = _port(buf, pos + 24), _port(buf, pos + 32)
        form = u32(buf, pos + 32)
        _interfaces(u32(buf, pos + 12), index, inside, outside, form, words, row, dest)
        return pos + 40
    # A discarded packet: every one is told, up to a limit of the agent.
    inside, outside = u32(buf, pos + 16), u32(buf, pos + 20)
    _interfaces(1, index, inside, outside, FORM_DISCARDED, words, row, dest)
    return pos + 28


@kernel
def _finish(words: Words, row: int, dest: Slots, state: Ints) -> None:
    """Fields that more than one record may tell."""
    bytes_word = dest[BYTES]
    if bytes_word >= 0 and words[bytes_word, row] == 0:
        words[bytes_word, row] = state[FRAME]
    # 0 is an untagged port, all ones is unknown: then the tag in the header stands.
    if 0 < state[STATE_SRC_VLAN] < 4096:
        put(words, row, dest, VLAN, state[STATE_SRC_VLAN])
        put(words, row, dest, IN_VLAN, state[STATE_SRC_VLAN])
        if state[STATE_SRC_PRIORITY] < 8:
            put(words, row, dest, COS, state[STATE_SRC_PRIORITY])
    if 0 < state[STATE_DST_VLAN] < 4096:
        put(words, row, dest, OUT_VLAN, state[STATE_DST_VLAN])


@njit(nogil=True, cache=True)
def decode_flow_samples(
    buf: Bytes,
    samples: Ints,
    headers: Words,
    words: Words,
    dest: Slots,
    tunnels: int,
    causes: Ints,
    statuses: Statuses,
) -> None:
    """Decode flow and drop samples, one row of columns each.

    `samples` are (SAMPLE_ROWS, n) int64 of the kinds FLOW, FLOW_EXPANDED, FLOW_OLD and DROP, as
    `scan` lists them; `words` (words, >= n) uint64, zeros; `dest` (ALL_SLOTS,) int64. Writes why a
    record could not be read into `causes` (per datagram) and the status of the dissector into
    `statuses`, (n,) int8.
    """
    state = np.zeros(STATE, np.int64)
    for row in range(samples.shape[1]):
        i = samples[S_HEADER, row]
        kind = samples[S_KIND, row]
        pos = samples[S_OFFSET, row]
        end = pos + samples[S_LENGTH, row]
        state[:] = 0
        state[STATUS] = NO_HEADER
        pos = _fixed(buf, pos, kind, words, row, dest)
        cause = OK
        if kind == FLOW_OLD:
            version = int(np.int64(headers[H_VERSION, i]))
            _old_records(buf, pos, end, version, words, row, dest, tunnels, state)
        else:
            cause = _records(buf, pos, end, words, row, dest, tunnels, state)
        if cause != OK and causes[i] == OK:
            causes[i] = cause
        _finish(words, row, dest, state)
        statuses[row] = state[STATUS]
