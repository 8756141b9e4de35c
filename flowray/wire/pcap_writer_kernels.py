"""Compiled framing of UDP datagrams into pcap records."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["frame_datagrams", "frame_sizes"]

_Int: TypeAlias = int | np.int64  # an integer of Python or of numpy: numba makes both int64

_RECORD = 16
_ETHERNET = 14
_GIGA = 1_000_000_000


@njit(nogil=True, cache=True)
def _put(out: NDArray[np.uint8], at: _Int, value: _Int, size: _Int) -> None:
    """Write the low `size` bytes of `value`, big-endian."""
    for i in range(size):
        out[at + i] = value >> 8 * (size - 1 - i) & 0xFF


@njit(nogil=True, cache=True)
def _put_little(out: NDArray[np.uint8], at: _Int, value: _Int) -> None:
    for i in range(4):
        out[at + i] = value >> 8 * i & 0xFF


@njit(nogil=True, cache=True)
def _put_word(out: NDArray[np.uint8], at: _Int, word: np.uint64) -> None:
    _put(out, at, np.int64(word >> np.uint64(32)), 4)
    _put(out, at + 4, np.int64(word & np.uint64(0xFFFFFFFF)), 4)


@njit(nogil=True, cache=True)
def _sum(out: NDArray[np.uint8], start: _Int, stop: _Int) -> _Int:
    """Sum of the 16-bit words of a range, the last one padded (RFC 1071)."""
    total: _Int = 0
    for i in range(start, stop - 1, 2):
        total += np.int64(out[i]) << 8 | np.int64(out[i + 1])
    if (stop - start) & 1:
        total += np.int64(out[stop - 1]) << 8
    return total


@njit(nogil=True, cache=True)
def _complement(total: _Int) -> _Int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@njit(nogil=True, cache=True)
def _is_v4(words: NDArray[np.uint64]) -> bool:
    return bool(words[0] == np.uint64(0) and words[1] >> np.uint64(32) == np.uint64(0xFFFF))


@njit(nogil=True, cache=True)
def frame_sizes(
    source: NDArray[np.uint64], length: NDArray[np.int64], ethernet: bool
) -> NDArray[np.int64]:
    """Bytes of the pcap record, (n,) int64, of each datagram; as in `frame_datagrams`."""
    sizes = np.empty(len(length), np.int64)
    for i in range(len(length)):
        network = 20 if _is_v4(source[i]) else 40
        sizes[i] = _RECORD + (_ETHERNET if ethernet else 0) + network + 8 + length[i]
    return sizes


@njit(nogil=True, cache=True)
def _put_v4(out: NDArray[np.uint8], at: _Int, size: _Int, source: _Int, target: _Int) -> None:
    """IPv4 header (RFC 791) of a datagram of `size` bytes behind it, not to be fragmented."""
    _put(out, at, 0x4500, 2)
    _put(out, at + 2, 20 + size, 2)
    _put(out, at + 6, 0x4000, 2)
    _put(out, at + 8, 64, 1)
    _put(out, at + 9, 17, 1)
    _put(out, at + 12, source, 4)
    _put(out, at + 16, target, 4)
    _put(out, at + 10, _complement(_sum(out, at, at + 20)), 2)


@njit(nogil=True, cache=True)
def _put_v6(
    out: NDArray[np.uint8],
    at: _Int,
    size: _Int,
    source: NDArray[np.uint64],
    target: NDArray[np.uint64],
) -> None:
    """IPv6 header (RFC 8200) of a datagram of `size` bytes behind it."""
    _put(out, at, 0x60000000, 4)
    _put(out, at + 4, size, 2)
    _put(out, at + 6, 17, 1)
    _put(out, at + 7, 64, 1)
    _put_word(out, at + 8, source[0])
    _put_word(out, at + 16, source[1])
    _put_word(out, at + 24, target[0])
    _put_word(out, at + 32, target[1])


@njit(nogil=True, cache=True)
def frame_datagrams(
    source: NDArray[np.uint64],
    target: NDArray[np.uint64],
    from_port: NDArray[np.int64],
    to_port: NDArray[np.int64],
    time_ns: NDArray[np.int64],
    blob: NDArray[np.uint8],
    length: NDArray[np.int64],
    tick_ns: _Int,
    ethernet: bool,
    out: NDArray[np.uint8],
) -> None:
    """Write n pcap records with their frames to `out`, (sum of `frame_sizes`,) zeros.

    `source` and `target` are (n, 2) uint64 address words, the payloads stand one behind the other
    in `blob`, `length` bytes each.  `tick_ns` is 1 or 1000, the unit of the file's fractions.
    """
    at = 0
    taken = 0
    for i in range(len(length)):
        v4 = _is_v4(source[i])
        network = 20 if v4 else 40
        size = 8 + length[i]
        frame = (_ETHERNET if ethernet else 0) + network + size
        _put_little(out, at, time_ns[i] // _GIGA)
        _put_little(out, at + 4, time_ns[i] % _GIGA // tick_ns)
        _put_little(out, at + 8, frame)
        _put_little(out, at + 12, frame)
        at += _RECORD
        if ethernet:
            # Locally administered addresses, for the hosts behind them are made up.
            _put(out, at, 0x020000000002, 6)
            _put(out, at + 6, 0x020000000001, 6)
            _put(out, at + 12, 0x0800 if v4 else 0x86DD, 2)
            at += _ETHERNET
        if v4:
            low = np.uint64(0xFFFFFFFF)
            _put_v4(out, at, size, np.int64(source[i, 1] & low), np.int64(target[i, 1] & low))
        else:
            _put_v6(out, at, size, source[i], target[i])
        udp = at + network
        _put(out, udp, from_port[i], 2)
        _put(out, udp + 2, to_port[i], 2)
        _put(out, udp + 4, size, 2)
        out[udp + 8 : udp + size] = blob[taken : taken + length[i]]
        # The pseudo-header (RFC 768, RFC 8200 section 8.1): both addresses, protocol and length.
        first = at + 12 if v4 else at + 8
        checksum = _complement(_sum(out, first, udp + size) + 17 + size)
        _put(out, udp + 6, checksum or 0xFFFF, 2)
        taken += length[i]
        at = udp + size
