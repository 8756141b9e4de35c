"""The registry of rows of route streams: message logs, table dumps and look-ups of BGP and BMP.

A stream mixes rows of several kinds, each with its own keys; `ROW_KINDS` tells which. Names are the
JSON keys of pmacct's daemons.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal, TypeAlias

from flowray.field import Field, Kind, Source
from flowray.fields import Registry

__all__ = [
    "EXTENDED",
    "OPAQUE",
    "ROUTE_FIELDS",
    "ROW_KIND",
    "ROW_KINDS",
    "Protocol",
    "RowKind",
    "route_fields",
]

Protocol: TypeAlias = Literal["bgp", "bmp"]

ROW_KIND: Final = "_row_kind"
"""Column of native tables that holds the `RowKind` of each row."""


class RowKind(IntEnum):
    """Kinds of rows: what a row tells decides which keys it has."""

    BGP_SESSION = 0
    BGP_ROUTE = 1
    BGP_DUMP_ROUTE = 2
    BGP_DUMP_INIT = 3
    BGP_DUMP_CLOSE = 4
    BGP_LOOKUP = 5
    BMP_SESSION = 6
    BMP_ROUTE = 7
    BMP_DUMP_ROUTE = 8
    BMP_DUMP_INIT = 9
    BMP_DUMP_CLOSE = 10
    BMP_LOOKUP = 11
    BMP_INIT = 12
    BMP_TERM = 13
    BMP_PEER_UP = 14
    BMP_PEER_DOWN = 15
    BMP_STATS = 16
    BMP_MIRROR = 17


_K = Kind

_ROWS: Final = (
    ("event_type", _K.TEXT, 32, "log, dump, lglass, log_init, log_close, dump_init or dump_close"),
    ("log_type", _K.TEXT, 32, "update, withdraw, delete or end-of-rib"),
    ("seq", _K.UINT, 64, "number of the row; rows of one dump share one"),
    ("timestamp", _K.TIME, 64, "when it was; of BMP as the per-peer header tells"),
    ("timestamp_event", _K.TIME, 64, "in dumps: when the event was, as the per-peer header tells"),
    ("timestamp_arrival", _K.TIME, 64, "when the message came"),
    ("bmp_router", _K.TEXT, 32, "address of the BMP session"),
    ("bmp_router_port", _K.UINT, 16, "its TCP port"),
    ("bmp_msg_type", _K.TEXT, 32, "what the message was; internal: the collector deletes"),
    ("peer_ip_src", _K.TEXT, 32, "address of the BGP session"),
    ("peer_tcp_port", _K.UINT, 16, "its TCP port; 0 for peers of a monitored router"),
    ("peer_id", _K.TEXT, 32, "BGP identifier of the peer"),
    ("tag", _K.UINT, 64, "number set by the tag map"),
    ("label", _K.TEXT, 32, "text set by the label map, key%value items"),
    ("afi", _K.UINT, 16, "address family"),
    ("safi", _K.UINT, 8, "subsequent address family"),
    ("ip_prefix", _K.PREFIX, 144, "prefix of the route"),
    ("nlri", _K.TEXT, 32, "what identifies a route that is not of a prefix"),
    ("nlri_detail", _K.MEMBERS, 32, "its fields, and those of the link-state attribute"),
    ("rd", _K.TEXT, 32, "route distinguisher"),
    ("rd_origin", _K.TEXT, 32, "what told it: bgp, the prefix; bmp, the per-peer header"),
    ("bgp_nexthop", _K.TEXT, 32, "next hop"),
    ("as_path", _K.WORDS, 32, "AS path, sets in braces"),
    ("as_path_id", _K.UINT, 32, "path identifier (RFC 7911)"),
    ("comms", _K.WORDS, 32, "communities"),
    ("ecomms", _K.WORDS, 32, "extended communities"),
    ("lcomms", _K.WORDS, 32, "large communities"),
    ("origin", _K.TEXT, 32, "i, e or u (incomplete)"),
    ("local_pref", _K.UINT, 32, "local preference"),
    ("med", _K.UINT, 32, "multi-exit discriminator"),
    ("aigp", _K.UINT, 64, "accumulated IGP metric"),
    ("psid_li", _K.UINT, 32, "label index of the Prefix-SID attribute"),
    ("otc", _K.UINT, 32, "only to customer: AS number (RFC 9234)"),
    ("roa", _K.TEXT, 32, "RPKI state of the route"),
    ("mpls_label", _K.TEXT, 32, "label of the route; of several the top one first"),
    ("atomic_aggregate", _K.UINT, 8, "1 if a more specific route was left out"),
    ("aggregator", _K.TEXT, 32, "AS number and address of the aggregating router"),
    ("originator_id", _K.TEXT, 32, "router that brought the route into the AS (RFC 4456)"),
    ("cluster_list", _K.WORDS, 32, "clusters that the route was reflected in (RFC 4456)"),
    ("pmsi_tunnel", _K.TEXT, 32, "multicast tunnel: type, label, identifier (RFC 6514)"),
    ("srv6_sid", _K.TEXT, 32, "SRv6 service SID (RFC 9252)"),
    ("srv6_behavior", _K.TEXT, 32, "endpoint behaviour of that SID"),
    ("unknown_attributes", _K.WORDS, 32, "type and value of attributes that are not understood"),
    ("stale", _K.UINT, 8, "1 if the route is from before the session was lost"),
    ("peer_ip", _K.TEXT, 32, "address of the monitored peer"),
    ("peer_asn", _K.UINT, 32, "its AS number"),
    ("local_as", _K.UINT, 32, "AS number of the monitored router towards it"),
    ("bgp_id", _K.TEXT, 32, "its BGP identifier"),
    ("peer_type", _K.UINT, 8, "type of the peer (RFC 7854 section 4.2)"),
    ("peer_type_str", _K.TEXT, 32, "name of that type"),
    ("bmp_rib_type", _K.TEXT, 32, "which table of the router the message is about"),
    ("is_filtered", _K.UINT, 8, "1 if the table is filtered (RFC 9069)"),
    ("is_in", _K.UINT, 8, "1 in rows of the Adj-RIB-In"),
    ("is_loc", _K.UINT, 8, "1 in rows of the Loc-RIB"),
    ("is_post", _K.UINT, 8, "1 after policy, 0 before; not of the Loc-RIB"),
    ("is_out", _K.UINT, 8, "1 in rows of the Adj-RIB-Out"),
    ("path_status", _K.WORDS, 32, "path marking: best, backup, and so on"),
    ("reason_code", _K.UINT, 16, "path marking: why"),
    ("local_port", _K.UINT, 16, "TCP port of the monitored router"),
    ("remote_port", _K.UINT, 16, "TCP port of its peer"),
    ("local_ip", _K.TEXT, 32, "address of the monitored router"),
    ("bmp_init_info_string", _K.TEXT, 32, "free text of an Initiation message"),
    ("bmp_init_info_sysdescr", _K.TEXT, 32, "sysDescr of the router"),
    ("bmp_init_info_sysname", _K.TEXT, 32, "sysName of the router"),
    ("bmp_init_info_reserved", _K.TEXT, 32, "what the message holds besides"),
    ("bmp_term_info_string", _K.TEXT, 32, "free text of a Termination message"),
    ("bmp_term_info_reason", _K.TEXT, 32, "why the router ends the session"),
    ("bmp_peer_up_info_string", _K.TEXT, 32, "free text of a Peer Up message"),
    ("bmp_peer_up_info_vrf_table_name", _K.TEXT, 32, "name of the VRF or table"),
    ("bmp_peer_up_info_admin_label", _K.TEXT, 32, "administrative label of the peer"),
    ("bmp_peer_up_info_reserved", _K.TEXT, 32, "what the message holds besides"),
    ("reason_type", _K.UINT, 8, "why the peer is down (RFC 7854 section 4.9)"),
    ("reason_str", _K.TEXT, 32, "text of it"),
    ("reason_loc_code", _K.UINT, 16, "FSM event code (RFC 4271 section 8.1)"),
    ("notification", _K.TEXT, 32, "NOTIFICATION that closed the session"),
    ("counter_type", _K.UINT, 16, "which statistic (RFC 7854 section 4.8)"),
    ("counter_type_str", _K.TEXT, 32, "name of it"),
    ("counter_value", _K.UINT, 64, "value of it"),
    ("mirrored", _K.TEXT, 32, "mirrored message, in hexadecimal"),
    ("mirror_reason", _K.TEXT, 32, "why it was mirrored"),
    ("dump_period", _K.UINT, 32, "seconds between dumps"),
    ("entries", _K.UINT, 64, "rows of the dump"),
    ("tables", _K.UINT, 32, "tables that they come from"),
)

ROUTE_FIELDS: Final = Registry(
    rows=(
        *(
            Field(name, name, kind, bits, source=Source.HEADER, group="routes", doc=doc)
            for name, kind, bits, doc in _ROWS
        ),
        Field(ROW_KIND, ROW_KIND, Kind.UINT, 8, source=Source.HEADER, group="routes"),
    )
)
"""Fields of route streams by name, in the order of keys in rendered rows."""

EXTENDED: Final = frozenset(
    {
        "peer_id",
        "atomic_aggregate",
        "aggregator",
        "originator_id",
        "cluster_list",
        "pmsi_tunnel",
        "srv6_sid",
        "srv6_behavior",
        "unknown_attributes",
        "stale",
        "path_status",
        "reason_code",
        "notification",
    }
)
"""Fields that the records of pmacct's Avro form have not: its JSON has them where there is a value.
"""

OPAQUE: Final = frozenset({"nlri", "nlri_detail"})
"""Fields of routes that are not of prefixes, which other rows have in no JSON form."""

_TIME: Final = "seq timestamp"
_BGP: Final = "peer_ip_src peer_tcp_port peer_id"
_BMP: Final = "bmp_router bmp_router_port"
_EVENT: Final = f"{_TIME} timestamp_event timestamp_arrival {_BMP} bmp_msg_type"
_PATH: Final = (
    "afi safi ip_prefix nlri nlri_detail rd rd_origin bgp_nexthop as_path as_path_id comms ecomms"
    " lcomms origin local_pref med aigp psid_li otc roa mpls_label atomic_aggregate aggregator"
    " originator_id cluster_list pmsi_tunnel srv6_sid srv6_behavior unknown_attributes stale"
)
_VIEW: Final = "bmp_rib_type is_filtered is_in is_loc is_post is_out"
_MONITORED: Final = f"peer_ip peer_asn bgp_id peer_type peer_type_str {_VIEW} rd rd_origin"
_ROUTE: Final = (
    f"{_PATH} peer_ip peer_asn bgp_id peer_tcp_port {_BMP} bmp_msg_type {_VIEW}"
    " path_status reason_code timestamp_arrival"
)
_UP: Final = "bmp_peer_up_info"
_INIT: Final = "bmp_init_info"

_KEYS: Final[dict[RowKind, str]] = {
    RowKind.BGP_SESSION: f"{_TIME} {_BGP}",
    RowKind.BGP_ROUTE: f"log_type {_TIME} {_BGP} {_PATH}",
    RowKind.BGP_DUMP_ROUTE: f"{_TIME} {_BGP} {_PATH}",
    RowKind.BGP_DUMP_INIT: f"{_TIME} {_BGP} dump_period",
    RowKind.BGP_DUMP_CLOSE: f"{_TIME} {_BGP} entries tables",
    RowKind.BGP_LOOKUP: f"{_BGP} {_PATH}",
    RowKind.BMP_SESSION: f"{_TIME} {_BMP}",
    RowKind.BMP_ROUTE: f"log_type {_TIME} {_ROUTE}",
    RowKind.BMP_DUMP_ROUTE: f"{_TIME} {_ROUTE}",
    RowKind.BMP_DUMP_INIT: f"{_TIME} {_BMP} dump_period",
    RowKind.BMP_DUMP_CLOSE: f"{_TIME} {_BMP} entries tables",
    RowKind.BMP_LOOKUP: _ROUTE,
    RowKind.BMP_INIT: f"{_EVENT} {_INIT}_string {_INIT}_sysdescr {_INIT}_sysname {_INIT}_reserved",
    RowKind.BMP_TERM: f"{_EVENT} bmp_term_info_string bmp_term_info_reason",
    RowKind.BMP_PEER_UP: (
        f"{_EVENT} {_MONITORED} local_as local_port remote_port local_ip {_UP}_string"
        f" {_UP}_vrf_table_name {_UP}_admin_label {_UP}_reserved"
    ),
    RowKind.BMP_PEER_DOWN: (
        f"{_EVENT} {_MONITORED} reason_type reason_str reason_loc_code notification"
    ),
    RowKind.BMP_STATS: (
        f"{_EVENT} {_MONITORED} counter_type counter_type_str counter_value afi safi"
    ),
    RowKind.BMP_MIRROR: f"{_EVENT} {_MONITORED} mirrored mirror_reason",
}


ROW_KINDS: Final[dict[RowKind, frozenset[str]]] = {
    kind: frozenset({"event_type", "tag", "label", *keys.split()}) for kind, keys in _KEYS.items()
}
"""The keys of each kind of row."""


def route_fields(protocol: Protocol, *, labels: bool = False, roa: bool = False) -> list[Field]:
    """Fields of the rows of a stream, for sinks and for `render`.

    `labels`: a label map applies, so rows have `tag` and `label`; `roa`: routes are validated.
    """
    wanted = {"tag": labels, "label": labels, "roa": roa}
    kinds = (keys for kind, keys in ROW_KINDS.items() if kind.name.lower().startswith(protocol))
    names = frozenset[str]().union(*kinds)
    return [f for f in ROUTE_FIELDS.public() if f.name in names and wanted.get(f.name, True)]
