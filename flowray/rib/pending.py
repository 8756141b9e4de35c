"""Rows of a message log on their way to tables. A table of few rows costs as much as one of many,
and most UPDATEs have few routes: rows are collected as columns, and tables made of many at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.rib.peers import Peer
from flowray.rib.route_marks import NO_MARK
from flowray.rib.rows import Routes, event_rows
from flowray.route_fields import RowKind
from flowray.wire.bgp.families import FAMILIES

_OF_PREFIXES = np.zeros(256, np.bool_)
_OF_PREFIXES[[f.index for f in FAMILIES if f.of_prefixes]] = True

Make: TypeAlias = Callable[[Routes, Sequence[Peer]], pa.Table]
"""Makes rows of routes and the peers that they refer to."""


@dataclass(frozen=True, slots=True)
class _Event:
    kind: RowKind
    row: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Batch:
    routes: Routes
    peers: Sequence[Peer]
    nlri: list[bytes] | None
    """Those of its rows, if any is not of a prefix: the buffer they stood in is not kept."""


def _kind(item: _Event | _Batch) -> RowKind | None:
    return item.kind if isinstance(item, _Event) else None


@dataclass(slots=True)
class PendingRows:
    """Rows in the order in which they will be written. Not thread-safe."""

    _items: list[_Event | _Batch] = field(default_factory=list)
    _routes: int = 0

    def __len__(self) -> int:
        """Routes that wait."""
        return self._routes

    def add_event(self, kind: RowKind, row: Mapping[str, object]) -> None:
        """A row that is not of a route."""
        self._items.append(_Event(kind, row))

    def add_routes(self, routes: Routes, peers: Sequence[Peer]) -> None:
        """Rows of routes; their attribute ids must hold until `tables`."""
        self._items.append(_Batch(routes, peers, _nlri(routes)))
        self._routes += len(routes)

    def tables(self, make: Make) -> Iterator[pa.Table]:
        """The tables of all rows, which wait no more."""
        items, self._items, self._routes = self._items, [], 0
        for kind, group in groupby(items, _kind):
            if kind is not None:
                yield event_rows(kind, [e.row for e in group if isinstance(e, _Event)])
            else:
                yield make(*_joined([b for b in group if isinstance(b, _Batch)]))


def _nlri(routes: Routes) -> list[bytes] | None:
    if routes.nlri is None or _OF_PREFIXES[routes.family].all():
        return None
    buf, offset, length = routes.nlri
    return [buf[a : a + n].tobytes() for a, n in zip(offset.tolist(), length.tolist(), strict=True)]


_COLUMNS = (
    "family", "rd", "rd_origin", "path_id", "hi", "lo", "plen", "labels", "attributes", "seq",
    "time_ns",
)  # fmt: skip


def _joined(batches: Sequence[_Batch]) -> tuple[Routes, list[Peer]]:
    """Routes of several batches as one."""
    numbers: dict[Peer, int] = {}
    index = [
        np.array([numbers.setdefault(p, len(numbers)) for p in batch.peers])[batch.routes.peer]
        for batch in batches
    ]

    def column(name: str) -> Any:
        return np.concatenate([getattr(batch.routes, name) for batch in batches])

    routes = Routes(
        peer=np.concatenate(index),
        **{name: column(name) for name in _COLUMNS},
        log_type=column("log_type"),
        mark=_joined_marks(batches),
        nlri=_joined_nlri(batches),
    )
    return routes, list(numbers)


def _joined_marks(batches: Sequence[_Batch]) -> npt.NDArray[np.int64] | None:
    if all(batch.routes.mark is None for batch in batches):
        return None
    none = (np.full(len(b.routes), NO_MARK, np.int64) for b in batches)
    return np.concatenate(
        [n if b.routes.mark is None else b.routes.mark for b, n in zip(batches, none, strict=True)]
    )


def _joined_nlri(
    batches: Sequence[_Batch],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    if all(batch.nlri is None for batch in batches):
        return None
    pieces = [piece for b in batches for piece in (b.nlri or [b""] * len(b.routes))]
    length = np.array([len(piece) for piece in pieces], np.int64)
    return np.frombuffer(b"".join(pieces), np.uint8), np.cumsum(length) - length, length
