"""A RIB on disk: what a group knew before a restart, until its routers have told it anew.

A file is one of `flowray.views.checkpoint`: peers in its description, a table of attribute sets,
and one for each peer and family with those columns of `Rows` that its routes need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.rib.peers import Peer, PolicyView
from flowray.rib.rib import Rib
from flowray.rib.table import RouteTable, Rows
from flowray.views.checkpoint import CheckpointError, State
from flowray.wire.bgp.events import U32, Action, RouteEvents
from flowray.wire.bgp.families import FAMILIES, UNKNOWN_FAMILY, family_index

FORM = 1
SETS = "attribute sets"
RESTORED_MARK = 0
"""Refresh mark of routes that no session has announced yet (see `rib.MARKS`)."""

_V4_MAPPED = np.uint64(0xFFFF << 32)

_Columns = dict[str, npt.NDArray[Any]]


def saved(rib: Rib, now_ns: int = 0) -> State:
    """All of a RIB at this time, copied: it may change while this is written."""
    tables: dict[str, pa.Table] = {SETS: _binary(rib.store.arena, rib.store.offset)}
    peers = []
    for number, peer in enumerate(rib.peers()):
        listed = []
        for family, table in sorted(peer.tables.items()):
            if not len(table):
                continue
            place = f"{number}/{family}"
            tables[place] = _packed(table)
            f = FAMILIES[family]
            listed.append({"afi": f.afi, "safi": f.safi, "add_path": table.add_path, "in": place})
        if listed:
            peers.append({"peer": asdict(peer.peer), "tables": listed})
    return {"form": FORM, "at": now_ns, "peers": peers}, tables


def restore(rib: Rib, state: State) -> int:
    """Give an empty RIB what was saved, as peers without a session; the number of routes. Raises
    CheckpointError for a state of another form.
    """
    description, tables = state
    if description.get("form") != FORM:
        raise CheckpointError(f"routes saved in form {description.get('form')}, allowed {FORM}")
    arena, offset = _octets(tables[SETS]["octets"])
    ids = rib.store.intern(arena, offset[:-1], np.diff(offset))
    for row in description["peers"]:
        peer = rib.peer(rib.open(_peer(row["peer"])))
        peer.session, peer.stale = False, True
        for listed in row["tables"]:
            family = family_index(listed["afi"], listed["safi"])
            if family != UNKNOWN_FAMILY:
                table = RouteTable(FAMILIES[family], add_path=listed["add_path"])
                _fill(table, tables[listed["in"]], ids)
                peer.tables[family] = table
    rib.generation += 1
    return sum(tables.routes for tables in rib.peers())


def _peer(row: Mapping[str, Any]) -> Peer:
    return Peer(**{**row, "view": PolicyView(row["view"])})


# -- routes ----------------------------------------------------------------------------------------


def _packed(table: RouteTable) -> pa.Table:
    """The routes of a table: IPv4 addresses as words of 32 bits, no columns of zeros."""
    rows = table.rows()
    columns: dict[str, Any] = {f.name: getattr(rows, f.name) for f in fields(Rows)}
    if table.family.of_prefixes and not rows.hi.any() and (rows.lo >> 32 == 0xFFFF).all():
        columns["lo"] = rows.lo.astype(np.uint32)
    wanted = {"attributes", "lo"} if table.family.of_prefixes else {"attributes"}
    wanted |= {name for name, column in columns.items() if column.any()}
    kept = {name: pa.array(columns[name]) for name in sorted(wanted - {"nlri"})}
    if not table.family.of_prefixes:
        nlri = table.nlri(rows.nlri)
        kept["nlri"] = pa.array(nlri, pa.large_binary())
    return pa.table(kept)


def _fill(table: RouteTable, stored: pa.Table, ids: U32) -> None:
    """Announce stored routes to an empty table."""
    n = stored.num_rows
    columns: _Columns = {
        f.name: np.zeros(n, _TYPES[f.name]) for f in fields(RouteEvents) if f.name in _TYPES
    }
    for name in set(stored.column_names) - {"nlri"}:
        columns[name] = stored[name].to_numpy().astype(_TYPES[name])
    if table.family.of_prefixes and stored.schema.field("lo").type == pa.uint32():
        columns["lo"] |= _V4_MAPPED
    buf, offset = np.empty(0, np.uint8), np.zeros(n + 1, np.int64)
    if "nlri" in stored.column_names:
        buf, offset = _octets(stored["nlri"])
    columns["attributes"] = ids[columns["attributes"]]
    events = RouteEvents(
        message=np.zeros(n, np.int64),
        action=np.full(n, Action.ANNOUNCE, np.uint8),
        family=np.full(n, table.family.index, np.uint8),
        nlri_offset=offset[:-1],
        nlri_length=np.diff(offset),
        **columns,
    )
    table.apply(events, np.arange(n), buf, RESTORED_MARK)


_TYPES: dict[str, type[np.unsignedinteger[Any]]] = {
    "rd": np.uint64,
    "path_id": np.uint32,
    "hi": np.uint64,
    "lo": np.uint64,
    "plen": np.uint8,
    "labels": np.uint64,
    "attributes": np.uint32,
}


# -- octets ----------------------------------------------------------------------------------------


def _binary(arena: npt.NDArray[np.uint8], offset: npt.NDArray[np.int64]) -> pa.Table:
    buffers = [None, pa.py_buffer(offset.copy()), pa.py_buffer(arena.copy())]
    octets = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offset) - 1, buffers)
    return pa.table({"octets": octets})


def _octets(column: pa.ChunkedArray[Any]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All values of a column of large binary, one after another, and where they begin (n + 1,):
    copies, for kernels are not compiled for arrays that are only read.
    """
    (chunk,) = column.chunks or [pa.array([], pa.large_binary())]
    _, places, data = chunk.buffers()
    if places is None or not len(chunk):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    offset = np.frombuffer(places, np.int64, len(chunk) + 1).copy()
    return np.frombuffer(data or b"", np.uint8).copy(), offset
