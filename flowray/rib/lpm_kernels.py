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
from flowray.prefetch import prefetch

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Low: TypeAlias = npt.NDArray[Any]
"""uint32 for IPv4, uint64 for IPv6."""

MISSING = np.uint32(0xFFFFFFFF)
"""Payload of addresses that no prefix contains; as a change, that a prefix is gone."""

IN_LINE_4, IN_LINE_6 = 7, 3
"""Intervals in a line. A line has 64 octets, as the processor's cache: a look-up that has found the
line has the answer.
"""

# What look-ups need to know of a table: first and last address of its index, bits of an address
# that a bucket leaves out, and where its buckets, index and lines begin.
T_ORIGIN, T_LAST, T_SHIFT, T_BUCKETS, T_INDEX, T_LINES = range(6)

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
    # Prefixes that contain the current address, the shortest first, and their last addresses. Below
    # them all is the whole address space.
    value, length = np.full(130, MISSING, np.uint32), np.zeros(130, np.uint8)
    end_hi, end_lo = np.full(130, top_hi, np.uint64), np.full(130, top_lo, np.uint64)
    depth, n = 0, 0
    # The interval that is begun: where, and its answer.
    at_hi, at_lo, is_value, is_length = zero, zero, value[0], length[0]
    for i in range(plen.size + 1):
        last = i == plen.size
        h, w = top_hi, top_lo
        if not last:
            h, w = hi[i] if wide else zero, np.uint64(lo[i])
        while True:
            eh, ew = end_hi[depth], end_lo[depth]
            closes = depth > 0 and (last or eh < h or (eh == h and ew < w))
            if closes and eh == top_hi and ew == top_lo:
                depth -= 1
                continue
            if closes:
                depth -= 1
                h_2, w_2 = eh + np.uint64(ew == full), ew + np.uint64(1)
            else:
                h_2, w_2 = h, w
            # What was begun at the same address is replaced; what only goes on is not written.
            if h_2 != at_hi or w_2 != at_lo or (last and not closes):
                if n == 0 or out_payload[n - 1] != is_value or out_plen[n - 1] != is_length:
                    if wide:
                        out_hi[n] = at_hi
                    out_lo[n], out_payload[n], out_plen[n] = at_lo, is_value, is_length
                    n += 1
                at_hi, at_lo = h_2, w_2
            if not closes:
                break
            is_value, is_length = value[depth], length[depth]
        if last:
            break
        depth += 1
        is_value, is_length = payload[i], plen[i]
        value[depth], length[depth] = is_value, is_length
        host = bits - np.int64(is_length)
        end_hi[depth], end_lo[depth] = h, w
        if host >= 64:
            end_lo[depth] = full
            end_hi[depth] |= _ones(host - 64)
        else:
            end_lo[depth] |= _ones(host)
    return n


@njit(cache=True, nogil=True)
def fill_lines_4(start: U32, payload: U32, plen: U8, lines: U32) -> None:
    """Intervals as lines (n, 16) of seven: starts, payloads, lengths as octets.

    The last line is filled up with the last interval, which begins once more at the last address.
    """
    n = start.size
    for c in range(lines.shape[0]):
        line = lines[c]
        line[14] = line[15] = 0
        for k in range(7):
            i = min(7 * c + k, n - 1)
            line[k] = start[i] if 7 * c + k < n else np.uint32(0xFFFFFFFF)
            line[7 + k] = payload[i]
            line[14 + (k >> 2)] |= np.uint32(plen[i]) << np.uint32(8 * (k & 3))


@njit(cache=True, nogil=True)
def fill_lines_6(hi: U64, lo: U64, payload: U32, plen: U8, lines: U64) -> None:
    """Intervals as lines (n, 8) of three: high words of starts, low words, then three payloads of
    32 bits and three lengths of 8. The last line as in `fill_lines_4`.
    """
    n, full = hi.size, np.uint64(0xFFFFFFFFFFFFFFFF)
    for c in range(lines.shape[0]):
        line = lines[c]
        line[6] = line[7] = 0
        for k in range(3):
            i = min(3 * c + k, n - 1)
            line[k] = hi[i] if 3 * c + k < n else full
            line[3 + k] = lo[i] if 3 * c + k < n else full
            line[6 + (k >> 1)] |= np.uint64(payload[i]) << np.uint64(32 * (k & 1))
            line[7] |= np.uint64(plen[i]) << np.uint64(32 + 8 * k)


