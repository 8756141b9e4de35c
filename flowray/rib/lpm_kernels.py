"""Compiled loops of longest-prefix match: sorted prefixes to intervals, and addresses to intervals.

Prefixes and intervals of IPv4 have an empty `hi` column and 32 bits in `lo`; `wide` says that there
is a `hi`. Prefixes are sorted by address, then length, and each is there once.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Low: TypeAlias = npt.NDArray[Any]
"""uint32 for IPv4, uint64 for IPv6."""

MISSING = np.uint32(0xFFFFFFFF)
"""Payload of addresses that no prefix contains; as a change, that a prefix is gone."""

# What look-ups need to know of a table: first address of the index, bits of an address that a
# bucket leaves out, buckets, where index and intervals begin.
T_ORIGIN, T_SHIFT, T_BUCKETS, T_INDEX, T_FIRST = range(5)

BLOCK = 256
"""Addresses that are taken through the steps of a look-up together, so that cache misses overlap.
"""


@njit(cache=True, nogil=True, inline="always")
def _before(hi: Word, lo: Word, plen: Word, hi_2: Word, lo_2: Word, plen_2: Word) -> Word:
    """Whether a prefix is sorted before another."""
    if hi != hi_2:
        return hi < hi_2
    if lo != lo_2:
        return lo < lo_2
    return plen < plen_2


@njit(cache=True, nogil=True)
def gather(
    wide: Word,
    order: I64,
    hi: U64,
    lo: U64,
    plen: U8,
    payload: U32,
    out_hi: U64,
    out_lo: Low,
    out_plen: U8,
    out_payload: U32,
) -> Word:
    """The prefixes in `order`, of equal ones the first; returns how many."""
    n = 0
    for i in range(order.size):
        r = order[i]
        if i > 0:
            q = order[i - 1]
            if lo[r] == lo[q] and plen[r] == plen[q] and hi[r] == hi[q]:
                continue
        if wide:
            out_hi[n] = hi[r]
            out_lo[n] = lo[r]
        else:
            out_lo[n] = lo[r] & np.uint64(0xFFFFFFFF)
        out_plen[n] = plen[r]
        out_payload[n] = payload[r]
        n += 1
    return n


@njit(cache=True, nogil=True)
def merge(
    wide: Word,
    hi: U64,
    lo: Low,
    plen: U8,
    payload: U32,
    new_hi: U64,
    new_lo: Low,
    new_plen: U8,
    new_payload: U32,
    out_hi: U64,
    out_lo: Low,
    out_plen: U8,
    out_payload: U32,
) -> Word:
    """Prefixes with changes applied, both sorted; returns how many there are."""
    n, i, none = 0, 0, np.uint64(0)
    for j in range(new_plen.size + 1):
        last = j == new_plen.size
        while i < plen.size:
            if not last and not _before(
                hi[i] if wide else none, lo[i], plen[i],
                new_hi[j] if wide else none, new_lo[j], new_plen[j],
            ):  # fmt: skip
                break
            if wide:
                out_hi[n] = hi[i]
            out_lo[n], out_plen[n], out_payload[n] = lo[i], plen[i], payload[i]
            n += 1
            i += 1
        if last:
            break
        same = i < plen.size and lo[i] == new_lo[j] and plen[i] == new_plen[j]
        if same and wide:
            same = hi[i] == new_hi[j]
        i += same
        if new_payload[j] != np.uint32(0xFFFFFFFF):
            if wide:
                out_hi[n] = new_hi[j]
            out_lo[n], out_plen[n], out_payload[n] = new_lo[j], new_plen[j], new_payload[j]
            n += 1
    return n


@njit(cache=True, nogil=True, inline="always")
def _emit(
    n: Word,
    wide: Word,
    h: Word,
    w: Word,
    value: Word,
    length: Word,
    out_hi: U64,
    out_lo: Low,
    out_payload: U32,
    out_plen: U8,
) -> Word:
    """Begin an interval at address (h, w); returns how many there are.

    It takes the place of one that began at the same address, and there is none if it would only
    continue the one before.
    """
    if n > 0 and out_lo[n - 1] == w and (not wide or out_hi[n - 1] == h):
        n -= 1
    if n > 0 and out_payload[n - 1] == value and out_plen[n - 1] == length:
        return n
    if wide:
        out_hi[n] = h
    out_lo[n], out_payload[n], out_plen[n] = w, value, length
    return n + 1


@njit(cache=True, nogil=True, inline="always")
def _ones(count: Word) -> Word:
    """A word with the lower `count` (0 to 64) bits set."""
    if count == 0:
        return np.uint64(0)
    return np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - count)


@njit(cache=True, nogil=True)
def sweep(
    wide: Word,
    hi: U64,
    lo: Low,
    plen: U8,
    payload: U32,
    out_hi: U64,
    out_lo: Low,
    out_payload: U32,
    out_plen: U8,
) -> Word:
    """Disjoint intervals of sorted prefixes, from address 0 on without gaps; returns how many.

    An interval has the payload and length of the longest prefix that contains it, MISSING and 0
    without one. Room for 2 n + 1 of them is enough.
    """
    zero, full = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
    bits = np.int64(128) if wide else np.int64(32)
    top_hi, top_lo = (full, full) if wide else (zero, np.uint64(0xFFFFFFFF))
    # Prefixes that contain the current address, the shortest first, and their last addresses.
    value = np.full(130, np.uint32(0xFFFFFFFF), np.uint32)
    length = np.zeros(130, np.uint8)
    end_hi, end_lo = np.full(130, top_hi, np.uint64), np.full(130, top_lo, np.uint64)
    depth = 0
    n = _emit(0, wide, zero, zero, value[0], length[0], out_hi, out_lo, out_payload, out_plen)
    for i in range(plen.size + 1):
        last = i == plen.size
        h, w = top_hi, top_lo
        if not last:
            h, w = hi[i] if wide else zero, np.uint64(lo[i])
        while depth > 0:
            eh, ew = end_hi[depth], end_lo[depth]
            if not last and (eh > h or (eh == h and ew >= w)):
                break
            depth -= 1
            if eh == top_hi and ew == top_lo:
                continue
            n = _emit(
                n, wide, eh + np.uint64(ew == full), ew + np.uint64(1), value[depth],
                length[depth], out_hi, out_lo, out_payload, out_plen,
            )  # fmt: skip
        if last:
            break
        depth += 1
        value[depth], length[depth] = payload[i], plen[i]
        host = bits - np.int64(plen[i])
        end_hi[depth], end_lo[depth] = h, w
        if host >= 64:
            end_lo[depth] = full
            end_hi[depth] |= _ones(host - 64)
        else:
            end_lo[depth] |= _ones(host)
        n = _emit(n, wide, h, w, payload[i], plen[i], out_hi, out_lo, out_payload, out_plen)
    return n


@njit(cache=True, nogil=True)
def fill_index(wide: Word, origin: Word, shift: Word, hi: U64, lo: Low, index: U32) -> None:
    """index[b] = the last interval that begins at or before the first address of bucket b, and for
    the number of buckets the last of all. What lies before the first bucket counts as in it.
    """
    top, p = lo.size - 1, 0
    index[0], index[index.size - 1] = 0, top
    for b in range(1, index.size - 1):
        bound = origin + (np.uint64(b) << shift)
        if wide:
            while p < top and (hi[p + 1] < bound or (hi[p + 1] == bound and lo[p + 1] == 0)):
                p += 1
        else:
            while p < top and np.uint64(lo[p + 1]) <= bound:
                p += 1
        index[b] = p


@njit(cache=True, nogil=True)
def _narrow_down(
    n: Word, table: I64, key: U64, tables: U64, index: U32, at: I64, more: I64
) -> None:
    """The bucket of each of n addresses: its first interval, and how many follow in it."""
    for j in range(n):
        t = tables[table[j]]
        origin = t[0]
        bucket = min((max(key[j], origin) - origin) >> t[1], t[2] - np.uint64(1))
        p = t[3] + bucket
        first = np.int64(index[p])
        more[j] = np.int64(index[p + np.uint64(1)]) - first
        at[j] = first + np.int64(t[4])


@njit(cache=True, nogil=True)
def _search_4(n: Word, key: U64, start: U32, at: I64, more: I64) -> None:
    """The last of the intervals at..at+more that begins at or before each address."""
    for j in range(n):
        a, first, count = np.uint32(key[j]), at[j], more[j]
        while count > 0:
            half = (count + 1) >> 1
            there = start[first + half] <= a
            first = first + half if there else first
            count = count - half if there else half - 1
        at[j] = first


@njit(cache=True, nogil=True)
def _search_6(n: Word, key: U64, low: U64, hi: U64, lo: U64, at: I64, more: I64) -> None:
    """As `_search_4` for addresses of two words."""
    for j in range(n):
        h, w, first, count = key[j], low[j], at[j], more[j]
        while count > 0:
            half = (count + 1) >> 1
            p = first + half
            there = hi[p] < h or (hi[p] == h and lo[p] <= w)
            first = p if there else first
            count = count - half if there else half - 1
        at[j] = first


@njit(cache=True, nogil=True)
def look_up(
    table: I64,
    hi: U64,
    lo: U64,
    tables_4: U64,
    index_4: U32,
    start_4: U32,
    payload_4: U32,
    plen_4: U8,
    tables_6: U64,
    index_6: U32,
    hi_6: U64,
    lo_6: U64,
    payload_6: U32,
    plen_6: U8,
    payload: U32,
    plen: U8,
) -> None:
    """Match addresses (n,) in the tables (n,) of their version. `tables_4` and `tables_6` begin
    with an empty table, which is meant by every number of no table.
    """
    rows, which = np.empty((2, BLOCK), np.int64), np.empty((2, BLOCK), np.int64)
    key, low = np.empty((2, BLOCK), np.uint64), np.empty(BLOCK, np.uint64)
    at, more = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    for begin in range(0, table.size, BLOCK):
        n4, n6 = 0, 0
        for i in range(begin, min(begin + BLOCK, table.size)):
            v6 = (hi[i] != 0) | (lo[i] >> np.uint64(32) != np.uint64(0xFFFF))
            t = table[i] + 1 if 0 <= table[i] < tables_4.shape[0] - 1 else np.int64(0)
            rows[0, n4], rows[1, n6] = i, i
            which[0, n4], which[1, n6] = t, t
            key[0, n4], key[1, n6] = lo[i] & np.uint64(0xFFFFFFFF), hi[i]
            low[n6] = lo[i]
            n6 += v6
            n4 += not v6
        if n4:
            _narrow_down(n4, which[0], key[0], tables_4, index_4, at, more)
            _search_4(n4, key[0], start_4, at, more)
            for j in range(n4):
                payload[rows[0, j]], plen[rows[0, j]] = payload_4[at[j]], plen_4[at[j]]
        if n6:
            _narrow_down(n6, which[1], key[1], tables_6, index_6, at, more)
            _search_6(n6, key[1], low, hi_6, lo_6, at, more)
            for j in range(n6):
                payload[rows[1, j]], plen[rows[1, j]] = payload_6[at[j]], plen_6[at[j]]
