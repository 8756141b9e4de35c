"""Compiled walks over MRT: record by record (RFC 6396 section 2), and the routes of table dumps
(sections 4.2, 4.3) as UPDATE messages.

Every length is checked before what is behind it is read.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.octets import u8, u16, u32, u64

__all__ = [
    "Kind",
    "Stop",
    "frame_updates",
    "old_table_updates",
    "read_messages",
    "table_updates",
    "walk",
]

U8: TypeAlias = npt.NDArray[np.uint8]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Int: TypeAlias = Any
"""An integer in compiled code, whose width and sign numba infers and no Python type tells."""


class Stop(IntEnum):
    """Why a walk returned."""

    FULL = 0  # no room for another record or route
    STARVED = 1  # the octets at hand end inside a record, or leave its end in doubt
    END = 2  # nothing is left, or nothing but a record that is cut off


class Kind(IntEnum):
    """What a record is to its reader."""

    UNSUPPORTED = 0
    MESSAGE = 1  # BGP4MP and BGP4MP_ET: a BGP message
    STATE = 2  # BGP4MP and BGP4MP_ET: a change of state
    OLD_UPDATE = 3  # BGP: an UPDATE without the header of a message
    OLD_MESSAGE = 4  # BGP: another message
    OLD_STATE = 5  # BGP: a change of state
    PEERS = 6  # TABLE_DUMP_V2: PEER_INDEX_TABLE
    TABLE = 7  # TABLE_DUMP_V2: a prefix and its routes
    OLD_TABLE = 8  # TABLE_DUMP: routes


RECORD_LIMIT = 1 << 24
"""Longest record believed, octets."""

# Columns of a table of records.
KIND, SUBTYPE, TIME_NS, OFFSET, LENGTH = range(5)
RECORD_WORDS = 5

# What a walk keeps: where it stands, the time of the last record (s), whether it looks for the next
# header; records, records whose length is not to be believed, octets passed over, the first damage.
POSITION, CLOCK, SEARCHING, RECORDS, DAMAGED, LOST, FIRST_DAMAGE = range(7)
WALK_WORDS = 7

# What becomes of the parts of tables: where to go on (record, entry, octet) and counts.
AT_RECORD, AT_ENTRY, AT_OCTET, ROWS, OCTETS, MALFORMED, UNKNOWN_FAMILY = range(7)
TABLE_WORDS = 7

_HEADER = 12
_AFTER = 2 * _HEADER + 4  # octets of and after a record that it takes to judge its length
_JUDGED = RECORD_LIMIT + _AFTER
_DAY = 86400
_NANO = 1_000_000_000

# Types (RFC 6396 section 4, and appendix B for those of MRTd).
_BGP, _TABLE_DUMP, _TABLE_DUMP_V2, _BGP4MP, _BGP4MP_ET = 5, 12, 13, 16, 17
_ISIS_ET, _OSPF3_ET = 33, 49
_LAST_TYPE, _LAST_SUBTYPE = 63, 31  # well above what is assigned: what to expect of a header

_PREFIX, _LABELED, _VPN = int(Shape.PREFIX), int(Shape.LABELED), int(Shape.VPN)
_EVPN, _TARGET = int(Shape.EVPN), int(Shape.TARGET)
_FLOWSPEC, _FLOWSPEC_VPN = int(Shape.FLOWSPEC), int(Shape.FLOWSPEC_VPN)
_SHAPES = np.array([(f.afi, f.safi, int(f.shape)) for f in FAMILIES], np.int64)

# Path attributes (IANA: BGP Path Attributes).
_NEXT_HOP, _MP_REACH, _MP_UNREACH = 3, 14, 15
_EXTENDED = 0x10  # flag: a length of two octets
_MESSAGE_LIMIT = 65535
_MESSAGE_HEADER = 19
ENTRY_ROOM = 2 * _MESSAGE_LIMIT  # octets that the largest UPDATE of an entry can take, and more


# -- records


@njit(nogil=True, cache=True, inline="always")
def _likely(data: U8, at: Int) -> Int:
    """Whether a record header may stand here; the caller keeps its octets inside `data`."""
    kind = np.int64(u16(data, at + 4))
    subtype = np.int64(u16(data, at + 6))
    size = np.int64(u32(data, at + 8))
    return _BGP <= kind <= _LAST_TYPE and subtype <= _LAST_SUBTYPE and size <= RECORD_LIMIT


@njit(nogil=True, cache=True)
def _follows(data: U8, at: Int) -> Int:
    """Whether a record may end here: at the end of the octets, or before another header."""
    left = len(data) - at
    if left < _HEADER:
        return left >= 0
    return _likely(data, at)


@njit(nogil=True, cache=True)
def _size(data: U8, at: Int) -> Int:
    """Octets of the record after its header, or -1 if its length is not to be believed.

    TABLE_DUMP records of 2000 and before leave view and sequence number (4) out of their length.
    """
    if not _likely(data, at):
        return np.int64(-1)
    size = np.int64(u32(data, at + 8))
    end = at + _HEADER + size
    old = u16(data, at + 4) == _TABLE_DUMP
    if _follows(data, end) and not (old and end + 4 == len(data)):
        return size
    if old and _follows(data, end + 4):
        return size + 4
    return np.int64(-1)


@njit(nogil=True, cache=True)
def _kind(kind: Int, subtype: Int) -> Int:
    if kind == _BGP4MP or kind == _BGP4MP_ET:
        if subtype == 0 or subtype == 5:
            return np.int64(Kind.STATE)
        if subtype == 1 or subtype == 4 or 6 <= subtype <= 11:
            return np.int64(Kind.MESSAGE)
    elif kind == _TABLE_DUMP_V2:
        if subtype == 1:
            return np.int64(Kind.PEERS)
        if 2 <= subtype <= 12 and subtype != 7:
            return np.int64(Kind.TABLE)
    elif kind == _TABLE_DUMP:
        if subtype == 1 or subtype == 2:
            return np.int64(Kind.OLD_TABLE)
    elif kind == _BGP:
        if subtype == 1:
            return np.int64(Kind.OLD_UPDATE)
        if subtype == 3:
            return np.int64(Kind.OLD_STATE)
        if 5 <= subtype <= 7:
            return np.int64(Kind.OLD_MESSAGE)
    return np.int64(Kind.UNSUPPORTED)


@njit(nogil=True, cache=True)
def _search(data: U8, stop: Int, state: I64) -> None:
    """Go to the next octet before `stop` at which a record may begin: a likely header of about the
    time of the last one (if there was one), and after its record another; else to `stop`.
    """
    at = state[POSITION]
    begin = at
    while at < stop:
        off = abs(np.int64(u32(data, at)) - state[CLOCK])
        if (off <= _DAY or state[RECORDS] == 0) and _size(data, at) >= 0:
            state[SEARCHING] = 0
            break
        at += 1
    state[LOST] += at - begin
    state[POSITION] = at


@njit(nogil=True, cache=True)
def walk(data: U8, final: Int, state: I64, records: I64) -> tuple[Int, Int]:
    """List the records of `data` (octets,) from ``state[POSITION]`` on.

    `records` is (capacity, RECORD_WORDS) int64 and filled, `state` (WALK_WORDS,) int64; `final`
    tells that nothing follows `data`. A record after which no header stands has a length that is
    not to be believed: it is passed over, up to the next header. Returns `Stop` and the records.
    """
    count = 0
    while count < len(records):
        at = state[POSITION]
        left = len(data) - at
        if state[SEARCHING]:
            _search(data, len(data) - (_HEADER if final else _JUDGED), state)
            if state[SEARCHING]:
                return np.int64(Stop.END if final else Stop.STARVED), count
            continue
        if left < _HEADER:
            return np.int64(Stop.END if final else Stop.STARVED), count
        if not final and left - min(np.int64(u32(data, at + 8)), RECORD_LIMIT) < _AFTER:
            return np.int64(Stop.STARVED), count
        size = _size(data, at)
        if size < 0:
            if _cut(data, at):
                return np.int64(Stop.END), count
            if state[DAMAGED] == 0:
                state[FIRST_DAMAGE] = at
            state[DAMAGED] += 1
            state[LOST] += 1
            state[POSITION] = at + 1
            state[SEARCHING] = 1
            continue
        kind, subtype = np.int64(u16(data, at + 4)), np.int64(u16(data, at + 6))
        seconds = np.int64(u32(data, at))
        body = at + _HEADER
        fraction: Int = np.int64(0)
        if kind == _BGP4MP_ET or kind == _ISIS_ET or kind == _OSPF3_ET:
            if size >= 4:
                fraction = np.int64(u32(data, body)) * 1000
            body += 4
        row = records[count]
        row[KIND] = _kind(kind, subtype)
        row[SUBTYPE] = subtype
        row[TIME_NS] = seconds * _NANO + min(fraction, _NANO - 1)
        row[OFFSET] = body
        row[LENGTH] = max(at + _HEADER + size - body, 0)
        count += 1
        state[RECORDS] += 1
        state[CLOCK] = seconds
        state[POSITION] = at + _HEADER + size
    return np.int64(Stop.FULL), count


@njit(nogil=True, cache=True)
def _cut(data: U8, at: Int) -> Int:
    """Whether the octets end within this, the last record, and no other is to be found in it."""
    if not _likely(data, at) or len(data) - at - _HEADER >= np.int64(u32(data, at + 8)):
        return False
    seconds = np.int64(u32(data, at))
    for p in range(at + 1, len(data) - 2 * _HEADER):
        if abs(np.int64(u32(data, p)) - seconds) <= _DAY and _size(data, p) >= 0:
            return False
    return True


# -- messages


@njit(nogil=True, cache=True)
def _session_octets(data: U8, at: Int, end: Int, width: Int) -> Int:
    """Octets of AS numbers, interface, family and addresses (RFC 6396 section 4.4), or -1.

    Zebra of 2000 wrote neither interface nor addresses where it did not know them yet: the marker
    of the message follows the AS numbers.
    """
    if end - at < 2 * width + 4:
        return np.int64(-1)
    if u32(data, at + 2 * width) == 0xFFFFFFFF:
        return np.int64(2 * width)
    afi = u16(data, at + 2 * width + 2)
    octets = np.int64(-1)
    if afi == 1:
        octets = np.int64(2 * width + 12)
    elif afi == 2:
        octets = np.int64(2 * width + 36)
    return octets if octets <= end - at else np.int64(-1)


@njit(nogil=True, cache=True)
def read_messages(
    data: U8, records: I64, offset: I64, length: I64, session: U64, kind: U8, context: I64, sent: U8
) -> None:
    """The BGP messages of (n, RECORD_WORDS) records of `Kind.MESSAGE`.

    Fills columns of (n,): `offset` and `length` of the message with its header, `session` where the
    octets before it stand (offset << 16 | length), `kind` the message type (0: malformed),
    `context` the row of `mrt.CONTEXTS`, `sent` 1 if the collector was the sender.
    """
    for i in range(len(records)):
        subtype, at = records[i, SUBTYPE], records[i, OFFSET]
        end = at + records[i, LENGTH]
        four = subtype == 4 or subtype == 7 or subtype == 9 or subtype == 11
        context[i] = four + 2 * (subtype >= 8)
        sent[i] = subtype == 6 or subtype == 7 or subtype >= 10
        octets = _session_octets(data, at, end, 4 if four else 2)
        begin = at + octets
        kind[i] = 0
        if octets < 0 or end - begin < _MESSAGE_HEADER:
            continue
        size = np.int64(u16(data, begin + 16))
        marked = ~(u64(data, begin) & u64(data, begin + 8)) == np.uint64(0)
        if not marked or size < _MESSAGE_HEADER or size > end - begin:
            continue
        offset[i], length[i] = begin, size
        session[i] = np.uint64(at) << np.uint64(16) | np.uint64(octets)
        kind[i] = u8(data, begin + 18)


@njit(nogil=True, cache=True, inline="always")
def _copy(data: U8, at: Int, octets: Int, out: U8, to: Int) -> Int:
    for i in range(octets):
        out[to + i] = data[at + i]
    return to + octets


@njit(nogil=True, cache=True, inline="always")
def _put16(out: U8, to: Int, value: Int) -> None:
    out[to] = value >> 8 & 0xFF
    out[to + 1] = value & 0xFF


@njit(nogil=True, cache=True)
def _put_header(out: U8, to: Int, octets: Int) -> Int:
    """Header of an UPDATE of so many octets (RFC 4271 section 4.1)."""
    for i in range(16):
        out[to + i] = 0xFF
    _put16(out, to + 16, octets)
    out[to + 18] = 2
    return to + _MESSAGE_HEADER


@njit(nogil=True, cache=True)
def frame_updates(data: U8, offset: I64, length: I64, out: U8, out_offset: I64) -> None:
    """Copy (n,) bodies of UPDATE messages to `out`, each behind a header of its own, with the
    headers at `out_offset`.
    """
    for i in range(len(offset)):
        to = _put_header(out, out_offset[i], length[i] + _MESSAGE_HEADER)
        _copy(data, offset[i], length[i], out, to)


# -- table dumps


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
        to = _copy(data, path, 4, out, to)
    return _copy(where, nlri, nlri_octets, out, to)


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
    to += _MESSAGE_HEADER + 4
    if not nlri_field:
        out[to], out[to + 1] = 0x80 | _EXTENDED, _MP_REACH
        _put16(out, to + 2, 5 + hop_octets + route)
        _put16(out, to + 4, afi)
        out[to + 6], out[to + 7] = safi, hop_octets
        to = _copy(data, hop, hop_octets, out, to + 8)
        out[to] = 0
        to = _put_nlri(data, path, where, nlri, nlri_octets, out, to + 1)
    while at < end:
        kind, value, size = _attribute(data, at, end)
        kept = kind != _MP_REACH and kind != _MP_UNREACH and (nlri_field or kind != _NEXT_HOP)
        if kept:
            to = _copy(data, at, value + size - at, out, to)
        at = value + size
    attributes = to - begin - _MESSAGE_HEADER - 4
    if nlri_field:
        to = _put_nlri(data, path, where, nlri, nlri_octets, out, to)
    _put_header(out, begin, to - begin)
    _put16(out, begin + _MESSAGE_HEADER, 0)
    _put16(out, begin + _MESSAGE_HEADER + 2, attributes)
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
                _copy(data, prefix, (bits + 7) >> 3, nlri, 1)
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