@njit(cache=True, nogil=True)
def plan_index(first: U64, origin: Word, shift: Word, buckets: U64) -> Word:
    """Size of the index of lines that begin at `first` (n,), the second at or after `origin`.

    Each bucket of ``1 << shift`` addresses is parted into about twice as many parts as lines begin
    in it: buckets[b] = its first part << 8 | bits of an address that a part leaves out.
    """
    p, begin = 1, np.uint64(0)
    for b in range(buckets.size):
        bits, count = np.uint64(0), 0
        while p < first.size and (first[p] - origin) >> shift == np.uint64(b):
            p += 1
            count += 1
            if count > (np.uint64(1) << bits) >> np.uint64(1) and bits < shift:
                bits += np.uint64(1)
        buckets[b] = begin << np.uint64(8) | (shift - bits)
        begin += np.uint64(1) << bits
    return np.int64(begin) + 1


@njit(cache=True, nogil=True)
def fill_index(
    wide: Word, origin: Word, shift: Word, buckets: U64, first: U64, low: U64, index: U32
) -> None:
    """index[i] = the last line that begins at or before the first address of the i-th part, and
    behind the parts the last line. What lies before the first part counts as in it.

    `low` (n,) has the low words of where lines begin, if addresses are of two.
    """
    top, p = first.size - 1, 0
    for b in range(buckets.size):
        part = buckets[b] & np.uint64(0xFF)
        i = np.int64(buckets[b] >> np.uint64(8))
        for k in range(np.int64(1) << np.int64(shift - part)):
            bound = origin + (np.uint64(b) << shift) + (np.uint64(k) << part)
            if bound < origin:
                # Past the end of the number line, where the window may reach.
                p = top
            while p < top and (
                first[p + 1] < bound or (first[p + 1] == bound and (not wide or low[p + 1] == 0))
            ):
                p += 1
            index[i + k] = p
    index[0], index[index.size - 1] = 0, top


@njit(cache=True, nogil=True)
def _split(
    table: I64,
    hi: U64,
    lo: U64,
    tables: Word,
    rows_4: I64,
    which_4: I64,
    key_4: U64,
    rows_6: I64,
    which_6: I64,
    key_6: U64,
    low_6: U64,
) -> Word:
    """Part the addresses of a block by version; returns how many are of IPv4.

    An address is written to where the next of either version goes, for want of a branch.
    """
    n4, n6 = np.uint64(0), np.uint64(0)
    for i in range(table.size):
        t = table[i] + 1
        t = t if (t > 0) & (t < tables) else np.int64(0)
        rows_4[n4], which_4[n4], key_4[n4] = i, t, lo[i] & np.uint64(0xFFFFFFFF)
        rows_6[n6], which_6[n6], key_6[n6], low_6[n6] = i, t, hi[i], lo[i]
        v4 = np.uint64((hi[i] == 0) & (lo[i] >> np.uint64(32) == np.uint64(0xFFFF)))
        n4 += v4
        n6 += np.uint64(1) - v4
    return np.int64(n4)


@njit(cache=True, nogil=True)
def _narrow_down(
    n: Word,
    table: I64,
    key: U64,
    tables: U64,
    buckets: U64,
    index: U32,
    at: I64,
    among: I64,
) -> None:
    """The first of the lines that each of n addresses can be in, and their number."""
    for j in range(n):
        t = tables[table[j]]
        x = min(max(key[j], t[0]), t[1]) - t[0]
        bucket = buckets[t[3] + (x >> t[2])]
        rest = x & ((np.uint64(1) << t[2]) - np.uint64(1))
        p = t[4] + (bucket >> np.uint64(8)) + (rest >> (bucket & np.uint64(0xFF)))
        at[j] = np.int64(p)
        prefetch(index, at[j])
    for j in range(n):
        p = np.uint64(at[j])
        first = np.int64(index[p])
        among[j] = np.int64(index[p + np.uint64(1)]) - first + 1
        at[j] = first + np.int64(tables[table[j], 5])


