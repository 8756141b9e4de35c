"""What identifies an EVPN route: the octets of its NLRI that BGP compares (RFC 7432 section 7, RFC
9136 section 3.1). Ethernet segments of MAC and prefix routes, gateways and labels are not among
them: a MAC address that moves is the same route, told anew.
"""

from __future__ import annotations

import numpy as np

from flowray.wire.bgp.events import I64, U8

_HEADER, _RD, _SEGMENT, _TAG = 2, 8, 10, 4
_AUTO_DISCOVERY, _MAC_IP, _IP_PREFIX = 1, 2, 5
_FIRST = _HEADER + _RD
_AFTER_SEGMENT = _FIRST + _SEGMENT
_IP_LENGTH = _AFTER_SEGMENT + _TAG + 7
"""Octet of the length of the IP address, behind that of the MAC address and the address."""

_PREFIX_OCTETS = {34: 4, 58: 16}
"""Octets of the address by the length of an IP prefix route (RFC 9136 section 3.1)."""


def evpn_keys(buf: U8, offset: I64, length: I64) -> tuple[U8, I64, I64]:
    """Keys of NLRI: a buffer, and offset and length (n,) of each in it.

    All of an NLRI that is not as long as its type says is its key.
    """
    kind = _octet(buf, offset, length, 0)
    end, skips = _extents(buf, offset, length, kind)
    row = np.repeat(np.arange(len(length)), length)
    column = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    kept = (column != 1) & (column < end[row])
    kept &= ~(skips[row] & (column >= _FIRST) & (column < _AFTER_SEGMENT))
    sizes = np.bincount(row[kept], minlength=len(length)).astype(np.int64)
    return buf[(offset[row] + column)[kept]], np.cumsum(sizes) - sizes, sizes


def _octet(buf: U8, offset: I64, length: I64, at: int) -> I64:
    """The octet at a place of each NLRI, 0 where it is shorter."""
    place = np.where(length > at, offset + at, 0)
    return np.where(length > at, buf[place], 0).astype(np.int64)


def _extents(
    buf: U8, offset: I64, length: I64, kind: I64
) -> tuple[I64, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Where the key of each NLRI ends, and whether the Ethernet segment is no part of it."""
    end, skips = length.copy(), np.zeros(len(length), np.bool_)
    end[(kind == _AUTO_DISCOVERY) & (length == _AFTER_SEGMENT + _TAG + 3)] -= 3
    ip = _IP_LENGTH + 1 + _octet(buf, offset, length, _IP_LENGTH) // 8
    of_mac = (kind == _MAC_IP) & ((length == ip + 3) | (length == ip + 6))
    end[of_mac], skips[of_mac] = ip[of_mac], True
    for octets, address in _PREFIX_OCTETS.items():
        of_prefix = (kind == _IP_PREFIX) & (length == _HEADER + octets)
        end[of_prefix], skips[of_prefix] = _AFTER_SEGMENT + _TAG + 1 + address, True
    return end, skips
