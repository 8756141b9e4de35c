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
def _begins_confederate(arena: Bytes, pos: int, end: int) -> bool:
    return bool(pos < end and _confederation(u8(arena, pos)))


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
        pos, end = offset[s], offset[s + 1]
        if end - pos < HEADER:
            continue
        four = u8(arena, pos) & FOUR_OCTETS
        hop, size = pos + HEADER, u8(arena, pos + 1)
        if size > end - hop:
            continue
        has = 0
        if size == 4:
            next_hop_lo[s] = _MAPPED | octets.u32(arena, hop)
            has |= HAS_NEXT_HOP
        elif size >= 16:
            next_hop_hi[s] = octets.u64(arena, hop)
            next_hop_lo[s] = octets.u64(arena, hop + 8)
            has |= HAS_NEXT_HOP
        path = path_end = newer = newer_end = 0
        aggregator = kernels.AS_TRANS
        pos = hop + size
        while end - pos >= 4:
            extended = u8(arena, pos) & kernels.EXTENDED_LENGTH
            kind = u8(arena, pos + 1)
            at = pos + (4 if extended else 3)
            after = at + (u16(arena, pos + 2) if extended else u8(arena, pos + 2))
            if after > end:
                break
            if kind == kernels.AS_PATH:
                path, path_end = at, after
            elif kind == kernels.AS4_PATH:
                newer, newer_end = at, after
            elif kind == kernels.AGGREGATOR and after - at == 6:
                aggregator = u16(arena, at)
            elif kind == kernels.LOCAL_PREF and after - at == 4:
                local_pref[s] = u32(arena, at)
                has |= HAS_LOCAL_PREF
            elif kind == kernels.MULTI_EXIT_DISC and after - at == 4:
                med[s] = u32(arena, at)
                has |= HAS_MED
            pos = after
        width = 4 if four else 2
        own = _first(arena, path, path_end, width, skip=False)
        skipping = _first(arena, path, path_end, width, skip=True)
        origin = _last(arena, path, path_end, width)
        hops = _hops(arena, path, path_end, width)
        newer_hops = _hops(arena, newer, newer_end, 4)
        # RFC 6793 section 4.2.3: AS4_PATH replaces as many AS numbers at the end as it has.
        if not four and aggregator == kernels.AS_TRANS and 0 < newer_hops <= hops:
            origin = _last(arena, newer, newer_end, 4)
            if newer_hops == hops:
                skipping = _first(arena, newer, newer_end, 4, skip=True)
                if not _begins_confederate(arena, path, path_end):
                    own = skipping
        if path < path_end:
            has |= HAS_AS_PATH
        origin_as[s] = origin
        peer_as[s] = own
        peer_as_skip_confed[s] = skipping
        present[s] = has
