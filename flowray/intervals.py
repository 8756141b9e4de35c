"""Sets of numbers as sorted disjoint intervals, for membership tests of whole columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Interval: TypeAlias = tuple[int, int]
"""First and last number, both included."""

Words: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_Word: TypeAlias = Words | np.uint64

_WORD = (1 << 64) - 1


def disjoint(intervals: Iterable[Interval]) -> list[Interval]:
    """The union of intervals as sorted intervals that neither overlap nor touch."""
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


@dataclass(frozen=True, slots=True, eq=False)
class WordSet:
    """A set of 64-bit numbers: the first and last of each interval, (k,) uint64 each."""

    low: Words
    high: Words

    @classmethod
    def of(cls, intervals: Iterable[Interval]) -> WordSet:
        """The union of intervals, which may overlap."""
        merged = disjoint(intervals)
        return cls(
            np.array([low for low, _ in merged], np.uint64),
            np.array([high for _, high in merged], np.uint64),
        )

    def contains(self, column: Words) -> Mask:
        """(n,) whether each number is in the set."""
        if self.low.size == 1:
            # One comparison instead of two: below `low` the difference wraps and is too big.
            return np.asarray(column - self.low[0] <= self.high[0] - self.low[0], np.bool_)
        if not self.low.size:
            return np.zeros(column.shape, np.bool_)
        index = np.searchsorted(self.low, column, "right")
        # Below all intervals the index is 0 and -1 is the last interval, hence the first test.
        return np.asarray((index > 0) & (column <= self.high[index - 1]), np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class AddressSet:
    """A set of 128-bit numbers: the first and last of each interval, (2, k) words: high, low."""

    low: Words
    high: Words

    @classmethod
    def of(cls, intervals: Iterable[Interval]) -> AddressSet:
        """The union of intervals, which may overlap."""
        merged = disjoint(intervals)
        return cls(_wide([low for low, _ in merged]), _wide([high for _, high in merged]))

    def contains(self, high: Words, low: Words) -> Mask:
        """(n,) whether each address, given as its (n,) high and low words, is in the set."""
        if self.low.shape[1] == 1:
            (low_high,), (low_low,) = self.low
            (high_high,), (high_low,) = self.high
            begun = ~_less(high, low, low_high, low_low)
            return begun & ~_less(high_high, high_low, high, low)
        if not self.low.shape[1]:
            return np.zeros(high.shape, np.bool_)
        index = self._begun(high, low)
        last_high, last_low = self.high[:, index - 1]
        return np.asarray((index > 0) & ~_less(last_high, last_low, high, low), np.bool_)

    def _begun(self, high: Words, low: Words) -> npt.NDArray[np.int64]:
        """(n,) number of intervals that begin at or below each address: one bisection for all."""
        count = self.low.shape[1]
        begun = np.zeros(high.shape, np.int64)
        step = 1 << (count.bit_length() - 1)
        while step:
            probe = np.minimum(begun + step, count)
            first_high, first_low = self.low[:, probe - 1]
            fits = (begun + step <= count) & ~_less(high, low, first_high, first_low)
            begun = np.where(fits, probe, begun)
            step >>= 1
        return begun


def _less(high: _Word, low: _Word, other_high: _Word, other_low: _Word) -> Mask:
    """Where (high, low) is less than the other, as 128-bit numbers."""
    return np.asarray((high < other_high) | ((high == other_high) & (low < other_low)), np.bool_)


def _wide(numbers: list[int]) -> Words:
    """128-bit numbers as (2, k) words: high, low."""
    return np.array([[n >> 64 for n in numbers], [n & _WORD for n in numbers]], np.uint64)
