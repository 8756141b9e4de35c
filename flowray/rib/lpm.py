"""Longest-prefix match for columns of addresses.

Prefixes, sorted, become disjoint intervals of addresses: what contains what is settled once, and a
look-up is a search for the last interval that begins at or before an address, within the few that
an index by the upper bits of the address leaves. A `Forest` has many such tables in the same flat
arrays, which may be mapped read-only from elsewhere.

Addresses are pairs of words, IPv4 as v4-mapped (as in `flowray.wire.packets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.rib import lpm_kernels as kernels

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Low: TypeAlias = npt.NDArray[Any]
Lines: TypeAlias = npt.NDArray[Any]

MISSING = int(kernels.MISSING)
"""Payload of an address that no prefix contains; in changes, that a prefix is gone."""

LINES_IN_BUCKET = 8
_ROW_BITS = 24


@dataclass(frozen=True, slots=True, eq=False)
class Prefixes:
    """Prefixes of one version of IP (4 or 6), each once, by address and then length.

    `lo` is (n,) uint32 and `hi` (0,) for IPv4, both (n,) uint64 for IPv6; `plen` (n,) uint8,
    `payload` (n,) uint32: what a look-up answers with.
    """

    version: int
    hi: U64
    lo: Low
    plen: U8
    payload: U32

    def __len__(self) -> int:
        return len(self.plen)

    @property
    def wide(self) -> bool:
        """Whether addresses have two words."""
        return self.version == 6

    @classmethod
    def of(cls, version: int, hi: U64, lo: U64, plen: U8, payload: U32) -> Self:
        """Sort prefixes (n,), whose host bits are zero. Of equal prefixes the first counts."""
        order = _order_6(hi, lo, plen) if version == 6 else _order_4(lo, plen)
        out = _room(version, len(plen))
        n = kernels.gather(version == 6, order, hi, lo, plen, payload, *out)
        return cls(version, *_head(out, n))

    def merge(self, changes: Prefixes) -> Prefixes:
        """These prefixes with others added, replaced, or taken away where the payload is MISSING;
        in linear time.
        """
        out = _room(self.version, len(self) + len(changes))
        n = kernels.merge(self.wide, *self._columns, *changes._columns, *out)
        return Prefixes(self.version, *_head(out, n))

    @property
    def _columns(self) -> tuple[U64, Low, U8, U32]:
        return self.hi, self.lo, self.plen, self.payload

    def intervals(self) -> Intervals:
        """The table to look addresses up in; in linear time."""
        hi, lo, plen, payload = _room(self.version, 2 * len(self) + 1)
        n = kernels.sweep(self.wide, *self._columns, hi, lo, payload, plen)
        if self.wide:
            step = kernels.IN_LINE_6
            lines: Lines = np.empty((-(-n // step), 8), np.uint64)
            kernels.fill_lines_6(hi[:n], lo[:n], payload[:n], plen[:n], lines)
        else:
            step = kernels.IN_LINE_4
            lines = np.empty((-(-n // step), 16), np.uint32)
            kernels.fill_lines_4(lo[:n], payload[:n], plen[:n], lines)
        first = (hi if self.wide else lo)[:n:step].astype(np.uint64)
        low = lo[:n:step].astype(np.uint64)
        origin, last, shift = _window(first)
        buckets = np.empty(((last - origin) >> shift) + 1, np.uint64)
        window = np.uint64(origin), np.uint64(shift)
        index = np.empty(kernels.plan_index(first, *window, buckets), np.uint32)
        kernels.fill_index(self.wide, *window, buckets, first, low, index)
        return Intervals(self.version, n, lines.reshape(-1), buckets, index, origin, last, shift)


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """`count` disjoint intervals of addresses, from address 0 on without gaps: where each begins,
    and the answer to a look-up.

    They stand in `lines` of 64 octets (flat; uint32 for IPv4, uint64 for IPv6), laid out as
    `lpm_kernels.fill_lines_4` and `fill_lines_6` tell. Addresses from `origin` to `last`, of IPv6
    their high words, are in `buckets` (uint64) of ``1 << shift`` each, which are parted as densely
    as lines begin in them; `index` (uint32) has a line for each part. See `plan_index`.
    """

    version: int
    count: int
    lines: Lines
    buckets: U64
    index: U32
    origin: int
    last: int
    shift: int

    def __len__(self) -> int:
        return self.count

    @property
    def nbytes(self) -> int:
        """Octets that lines and index take."""
        return self.lines.nbytes + self.buckets.nbytes + self.index.nbytes


def build(version: int, hi: U64, lo: U64, plen: U8, payload: U32) -> Intervals:
    """A table of prefixes (n,) of one version, 4 or 6, whose host bits are zero. Of equal prefixes
    the first counts.
    """
    return Prefixes.of(version, hi, lo, plen, payload).intervals()


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Many tables in flat arrays: number *t* is the *t*-th pair that `of` was given.

    Lines of all tables follow one another, and so do their indexes. `tables_4` and `tables_6`,
    (t + 1, 6) uint64, tell where each begins; their first row is an empty table.
    """

    tables_4: U64
    buckets_4: U64
    index_4: U32
    lines_4: U32
    tables_6: U64
    buckets_6: U64
    index_6: U32
    lines_6: U64

    @classmethod
    def of(cls, tables: Sequence[tuple[Intervals | None, Intervals | None]]) -> Self:
        """Put tables together, each of IPv4 and of IPv6; one may be missing."""
        four = _join(4, [pair[0] for pair in tables])
        six = _join(6, [pair[1] for pair in tables])
        return cls(*four, *six)

    def __len__(self) -> int:
        return len(self.tables_4) - 1

    def part(self, number: int, table: Intervals) -> Intervals:
        """Table `number`, which is made of these intervals, within the arrays of the forest."""
        four = table.version == 4
        begin = (self.tables_4 if four else self.tables_6)[number + 1].tolist()
        buckets = (self.buckets_4 if four else self.buckets_6)[begin[kernels.T_BUCKETS] :]
        index = (self.index_4 if four else self.index_6)[begin[kernels.T_INDEX] :]
        lines: Lines = self.lines_4 if four else self.lines_6
        lines = lines[begin[kernels.T_LINES] * _line_words(table.version) :]
        return replace(
            table,
            buckets=buckets[: len(table.buckets)],
            index=index[: len(table.index)],
            lines=lines[: len(table.lines)],
        )

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, for `from_arrays` in another process."""
        return {column.name: getattr(self, column.name) for column in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The forest whose `arrays` these are; they are used as they are, and only read."""
        return cls(**arrays)

    @property
    def nbytes(self) -> int:
        """Octets that the arrays take."""
        return sum(array.nbytes for array in self.arrays.values())


