"""Compiled passes over the table dumps of MRT (RFC 6396 sections 4.2, 4.3): each route becomes an
UPDATE message.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.bgp.mrt_kernels import (
    LENGTH,
    MESSAGE_HEADER,
    OFFSET,
    SUBTYPE,
    TIME_NS,
    Stop,
    copy,
    put16,
    put_header,
)
from flowray.wire.octets import u8, u16

__all__ = ["old_table_updates", "table_updates"]

U8: TypeAlias = npt.NDArray[np.uint8]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Int: TypeAlias = Any
"""An integer in compiled code, whose width and sign numba infers and no Python type tells."""

# What becomes of the parts of tables: where to go on (record, entry, octet) and counts.
AT_RECORD, AT_ENTRY, AT_OCTET, ROWS, OCTETS, MALFORMED, UNKNOWN_FAMILY = range(7)
TABLE_WORDS = 7

_PREFIX, _LABELED, _VPN = int(Shape.PREFIX), int(Shape.LABELED), int(Shape.VPN)
_EVPN, _TARGET = int(Shape.EVPN), int(Shape.TARGET)
_FLOWSPEC, _FLOWSPEC_VPN = int(Shape.FLOWSPEC), int(Shape.FLOWSPEC_VPN)
_SHAPES = np.array([(f.afi, f.safi, int(f.shape)) for f in FAMILIES], np.int64)

# Path attributes (IANA: BGP Path Attributes).
_NEXT_HOP, _MP_REACH, _MP_UNREACH = 3, 14, 15
_EXTENDED = 0x10  # flag: a length of two octets
_MESSAGE_LIMIT = 65535
ENTRY_ROOM = 2 * _MESSAGE_LIMIT  # octets that the largest UPDATE of an entry can take, and more


@njit(nogil=True, cache=True)
def _prefix_octets(data: U8, at: Int, end: Int) -> Int:
    """Octets of an NLRI that begins with its length in bits, or -1."""
    if at >= end:
        return np.int64(-1)
    octets = np.int64(1) + ((np.int64(u8(data, at)) + 7) >> 3)
    return octets if octets <= end - at else np.int64(-1)


@njit(nogil=True, cache=True)
def _nlri_octets(data: U8, at: Int, end: Int, shape: Int) -> Int:
    """Octets of one NLRI of a shape, or -1."""
    if shape <= _VPN or shape == _TARGET:
        return _prefix_octets(data, at, end)
    left = end - at
    octets = np.int64(-1)
    if shape == _EVPN:
        if left >= 2:
            octets = np.int64(2) + np.int64(u8(data, at + 1))
    elif shape == _FLOWSPEC or shape == _FLOWSPEC_VPN:
        if left >= 1 and u8(data, at) < 0xF0:
            octets = np.int64(1) + np.int64(u8(data, at))
        elif left >= 2:
            octets = np.int64(2) + np.int64(u16(data, at) & np.uint64(0xFFF))
    elif left >= 4:
        octets = np.int64(4) + np.int64(u16(data, at + 2))
    return octets if octets <= left else np.int64(-1)


@njit(nogil=True, cache=True)
def _shape(afi: Int, safi: Int) -> Int:
    for row in range(len(_SHAPES)):
        if _SHAPES[row, 0] == afi and _SHAPES[row, 1] == safi:
            return _SHAPES[row, 2]
    return np.int64(-1)


@njit(nogil=True, cache=True, inline="always")
def _attribute(data: U8, at: Int, end: Int) -> tuple[Int, Int, Int]:
    """Type, offset and octets of the value of a path attribute; type -1 if it is cut off."""
    if end - at < 3:
        return np.int64(-1), at, np.int64(0)
    if u8(data, at) & np.uint64(_EXTENDED):
        if end - at < 4:
            return np.int64(-1), at, np.int64(0)
        octets, value = np.int64(u16(data, at + 2)), at + 4
    else:
        octets, value = np.int64(u8(data, at + 2)), at + 3
    if octets > end - value:
        return np.int64(-1), at, np.int64(0)
    return np.int64(u8(data, at + 1)), value, octets


@njit(nogil=True, cache=True)
def _mp_next_hop(data: U8, at: Int, octets: Int) -> tuple[Int, Int]:
    """Offset and octets of the next hop of MP_REACH_NLRI, (-1, 0) if there is none.

    Table dumps leave all but the next hop and its length out (RFC 6396 section 4.3.4); TABLE_DUMP
    and some writers of TABLE_DUMP_V2 do not.
    """
    if octets >= 1 and np.int64(u8(data, at)) == octets - 1:
        return at + 1, octets - 1
    if octets >= 5 and np.int64(u8(data, at + 3)) <= octets - 5:
        return at + 4, np.int64(u8(data, at + 3))
    return np.int64(-1), np.int64(0)


@njit(nogil=True, cache=True)
def _find_next_hop(data: U8, at: Int, end: Int, classic: Int) -> tuple[Int, Int, Int]:
    """(whether the route goes into the NLRI field of an UPDATE, offset and octets of the next hop
    for its MP_REACH_NLRI otherwise); the first is -1 if the attributes are malformed.
    """
    place, octets = np.int64(-1), np.int64(0)
    plain = np.int64(-1)
    while at < end:
        kind, value, size = _attribute(data, at, end)
        if kind < 0:
            return np.int64(-1), place, octets
        if kind == _NEXT_HOP and size == 4:
            plain = value
        elif kind == _MP_REACH:
            place, octets = _mp_next_hop(data, value, size)
            if place < 0:
                return np.int64(-1), place, octets
        at = value + size
    if classic and (plain >= 0 or place < 0):
        return np.int64(1), place, octets
    if place < 0 and plain >= 0:
        return np.int64(0), plain, np.int64(4)
    return np.int64(0), place, octets


@njit(nogil=True, cache=True, inline="always")
def _put_nlri(
    data: U8, path: Int, where: U8, nlri: Int, nlri_octets: Int, out: U8, to: Int
) -> Int:  # fmt: skip
    """NLRI out of `where`, after the path identifier at `path` of `data` (-1: none)."""
    if path >= 0:
        to = copy(data, path, 4, out, to)
    return copy(where, nlri, nlri_octets, out, to)


@njit(nogil=True, cache=True)
def _put_update(
    data: U8, at: Int, end: Int, afi: Int, safi: Int, path: Int, where: U8, nlri: Int,
    nlri_octets: Int, out: U8, to: Int,
) -> Int:  # fmt: skip
    """Write one route as an UPDATE: path attributes at..end and path identifier of `data` (-1:
    none), NLRI of `where`.

    Returns where it ends, or -1 if the attributes are malformed or no message can hold them.
    """
    nlri_field, hop, hop_octets = _find_next_hop(data, at, end, afi == 1 and safi == 1)
    if nlri_field < 0:
        return np.int64(-1)
    route = nlri_octets + (4 if path >= 0 else 0)
    if end - at + route + hop_octets + 64 > _MESSAGE_LIMIT:
        return np.int64(-1)
    begin = to
    to += MESSAGE_HEADER + 4
    if not nlri_field:
        out[to], out[to + 1] = 0x80 | _EXTENDED, _MP_REACH
        put16(out, to + 2, 5 + hop_octets + route)
        put16(out, to + 4, afi)
        out[to + 6], out[to + 7] = safi, hop_octets
        to = copy(data, hop, hop_octets, out, to + 8)
        out[to] = 0
        to = _put_nlri(data, path, where, nlri, nlri_octets, out, to + 1)
    while at < end:
        kind, value, size = _attribute(data, at, end)
        kept = kind != _MP_REACH and kind != _MP_UNREACH and (nlri_field or kind != _NEXT_HOP)
        if kept:
            to = copy(data, at, value + size - at, out, to)
        at = value + size
    attributes = to - begin - MESSAGE_HEADER - 4
    if nlri_field:
        to = _put_nlri(data, path, where, nlri, nlri_octets, out, to)
    put_header(out, begin, to - begin)
    put16(out, begin + MESSAGE_HEADER, 0)
    put16(out, begin + MESSAGE_HEADER + 2, attributes)
    return to


@njit(nogil=True, cache=True)
def _family(data: U8, at: Int, end: Int, subtype: Int) -> tuple[Int, Int, Int, Int, Int]:
    """(AFI, SAFI, offset of the NLRI, its octets, its shape) of a TABLE_DUMP_V2 record; octets -1
    if it is malformed, shape -1 if its family is unknown (RFC 6396 sections 4.3.2, 4.3.3).
    """
    at += 4
    if subtype == 6 or subtype == 12:
        if end - at < 3:
            return np.int64(0), np.int64(0), at, np.int64(-1), np.int64(0)
        afi, safi = np.int64(u16(data, at)), np.int64(u8(data, at + 2))
        at += 3
    else:
        form = subtype - (2 if subtype < 8 else 8)
        afi, safi = 1 + (form >> 1), 1 + (form & 1)
    shape = _shape(afi, safi)
    octets = np.int64(-1)
    if shape >= 0 and at <= end:
        octets = _nlri_octets(data, at, end, shape)
        if shape == _PREFIX and octets > (5 if afi == 1 else 17):
            octets = np.int64(-1)
    return afi, safi, at, octets, shape


@njit(nogil=True, cache=True)
def table_updates(
    data: U8, records: I64, peers: Int, state: I64, out: U8, offset: I64, length: I64,
    context: I64, peer: I64, time_ns: I64,
) -> Int:  # fmt: skip
    """Routes of TABLE_DUMP_V2 records as UPDATE messages, one for each entry (RFC 6396 section
    4.3.4, RFC 8050 section 4).

    `records` is (n, RECORD_WORDS) of `Kind.TABLE`, `peers` the number of peers in the index table,
    `state` (TABLE_WORDS,). Messages are appended to `out`, at least twice the longest message,
    and the columns (capacity,) are filled from 0; `peer` is a row of the index table. Returns
    Stop.FULL, to be called again, or Stop.END.
    """
    state[ROWS] = 0
    state[OCTETS] = 0
    while state[AT_RECORD] < len(records):
        subtype, at = records[state[AT_RECORD], SUBTYPE], records[state[AT_RECORD], OFFSET]
        end = at + records[state[AT_RECORD], LENGTH]
        afi, safi, nlri, octets, shape = _family(data, at, end, subtype)
        at = nlri + octets
        if octets < 0 or end - at < 2:
            state[UNKNOWN_FAMILY if shape < 0 else MALFORMED] += 1
            state[AT_RECORD] += 1
            continue
        count = np.int64(u16(data, at))
        at = state[AT_OCTET] if state[AT_ENTRY] else at + 2
        fixed = 12 if subtype >= 8 else 8
        while state[AT_ENTRY] < count:
            row, to = state[ROWS], state[OCTETS]
            if row == len(offset) or len(out) - to < ENTRY_ROOM:
                state[AT_OCTET] = at
                return np.int64(Stop.FULL)
            state[AT_ENTRY] += 1
            begin = at + fixed
            if end < begin or np.int64(u16(data, begin - 2)) > end - begin:
                state[MALFORMED] += 1
                break
            source = np.int64(u16(data, at))
            path = at + 6 if subtype >= 8 else np.int64(-1)
            at = begin + np.int64(u16(data, begin - 2))
            ends = np.int64(-1)
            if source < peers:
                ends = _put_update(
                    data, begin, at, afi, safi, path, data, nlri, octets, out, to
                )  # fmt: skip
            if ends < 0:
                state[MALFORMED] += 1
                continue
            offset[row], length[row] = to, ends - to
            context[row] = 3 if subtype >= 8 else 1
            peer[row] = source
            time_ns[row] = records[state[AT_RECORD], TIME_NS]
            state[ROWS], state[OCTETS] = row + 1, ends
        state[AT_ENTRY] = 0
        state[AT_RECORD] += 1
    return np.int64(Stop.END)


@njit(nogil=True, cache=True)
def old_table_updates(
    data: U8, records: I64, state: I64, out: U8, offset: I64, length: I64, session: U64,
    time_ns: I64,
) -> Int:  # fmt: skip
    """Routes of TABLE_DUMP records (RFC 6396 section 4.2), as `table_updates` does.

    MRTd put as many routes as fit into a record. `session` is where address and AS number of the
    peer stand, offset << 16 | length.
    """
    state[ROWS] = 0
    state[OCTETS] = 0
    nlri = np.empty(17, np.uint8)
    while state[AT_RECORD] < len(records):
        afi, at = records[state[AT_RECORD], SUBTYPE], records[state[AT_RECORD], OFFSET]
        end = at + records[state[AT_RECORD], LENGTH]
        address = 4 if afi == 1 else 16
        at = state[AT_OCTET] if state[AT_ENTRY] else at + 4
        while at < end or state[AT_ENTRY] == 0:
            row, to = state[ROWS], state[OCTETS]
            if row == len(offset) or len(out) - to < ENTRY_ROOM:
                state[AT_OCTET] = at
                return np.int64(Stop.FULL)
            state[AT_ENTRY] += 1
            begin = at + 2 * address + 10
            if end < begin or np.int64(u16(data, begin - 2)) > end - begin:
                state[MALFORMED] += 1
                break
            prefix, bits = at, np.int64(u8(data, at + address))
            at = begin + np.int64(u16(data, begin - 2))
            ends = np.int64(-1)
            if bits <= 8 * address:
                nlri[0] = bits
                copy(data, prefix, (bits + 7) >> 3, nlri, 1)
                ends = _put_update(
                    data, begin, at, afi, 1, -1, nlri, 0, 1 + ((bits + 7) >> 3), out, to
                )  # fmt: skip
            if ends < 0:
                state[MALFORMED] += 1
                continue
            offset[row], length[row] = to, ends - to
            session[row] = np.uint64(begin - address - 4) << np.uint64(16) | np.uint64(address + 2)
            time_ns[row] = records[state[AT_RECORD], TIME_NS]
            state[ROWS], state[OCTETS] = row + 1, ends
        state[AT_ENTRY] = 0
        state[AT_RECORD] += 1
    return np.int64(Stop.END)
