"""A keyed reduction in memory: rows folded by packed key and window into a hash table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowray.columns import Columns, Layout, Words
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

NO_SCALE: Words = np.empty(0, np.uint64)


class KeyShape:
    """How the key fields of a view are packed into words behind the window word.

    Fields of 64 bits take words of their own; the narrower ones share words, widest first. The
    packing depends on the fields and their order alone, not on where a layout holds them.
    """

    def __init__(self, layout: Layout, keys: Sequence[Field]) -> None:
        self.fields = tuple(keys)
        rows: list[tuple[int, int, int, int]] = []
        word = 1
        narrow: list[tuple[int, int]] = []
        for f in keys:
            first = layout.index(f.name)
            if f.kind is Kind.ADDRESS:
                rows += [(first, 64, 0, word), (first + 1, 64, 0, word + 1)]
                word += 2
            elif f.bits == 64:
                rows.append((first, 64, 0, word))
                word += 1
            else:
                narrow.append((f.bits, first))
        free: list[int] = []
        for bits, first in sorted(narrow, key=lambda piece: -piece[0]):
            place = next((i for i, used in enumerate(free) if used + bits <= 64), None)
            if place is None:
                place = len(free)
                free.append(0)
            rows.append((first, bits, free[place], word + place))
            free[place] += bits
        self.words = word + len(free)
        self.pieces = np.array(rows, np.int64).reshape(-1, 4)


class Fold:
    """Table of one view: key and window to merged values.

    `layout` is that of the batches folded in; it holds the keys, and the counters under their
    names. A batch without the `_records` column counts one record a row. Past `max_keys` rows new
    keys fold into one row per window.
    """

    def __init__(
        self, layout: Layout, keys: Sequence[Field], values: Sequence[Field], max_keys: int
    ) -> None:
        self.layout = layout
        self.shape = KeyShape(layout, keys)
        self.values = tuple(values)
        self.max_keys = max_keys
        rows = [(layout.index(f.name), RULES[f.merge], int(f.name in SCALED)) for f in values]
        rows.append((layout.get(RECORDS), k.SUM, 0))
        self._sources = np.array(rows, np.int64)
        self._allocate(LEAST_ROWS)
        self._state = np.zeros(4, np.int64)

    def _allocate(self, capacity: int) -> None:
        width = self.shape.words + len(self._sources)
        self._table: Words = np.empty((capacity, width), np.uint64)
        self._slots: Words = np.zeros(2 * capacity, np.uint64)

    def __len__(self) -> int:
        return int(self._state[k.T_USED])

    @property
    def records(self) -> int:
        """Rows folded in since the last export."""
        return int(self._state[k.T_RECORDS])

    @property
    def merged(self) -> int:
        """Records merged in the rows, by their `_records` counter."""
        return int(self._table[: len(self), -1].sum())

    @property
    def others(self) -> int:
        """Rows that went to an others row."""
        return int(self._state[k.T_OTHERS])

    @property
    def nbytes(self) -> int:
        """Octets of the table."""
        return self._table.nbytes + self._slots.nbytes

    def add(self, words: Words, n: int, window: Words, scale: Words = NO_SCALE) -> None:
        """Fold the first n rows of words (layout.words, >= n). window (n,): window words; scale
        (n,) multiplies packets and bytes.
        """
        done = 0
        while True:
            done = k.fold(
                words, done, n, window, self.shape.pieces, self._sources, scale, self.max_keys,
                self.shape.words, self._table, self._slots, self._state,
            )  # fmt: skip
            if done == n:
                return
            self._grow()

    def _grow(self) -> None:
        used = len(self)
        table = self._table
        self._allocate(2 * len(table))
        self._table[:used] = table[:used]
        k.rehash(self._table, self.shape.words, used, self._slots)

    def export(self) -> tuple[Columns, Words]:
        """All rows: columns of keys, values and `_records`, and the window words (n,)."""
        layout = partial_layout(self.shape.fields, self.values)
        used = len(self)
        columns = Columns.empty(layout, used)
        columns.n = used
        shape = KeyShape(layout, self.shape.fields)
        k.unpack(self._table, used, shape.pieces, columns.words)
        for i, name in enumerate([*(f.name for f in self.values), RECORDS]):
            columns.words[layout.index(name)] = self._table[:used, shape.words + i]
        return columns, self._table[:used, 0].copy()

    def clear(self) -> None:
        """Forget all rows and free a table that grew."""
        self._state[:] = 0
        if len(self._table) > 1 << 16:
            self._allocate(LEAST_ROWS)
        else:
            self._slots[:] = 0


RECORDS_FIELD = REGISTRY[RECORDS]


def partial_layout(keys: Sequence[Field], values: Sequence[Field]) -> Layout:
    """Layout of what a table exports: keys, values, `_records`."""
    fields = {f.name: f for f in (*keys, *values, RECORDS_FIELD)}
    return Layout(fields, fields)
