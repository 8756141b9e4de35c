"""Whether NLRI have path identifiers, judged by how they fit.

OPENs tell that path identifiers were negotiated, but BMP of some routers leaves them out (FRR
everywhere, GoBGP after policy), or not in all views. Read with path identifiers that are not there,
prefixes become others, of which the default route is the most frequent.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.octets import u8, u16

U8: TypeAlias = npt.NDArray[np.uint8]
I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]
Int: TypeAlias = int | np.int64

# Rows: AFI, SAFI, shape, most bits of a prefix; those of other shapes are not judged.
_FAMILIES = np.array([(f.afi, f.safi, f.shape, f.address_octets * 8) for f in FAMILIES], np.int64)
_PREFIX, _VPN = int(Shape.PREFIX), int(Shape.VPN)

_HEADER = 19
_MP_REACH, _MP_UNREACH = 14, 15
_EXTENDED_LENGTH = 0x10
_PATH_ID = 4


@njit(nogil=True, cache=True)
def fits(buf: U8, at: Int, end: Int, octets: Int, shape: Int, most: Int) -> bool:
    """Whether the octets from `at` to `end` are NLRI of a family with so many `octets` of path
    identifier: the last one ends where they end, and bits after each prefix are zero.
    """
    while at < end:
        at += octets
        if at >= end:
            return False
        bits = np.int64(u8(buf, at))
        at += 1
        last = at + ((bits + 7) >> 3)
        if last > end:
            return False
        if shape != _PREFIX:
            bottom = False
            while not bottom:
                if bits < 24:
                    return False
                label = np.int64(u16(buf, at)) << 8 | np.int64(u8(buf, at + 2))
                # A withdrawal may hold 0x800000 or 0 for a label (RFC 8277 section 2.4).
                bottom = label & 1 != 0 or label == 0x800000 or label == 0
                bits -= 24
                at += 3
        if shape == _VPN:
            bits -= 64
        if bits < 0 or bits > most:
            return False
        spare = -bits & 7
        if bits > 0 and np.int64(u8(buf, last - 1)) & ((1 << spare) - 1) != 0:
            return False
        at = last
    return True


@njit(nogil=True, cache=True)
def _family(afi: Int, safi: Int) -> int:
    """Index of a family of prefixes, -1 for others."""
    for f in range(len(_FAMILIES)):
        if _FAMILIES[f, 0] == afi and _FAMILIES[f, 1] == safi and _FAMILIES[f, 2] <= _VPN:
            return f
    return -1


@njit(nogil=True, cache=True)
def _judge(buf: U8, at: Int, end: Int, family: Int, masks: U64) -> None:
    """Take NLRI of a family into account in `masks`: families present, that do not fit with path
    identifiers, and that do not fit without.
    """
    if family < 0 or at >= end:
        return
    bit = np.uint64(1) << np.uint64(family)
    shape, most = _FAMILIES[family, 2], _FAMILIES[family, 3]
    masks[0] |= bit
    if not fits(buf, at, end, _PATH_ID, shape, most):
        masks[1] |= bit
    if not fits(buf, at, end, 0, shape, most):
        masks[2] |= bit


@njit(nogil=True, cache=True)
def _judge_attributes(buf: U8, at: Int, end: Int, masks: U64) -> None:
    """Take the NLRI of MP_REACH_NLRI and MP_UNREACH_NLRI into account (RFC 4760)."""
    while at + 3 <= end:
        flags, kind = u8(buf, at), u8(buf, at + 1)
        value = at + 3
        length = np.int64(u8(buf, at + 2))
        if flags & _EXTENDED_LENGTH != 0:
            if at + 4 > end:
                return
            value = at + 4
            length = np.int64(u16(buf, at + 2))
        after = value + length
        if after > end:
            return
        if kind == _MP_UNREACH and length >= 3:
            family = _family(np.int64(u16(buf, value)), np.int64(u8(buf, value + 2)))
            _judge(buf, value + 3, after, family, masks)
        elif kind == _MP_REACH and length >= 5:
            family = _family(np.int64(u16(buf, value)), np.int64(u8(buf, value + 2)))
            # Next hop, and a reserved octet.
            _judge(buf, value + 5 + np.int64(u8(buf, value + 3)), after, family, masks)
        at = after


@njit(nogil=True, cache=True)
def _judge_update(buf: U8, at: Int, end: Int, masks: U64) -> None:
    """Take all NLRI of an UPDATE into account (RFC 4271 section 4.3)."""
    at += _HEADER
    if at + 2 > end:
        return
    attributes = at + 2 + np.int64(u16(buf, at))
    if attributes + 2 > end:
        return
    nlri = attributes + 2 + np.int64(u16(buf, attributes))
    if nlri > end:
        return
    _judge(buf, at + 2, attributes, 0, masks)
    _judge_attributes(buf, attributes + 2, nlri, masks)
    _judge(buf, nlri, end, 0, masks)


@njit(nogil=True, cache=True)
def find_path_ids(buf: U8, offset: I64, length: I64, peer: I64, plain: U64, add_path: U64) -> None:
    """Correct `add_path` (n,) uint64, bits of the families that have path identifiers in UPDATEs
    (n,) by negotiation, to those that have.

    `plain` (peers,) uint64 is what is known of peers: bits of the families whose path identifiers
    are left out. An UPDATE that fits but one way tells; one that fits both ways is read as the last
    one that told.
    """
    masks = np.zeros(3, np.uint64)
    for i in range(len(offset)):
        if add_path[i] == 0:
            continue
        masks[:] = 0
        _judge_update(buf, offset[i], offset[i] + length[i], masks)
        told = plain[peer[i]]
        only_without = masks[0] & masks[1] & ~masks[2]
        only_with = masks[0] & masks[2] & ~masks[1]
        told = (told | (only_without & add_path[i])) & ~only_with
        plain[peer[i]] = told
        add_path[i] &= ~told
