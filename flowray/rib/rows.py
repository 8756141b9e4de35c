"""Rows of route streams: columns of routes, and events of sessions, as native Arrow tables.

A table has the columns of `flowray.route_fields`, whatever its rows are, so that tables of a stream
can be put together; `flowray.sinks.render` turns them into what users read. Texts of attributes are
made once per distinct set, texts of peers once per peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from flowray.arrow import arrow_type
from flowray.rib.native_columns import Column, column, indexed, taken
from flowray.rib.route_columns import Event, LogType, RdOrigin, Routes, route_columns
from flowray.rib.row_peers import BgpPeer, BmpPeer
from flowray.route_fields import ROUTE_FIELDS, ROW_KIND, ROW_KINDS, RowKind
from flowray.wire.bgp.attributes import Attributes

__all__ = [
    "BgpPeer",
    "BmpPeer",
    "Event",
    "LogType",
    "RdOrigin",
    "Routes",
    "bgp_rows",
    "bmp_rows",
    "event_rows",
    "stream_schema",
]


def bgp_rows(
    routes: Routes,
    peers: Sequence[BgpPeer],
    attributes: Callable[[int], Attributes],
    event: Event,
) -> pa.Table:
    """Rows of routes of BGP sessions; `attributes` gives the set of an id, asked once per id."""
    kinds = {"log": RowKind.BGP_ROUTE, "dump": RowKind.BGP_DUMP_ROUTE, "lglass": RowKind.BGP_LOOKUP}
    return _rows(routes, [p.columns for p in peers], attributes, event, kinds[event])


def bmp_rows(
    routes: Routes,
    peers: Sequence[BmpPeer],
    attributes: Callable[[int], Attributes],
    event: Event,
) -> pa.Table:
    """Rows of routes that BMP told of; `attributes` as in `bgp_rows`.

    Deletions are no message of the router: their `bmp_msg_type` is `internal`.
    """
    kinds = {"log": RowKind.BMP_ROUTE, "dump": RowKind.BMP_DUMP_ROUTE, "lglass": RowKind.BMP_LOOKUP}
    columns = route_columns(routes, [p.columns for p in peers], attributes, event)
    internal = np.zeros(len(routes), np.int32)
    if routes.log_type is not None:
        internal[routes.log_type == LogType.DELETE] = 1
    columns["peer_tcp_port"] = taken("peer_tcp_port", np.zeros(len(routes), np.int32), (0,))
    columns["bmp_msg_type"] = indexed(internal, ("route_monitor", "internal"))
    return _table(columns, len(routes), kinds[event])


def event_rows(kind: RowKind, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Rows that are not of routes, from values by field: numbers, nanoseconds for times, texts,
    lists of texts; those that lack are null.

    Raises KeyError for a field that rows of this kind have not.
    """
    rows = list(rows)
    keys = dict.fromkeys(key for row in rows for key in row)
    if unknown := [key for key in keys if key not in ROW_KINDS[kind]]:
        raise KeyError(f"{kind.name} rows have no {', '.join(unknown)}")
    columns = {key: column(key, [row.get(key) for row in rows]) for key in keys}
    return _table(columns, len(rows), kind)


def stream_schema() -> pa.Schema:
    """The native columns of every route stream."""
    return _SCHEMA


_SCHEMA: Final = pa.schema([pa.field(f.name, arrow_type(f)) for f in ROUTE_FIELDS.values()])


def _table(columns: Mapping[str, Column], rows: int, kind: RowKind) -> pa.Table:
    """The whole width of the stream; fields without a column are null."""
    columns = {**columns, ROW_KIND: pa.array(np.full(rows, kind, np.uint8))}
    arrays = [columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in _SCHEMA]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _rows(
    routes: Routes,
    peers: Sequence[Mapping[str, object]],
    attributes: Callable[[int], Attributes],
    event: Event,
    kind: RowKind,
) -> pa.Table:
    return _table(route_columns(routes, peers, attributes, event), len(routes), kind)
