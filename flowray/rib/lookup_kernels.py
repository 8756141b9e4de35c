"""The compiled look-up of addresses in tables of intervals (`lpm.Intervals`), which it finds by
address: tables are arrays of their own, wherever they are mapped.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word
from flowray.pointers import half_at, prefetch_at, word_at

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

# What look-ups need to know of a table: first and last address of its index, bits of an address
# that a bucket leaves out; the addresses of its buckets, index and lines; and those of marks,
# ranks, begins and lines of its overlay, 0 without one.
T_ORIGIN, T_LAST, T_SHIFT, T_BUCKETS, T_INDEX, T_LINES, T_MARKS, T_RANKS, T_BEGINS, T_OVER = range(
    10
)
T_COLUMNS = 10

BLOCK = 256
"""Addresses that are taken through the steps of a look-up together, so that cache misses overlap.
"""


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
def _narrow_down(n: Word, table: I64, key: U64, tables: U64, at: U64, among: U64) -> None:
    """The address of the first line that each of n addresses can be in, and of how many."""
    for j in range(n):
        # Not a row of `tables`: what refers to it would be counted.
        w = table[j]
        origin, shift = tables[w, 0], tables[w, 2]
        x = min(max(key[j], origin), tables[w, 1]) - origin
        bucket = word_at(tables[w, 3], x >> shift)
        rest = x & ((np.uint64(1) << shift) - np.uint64(1))
        part = (bucket >> np.uint64(8)) + (rest >> (bucket & np.uint64(0xFF)))
        at[j] = tables[w, 4] + (part << np.uint64(2))
        prefetch_at(at[j])
    for j in range(n):
        first, last = half_at(at[j], 0), half_at(at[j], 1)
        among[j] = last - first + np.uint64(1)
        at[j] = tables[table[j], 5] + (first << np.uint64(6))
        prefetch_at(at[j] + ((among[j] >> np.uint64(1)) << np.uint64(6)))


@njit(cache=True, nogil=True, inline="always")
def _line_4(p: Word, count: Word, a: Word) -> Word:
    """The address of the last of `count` lines from p on that begins at or before an address, or p.

    The steps do not depend on what is found, and no branch does.
    """
    while count > 1:
        half = count >> np.uint64(1)
        p += (half * np.uint64(half_at(p + (half << np.uint64(6)), 0) <= a)) << np.uint64(6)
        count -= half
    return p


@njit(cache=True, nogil=True, inline="always")
def _interval_4(p: Word, a: Word) -> Word:
    """The number of the interval that an address is in, within the line at p."""
    k = np.uint64(0)
    for q in range(1, 7):
        k += np.uint64(half_at(p, q) <= a)
    return k


@njit(cache=True, nogil=True, inline="always")
def _line_6(p: Word, count: Word, h: Word, w: Word) -> Word:
    """As `_line_4` for addresses of two words."""
    while count > 1:
        half = count >> np.uint64(1)
        q = p + (half << np.uint64(6))
        first = word_at(q, 0)
        begun = (first < h) | ((first == h) & (word_at(q, 3) <= w))
        p += (half * np.uint64(begun)) << np.uint64(6)
        count -= half
    return p


@njit(cache=True, nogil=True, inline="always")
def _interval_6(p: Word, h: Word, w: Word) -> Word:
    """As `_interval_4`."""
    k = np.uint64(0)
    for i in range(1, 3):
        k += np.uint64((word_at(p, i) < h) | ((word_at(p, i) == h) & (word_at(p, i + 3) <= w)))
    return k


@njit(cache=True, nogil=True, inline="always")
def _payload_4(p: Word, k: Word) -> Word:
    return half_at(p, k + np.uint64(7))


@njit(cache=True, nogil=True, inline="always")
def _plen_4(p: Word, k: Word) -> Word:
    return (word_at(p, 7) >> (k << np.uint64(3))) & np.uint64(0xFF)


@njit(cache=True, nogil=True, inline="always")
def _payload_6(p: Word, k: Word) -> Word:
    return half_at(p, k + np.uint64(12))


@njit(cache=True, nogil=True, inline="always")
def _plen_6(p: Word, k: Word) -> Word:
    return (half_at(p, 15) >> (k << np.uint64(3))) & np.uint64(0xFF)


@njit(cache=True, nogil=True)
def _match_4(n: Word, rows: I64, key: U64, at: U64, among: U64, payload: U32, plen: U8) -> None:
    """Answers of n addresses, each in one of `among` lines from the address `at` on, which then is
    that of the line.
    """
    for j in range(n):
        p = _line_4(at[j], among[j], key[j])
        k = _interval_4(p, key[j])
        payload[rows[j]], plen[rows[j]] = _payload_4(p, k), _plen_4(p, k)
        at[j] = p


@njit(cache=True, nogil=True)
def _match_6(
    n: Word, rows: I64, key: U64, low: U64, at: U64, among: U64, payload: U32, plen: U8
) -> None:
    """As `_match_4` for addresses of two words."""
    for j in range(n):
        p = _line_6(at[j], among[j], key[j], low[j])
        k = _interval_6(p, key[j], low[j])
        payload[rows[j]], plen[rows[j]] = _payload_6(p, k), _plen_6(p, k)
        at[j] = p


@njit(cache=True, nogil=True, inline="always")
def _bits_set(x: Word) -> Word:
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True, nogil=True)
def _replaced(n: Word, table: I64, tables: U64, at: U64, among: U64, moved: I64) -> Word:
    """Of n addresses those whose line `at` is replaced, to `moved`; returns how many. For them,
    `at` and `among` are then the lines in place of it.
    """
    m = np.uint64(0)
    for j in range(n):
        marks = tables[table[j], 6]
        moved[m] = j
        if marks != np.uint64(0):
            line = (at[j] - tables[table[j], 5]) >> np.uint64(6)
            word = word_at(marks, line >> np.uint64(6))
            m += (word >> (line & np.uint64(63))) & np.uint64(1)
    for i in range(np.int64(m)):
        j, w = moved[i], table[moved[i]]
        line = (at[j] - tables[w, 5]) >> np.uint64(6)
        word = word_at(tables[w, 6], line >> np.uint64(6))
        below = word & ((np.uint64(1) << (line & np.uint64(63))) - np.uint64(1))
        number = half_at(tables[w, 7], line >> np.uint64(6)) + _bits_set(below)
        first = half_at(tables[w, 8], number)
        among[j] = half_at(tables[w, 8], number + np.uint64(1)) - first
        at[j] = tables[w, 9] + (first << np.uint64(6))
        prefetch_at(at[j])
    return np.int64(m)


@njit(cache=True, nogil=True)
def _match_replaced_4(
    m: Word, moved: I64, rows: I64, key: U64, at: U64, among: U64, payload: U32, plen: U8
) -> None:
    """As `_match_4`, of m addresses at `moved`."""
    for i in range(m):
        j = moved[i]
        p = _line_4(at[j], among[j], key[j])
        k = _interval_4(p, key[j])
        payload[rows[j]], plen[rows[j]] = _payload_4(p, k), _plen_4(p, k)


@njit(cache=True, nogil=True)
def _match_replaced_6(
    m: Word, moved: I64, rows: I64, key: U64, low: U64, at: U64, among: U64, payload: U32, plen: U8
) -> None:
    """As `_match_6`, of m addresses at `moved`."""
    for i in range(m):
        j = moved[i]
        p = _line_6(at[j], among[j], key[j], low[j])
        k = _interval_6(p, key[j], low[j])
        payload[rows[j]], plen[rows[j]] = _payload_6(p, k), _plen_6(p, k)


@njit(cache=True, nogil=True)
def look_up(
    table: I64,
    hi: U64,
    lo: U64,
    tables_4: U64,
    tables_6: U64,
    layered: Word,
    payload: U32,
    plen: U8,
) -> None:
    """Match addresses (n,) in the tables (n,) of their version. `tables_4` and `tables_6` begin
    with an empty table, which is meant by every number of no table. `layered`: some have overlays.
    """
    rows_4, rows_6 = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    which_4, which_6 = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    key_4, key_6 = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    low_6 = np.empty(BLOCK, np.uint64)
    at, among = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    moved = np.empty(BLOCK, np.int64)
    for begin in range(0, table.size, BLOCK):
        end = min(begin + BLOCK, table.size)
        n4 = _split(
            table[begin:end], hi[begin:end], lo[begin:end], tables_4.shape[0],
            rows_4, which_4, key_4, rows_6, which_6, key_6, low_6,
        )  # fmt: skip
        n6 = end - begin - n4
        found, length = payload[begin:end], plen[begin:end]
        if n4:
            _narrow_down(n4, which_4, key_4, tables_4, at, among)
            _match_4(n4, rows_4, key_4, at, among, found, length)
            if layered:
                _match_replaced_4(
                    _replaced(n4, which_4, tables_4, at, among, moved),
                    moved, rows_4, key_4, at, among, found, length,
                )  # fmt: skip
        if n6:
            _narrow_down(n6, which_6, key_6, tables_6, at, among)
            _match_6(n6, rows_6, key_6, low_6, at, among, found, length)
            if layered:
                _match_replaced_6(
                    _replaced(n6, which_6, tables_6, at, among, moved),
                    moved, rows_6, key_6, low_6, at, among, found, length,
                )  # fmt: skip
