from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PeersResponse(_message.Message):
    __slots__ = ("peers",)
    PEERS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    def __init__(self, peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ...) -> None: ...

class Peer(_message.Message):
    __slots__ = ("protocol", "router", "port", "address", "asn", "bgp_id", "view", "rd", "state", "stale", "routes", "octets", "tables", "since_ns")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ASN_FIELD_NUMBER: _ClassVar[int]
    BGP_ID_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    RD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    OCTETS_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    router: str
    port: int
    address: str
    asn: int
    bgp_id: str
    view: str
    rd: str
    state: str
    stale: bool
    routes: int
    octets: int
    tables: _containers.RepeatedCompositeFieldContainer[Table]
    since_ns: int
    def __init__(self, protocol: _Optional[str] = ..., router: _Optional[str] = ..., port: _Optional[int] = ..., address: _Optional[str] = ..., asn: _Optional[int] = ..., bgp_id: _Optional[str] = ..., view: _Optional[str] = ..., rd: _Optional[str] = ..., state: _Optional[str] = ..., stale: _Optional[bool] = ..., routes: _Optional[int] = ..., octets: _Optional[int] = ..., tables: _Optional[_Iterable[_Union[Table, _Mapping]]] = ..., since_ns: _Optional[int] = ...) -> None: ...

