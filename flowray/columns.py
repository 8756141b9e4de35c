"""Native batches: a matrix of 64-bit words, one row of the matrix per word of a field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.field import Field
from flowray.fields import REGISTRY

Words: TypeAlias = npt.NDArray[np.uint64]


class Layout:
    """Which fields a batch holds and at which word row each begins (addresses take two rows: high,
    low).
    """

    __slots__ = ("_index", "_width", "fields", "names", "words")

    def __init__(self, names: Iterable[str], registry: Mapping[str, Field] = REGISTRY) -> None:
        """Raises KeyError for a name that the registry lacks."""
        self.fields: tuple[Field, ...] = tuple(registry[n] for n in dict.fromkeys(names))
        self.names = tuple(f.name for f in self.fields)
        self._index: dict[str, int] = {}
        self._width = {f.name: f.kind.words for f in self.fields}
        words = 0
        for f in self.fields:
            self._index[f.name] = words
            words += f.kind.words
        self.words = words

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def index(self, name: str) -> int:
        """First word row of a field. Raises KeyError if the batch does not hold it."""
        return self._index[name]

    def width(self, name: str) -> int:
        """Word rows of a field."""
        return self._width[name]

    def get(self, name: str) -> int:
        """First word row of a field, or -1."""
        return self._index.get(name, -1)


@dataclass(slots=True)
class Columns:
    """`n` records of a layout: `words` has shape (layout.words, capacity), uint64, C order.

    `since` (ns) is when the records could first be decoded, for data that was held for its
    template: they are late by that, whenever their datagrams arrived. 0 for all others. `known`
    holds what `bounds` need not look for.
    """

    layout: Layout
    words: Words
    n: int = field(default=0)
    since: int = 0
    known: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def empty(cls, layout: Layout, capacity: int) -> Columns:
        """A batch without records and room for `capacity`; every word is zero."""
        return cls(layout, np.zeros((layout.words, capacity), np.uint64), 0)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, name: str) -> Words:
        """View of a field: (n,) uint64, or (2, n) for an address."""
        first = self.layout.index(name)
        width = self.layout.width(name)
        if width == 1:
            return self.words[first, : self.n]
        return self.words[first : first + width, : self.n]

    def bounds(self, name: str) -> tuple[int, int]:
        """Between what a field of one word lies in all records, of which there must be one; if both
        are the same it is that everywhere.
        """
        if name not in self.known:
            words = self[name]
            self.known[name] = int(words.min()), int(words.max())
        return self.known[name]

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Columns:
        """A copy with these rows (indices or mask)."""
        words = np.ascontiguousarray(self.words[:, : self.n][:, rows])
        return Columns(self.layout, words, words.shape[1], self.since, dict(self.known))


class Room:
    """Memory for one batch after another, so that its pages are asked for once: each batch is void
    when the next one is made.
    """

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words: Words = np.empty(0, np.uint64)

    @property
    def nbytes(self) -> int:
        """Octets of memory."""
        return self._words.nbytes

    def columns(self, layout: Layout, n: int) -> Columns:
        """A batch of n records whose words hold anything."""
        words = layout.words * n
        if not words <= self._words.size <= 8 * words:
            self._words = np.empty(words + words // 4, np.uint64)
        return Columns(layout, self._words[:words].reshape(layout.words, n), n)
