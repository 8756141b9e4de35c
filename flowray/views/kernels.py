"""Compiled loops of views: packing keys, folding counters into an open-addressing table, splitting
flows over windows.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word
from flowray.prefetch import prefetch

I64: TypeAlias = npt.NDArray[np.int64]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
Flags: TypeAlias = npt.NDArray[np.bool_]

SUM, OR, MIN, MAX = 0, 1, 2, 3

# Columns of a key piece: source word row, bits to keep, shift, key word, what is above the bits.
P_SOURCE, P_BITS, P_SHIFT, P_WORD, P_ABOVE = range(5)

# Columns of a value: source word row (-1: the constant 1), rule, whether it is multiplied by the
# row's scale.
V_SOURCE, V_RULE, V_SCALED = range(3)

# State of a table: rows used, records folded, number + 1 of the last others row.
T_USED, T_RECORDS, T_LAST_OTHERS = range(3)

BLOCK = 256
"""Rows taken through the steps of a fold together: each step is a loop of independent loads without
branches, so that the misses of a large table overlap instead of following one another. What a step
will load is asked for one step earlier, or one block.
"""

V4_MAPPED = 0xFFFF
"""Upper half of the low word of an IPv4 address (RFC 4291 section 2.5.5.2); the high word is 0."""


@njit(cache=True, nogil=True)
def count_v4(words: U64, hosts: I64, n: Word, v4: Flags) -> Word:
    """Mark the rows (n,) whose addresses, at word rows `hosts`, are all IPv4; returns how many."""
    others = np.uint64(0)
    for a in range(hosts.size):
        high, low = words[hosts[a]], words[hosts[a] + 1]
        for i in range(n):
            others |= high[i] | (low[i] >> np.uint64(32)) ^ np.uint64(0xFFFF)
    v4[:n] = True
    if others == 0:
        return n
    for a in range(hosts.size):
        high, low = words[hosts[a]], words[hosts[a] + 1]
        for i in range(n):
            v4[i] &= (high[i] == 0) & (low[i] >> np.uint64(32) == np.uint64(0xFFFF))
    total = 0
    for i in range(n):
        total += v4[i]
    return total


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
    """Packed keys of rows begin..begin+n into key (words, BLOCK)."""
    # Rows are taken out as arrays of their own: an index that might be negative is not vectorised.
    if window.size > 1:
        key[0, :n] = window[begin : begin + n]
    else:
        key[0, :n] = window[0]
    key[1:, :n] = 0
    for p in range(pieces.shape[0]):
        bits, shift = pieces[p, 1], np.uint64(pieces[p, 2])
        source, packed = words[pieces[p, 0], begin : begin + n], key[pieces[p, 3]]
        top = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
        if bits == 64:
            for i in range(n):
                packed[i] = source[i]
        elif pieces[p, 4] != 0:
            for i in range(n):
                packed[i] |= (source[i] & top) << shift
        else:
            # A value wider than its field is cut to the largest that fits, never mixed into its
            # neighbour.
            for i in range(n):
                packed[i] |= min(source[i], top) << shift


@njit(cache=True, nogil=True)
def _hash(key: U64, n: Word, hashes: U64) -> None:
    """Hashes of the first n packed keys (words, >= n)."""
    for i in range(n):
        hashes[i] = np.uint64(0x9E3779B97F4A7C15)
    for w in range(key.shape[0]):
        packed = key[w]
        for i in range(n):
            h = (hashes[i] ^ packed[i]) * np.uint64(0xFF51AFD7ED558CCD)
            hashes[i] = h ^ (h >> np.uint64(32))
    for i in range(n):
        h = hashes[i] * np.uint64(0xC4CEB9FE1A85EC53)
        hashes[i] = h ^ (h >> np.uint64(29))


@njit(cache=True, nogil=True)
def _prepare(
    words: U64, begin: Word, n: Word, window: U64, pieces: I64, key: U64, hashes: U64, slots: U32
) -> Word:
    """Pack and hash the next block of rows begin..n, and ask for its slots; returns its size."""
    size = min(BLOCK, n - begin)
    _pack(words, begin, size, window, pieces, key)
    _hash(key, size, hashes)
    mask = np.uint64(slots.size - 1)
    for i in range(size):
        prefetch(slots, hashes[i] & mask)
    return size


@njit(cache=True, nogil=True, inline="always")
def _probe(h: Word, k: Word, mask: Word) -> Word:
    """The slot to look at k-th: a hash's own, its neighbour in the pair, then pair after pair."""
    own = h & mask
    odd = own & np.uint64(1)
    return (own - odd + (np.uint64(k) ^ odd)) & mask


