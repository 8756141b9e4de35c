"""The compiled walk over the headers of BGP messages in a stream (RFC 4271 section 4.1)."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.octets import u8, u16, u64

Int: TypeAlias = int | np.int64
"""An integer of Python or of numpy: numba makes both int64."""

# Why a walk stopped.
STARVED = 0  # inside a message, or exactly after one
MESSAGE = 1  # at a complete message that the caller looks at
BAD_MARKER = 2
BAD_LENGTH = 3
BAD_TYPE = 4

HEADER = 19
PLAIN_LIMIT = 4096
"""Octets of the longest message without the extended message capability."""

_OPEN, _UPDATE, _NOTIFICATION, _KEEPALIVE, _ROUTE_REFRESH = 1, 2, 3, 4, 5
_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@njit(nogil=True, cache=True, inline="always")
def _length_fits(kind: Int, length: Int, limit: Int) -> Any:
    """Whether a message may be so long (RFC 4271 section 6.1, RFC 8654 section 4)."""
    if kind == _UPDATE:
        return 23 <= length <= limit
    if kind == _KEEPALIVE:
        return length == HEADER
    if kind == _OPEN:
        return 29 <= length <= PLAIN_LIMIT
    if kind == _NOTIFICATION:
        return 21 <= length <= limit
    return 23 <= length <= limit


@njit(nogil=True, cache=True)
def walk(
    buf: npt.NDArray[np.uint8],
    begin: Int,
    limit: Int,
    listing: bool,
    offset: npt.NDArray[np.int64],
    length: npt.NDArray[np.int64],
) -> tuple[int, int, int]:
    """Walk over complete messages from `begin` on; returns (n, next, why).

    If `listing`, UPDATEs are listed, the first n rows of `offset` and `length` (each with room for
    every UPDATE that `buf` can hold), KEEPALIVEs are passed over, and the walk stops at any other
    message. Otherwise it stops at the first message. `limit` is the longest message taken, in
    octets. `next` is where the message stands that stopped the walk: its header is wrong, or it is
    complete (MESSAGE), or its end has not come (STARVED).
    """
    n = 0
    p: Any = begin
    while p + HEADER <= buf.size:
        if u64(buf, p) != _ONES or u64(buf, p + 8) != _ONES:
            return n, p, BAD_MARKER
        octets = np.int64(u16(buf, p + 16))
        kind = np.int64(u8(buf, p + 18))
        if octets < HEADER or octets > limit:
            return n, p, BAD_LENGTH
        if kind < _OPEN or kind > _ROUTE_REFRESH:
            return n, p, BAD_TYPE
        if not _length_fits(kind, octets, limit):
            return n, p, BAD_LENGTH
        if p + octets > buf.size:
            break
        if not listing or (kind != _UPDATE and kind != _KEEPALIVE):
            return n, p, MESSAGE
        if kind == _UPDATE:
            offset[n] = p
            length[n] = octets
            n += 1
        p += octets
    return n, p, STARVED
