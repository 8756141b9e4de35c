"""Sampling rates that two elements of a data record tell together (RFC 5477 section 8.2).

Population and size, or packet interval and space. Records with them are rare, so no compiled loop
knows of them: the plan takes the place of one element, and the rate is made from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

U64: TypeAlias = npt.NDArray[np.uint64]

PAIRS: tuple[tuple[int, int], ...] = ((310, 309), (306, 305))
"""(n, of): population and size, space and interval; the first pair that a template has counts."""

_MAX_RATE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class RatePair:
    """Where a record has two elements of a pair.

    word: row of the batch that holds the location of the first. offset: octets from the first to
    the second. size: octets of each. spaced: whether the first counts what is not taken.
    """

    word: int
    offset: int
    size: tuple[int, int]
    spaced: bool


def rates(buf: npt.NDArray[np.uint8], location: U64, pair: RatePair) -> U64:
    """(n,) rates 1:n of records, 0 if they tell none, by (n,) locations of the first element."""
    at = (location >> np.uint64(16)).astype(np.int64)
    first = _unsigned(buf, at, pair.size[0])
    second = _unsigned(buf, at + pair.offset, pair.size[1])
    total = first + second if pair.spaced else first
    told = second > 0
    rate = np.rint(total / np.where(told, second, 1.0))
    return np.where(told, np.minimum(rate, _MAX_RATE), 0).astype(np.uint64)


def _unsigned(
    buf: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], octets: int
) -> npt.NDArray[np.float64]:
    """(n,) big-endian numbers at (n,) places."""
    value = np.zeros(at.size)
    for i in range(octets):
        value = value * 256 + buf[at + i]
    return value
