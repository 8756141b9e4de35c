"""Compiled passes over NLRI: measure and count them, then fill a row per route.

Counting checks everything, so that filling needs no way out. A length that lies ends a message: its
routes cannot be told apart any more (RFC 7606 section 5.3).
"""

from __future__ import annotations

import numpy as np

from flowray.wire import octets
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.bgp.kernels import Bytes, Ints, Words, Words32, kernel, u8, u16, u32

_PREFIX, _LABELED, _VPN = int(Shape.PREFIX), int(Shape.LABELED), int(Shape.VPN)
_EVPN, _TARGET = int(Shape.EVPN), int(Shape.TARGET)
_FLOWSPEC, _FLOWSPEC_VPN = int(Shape.FLOWSPEC), int(Shape.FLOWSPEC_VPN)
_LINK_STATE, _LINK_STATE_VPN = int(Shape.LINK_STATE), int(Shape.LINK_STATE_VPN)

SHAPE = np.array([family.shape for family in FAMILIES], np.int64)
BITS = np.array([8 * family.address_octets for family in FAMILIES], np.int64)

_MAPPED = np.uint64(0xFFFF00000000)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_LABEL_BITS = 24
_LABELS_KEPT = 3
_RD = 8  # octets of a route distinguisher


@kernel
def _octets(bits: int) -> int:
    """Octets that hold so many bits."""
    return (bits + 7) >> 3


@kernel
def labels_size(buf: Bytes, pos: int, bits: int, withdrawn: bool) -> int:
    """How many labels stand at `pos`, within `bits` bits that are there; 0 if there is none.

    The last one has the bottom-of-stack bit; in a withdrawal a label of 0x800000 or 0 stands alone
    (RFC 8277 section 2.4). A stack without an end is one label: its sender knows no stacks, and
    then the bit means nothing (RFC 8277 section 2.2).
    """
    most = bits // _LABEL_BITS
    for count in range(1, most + 1):
        label = u16(buf, pos) << 8 | u8(buf, pos + 2)
        pos += 3
        if label & 1:
            return count
        if withdrawn and (label == 0x800000 or label == 0):
            return count
    return 1 if most > 0 else 0


@kernel
def _prefix_size(buf: Bytes, pos: int, end: int, shape: int, most: int, withdrawn: bool) -> int:
    """Octets of a prefix NLRI of at most `most` bits, whatever stands before the prefix; or -1."""
    bits = u8(buf, pos)
    size = 1 + _octets(bits)
    if size > end - pos:
        return -1
    if shape != _PREFIX:
        labels = labels_size(buf, pos + 1, bits, withdrawn)
        if labels == 0:
            return -1
        bits -= labels * _LABEL_BITS
    if shape == _VPN:
        bits -= 8 * _RD
    return size if 0 <= bits <= most else -1


@kernel
def _flowspec_header(buf: Bytes, pos: int, end: int) -> int:
    """Octets of the length of a flow specification (RFC 8955 section 4.1), or -1 if cut off."""
    if u8(buf, pos) < 0xF0:
        return 1
    return 2 if end - pos >= 2 else -1


@kernel
def _flowspec_size(buf: Bytes, pos: int, end: int, shape: int) -> int:
    header = _flowspec_header(buf, pos, end)
    if header < 0:
        return -1
    size = u8(buf, pos) if header == 1 else u16(buf, pos) & 0x0FFF
    return -1 if shape == _FLOWSPEC_VPN and size < _RD else header + size


@kernel
def _link_state_size(buf: Bytes, pos: int, end: int, shape: int) -> int:
    if end - pos < 4:
        return -1
    size = u16(buf, pos + 2)
    return -1 if shape == _LINK_STATE_VPN and size < _RD else 4 + size


@kernel
def _opaque_size(buf: Bytes, pos: int, end: int, shape: int) -> int:
    """Octets of an NLRI that is not a prefix, or -1 if it is malformed or passes `end`."""
    if shape == _EVPN:
        size = 2 + u8(buf, pos + 1) if end - pos >= 2 else -1
    elif shape == _TARGET:
        bits = u8(buf, pos)
        size = 1 + _octets(bits) if bits == 0 or 32 <= bits <= 96 else -1  # RFC 4684 section 4
    elif shape == _FLOWSPEC or shape == _FLOWSPEC_VPN:
        size = _flowspec_size(buf, pos, end, shape)
    else:
        size = _link_state_size(buf, pos, end, shape)
    return size if size <= end - pos else -1


