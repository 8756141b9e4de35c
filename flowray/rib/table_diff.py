"""What is different between two RIBs: routes that came, went, or have other attributes or labels.

Routes are the same if peer (by what stays when it comes back), family, route distinguisher, path
identifier and prefix or NLRI are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.rib.looking_glass import Ask, TakenRoutes, Target, take, targets
from flowray.rib.route_query import RouteQuery, UnknownPeerError
from flowray.rib.table import Rows
from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.events import I64, U32

__all__ = ["Difference", "differences"]

_Place: TypeAlias = tuple[Any, int]
"""Identity of a peer, and family."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is different in one table, in order: row *i* is a route `before[i]` and what it became,
    `after[i]`, both (n,) positions in the routes beside them, -1 for no route.
    """

    routes_before: TakenRoutes | None
    routes_after: TakenRoutes | None
    before: I64
    after: I64

    def __len__(self) -> int:
        return len(self.before)


def differences(before: Ask, after: Ask, query: RouteQuery) -> Iterator[Difference]:
    """Tables of two RIBs in which anything is different, by the peer and place of `query`.

    Raises UnknownPeerError if neither has the peer asked for.
    """
    old, new = _tables(before, query), _tables(after, query)
    if query.peer and not old and not new:
        raise UnknownPeerError(f"peer: found {query.peer}, of which there are no routes then")
    for place in dict.fromkeys([*old, *new]):
        difference = _difference(
            _taken(before, query, old.get(place)), _taken(after, query, new.get(place))
        )
        if len(difference):
            yield difference


def _tables(ask: Ask, query: RouteQuery) -> dict[_Place, Target]:
    try:
        found: list[Target] = ask(partial(targets, query))
    except UnknownPeerError:
        return {}
    return {(target.peer.identity, target.family): target for target in found}


def _taken(ask: Ask, query: RouteQuery, target: Target | None) -> TakenRoutes | None:
    return None if target is None else ask(partial(take, query, target))


def _difference(old: TakenRoutes | None, new: TakenRoutes | None) -> Difference:
    sides = [side for side in (old, new) if side is not None]
    split = 0 if old is None else len(old)
    keys = _keys(sides)
    order = np.lexsort(keys[::-1])
    same = np.zeros(order.size, np.bool_)
    if order.size:
        neighbours = [key[order][1:] == key[order][:-1] for key in keys]
        same[1:] = np.logical_and.reduce(neighbours)
    # Of two equal keys the first is of the table before, as the sort is stable.
    first = np.flatnonzero(~same)
    paired = np.append(same[1:], False)[first] if order.size else np.zeros(0, np.bool_)
    left, right = order[first], order[np.minimum(first + 1, max(order.size - 1, 0))]
    gone = left < split
    before = np.where(gone, left, -1)
    after = np.where(paired, right - split, np.where(gone, -1, left - split))
    kept = np.flatnonzero(~paired | _changed(old, new, before, after, paired))
    return Difference(old, new, before[kept], after[kept])


def _changed(
    old: TakenRoutes | None,
    new: TakenRoutes | None,
    before: I64,
    after: I64,
    paired: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Whether routes that are on both sides have other attributes or labels."""
    changed = np.zeros(paired.size, np.bool_)
    if old is None or new is None:
        return changed
    both = np.flatnonzero(paired)
    was, now = old.take(before[both]), new.take(after[both])
    known = AttributeStore()
    other = _interned(known, was) != _interned(known, now)
    changed[both] = other | (was.rows.labels != now.rows.labels)
    return changed


def _interned(known: AttributeStore, routes: TakenRoutes) -> U32:
    """Ids (n,) in `known` of the attribute sets of routes."""
    used = np.zeros(len(routes.sets), np.bool_)
    used[routes.rows.attributes] = True
    ids = np.flatnonzero(used)
    offset = routes.sets.offset
    common = np.zeros(used.size, np.uint32)
    common[ids] = known.intern(routes.sets.arena, offset[ids], np.diff(offset)[ids])
    return common[routes.rows.attributes]


def _keys(sides: list[TakenRoutes]) -> list[npt.NDArray[Any]]:
    """Columns by which routes are told apart, the most significant first, of both sides one after
    the other.
    """
    columns = [_columns(side.rows) for side in sides]
    keys = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    nlri = [raw for side in sides for raw in side.nlri]
    rank = {raw: i for i, raw in enumerate(sorted(set(nlri)))}
    if nlri:
        keys.insert(0, np.array([rank[raw] for raw in nlri], np.int64))
    # A column of one value, as most are, orders nothing and costs as much as any.
    return [k for k in keys if k.size and (k != k[0]).any()] or keys[:1]


def _columns(rows: Rows) -> tuple[npt.NDArray[Any], ...]:
    return rows.hi, rows.lo, rows.plen, rows.rd, rows.path_id
