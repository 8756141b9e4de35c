"""Which sets of path attributes meet the conditions of a query.

Each condition is evaluated once per distinct value of the attribute it is about: sets by far
outnumber their AS paths and lists of communities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowray.hashing import Interner
from flowray.rib.attribute_values_kernels import locate
from flowray.rib.route_query import Community, RouteQuery
from flowray.wire.bgp.as_path import as_path_text, read_as_path
from flowray.wire.bgp.attribute_store import AttributeColumns
from flowray.wire.bgp.attributes import Attributes, AttributeType, decode_attributes
from flowray.wire.bgp.communities import (
    communities,
    extended_communities,
    extended_community_text,
    large_communities,
)
from flowray.wire.bgp.describe_kernels import describe
from flowray.wire.bgp.events import I64, U8
from flowray.wire.bgp.intern_kernels import WORD

__all__ = ["AttributeSets", "matching_sets"]

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AttributeSets:
    """The sets of an `AttributeStore` as they were: `arena` and `offset` as there. The store only
    adds to what it has, and gives way to new arrays, so these stay as they are.
    """

    arena: U8
    offset: I64

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.arena[self.offset[index] : self.offset[index + 1]].tobytes()

    def decode(self, index: int) -> Attributes:
        """The attributes of a set."""
        return decode_attributes(self[index])

    def described(self, ids: I64) -> AttributeColumns:
        """Columns of the sets `ids` (n,), as `AttributeStore.columns` has them of all."""
        columns = AttributeColumns.empty(ids.size)
        octets = b"".join(self[i] for i in ids.tolist()) + bytes(WORD)
        size = self.offset[ids + 1] - self.offset[ids]
        offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
        arena = np.frombuffer(octets, np.uint8)
        describe(arena, offset, 0, ids.size, *columns.arrays)
        return columns


def matching_sets(sets: AttributeSets, ids: I64, query: RouteQuery) -> Mask:
    """Whether each of the sets `ids` (n,) meets the query's conditions on attributes, (n,) bool."""
    meets = np.ones(ids.size, np.bool_)
    for community in query.communities:
        left = np.flatnonzero(meets)
        meets[left] = _with_community(sets, ids[left], community)
    if query.as_path:
        left = np.flatnonzero(meets)
        meets[left] = _with_path(sets, ids[left], query.as_path)
    return meets


@dataclass(frozen=True, slots=True)
class _Values:
    """Distinct values of an attribute in sets (n,): `index` (n,) says which, -1 for none."""

    distinct: list[bytes]
    index: I64
    four: U8

    def spread(self, found: npt.NDArray[Any]) -> Mask:
        """By set what was found by distinct value; sets without the attribute have not."""
        meets = np.append(np.asarray(found, np.bool_), False)
        return meets[self.index]


def _values(sets: AttributeSets, ids: I64, kind: AttributeType) -> _Values:
    start, length = np.empty(ids.size, np.int64), np.empty(ids.size, np.int64)
    four = np.empty(ids.size, np.uint8)
    locate(sets.arena, sets.offset, ids, int(kind), start, length, four)
    interner = Interner(limit=1 << 32, octets=1 << 40)
    there = np.flatnonzero(start >= 0)
    place = start[there] << 16 | length[there]
    index = np.full(ids.size, -1, np.int64)
    numbers = interner.intern(sets.arena, place.astype(np.uint64)).astype(np.int64)
    distinct, index[there] = np.unique(numbers, return_inverse=True)
    return _Values(interner.values(distinct), index, four)


def _with_path(sets: AttributeSets, ids: I64, pattern: str) -> Mask:
    """Sets whose AS path has the pattern. Numbers of two octets are completed by AS4_PATH, so sets
    with both attributes are read whole.
    """
    paths = _values(sets, ids, AttributeType.AS_PATH)
    meets = paths.spread(_search(pattern, [_path_text(v) for v in paths.distinct]))
    short = np.flatnonzero(paths.four == 0)
    texts = [sets.decode(i).as_path_text for i in ids[short].tolist()]
    meets[short] = _search(pattern, texts)
    return meets


def _path_text(value: bytes) -> str | None:
    path = read_as_path(value, four_octets=True)
    return None if path is None else as_path_text(path)


def _search(pattern: str, texts: list[str | None]) -> Mask:
    """Whether each text has the pattern; RE2 takes time in proportion to the text, whoever wrote
    the pattern.
    """
    found = pc.match_substring_regex(pa.array(texts, pa.string()), pattern)
    mask: Mask = found.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _texts_of_extended(value: bytes) -> tuple[str, ...] | None:
    items = extended_communities(value)
    return None if items is None else tuple(map(extended_community_text, items))


_READERS: Final[dict[AttributeType, Callable[[bytes], tuple[Any, ...] | None]]] = {
    AttributeType.COMMUNITIES: communities,
    AttributeType.LARGE_COMMUNITY: large_communities,
    AttributeType.EXTENDED_COMMUNITIES: _texts_of_extended,
}


def _with_community(sets: AttributeSets, ids: I64, community: Community) -> Mask:
    lists = _values(sets, ids, community.kind)
    read = _READERS[community.kind]
    found = [community.value in (read(value) or ()) for value in lists.distinct]
    return lists.spread(np.array(found, np.bool_))
