"""Rows of what a BMP router tells besides routes: columns of `flowray.route_fields` by message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from flowray.rib.bmp_events import (
    Initiation,
    Mirroring,
    PeerDown,
    PeerUp,
    Statistics,
    Termination,
)
from flowray.rib.bmp_peers import BmpPeer
from flowray.rib.peers import LOC_RIB_PEER, RD_INSTANCE_PEER, policy_view
from flowray.rib.rows import BmpPeer as PeerColumns
from flowray.route_fields import RowKind
from flowray.wire.bgp.bmp import InformationType, Tlv
from flowray.wire.bgp.distinguisher import rd_text

BmpEvent: TypeAlias = Initiation | PeerUp | PeerDown | Statistics | Termination | Mirroring
Row: TypeAlias = dict[str, Any]

_INITIATION = {
    InformationType.STRING: "bmp_init_info_string",
    InformationType.SYS_DESCR: "bmp_init_info_sysdescr",
    InformationType.SYS_NAME: "bmp_init_info_sysname",
}
_PEER_UP = {
    InformationType.STRING: "bmp_peer_up_info_string",
    InformationType.VRF_TABLE_NAME: "bmp_peer_up_info_vrf_table_name",
    InformationType.ADMIN_LABEL: "bmp_peer_up_info_admin_label",
}
_TERMINATION = {InformationType.STRING: "bmp_term_info_string"}


def time_of(event: BmpEvent) -> int:
    """When the router says that it was (ns), 0 if it does not say."""
    return 0 if isinstance(event, Initiation | Termination) else event.time_ns


def rows_of_event(event: BmpEvent) -> Iterator[tuple[RowKind, Row]]:
    """The rows of an event, without the columns of the session and of the time."""
    match event:
        case Initiation(tlvs):
            told = _texts(tlvs, _INITIATION, "bmp_init_info_reserved")
            yield RowKind.BMP_INIT, {"bmp_msg_type": "init"} | told
        case Termination():
            row = {"bmp_msg_type": "term", "bmp_term_info_reason": event.reason_text}
            yield RowKind.BMP_TERM, row | _texts(event.tlvs, _TERMINATION, None)
        case PeerUp():
            yield RowKind.BMP_PEER_UP, _peer_up(event)
        case PeerDown():
            yield RowKind.BMP_PEER_DOWN, _peer_down(event)
        case Statistics():
            yield from ((RowKind.BMP_STATS, row) for row in _statistics(event))
        case Mirroring():
            yield from ((RowKind.BMP_MIRROR, row) for row in _mirrored(event))


def _texts(tlvs: Iterable[Tlv], names: dict[InformationType, str], others: str | None) -> Row:
    """TLVs by column; of a type that comes again the texts are joined."""
    row: Row = {}
    for tlv in tlvs:
        known = names.get(InformationType(tlv.type)) if tlv.type in names and not tlv.pen else None
        name = known or others
        if name is not None:
            text = tlv.text if known else f"{tlv.type}:{tlv.value.hex()}"
            row[name] = f"{row[name]} {text}" if name in row else text
    return row


def _peer(peer: BmpPeer, *, typed: bool = True) -> Row:
    columns = PeerColumns(
        "",
        0,
        peer.address,
        peer.asn,
        peer.router_id,
        policy_view(peer.is_post, peer.is_out, peer.is_loc),
        peer.peer_type,
        peer.is_filtered,
    ).columns
    for of_session in ("bmp_router", "bmp_router_port", "tag", "label"):
        del columns[of_session]
    if not typed:
        # pmacct has no name of the type in these rows.
        columns["peer_type_str"] = ""
    if peer.peer_type in (RD_INSTANCE_PEER, LOC_RIB_PEER) and peer.distinguisher:
        columns |= {"rd": rd_text(peer.distinguisher), "rd_origin": "bmp"}
    return columns


def _peer_up(event: PeerUp) -> Row:
    return {
        "bmp_msg_type": "peer_up",
        **_peer(event.peer),
        "local_as": event.local_as,
        "local_port": event.local_port,
        "remote_port": event.remote_port,
        "local_ip": event.local_address,
        **_texts(event.tlvs, _PEER_UP, "bmp_peer_up_info_reserved"),
    }


def _peer_down(event: PeerDown) -> Row:
    row = {
        "bmp_msg_type": "peer_down",
        **_peer(event.peer),
        "reason_type": event.reason,
        "reason_str": event.reason_text,
        "reason_loc_code": event.fsm_event,
    }
    if event.notification is not None:
        row["notification"] = str(event.notification)
    return row


def _statistics(event: Statistics) -> Iterator[Row]:
    for statistic in event.rows:
        yield {
            "bmp_msg_type": "stats",
            **_peer(event.peer, typed=False),
            "counter_type": statistic.type,
            "counter_type_str": statistic.name,
            "counter_value": statistic.value,
            "afi": statistic.afi,
            "safi": statistic.safi,
        }


def _mirrored(event: Mirroring) -> Iterator[Row]:
    why = ", ".join(map(str, event.content.information)) or None
    for message in event.content.messages or (b"",):
        yield {
            "bmp_msg_type": "route_mirror",
            **_peer(event.peer),
            "mirrored": message.hex() or None,
            "mirror_reason": why,
        }
