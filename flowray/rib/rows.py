"""Rows of route streams: columns of routes, and events of sessions, as native Arrow tables.

A table has the columns of `flowray.route_fields`, whatever its rows are, so that tables of a stream
can be put together; `flowray.sinks.render` turns them into what users read. Texts of attributes are
made once per distinct set, texts of peers once per peer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.arrow import arrow_type
from flowray.route_fields import ROUTE_FIELDS, ROW_KIND, ROW_KINDS, RowKind
from flowray.wire.bgp.attributes import Attributes
from flowray.wire.bgp.distinguisher import rd_text
from flowray.wire.bgp.events import U8, U32, U64
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.bgp.nlri import read_nlri

__all__ = [
    "BgpPeer",
    "BmpPeer",
    "BmpView",
    "Event",
    "LogType",
    "RdOrigin",
    "Routes",
    "bgp_rows",
    "bmp_rows",
    "event_rows",
    "stream_schema",
]

I64: TypeAlias = npt.NDArray[np.int64]
Column: TypeAlias = "pa.Array[Any]"
Event: TypeAlias = Literal["log", "dump", "lglass"]
"""What rows of routes are part of: a message log, a dump, an answer to a look-up."""


class LogType(IntEnum):
    """What a message log says of a route; the first three are values of `events.Action`."""

    UPDATE = 0
    WITHDRAW = 1
    END_OF_RIB = 2
    DELETE = 3


class RdOrigin(IntEnum):
    """What told the route distinguisher of a route."""

    NONE = 0
    BGP = 1
    BMP = 2


class BmpView(IntEnum):
    """Tables of a router that BMP tells of (RFC 7854, RFC 8671, RFC 9069)."""

    ADJ_RIB_IN_PRE = 0
    ADJ_RIB_IN_POST = 1
    LOC_RIB = 2
    ADJ_RIB_OUT_PRE = 3
    ADJ_RIB_OUT_POST = 4

    @property
    def columns(self) -> dict[str, object]:
        """The columns that say which table it is, as pmacct has them."""
        return _VIEWS[self]


def _view(text: str, **marks: int) -> dict[str, object]:
    return {"bmp_rib_type": text, **marks}


_VIEWS: Final[dict[BmpView, dict[str, object]]] = {
    BmpView.ADJ_RIB_IN_PRE: _view("Adj-Rib-In Pre-Policy", is_in=1, is_post=0),
    BmpView.ADJ_RIB_IN_POST: _view("Adj-Rib-In Post-Policy", is_in=1, is_post=1),
    BmpView.LOC_RIB: _view("Loc-Rib", is_loc=1),
    BmpView.ADJ_RIB_OUT_PRE: _view("Adj-Rib-Out Pre-Policy", is_out=1, is_post=0),
    BmpView.ADJ_RIB_OUT_POST: _view("Adj-Rib-Out Post-Policy", is_out=1, is_post=1),
}

_PEER_TYPES: Final = (
    "Global Instance Peer",
    "RD Instance Peer",
    "Local Instance Peer",
    "Loc-RIB Instance Peer",
)


@dataclass(frozen=True, slots=True)
class BgpPeer:
    """A BGP session as its rows show it; `label` as in flow rows: `key%value,key%value`."""

    address: str
    port: int = 0
    bgp_id: str | None = None
    tag: int | None = None
    label: str | None = None

    @property
    def columns(self) -> dict[str, object]:
        """Values by field."""
        return {
            "peer_ip_src": self.address,
            "peer_tcp_port": self.port,
            "peer_id": self.bgp_id,
            "tag": self.tag,
            "label": self.label,
        }


@dataclass(frozen=True, slots=True)
class BmpPeer:
    """One table of one peer of a monitored router, as its rows show it.

    `filtered` is the F flag of the message (RFC 9069 section 4.2); `router`, `port`, `tag` and
    `label` are of the BMP session.
    """

    router: str
    port: int
    address: str
    asn: int
    bgp_id: str
    view: BmpView
    peer_type: int = 0
    filtered: bool = False
    tag: int | None = None
    label: str | None = None

    @property
    def columns(self) -> dict[str, object]:
        """Values by field."""
        named = self.peer_type < len(_PEER_TYPES)
        return {
            "bmp_router": self.router,
            "bmp_router_port": self.port,
            "peer_ip": self.address,
            "peer_asn": self.asn,
            "bgp_id": self.bgp_id,
            "peer_type": self.peer_type,
            "peer_type_str": _PEER_TYPES[self.peer_type] if named else "",
            "is_filtered": int(self.filtered),
            "tag": self.tag,
            "label": self.label,
            **self.view.columns,
        }


@dataclass(slots=True)
class Routes:
    """Routes to be written, one row each.

    - `peer` (n,) int64: index of the peer in the list given beside
    - `family` (n,) uint8: index in `FAMILIES`
    - `rd` (n,) uint64: the eight octets of the route distinguisher, big-endian
    - `rd_origin` (n,) uint8: `RdOrigin`
    - `path_id` (n,) uint32: path identifier, 0 without one
    - `hi`, `lo` (n,) uint64, `plen` (n,) uint8: prefix, as in `RouteEvents`
    - `labels` (n,) uint64: as in `RouteEvents`
    - `attributes` (n,) uint32: id of the attribute set
    - `seq` (n,) uint64, `time_ns` (n,) int64: columns `seq` and `timestamp`
    - `log_type` (n,) uint8: `LogType`; None except in message logs
    - `arrival_ns` (n,) int64, `stale` (n,) bool, `roa` (n,) texts: or None if there are none
    - `nlri`: buffer (uint8), and offsets and lengths (n,) int64 of the NLRI of routes that are not
      of prefixes; None if there are none
    """

    peer: I64
    family: U8
    rd: U64
    rd_origin: U8
    path_id: U32
    hi: U64
    lo: U64
    plen: U8
    labels: U64
    attributes: U32
    seq: U64
    time_ns: I64
    log_type: U8 | None = None
    arrival_ns: I64 | None = None
    stale: npt.NDArray[np.bool_] | None = None
    roa: Sequence[str] | None = None
    nlri: tuple[U8, I64, I64] | None = None

    def __len__(self) -> int:
        return len(self.family)


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
    columns = _build(routes, [p.columns for p in peers], attributes, event)
    internal = np.zeros(len(routes), np.int32)
    if routes.log_type is not None:
        internal[routes.log_type == LogType.DELETE] = 1
    columns["peer_tcp_port"] = _numbers("peer_tcp_port", np.zeros(len(routes), np.uint16), None)
    columns["bmp_msg_type"] = _indexed(internal, ("route_monitor", "internal"))
    return _table(columns, len(routes), kinds[event])


def event_rows(kind: RowKind, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Rows that are not of routes, from values by field: numbers, nanoseconds for times, texts,
    lists of texts; those that lack are null.

    Those of a peer come from its `columns`. Raises KeyError for a field that rows of this kind have
    not.
    """
    rows = list(rows)
    keys = dict.fromkeys(key for row in rows for key in row)
    if unknown := [key for key in keys if key not in ROW_KINDS[kind]]:
        raise KeyError(f"{kind.name} rows have no {', '.join(unknown)}")
    columns = {key: _column(key, [row.get(key) for row in rows]) for key in keys}
    if kind is RowKind.BMP_STATS:
        # pmacct does not name the type of the peer in these.
        columns["peer_type_str"] = _column("peer_type_str", [""] * len(rows))
    return _table(columns, len(rows), kind)


