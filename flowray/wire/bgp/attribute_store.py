"""Sets of path attributes, each stored once and known by a number.

A set is kept as canonical octets: flags (bit 0: AS numbers in AS_PATH and AGGREGATOR have four
octets); octets of the next hop, 0, 4, 16 or 32 (global and link-local address); the next hop; the
path attributes as they came, without NEXT_HOP, MP_REACH_NLRI, MP_UNREACH_NLRI and what RFC 7606
discards. The route distinguisher before the next hop of a VPN route is left out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from flowray.wire.bgp.describe_kernels import describe
from flowray.wire.bgp.events import I64, U8, U32, U64
from flowray.wire.bgp.intern_kernels import WORD, has_room, intern_many, keep_live, rehash, rename

_SETS, _SLOTS, _OCTETS = 64, 128, 4096

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(slots=True)
class AttributeColumns:
    """What is asked most of attributes, a row per set, (n,) each.

    - `origin_as` uint32: the last AS of the path, confederation segments left out; 0 if the path is
      empty or ends in an AS_SET
    - `peer_as` uint32: the first AS of the path; 0 if it is empty or begins with a set
    - `peer_as_skip_confed` uint32: as `peer_as`, confederation segments left out
    - `next_hop_hi`, `next_hop_lo` uint64: the (global) next hop, IPv4 as v4-mapped
    - `local_pref`, `med` uint32
    - `present` uint8: which of those are there, as bits `describe_kernels.HAS_…`
    """

    origin_as: U32
    peer_as: U32
    peer_as_skip_confed: U32
    next_hop_hi: U64
    next_hop_lo: U64
    local_pref: U32
    med: U32
    present: U8

    @classmethod
    def empty(cls, rows: int) -> AttributeColumns:
        """Columns of zeros."""
        return cls(
            origin_as=np.zeros(rows, np.uint32),
            peer_as=np.zeros(rows, np.uint32),
            peer_as_skip_confed=np.zeros(rows, np.uint32),
            next_hop_hi=np.zeros(rows, np.uint64),
            next_hop_lo=np.zeros(rows, np.uint64),
            local_pref=np.zeros(rows, np.uint32),
            med=np.zeros(rows, np.uint32),
            present=np.zeros(rows, np.uint8),
        )

    @property
    def arrays(self) -> tuple[U32, U32, U32, U64, U64, U32, U32, U8]:
        """The columns, in the order of `describe`."""
        return (
            self.origin_as, self.peer_as, self.peer_as_skip_confed, self.next_hop_hi,
            self.next_hop_lo, self.local_pref, self.med, self.present,
        )  # fmt: skip

    def each(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> AttributeColumns:
        """Columns made of these."""
        columns: tuple[Any, ...] = self.arrays
        return AttributeColumns(*map(change, columns))


class AttributeStore:
    """Canonical attribute sets by id, in order of first sight; id 0 is the empty set.

    Ids stay until `compact`, which the owner calls with the sets that routes still refer to: the
    store alone forgets nothing. Not for several threads at once.
    """

    def __init__(self) -> None:
        self._arena: U8 = np.zeros(_OCTETS, np.uint8)
        self._offset: I64 = np.zeros(_SETS, np.int64)
        self._slots: U64 = np.zeros(_SLOTS, np.uint64)
        self._stored: I64 = np.array([1], np.int64)
        self._described = 1
        self._columns = AttributeColumns.empty(1)
        # A secret seed keeps a sender from choosing attributes that collide.
        self.seed = np.uint64(secrets.randbits(64))

    def __len__(self) -> int:
        """Sets in use, the empty one included."""
        return int(self._stored[0])

    def __getitem__(self, index: int) -> bytes:
        """Canonical octets of a set; raises IndexError for an id never given."""
        if not 0 <= index < len(self):
            raise IndexError(f"attribute set: found {index}, allowed 0 to {len(self) - 1}")
        return self._arena[self._offset[index] : self._offset[index + 1]].tobytes()

    @property
    def arena(self) -> U8:
        """The octets of all sets, one after another."""
        return self._arena[: self._offset[len(self)]]

    @property
    def offset(self) -> I64:
        """(n + 1,) where sets begin in `arena`."""
        return self._offset[: len(self) + 1]

    @property
    def nbytes(self) -> int:
        """Octets of memory that are allocated, in use or not."""
        columns = sum(column.nbytes for column in self._columns.arrays)
        return self._arena.nbytes + self._offset.nbytes + self._slots.nbytes + columns

    @property
    def tables(self) -> tuple[U8, I64, U64, I64]:
        """What compiled passes add to: arena, offset, slots, [number of sets]."""
        return self._arena, self._offset, self._slots, self._stored

    def reserve(self, octets: int, sets: int) -> None:
        """Make room for so many more octets and sets; what is too small at least doubles."""
        count = len(self)
        if has_room(*self.tables, octets, sets):
            return
        used = int(self._offset[count])
        self._arena = _grown(self._arena, used, used + octets + WORD)
        self._offset = _grown(self._offset, count + 1, count + sets + 1)
        slots = self._slots.size
        while 4 * (count + sets) > 3 * slots:
            slots *= 2
        if slots > self._slots.size:
            old, self._slots = self._slots, np.zeros(slots, np.uint64)
            rehash(old, self._slots)

    def intern(self, buf: U8, start: I64, length: I64) -> U32:
        """Ids of canonical sets ``buf[start[i] : start[i] + length[i]]``, as of a table dump.

        Raises ValueError for a set that is not within `buf`.
        """
        if start.size and not bool(((start >= 0) & (length >= 0)).all()):
            raise ValueError("attribute sets: found a negative place, allowed 0 and more")
        if start.size and int((start + length).max()) > buf.size:
            raise ValueError(f"attribute sets: found one that ends behind {buf.size} octets")
        ids = np.empty(start.size, np.uint32)
        begin = 0
        while begin < start.size:
            self.reserve(int(length[begin]), 1)
            begin = intern_many(buf, start, length, begin, *self.tables, self.seed, ids)
        return ids

    def columns(self) -> AttributeColumns:
        """Columns of all sets, (len,) each; those of sets described before are not made anew.

        They are views, good until sets are added or compacted.
        """
        count = len(self)
        had = self._columns.present.size
        if count > had:
            room = max(count, 2 * had)
            self._columns = self._columns.each(lambda column: _grown(column, had, room))
        describe(self._arena, self._offset, self._described, count, *self._columns.arrays)
        self._described = count
        return self._columns.each(lambda column: column[:count])

    def compact(self, live: npt.NDArray[np.bool_]) -> U32:
        """Forget the sets that are not `live` (len,); returns by old id the new one, (len,) uint32,
        0 for what is gone. The empty set stays. Raises ValueError if `live` has another length.
        """
        count = len(self)
        if live.size != count:
            raise ValueError(f"live sets: found {live.size} flags, allowed {count}")
        kept = live.copy()
        kept[0] = True
        size = np.diff(self.offset)
        sets = int(kept.sum())
        arena = np.zeros(max(_OCTETS, int(size[kept].sum()) + WORD), np.uint8)
        offset = np.zeros(max(_SETS, sets + 1), np.int64)
        remap = np.zeros(count, np.uint32)
        self._stored[0] = keep_live(self._arena, self._offset, kept, arena, offset, remap)
        slots = _SLOTS
        while 4 * sets > 3 * slots:
            slots *= 2
        old, self._slots = self._slots, np.zeros(slots, np.uint64)
        rename(old, remap, self._slots)
        self._arena, self._offset = arena, offset
        described = kept[: self._described]
        self._columns = self._columns.each(lambda column: column[: described.size][described])
        self._described = int(described.sum())
        return remap


def _grown(array: npt.NDArray[_Number], used: int, need: int) -> npt.NDArray[_Number]:
    """The array, or one of at least twice its size with its first `used` items."""
    if need <= array.size:
        return array
    grown = np.zeros(max(need, 2 * array.size), array.dtype)
    grown[:used] = array[:used]
    return grown
