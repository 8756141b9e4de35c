"""Records of data templates: both directions, two headers, both families, labels, NAT, frames."""

import numpy as np
import pytest

from flowray.generate import frames
from flowray.generate.encode import VARIABLE
from tests.ingest.decoding import FLOW, KEYS, V9, Datum, Ipfix, decode, flow, template

REVERSE = 29305
CISCO = 9

TIMES = ["timestamp_start", "timestamp_end"]


# -- biflows (RFC 5103)

BIFLOW = template(
    300, (8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (10, 4), (14, 4), (56, 6), (80, 6), (6, 1),
    (152, 8), (153, 8), (2, 4), (1, 4), (2, 4, REVERSE), (1, 4, REVERSE),
)  # fmt: skip


def _biflow(reverse_packets: int, reverse_octets: int) -> tuple[Datum, ...]:
    return (
        "10.0.0.1", "10.0.0.2", 1000, 80, 6, 3, 4, 0x0A0B0C0D0E0F, 0x010203040506, 0x1B,
        1_699_999_990_500, 1_699_999_995_250, 7, 700, reverse_packets, reverse_octets,
    )  # fmt: skip


def test_biflow_is_two_rows() -> None:
    x = Ipfix()
    keys = [*KEYS, "in_iface", "out_iface", "src_mac", "dst_mac", "tcpflags", *TIMES]
    got = decode(x.send(BIFLOW, _biflow(5, 900)), keys=keys)
    forward, reverse = sorted(got.rows, key=lambda r: r["packets"], reverse=True)
    assert (forward["packets"], forward["bytes"], forward["tcp_flags"]) == (7, 700, 0x1B)
    assert (reverse["packets"], reverse["bytes"]) == (5, 900)
    for ours, theirs in (
        ("ip_src", "ip_dst"), ("port_src", "port_dst"), ("iface_in", "iface_out"),
        ("mac_src", "mac_dst"),
    ):  # fmt: skip
        assert (reverse[ours], reverse[theirs]) == (forward[theirs], forward[ours])
    assert [reverse[k] for k in TIMES] == [forward[k] for k in TIMES]
    assert reverse["tcp_flags"] == 0, "flags of the forward direction say nothing of the reverse"


def test_direction_without_packets_gives_no_row() -> None:
    x = Ipfix()
    got = decode(x.send(BIFLOW, _biflow(0, 0), _biflow(1, 40)))
    assert sorted(got.column("packets")) == [1, 7, 7]


def test_reverse_direction_has_values_of_its_own() -> None:
    spec = template(
        301, (8, 4), (12, 4), (6, 1), (5, 1), (152, 8), (153, 8), (2, 4), (1, 4),
        (6, 1, REVERSE), (5, 1, REVERSE), (152, 8, REVERSE), (153, 8, REVERSE), (2, 4, REVERSE),
        (1, 4, REVERSE),
    )  # fmt: skip
    x = Ipfix()
    got = decode(
        x.send(
            spec,
            (
                "10.0.0.1",
                "10.0.0.2",
                2,
                0,
                1000_000,
                2000_000,
                1,
                60,
                0x12,
                184,
                1001_000,
                2002_000,
                9,
                960,
            ),
        ),
        keys=["tcpflags", "tos", *TIMES],
    )
    reverse = max(got.rows, key=lambda r: r["packets"])
    assert (reverse["tcp_flags"], reverse["tos"]) == (0x12, 184)
    assert (reverse["timestamp_start"], reverse["timestamp_end"]) == ("1001.000", "2002.000")


def test_biflows_count_as_one_record_in_sequence_numbers() -> None:
    x = Ipfix()
    got = decode(*(x.send(BIFLOW, _biflow(5, 900), _biflow(6, 1000)) for _ in range(3)))
    assert len(got.rows) == 12
    assert "sequence_gap" not in got.accounts


def test_responder_counters_of_firewalls_are_a_reverse_row() -> None:
    spec = template(
        302, (148, 4), (8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (233, 1), (225, 4), (226, 4),
        (227, 2), (228, 2), (231, 4), (232, 4), (298, 4), (299, 4), (152, 8), (323, 8),
    )  # fmt: skip
    v = V9()
    got = decode(
        v.send(
            spec,
            (
                9,
                "10.0.0.1",
                "198.51.100.7",
                40000,
                443,
                6,
                2,
                "203.0.113.1",
                "198.51.100.7",
                50000,
                443,
                1500,
                60000,
                12,
                44,
                1_699_999_000_000,
                1_699_999_009_000,
            ),
        ),
        keys=[
            *KEYS,
            "fw_event",
            "post_nat_src_host",
            "post_nat_src_port",
            "post_nat_dst_host",
            *TIMES,
        ],
    )
    forward, reverse = sorted(got.rows, key=lambda r: r["packets"])
    assert (forward["bytes"], forward["packets"], forward["fw_event"]) == (1500, 12, 2)
    assert (reverse["bytes"], reverse["packets"]) == (60000, 44)
    assert (reverse["ip_src"], reverse["ip_dst"]) == ("198.51.100.7", "10.0.0.1")
    assert forward["post_nat_ip_src"] == reverse["post_nat_ip_dst"] == "203.0.113.1"
    assert forward["post_nat_port_src"] == 50000
    assert forward["timestamp_start"] == "1699999000.000"
    assert forward["timestamp_end"] == "1699999009.000", "the event's time, without an end"


def test_pre_standard_nat_elements() -> None:
    spec = template(
        303, (8, 4), (12, 4), (40001, 4), (40002, 4), (40003, 2), (40004, 2), (40005, 1)
    )
    v = V9()
    got = decode(
        v.send(spec, ("10.0.0.1", "10.0.0.2", "192.0.2.5", "192.0.2.6", 7, 8, 3)),
        keys=[
            "post_nat_src_host",
            "post_nat_dst_host",
            "post_nat_src_port",
            "post_nat_dst_port",
            "fw_event",
        ],
    )
    assert got.only["post_nat_ip_src"] == "192.0.2.5"
    assert (got.only["post_nat_port_src"], got.only["post_nat_port_dst"]) == (7, 8)
    assert got.only["fw_event"] == 3


# -- families, headers

BOTH_FAMILIES = template(310, (27, 16), (28, 16), (8, 4), (12, 4), (9, 1), (29, 1), (2, 4))


def test_family_that_is_not_all_zero_counts() -> None:
    x = Ipfix()
    got = decode(
        x.send(
            BOTH_FAMILIES,
            ("::", "::", "10.0.0.1", "10.0.0.2", 24, 0, 1),
            ("2001:db8::1", "2001:db8::2", "0.0.0.0", "0.0.0.0", 0, 64, 2),
            ("::", "::", "0.0.0.0", "0.0.0.0", 0, 0, 3),
        ),
        keys=["src_host", "dst_host", "src_mask", "src_net", "etype"],
    )
    assert got.column("ip_src") == ["10.0.0.1", "2001:db8::1", "0.0.0.0"]
    assert got.column("ip_dst") == ["10.0.0.2", "2001:db8::2", "0.0.0.0"]
    assert got.column("mask_src") == [24, 64, 0]
    assert got.column("net_src") == ["10.0.0.0", "2001:db8::", "0.0.0.0"]
    assert got.column("etype")[:2] == ["800", "86dd"]


OUTER = ((27, 16), (28, 16), (31, 4), (7, 2), (11, 2), (29, 1), (30, 1), (4, 1), (6, 2), (5, 1))
TUNNEL_KEYS = [
    "src_host", "dst_host", "src_port", "proto", "tos", "src_mask", "src_net", "etype",
    "tunnel_src_host", "tunnel_dst_host", "tunnel_proto", "tunnel_tos", "tunnel_src_port",
    "tunnel_flow_label", "tunnel_tcpflags",
]  # fmt: skip


def test_inner_header_is_the_flow() -> None:
    spec = template(311, *OUTER, (8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 2), (5, 1), (2, 4))
    x = Ipfix()
    got = decode(
        x.send(
            spec,
            (
                "2001:db8::a",
                "2001:db8::b",
                42597,
                0,
                0,
                64,
                48,
                4,
                0,
                8,
                "10.1.0.1",
                "10.2.0.1",
                5000,
                53,
                17,
                0,
                184,
                6,
            ),
        ),
        keys=TUNNEL_KEYS,
    )
    row = got.only
    assert (row["ip_src"], row["ip_dst"], row["port_src"]) == ("10.1.0.1", "10.2.0.1", 5000)
    assert (row["ip_proto"], row["tos"]) == ("17", 184)
    assert (row["tunnel_ip_src"], row["tunnel_ip_dst"]) == ("2001:db8::a", "2001:db8::b")
    assert (row["tunnel_ip_proto"], row["tunnel_tos"]) == ("4", 8)
    assert row["etype"] == "86dd", "of the outer header"
    assert row["tunnel_flow_label"] == 0, "there is one flow label, and a flow"
    assert (row["mask_src"], row["net_src"]) == (0, "0.0.0.0"), (
        "the outer prefix is not the inner one"
    )


def test_inner_header_of_the_same_family() -> None:
    spec = template(
        312, *OUTER, (27, 16), (28, 16), (7, 2), (11, 2), (4, 1), (6, 2), (5, 1), (31, 4), (2, 4)
    )
    x = Ipfix()
    got = decode(
        x.send(
            spec,
            (
                "2001:db8::a",
                "2001:db8::b",
                1021670,
                0,
                0,
                64,
                48,
                41,
                0,
                0,
                "2001:db8:1::1",
                "2001:db8:2::1",
                5000,
                53,
                6,
                0x18,
                0,
                77,
                6,
            ),
        ),
        keys=[*TUNNEL_KEYS, "flow_label", "tcpflags"],
    )
    row = got.only
    assert (row["ip_src"], row["tunnel_ip_src"]) == ("2001:db8:1::1", "2001:db8::a")
    assert (row["flow_label"], row["tunnel_flow_label"]) == (77, 1021670)
    assert (row["tcp_flags"], row["tunnel_tcp_flags"]) == (0x18, 0)
    assert row["tunnel_ip_proto"] == "41"


def test_two_headers_that_share_the_protocol_field() -> None:
    """An element that is there twice is told in the order of treatment (RFC 7011 section 8)."""
    x = Ipfix()
    spec = template(313, (8, 4), (12, 4), (8, 4), (12, 4), (4, 1), (2, 4))
    row = decode(
        x.send(spec, ("192.0.2.1", "192.0.2.2", "10.0.0.1", "10.0.0.2", 6, 1)), keys=TUNNEL_KEYS
    ).only
    assert (row["ip_src"], row["ip_dst"], row["ip_proto"]) == ("10.0.0.1", "10.0.0.2", "6")
    assert (row["tunnel_ip_src"], row["tunnel_ip_dst"]) == ("192.0.2.1", "192.0.2.2")
    assert row["tunnel_ip_proto"] == "0"


@pytest.mark.parametrize("wide", [False, True], ids=["IPv4", "IPv6"])
def test_prefixes_of_aggregating_exporters(wide: bool) -> None:
    numbers, size = ((169, 170, 29, 30), 16) if wide else ((44, 45, 9, 13), 4)
    source, target = ("2001:db8::", "2001:db9::") if wide else ("10.1.0.0", "10.2.0.0")
    elements = [(e, n) for e, n in zip(numbers, (size, size, 1, 1), strict=True)]
    x = Ipfix()
    got = decode(
        x.send(template(314, *elements, (2, 4), (353, 8)), (source, target, 32, 16, 1, 90)),
        keys=["src_host", "src_net", "src_mask", "dst_net", "dst_mask"],
    )
    row = got.only
    assert (row["ip_src"], row["mask_src"], row["mask_dst"]) == (source, 32, 16)
    assert (row["net_src"], row["net_dst"]) == (source, "2001::" if wide else target)
    assert row["bytes"] == 90


def test_wireless_stations_are_the_source() -> None:
    x = Ipfix()
    spec = template(315, (365, 6), (366, 4), (2, 4))
    row = decode(x.send(spec, (0x0A0B0C0D0E0F, "10.0.0.9", 1)), keys=["src_host", "src_mac"]).only
    assert (row["ip_src"], row["mac_src"]) == ("10.0.0.9", "0a:0b:0c:0d:0e:0f")


def test_one_header_leaves_the_tunnel_empty() -> None:
    x = Ipfix()
    row = decode(x.send(FLOW, flow()), keys=TUNNEL_KEYS).only
    assert (row["tunnel_ip_src"], row["tunnel_ip_dst"], row["tunnel_tos"]) == ("", "", 0)


# -- labels, segments


def _label(label: int, *, bottom: bool = False) -> int:
    return label << 4 | 0b1010 | bottom


@pytest.mark.parametrize(
    ("elements", "vlan"),
    [((58, 59), 1), ((59,), 1), ((254,), 1), ((254, 243), 2), ((245,), 0)],
    ids=["ingress", "egress", "egress tag", "ingress tag first", "customer tag"],
)
def test_vlan_is_that_of_either_side(elements: tuple[int, ...], vlan: int) -> None:
    x = Ipfix()
    spec = template(300, (2, 4), *((e, 2) for e in elements))
    got = decode(x.send(spec, (1, *range(1, len(elements) + 1))), keys=["vlan"])
    assert got.only["vlan"] == vlan


def test_mpls_stack() -> None:
    spec = template(320, *((70 + i, 3) for i in range(10)), (2, 4))
    stacks = [[16065, 16033], [3], [], [*range(100, 110)]]
    records = [
        (*(_label(n, bottom=i + 1 == len(s)) for i, n in enumerate(s)), *[0] * (10 - len(s)), 1)
        for s in stacks
    ]
    x = Ipfix()
    got = decode(
        x.send(spec, *records), keys=["mpls_label_stack", "mpls_label_top", "mpls_label_bottom"]
    )
    assert got.column("mpls_label_stack") == [[f"{i}-{n}" for i, n in enumerate(s)] for s in stacks]
    assert got.column("mpls_label_top") == [16065, 3, 0, 100]
    assert got.column("mpls_label_bottom") == [16033, 3, 0, 109]


def test_srv6_segments() -> None:
    spec = template(321, (27, 16), (497, VARIABLE), (28, 16), (2, 4))
    segments = bytes.fromhex("20010db8" + "00" * 11 + "01" + "20010db8" + "00" * 11 + "02")
    x = Ipfix()
    got = decode(
        x.send(spec, ("2001:db8::1", segments, "2001:db8::2", 1), ("::", b"", "::", 1)),
        keys=["srv6_seg_ipv6_list"],
    )
    assert got.column("srv6_seg_ipv6_list") == [["0-2001:db8::1", "1-2001:db8::2"], []]


def test_layer_2_segment_ids() -> None:
    spec = template(322, (351, 8), (2, 4))
    x = Ipfix()
    got = decode(
        x.send(spec, (1 << 56 | 4711, 1), (2 << 56 | 815, 1), (0, 1)), keys=["vxlan", "nvgre"]
    )
    assert got.column("vxlan") == [4711, 0, 0]
    assert got.column("nvgre") == [0, 815, 0]


# -- sampled frames (RFC 7133)


def _packet(vlan: int | None = None) -> bytes:
    ip = frames.stack(
        frames.ipv4(1, src=0x0A000001, dst=0x0A000002, proto=6, total_length=1400, tos=32),
        frames.tcp(1, src_port=33000, dst_port=443, flags=0x18),
    )
    if vlan is None:
        return ip.tobytes()
    link = frames.ethernet(1, 0x0A0B0C0D0E0F, 0x010203040506, frames.ETHERTYPE_VLAN)
    return frames.stack(link, frames.vlan_tag(1, vlan, frames.ETHERTYPE_V4), ip).tobytes()


@pytest.mark.parametrize("element", [315, 104])
def test_frame_sections(element: int) -> None:
    spec = template(330, (10, 4), (element, VARIABLE))
    x = Ipfix()
    got = decode(
        x.send(spec, (5, _packet(vlan=77)), (6, b"")),
        keys=[*KEYS, "src_mac", "dst_mac", "vlan", "etype", "tcpflags", "tos", "in_iface"],
    )
    row = got.rows[0]
    assert [row[k] for k in KEYS] == ["10.0.0.1", "10.0.0.2", 33000, 443, "6"]
    assert (row["mac_src"], row["mac_dst"]) == ("01:02:03:04:05:06", "0a:0b:0c:0d:0e:0f")
    assert (row["vlan"], row["etype"], row["tcp_flags"], row["tos"]) == (77, "800", 0x18, 32)
    assert (row["packets"], row["bytes"], row["iface_in"]) == (1, 1400, 5)
    assert got.rows[1]["packets"] == 0


def test_ip_header_sections_of_both_families() -> None:
    spec = template(331, (313, VARIABLE), (2, 4), (1, 4))
    address = np.zeros((1, 16), np.uint8)
    address[0, :4] = (0x20, 0x01, 0x0D, 0xB8)
    six = frames.stack(
        frames.ipv6(1, src=address, dst=address, next_header=17, payload_length=8),
        frames.udp(1, src_port=53, dst_port=5353, length=8),
    ).tobytes()
    x = Ipfix()
    got = decode(x.send(spec, (_packet(), 4, 4000), (six, 0, 0)), keys=KEYS)
    assert got.column("port_src") == [33000, 53]
    assert got.column("packets") == [4, 1], "counters of the record, else one packet"
    assert got.column("bytes") == [4000, 48]
    assert got.rows[1]["ip_src"] == "2001:db8::"


def test_cut_off_frames_give_what_they_hold() -> None:
    spec = template(332, (10, 4), (315, VARIABLE))
    whole = _packet(vlan=9)
    x = Ipfix()
    got = decode(x.send(spec, *((1, whole[:n]) for n in range(1, len(whole)))), keys=KEYS)
    assert len(got.rows) == len(whole) - 1
    assert got.rows[-1]["port_src"] == 33000
    assert got.rows[20]["ip_src"] == "0.0.0.0"


# -- what operators declare


def test_declared_fields(tmp_path: object) -> None:
    file = f"{tmp_path}/primitives.map"
    with open(file, "w", encoding="utf-8") as out:  # noqa: PTH123
        out.write(
            "name=vrf_in field_type=234 len=4 semantics=u_int\n"
            "name=service field_type=15397:2 len=vlen semantics=str\n"
            "name=top field_type=47 len=4 semantics=ip\n"
            "name=cookie field_type=9:99 len=4 semantics=raw\n"
            "name=sampler_name field_type=84 len=8 semantics=str\n"
        )
    spec = template(340, (234, 4), (2, VARIABLE, 15397), (47, 4), (99, 4, CISCO), (84, 8), (2, 4))
    x = Ipfix()
    got = decode(
        x.send(spec, (1610612736, b"BGP-4", "192.0.2.7", bytes.fromhex("0a0bff00"), b"abc", 1)),
        keys=["vrf_in", "service", "top", "cookie", "sampler_name"],
        maps={"fields": file},
    )
    row = got.only
    assert (row["vrf_in"], row["service"], row["top"]) == ("1610612736", "BGP-4", "192.0.2.7")
    assert row["cookie"] == "0A-0B-FF-00"
    assert row["sampler_name"] == "abc", "without what fills up the field"
