"""Columns of routes as their rows show them: texts are made once per distinct attribute set, peer,
route distinguisher and label.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.rib.native_columns import Column, column, distinct, indexed, numbers, taken
from flowray.rib.route_marks import NO_MARK, mark_reason, status_text
from flowray.wire.bgp.attributes import Attributes
from flowray.wire.bgp.distinguisher import rd_text
from flowray.wire.bgp.events import I64, U8, U32, U64
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.bgp.link_state import link_state_attribute
from flowray.wire.bgp.nlri import read_nlri

__all__ = ["Event", "LogType", "RdOrigin", "Routes", "route_columns"]

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
    - `mark` (n,) int64: path mark as in `route_marks`, or None if there are none
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
    roa: Sequence[str | None] | None = None
    mark: I64 | None = None
    nlri: tuple[U8, I64, I64] | None = None

    def __len__(self) -> int:
        return len(self.family)


def route_columns(
    routes: Routes,
    peers: Sequence[Mapping[str, object]],
    attributes: Callable[[int], Attributes],
    event: Event,
) -> dict[str, Column]:
    """The columns of routes by field. `peers`: values by field of each peer; `attributes`: the set
    of an id, asked once per id.
    """
    ids, index = np.unique(routes.attributes, return_inverse=True)
    sets = [attributes(i) for i in ids.tolist()]
    return {
        **_of_moment(routes, event),
        **_of_peers(routes.peer, peers),
        **_of_prefixes(routes),
        **_of_attributes(index, sets),
        **_of_opaque(routes, index, sets),
    }


_LOG_TYPES: Final = ("update", "withdraw", "end-of-rib", "delete")


def _of_moment(routes: Routes, event: Event) -> dict[str, Column]:
    nothing = np.zeros(len(routes), np.int32)
    columns = {
        "event_type": indexed(nothing, (event,)),
        "seq": numbers("seq", routes.seq, None),
        "timestamp": numbers("timestamp", routes.time_ns, None),
    }
    if routes.log_type is not None:
        columns["log_type"] = indexed(routes.log_type.astype(np.int32), _LOG_TYPES)
    if routes.arrival_ns is not None:
        columns["timestamp_arrival"] = numbers("timestamp_arrival", routes.arrival_ns, None)
    if routes.stale is not None:
        columns["stale"] = numbers("stale", routes.stale, ~routes.stale)
    if routes.mark is not None:
        columns |= _of_marks(routes.mark)
    if routes.roa is not None:
        columns["roa"] = column("roa", routes.roa)
    return columns


def _of_marks(marks: I64) -> dict[str, Column]:
    reason = mark_reason(marks)
    return {
        "path_status": distinct(marks.view(np.uint64), marks == NO_MARK, status_text),
        "reason_code": numbers("reason_code", np.maximum(reason, 0), reason < 0),
    }


def _of_peers(index: I64, peers: Sequence[Mapping[str, object]]) -> dict[str, Column]:
    names = dict.fromkeys(name for peer in peers for name in peer)
    return {name: taken(name, index, [p.get(name) for p in peers]) for name in names}


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
    return {
        "afi": numbers("afi", _AFI[family], None),
        "safi": numbers("safi", _SAFI[family], None),
        "ip_prefix": _prefixes(routes, shown),
        **_of_distinguishers(routes.rd, routes.rd_origin),
        "as_path_id": numbers("as_path_id", routes.path_id, routes.path_id == 0),
        "mpls_label": distinct(routes.labels, routes.labels == 0, _labels),
    }


def _of_distinguishers(rd: U64, origin: U8) -> dict[str, Column]:
    return {
        "rd": distinct(rd, origin == RdOrigin.NONE, rd_text),
        "rd_origin": indexed(origin.astype(np.int32), (None, "bgp", "bmp")),
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
        name: taken(name, index, [read(a) for a in sets]) for name, read in _OF_ATTRIBUTES.items()
    }


_OPAQUE: Final = np.array(
    [i < len(FAMILIES) and FAMILIES[i].shape > Shape.VPN for i in range(256)], np.bool_
)


def _of_opaque(
    routes: Routes, index: npt.NDArray[Any], sets: Sequence[Attributes]
) -> dict[str, Column]:
    """Routes of families that are not of prefixes: rare, and no two have the same text.

    Their route distinguisher is in the NLRI, and wins over that of a BMP peer.
    """
    if routes.nlri is None:
        return {}
    buf, offset, length = routes.nlri
    texts: list[str | None] = [None]
    details: list[str | None] = [None]
    which = np.zeros(len(routes), np.int32)
    rd, origin = routes.rd.copy(), routes.rd_origin.copy()
    for row in np.flatnonzero(_OPAQUE[routes.family] & (length > 0)).tolist():
        family = FAMILIES[routes.family[row]]
        nlri = read_nlri(family, buf[offset[row] : offset[row] + length[row]].tobytes())
        which[row] = len(texts)
        texts.append(nlri.text)
        fields = {**nlri.fields, **link_state_attribute(sets[index[row]].link_state)}
        details.append(json.dumps(fields, separators=(",", ":")) if fields else None)
        if nlri.rd:
            rd[row], origin[row] = nlri.rd, RdOrigin.BGP
    return {
        "nlri": indexed(which, texts),
        "nlri_detail": indexed(which, details),
        **_of_distinguishers(rd, origin),
    }
