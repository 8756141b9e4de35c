"""Compiled look-ups of the prefixes that cover a prefix.

Prefixes of both families are on one line of 128-bit addresses, sorted by (hi, lo, length): each
stands before those inside it, and `parents` names the nearest that it is inside of. All that cover
a prefix are then on the way up from the last one that does not stand behind it. Prefixes of IPv6
cover none of IPv4, though they are on the way.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["find_parents", "overlaps", "validate"]

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Int: TypeAlias = Any
"""An integer in compiled code, whose width and sign numba infers and no Python type tells."""

UNKNOWN, VALID, INVALID, INVALID_UNDER_VALID, INVALID_UNDER_UNKNOWN = range(5)

_MAPPED_BITS = 96
_MAPPED = 0xFFFF


@njit(nogil=True, cache=True, inline="always")
def _is_v4(hi: Int, lo: Int, bits: Int) -> Int:
    return hi == 0 and lo >> np.uint64(32) == _MAPPED and bits >= _MAPPED_BITS


@njit(nogil=True, cache=True, inline="always")
def _contains(hi: Int, lo: Int, bits: Int, other_hi: Int, other_lo: Int, other_bits: Int) -> Int:
    """Whether a prefix is another, or the other is inside it."""
    if bits > other_bits:
        return False
    if bits == 0:
        return True
    if bits <= 64:
        return (hi ^ other_hi) >> np.uint64(64 - bits) == 0
    return hi == other_hi and (lo ^ other_lo) >> np.uint64(128 - bits) == 0


@njit(nogil=True, cache=True)
def find_parents(hi: U64, lo: U64, bits: U8, parents: I64) -> None:
    """Set the `parents` (n,) of n sorted, distinct prefixes: the nearest around each, or -1."""
    for i in range(len(hi)):
        up = np.int64(i - 1)
        while up >= 0 and not _contains(hi[up], lo[up], bits[up], hi[i], lo[i], bits[i]):
            up = parents[up]
        parents[i] = up


@njit(nogil=True, cache=True, inline="always")
def _last_before(hi: U64, lo: U64, bits: U8, key_hi: Int, key_lo: Int, key_bits: Int) -> Int:
    """The last prefix that does not stand behind the given one, or -1."""
    low, high = np.int64(0), np.int64(len(hi))
    while low < high:
        middle = (low + high) >> 1
        behind = hi[middle] > key_hi or (
            hi[middle] == key_hi
            and (lo[middle] > key_lo or (lo[middle] == key_lo and bits[middle] > key_bits))
        )
        if behind:
            high = middle
        else:
            low = middle + 1
    return low - 1


@njit(nogil=True, cache=True)
def validate(
    hi: U64, lo: U64, bits: U8, parents: I64, begin: I64, asn: U32, longest: U8,
    route_hi: U64, route_lo: U64, route_bits: U8, origin: U32, state: U8,
) -> None:  # fmt: skip
    """Set the state (n,) of n routes (RFC 6811 section 2).

    Prefix *i* of the sorted ones has the payloads ``begin[i] : begin[i + 1]`` of `asn` and
    `longest`, the length up to which routes match. An `origin` of 0 is none, and matches nothing.
    """
    for i in range(len(route_hi)):
        a, b, length = route_hi[i], route_lo[i], route_bits[i]
        at = _last_before(hi, lo, bits, a, b, length)
        v4 = _is_v4(a, b, length)
        found = UNKNOWN
        while at >= 0 and found != VALID:
            family = _is_v4(hi[at], lo[at], bits[at]) == v4
            if family and _contains(hi[at], lo[at], bits[at], a, b, length):
                found = INVALID
                for p in range(begin[at], begin[at + 1]):
                    if asn[p] == origin[i] and origin[i] != 0 and length <= longest[p]:
                        found = VALID
                        break
            at = parents[at]
        state[i] = found


@njit(nogil=True, cache=True)
def overlaps(parents: I64, begin: I64, row: I64, state: U8) -> None:
    """Tell invalid routes apart by the nearest prefix that contains theirs and has other routes.

    Prefix *i* of the sorted ones, all of one family, has the routes
    ``row[begin[i] : begin[i + 1]]``, rows of `state`.
    """
    for i in range(len(parents)):
        found = INVALID
        up = parents[i]
        while up >= 0 and found == INVALID:
            for p in range(begin[up], begin[up + 1]):
                if state[row[p]] == VALID:
                    found = INVALID_UNDER_VALID
                elif state[row[p]] == UNKNOWN:
                    found = INVALID_UNDER_UNKNOWN
            up = parents[up]
        for p in range(begin[i], begin[i + 1]):
            if state[row[p]] == INVALID:
                state[row[p]] = found
