"""Compiled walks over BMP: where messages begin, whose they are, and where their UPDATE stands.

Every length is checked before the octets behind it are read.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.octets import u8, u16, u32, u64

U8: TypeAlias = npt.NDArray[np.uint8]
I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]
Int: TypeAlias = int | np.int64

# Why framing ended (`count_messages`).
COMPLETE = 0
BAD_VERSION = 1
TOO_SHORT = 2
TOO_LONG = 3

# What became of a Route Monitoring message (`find_peers`, `find_updates`).
GOOD = 0
HEADER_CUT = 1
PEER_REFUSED = 2
PEER_NOT_UP = 3
UPDATE_CUT = 4
NO_UPDATE = 5
TLV_CUT = 6

# Types by draft-ietf-grow-bmp-path-marking-tlv and, of the TLV around the UPDATE, by revisions of
# draft-ietf-grow-bmp-tlv (see `bmp_route_tlvs`).
_PATH_MARKING = 5
_UP_TO_19 = 1
_REVISION_20 = 7
_GROUP_BIT = 0x8000

# Columns of a table of per-peer headers: the header without its time in five words, then the peer.
_PEER = 5
HEADER_COLUMNS = 6

_COMMON = 6
_BODY = 48  # common and per-peer header
_BGP_HEADER = 19
_UPDATE = 2
_LOC_RIB = 3
_A_FLAG = 0x20
_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_GIGA = 1_000_000_000


@njit(nogil=True, cache=True)
def count_messages(buf: U8, limit: int) -> tuple[int, Int, int]:
    """How many whole messages `buf` begins with, where they end, and why the walk ended there.

    A message above `limit` octets, or of another version than 3 and 4, ends it for good.
    """
    at = np.int64(0)
    count = 0
    size = len(buf)
    while at < size:
        version = u8(buf, at)
        if version != 3 and version != 4:
            return count, at, BAD_VERSION
        if at + _COMMON > size:
            break
        length = np.int64(u32(buf, at + 1))
        if length < _COMMON:
            return count, at, TOO_SHORT
        if length > limit:
            return count, at, TOO_LONG
        if at + length > size:
            break
        at += length
        count += 1
    return count, at, COMPLETE


@njit(nogil=True, cache=True)
def list_messages(buf: U8, offset: I64, length: I64, kind: U8) -> None:
    """Fill the columns (n,) of the first n messages of `buf`: where, octets, type."""
    at = np.int64(0)
    for i in range(len(offset)):
        octets = np.int64(u32(buf, at + 1))
        offset[i] = at
        length[i] = octets
        kind[i] = u8(buf, at + 5)
        at += octets


@njit(nogil=True, cache=True, inline="always")
def _mix(a: np.uint64, b: np.uint64) -> np.uint64:
    a = (a ^ b) * np.uint64(0x9E37_79B9_7F4A_7C15)
    return a ^ (a >> np.uint64(29))


@njit(nogil=True, cache=True)
def _row(table: U64, seed: np.uint64, header: U64) -> Int:
    """Row of a header in the table, or the free row where it belongs."""
    mixed = seed
    for word in header:
        mixed = _mix(mixed, word)
    mask = np.uint64(len(table) - 1)
    at = np.int64(mixed & mask)
    while True:
        row = table[at]
        if row[_PEER] == 0:
            return at
        same = True
        for k in range(_PEER):
            same = same and row[k] == header[k]
        if same:
            return at
        at = np.int64(np.uint64(at + 1) & mask)


@njit(nogil=True, cache=True, inline="always")
def _load(buf: U8, at: Int, header: U64) -> bool:
    """Take the 34 octets of a per-peer header before its time; whether they differ from those in
    `header`.
    """
    a, b, c = u64(buf, at), u64(buf, at + 8), u64(buf, at + 16)
    d, e = u64(buf, at + 24), u16(buf, at + 32)
    if header[0] == a and header[1] == b and header[2] == c and header[3] == d and header[4] == e:
        return False
    header[0] = a
    header[1] = b
    header[2] = c
    header[3] = d
    header[4] = e
    return True


@njit(nogil=True, cache=True)
def add_header(table: U64, seed: np.uint64, buf: U8, at: Int, peer: int) -> None:
    """Enter the per-peer header at `at` for a peer, -1 for one that is refused.

    The table, (2**k, HEADER_COLUMNS), must have a free row besides the one that is taken.
    """
    header = np.zeros(_PEER, np.uint64)
    _load(buf, at, header)
    row = table[_row(table, seed, header)]
    for k in range(_PEER):
        row[k] = header[k]
    row[_PEER] = np.uint64(peer + 2)


@njit(nogil=True, cache=True)
def find_peers(
    buf: U8,
    offset: I64,
    length: I64,
    start: int,
    table: U64,
    seed: np.uint64,
    contexts: I64,
    peer: I64,
    context: I64,
    time_ns: I64,
    verdict: U8,
) -> Int:
    """Fill the columns `peer`, `context`, `time_ns` and `verdict` (n,) of Route Monitoring messages
    from row `start` on; return the row of the first header that is not in the table, or n.

    `contexts` (peers, 2) int64 gives the context of a peer without and with AS numbers of four
    octets, -1 while the peer is not up.
    """
    header = np.zeros(_PEER, np.uint64)
    known = np.int64(-2)
    for i in range(start, len(offset)):
        at = offset[i] + _COMMON
        if length[i] < _BODY:
            verdict[i] = HEADER_CUT
            continue
        if _load(buf, at, header) or known == -2:
            known = np.int64(table[_row(table, seed, header), _PEER]) - 2
            if known == -2:
                return i
        peer[i] = known
        if known < 0:
            verdict[i] = PEER_REFUSED
            continue
        two = u8(buf, at) != _LOC_RIB and u8(buf, at + 1) & _A_FLAG != 0
        context[i] = contexts[known, 0 if two else 1]
        seconds = np.int64(u32(buf, at + 34))
        if seconds != 0:
            time_ns[i] = seconds * _GIGA + np.int64(u32(buf, at + 38)) * 1000
        if context[i] < 0:
            verdict[i] = PEER_NOT_UP
    return len(offset)


@njit(nogil=True, cache=True, inline="always")
def _begins(buf: U8, at: Int, end: Int) -> np.bool_ | bool:
    """Whether a BGP header may begin here: its marker is there (RFC 4271 section 4.1)."""
    return at + _BGP_HEADER <= end and u64(buf, at) == _ONES and u64(buf, at + 8) == _ONES


@njit(nogil=True, cache=True)
def find_updates(
    buf: U8,
    offset: I64,
    length: I64,
    update: I64,
    update_length: I64,
    kind: I64,
    more: npt.NDArray[np.bool_],
    verdict: U8,
) -> None:
    """Fill `update` and `update_length` (n,): the UPDATE in each message whose verdict is GOOD.

    In version 4 it is the value of the TLV that begins with a marker; `kind` (n,) is the type of
    that TLV, -1 where there is none around the UPDATE, and `more` (n,) tells of further TLVs.
    """
    for i in range(len(offset)):
        if verdict[i] != GOOD:
            continue
        at = offset[i] + _BODY
        end = offset[i] + length[i]
        kind[i] = -1
        if u8(buf, offset[i]) == 4 and not _begins(buf, at, end):
            found = -1
            stop = end
            while at < end:
                if at + 6 > end or at + 6 + np.int64(u16(buf, at + 2)) > end:
                    verdict[i] = TLV_CUT
                    break
                value = at + 6
                after = value + np.int64(u16(buf, at + 2))
                if found < 0 and _begins(buf, value, after):
                    found = value
                    stop = after
                    kind[i] = np.int64(u16(buf, at))
                else:
                    more[i] = True
                at = after
            if verdict[i] != GOOD:
                continue
            if found < 0:
                verdict[i] = NO_UPDATE
                continue
            at = found
            end = stop
        if at + _BGP_HEADER > end:
            verdict[i] = UPDATE_CUT
            continue
        octets = np.int64(u16(buf, at + 16))
        if octets < _BGP_HEADER or at + octets > end:
            verdict[i] = UPDATE_CUT
            continue
        if u8(buf, at + 18) != _UPDATE:
            verdict[i] = NO_UPDATE
            continue
        update[i] = at
        update_length[i] = octets
        if kind[i] < 0 and u8(buf, offset[i]) == 4 and at + octets < end:
            more[i] = True


@njit(nogil=True, cache=True, inline="always")
def _marks_a_path(buf: U8, at: Int, kind: Int, override: Int) -> bool | np.bool_:
    """Whether the TLV at `at` is Path Marking of one NLRI, or of all."""
    octets = u16(buf, at + 2)
    if (octets != 4 and octets != 6) or u16(buf, at + 4) & _GROUP_BIT != 0:
        return False
    own = np.int64(u16(buf, at))
    if own == override:
        return True
    # Of revision 20 it may be a name, which does not begin with zero.
    return own == _PATH_MARKING and (
        kind == _UP_TO_19 or (kind == _REVISION_20 and u8(buf, at + 6) == 0)
    )


@njit(nogil=True, cache=True)
def find_marks(
    buf: U8,
    begin: I64,
    end: I64,
    update: I64,
    kind: I64,
    override: int,
    plain: npt.NDArray[np.bool_],
    row: I64,
    index: I64,
    status: npt.NDArray[np.uint32],
    reason: I64,
) -> Int:
    """Fill `row`, `index`, `status` and `reason` (at least an element for every ten octets) with
    the path marks of messages (n,) whose TLVs stand from `begin` to `end`; return how many.

    `plain` (n,) is whether the UPDATE and path marks are all that a message holds: of others
    nothing is taken. `override` is a further type of path marks, -1 for none.
    """
    count = np.int64(0)
    for i in range(len(begin)):
        plain[i] = kind[i] >= 0
        before = count
        at = begin[i]
        while plain[i] and at < end[i]:
            if at + 6 != update[i]:
                if not _marks_a_path(buf, at, kind[i], override):
                    plain[i] = False
                    count = before
                    break
                row[count] = i
                index[count] = np.int64(u16(buf, at + 4))
                status[count] = np.uint32(u32(buf, at + 6))
                reason[count] = -1
                if u16(buf, at + 2) == 6:
                    reason[count] = np.int64(u16(buf, at + 10))
                count += 1
            at += 6 + np.int64(u16(buf, at + 2))
    return count