def look_up(forest: Forest, table: I64, hi: U64, lo: U64) -> tuple[U32, U8]:
    """Payload (n,) uint32 and length (n,) uint8 of the longest prefix that contains each address
    (n,), v4-mapped ones in the IPv4 table.

    `table` (n,) int64 numbers tables of the forest. MISSING and 0 where there is no such prefix or
    no such table.
    """
    payload, plen = np.empty(len(table), np.uint32), np.empty(len(table), np.uint8)
    kernels.look_up(
        table, hi, lo,
        forest.tables_4, forest.buckets_4, forest.index_4, forest.lines_4,
        forest.tables_6, forest.buckets_6, forest.index_6, forest.lines_6,
        payload, plen,
    )  # fmt: skip
    return payload, plen


def _join(version: int, tables: Sequence[Intervals | None]) -> tuple[U64, U64, U32, Lines]:
    """The half of a forest that is of one version of IP: tables, buckets, index, lines."""
    empty = Prefixes(version, *_room(version, 0)).intervals()
    parts = [empty, *(table for table in tables if table is not None)]
    words = _line_words(version)
    rows = np.zeros((len(parts), 6), np.uint64)
    rows[:, kernels.T_ORIGIN] = [part.origin for part in parts]
    rows[:, kernels.T_LAST] = [part.last for part in parts]
    rows[:, kernels.T_SHIFT] = [part.shift for part in parts]
    rows[1:, kernels.T_BUCKETS] = np.cumsum([len(part.buckets) for part in parts])[:-1]
    rows[1:, kernels.T_INDEX] = np.cumsum([len(part.index) for part in parts])[:-1]
    rows[1:, kernels.T_LINES] = np.cumsum([len(part.lines) // words for part in parts])[:-1]
    there = np.array([False, *(table is not None for table in tables)])
    return (
        rows[np.where(there, np.cumsum(there), 0)],
        np.concatenate([part.buckets for part in parts]),
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.lines for part in parts]),
    )


def _line_words(version: int) -> int:
    """Elements of `Intervals.lines` in a line."""
    return 8 if version == 6 else 16


def _room(version: int, n: int) -> tuple[U64, Low, U8, U32]:
    """Columns hi, lo, plen, payload of `Prefixes`, not filled."""
    return (
        np.empty(n if version == 6 else 0, np.uint64),
        np.empty(n, np.uint64 if version == 6 else np.uint32),
        np.empty(n, np.uint8),
        np.empty(n, np.uint32),
    )


def _head(columns: tuple[U64, Low, U8, U32], n: int) -> tuple[U64, Low, U8, U32]:
    """The first n rows."""
    hi, lo, plen, payload = columns
    return hi[:n], lo[:n], plen[:n], payload[:n]


def _order_4(lo: U64, plen: U8) -> I64:
    """Rows by address, then length, then number."""
    key = (lo & np.uint64(0xFFFFFFFF)) << np.uint64(8) | plen
    if len(key) >> _ROW_BITS:
        return np.argsort(key, kind="stable")
    # Numbers are sorted several times as fast as indexes to them, so the row goes along.
    key <<= np.uint64(_ROW_BITS)
    key |= np.arange(len(key), dtype=np.uint64)
    key.sort()
    key &= np.uint64((1 << _ROW_BITS) - 1)
    return key.view(np.int64)


def _order_6(hi: U64, lo: U64, plen: U8) -> I64:
    """As `_order_4`."""
    return np.lexsort((plen, lo, hi))


def _window(first: U64) -> tuple[int, int, int]:
    """First and last address of an index for lines that begin at `first` (n,), from the second line
    to the last, and the bits that a bucket leaves out: a bucket for some lines.
    """
    origin, last = int(first[min(1, len(first) - 1)]), int(first[-1])
    bits = (len(first) // LINES_IN_BUCKET).bit_length()
    return origin, last, min(max(0, (last - origin).bit_length() - bits), 63)
