"""A keyed reduction in memory: rows folded by packed key and window into a hash table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns, Layout, Room, Words
from flowray.field import Field, Kind, Merge
from flowray.fields import REGISTRY
from flowray.views import kernels as k

RULES = {Merge.SUM: k.SUM, Merge.OR: k.OR, Merge.MIN: k.MIN, Merge.MAX: k.MAX}

RECORDS = "_records"
"""Name of the counter of merged records, which every table keeps for the ledger."""

SCALED = ("packets", "bytes")
"""Counters that renormalisation multiplies by the sampling rate; `flows` counts what was exported
and is not.
"""

LEAST_ROWS = 64
"""Rows that a new table has room for: there may be thousands of windows of a few rows each."""

LINE = 8
"""Words of a cache line."""

HUGE_PAGE = 1 << 18
"""Words of a huge page. numpy asks for those in large arrays; what does not begin at the edge of
one has fewer of them, and a fold waits for the page tables as often as for the rows.
"""

SLOTS_PER_ROW = 4
"""Slots of a full table are this much more than its rows: so few hold another key's row that one of
the first two that are looked at is nearly always the right one.
"""

NO_SCALE: Words = np.empty(0, np.uint64)

NO_PIECES = np.empty((0, 5), np.int64)
"""The packing of others rows: nothing of the key is left."""

OTHERS = np.uint64(1 << 63)
"""Bit of the window word that marks the row into which keys past `max_keys` fold."""


class KeyShape:
    """How the key fields of a view are packed into words behind the window word.

    Fields of 64 bits take words of their own; the narrower ones share words, widest first. The
    packing depends on the fields and their order alone, not on where a layout holds them. The
    `v4` shape is for rows whose addresses are all IPv4: those take 32 bits each.
    """

    def __init__(self, layout: Layout, keys: Sequence[Field], *, v4: bool = False) -> None:
        self.fields = tuple(keys)
        rows: list[tuple[int, int, int, int, int]] = []
        word = 1
        narrow: list[tuple[int, int, int]] = []
        for f in keys:
            first = layout.index(f.name)
            if f.kind is Kind.ADDRESS and v4:
                narrow.append((32, first + 1, k.V4_MAPPED << 32))
            elif f.kind is Kind.ADDRESS:
                rows += [(first, 64, 0, word, 0), (first + 1, 64, 0, word + 1, 0)]
                word += 2
            elif f.bits == 64:
                rows.append((first, 64, 0, word, 0))
                word += 1
            else:
                narrow.append((f.bits, first, 0))
        free: list[int] = []
        for bits, source, above in sorted(narrow, key=lambda piece: -piece[0]):
            place = next((i for i, used in enumerate(free) if used + bits <= 64), None)
            if place is None:
                place = len(free)
                free.append(0)
            rows.append((source, bits, free[place], word + place, above))
            free[place] += bits
        self.words = word + len(free)
        self.pieces = np.array(rows, np.int64).reshape(-1, 5)


class Table:
    """Rows of one key shape: the packed key, window word first, and behind it the values.

    A row that fits in a cache line has one to itself.
    """

    def __init__(self, shape: KeyShape, sources: npt.NDArray[np.int64]) -> None:
        self.shape = shape
        self._sources = sources
        self._used_words = shape.words + len(sources)
        self._state = np.zeros(3, np.int64)
        self._allocate(LEAST_ROWS)

    def _allocate(self, capacity: int) -> None:
        width = max(self._used_words, LINE)
        words = (capacity + 1) * width
        aligned = LINE if words < HUGE_PAGE else HUGE_PAGE
        raw = np.empty(words + aligned, np.uint64)
        start = -raw.ctypes.data // raw.itemsize % aligned
        self.rows: Words = raw[start : start + words].reshape(-1, width)
        self._slots = np.zeros(SLOTS_PER_ROW * capacity, np.uint32)

    def __len__(self) -> int:
        return int(self._state[k.T_USED])

    @property
    def records(self) -> int:
        """Rows folded in."""
        return int(self._state[k.T_RECORDS])

    @property
    def nbytes(self) -> int:
        """Octets of memory."""
        return self.rows.nbytes + self._slots.nbytes

    def values(self, source: int) -> Words:
        """A value (len,) of all rows, by its place among the sources."""
        return self.rows[: len(self), self.shape.words + source]

    def add(
        self, words: Words, n: int, window: Words, scale: Words, limits: tuple[int, int],
        pieces: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.int64]:  # fmt: skip
        """Fold in n rows; the rows (k,) of new keys that are one too many. `limits`: see
        `kernels.fold`; `pieces`: of another packing than the shape's.
        """
        overflow = np.empty(n, np.int64)
        done = over = 0
        while True:
            done, over = k.fold(
                words, done, n, window, self.shape.pieces if pieces is None else pieces,
                self._sources, scale, *limits, self.shape.words, self.rows, self._slots,
                self._state, overflow, over,
            )  # fmt: skip
            if done == n:
                return overflow[:over]
            self._grow()

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in an empty table."""
        capacity = 1 << max(rows - 1, 0).bit_length()
        if capacity >= len(self.rows):
            self._allocate(capacity)

    def _grow(self) -> None:
        used, rows = len(self), self.rows
        self._allocate(2 * (len(rows) - 1))
        self.rows[:used] = rows[:used]
        k.rehash(self.rows, self.shape.words, used, self._slots)

    def unpack(
        self, rows: Words, shape: KeyShape, values: npt.NDArray[np.int64], words: Words,
        window: Words, first: int,
    ) -> None:  # fmt: skip
        """Write rows of this table to columns from `first` on of `words`, keys as packed by the
        same shape of another layout, values at its word rows `values`; their window words to
        `window`.
        """
        k.unpack(rows, len(rows), self.shape.words, shape.pieces, values, words, window, first)

    def clear(self) -> None:
        """Forget all rows. The next second's are about as many, so memory is kept; what was mostly
        unused is halved.
        """
        capacity, used = len(self.rows) - 1, len(self)
        self._state[:] = 0
        if capacity > LEAST_ROWS and used < capacity // 8:
            self._allocate(capacity // 2)
        else:
            self._slots[:] = 0


class Fold:
    """Rows of one view: key and window to merged values.

    `layout` is that of the batches folded in; it holds the keys, and the counters under their
    names. A batch without the `_records` column counts one record a row. Past `max_keys` rows new
    keys fold into one row per window.

    Rows whose addresses are all IPv4 have a table of their own: their keys are half as long.
    """

    def __init__(
        self, layout: Layout, keys: Sequence[Field], values: Sequence[Field], max_keys: int
    ) -> None:
        self.layout = layout
        self.keys = tuple(keys)
        self.values = tuple(values)
        self.max_keys = max_keys
        rows = [(layout.index(f.name), RULES[f.merge], int(f.name in SCALED)) for f in values]
        rows.append((layout.get(RECORDS), k.SUM, 0))
        sources = np.array(rows, np.int64)
        hosts = [layout.index(f.name) for f in keys if f.kind is Kind.ADDRESS]
        self._hosts = np.array(hosts, np.int64)
        self._any = Table(KeyShape(layout, keys), sources)
        self._v4 = Table(KeyShape(layout, keys, v4=True), sources) if hosts else None
        self._tables = (self._any,) if self._v4 is None else (self._v4, self._any)
        pieces = np.concatenate([table.shape.pieces for table in self._tables])
        read = {*pieces[:, k.P_SOURCE].tolist(), *sources[:, k.V_SOURCE].tolist(), *hosts}
        self._read = sorted(read - {-1})
        self.others = 0

    def __len__(self) -> int:
        return sum(map(len, self._tables))

    @property
    def records(self) -> int:
        """Rows folded in since the last export."""
        return sum(table.records for table in self._tables) - self.others

    @property
    def merged(self) -> int:
        """Records merged in the rows, by their `_records` counter."""
        return int(sum(table.values(len(self.values)).sum() for table in self._tables))

    @property
    def nbytes(self) -> int:
        """Octets of the tables."""
        return sum(table.nbytes for table in self._tables)

    def reserve(self, rows: int) -> None:
        """Expect so many keys: an empty fold need not grow step by step. A hint, not a bound."""
        self._tables[0].reserve(min(rows, self.max_keys))

    def add(self, words: Words, n: int, window: Words, scale: Words = NO_SCALE) -> None:
        """Fold the first n rows of words (layout.words, >= n). window (n,) or, the same for all,
        (1,): window words; scale likewise, or (0,): multiplies packets and bytes.
        """
        if not n:
            return
        if self._v4 is None:
            self._fold(self._any, words, n, window, scale)
            return
        v4 = np.empty(n, np.bool_)
        found = k.count_v4(words, self._hosts, n, v4)
        if found in (0, n):
            self._fold(self._v4 if found else self._any, words, n, window, scale)
            return
        for table, rows in ((self._v4, np.flatnonzero(v4)), (self._any, np.flatnonzero(~v4))):
            self._fold(table, self._take(words, rows), rows.size, *_of(rows, window, scale))

    def _take(self, words: Words, rows: npt.NDArray[np.int64]) -> Words:
        """Those rows of what a fold reads, at the same word rows."""
        taken = np.empty((len(words), rows.size), np.uint64)
        for row in self._read:
            np.take(words[row], rows, out=taken[row])
        return taken

    def _fold(self, table: Table, words: Words, n: int, window: Words, scale: Words) -> None:
        rows = table.add(words, n, window, scale, self._limits(table))
        if rows.size:
            self.others += rows.size
            window, scale = _of(rows, window, scale)
            self._any.add(
                self._take(words, rows), rows.size, window | OTHERS, scale,
                self._limits(self._any), NO_PIECES,
            )  # fmt: skip

    def _limits(self, table: Table) -> tuple[int, int]:
        """Rows that a table may have, and with others rows: what the other table leaves it."""
        elsewhere = len(self) - len(table)
        return self.max_keys - elsewhere, 2 * self.max_keys - elsewhere

    def sums(self) -> dict[str, Words]:
        """Values (len,) of all rows that add up, in their order, by name; copies."""
        names = [f.name for f in self.values if f.merge is Merge.SUM]
        places = [i for i, f in enumerate(self.values) if f.merge is Merge.SUM]
        # A row is read from memory once.
        parts = [t.rows[: len(t)].take(np.add(places, t.shape.words), 1) for t in self._tables]
        return dict(zip(names, np.concatenate(parts).T.copy(), strict=True))

    def export(
        self, room: Room | None = None, chosen: npt.NDArray[np.intp] | None = None
    ) -> tuple[Columns, Words]:
        """All rows, or those `chosen` (ascending): columns of keys, values and `_records`, and the
        window words (n,). With `room` the columns are made there.
        """
        layout = partial_layout(self.keys, self.values)
        n = len(self) if chosen is None else chosen.size
        columns = (room or Room()).columns(layout, n)
        hosts = [layout.index(f.name) for f in self.keys if f.kind is Kind.ADDRESS]
        window = np.empty(columns.n, np.uint64)
        values = np.array([layout.index(n) for n in (*(f.name for f in self.values), RECORDS)])
        first = passed = 0
        for table in self._tables:
            shape = KeyShape(layout, self.keys, v4=table is self._v4)
            rows = table.rows[: len(table)]
            if chosen is not None:
                begin, end = np.searchsorted(chosen, (passed, passed + len(table)))
                rows = rows[chosen[begin:end] - passed]
            if table is self._v4:
                columns.words[hosts, first : first + len(rows)] = 0  # high words, which it lacks
            table.unpack(rows, shape, values, columns.words, window, first)
            first, passed = first + len(rows), passed + len(table)
        return columns, window

    def clear(self) -> None:
        """Forget all rows; see `Table.clear`."""
        self.others = 0
        for table in self._tables:
            table.clear()


def _of(rows: npt.NDArray[np.int64], window: Words, scale: Words) -> tuple[Words, Words]:
    """Window and scale of some rows; what is the same for all stays."""
    return (
        window if window.size == 1 else window[rows],
        scale if scale.size <= 1 else scale[rows],
    )


RECORDS_FIELD = REGISTRY[RECORDS]


def partial_layout(keys: Sequence[Field], values: Sequence[Field]) -> Layout:
    """Layout of what a table exports: keys, values, `_records`."""
    fields = {f.name: f for f in (*keys, *values, RECORDS_FIELD)}
    return Layout(fields, fields)
