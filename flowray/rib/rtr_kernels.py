"""Compiled pass over the prefix PDUs of the RPKI-to-Router protocol."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.octets import u8, u32, u64

__all__ = ["read_prefixes"]

U8: TypeAlias = npt.NDArray[np.uint8]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Int: TypeAlias = Any
"""An integer in compiled code, whose width and sign numba infers and no Python type tells."""

_IPV4, _IPV6 = 4, 6
_IPV4_OCTETS, _IPV6_OCTETS = 20, 32


@njit(nogil=True, cache=True, inline="always")
def _high_bits(bits: Int) -> Int:
    """A word whose first `bits` are set."""
    if bits <= 0:
        return np.uint64(0)
    return np.uint64(0xFFFFFFFFFFFFFFFF) << np.uint64(64 - min(bits, np.int64(64)))


@njit(nogil=True, cache=True)
def read_prefixes(
    buf: U8, version: Int, hi: U64, lo: U64, word: U64, announced: U8
) -> tuple[Int, Int]:
    """Read the IPv4 and IPv6 Prefix PDUs (RFC 8210 sections 5.6, 5.7) that `buf` begins with.

    Fills (capacity,) `hi` and `lo` (host bits zero), `word` (AS << 16 | length << 8 | longest) and
    `announced`; returns octets and PDUs read. Another PDU, one that is malformed and one that is
    cut off end it.
    """
    at, row = np.int64(0), np.int64(0)
    while row < len(hi) and len(buf) - at >= _IPV4_OCTETS:
        kind = u8(buf, at + 1)
        octets = np.int64(u32(buf, at + 4))
        six = kind == _IPV6
        size = _IPV6_OCTETS if six else _IPV4_OCTETS
        if u8(buf, at) != version or (kind != _IPV4 and not six) or octets != size:
            break
        if len(buf) - at < size:
            break
        bits, longest = np.int64(u8(buf, at + 9)), np.int64(u8(buf, at + 10))
        if bits > longest or longest > (128 if six else 32):
            break
        if six:
            hi[row] = u64(buf, at + 12) & _high_bits(bits)
            lo[row] = u64(buf, at + 20) & _high_bits(bits - 64)
        else:
            hi[row] = 0
            lo[row] = np.uint64(0xFFFF) << np.uint64(32) | (
                u32(buf, at + 12) & _high_bits(bits + 32)
            )
        asn = u32(buf, at + size - 4)
        word[row] = asn << np.uint64(16) | np.uint64(bits << 8) | np.uint64(longest)
        announced[row] = u8(buf, at + 8) & np.uint64(1)
        at += size
        row += 1
    return at, row
