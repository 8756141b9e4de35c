"""Longest-prefix match for columns of addresses.

Prefixes, sorted, become disjoint intervals of addresses: what contains what is settled once, and a
look-up is a search for the last interval that begins at or before an address, within the few that
an index by the upper bits of the address leaves. A `Forest` has many such tables, whose arrays may
be mapped read-only from elsewhere.

Addresses are pairs of words, IPv4 as v4-mapped (as in `flowray.wire.packets`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.rib import lookup_kernels as lookup
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
        out = room(version, len(plen))
        n = kernels.gather(version == 6, order, hi, lo, plen, payload, *out)
        return cls(version, *_head(out, n))

    def merge(self, changes: Prefixes) -> Prefixes:
        """These prefixes with others added, replaced, or taken away where the payload is MISSING;
        in linear time.
        """
        out = room(self.version, len(self) + len(changes))
        n = kernels.merge(self.wide, *self.columns, *changes.columns, *out)
        return Prefixes(self.version, *_head(out, n))

    def over(self, others: Prefixes) -> Prefixes:
        """These prefixes and those of others that are not among them; a MISSING payload is as any
        other.
        """
        lo, plen = np.concatenate((self.lo, others.lo)), np.concatenate((self.plen, others.plen))
        hi = np.zeros(len(lo), np.uint64)
        if self.wide:
            hi = np.concatenate((self.hi, others.hi))
        payload = np.concatenate((self.payload, others.payload))
        return Prefixes.of(self.version, hi, lo.astype(np.uint64), plen, payload)

    def head(self, n: int) -> Prefixes:
        """The first n."""
        return Prefixes(self.version, *_head(self.columns, n))

    @property
    def columns(self) -> tuple[U64, Low, U8, U32]:
        """`hi`, `lo`, `plen`, `payload`."""
        return self.hi, self.lo, self.plen, self.payload

    def intervals(self) -> Intervals:
        """The table to look addresses up in; in linear time."""
        hi, lo, plen, payload = room(self.version, 2 * len(self) + 1)
        n = kernels.sweep(self.wide, *self.columns, hi, lo, payload, plen)
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
class Overlay:
    """Lines in place of some lines of a table: instead of line ``numbers[i]`` those from
    ``begins[i]`` to ``begins[i + 1]`` of `lines` (flat, laid out as the table's).

    `numbers` (d,) int64 ascend. `marks` (uint64) has a bit for each line of the table, set if it is
    replaced, and `ranks` (uint32) for each word of `marks` how many bits before it are.
    """

    numbers: I64
    marks: U64
    ranks: U32
    begins: U32
    lines: Lines

    @classmethod
    def empty(cls, lines: Lines, count: int) -> Self:
        """Of a table of `count` lines; nothing is replaced."""
        words = -(-count // 64)
        return cls(
            np.empty(0, np.int64), np.zeros(words, np.uint64), np.zeros(words, np.uint32),
            np.zeros(1, np.uint32), lines[:0],
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """All of it."""
        return self.numbers, self.marks, self.ranks, self.begins, self.lines


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """`count` disjoint intervals of addresses, from address 0 on without gaps: where each begins,
    and the answer to a look-up.

    They stand in `lines` of 64 octets (flat; uint32 for IPv4, uint64 for IPv6), laid out as
    `lpm_kernels.fill_lines_4` and `fill_lines_6` tell. Addresses from `origin` to `last`, of IPv6
    their high words, are in `buckets` (uint64) of ``1 << shift`` each, which are parted as densely
    as lines begin in them; `index` (uint32) has a line for each part. See `plan_index`. With an
    `overlay`, lines that it marks do not count.
    """

    version: int
    count: int
    lines: Lines
    buckets: U64
    index: U32
    origin: int
    last: int
    shift: int
    overlay: Overlay | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def line_count(self) -> int:
        """Lines, replaced ones included."""
        return len(self.lines) // line_words(self.version)

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """All of it."""
        own = self.lines, self.buckets, self.index
        return own if self.overlay is None else (*own, *self.overlay.arrays)

    @property
    def nbytes(self) -> int:
        """Octets that lines, index and overlay take."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def row(self) -> list[int]:
        """What `lookup_kernels` needs to know, by its columns T_…"""
        own = self.origin, self.last, self.shift, *_addresses(self.buckets, self.index, self.lines)
        if self.overlay is None:
            return [*own, 0, 0, 0, 0]
        o = self.overlay
        return [*own, *_addresses(o.marks, o.ranks, o.begins, o.lines)]


def _addresses(*arrays: npt.NDArray[Any]) -> list[int]:
    return [array.ctypes.data for array in arrays]


def build(version: int, hi: U64, lo: U64, plen: U8, payload: U32) -> Intervals:
    """A table of prefixes (n,) of one version, 4 or 6, whose host bits are zero. Of equal prefixes
    the first counts.
    """
    return Prefixes.of(version, hi, lo, plen, payload).intervals()


Pair: TypeAlias = tuple[Intervals | None, Intervals | None]
"""The tables of both versions of IP; one may be missing."""


class Forest:
    """Many tables: number *t* is the *t*-th pair that it is made of. They stay where they are, and
    a process that gets a forest has them where they are mapped.
    """

    def __init__(self, tables: Sequence[Pair]) -> None:
        self.tables = tuple(tables)
        self._rows_4 = _rows(4, [four for four, _ in self.tables])
        self._rows_6 = _rows(6, [six for _, six in self.tables])
        marks = self._rows_4[:, lookup.T_MARKS], self._rows_6[:, lookup.T_MARKS]
        self._layered = any(column.any() for column in marks)

    def __reduce__(self) -> tuple[type[Forest], tuple[tuple[Pair, ...]]]:
        # Addresses are of this process.
        return Forest, (self.tables,)

    def __len__(self) -> int:
        return len(self.tables)

    @property
    def nbytes(self) -> int:
        """Octets that the arrays of all tables take."""
        return sum(table.nbytes for pair in self.tables for table in pair if table is not None)

    def look_up(self, table: I64, hi: U64, lo: U64) -> tuple[U32, U8]:
        """See `look_up`."""
        payload, plen = np.empty(len(table), np.uint32), np.empty(len(table), np.uint8)
        rows = self._rows_4, self._rows_6
        lookup.look_up(table, hi, lo, *rows, self._layered, payload, plen)
        return payload, plen


@cache
def _empty(version: int) -> Intervals:
    return Prefixes(version, *room(version, 0)).intervals()


def _rows(version: int, tables: Sequence[Intervals | None]) -> U64:
    """(t + 1, columns) `Intervals.row` of tables, behind that of an empty one."""
    empty = _empty(version)
    rows = [(empty if table is None else table).row for table in (None, *tables)]
    return np.array(rows, np.uint64)


def look_up(forest: Forest, table: I64, hi: U64, lo: U64) -> tuple[U32, U8]:
    """Payload (n,) uint32 and length (n,) uint8 of the longest prefix that contains each address
    (n,), v4-mapped ones in the IPv4 table.

    `table` (n,) int64 numbers tables of the forest. MISSING and 0 where there is no such prefix or
    no such table.
    """
    return forest.look_up(table, hi, lo)


def line_words(version: int) -> int:
    """Elements of `Intervals.lines` in a line."""
    return 8 if version == 6 else 16


def room(version: int, n: int) -> tuple[U64, Low, U8, U32]:
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
