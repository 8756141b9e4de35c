"""Hash tables over columns: `Index` maps pairs of words to a word, `Interner` maps byte strings to
dense ids.

Both are open-addressing tables in numpy arrays, so that compiled loops read and write them; Python
only grows them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]

Word: TypeAlias = Any
"""A scalar in compiled code, whose width and sign numba infers and no Python type tells."""

MISSING = np.uint64(0xFFFFFFFFFFFFFFFF)
"""What `Index.get` answers for a key that it lacks; never a stored value."""

IDLE, TOUCHED = 1, 3
"""Marks of a used slot: a key that was touched in this period ages to 2 in the next, then to idle.
"""


@njit(cache=True, nogil=True, inline="always")
def mix(a: Word, b: Word) -> Word:
    """Hash two words to one (xor-multiply-shift, good in the low bits)."""
    h = (a ^ np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(32)
    h = (h ^ b) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(29))


@njit(cache=True, nogil=True)
def index_put(keys: U64, values: U64, used: Bytes, a: Word, b: Word, value: Word) -> Word:
    """Store one value; returns 1 if the key is new. The table must have a free slot."""
    mask = used.size - 1
    s = np.int64(mix(a, b) & np.uint64(mask))
    while used[s]:
        if keys[s, 0] == a and keys[s, 1] == b:
            values[s] = value
            return 0
        s = (s + 1) & mask
    used[s] = IDLE
    keys[s, 0], keys[s, 1], values[s] = a, b, value
    return 1


@njit(cache=True, nogil=True, inline="always")
def index_get(keys: U64, values: U64, used: Bytes, a: Word, b: Word) -> Word:
    """The value of one key, or MISSING."""
    mask = used.size - 1
    s = np.int64(mix(a, b) & np.uint64(mask))
    while used[s]:
        if keys[s, 0] == a and keys[s, 1] == b:
            return values[s]
        s = (s + 1) & mask
    return np.uint64(0xFFFFFFFFFFFFFFFF)


@njit(cache=True, nogil=True, inline="always")
def index_slot(keys: U64, used: Bytes, a: Word, b: Word) -> Word:
    """The slot of one key, or -1."""
    mask = used.size - 1
    s = np.int64(mix(a, b) & np.uint64(mask))
    while used[s]:
        if keys[s, 0] == a and keys[s, 1] == b:
            return s
        s = (s + 1) & mask
    return np.int64(-1)


@njit(cache=True, nogil=True, inline="always")
def index_touch(keys: U64, values: U64, used: Bytes, a: Word, b: Word) -> Word:
    """As `index_get`; a key that is there counts as used."""
    s = index_slot(keys, used, a, b)
    if s < 0:
        return np.uint64(0xFFFFFFFFFFFFFFFF)
    used[s] = TOUCHED
    return values[s]


@njit(cache=True, nogil=True)
def index_get_many(keys: U64, values: U64, used: Bytes, a: U64, b: U64, out: U64) -> None:
    """out[i] = value of (a[i], b[i]) or MISSING; a run of equal keys is looked up once."""
    for i in range(a.size):
        if i > 0 and a[i] == a[i - 1] and b[i] == b[i - 1]:
            out[i] = out[i - 1]
        else:
            out[i] = index_get(keys, values, used, a[i], b[i])


@njit(cache=True, nogil=True)
def _index_copy(keys: U64, values: U64, used: Bytes, k2: U64, v2: U64, u2: Bytes) -> None:
    for s in range(used.size):
        if used[s]:
            index_put(k2, v2, u2, keys[s, 0], keys[s, 1], values[s])
            u2[index_slot(k2, u2, keys[s, 0], keys[s, 1])] = used[s]


class Index:
    """A map from pairs of uint64 to a uint64, read by compiled loops through `.arrays`."""

    def __init__(self, capacity: int = 64) -> None:
        size = 1 << max(4, (capacity * 2 - 1).bit_length())
        self._allocate(size)
        self.count = 0

    def _allocate(self, size: int) -> None:
        self.keys: U64 = np.zeros((size, 2), np.uint64)
        self.values: U64 = np.zeros(size, np.uint64)
        self.used: Bytes = np.zeros(size, np.uint8)

    @property
    def arrays(self) -> tuple[U64, U64, Bytes]:
        """What the compiled functions take: keys (size, 2), values (size,), used (size,)."""
        return self.keys, self.values, self.used

    def __len__(self) -> int:
        return self.count

    def items(self) -> tuple[U64, U64]:
        """All keys (count, 2) and their values (count,), in no order."""
        used = self.used != 0
        return self.keys[used], self.values[used]

    def put(self, a: int, b: int, value: int) -> None:
        """Store or overwrite a value."""
        if (self.count + 1) * 2 > self.used.size:
            old = self.arrays
            self._allocate(self.used.size * 2)
            _index_copy(*old, *self.arrays)
        self.count += index_put(*self.arrays, np.uint64(a), np.uint64(b), np.uint64(value))

    def get(self, a: int, b: int) -> int | None:
        """The value of a pair, or None."""
        value = index_get(*self.arrays, np.uint64(a), np.uint64(b))
        return None if value == MISSING else int(value)

    def touch(self, a: int, b: int) -> None:
        """Count a key as used."""
        index_touch(*self.arrays, np.uint64(a), np.uint64(b))

    def idle(self, a: int, b: int) -> bool:
        """Whether a key was touched neither since the last `age` nor in the period before it."""
        slot = int(index_slot(self.keys, self.used, np.uint64(a), np.uint64(b)))
        return slot >= 0 and int(self.used[slot]) == IDLE

    def age(self) -> None:
        """Begin a new period."""
        self.used[self.used > IDLE] -= 1

    def get_many(self, a: U64, b: U64) -> U64:
        """(n,) values, MISSING where a pair is unknown."""
        out = np.empty(a.size, np.uint64)
        index_get_many(*self.arrays, a, b, out)
        return out


@njit(cache=True, nogil=True)
def hash_bytes(buf: Bytes, start: Word, length: Word) -> Word:
    """FNV-1a over a slice, finished with a multiply so that low bits are usable."""
    h = np.uint64(0xCBF29CE484222325)
    for i in range(start, start + length):
        h = (h ^ np.uint64(buf[i])) * np.uint64(0x100000001B3)
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True)
def intern_many(
    buf: Bytes,
    location: U64,
    begin: Word,
    ids: U64,
    arena: Bytes,
    value_offset: I64,
    value_hash: U64,
    slots: I64,
    state: I64,
    limit: Word,
    octets: Word,
) -> Word:
    """Replace locations (offset << 16 | length) by ids from `begin` on; returns the index it
    stopped at for want of room.

    state = [values stored, arena bytes used, strings refused because `limit` values or `octets`
    bytes are stored].
    """
    mask = slots.size - 1
    for i in range(begin, location.size):
        start = np.int64(location[i] >> np.uint64(16))
        length = np.int64(location[i] & np.uint64(0xFFFF))
        if length == 0:
            ids[i] = 0
            continue
        h = hash_bytes(buf, start, length)
        s = np.int64(h & np.uint64(mask))
        found = np.int64(-1)
        while slots[s] >= 0:
            v = slots[s]
            if value_hash[v] == h and value_offset[v + 1] - value_offset[v] == length:
                same = True
                base = value_offset[v]
                for j in range(length):
                    if arena[base + j] != buf[start + j]:
                        same = False
                        break
                if same:
                    found = v
                    break
            s = (s + 1) & mask
        if found < 0:
            count, used = state[0], state[1]
            if count >= limit or used + length > octets:
                state[2] += 1
                ids[i] = 0
                continue
            full = count + 2 > value_offset.size or (count + 1) * 2 > slots.size
            if full or used + length > arena.size:
                return i
            for j in range(length):
                arena[used + j] = buf[start + j]
            value_hash[count] = h
            value_offset[count + 1] = used + length
            slots[s] = count
            state[0], state[1] = count + 1, used + length
            found = count
        ids[i] = np.uint64(found)
    return location.size


@njit(cache=True, nogil=True)
def _rehash(value_hash: U64, count: Word, slots: I64) -> None:
    mask = slots.size - 1
    for v in range(1, count):
        s = np.int64(value_hash[v] & np.uint64(mask))
        while slots[s] >= 0:
            s = (s + 1) & mask
        slots[s] = v


class Interner:
    """Byte strings as dense ids; id 0 is the empty string.

    Bounded: past `limit` values or `octets` bytes every new string becomes the empty one and is
    counted in `refused`.
    """

    def __init__(self, limit: int = 1 << 20, octets: int = 256 << 20) -> None:
        self.limit = limit
        self.octets = octets
        self._arena: Bytes = np.zeros(4096, np.uint8)
        self._offset: I64 = np.zeros(257, np.int64)
        self._hash: U64 = np.zeros(256, np.uint64)
        self._slots: I64 = np.full(512, -1, np.int64)
        self._state: I64 = np.array([1, 0, 0], np.int64)

    def __len__(self) -> int:
        return int(self._state[0])

    @property
    def crowded(self) -> bool:
        """Whether half of a bound is used up: time to begin with an empty one."""
        return bool(2 * self._state[0] > self.limit or 2 * self._state[1] > self.octets)

    @property
    def nbytes(self) -> int:
        """Octets that the strings and the table of them take."""
        columns = (self._arena, self._offset, self._hash, self._slots)
        return sum(column.nbytes for column in columns)

    @property
    def refused(self) -> int:
        """New strings that became the empty one because the limit was reached."""
        return int(self._state[2])

    def intern(self, buf: Bytes, location: U64) -> U64:
        """(n,) ids of slices of `buf`; a location is offset << 16 | length."""
        ids = np.empty(location.size, np.uint64)
        begin = 0
        while True:
            begin = intern_many(
                buf, location, begin, ids, self._arena, self._offset, self._hash, self._slots,
                self._state, self.limit, self.octets,
            )  # fmt: skip
            if begin == location.size:
                return ids
            self._grow(int(location[begin] & np.uint64(0xFFFF)))

    def _grow(self, length: int) -> None:
        count, used = int(self._state[0]), int(self._state[1])
        if used + length > self._arena.size:
            self._arena = np.resize(self._arena, max(self._arena.size * 2, used + length))
        if count + 2 > self._offset.size or (count + 1) * 2 > self._slots.size:
            self._offset = np.resize(self._offset, self._offset.size * 2)
            self._hash = np.resize(self._hash, self._offset.size)
            self._slots = np.full(self._slots.size * 2, -1, np.int64)
            _rehash(self._hash, count, self._slots)

    def add(self, value: bytes) -> int:
        """The id of one string (at most 65,535 bytes; the rest is cut)."""
        raw = np.frombuffer(value[:0xFFFF], np.uint8)
        return int(self.intern(raw, np.array([raw.size], np.uint64))[0])

    def add_all(self, values: Iterable[bytes]) -> U64:
        """Ids of many strings."""
        items = [v[:0xFFFF] for v in values]
        sizes = np.fromiter((len(v) for v in items), np.uint64, len(items))
        offset = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.uint64)
        raw = np.frombuffer(b"".join(items), np.uint8)
        return self.intern(raw, offset << np.uint64(16) | sizes)

    def find(self, value: bytes) -> int | None:
        """The id of a string that was interned before, or None."""
        if not value:
            return 0
        raw = np.frombuffer(value, np.uint8)
        h = hash_bytes(raw, 0, raw.size)
        mask = self._slots.size - 1
        s = int(h) & mask
        while (v := int(self._slots[s])) >= 0:
            if self._hash[v] == h and self[v] == value:
                return v
            s = (s + 1) & mask
        return None

    def __getitem__(self, i: int) -> bytes:
        return self._arena[self._offset[i] : self._offset[i + 1]].tobytes()

    def hashes(self, ids: U64) -> U64:
        """(n,) hashes of the strings, the same in every interner."""
        return self._hash[ids.astype(np.int64)]

    def values(self, ids: npt.NDArray[np.integer]) -> list[bytes]:
        """The strings of (n,) ids."""
        return [self[int(i)] for i in ids]
