"""Compiled loop that packs routes into BGP UPDATE messages."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

LARGEST = 4096
"""Octets of a message (RFC 4271 section 4)."""

NO_MED = np.uint32(0xFFFFFFFF)


@njit(cache=True, nogil=True)
def _put(buf: U8, p: Word, octets: Word, value: Word) -> Word:
    """Write a big-endian number at p; returns where it ends."""
    for k in range(octets):
        buf[p + k] = (np.uint64(value) >> np.uint64(8 * (octets - 1 - k))) & np.uint64(0xFF)
    return p + octets


@njit(cache=True, nogil=True)
def _put_prefix(buf: U8, p: Word, v4: Word, hi: Word, lo: Word, plen: Word) -> Word:
    """Write a prefix as NLRI (RFC 4271 section 4.3); returns where it ends."""
    buf[p] = plen
    octets = (np.int64(plen) + 7) // 8
    for k in range(octets):
        at = k + 12 if v4 else k
        word = hi if at < 8 else lo
        buf[p + 1 + k] = (word >> np.uint64(56 - 8 * (at % 8))) & np.uint64(0xFF)
    return p + 1 + octets


@njit(cache=True, nogil=True)
def _put_attributes(buf: U8, p: Word, origin: Word, path: U32, med: Word, communities: U32) -> Word:
    """Write ORIGIN, AS_PATH (four-octet AS numbers), MULTI_EXIT_DISC and COMMUNITIES; returns where
    they end.
    """
    p = _put(buf, p, 4, np.uint64(0x40010100) | np.uint64(origin))
    p = _put(buf, p, 3, 0x400200 | (2 + 4 * path.size))
    p = _put(buf, p, 2, 0x0200 | path.size)
    for k in range(path.size):
        p = _put(buf, p, 4, path[k])
    if med != np.uint32(0xFFFFFFFF):
        p = _put(buf, p, 3, 0x800404)
        p = _put(buf, p, 4, med)
    if communities.size:
        p = _put(buf, p, 3, 0xC00800 | 4 * communities.size)
        for k in range(communities.size):
            p = _put(buf, p, 4, communities[k])
    return p


@njit(cache=True, nogil=True)
def pack_updates(
    withdraw: Word,
    rows: I64,
    hi: U64,
    lo: U64,
    plen: U8,
    group: I64,
    next_hop: U64,
    origin: U8,
    path: U32,
    path_offset: I64,
    med: U32,
    communities: U32,
    communities_offset: I64,
    buf: U8,
    offset: I64,
) -> Word:
    """UPDATEs that announce or withdraw `rows` in order, consecutive ones of one group and version
    in one message; returns how many.

    Message i is buf[offset[i] : offset[i + 1]]. `next_hop` is (3,): IPv4, and the words of IPv6.
    The last message may take LARGEST octets of `buf` beyond what its routes need.
    """
    p, i, n = np.int64(0), 0, 0
    offset[0] = 0
    while i < rows.size:
        start, r = p, rows[i]
        g, v4 = group[r], hi[r] == 0
        for _ in range(16):
            p = _put(buf, p, 1, 0xFF)
        p = _put(buf, p + 2, 1, 2)
        withdrawn_at, begin, reach_at = p, p + 4, np.int64(0)
        p = p + 2 if withdraw and v4 else begin
        if not withdraw:
            a, b = path_offset[g], path_offset[g + 1]
            c, d = communities_offset[g], communities_offset[g + 1]
            if v4:
                p = _put(buf, p, 3, 0x400304)
                p = _put(buf, p, 4, next_hop[0])
            p = _put_attributes(buf, p, origin[g], path[a:b], med[g], communities[c:d])
        if not v4:
            # MP_REACH_NLRI or MP_UNREACH_NLRI (RFC 4760) with a length of two octets.
            p = _put(buf, p, 2, 0x900F if withdraw else 0x900E)
            reach_at, p = p, p + 2
            p = _put(buf, p, 3, 0x000201)
            if not withdraw:
                p = _put(buf, p, 1, 16)
                p = _put(buf, p, 8, next_hop[1])
                p = _put(buf, p, 8, next_hop[2])
                p = _put(buf, p, 1, 0)
        nlri_at = p
        while i < rows.size and p - start + 19 <= 4096:
            r = rows[i]
            if (hi[r] == 0) != v4 or (group[r] != g and not withdraw):
                break
            p = _put_prefix(buf, p, v4, hi[r], lo[r], plen[r])
            i += 1
        if withdraw and v4:
            _put(buf, withdrawn_at, 2, p - nlri_at)
            p = _put(buf, p, 2, 0)
        else:
            _put(buf, withdrawn_at, 2, 0)
            _put(buf, begin - 2, 2, (nlri_at if v4 else p) - begin)
        if not v4:
            _put(buf, reach_at, 2, p - reach_at - 2)
        _put(buf, start + 16, 2, p - start)
        n += 1
        offset[n] = p
    return n