@njit(cache=True, nogil=True, inline="always")
def _row_bits(slots: U32) -> Word:
    """Low bits of a slot, which tell a row number + 1: so many that all numbers below half the
    number of slots fit.
    """
    return np.uint64(slots.size // 2 - 1)


@njit(cache=True, nogil=True, inline="always")
def _tag_bits(slots: U32) -> Word:
    """The other bits of a slot, which are those of the hash's upper half."""
    return np.uint64(0xFFFFFFFF) ^ np.uint64(slots.size // 2 - 1)


@njit(cache=True, nogil=True)
def _find(
    key: U64, n: Word, hashes: U64, table: U64, slots: U32, found: U64, different: U64, todo: I64
) -> Word:
    """Row of each key that one of its first two slots holds; the others go to `todo`, which has
    their number.

    Nothing here waits for a load that the load before it must have finished.
    """
    mask = np.uint64(slots.size - 1)
    rows, tags = _row_bits(slots), _tag_bits(slots)
    stride = np.uint64(table.shape[1])
    for i in range(n):
        h = hashes[i]
        first = np.uint64(slots[h & mask])
        second = np.uint64(slots[h & mask ^ np.uint64(1)])
        above = h >> np.uint64(32)
        slot = second if (first ^ above) & tags else first
        different[i] = (slot ^ above) & tags | np.uint64(slot == 0)
        found[i] = max(slot & rows, np.uint64(1)) - np.uint64(1)
        prefetch(table, found[i] * stride)
    for w in range(key.shape[0]):
        packed = key[w]
        for i in range(n):
            different[i] |= table[found[i], w] ^ packed[i]
    missed = 0
    for i in range(n):
        todo[missed] = i
        missed += different[i] != 0
    return missed


@njit(cache=True, nogil=True, inline="always")
def _enter(
    key: U64, i: Word, h: Word, table: U64, slots: U32, state: I64, limit: Word, most: Word
) -> Word:
    """Row of key i, entered if it is new; -1 if the table is full, -2 if `limit` rows are used.

    Others rows are entered up to `most` rows; past that, which takes as many windows, those of new
    windows are one with the last others row: totals stay right, memory stays bounded.
    """
    mask = np.uint64(slots.size - 1)
    rows, tags = _row_bits(slots), _tag_bits(slots)
    tag = h >> np.uint64(32) & tags
    probe = 0
    row: Word = -3
    while row == -3:
        s = _probe(h, probe, mask)
        slot = np.uint64(slots[s])
        if slot == 0:
            others = key[0, i] >> np.uint64(63) != 0
            if others and state[0] >= most and state[2] > 0:
                row = state[2] - 1
            elif state[0] >= limit and not others:
                row = -2
            elif state[0] >= table.shape[0] - 1:
                row = -1
            else:
                row = state[0]
                if others:
                    state[2] = row + 1
                for w in range(key.shape[0]):
                    table[row, w] = key[w, i]
                for w in range(key.shape[0], table.shape[1]):
                    table[row, w] = 0
                slots[s] = np.uint32(tag | np.uint64(row + 1))
                state[0] += 1
        elif slot & tags == tag:
            at = np.int64(slot & rows) - 1
            same = True
            for w in range(key.shape[0]):
                same &= table[at, w] == key[w, i]
            if same:
                row = at
        probe += 1
    return row


@njit(cache=True, nogil=True)
def _add(
    words: U64, begin: Word, n: Word, sources: I64, scale: U64, width: Word, table: U64, found: U64
) -> None:
    """Merge the values of rows begin..begin+n into their rows of the table."""
    for c in range(sources.shape[0]):
        rule, column = sources[c, 1], width + c
        if sources[c, 0] < 0:
            for i in range(n):
                table[found[i], column] += np.uint64(1)
            continue
        source = words[sources[c, 0], begin : begin + n]
        if rule == 0 and (sources[c, 2] == 0 or scale.size == 0):
            for i in range(n):
                table[found[i], column] += source[i]
        elif rule == 0:
            for i in range(n):
                times = scale[begin + i] if scale.size > 1 else scale[0]
                table[found[i], column] += source[i] * times
        else:
            for i in range(n):
                table[found[i], column] = _merge(rule, table[found[i], column], source[i])


@njit(cache=True, nogil=True)
def fold(
    words: U64, begin: Word, n: Word, window: U64, pieces: I64, sources: I64, scale: U64,
    limit: Word, most: Word, width: Word, table: U64, slots: U32, state: I64, overflow: I64,
    over: Word,
) -> tuple[Word, Word]:  # fmt: skip
    """Fold rows begin..n of a batch into a table; returns the row it stopped at because the table
    must grow first, and `over`, the rows in `overflow`, plus those added: new keys for which
    `limit` leaves no row. See `_enter` for `most`.

    words (w, rows); window (rows,) window words, or (1,) for all; scale (rows,), (1,) or (0,) for
    none; table (capacity + 1, >= width + len(sources)): the key, window word first, and behind it
    the values, the last row being what overflowing records are added to and nobody reads; slots
    (2**k,), more than twice the rows: see `_row_bits`; state: T_*.
    """
    keys = np.empty((2, width, BLOCK), np.uint64)
    hashes = np.empty((2, BLOCK), np.uint64)
    different = np.empty(BLOCK, np.uint64)
    found = np.empty(BLOCK, np.uint64)
    todo = np.empty(BLOCK + 1, np.int64)
    turn = 0
    size = _prepare(words, begin, n, window, pieces, keys[0], hashes[0], slots)
    while size > 0:
        key, hashed = keys[turn], hashes[turn]
        turn = 1 - turn
        ahead = _prepare(words, begin + size, n, window, pieces, keys[turn], hashes[turn], slots)
        for j in range(_find(key, size, hashed, table, slots, found, different, todo)):
            i = todo[j]
            row = _enter(key, i, hashed[i], table, slots, state, limit, most)
            if row == -1:
                size, ahead = i, 0  # no room: the rows before this one still count
                break
            if row == -2:
                overflow[over] = begin + i
                over += 1
                row = table.shape[0] - 1
            found[i] = np.uint64(row)
        _add(words, begin, size, sources, scale, width, table, found)
        state[1] += size
        begin += size
        size = ahead
    return begin, over


@njit(cache=True, nogil=True)
def rehash(table: U64, width: Word, used: Word, slots: U32) -> None:
    """Enter all rows of a table into empty slots."""
    mask = np.uint64(slots.size - 1)
    tags = _tag_bits(slots)
    key = np.empty((width, BLOCK), np.uint64)
    hashes = np.empty(BLOCK, np.uint64)
    for begin in range(0, used, BLOCK):
        n = min(BLOCK, used - begin)
        for w in range(width):
            for i in range(n):
                key[w, i] = table[begin + i, w]
        _hash(key, n, hashes)
        for i in range(n):
            probe = 0
            while slots[_probe(hashes[i], probe, mask)] != 0:
                probe += 1
            slots[_probe(hashes[i], probe, mask)] = np.uint32(
                hashes[i] >> np.uint64(32) & tags | np.uint64(begin + i + 1)
            )


@njit(cache=True, nogil=True)
def unpack(
    table: U64, used: Word, width: Word, pieces: I64, values: I64, words: U64, window: U64,
    first: Word,
) -> None:  # fmt: skip
    """Undo the packing of rows: key pieces to words[piece source, first + row], the values behind
    `width` key words to words[values[i], first + row], the window word to window[first + row].
    """
    for begin in range(0, used, BLOCK):  # so that a row is read from memory once
        n = min(BLOCK, used - begin)
        rows = table[begin : begin + n]
        at = first + begin
        window[at : at + n] = rows[:, 0]
        for p in range(pieces.shape[0]):
            bits, shift, w = pieces[p, 1], np.uint64(pieces[p, 2]), pieces[p, 3]
            top = ~np.uint64(0) if bits == 64 else (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
            above = np.uint64(pieces[p, 4])
            target = words[pieces[p, 0], at : at + n]
            for r in range(n):
                target[r] = (rows[r, w] >> shift) & top | above
        for v in range(values.size):
            words[values[v], at : at + n] = rows[:, width + v]


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
