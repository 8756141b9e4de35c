"""Compiled loops of views: packing keys, folding counters into an open-addressing table, splitting
flows over windows.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word

I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]

SUM, OR, MIN, MAX = 0, 1, 2, 3

OTHERS = np.uint64(1 << 63)
"""Bit of the window word that marks the row into which keys past `max_keys` fold."""

# Columns of a key piece: source word row, bits to keep, shift, key word.
P_SOURCE, P_BITS, P_SHIFT, P_WORD = range(4)

# Columns of a value: source word row (-1: the constant 1), rule, whether it is multiplied by the
# row's scale.
V_SOURCE, V_RULE, V_SCALED = range(3)

# State of a table: rows used, records folded, records folded into others, number + 1 of the last
# others row.
T_USED, T_RECORDS, T_OTHERS, T_LAST_OTHERS = range(4)


BLOCK = 256
"""Rows taken through the steps of a fold together: each step is a loop of independent loads, so
that the misses of a large table overlap instead of following one another.
"""


@njit(cache=True, nogil=True, inline="always")
def _hash(key: U64, words: Word) -> Word:
    h = np.uint64(0x9E3779B97F4A7C15)
    for w in range(words):
        h = (h ^ key[w]) * np.uint64(0xFF51AFD7ED558CCD)
        h ^= h >> np.uint64(32)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(29))


@njit(cache=True, nogil=True, inline="always")
def _merge(rule: Word, old: Word, new: Word) -> Word:
    if rule == 0:
        return old + new
    if rule == 1:
        return old | new
    # Times: 0 is unknown.
    if new == 0:
        return old
    if old == 0:
        return new
    if rule == 2:
        return min(old, new)
    return max(old, new)


@njit(cache=True, nogil=True)
def _pack(words: U64, begin: Word, n: Word, window: U64, pieces: I64, key: U64) -> None:
    """Packed keys of rows begin..begin+n into key (BLOCK, words)."""
    for i in range(n):
        key[i, 0] = window[begin + i]
        for w in range(1, key.shape[1]):
            key[i, w] = 0
    for p in range(pieces.shape[0]):
        source, bits, shift, w = pieces[p, 0], pieces[p, 1], pieces[p, 2], pieces[p, 3]
        if bits == 64:
            for i in range(n):
                key[i, w] = words[source, begin + i]
            continue
        # A value wider than its field is cut to the largest that fits, never mixed into its
        # neighbour.
        top = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
        for i in range(n):
            key[i, w] |= min(words[source, begin + i], top) << np.uint64(shift)


@njit(cache=True, nogil=True)
def _find(key: U64, n: Word, table: U64, slots: U64, hashes: U64, found: I64) -> None:
    """Row of each key whose first slot holds it, -1 for the others."""
    mask = np.uint64(slots.size - 1)
    width = key.shape[1]
    for i in range(n):
        hashes[i] = _hash(key[i], width)
    for i in range(n):
        slot = slots[np.int64(hashes[i] & mask)]
        same_tag = slot ^ hashes[i] < np.uint64(0x100000000)
        found[i] = np.int64(slot & np.uint64(0xFFFFFFFF)) - 1 if same_tag else -1
    for i in range(n):
        row = found[i]
        if row >= 0:
            different = np.uint64(0)
            for w in range(width):
                different |= table[row, w] ^ key[i, w]
            if different != 0:
                found[i] = -1


@njit(cache=True, nogil=True)
def fold(
    words: U64, begin: Word, n: Word, window: U64, pieces: I64, sources: I64, scale: U64,
    max_keys: Word,
    width: Word, table: U64, slots: U64, state: I64,
) -> Word:  # fmt: skip
    """Fold rows begin..n of a batch into a table; returns the row it stopped at because the table
    must grow first.

    words (w, rows); window (rows,) window words; scale (rows,) or empty; table (capacity, width +
    len(sources)): the key, window word first, and behind it the values; slots (2**k,): high half of
    the hash, row number + 1; state: T_*.
    """
    key = np.empty((BLOCK, width), np.uint64)
    hashes = np.empty(BLOCK, np.uint64)
    found = np.empty(BLOCK, np.int64)
    scaled = scale.size > 0
    while begin < n:
        size = min(BLOCK, n - begin)
        _pack(words, begin, size, window, pieces, key)
        _find(key, size, table, slots, hashes, found)
        for i in range(size):
            if found[i] < 0:
                row = _place(key[i], hashes[i], width, table, slots, state, max_keys)
                if row == -2:
                    for w in range(1, width):
                        key[i, w] = 0
                    key[i, 0] |= np.uint64(1 << 63)
                    h = _hash(key[i], width)
                    row = _place(key[i], h, width, table, slots, state, max_keys)
                    if row >= 0:
                        state[2] += 1
                if row < 0:
                    size = i  # no room: the rows before this one still count
                    break
                found[i] = row
        for c in range(sources.shape[0]):
            source, rule, column = sources[c, 0], sources[c, 1], width + c
            times_scale = scaled and sources[c, 2] != 0
            if source < 0:
                for i in range(size):
                    table[found[i], column] += np.uint64(1)
            elif rule == 0 and not times_scale:
                for i in range(size):
                    table[found[i], column] += words[source, begin + i]
            else:
                for i in range(size):
                    v = words[source, begin + i]
                    if times_scale:
                        v *= scale[begin + i]
                    table[found[i], column] = _merge(rule, table[found[i], column], v)
        state[1] += size
        begin += size
        if size == 0 or (size < BLOCK and begin < n):
            return begin
    return n


@njit(cache=True, nogil=True)
def _place(
    key: U64, h: Word, width: Word, table: U64, slots: U64, state: I64, max_keys: Word
) -> Word:
    """Row of a key, entering it if new; -1 if the table is full, -2 if max_keys is reached.

    Past twice max_keys, which takes as many windows, others rows of new windows are one with the
    last others row: totals stay right, memory stays bounded.
    """
    mask = np.uint64(slots.size - 1)
    tag = h & np.uint64(0xFFFFFFFF00000000)
    s = np.int64(h & mask)
    while True:
        slot = slots[s]
        if slot == 0:
            others = key[0] >> np.uint64(63) != 0
            if state[0] >= max_keys and not others:
                return -2
            if state[0] >= 2 * max_keys and state[3] > 0:
                return state[3] - 1
            if state[0] >= table.shape[0]:
                return -1
            row = state[0]
            if others:
                state[3] = row + 1
            for w in range(width):
                table[row, w] = key[w]
            for w in range(width, table.shape[1]):
                table[row, w] = 0
            slots[s] = tag | np.uint64(row + 1)
            state[0] += 1
            return row
        if slot & np.uint64(0xFFFFFFFF00000000) == tag:
            row = np.int64(slot & np.uint64(0xFFFFFFFF)) - 1
            same = True
            for w in range(width):
                if table[row, w] != key[w]:
                    same = False
                    break
            if same:
                return row
        s = np.int64(np.uint64(s + 1) & mask)


@njit(cache=True, nogil=True)
def rehash(table: U64, width: Word, used: Word, slots: U64) -> None:
    """Enter all rows of a table into empty slots."""
    mask = np.uint64(slots.size - 1)
    for row in range(used):
        h = _hash(table[row], width)
        s = np.int64(h & mask)
        while slots[s] != 0:
            s = np.int64(np.uint64(s + 1) & mask)
        slots[s] = (h & np.uint64(0xFFFFFFFF00000000)) | np.uint64(row + 1)


@njit(cache=True, nogil=True)
def unpack(keys: U64, used: Word, pieces: I64, words: U64) -> None:
    """Undo the packing of keys: words[piece source, row]."""
    for p in range(pieces.shape[0]):
        bits = pieces[p, 1]
        top = ~np.uint64(0) if bits == 64 else (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
        for r in range(used):
            words[pieces[p, 0], r] = (keys[r, pieces[p, 3]] >> np.uint64(pieces[p, 2])) & top


@njit(cache=True, nogil=True)
def count_parts(start: I64, end: I64, window: Word, offset: Word, most: Word, parts: I64) -> Word:
    """Windows that each flow [start, end] (ns) touches, at most `most`; returns their sum."""
    total = 0
    for r in range(start.size):
        n = 1
        if end[r] > start[r]:
            n = (end[r] - offset) // window - (start[r] - offset) // window + 1
            # An end on a window's edge is not in the next window.
            if n > 1 and (end[r] - offset) % window == 0:
                n -= 1
        parts[r] = min(n, most)
        total += parts[r]
    return total


@njit(cache=True, nogil=True)
def split(
    start: I64, end: I64, window: Word, offset: Word, parts: I64, totals: U64, source: I64,
    begins: I64, shares: U64,
) -> None:  # fmt: skip
    """Spread totals (c, n) over windows in proportion to time: shares (c, sum of parts), which add
    up exactly.

    source: row that each part is of; begins: a moment inside its window. The share up to a moment
    is floor(total * elapsed / duration), in milliseconds.
    """
    k = 0
    for r in range(start.size):
        n = parts[r]
        first = (start[r] - offset) // window
        duration = max((end[r] - start[r]) // 1_000_000, 1)
        for j in range(n):
            source[k + j] = r
            begins[k + j] = start[r] if j == 0 else (first + j) * window + offset
        for c in range(totals.shape[0]):
            total = totals[c, r]
            given = np.uint64(0)
            for j in range(n):
                if j == n - 1:
                    share = total
                else:
                    edge = (first + j + 1) * window + offset
                    elapsed = np.uint64(min(max((edge - start[r]) // 1_000_000, 0), duration))
                    whole = total // np.uint64(duration)
                    rest = total % np.uint64(duration)
                    share = whole * elapsed + rest * elapsed // np.uint64(duration)
                shares[c, k + j] = share - given
                given = share
        k += n
