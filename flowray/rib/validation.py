"""Route origin validation of whole tables, for snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.rib.lpm import Prefixes
from flowray.rib.roa import RoaSet, RoaState, less_specific_states
from flowray.wire.bgp.attribute_store import AttributeColumns
from flowray.wire.bgp.describe_kernels import HAS_AS_PATH

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]

_MAPPED = np.uint64(0xFFFF << 32)
_LISTED = np.uint32(1 << 31)


@dataclass(frozen=True, slots=True)
class States:
    """`RoaState` of routes: by prefix (n,), 0 for those of several paths; by path of each list."""

    prefixes: U8
    paths: list[U8]


def route_states(
    roas: RoaSet,
    prefixes: Prefixes,
    paths: Sequence[U32],
    columns: AttributeColumns,
    own_as: int,
) -> States:
    """The states of the routes of a table.

    The payload of a prefix is its attribute set, or bit 31: it has several, and the n-th prefix of
    such has the n-th list of `paths`. Invalid routes are told apart by what the table has around
    them (`less_specific_states`).
    """
    listed = np.flatnonzero(prefixes.payload >= _LISTED)
    count = np.ones(len(prefixes), np.int64)
    order = np.argsort(prefixes.payload[listed])
    lists = [paths[i] for i in np.argsort(order).tolist()]
    count[listed] = [p.size for p in lists]
    row = np.repeat(np.arange(len(prefixes)), count)
    sets = prefixes.payload[row]
    if lists:
        sets[prefixes.payload[row] >= _LISTED] = np.concatenate(lists)
    hi, lo = _words(prefixes)
    empty = (columns.present[sets] & HAS_AS_PATH) == 0
    origin = np.where(empty, np.uint32(own_as), columns.origin_as[sets]).astype(np.uint32)
    state = roas.validate(hi[row], lo[row], prefixes.plen[row], origin)
    if (state == RoaState.INVALID).any():
        state = less_specific_states(hi[row], lo[row], prefixes.plen[row], state)
    first = np.cumsum(count) - count
    by_prefix = state[first]
    by_prefix[listed] = 0
    return States(by_prefix, _by_list(state, first[listed][order], [p.size for p in paths]))


def _by_list(state: U8, first: npt.NDArray[np.int64], sizes: Sequence[int]) -> list[U8]:
    return [state[b : b + n] for b, n in zip(first.tolist(), sizes, strict=True)]


def _words(prefixes: Prefixes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The addresses of prefixes, IPv4 as v4-mapped."""
    lo = prefixes.lo.astype(np.uint64)
    if prefixes.wide:
        return prefixes.hi, lo
    return np.zeros(len(lo), np.uint64), lo | _MAPPED
