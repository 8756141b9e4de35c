"""Compiled loops of route tables: keys, and an open-addressing table kept in the order of its
hashes.

A row's key is one to four words. The first word is stored hashed, by a function that can be undone,
so that the table needs no hashes beside its keys: a row stands at the first free slot at or after
``home(word) = word * size / 2^64``, and rows stand in ascending order of that word. Hence a search
ends at the first greater word, a larger table holds the same rows in the same order (growing is two
passes from end to end, in place), and a removal closes the gap without leaving a mark.

The last slot is always free, so that searches need no other end. A free slot has the greatest word
and the attributes NONE; a word may be the greatest by chance, so only the attributes tell.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word
from flowray.prefetch import prefetch

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

NONE = np.uint32(0xFFFFFFFF)
"""Attributes of no route: of a free slot, and of a route that is not there."""

# What the first word of a key holds.
V4, V6, OPAQUE = range(3)

# Layout of a key: what the first word holds, and which words have path identifier and route
# distinguisher (-1: none; of V6 the path identifier is in word 2, of OPAQUE in word 0).
L_KIND, L_PATH, L_RD = range(3)

# State of a table: rows, slots that rows are spread over, changes so far, changes logged.
S_ROWS, S_SIZE, S_GENERATION, S_LOGGED = range(4)

# Which prefixes are looked for: the given one, those inside it, those that contain it.
EXACT, LONGER, COVERING = range(3)

AHEAD = 24
"""How many keys ahead slots are asked for, so that cache misses overlap."""


@njit(cache=True, nogil=True, inline="always")
def _mix(x: Word) -> Word:
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _unmix(x: Word) -> Word:
    # The inverses of the factors modulo 2^64; a shift by half the width is its own inverse.
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0x9CB4B2F8129337DB)
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0x4F74430C22A54005)
    return x ^ (x >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _fold(key: U64, i: Word, seed: Word) -> Word:
    """What the first word of key i is xored with: a hash of the seed and the other words."""
    h = seed
    for w in range(1, key.shape[1]):
        h = (h ^ key[i, w]) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(32)
    return h


@njit(cache=True, nogil=True, inline="always")
def _home(word: Word, size: Word) -> Word:
    return np.int64(((word >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def pack(
    layout: I64,
    seed: Word,
    rows: I64,
    rd: U64,
    path_id: U32,
    hi: U64,
    lo: U64,
    plen: U8,
    nlri: U64,
    key: U64,
) -> None:
    """Stored keys (n, words) of `rows` (n,) of the columns; `nlri` (n,) has the ids of opaque NLRI,
    and is empty for prefixes.
    """
    kind, path_word, rd_word = layout[0], layout[1], layout[2]
    for i in range(rows.size):
        r = rows[i]
        path = np.uint64(path_id[r]) if path_word >= 0 else np.uint64(0)
        if kind == 0:
            key[i, 0] = (lo[r] & np.uint64(0xFFFFFFFF)) << np.uint64(8) | np.uint64(plen[r])
            if path_word >= 0:
                key[i, path_word] = path
        elif kind == 1:
            key[i, 0], key[i, 1] = hi[r], lo[r]
            key[i, 2] = path << np.uint64(8) | np.uint64(plen[r])
        else:
            key[i, 0] = path << np.uint64(32) | nlri[i]
        if rd_word >= 0:
            key[i, rd_word] = rd[r]
        key[i, 0] = _mix(key[i, 0] ^ _fold(key, i, seed))


@njit(cache=True, nogil=True)
def unpack(
    layout: I64,
    seed: Word,
    key: U64,
    slots: I64,
    rd: U64,
    path_id: U32,
    hi: U64,
    lo: U64,
    plen: U8,
    nlri: U32,
) -> None:
    """The opposite of `pack`: columns (n,) of the stored keys at `slots` (n,)."""
    kind, path_word, rd_word = layout[0], layout[1], layout[2]
    for i in range(slots.size):
        s = slots[i]
        first = _unmix(key[s, 0]) ^ _fold(key, s, seed)
        rd[i] = key[s, rd_word] if rd_word >= 0 else np.uint64(0)
        path_id[i], hi[i], lo[i], plen[i], nlri[i] = 0, 0, 0, 0, 0
        if kind == 0:
            lo[i] = first >> np.uint64(8) | np.uint64(0xFFFF00000000)
            plen[i] = first & np.uint64(0xFF)
            if path_word >= 0:
                path_id[i] = key[s, path_word]
        elif kind == 1:
            hi[i], lo[i] = first, key[s, 1]
            plen[i] = key[s, 2] & np.uint64(0xFF)
            path_id[i] = key[s, 2] >> np.uint64(8)
        else:
            nlri[i] = first & np.uint64(0xFFFFFFFF)
            path_id[i] = first >> np.uint64(32)


@njit(cache=True, nogil=True, inline="always")
def _seek(key: U64, i: Word, size: Word, words: U64, attributes: U32) -> Word:
    """The slot of key i, or -1 - the slot that it belongs into."""
    first = key[i, 0]
    s = _home(first, size)
    while words[s, 0] < first:
        s += 1
    while words[s, 0] == first and attributes[s] != np.uint32(0xFFFFFFFF):
        same = True
        for w in range(1, key.shape[1]):
            same &= words[s, w] == key[i, w]
        if same:
            return s
        s += 1
    return np.int64(-1) - s


@njit(cache=True, nogil=True)
def seek_many(key: U64, size: Word, words: U64, attributes: U32, slots: I64) -> None:
    """Slots (n,) of stored keys (n, words), -1 where there is no such row."""
    for i in range(key.shape[0]):
        slots[i] = max(np.int64(-1), _seek(key, i, size, words, attributes))


@njit(cache=True, nogil=True, inline="always")
def _copy(source: U64, s: Word, target: U64, t: Word) -> None:
    """Copy a key."""
    target[t, 0] = source[s, 0]
    if source.shape[1] > 1:
        # A loop alone would be made one for many words, which costs the most for the usual one.
        for w in range(1, source.shape[1]):
            target[t, w] = source[s, w]


@njit(cache=True, nogil=True, inline="always")
def _open(s: Word, words: U64, attributes: U32, marks: U8, labels: U64) -> Word:
    """Make slot s free by moving rows up by one; returns 0 if that needs the last slot."""
    end = s
    while attributes[end] != np.uint32(0xFFFFFFFF):
        end += 1
    if end + 1 >= attributes.size:
        return 0
    for t in range(end, s, -1):
        _copy(words, t - 1, words, t)
        attributes[t] = attributes[t - 1]
        marks[t] = marks[t - 1]
    if labels.size:
        for t in range(end, s, -1):
            labels[t] = labels[t - 1]
    return 1


@njit(cache=True, nogil=True, inline="always")
def _free(s: Word, words: U64, attributes: U32) -> None:
    words[s, 0] = np.uint64(0xFFFFFFFFFFFFFFFF)
    attributes[s] = np.uint32(0xFFFFFFFF)


@njit(cache=True, nogil=True, inline="always")
def _close(s: Word, size: Word, words: U64, attributes: U32, marks: U8, labels: U64) -> None:
    """Take out the row at slot s: rows after it that are not at home move down by one."""
    t = s + 1
    while attributes[t] != np.uint32(0xFFFFFFFF) and _home(words[t, 0], size) < t:
        _copy(words, t, words, t - 1)
        attributes[t - 1] = attributes[t]
        marks[t - 1] = marks[t]
        if labels.size:
            labels[t - 1] = labels[t]
        t += 1
    _free(t - 1, words, attributes)


@njit(cache=True, nogil=True)
def update(
    key: U64,
    begin: Word,
    most: Word,
    rows: I64,
    action: U8,
    new: U32,
    new_labels: U64,
    mark: Word,
    words: U64,
    attributes: U32,
    marks: U8,
    labels: U64,
    log: U64,
    state: I64,
    previous: U32,
    previous_labels: U64,
) -> Word:
    """Announce (action 0) and withdraw (1) the routes of stored keys (n, words), in order, from
    number `begin` on; returns the number that it stopped at because the table has `most` rows or no
    room at the place where the row belongs, or n.

    `rows` (n,) are rows of `action`, `new` attributes and `new_labels`. What was there before goes
    to `previous` and `previous_labels` (n,). `labels` is empty for families without.
    """
    count, size, logged, room = state[0], state[1], state[3], log.shape[0]
    width, labelled, changes = words.shape[1], labels.size > 0, 0
    stop = rows.size
    for i in range(begin, rows.size):
        if i + AHEAD < rows.size:
            s = _home(key[i + AHEAD, 0], size)
            prefetch(words, s * width)
            prefetch(attributes, s)
            prefetch(marks, s)
        r = rows[i]
        previous[i], previous_labels[i] = np.uint32(0xFFFFFFFF), 0
        if action[r] > 1:
            continue
        s = _seek(key, i, size, words, attributes)
        there = s >= 0
        if there:
            previous[i] = attributes[s]
            if labelled:
                previous_labels[i] = labels[s]
        if action[r] == 1:
            if not there:
                continue
            _close(s, size, words, attributes, marks, labels)
            count -= 1
        else:
            if not there:
                s = np.int64(-1) - s
                if count >= most or not _open(s, words, attributes, marks, labels):
                    stop = i
                    break
                count += 1
                _copy(key, i, words, s)
            marks[s] = mark
            same = there and attributes[s] == new[r]
            attributes[s] = new[r]
            if labelled:
                same &= labels[s] == new_labels[r]
                labels[s] = new_labels[r]
            if same:
                continue
        changes += 1
        if logged < room:
            _copy(key, i, log, logged)
        logged += 1
    # A full log stays at one more than it holds.
    state[0], state[2], state[3] = count, state[2] + changes, min(logged, room + 1)
    return stop


@njit(cache=True, nogil=True)
def push_up(end: Word, kept: U8, words: U64, attributes: U32, marks: U8, labels: U64) -> Word:
    """Move the rows below slot `end` whose mark is in `kept` (256,) to the last slots, in their
    order, and drop the others; returns the first slot taken.
    """
    target = np.int64(attributes.size - 1)
    for s in range(end - 1, -1, -1):
        # What is not kept is copied as well, to where the next row goes: cheaper than a branch.
        there = (attributes[s] != np.uint32(0xFFFFFFFF)) & (kept[marks[s]] != 0)
        _copy(words, s, words, target)
        attributes[target] = attributes[s]
        marks[target] = marks[s]
        if labels.size:
            labels[target] = labels[s]
        target -= there
    return target + 1


@njit(cache=True, nogil=True)
def extent(begin: Word, size: Word, words: U64) -> Word:
    """Slots that the rows from slot `begin` on will take when they are spread over `size`, the free
    one at the end included.
    """
    last = np.int64(-1)
    for s in range(begin, words.shape[0]):
        last = max(last + 1, _home(words[s, 0], size))
    return last + 2


@njit(cache=True, nogil=True)
def spread(begin: Word, size: Word, words: U64, attributes: U32, marks: U8, labels: U64) -> Word:
    """Put the rows that fill the slots from `begin` on to where they belong in a table of `size`,
    which has room for them; returns the slots taken as `extent` does.

    In place: if the last row has room, no row comes to stand behind where it comes from.
    """
    end, free = np.int64(0), np.int64(0)
    for s in range(begin, attributes.size):
        target = max(end, _home(words[s, 0], size))
        for t in range(free, target):
            _free(t, words, attributes)
        _copy(words, s, words, target)
        attributes[target] = attributes[s]
        marks[target] = marks[s]
        if labels.size:
            labels[target] = labels[s]
        end = free = target + 1
        if end + 4 <= s:
            # A gap is seldom wider, and this costs less than to find out how wide it is.
            _free(end, words, attributes)
            _free(end + 1, words, attributes)
            _free(end + 2, words, attributes)
            _free(end + 3, words, attributes)
            free = end + 4
    for t in range(end, attributes.size):
        _free(t, words, attributes)
    return end + 1


@njit(cache=True, nogil=True)
def occupied(attributes: U32, slots: I64) -> Word:
    """The slots that hold rows; returns how many."""
    n = 0
    for s in range(attributes.size):
        if attributes[s] != np.uint32(0xFFFFFFFF):
            slots[n] = s
            n += 1
    return n


@njit(cache=True, nogil=True)
def mark_live(attributes: U32, live: npt.NDArray[np.bool_]) -> None:
    """Set live[id] for each attribute id in use."""
    for s in range(attributes.size):
        if attributes[s] != np.uint32(0xFFFFFFFF):
            live[attributes[s]] = True


@njit(cache=True, nogil=True)
def renumber(attributes: U32, remap: U32) -> None:
    """Replace each attribute id in use by remap[id]."""
    for s in range(attributes.size):
        if attributes[s] != np.uint32(0xFFFFFFFF):
            attributes[s] = remap[attributes[s]]


@njit(cache=True, nogil=True, inline="always")
def _mask(length: Word) -> Word:
    """The upper `length` (0 to 64) bits of a word."""
    if length <= 0:
        return np.uint64(0)
    return np.uint64(0xFFFFFFFFFFFFFFFF) << np.uint64(64 - length)


@njit(cache=True, nogil=True, inline="always")
def _inside(hi: Word, lo: Word, outer_hi: Word, outer_lo: Word, length: Word) -> Word:
    """Whether an address is in the prefix of `length` bits, of 128."""
    return (((hi ^ outer_hi) & _mask(min(length, 64))) == 0) & (
        ((lo ^ outer_lo) & _mask(max(length - 64, 0))) == 0
    )


@njit(cache=True, nogil=True)
def select(
    layout: I64,
    seed: Word,
    words: U64,
    attributes: U32,
    scope: Word,
    hi: Word,
    lo: Word,
    plen: Word,
    slots: I64,
) -> Word:
    """The slots whose prefix is in `scope` of the given one (all by words; `slots` as large as the
    table); returns how many.
    """
    v4 = layout[0] == 0
    above = np.int64(96) if v4 else np.int64(0)
    n = 0
    for s in range(attributes.size):
        if attributes[s] == np.uint32(0xFFFFFFFF):
            continue
        first = _unmix(words[s, 0]) ^ _fold(words, s, seed)
        if v4:
            own_hi, own_lo = np.uint64(0), first >> np.uint64(8) | np.uint64(0xFFFF00000000)
            own = np.int64(first & np.uint64(0xFF))
        else:
            own_hi, own_lo = first, words[s, 1]
            own = np.int64(words[s, 2] & np.uint64(0xFF))
        if scope == 0:
            match = (own == plen) & (own_hi == hi) & (own_lo == lo)
        elif scope == 1:
            match = (own >= plen) & _inside(own_hi, own_lo, hi, lo, above + plen)
        else:
            match = (own <= plen) & _inside(hi, lo, own_hi, own_lo, above + own)
        slots[n] = s
        n += match
    return n
