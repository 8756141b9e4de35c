"""The compiled loop over envelopes of datagrams."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

PLAIN: Final = 0
OPENED: Final = 1
MALFORMED: Final = 2

UDP: Final = 17
_PROXY_HEADER: Final = 16
_SIGNATURE: Final = np.frombuffer(b"\r\n\r\n\x00\r\nQUIT\n", np.uint8)
_MAPPED: Final = 0xFFFF << 32


@njit(nogil=True, cache=True)
def _word(buf: npt.NDArray[np.uint8], at: np.int64, octets: int) -> np.uint64:
    value = uint64(0)
    for i in range(octets):
        value = (value << uint64(8)) | uint64(buf[at + i])
    return value


@njit(nogil=True, cache=True)
def _is_proxy(buf: npt.NDArray[np.uint8], at: np.int64, length: np.int64) -> bool:
    if length < _SIGNATURE.size:
        return False
    same = 0
    for i in range(_SIGNATURE.size):
        same += buf[at + i] == _SIGNATURE[i]
    return same == _SIGNATURE.size


@njit(nogil=True, cache=True)
def open_envelopes(
    buf: npt.NDArray[np.uint8],
    offset: I64,
    length: I64,
    chosen: I64,
    hi: U64,
    lo: U64,
    state: npt.NDArray[np.int8],
) -> None:
    """Open the envelopes of the chosen datagrams: offset and length (n,) become those of what is
    inside, hi and lo (n,) those of its source. state (n,) becomes PLAIN, OPENED or MALFORMED; what
    is malformed keeps the rest as it is.
    """
    for c in range(chosen.size):
        i = chosen[c]
        at, size = offset[i], length[i]
        state[i] = PLAIN
        if _is_proxy(buf, at, size):
            header = _proxy(buf, at, size, i, hi, lo)
            state[i] = OPENED if header > 0 else MALFORMED
            if header > 0:
                offset[i] += header
                length[i] -= header
        elif size > 0 and (buf[at] >> 4 == 4 or buf[at] >> 4 == 6):
            header, inner = _packet(buf, at, size, i, hi, lo)
            state[i] = OPENED if header > 0 else MALFORMED
            if header > 0:
                offset[i] += header
                length[i] = inner


@njit(nogil=True, cache=True)
def _proxy(
    buf: npt.NDArray[np.uint8], at: np.int64, size: np.int64, i: np.int64, hi: U64, lo: U64
) -> np.int64:
    """Octets of a PROXY header of version 2, 0 if it is malformed."""
    if size < _PROXY_HEADER or buf[at + 12] >> 4 != 2 or buf[at + 12] & 15 > 1:
        return np.int64(0)
    rest = (np.int64(buf[at + 14]) << 8) | np.int64(buf[at + 15])
    if _PROXY_HEADER + rest > size:
        return np.int64(0)
    family = buf[at + 13] >> 4
    addresses = at + _PROXY_HEADER
    if buf[at + 12] & 15 == 1 and family == 1:
        if rest < 12:
            return np.int64(0)
        hi[i] = uint64(0)
        lo[i] = uint64(_MAPPED) | _word(buf, addresses, 4)
    elif buf[at + 12] & 15 == 1 and family == 2:
        if rest < 36:
            return np.int64(0)
        hi[i] = _word(buf, addresses, 8)
        lo[i] = _word(buf, addresses + 8, 8)
    # Else the proxy speaks for itself, or of no address.
    return _PROXY_HEADER + rest


@njit(nogil=True, cache=True)
def _packet(
    buf: npt.NDArray[np.uint8], at: np.int64, size: np.int64, i: np.int64, hi: U64, lo: U64
) -> tuple[np.int64, np.int64]:
    """Octets before the payload of an IP packet with UDP in it, and of the payload; (0, 0) if it is
    malformed, a fragment or of another protocol.
    """
    version = buf[at] >> 4
    if version == 4:
        begin = np.int64(buf[at] & 15) * 4
        if begin < 20 or size < begin + 8:
            return np.int64(0), np.int64(0)
        total = np.int64(_word(buf, at + 2, 2))
        fragment = _word(buf, at + 6, 2) & uint64(0x3FFF)
        protocol = buf[at + 9]
        if fragment != 0:
            return np.int64(0), np.int64(0)
    else:
        begin = np.int64(40)
        if size < begin + 8:
            return np.int64(0), np.int64(0)
        total = begin + np.int64(_word(buf, at + 4, 2))
        protocol = buf[at + 6]
    if protocol != UDP or total > size:
        return np.int64(0), np.int64(0)
    inner = np.int64(_word(buf, at + begin + 4, 2))
    if inner < 8 or begin + inner > total:
        return np.int64(0), np.int64(0)
    if version == 4:
        hi[i] = uint64(0)
        lo[i] = uint64(_MAPPED) | _word(buf, at + 12, 4)
    else:
        hi[i] = _word(buf, at + 8, 8)
        lo[i] = _word(buf, at + 16, 8)
    return begin + 8, inner - 8