@njit(cache=True, nogil=True)
def _match_4(
    n: Word, rows: I64, key: U64, lines: U32, at: I64, among: I64, payload: U32, plen: U8
) -> None:
    """Answers of n addresses, each in one of the lines at..at+among-1 (flat)."""
    for j in range(n):
        prefetch(lines, (at[j] + (among[j] >> 1)) << 4)
    for j in range(n):
        a, p, count = np.uint32(key[j]), np.uint64(at[j]), np.uint64(among[j])
        while count > 1:
            # The count does not depend on what is found, and no branch does.
            half = count >> np.uint64(1)
            p += half * np.uint64(lines[(p + half) << np.uint64(4)] <= a)
            count -= half
        p <<= np.uint64(4)
        k = np.uint64(0)
        for q in range(1, 7):
            k += np.uint64(lines[p + np.uint64(q)] <= a)
        payload[rows[j]] = lines[p + k + np.uint64(7)]
        lengths = np.uint64(lines[p + np.uint64(14)]) | np.uint64(
            lines[p + np.uint64(15)]
        ) << np.uint64(32)
        plen[rows[j]] = (lengths >> (k << np.uint64(3))) & np.uint64(0xFF)


@njit(cache=True, nogil=True)
def _match_6(
    n: Word, rows: I64, key: U64, low: U64, lines: U64, at: I64, among: I64, payload: U32, plen: U8
) -> None:
    """As `_match_4` for addresses of two words."""
    for j in range(n):
        prefetch(lines, (at[j] + (among[j] >> 1)) << 3)
    for j in range(n):
        h, w, p, count = key[j], low[j], np.uint64(at[j]), np.uint64(among[j])
        while count > 1:
            half = count >> np.uint64(1)
            q = (p + half) << np.uint64(3)
            begun = (lines[q] < h) | ((lines[q] == h) & (lines[q + np.uint64(3)] <= w))
            p += half * np.uint64(begun)
            count -= half
        p <<= np.uint64(3)
        k = np.uint64(0)
        for i in range(1, 3):
            q = p + np.uint64(i)
            k += np.uint64((lines[q] < h) | ((lines[q] == h) & (lines[q + np.uint64(3)] <= w)))
        word = lines[p + np.uint64(6) + (k >> np.uint64(1))]
        payload[rows[j]] = (word >> ((k & np.uint64(1)) << np.uint64(5))) & np.uint64(0xFFFFFFFF)
        lengths = lines[p + np.uint64(7)] >> np.uint64(32)
        plen[rows[j]] = (lengths >> (k << np.uint64(3))) & np.uint64(0xFF)


@njit(cache=True, nogil=True)
def look_up(
    table: I64,
    hi: U64,
    lo: U64,
    tables_4: U64,
    buckets_4: U64,
    index_4: U32,
    lines_4: U32,
    tables_6: U64,
    buckets_6: U64,
    index_6: U32,
    lines_6: U64,
    payload: U32,
    plen: U8,
) -> None:
    """Match addresses (n,) in the tables (n,) of their version. `tables_4` and `tables_6` begin
    with an empty table, which is meant by every number of no table. `lines_4` and `lines_6` are
    flat.
    """
    rows_4, rows_6 = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    which_4, which_6 = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    key_4, key_6 = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    low_6 = np.empty(BLOCK, np.uint64)
    at, among = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    for begin in range(0, table.size, BLOCK):
        end = min(begin + BLOCK, table.size)
        n4 = _split(
            table[begin:end], hi[begin:end], lo[begin:end], tables_4.shape[0],
            rows_4, which_4, key_4, rows_6, which_6, key_6, low_6,
        )  # fmt: skip
        n6 = end - begin - n4
        found, length = payload[begin:end], plen[begin:end]
        if n4:
            _narrow_down(n4, which_4, key_4, tables_4, buckets_4, index_4, at, among)
            _match_4(n4, rows_4, key_4, lines_4, at, among, found, length)
        if n6:
            _narrow_down(n6, which_6, key_6, tables_6, buckets_6, index_6, at, among)
            _match_6(n6, rows_6, key_6, low_6, lines_6, at, among, found, length)
