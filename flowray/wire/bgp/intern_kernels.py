"""Compiled passes over sets of path attributes: build, find and compact them.

A store is an `arena` of octets with `offset` (set s is ``arena[offset[s] : offset[s + 1]]``) and a
table of `slots` with open addressing: a power of two of words, hash << 32 | id, 0 where free. The
arena has WORD octets to spare behind what it holds, so that sets are read by words.
"""

from __future__ import annotations

import numpy as np

from flowray.wire import octets
from flowray.wire.bgp.kernels import Bytes, Ints, Mask, Words, Words32, kernel

WORD = 8
HEADER = 2
"""Octets before the next hop of a canonical set: flags, and how long the next hop is."""
FOUR_OCTETS = 1
MOST_ADDED = HEADER + 32
"""By how many octets a set may exceed the attributes that it was made of."""

_LOW = np.uint64(0xFFFFFFFF)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@kernel
def _copy(source: Bytes, pos: int, end: int, target: Bytes, to: int) -> int:
    """Copy octets; returns where the copy ends. Unsigned indices, so that it is done by vectors."""
    for k in range(end - pos):
        target[np.uint64(to + k)] = source[np.uint64(pos + k)]
    return to + end - pos


@kernel
def assemble(
    buf: Bytes, runs: Ints, count: int, hop: int, hop_size: int, four: int, arena: Bytes, to: int
) -> int:
    """Write a canonical set to `to` of the arena; returns its end. A next hop of `hop_size` octets
    stands at `hop`; those of 12, 24 and 48 have a route distinguisher before each address.
    """
    start = to
    arena[to] = FOUR_OCTETS if four else 0
    to += HEADER
    if hop_size == 48:
        to = _copy(buf, hop + 8, hop + 24, arena, to)
        to = _copy(buf, hop + 32, hop + 48, arena, to)
    else:
        front = 8 if hop_size == 12 or hop_size == 24 else 0
        to = _copy(buf, hop + front, hop + hop_size, arena, to)
    arena[start + 1] = to - start - HEADER
    for r in range(count):
        to = _copy(buf, runs[r, 0], runs[r, 1], arena, to)
    return to


@kernel
def _remainder(arena: Bytes, pos: int, end: int) -> np.uint64:
    """Fewer than WORD octets, as the top of a word; none is zero."""
    left = end - pos
    if left == 0:
        return np.uint64(0)
    return np.uint64(octets.u64(arena, pos) >> np.uint64(64 - 8 * left))


@kernel
def _hash(arena: Bytes, pos: int, end: int, seed: np.uint64) -> np.uint64:
    """Hash of a set, 32 bits."""
    h = seed ^ np.uint64(end - pos)
    while end - pos >= WORD:
        h = (h ^ octets.u64(arena, pos)) * _FACTOR
        h ^= h >> np.uint64(29)
        pos += WORD
    h = (h ^ _remainder(arena, pos, end)) * _FACTOR
    h ^= h >> np.uint64(32)
    return (h * _FACTOR) >> np.uint64(32)


@kernel
def _same(arena: Bytes, a: int, b: int, size: int) -> bool:
    """Whether sets of equal size at a and b are equal."""
    while size >= WORD:
        if octets.u64(arena, a) != octets.u64(arena, b):
            return False
        a += WORD
        b += WORD
        size -= WORD
    return bool(_remainder(arena, a, a + size) == _remainder(arena, b, b + size))


@kernel
def intern_tail(
    arena: Bytes, offset: Ints, slots: Words, stored: Ints, end: int, seed: np.uint64
) -> int:
    """The id of the set that stands between the last stored one and `end`; it is kept if it is new.

    stored = [sets]. There is a free slot, and room in `offset` for one more.
    """
    count = stored[0]
    pos = offset[count]
    if end == pos:
        return 0
    mask = np.uint64(slots.size - 1)
    tag = _hash(arena, pos, end, seed)
    s = tag & mask
    while slots[s] != 0:
        if slots[s] >> np.uint64(32) == tag:
            found = np.int64(slots[s] & _LOW)
            size = offset[found + 1] - offset[found]
            if size == end - pos and _same(arena, offset[found], pos, size):
                return int(found)
        s = (s + np.uint64(1)) & mask
    slots[s] = tag << np.uint64(32) | np.uint64(count)
    offset[count + 1] = end
    stored[0] = count + 1
    return int(count)


@kernel
def rehash(old: Words, slots: Words) -> None:
    """Put the sets of a table into another one, which is empty and has room for them."""
    mask = np.uint64(slots.size - 1)
    for k in range(old.size):
        if old[k] != 0:
            s = (old[k] >> np.uint64(32)) & mask
            while slots[s] != 0:
                s = (s + np.uint64(1)) & mask
            slots[s] = old[k]


@kernel
def has_room(
    arena: Bytes, offset: Ints, slots: Words, stored: Ints, octets_more: int, sets_more: int
) -> bool:
    """Whether so many sets of so many octets together can be added."""
    count = stored[0] + sets_more
    if count + 1 > offset.size or 4 * count > 3 * slots.size:
        return False
    return bool(offset[stored[0]] + octets_more + WORD <= arena.size)


@kernel
def intern_many(
    buf: Bytes,
    start: Ints,
    size: Ints,
    begin: int,
    arena: Bytes,
    offset: Ints,
    slots: Words,
    stored: Ints,
    seed: np.uint64,
    ids: Words32,
) -> int:
    """Ids of canonical sets in `buf` from row `begin` on; returns the row that found no room."""
    for i in range(begin, start.size):
        if not has_room(arena, offset, slots, stored, size[i], 1):
            return i
        end = _copy(buf, start[i], start[i] + size[i], arena, offset[stored[0]])
        ids[i] = intern_tail(arena, offset, slots, stored, end, seed)
    return int(start.size)


@kernel
def keep_live(
    arena: Bytes, offset: Ints, live: Mask, to_arena: Bytes, to_offset: Ints, remap: Words32
) -> int:
    """Copy the sets that are `live` to another arena, numbered anew in their order; returns how
    many there are, set 0 included. `remap` holds zeros before.
    """
    count = 1
    for s in range(1, live.size):
        if live[s]:
            end = _copy(arena, offset[s], offset[s + 1], to_arena, to_offset[count])
            to_offset[count + 1] = end
            remap[s] = count
            count += 1
    return count


@kernel
def rename(old: Words, remap: Words32, slots: Words) -> None:
    """As `rehash`, with the ids that `keep_live` gave, and without the sets that it left out."""
    mask = np.uint64(slots.size - 1)
    for k in range(old.size):
        name = np.uint64(remap[old[k] & _LOW])
        if name != 0:
            s = (old[k] >> np.uint64(32)) & mask
            while slots[s] != 0:
                s = (s + np.uint64(1)) & mask
            slots[s] = (old[k] & ~_LOW) | name