def stream_schema() -> pa.Schema:
    """The native columns of every route stream."""
    return _SCHEMA


_SCHEMA: Final = pa.schema([pa.field(f.name, arrow_type(f)) for f in ROUTE_FIELDS.values()])

_COLUMNS: Final = tuple(f.name for f in ROUTE_FIELDS.values())


def _table(columns: Mapping[str, Column], rows: int, kind: RowKind) -> pa.Table:
    """The whole width of the stream; fields without a column are null."""
    marks = pa.array(np.full(rows, kind, np.uint8))
    arrays = [marks if name == ROW_KIND else columns.get(name, None) for name in _COLUMNS]
    filled = [
        pa.nulls(rows, field.type) if array is None else array
        for array, field in zip(arrays, _SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(filled, schema=_SCHEMA)


# ------------------------------------------------------------------------- columns out of values


def _column(name: str, values: Sequence[object]) -> Column:
    """A native column of values."""
    field = ROUTE_FIELDS[name]
    if field.kind.interned:
        return _indexed(np.arange(len(values), dtype=np.int32), values)
    array: Column = pa.array(values, arrow_type(field))
    return array


def _raw(value: object) -> bytes | None:
    """A text, or a list of texts, as its native bytes."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)).encode()
    return str(value).encode()


def _indexed(index: npt.NDArray[np.int32], values: Sequence[object]) -> Column:
    """A dictionary column: row *i* is ``values[index[i]]``; None is null."""
    texts = [_raw(v) for v in values]
    known = np.array([t is not None for t in texts], np.bool_)
    mask = None if known.all() else ~known[index]
    dictionary = pa.array([t or b"" for t in texts], pa.binary())
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32(), mask=mask), dictionary)


def _taken(name: str, index: npt.NDArray[Any], values: Sequence[object]) -> Column:
    """A column of which row *i* is ``values[index[i]]``."""
    if ROUTE_FIELDS[name].kind.interned:
        return _indexed(index.astype(np.int32), values)
    kind = arrow_type(ROUTE_FIELDS[name])
    known = np.array([v is not None for v in values], np.bool_)
    numbers = np.array([v or 0 for v in values], kind.to_pandas_dtype())
    mask = None if known.all() else ~known[index]
    array: Column = pa.array(numbers[index], kind, mask=mask)
    return array


def _numbers(name: str, values: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None) -> Column:
    kind = arrow_type(ROUTE_FIELDS[name])
    array: Column = pa.array(values.astype(kind.to_pandas_dtype(), copy=False), kind, mask=mask)
    return array


# ------------------------------------------------------------------------------ columns of routes


def _rows(
    routes: Routes,
    peers: Sequence[Mapping[str, object]],
    attributes: Callable[[int], Attributes],
    event: Event,
    kind: RowKind,
) -> pa.Table:
    return _table(_build(routes, peers, attributes, event), len(routes), kind)


def _build(
    routes: Routes,
    peers: Sequence[Mapping[str, object]],
    attributes: Callable[[int], Attributes],
    event: Event,
) -> dict[str, Column]:
    ids, index = np.unique(routes.attributes, return_inverse=True)
    sets = [attributes(i) for i in ids.tolist()]
    return {
        **_of_moment(routes, event),
        **_of_peers(routes.peer, peers),
        **_of_prefixes(routes),
        **_of_attributes(index, sets),
        **_of_opaque(routes),
    }


_LOG_TYPES: Final = ("update", "withdraw", "end-of-rib", "delete")


def _of_moment(routes: Routes, event: Event) -> dict[str, Column]:
    nothing = np.zeros(len(routes), np.int32)
    columns = {
        "event_type": _indexed(nothing, (event,)),
        "seq": _numbers("seq", routes.seq, None),
        "timestamp": _numbers("timestamp", routes.time_ns, None),
    }
    if routes.log_type is not None:
        columns["log_type"] = _indexed(routes.log_type.astype(np.int32), _LOG_TYPES)
    if routes.arrival_ns is not None:
        columns["timestamp_arrival"] = _numbers("timestamp_arrival", routes.arrival_ns, None)
    if routes.stale is not None:
        columns["stale"] = _numbers("stale", routes.stale, ~routes.stale)
    if routes.roa is not None:
        columns["roa"] = _column("roa", routes.roa)
    return columns


def _of_peers(index: I64, peers: Sequence[Mapping[str, object]]) -> dict[str, Column]:
    names = dict.fromkeys(name for peer in peers for name in peer)
    return {name: _taken(name, index, [p.get(name) for p in peers]) for name in names}


_AFI: Final = np.zeros(256, np.uint16)
_SAFI: Final = np.zeros(256, np.uint8)
_PREFIXED: Final = np.zeros(256, np.bool_)
_VERSION: Final = np.zeros(256, np.uint8)
for _family in FAMILIES:
    _AFI[_family.index], _SAFI[_family.index] = _family.afi, _family.safi
    _PREFIXED[_family.index] = _family.of_prefixes
    _VERSION[_family.index] = 6 if _family.address_octets == 16 else 4


def _of_prefixes(routes: Routes) -> dict[str, Column]:
    family = routes.family
    shown = _PREFIXED[family]
    if routes.log_type is not None:
        shown &= routes.log_type != LogType.END_OF_RIB
    origin = routes.rd_origin
    return {
        "afi": _numbers("afi", _AFI[family], None),
        "safi": _numbers("safi", _SAFI[family], None),
        "ip_prefix": _prefixes(routes, shown),
        "rd": _distinct(routes.rd, origin == RdOrigin.NONE, rd_text),
        "rd_origin": _indexed(origin.astype(np.int32), (None, "bgp", "bmp")),
        "as_path_id": _numbers("as_path_id", routes.path_id, routes.path_id == 0),
        "mpls_label": _distinct(routes.labels, routes.labels == 0, _labels),
    }


def _prefixes(routes: Routes, shown: npt.NDArray[np.bool_]) -> Column:
    n = len(routes)
    raw = np.zeros((n, 18), np.uint8)
    words = np.empty((n, 2), ">u8")
    words[:, 0], words[:, 1] = routes.hi, routes.lo
    raw[:, :16] = words.view(np.uint8).reshape(n, 16)
    raw[:, 16], raw[:, 17] = _VERSION[routes.family], routes.plen
    bits = None if shown.all() else pa.py_buffer(np.packbits(shown, bitorder="little"))
    array: Column = pa.Array.from_buffers(pa.binary(18), n, [bits, pa.py_buffer(raw)])
    return array


def _distinct(
    values: npt.NDArray[np.uint64], absent: npt.NDArray[np.bool_], text: Callable[[int], str]
) -> Column:
    """A dictionary column of the texts of numbers, each made once."""
    known, index = np.unique(values, return_inverse=True)
    dictionary = pa.array([text(v).encode() for v in known.tolist()], pa.binary())
    indices = pa.array(index.astype(np.int32), pa.int32(), mask=absent)
    return pa.DictionaryArray.from_arrays(indices, dictionary)


def _labels(packed: int) -> str:
    """Labels of `RouteEvents.labels`, the top one first."""
    count = packed >> 60
    return " ".join(str(packed >> 20 * i & 0xFFFFF) for i in range(min(count, 3)))


def _aggregator(sets: Attributes) -> str | None:
    return None if sets.aggregator is None else "{}:{}".format(*sets.aggregator)


def _srv6(name: str) -> Callable[[Attributes], object]:
    def read(sets: Attributes) -> object:
        if sets.prefix_sid is None or not sets.prefix_sid.services:
            return None
        return getattr(sets.prefix_sid.services[0], name)

    return read


_OF_ATTRIBUTES: Final[dict[str, Callable[[Attributes], object]]] = {
    "bgp_nexthop": lambda a: a.next_hop_text,
    "as_path": lambda a: a.as_path_text,
    "comms": lambda a: a.communities_text,
    "ecomms": lambda a: a.extended_communities_text,
    "lcomms": lambda a: a.large_communities_text,
    "origin": lambda a: a.origin,
    "local_pref": lambda a: a.local_pref,
    "med": lambda a: a.med,
    "aigp": lambda a: a.aigp,
    "psid_li": lambda a: a.label_index,
    "otc": lambda a: a.only_to_customer,
    "atomic_aggregate": lambda a: 1 if a.atomic_aggregate else None,
    "aggregator": _aggregator,
    "originator_id": lambda a: a.originator_id,
    "cluster_list": lambda a: a.cluster_list or None,
    "pmsi_tunnel": lambda a: None if a.pmsi_tunnel is None else a.pmsi_tunnel.text,
    "srv6_sid": _srv6("sid"),
    "srv6_behavior": _srv6("behavior_text"),
    "unknown_attributes": lambda a: [f"{kind}:{value}" for kind, value in a.unknown] or None,
}
"""Columns of a set of attributes, by field."""


def _of_attributes(index: npt.NDArray[Any], sets: Sequence[Attributes]) -> dict[str, Column]:
    return {
        name: _taken(name, index, [read(a) for a in sets]) for name, read in _OF_ATTRIBUTES.items()
    }


_OPAQUE: Final = np.array(
    [i < len(FAMILIES) and FAMILIES[i].shape > Shape.VPN for i in range(256)], np.bool_
)


def _of_opaque(routes: Routes) -> dict[str, Column]:
    """Routes of families that are not of prefixes: rare, and no two have the same text."""
    if routes.nlri is None:
        return {}
    buf, offset, length = routes.nlri
    opaque = _OPAQUE[routes.family] & (length > 0)
    texts: list[str | None] = [None]
    details: list[str | None] = [None]
    which = np.zeros(len(routes), np.int32)
    for row in np.flatnonzero(opaque).tolist():
        raw = buf[offset[row] : offset[row] + length[row]].tobytes()
        nlri = read_nlri(FAMILIES[routes.family[row]], raw)
        which[row] = len(texts)
        texts.append(nlri.text)
        details.append(json.dumps(nlri.fields, separators=(",", ":")) if nlri.fields else None)
    return {"nlri": _indexed(which, texts), "nlri_detail": _indexed(which, details)}
