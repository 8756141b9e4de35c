"""Compiled pass over canonical attribute sets that reads what flows are joined with as numbers.

Sets may come from a file, so nothing in them is trusted: what does not fit is as if absent.
"""

from __future__ import annotations

import numpy as np

from flowray.wire import octets
from flowray.wire.bgp import kernels
from flowray.wire.bgp.intern_kernels import FOUR_OCTETS, HEADER
from flowray.wire.bgp.kernels import Bytes, Ints, Words, Words32, kernel, u8, u16, u32

HAS_AS_PATH = 1  # with at least one AS
HAS_NEXT_HOP = 2
HAS_LOCAL_PREF = 4
HAS_MED = 8

_MAPPED = np.uint64(0xFFFF00000000)


@kernel
def _number(arena: Bytes, pos: int, width: int) -> int:
    """An AS number of two or four octets."""
    return u32(arena, pos) if width == 4 else u16(arena, pos)


@kernel
def _segment_end(arena: Bytes, pos: int, end: int, width: int) -> int:
    """Where the segment at `pos` of an AS path ends; -1 if it is empty or passes `end`."""
    if end - pos < 2 or u8(arena, pos + 1) == 0:
        return -1
    after = pos + 2 + width * u8(arena, pos + 1)
    return after if after <= end else -1


@kernel
def _confederation(kind: int) -> bool:
    return kind == kernels.AS_CONFED_SEQUENCE or kind == kernels.AS_CONFED_SET


@kernel
def _hops(arena: Bytes, pos: int, end: int, width: int) -> int:
    """AS numbers in a path: a set counts as one, confederation segments do not (RFC 5065)."""
    total = 0
    while pos < end:
        after = _segment_end(arena, pos, end, width)
        if after < 0:
            break
        kind = u8(arena, pos)
        if kind == kernels.AS_SEQUENCE:
            total += u8(arena, pos + 1)
        elif kind == kernels.AS_SET:
            total += 1
        pos = after
    return total


@kernel
def _first(arena: Bytes, pos: int, end: int, width: int, skip: bool) -> int:
    """The first AS of a path, 0 if it begins with a set; confederation segments may be left out."""
    while pos < end:
        after = _segment_end(arena, pos, end, width)
        if after < 0:
            break
        kind = u8(arena, pos)
        if kind == kernels.AS_SEQUENCE or (kind == kernels.AS_CONFED_SEQUENCE and not skip):
            return _number(arena, pos + 2, width)
        if not (skip and _confederation(kind)):
            break
        pos = after
    return 0


@kernel
def _last(arena: Bytes, pos: int, end: int, width: int) -> int:
    """The last AS of a path without its confederation segments, 0 if that is in a set."""
    last = 0
    while pos < end:
        after = _segment_end(arena, pos, end, width)
        if after < 0:
            break
        kind = u8(arena, pos)
        if kind == kernels.AS_SEQUENCE:
            last = _number(arena, after - width, width)
        elif kind == kernels.AS_SET:
            last = 0
        pos = after
    return last


@kernel
def _find(arena: Bytes, pos: int, end: int, kind: int) -> tuple[int, int]:
    """Start and end of the value of an attribute in pos..end, equal if it is not there."""
    while end - pos >= 3:
        extended = u8(arena, pos) & kernels.EXTENDED_LENGTH
        at = pos + (4 if extended else 3)
        if at > end:
            break
        after = at + (u16(arena, pos + 2) if extended else u8(arena, pos + 2))
        if after > end:
            break
        if u8(arena, pos + 1) == kind:
            return at, after
        pos = after
    return end, end


@kernel
def _describe_hop(arena: Bytes, pos: int, size: int, s: int, hi: Words, lo: Words) -> int:
    """Store the next hop of so many octets at `pos`; returns HAS_NEXT_HOP or 0."""
    if size == 4:
        lo[s] = _MAPPED | octets.u32(arena, pos)
    elif size == 16 or size == 32:
        hi[s] = octets.u64(arena, pos)
        lo[s] = octets.u64(arena, pos + 8)
    else:
        return 0
    return HAS_NEXT_HOP


@kernel
def _describe_metric(
    arena: Bytes, pos: int, end: int, kind: int, s: int, out: Words32, bit: int
) -> int:
    """Store an attribute of four octets; returns `bit`, or 0 if it is not there."""
    at, after = _find(arena, pos, end, kind)
    if after - at != 4:
        return 0
    out[s] = u32(arena, at)
    return bit


@kernel
def _newer_hops(arena: Bytes, pos: int, end: int, hops: int) -> int:
    """How many AS numbers at the end of a two-octet path of `hops` are replaced by those of
    AS4_PATH (RFC 6793 section 4.2.3); `pos` is where the attributes begin.
    """
    at, after = _find(arena, pos, end, kernels.AGGREGATOR)
    if after - at == 6 and u16(arena, at) != kernels.AS_TRANS:
        return 0
    at, after = _find(arena, pos, end, kernels.AS4_PATH)
    newer = _hops(arena, at, after, 4)
    return newer if newer <= hops else 0


@kernel
def _describe_path(
    arena: Bytes,
    pos: int,
    end: int,
    four: int,
    s: int,
    origin_as: Words32,
    peer_as: Words32,
    peer_as_skip_confed: Words32,
) -> int:
    """Store the ends of the AS path; returns HAS_AS_PATH or 0."""
    width = 4 if four else 2
    path, path_end = _find(arena, pos, end, kernels.AS_PATH)
    origin_as[s] = _last(arena, path, path_end, width)
    peer_as[s] = _first(arena, path, path_end, width, skip=False)
    peer_as_skip_confed[s] = _first(arena, path, path_end, width, skip=True)
    hops = _hops(arena, path, path_end, width)
    newer_hops = 0 if four else _newer_hops(arena, pos, end, hops)
    if newer_hops > 0:
        newer, newer_end = _find(arena, pos, end, kernels.AS4_PATH)
        origin_as[s] = _last(arena, newer, newer_end, 4)
        if newer_hops == hops:
            peer_as_skip_confed[s] = _first(arena, newer, newer_end, 4, skip=True)
            if not _confederation(u8(arena, path)):
                peer_as[s] = peer_as_skip_confed[s]
    return HAS_AS_PATH if path < path_end else 0


@kernel
def describe(
    arena: Bytes,
    offset: Ints,
    begin: int,
    until: int,
    origin_as: Words32,
    peer_as: Words32,
    peer_as_skip_confed: Words32,
    next_hop_hi: Words,
    next_hop_lo: Words,
    local_pref: Words32,
    med: Words32,
    present: Bytes,
) -> None:
    """Fill rows begin..until of the columns of `AttributeColumns`, which hold zeros before."""
    for s in range(begin, until):
        start, end = offset[s], offset[s + 1]
        hop = start + HEADER
        if hop > end or u8(arena, start + 1) > end - hop:
            continue
        pos = hop + u8(arena, start + 1)
        four = u8(arena, start) & FOUR_OCTETS
        has = _describe_hop(arena, hop, pos - hop, s, next_hop_hi, next_hop_lo)
        has |= _describe_path(arena, pos, end, four, s, origin_as, peer_as, peer_as_skip_confed)
        has |= _describe_metric(arena, pos, end, kernels.LOCAL_PREF, s, local_pref, HAS_LOCAL_PREF)
        has |= _describe_metric(arena, pos, end, kernels.MULTI_EXIT_DISC, s, med, HAS_MED)
        present[s] = has