@kernel
def _nlri_size(buf: Bytes, pos: int, end: int, family: int, withdrawn: bool) -> int:
    """Octets of the NLRI at `pos`, or -1; at least one octet is there."""
    shape = SHAPE[family]
    if shape <= _VPN:
        return int(_prefix_size(buf, pos, end, shape, BITS[family], withdrawn))
    return int(_opaque_size(buf, pos, end, shape))


@kernel
def count_nlri(buf: Bytes, pos: int, end: int, family: int, add_path: int, withdrawn: bool) -> int:
    """How many NLRI fill pos..end, each after a path identifier if `add_path`; -1 if they do not.

    `family` is an index of FAMILIES.
    """
    count = 0
    front = 4 if add_path else 0
    while pos < end:
        pos += front
        if pos >= end:
            return -1
        size = _nlri_size(buf, pos, end, family, withdrawn)
        if size < 0:
            return -1
        pos += size
        count += 1
    return count


@kernel
def _word(buf: Bytes, pos: int, bits: int) -> np.uint64:
    """The first `bits` bits (0 to 64) from `pos` on, the rest zero; reads no octet without one."""
    word = np.uint64(0)
    if bits == 0:
        return word
    if pos + 8 <= buf.size:
        word = octets.u64(buf, pos)
    else:
        for k in range(_octets(bits)):
            word |= octets.u8(buf, pos + k) << np.uint64(56 - 8 * k)
    return word & (_ONES << np.uint64(64 - bits))


@kernel
def _put_prefix(buf: Bytes, pos: int, bits: int, most: int, hi: Words, lo: Words, m: int) -> None:
    """Store `bits` bits of an address of `most` bits in its two words."""
    if most == 32:
        lo[m] = _MAPPED | _word(buf, pos, bits) >> np.uint64(32)
        return
    hi[m] = _word(buf, pos, min(bits, 64))
    if bits > 64:
        lo[m] = _word(buf, pos + 8, bits - 64)


@kernel
def _label_word(buf: Bytes, pos: int, count: int) -> np.uint64:
    """The `labels` of RouteEvents."""
    word = np.uint64(count) << np.uint64(60)
    for k in range(min(count, _LABELS_KEPT)):
        label = np.uint64(u16(buf, pos + 3 * k) << 4 | u8(buf, pos + 3 * k + 2) >> 4)
        word |= label << np.uint64(20 * k)
    return word


@kernel
def _rd_offset(buf: Bytes, pos: int, end: int, shape: int) -> int:
    """Where the route distinguisher of an NLRI that is not a prefix stands, or -1."""
    at = -1
    if shape == _EVPN:
        at = pos + 2
    elif shape == _FLOWSPEC_VPN:
        at = pos + _flowspec_header(buf, pos, end)
    elif shape == _LINK_STATE_VPN:
        at = pos + 4
    return at if at >= 0 and end - at >= _RD else -1


@kernel
def fill_keys(
    buf: Bytes,
    pos: int,
    end: int,
    family: int,
    add_path: int,
    withdrawn: bool,
    kept: bool,
    m: int,
    rd: Words,
    path_id: Words32,
    hi: Words,
    lo: Words,
    plen: Bytes,
    labels: Words,
    nlri_offset: Ints,
    nlri_length: Ints,
) -> int:
    """Fill rows m.. of the columns that name routes with the NLRI in pos..end, which `count_nlri`
    has found to be well-formed; returns the row after them. The columns hold zeros before.

    `withdrawn` is how `count_nlri` was asked; labels are stored if `kept`.
    """
    shape, most = SHAPE[family], BITS[family]
    while pos < end:
        if add_path:
            path_id[m] = u32(buf, pos)
            pos += 4
        size = _nlri_size(buf, pos, end, family, withdrawn)
        nlri_offset[m] = pos
        nlri_length[m] = size
        if shape <= _VPN:
            bits, at = u8(buf, pos), pos + 1
            if shape != _PREFIX:
                count = labels_size(buf, at, bits, withdrawn)
                if kept:
                    labels[m] = _label_word(buf, at, count)
                at += 3 * count
                bits -= count * _LABEL_BITS
            if shape == _VPN:
                rd[m] = octets.u64(buf, at)
                at += _RD
                bits -= 8 * _RD
            plen[m] = bits
            _put_prefix(buf, at, bits, most, hi, lo, m)
        else:
            at = _rd_offset(buf, pos, pos + size, shape)
            if at >= 0:
                rd[m] = octets.u64(buf, at)
        pos += size
        m += 1
    return m