class Table(_message.Message):
    __slots__ = ("family", "afi", "safi", "routes", "octets", "end_of_rib", "add_path")
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    AFI_FIELD_NUMBER: _ClassVar[int]
    SAFI_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    OCTETS_FIELD_NUMBER: _ClassVar[int]
    END_OF_RIB_FIELD_NUMBER: _ClassVar[int]
    ADD_PATH_FIELD_NUMBER: _ClassVar[int]
    family: str
    afi: int
    safi: int
    routes: int
    octets: int
    end_of_rib: bool
    add_path: bool
    def __init__(self, family: _Optional[str] = ..., afi: _Optional[int] = ..., safi: _Optional[int] = ..., routes: _Optional[int] = ..., octets: _Optional[int] = ..., end_of_rib: _Optional[bool] = ..., add_path: _Optional[bool] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("address", "peer", "rd", "all")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    RD_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    address: str
    peer: str
    rd: str
    all: bool
    def __init__(self, address: _Optional[str] = ..., peer: _Optional[str] = ..., rd: _Optional[str] = ..., all: _Optional[bool] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("routes",)
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class RoutesRequest(_message.Message):
    __slots__ = ("peer", "prefix", "longer", "as_path", "communities", "rd", "family", "limit")
    PEER_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    LONGER_FIELD_NUMBER: _ClassVar[int]
    AS_PATH_FIELD_NUMBER: _ClassVar[int]
    COMMUNITIES_FIELD_NUMBER: _ClassVar[int]
    RD_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    peer: str
    prefix: str
    longer: bool
    as_path: str
    communities: _containers.RepeatedScalarFieldContainer[str]
    rd: str
    family: str
    limit: int
    def __init__(self, peer: _Optional[str] = ..., prefix: _Optional[str] = ..., longer: _Optional[bool] = ..., as_path: _Optional[str] = ..., communities: _Optional[_Iterable[str]] = ..., rd: _Optional[str] = ..., family: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class RoutesResponse(_message.Message):
    __slots__ = ("routes",)
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class DiffRequest(_message.Message):
    __slots__ = ("before", "after", "peer")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    before: str
    after: str
    peer: str
    def __init__(self, before: _Optional[str] = ..., after: _Optional[str] = ..., peer: _Optional[str] = ...) -> None: ...

class DiffResponse(_message.Message):
    __slots__ = ("changes", "before_ns", "after_ns")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    BEFORE_NS_FIELD_NUMBER: _ClassVar[int]
    AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    before_ns: int
    after_ns: int
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., before_ns: _Optional[int] = ..., after_ns: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("before", "after")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    before: Route
    after: Route
    def __init__(self, before: _Optional[_Union[Route, _Mapping]] = ..., after: _Optional[_Union[Route, _Mapping]] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("event_type", "bmp_router", "bmp_router_port", "bmp_msg_type", "peer_ip_src", "peer_tcp_port", "peer_id", "tag", "label", "afi", "safi", "ip_prefix", "nlri", "nlri_detail", "rd", "rd_origin", "bgp_nexthop", "as_path", "as_path_id", "comms", "ecomms", "lcomms", "origin", "local_pref", "med", "aigp", "psid_li", "otc", "roa", "mpls_label", "atomic_aggregate", "aggregator", "originator_id", "cluster_list", "pmsi_tunnel", "srv6_sid", "srv6_behavior", "unknown_attributes", "stale", "peer_ip", "peer_asn", "bgp_id", "bmp_rib_type", "is_filtered", "is_in", "is_loc", "is_post", "is_out", "path_status", "reason_code")
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    BMP_ROUTER_FIELD_NUMBER: _ClassVar[int]
    BMP_ROUTER_PORT_FIELD_NUMBER: _ClassVar[int]
    BMP_MSG_TYPE_FIELD_NUMBER: _ClassVar[int]
    PEER_IP_SRC_FIELD_NUMBER: _ClassVar[int]
    PEER_TCP_PORT_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    AFI_FIELD_NUMBER: _ClassVar[int]
    SAFI_FIELD_NUMBER: _ClassVar[int]
    IP_PREFIX_FIELD_NUMBER: _ClassVar[int]
    NLRI_FIELD_NUMBER: _ClassVar[int]
    NLRI_DETAIL_FIELD_NUMBER: _ClassVar[int]
    RD_FIELD_NUMBER: _ClassVar[int]
    RD_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    BGP_NEXTHOP_FIELD_NUMBER: _ClassVar[int]
    AS_PATH_FIELD_NUMBER: _ClassVar[int]
    AS_PATH_ID_FIELD_NUMBER: _ClassVar[int]
    COMMS_FIELD_NUMBER: _ClassVar[int]
    ECOMMS_FIELD_NUMBER: _ClassVar[int]
    LCOMMS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    LOCAL_PREF_FIELD_NUMBER: _ClassVar[int]
    MED_FIELD_NUMBER: _ClassVar[int]
    AIGP_FIELD_NUMBER: _ClassVar[int]
    PSID_LI_FIELD_NUMBER: _ClassVar[int]
    OTC_FIELD_NUMBER: _ClassVar[int]
    ROA_FIELD_NUMBER: _ClassVar[int]
    MPLS_LABEL_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATOR_FIELD_NUMBER: _ClassVar[int]
    ORIGINATOR_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_LIST_FIELD_NUMBER: _ClassVar[int]
    PMSI_TUNNEL_FIELD_NUMBER: _ClassVar[int]
    SRV6_SID_FIELD_NUMBER: _ClassVar[int]
    SRV6_BEHAVIOR_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    PEER_IP_FIELD_NUMBER: _ClassVar[int]
    PEER_ASN_FIELD_NUMBER: _ClassVar[int]
    BGP_ID_FIELD_NUMBER: _ClassVar[int]
    BMP_RIB_TYPE_FIELD_NUMBER: _ClassVar[int]
    IS_FILTERED_FIELD_NUMBER: _ClassVar[int]
    IS_IN_FIELD_NUMBER: _ClassVar[int]
    IS_LOC_FIELD_NUMBER: _ClassVar[int]
    IS_POST_FIELD_NUMBER: _ClassVar[int]
    IS_OUT_FIELD_NUMBER: _ClassVar[int]
    PATH_STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_CODE_FIELD_NUMBER: _ClassVar[int]
    event_type: str
    bmp_router: str
    bmp_router_port: int
    bmp_msg_type: str
    peer_ip_src: str
    peer_tcp_port: int
    peer_id: str
    tag: int
    label: str
    afi: int
    safi: int
    ip_prefix: str
    nlri: str
    nlri_detail: str
    rd: str
    rd_origin: str
    bgp_nexthop: str
    as_path: str
    as_path_id: int
    comms: str
    ecomms: str
    lcomms: str
    origin: str
    local_pref: int
    med: int
    aigp: int
    psid_li: int
    otc: int
    roa: str
    mpls_label: str
    atomic_aggregate: int
    aggregator: str
    originator_id: str
    cluster_list: str
    pmsi_tunnel: str
    srv6_sid: str
    srv6_behavior: str
    unknown_attributes: str
    stale: int
    peer_ip: str
    peer_asn: int
    bgp_id: str
    bmp_rib_type: str
    is_filtered: int
    is_in: int
    is_loc: int
    is_post: int
    is_out: int
    path_status: str
    reason_code: int
    def __init__(self, event_type: _Optional[str] = ..., bmp_router: _Optional[str] = ..., bmp_router_port: _Optional[int] = ..., bmp_msg_type: _Optional[str] = ..., peer_ip_src: _Optional[str] = ..., peer_tcp_port: _Optional[int] = ..., peer_id: _Optional[str] = ..., tag: _Optional[int] = ..., label: _Optional[str] = ..., afi: _Optional[int] = ..., safi: _Optional[int] = ..., ip_prefix: _Optional[str] = ..., nlri: _Optional[str] = ..., nlri_detail: _Optional[str] = ..., rd: _Optional[str] = ..., rd_origin: _Optional[str] = ..., bgp_nexthop: _Optional[str] = ..., as_path: _Optional[str] = ..., as_path_id: _Optional[int] = ..., comms: _Optional[str] = ..., ecomms: _Optional[str] = ..., lcomms: _Optional[str] = ..., origin: _Optional[str] = ..., local_pref: _Optional[int] = ..., med: _Optional[int] = ..., aigp: _Optional[int] = ..., psid_li: _Optional[int] = ..., otc: _Optional[int] = ..., roa: _Optional[str] = ..., mpls_label: _Optional[str] = ..., atomic_aggregate: _Optional[int] = ..., aggregator: _Optional[str] = ..., originator_id: _Optional[str] = ..., cluster_list: _Optional[str] = ..., pmsi_tunnel: _Optional[str] = ..., srv6_sid: _Optional[str] = ..., srv6_behavior: _Optional[str] = ..., unknown_attributes: _Optional[str] = ..., stale: _Optional[int] = ..., peer_ip: _Optional[str] = ..., peer_asn: _Optional[int] = ..., bgp_id: _Optional[str] = ..., bmp_rib_type: _Optional[str] = ..., is_filtered: _Optional[int] = ..., is_in: _Optional[int] = ..., is_loc: _Optional[int] = ..., is_post: _Optional[int] = ..., is_out: _Optional[int] = ..., path_status: _Optional[str] = ..., reason_code: _Optional[int] = ...) -> None: ...
