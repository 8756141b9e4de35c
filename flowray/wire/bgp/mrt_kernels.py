"""Compiled walks over MRT: record by record (RFC 6396 section 2), and the messages of sessions.

Every length is checked before what is behind it is read.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.octets import u8, u16, u32, u64

__all__ = [
    "Kind",
    "Stop",
    "frame_updates",
    "read_messages",
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

_HEADER = 12
_AFTER = 2 * _HEADER + 4  # octets of and after a record that it takes to judge its length
_JUDGED = RECORD_LIMIT + _AFTER
MESSAGE_HEADER = 19  # octets
_DAY = 86400
_NANO = 1_000_000_000

# Types (RFC 6396 section 4, and appendix B for those of MRTd).
_BGP, _TABLE_DUMP, _TABLE_DUMP_V2, _BGP4MP, _BGP4MP_ET = 5, 12, 13, 16, 17
_ISIS_ET, _OSPF3_ET = 33, 49
_LAST_TYPE, _LAST_SUBTYPE = 63, 31  # well above what is assigned: what to expect of a header


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
        if octets < 0 or end - begin < MESSAGE_HEADER:
            continue
        size = np.int64(u16(data, begin + 16))
        marked = ~(u64(data, begin) & u64(data, begin + 8)) == np.uint64(0)
        if not marked or size < MESSAGE_HEADER or size > end - begin:
            continue
        offset[i], length[i] = begin, size
        session[i] = np.uint64(at) << np.uint64(16) | np.uint64(octets)
        kind[i] = u8(data, begin + 18)


@njit(nogil=True, cache=True, inline="always")
def copy(data: U8, at: Int, octets: Int, out: U8, to: Int) -> Int:
    for i in range(octets):
        out[to + i] = data[at + i]
    return to + octets


@njit(nogil=True, cache=True, inline="always")
def put16(out: U8, to: Int, value: Int) -> None:
    out[to] = value >> 8 & 0xFF
    out[to + 1] = value & 0xFF


@njit(nogil=True, cache=True)
def put_header(out: U8, to: Int, octets: Int) -> Int:
    """Header of an UPDATE of so many octets (RFC 4271 section 4.1)."""
    for i in range(16):
        out[to + i] = 0xFF
    put16(out, to + 16, octets)
    out[to + 18] = 2
    return to + MESSAGE_HEADER


@njit(nogil=True, cache=True)
def frame_updates(data: U8, offset: I64, length: I64, out: U8, out_offset: I64) -> None:
    """Copy (n,) bodies of UPDATE messages to `out`, each behind a header of its own, with the
    headers at `out_offset`.
    """
    for i in range(len(offset)):
        to = put_header(out, out_offset[i], length[i] + MESSAGE_HEADER)
        copy(data, offset[i], length[i], out, to)
