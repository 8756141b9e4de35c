"""Compiled loops of the join with routes: values of attribute sets into columns of records.

A payload of a snapshot is the number of an attribute set with a validation state above it,
`NO_ROUTE`, or `MANY_PATHS` and the number of a list. Behind `choose_paths` and `part_states` it is
the number of a set alone, or `NO_ROUTE`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from flowray.hashing import U64

NO_ROUTE = np.uint32(0xFFFFFFFF)
MANY_PATHS = np.uint32(1 << 31)
STATE_SHIFT = np.uint32(28)
SET = np.uint32((1 << 28) - 1)
"""Bits of a payload that number the attribute set."""
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
                s = paths[j] & SET
                if column_hi[s] == hop_hi[i] and column_lo[s] == hop_lo[i]:
                    found = paths[j]
                    break
        payload[i] = found
        if found == NO_ROUTE:
            plen[i] = 0


@njit(cache=True, nogil=True)
def first_paths(payload: Array, paths: Array, begin: Array) -> None:
    """Replace lists of paths by their first one."""
    for i in range(payload.size):
        if payload[i] != NO_ROUTE and payload[i] >= MANY_PATHS:
            payload[i] = paths[begin[np.int64(payload[i] & ~MANY_PATHS)]]


@njit(cache=True, nogil=True)
def part_states(payload: Array, state: Array) -> None:
    """Move the validation states of payloads to `state`."""
    for i in range(payload.size):
        if payload[i] != NO_ROUTE:
            state[i] = payload[i] >> STATE_SHIFT
            payload[i] &= SET


@njit(cache=True, nogil=True)
def take_states(payload: Array, state: Array, ids: U64, out: U64) -> None:
    """out[i] = ids[state[i]], 0 (the empty text) without a route."""
    for i in range(payload.size):
        out[i] = ids[state[i]] if payload[i] != NO_ROUTE else np.uint64(0)


@njit(cache=True, nogil=True)
def drop_shorter(payload: Array, plen: Array, mask: U64) -> None:
    """Routes less specific than the record's own mask do not count (`longest`)."""
    for i in range(payload.size):
        if plen[i] < mask[i]:
            payload[i] = NO_ROUTE


@njit(cache=True, nogil=True)
def choose_longest(
    payload: Array, plen: Array, row: Array, row_plen: Array, mask: U64
) -> None:  # fmt: skip
    """Of route, record and row of the networks file leave what has the longest prefix: at equal
    length the route, then the record. A record with mask 0 tells no network.
    """
    for i in range(payload.size):
        if plen[i] < mask[i]:
            payload[i] = NO_ROUTE
        if row[i] == NO_ROUTE:
            continue
        if payload[i] != NO_ROUTE:
            beaten = row_plen[i] <= plen[i]
        else:
            beaten = mask[i] != 0 and row_plen[i] <= mask[i]
        if beaten:
            row[i] = NO_ROUTE
        else:
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
