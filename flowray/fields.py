"""The registry of record fields: one row per primitive.

Decoders, views, sinks, the schema command and docs/fields.md all read this table. Names are
pmacct's primitive names and keys its JSON keys, since those are what operators know. Element
numbers are IANA IPFIX information elements (RFC 7012; NetFlow v9 field types below 128 are the same
numbers); a pair (PEN, id) is an enterprise element.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flowray.field import Alternatives, Field, Kind, Merge, Source

HUAWEI = 2011
PMACCT = 43874


def _rows(
    group: str, source: Source, *rows: tuple[str, str, Kind, int, Alternatives, str]
) -> Iterator[Field]:
    for name, key, kind, bits, elements, doc in rows:
        yield Field(name, key, kind, bits, elements, Merge.KEY, source, group, doc)


K = Kind
NONE: Alternatives = ()

_TABLE: tuple[Field, ...] = (
    *_rows(
        "tag",
        Source.MAP,
        ("tag", "tag", K.UINT, 64, (((PMACCT, 1),),), "number set by the tag map"),
        ("tag2", "tag2", K.UINT, 64, (((PMACCT, 2),),), "second number set by the tag map"),
        ("label", "label", K.TEXT, 32, NONE, "text set by the label map, key%value items"),
    ),
    *_rows(
        "class",
        Source.OPTIONS,
        (
            "class",
            "class",
            K.TEXT,
            32,
            NONE,
            "application name announced for element 95, else unknown",
        ),
    ),
    *_rows(
        "layer 2",
        Source.RECORD,
        ("src_mac", "mac_src", K.MAC, 48, ((56,), (81,), (365,), (414,)), "source MAC address"),
        ("dst_mac", "mac_dst", K.MAC, 48, ((80,), (57,), (415,)), "destination MAC address"),
        ("vlan", "vlan", K.UINT, 16, ((58,), (59,), (243,), (254,)), "VLAN id"),
        ("in_vlan", "vlan_in", K.UINT, 16, ((58,), (243,)), "ingress VLAN id"),
        ("out_vlan", "vlan_out", K.UINT, 16, ((59,), (254,)), "egress VLAN id"),
        ("in_cvlan", "cvlan_in", K.UINT, 16, ((245,),), "ingress customer VLAN id"),
        ("out_cvlan", "cvlan_out", K.UINT, 16, ((255,),), "egress customer VLAN id"),
        ("cos", "cos", K.UINT, 8, ((244,),), "802.1Q priority"),
        ("etype", "etype", K.HEX, 16, ((256,),), "EtherType; by address family if not exported"),
    ),
    *_rows(
        "route to destination",
        Source.RECORD,
        ("src_as", "as_src", K.UINT, 32, ((16,),), "origin AS of the source"),
        ("dst_as", "as_dst", K.UINT, 32, ((17,),), "origin AS of the destination"),
        ("peer_src_as", "peer_as_src", K.UINT, 32, ((129,),), "previous adjacent AS"),
        ("peer_dst_as", "peer_as_dst", K.UINT, 32, ((128,),), "next adjacent AS"),
        (
            "peer_dst_ip",
            "peer_ip_dst",
            K.ADDRESS,
            128,
            ((18, 63), (47, 140)),
            "BGP next hop, else MPLS top label address",
        ),
    ),
    *_rows(
        "route to destination",
        Source.ROUTES,
        ("std_comm", "comms", K.WORDS, 32, NONE, "standard communities"),
        ("ext_comm", "ecomms", K.WORDS, 32, NONE, "extended communities"),
        ("lrg_comm", "lcomms", K.WORDS, 32, NONE, "large communities"),
        ("as_path", "as_path", K.WORDS, 32, NONE, "AS path"),
        ("local_pref", "local_pref", K.UINT, 32, NONE, "local preference"),
        ("med", "med", K.UINT, 32, NONE, "multi-exit discriminator"),
        ("dst_roa", "roa_dst", K.TEXT, 32, NONE, "RPKI state of the destination route"),
        ("dst_rung", "rung_dst", K.TEXT, 32, NONE, "what gave the route, or why there is none"),
    ),
    *_rows(
        "route to source",
        Source.ROUTES,
        ("src_std_comm", "comms_src", K.WORDS, 32, NONE, "standard communities of the source"),
        ("src_ext_comm", "ecomms_src", K.WORDS, 32, NONE, "extended communities of the source"),
        ("src_lrg_comm", "lcomms_src", K.WORDS, 32, NONE, "large communities of the source"),
        ("src_as_path", "as_path_src", K.WORDS, 32, NONE, "AS path to the source"),
        ("src_local_pref", "local_pref_src", K.UINT, 32, NONE, "local preference of the source"),
        ("src_med", "med_src", K.UINT, 32, NONE, "multi-exit discriminator of the source"),
        ("src_roa", "roa_src", K.TEXT, 32, NONE, "RPKI state of the source route"),
        ("src_rung", "rung_src", K.TEXT, 32, NONE, "what gave the route, or why there is none"),
    ),
    *_rows(
        "exporter",
        Source.HEADER,
        (
            "peer_src_ip",
            "peer_ip_src",
            K.ADDRESS,
            128,
            ((130, 131),),
            "address of the exporter: as it tells itself, else that its datagrams came from",
        ),
        ("export_proto_seqno", "export_proto_seqno", K.UINT, 32, NONE, "message sequence number"),
        ("export_proto_version", "export_proto_version", K.UINT, 16, NONE, "protocol version"),
        ("export_proto_sysid", "export_proto_sysid", K.UINT, 32, NONE, "observation domain id"),
        ("timestamp_arrival", "timestamp_arrival", K.TIME, 64, NONE, "arrival of the datagram"),
        ("timestamp_export", "timestamp_export", K.TIME, 64, NONE, "export time in the header"),
    ),
    *_rows(
        "interface",
        Source.RECORD,
        ("in_iface", "iface_in", K.UINT, 32, ((10,), (252,)), "ingress interface index"),
        ("out_iface", "iface_out", K.UINT, 32, ((14,), (253,)), "egress interface index"),
    ),
    *_rows(
        "interface",
        Source.OPTIONS,
        ("in_iface_name", "iface_name_in", K.TEXT, 32, NONE, "ingress interface name"),
        ("out_iface_name", "iface_name_out", K.TEXT, 32, NONE, "egress interface name"),
        ("mpls_vpn_rd", "mpls_vpn_rd", K.TEXT, 32, NONE, "route distinguisher of the VRF"),
        ("mpls_vpn_rd_origin", "mpls_vpn_rd_origin", K.TEXT, 32, NONE, "what told the RD"),
        ("vrf_name", "vrf_name", K.TEXT, 32, NONE, "name of the VRF that the RD is of"),
        ("ingress_vrf_name", "ingress_vrf_name", K.TEXT, 32, NONE, "name of the ingress VRF"),
        ("egress_vrf_name", "egress_vrf_name", K.TEXT, 32, NONE, "name of the egress VRF"),
        ("sampling_rate", "sampling_rate", K.UINT, 32, NONE, "rate applied; 0 if none is known"),
    ),
    *_rows(
        "VPN",
        Source.RECORD,
        ("mpls_pw_id", "mpls_pw_id", K.UINT, 32, ((249,),), "pseudowire id"),
    ),
    *_rows(
        "layer 3",
        Source.RECORD,
        (
            "src_host",
            "ip_src",
            K.ADDRESS,
            128,
            ((8, 27), (44, 169), (366,)),
            "source address, else prefix",
        ),
        (
            "dst_host",
            "ip_dst",
            K.ADDRESS,
            128,
            ((12, 28), (45, 170)),
            "destination address, or prefix",
        ),
        ("src_mask", "mask_src", K.UINT, 8, ((9, 29),), "source prefix length"),
        ("dst_mask", "mask_dst", K.UINT, 8, ((13, 30),), "destination prefix length"),
        ("proto", "ip_proto", K.PROTOCOL, 8, ((4,),), "IP protocol"),
        ("tos", "tos", K.UINT, 8, ((5,), (55,)), "IPv4 TOS or IPv6 traffic class"),
        ("flow_label", "flow_label", K.UINT, 32, ((31,),), "IPv6 flow label"),
    ),
    *_rows(
        "layer 3",
        Source.DERIVED,
        ("src_net", "net_src", K.ADDRESS, 128, NONE, "source prefix: address and mask"),
        ("dst_net", "net_dst", K.ADDRESS, 128, NONE, "destination prefix: address and mask"),
    ),
    *_rows(
        "layer 4",
        Source.RECORD,
        ("src_port", "port_src", K.UINT, 16, ((7,), (180, 182)), "source port"),
        ("dst_port", "port_dst", K.UINT, 16, ((11,), (181, 183)), "destination port"),
        ("fwd_status", "fwd_status", K.FORWARDING, 8, ((89,),), "forwarding status (RFC 7270)"),
    ),
    Field(
        "tcpflags",
        "tcp_flags",
        K.FLAGS,
        16,
        ((6,),),
        Merge.OR,
        Source.RECORD,
        "layer 4",
        "TCP flags, OR-ed over merged records, never part of the key",
    ),
    *_rows(
        "geography",
        Source.GEO,
        ("src_host_country", "country_ip_src", K.TEXT, 32, NONE, "country of the source"),
        ("dst_host_country", "country_ip_dst", K.TEXT, 32, NONE, "country of the destination"),
        ("src_host_pocode", "pocode_ip_src", K.TEXT, 32, NONE, "postal code of the source"),
        ("dst_host_pocode", "pocode_ip_dst", K.TEXT, 32, NONE, "postal code of the destination"),
        ("src_host_coords", "lat_ip_src", K.TEXT, 32, NONE, "coordinates of the source"),
        ("dst_host_coords", "lat_ip_dst", K.TEXT, 32, NONE, "coordinates of the destination"),
    ),
    *_rows(
        "MPLS",
        Source.DERIVED,
        ("mpls_label_top", "mpls_label_top", K.UINT, 32, NONE, "label at the top of the stack"),
        ("mpls_label_bottom", "mpls_label_bottom", K.UINT, 32, NONE, "label at the bottom"),
        ("mpls_label_stack", "mpls_label_stack", K.LABELS, 32, NONE, "the label stack"),
    ),
    *_rows(
        "SRv6 and on-path delay",
        Source.RECORD,
        (
            "srv6_seg_ipv6_list",
            "srv6_seg_ipv6_list",
            K.SEGMENTS,
            32,
            ((497, (HUAWEI, 505)),),
            "SRv6 segment list",
        ),
        (
            "path_delay_avg_usec",
            "path_delay_avg_usec",
            K.UINT,
            32,
            ((530, 600, (HUAWEI, 521)),),
            "mean on-path delay, microseconds",
        ),
        (
            "path_delay_min_usec",
            "path_delay_min_usec",
            K.UINT,
            32,
            ((531, 601, (HUAWEI, 523)),),
            "least on-path delay, microseconds",
        ),
        (
            "path_delay_max_usec",
            "path_delay_max_usec",
            K.UINT,
            32,
            ((532, 602, (HUAWEI, 525)),),
            "greatest on-path delay, microseconds",
        ),
    ),
    *_rows(
        "NAT and firewall",
        Source.RECORD,
        (
            "post_nat_src_host",
            "post_nat_ip_src",
            K.ADDRESS,
            128,
            ((225, 281), (40001,)),
            "source address after NAT",
        ),
        (
            "post_nat_dst_host",
            "post_nat_ip_dst",
            K.ADDRESS,
            128,
            ((226, 282), (40002,)),
            "destination address after NAT",
        ),
        (
            "post_nat_src_port",
            "post_nat_port_src",
            K.UINT,
            16,
            ((227,), (40003,)),
            "source port after NAT",
        ),
        (
            "post_nat_dst_port",
            "post_nat_port_dst",
            K.UINT,
            16,
            ((228,), (40004,)),
            "destination port after NAT",
        ),
        ("nat_event", "nat_event", K.UINT, 8, ((230,),), "NAT event"),
        ("fw_event", "fw_event", K.UINT, 8, ((233,), (40005,)), "firewall event"),
    ),
    *_rows(
        "tunnel",
        Source.RECORD,
        ("tunnel_src_mac", "tunnel_mac_src", K.MAC, 48, NONE, "outer source MAC address"),
        ("tunnel_dst_mac", "tunnel_mac_dst", K.MAC, 48, NONE, "outer destination MAC address"),
        ("tunnel_src_host", "tunnel_ip_src", K.ADDRESS, 128, NONE, "outer source address"),
        ("tunnel_dst_host", "tunnel_ip_dst", K.ADDRESS, 128, NONE, "outer destination address"),
        ("tunnel_proto", "tunnel_ip_proto", K.PROTOCOL, 8, NONE, "outer IP protocol"),
        ("tunnel_tos", "tunnel_tos", K.UINT, 8, NONE, "outer TOS or traffic class"),
        ("tunnel_flow_label", "tunnel_flow_label", K.UINT, 32, NONE, "outer IPv6 flow label"),
        ("tunnel_src_port", "tunnel_port_src", K.UINT, 16, NONE, "outer source port"),
        ("tunnel_dst_port", "tunnel_port_dst", K.UINT, 16, NONE, "outer destination port"),
        ("vxlan", "vxlan", K.UINT, 32, NONE, "VXLAN network identifier"),
        ("nvgre", "nvgre", K.UINT, 32, NONE, "NVGRE virtual subnet id"),
    ),
    Field(
        "tunnel_tcpflags",
        "tunnel_tcp_flags",
        K.FLAGS,
        16,
        NONE,
        Merge.OR,
        Source.RECORD,
        "tunnel",
        "outer TCP flags",
    ),
    *_rows(
        "sampling",
        Source.RECORD,
        ("sampling_direction", "sampling_direction", K.DIRECTION, 8, ((61,),), "direction"),
    ),
    *_rows(
        "time",
        Source.RECORD,
        ("timestamp_start", "timestamp_start", K.TIME, 64, NONE, "start of the flow"),
        ("timestamp_end", "timestamp_end", K.TIME, 64, NONE, "end of the flow"),
    ),
    Field(
        "timestamp_min",
        "timestamp_min",
        K.TIME,
        64,
        NONE,
        Merge.MIN,
        Source.DERIVED,
        "time",
        "earliest start of the merged records",
    ),
    Field(
        "timestamp_max",
        "timestamp_max",
        K.TIME,
        64,
        NONE,
        Merge.MAX,
        Source.DERIVED,
        "time",
        "latest end of the merged records",
    ),
    *_rows(
        "time",
        Source.WINDOW,
        ("stamp_inserted", "stamp_inserted", K.TIME, 64, NONE, "start of the window"),
        ("stamp_updated", "stamp_updated", K.TIME, 64, NONE, "time of the commit"),
    ),
    Field(
        "packets",
        "packets",
        K.UINT,
        64,
        ((2, 24), (86,), (298,)),
        Merge.SUM,
        Source.RECORD,
        "counter",
        "packets",
    ),
    Field(
        "bytes",
        "bytes",
        K.UINT,
        64,
        ((1, 23), (85,), (352,), (353,), (231,)),
        Merge.SUM,
        Source.RECORD,
        "counter",
        "octets of layer 3 (layer 2 if only those are exported)",
    ),
    Field(
        "flows",
        "flows",
        K.UINT,
        64,
        ((3,),),
        Merge.SUM,
        Source.RECORD,
        "counter",
        "flow records, or the flows that an aggregating exporter counts in them",
    ),
)

WORKING: tuple[Field, ...] = tuple(
    Field(name, name, kind, bits, elements, Merge.KEY, source, "working", doc)
    for name, kind, bits, elements, source, doc in (
        ("_records", K.UINT, 64, NONE, Source.HEADER, "records merged in a row"),
        ("_packet", K.UINT, 32, NONE, Source.HEADER, "index of the datagram in its batch"),
        ("_exporter", K.UINT, 32, NONE, Source.HEADER, "id of the exporter"),
        ("_domain", K.UINT, 32, NONE, Source.HEADER, "observation domain"),
        ("_ingress_vrf", K.UINT, 32, ((234,),), Source.RECORD, "ingress VRF id"),
        ("_egress_vrf", K.UINT, 32, ((235,),), Source.RECORD, "egress VRF id"),
        ("_has_vrf", K.UINT, 1, NONE, Source.RECORD, "1 if the record has a VRF id"),
        ("_rd", K.UINT, 64, ((90,),), Source.RECORD, "route distinguisher in the record"),
        (
            "_sampler",
            K.UINT,
            64,
            ((302,), (48,), (10,), (252,)),
            Source.RECORD,
            "selector or sampler id, else the ingress interface",
        ),
        ("_has_sampler", K.UINT, 2, NONE, Source.RECORD, "1 if _sampler is an id, 2 an interface"),
        ("_rate", K.UINT, 32, ((34,), (50,), (305,)), Source.RECORD, "sampling rate in record"),
        ("_frame", K.UINT, 64, ((315, 104, 313),), Source.RECORD, "sampled frame, as a location"),
        ("_boot", K.TIME, 64, ((160,),), Source.RECORD, "system init time in record"),
        ("_application", K.UINT, 64, ((95,),), Source.RECORD, "application id"),
        ("_segment", K.UINT, 64, ((351,),), Source.RECORD, "layer 2 segment id"),
        *(
            (f"_mpls_{i}", K.UINT, 24, ((69 + i,),), Source.RECORD, f"MPLS stack entry {i}")
            for i in range(1, 11)
        ),
    )
)


class Registry(Mapping[str, Field]):
    """Fields by primitive name: the built-in rows and those that the operator declared.

    Iteration is in table order, which is also the order of keys in rendered rows.
    """

    def __init__(
        self, custom: Iterable[Field] = (), rows: Iterable[Field] = (*_TABLE, *WORKING)
    ) -> None:
        """Raises ValueError if a declared field has the name of another."""
        self._by_name: dict[str, Field] = {f.name: f for f in rows}
        for field in custom:
            if field.name in self._by_name:
                raise ValueError(f"field {field.name!r} is declared twice")
            self._by_name[field.name] = field
        self._by_key = {f.key: f for f in self._by_name.values()}

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def by_key(self, key: str) -> Field | None:
        """The field with this JSON key, or None."""
        return self._by_key.get(key)

    def public(self) -> list[Field]:
        """Fields an operator may name, in table order."""
        return [f for f in self._by_name.values() if not f.name.startswith("_")]


REGISTRY = Registry()
