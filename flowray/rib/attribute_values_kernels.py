"""Compiled search for attributes in canonical sets (layout: `attribute_store`).

Sets may come from a file, so nothing in them is trusted: what does not fit is as if absent.
"""

from __future__ import annotations

from flowray.wire.bgp import kernels
from flowray.wire.bgp.intern_kernels import FOUR_OCTETS, HEADER
from flowray.wire.bgp.kernels import Bytes, Ints, kernel, u8, u16


@kernel
def _attributes(arena: Bytes, pos: int, end: int) -> int:
    """Where the attributes of the set at `pos` begin, `end` if there are none."""
    if end - pos < HEADER:
        return end
    after = pos + HEADER + u8(arena, pos + 1)
    return min(end, after)


@kernel
def locate(
    arena: Bytes, offset: Ints, ids: Ints, kind: int, start: Ints, length: Ints, four: Bytes
) -> None:
    """Where the value of an attribute stands in each of the sets `ids` (n,): `start` (n,), -1 if it
    is not there, and `length` (n,). `four` (n,) is 1 where AS numbers take four octets.
    """
    for i in range(ids.size):
        pos, end = offset[ids[i]], offset[ids[i] + 1]
        start[i], length[i], four[i] = -1, 0, 0
        if pos < end:
            four[i] = u8(arena, pos) & FOUR_OCTETS
        pos = _attributes(arena, pos, end)
        while end - pos >= 3:
            extended = u8(arena, pos) & kernels.EXTENDED_LENGTH
            at = pos + (4 if extended else 3)
            if at > end:
                break
            size = u16(arena, pos + 2) if extended else u8(arena, pos + 2)
            if at + size > end:
                break
            if u8(arena, pos + 1) == kind:
                start[i], length[i] = at, size
                break
            pos = at + size
