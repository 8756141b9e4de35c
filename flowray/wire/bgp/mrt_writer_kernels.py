"""Compiled loops that write MRT records: messages of sessions, and tables."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.bgp.families import Shape
from flowray.wire.octets import u8, u16

__all__ = ["put_messages", "put_opaque", "put_prefixes", "uses_path_ids"]

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Int: TypeAlias = Any
"""An integer in compiled code, whose width and sign numba infers and no Python type tells."""

# What a table being written keeps: the next row, the number of the next record, octets written,
# routes whose attributes are longer than a length of two octets can tell.
ROW, SEQUENCE, OCTETS, TOO_LONG = range(4)
STATE_WORDS = 4

# What all records of a family share: AFI, SAFI, `Shape`, octets of an address, subtype without path
# identifiers, time.
AFI, SAFI, SHAPE, WIDTH, SUBTYPE, SECONDS = range(6)
FORM_WORDS = 6

RECORD_OCTETS = 1 << 20
"""After so many octets of routes of one prefix another record of the prefix begins."""

_HEADER = 12
_NANO = 1_000_000_000
_TABLE_DUMP_V2, _BGP4MP_ET = 13, 17
_RIB_GENERIC, _ADD_PATH = 6, 6  # subtypes with path identifiers are so many higher (RFC 8050)
_AS_PATH, _NEXT_HOP, _AGGREGATOR, _MP_REACH, _MP_UNREACH = 2, 3, 7, 14, 15
_EXTENDED = 0x10
_LIMIT = 65535
_PREFIX, _LABELED, _VPN = int(Shape.PREFIX), int(Shape.LABELED), int(Shape.VPN)


@njit(nogil=True, cache=True, inline="always")
def _copy(data: U8, at: Int, octets: Int, out: U8, to: Int) -> Int:
    for i in range(octets):
        out[to + i] = data[at + i]
    return to + octets


@njit(nogil=True, cache=True, inline="always")
def _put(out: U8, to: Int, value: Int, octets: Int) -> Int:
    """A big-endian number."""
    for i in range(octets):
        out[to + i] = np.uint64(value) >> np.uint64(8 * (octets - 1 - i)) & np.uint64(0xFF)
    return to + octets


@njit(nogil=True, cache=True)
def _put_header(out: U8, to: Int, seconds: Int, kind: Int, subtype: Int, octets: Int) -> Int:
    """Header of a record with so many octets after it (RFC 6396 section 2)."""
    to = _put(out, to, seconds, 4)
    to = _put(out, to, kind, 2)
    to = _put(out, to, subtype, 2)
    return _put(out, to, octets, 4)


# -- messages


@njit(nogil=True, cache=True, inline="always")
def _family_bit(add_path: Int, numbers: I64, afi: Int, safi: Int) -> Int:
    for f in range(len(numbers)):
        if numbers[f, 0] == afi and numbers[f, 1] == safi:
            return (add_path >> np.uint64(f)) & np.uint64(1)
    return np.uint64(0)


@njit(nogil=True, cache=True)
def _has_path_ids(buf: U8, at: Int, end: Int, add_path: Int, numbers: I64) -> Int:
    """Whether an UPDATE has NLRI of a family with path identifiers."""
    if end - at < 23 or buf[at + 18] != 2:
        return False
    classic = add_path & np.uint64(1)
    gone = np.int64(u16(buf, at + 19))
    if gone > end - at - 23:
        return False
    attribute = at + 23 + gone
    last = attribute + np.int64(u16(buf, attribute - 2))
    if last > end:
        return False
    if classic and (gone or last < end):
        return True
    while last - attribute >= 3:
        wide = buf[attribute] & _EXTENDED
        value = attribute + (4 if wide else 3)
        if value > last:
            return False
        octets = np.int64(u16(buf, attribute + 2)) if wide else np.int64(buf[attribute + 2])
        multi = buf[attribute + 1] == _MP_REACH or buf[attribute + 1] == _MP_UNREACH
        if multi and octets >= 3 and value + 3 <= last:
            afi, safi = np.int64(u16(buf, value)), np.int64(u8(buf, value + 2))
            if _family_bit(add_path, numbers, afi, safi):
                return True
        attribute = value + octets
    return False


@njit(nogil=True, cache=True)
def uses_path_ids(
    buf: U8, offset: I64, length: I64, context: I64, add_path: U64, numbers: I64, out: U8
) -> None:
    """Tell the messages whose NLRI have path identifiers: 1 in `out` (n,).

    `add_path` is that of `Contexts`, `numbers` (families, 2) AFI and SAFI of its bits.
    """
    for i in range(len(offset)):
        bits = add_path[context[i]]
        out[i] = 0
        if bits:
            out[i] = _has_path_ids(buf, offset[i], offset[i] + length[i], bits, numbers)


@njit(nogil=True, cache=True)
def put_messages(
    buf: U8, offset: I64, length: I64, time_ns: I64, subtype: I64, session: I64, octets: U8,
    size: I64, out: U8,
) -> None:  # fmt: skip
    """Write (n,) messages as BGP4MP_ET records (RFC 6396 section 4.4) that fill `out`.

    `session` (n,) is the row of `octets` (k, 44) with what stands before a message, of which
    `size` (k,) count.
    """
    to = np.int64(0)
    for i in range(len(offset)):
        before = size[session[i]]
        seconds, fraction = time_ns[i] // _NANO, time_ns[i] % _NANO // 1000
        to = _put_header(out, to, seconds, _BGP4MP_ET, subtype[i], 4 + before + length[i])
        to = _put(out, to, fraction, 4)
        row = octets[session[i]]
        to = _copy(row, 0, before, out, to)
        to = _copy(buf, offset[i], length[i], out, to)


# -- tables


@njit(nogil=True, cache=True)
def _put_path(arena: U8, at: Int, octets: Int, out: U8, to: Int) -> Int:
    """The segments of a path, AS numbers of two octets as of four; what is not whole is left."""
    end = at + octets
    while end - at >= 2:
        count = np.int64(arena[at + 1])
        if end - at - 2 < 2 * count:
            break
        to = _copy(arena, at, 2, out, to)
        at += 2
        for _ in range(count):
            to = _put(out, to, u16(arena, at), 4)
            at += 2
    return to


@njit(nogil=True, cache=True)
def _put_wide(arena: U8, at: Int, value: Int, octets: Int, out: U8, to: Int) -> Int:
    """An AS_PATH or AGGREGATOR, AS numbers of two octets as of four."""
    out[to], out[to + 1] = arena[at] | _EXTENDED, arena[at + 1]
    begin = to + 4
    if arena[at + 1] == _AS_PATH:
        end = _put_path(arena, value, octets, out, begin)
    else:
        end = _put(out, begin, u16(arena, value), 4)
        end = _copy(arena, value + 2, octets - 2, out, end)
    _put(out, to + 2, end - begin, 2)
    return end


@njit(nogil=True, cache=True)
def _put_next_hop(
    arena: U8, at: Int, octets: Int, shape: Int, classic: Int, out: U8, to: Int
) -> Int:
    """NEXT_HOP, or MP_REACH_NLRI as tables have it: the next hop alone (RFC 6396 section 4.3.4)."""
    if classic and octets == 4:
        to = _put(out, to, 0x400304, 3)
        return _copy(arena, at, 4, out, to)
    one = 16 if octets == 32 else octets  # global and link-local addresses have an RD each
    count = 1 if one == octets else 2
    zeros = 8 if shape == _VPN and octets else 0
    whole = octets + count * zeros
    to = _put(out, to, 0x800E, 2)
    out[to], out[to + 1] = whole + 1, whole
    to += 2
    for i in range(count):
        to = _put(out, to, 0, zeros)
        to = _copy(arena, at + i * one, one, out, to)
    return to


@njit(nogil=True, cache=True)
def _put_attributes(
    arena: U8, at: Int, end: Int, shape: Int, classic: Int, out: U8, to: Int
) -> Int:
    """The path attributes of a canonical set, with AS numbers of four octets and next hop."""
    if end - at < 2:
        return to
    four, octets = arena[at] & 1, np.int64(arena[at + 1])
    hop = at + 2
    at = hop + octets
    pending: Int = octets > 0
    while end - at >= 3:
        kind = arena[at + 1]
        if pending and kind > (_NEXT_HOP if classic else _MP_REACH):
            to = _put_next_hop(arena, hop, octets, shape, classic, out, to)
            pending = False
        wide = arena[at] & _EXTENDED
        value = at + (4 if wide else 3)
        if value > end:
            break
        size = np.int64(u16(arena, at + 2)) if wide else np.int64(arena[at + 2])
        if size > end - value:
            break
        if not four and (kind == _AS_PATH or (kind == _AGGREGATOR and size == 6)):
            to = _put_wide(arena, at, value, size, out, to)
        else:
            to = _copy(arena, at, value + size - at, out, to)
        at = value + size
    if pending:
        to = _put_next_hop(arena, hop, octets, shape, classic, out, to)
    return to


@njit(nogil=True, cache=True)
def _put_entry(
    arena: U8, begin: Int, end: Int, shape: Int, classic: Int, peer: Int, path_id: Int,
    seconds: Int, out: U8, to: Int,
) -> Int:  # fmt: skip
    """A RIB entry; `path_id` -1: without. Returns where it ends, `to` if it is too long."""
    at = _put(out, to, peer, 2)
    at = _put(out, at, seconds, 4)
    if path_id >= 0:
        at = _put(out, at, path_id, 4)
    last = _put_attributes(arena, begin, end, shape, classic, out, at + 2)
    if last - at - 2 > _LIMIT:
        return to
    _put(out, at, last - at - 2, 2)
    return last


@njit(nogil=True, cache=True)
def _put_prefix(
    width: Int, shape: Int, rd: Int, hi: Int, lo: Int, plen: Int, labels: Int, out: U8, to: Int
) -> Int:
    """NLRI of a prefix family: labels (RFC 8277), route distinguisher (RFC 4364), prefix."""
    count = np.int64(labels >> np.uint64(60)) if shape >= _LABELED else np.int64(0)
    bits = 24 * count + (64 if shape == _VPN else 0) + plen
    to = _put(out, to, bits, 1)
    for i in range(count):
        label = (labels >> np.uint64(20 * i)) & np.uint64(0xFFFFF)
        bottom = np.uint64(i == count - 1)
        to = _put(out, to, label << np.uint64(4) | bottom, 3)
    if shape == _VPN:
        to = _put(out, to, rd, 8)
    octets = (np.int64(plen) + 7) >> 3
    first = 12 if width == 4 else 0  # IPv4 is the end of a v4-mapped address
    for i in range(first, first + octets):
        word = hi if i < 8 else lo
        out[to] = word >> np.uint64(56 - 8 * (i & 7)) & np.uint64(0xFF)
        to += 1
    return to


@njit(nogil=True, cache=True)
def _put_start(form: I64, path_ids: Int, state: I64, out: U8, to: Int) -> Int:
    """Header and what stands before the NLRI of a record; the length comes last."""
    subtype = form[SUBTYPE] + (_ADD_PATH if path_ids else 0)
    to = _put_header(out, to, form[SECONDS], _TABLE_DUMP_V2, subtype, 0)
    to = _put(out, to, state[SEQUENCE], 4)
    state[SEQUENCE] += 1
    if form[SUBTYPE] == _RIB_GENERIC:
        to = _put(out, to, form[AFI], 2)
        to = _put(out, to, form[SAFI], 1)
    return to


@njit(nogil=True, cache=True, inline="always")
def _end_record(out: U8, begin: Int, count_at: Int, count: Int, end: Int, state: I64) -> None:
    """Fill in length and number of entries; a record without entries was none."""
    if count == 0:
        state[SEQUENCE] -= 1
        return
    _put(out, begin + 8, end - begin - _HEADER, 4)
    _put(out, count_at, count, 2)
    state[OCTETS] = end


@njit(nogil=True, cache=True, inline="always")
def _room(octets: Int) -> Int:
    """Octets that a route with a canonical set of so many may take, and a record for it."""
    return 2 * octets + 256


@njit(nogil=True, cache=True)
def put_prefixes(
    peer: I64, rd: U64, path_id: U32, hi: U64, lo: U64, plen: U8, labels: U64, attributes: U32,
    arena: U8, offset: I64, form: I64, state: I64, out: U8,
) -> Int:  # fmt: skip
    """Write routes of a family of prefixes, (n,) columns in the order of NLRI, as TABLE_DUMP_V2
    records (RFC 6396 section 4.3.2): one for each NLRI, its routes as entries.

    Attributes are those of an `AttributeStore` (`arena`, `offset`); `form` is (FORM_WORDS,),
    `state` (STATE_WORDS,). Returns 1 when `out` is full, to be called again, else 0.
    """
    n = len(peer)
    shape = form[SHAPE]
    classic = form[AFI] == 1 and shape == _PREFIX
    state[OCTETS] = 0
    while state[ROW] < n:
        first = state[ROW]
        begin = state[OCTETS]
        row = first
        to = begin
        count_at = begin
        count = np.int64(0)
        with_ids = path_id[first] > 0
        while row < n and count < _LIMIT and to - begin < RECORD_OCTETS:
            same = hi[row] == hi[first] and lo[row] == lo[first] and plen[row] == plen[first]
            same = same and rd[row] == rd[first] and labels[row] == labels[first]
            if not same or (path_id[row] > 0) != with_ids:
                break
            at, end = offset[attributes[row]], offset[attributes[row] + 1]
            if len(out) - to < _room(end - at):
                break
            if row == first:
                to = _put_start(form, with_ids, state, out, to)
                count_at = _put_prefix(
                    form[WIDTH], shape, rd[row], hi[row], lo[row], plen[row], labels[row], out, to
                )  # fmt: skip
                to = count_at + 2
            path = np.int64(path_id[row]) if with_ids else np.int64(-1)
            last = _put_entry(
                arena, at, end, shape, classic, peer[row], path, form[SECONDS], out, to
            )
            if last == to:
                state[TOO_LONG] += 1
            else:
                count += 1
            to = last
            row += 1
        if row == first:
            return 1
        _end_record(out, begin, count_at, count, to, state)
        state[ROW] = row
    return 0


@njit(nogil=True, cache=True)
def put_opaque(
    peer: I64, path_id: U32, attributes: U32, nlri: U8, nlri_offset: I64, arena: U8, offset: I64,
    form: I64, state: I64, out: U8,
) -> Int:  # fmt: skip
    """As `put_prefixes`, for NLRI ``nlri[nlri_offset[i] : nlri_offset[i + 1]]``: a record each."""
    state[OCTETS] = 0
    while state[ROW] < len(peer):
        row, begin = state[ROW], state[OCTETS]
        at, end = offset[attributes[row]], offset[attributes[row] + 1]
        octets = nlri_offset[row + 1] - nlri_offset[row]
        if len(out) - begin < _room(end - at) + octets:
            return 1
        to = _put_start(form, path_id[row] > 0, state, out, begin)
        count_at = _copy(nlri, nlri_offset[row], octets, out, to)
        path = np.int64(path_id[row]) if path_id[row] > 0 else np.int64(-1)
        to = count_at + 2
        last = _put_entry(
            arena, at, end, form[SHAPE], False, peer[row], path, form[SECONDS], out, to
        )
        state[TOO_LONG] += last == to
        _end_record(out, begin, count_at, np.int64(last > to), last, state)
        state[ROW] += 1
    return 0
