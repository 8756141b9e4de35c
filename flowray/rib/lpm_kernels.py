"""Compiled loops of longest-prefix match: sorted prefixes to intervals, and an index to these.

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

IN_LINE_4, IN_LINE_6 = 7, 3
"""Intervals in a line. A line has 64 octets, as the processor's cache: a look-up that has found the
line has the answer.
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
