"""Compiled loops of the join with routes: values of attribute sets into columns of records.

A payload is the number of an attribute set, `NO_ROUTE`, or `MANY_PATHS` and the number of a list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from flowray.hashing import U64

NO_ROUTE = np.uint32(0xFFFFFFFF)
MANY_PATHS = np.uint32(1 << 31)
UNSET = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Mark of a text that no record needed yet."""

_LOW = np.uint64(0xFFFFFFFF)

Array = Any
"""Arrays of several types, told to numba by the call."""


@njit(cache=True, nogil=True)
def choose_paths(
    payload: Array, plen: Array, paths: Array, begin: Array, column_hi: U64, column_lo: U64,
    hop_hi: U64, hop_lo: U64,
) -> None:  # fmt: skip
    """Replace lists of paths by the one whose next hop the record names; the first if it names
    none, no route if it names another (as nfacctd does).
    """
    for i in range(payload.size):
        if payload[i] == NO_ROUTE or payload[i] < MANY_PATHS:
            continue
        number = np.int64(payload[i] & ~MANY_PATHS)
        first, last = begin[number], begin[number + 1]
        unnamed = hop_hi[i] == 0 and (hop_lo[i] & _LOW) == 0
        found = paths[first] if unnamed else NO_ROUTE
        if not unnamed:
            for j in range(first, last):
                if column_hi[paths[j]] == hop_hi[i] and column_lo[paths[j]] == hop_lo[i]:
                    found = paths[j]
                    break
        payload[i] = found
        if found == NO_ROUTE:
            plen[i] = 0


@njit(cache=True, nogil=True)
def drop_shorter(payload: Array, plen: Array, mask: U64) -> None:
    """Routes less specific than the record's own mask do not count (`longest`)."""
    for i in range(payload.size):
        if plen[i] < mask[i]:
            payload[i] = NO_ROUTE


@njit(cache=True, nogil=True)
def take_always(payload: Array, column: Array, out: U64) -> None:
    """out[i] = column[payload[i]], 0 without a route."""
    for i in range(payload.size):
        out[i] = np.uint64(column[payload[i]]) if payload[i] != NO_ROUTE else np.uint64(0)


@njit(cache=True, nogil=True)
def take_if_found(payload: Array, column: Array, out: U64) -> None:
    """out[i] = column[payload[i]], left as it is without a route."""
    for i in range(payload.size):
        if payload[i] != NO_ROUTE:
            out[i] = np.uint64(column[payload[i]])


@njit(cache=True, nogil=True)
def take_texts(payload: Array, ids: U64, out: U64) -> int:
    """out[i] = ids[payload[i]], 0 (the empty text) without a route; how many are not set yet."""
    unset = 0
    for i in range(payload.size):
        out[i] = ids[payload[i]] if payload[i] != NO_ROUTE else np.uint64(0)
        unset += out[i] == UNSET
    return unset
