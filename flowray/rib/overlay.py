"""Overlays: what changes of a few prefixes do to a large table, without making it anew.

A table stays as it is, its base. Lines of it that changes touch are replaced: the overlay has a
mark for each of them, and new lines in place of it. A look-up that ends at a marked line goes on in
these. Lines are only added to an overlay; once they are many, prefixes and changes become a base.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.rib import overlay_kernels as kernels
from flowray.rib.lpm import I64, Intervals, Lines, Overlay, Prefixes, line_words, room

Mask: TypeAlias = npt.NDArray[np.bool_]

LEAST_LINES = 512
"""A table of fewer lines has no overlay: to make it anew costs next to nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Layered:
    """A table of prefixes: the `base`, what has changed since (payload MISSING where a prefix is
    gone), and the base's intervals with the overlay that follows from it.
    """

    base: Prefixes
    changes: Prefixes
    intervals: Intervals
    lengths: Mask
    """(129,) those of prefixes that there are or were."""
    overflown: bool = False
    """Whether the overlay lacks some of the changes, for they are too many."""

    @classmethod
    def of(cls, prefixes: Prefixes) -> Self:
        """A base without changes."""
        lengths = np.bincount(prefixes.plen, minlength=129) > 0
        return cls(prefixes, prefixes.head(0), prefixes.intervals(), lengths)

    @property
    def share(self) -> float:
        """Which share of the lines of the base is replaced; 1 if it has to be made anew."""
        overlay = self.intervals.overlay
        if self.overflown:
            return 1.0
        return 0.0 if overlay is None else len(overlay) / self.intervals.line_count

    def prefixes(self) -> Prefixes:
        """All prefixes as they are; in linear time."""
        return self.base.merge(self.changes) if len(self.changes) else self.base

    def changed(self, news: Prefixes, most: float) -> Layered:
        """The table with some more changes. It has to be made anew if it is small, or if these
        replace more than the share `most` of its lines.
        """
        if not len(news):
            return self
        changes, lines = news.over(self.changes), self.intervals.line_count
        if lines < LEAST_LINES or len(touched := self._touched(news)) > most * lines:
            return replace(self, changes=changes, overflown=True)
        lengths = self.lengths.copy()
        lengths[news.plen] = True
        overlay = self._spliced(touched, changes, lengths)
        return Layered(self.base, changes, replace(self.intervals, overlay=overlay), lengths)

    def _touched(self, news: Prefixes) -> I64:
        """The lines that changes touch."""
        table, overlay = self.intervals, self.intervals.overlay
        marked, touched = np.zeros((2, table.line_count), np.bool_)
        if overlay is not None:
            marked[overlay.numbers] = True
        kernels.touch(
            news.wide, news.hi, news.lo, news.plen, table.lines, table.lines.view(np.uint8),
            marked, touched,
        )  # fmt: skip
        return np.flatnonzero(touched)

    def _spliced(self, numbers: I64, changes: Prefixes, lengths: Mask) -> Overlay:
        """The overlay with these lines made anew."""
        wide, lines, count = self.base.wide, self.intervals.lines, self.intervals.line_count
        places = np.empty((len(numbers), 4), np.int64)
        need = kernels.measure(
            wide, numbers, lines, count, *self.base.columns[:3], *changes.columns[:3], places
        )
        hi, lo, plen, payload = room(self.base.version, need)
        begin = np.zeros(len(numbers) + 1, np.int64)
        kernels.sweep_lines(
            wide, numbers, lines, count, lengths, *self.base.columns, *changes.columns, places,
            hi, lo, payload, plen, begin,
        )  # fmt: skip
        words = line_words(self.base.version)
        old = self.intervals.overlay or Overlay.empty(lines, count)
        most = len(old) + len(numbers)
        out_numbers, out_begin = np.empty(most, np.int64), np.empty(most + 1, np.uint32)
        # A line more for each, for the last one is seldom full.
        out: Lines = np.empty(
            (len(old.lines) // words + int(begin[-1]) // 3 + len(numbers), words), lines.dtype
        )
        n = kernels.splice(
            wide, old.numbers, old.begins, old.lines.reshape(-1, words), numbers, begin,
            hi, lo, payload, plen, out_numbers, out_begin, out,
        )  # fmt: skip
        numbers, begins = out_numbers[:n].copy(), out_begin[: n + 1].copy()
        marks = np.zeros(-(-count // 64), np.uint64)
        ranks = np.empty(len(marks), np.uint32)
        kernels.rank(numbers, marks, ranks)
        return Overlay(numbers, marks, ranks, begins, out[: begins[-1]].copy().reshape(-1))
