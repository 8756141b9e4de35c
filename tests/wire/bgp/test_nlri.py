"""NLRI that are not of prefixes: texts and fields, and that any octets have a text."""

from ipaddress import ip_address
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.route_fields import ROUTE_FIELDS
from flowray.wire.bgp.families import FAMILIES, Family, family_index
from flowray.wire.bgp.link_state import link_state_attribute
from flowray.wire.bgp.nlri import Nlri, read_nlri

RD = bytes.fromhex("0000fbf000000007")
RD_WORD = int.from_bytes(RD, "big")
ESI = bytes(range(10))
ESI_TEXT = "00:01:02:03:04:05:06:07:08:09"
MAC = bytes.fromhex("020000000001")
V4 = ip_address("192.0.2.1").packed
V6 = ip_address("2001:db8::1").packed


def family(afi: int, safi: int) -> Family:
    return FAMILIES[family_index(afi, safi)]


EVPN = family(25, 70)


def evpn(kind: int, *parts: bytes) -> Nlri:
    body = RD + b"".join(parts)
    return read_nlri(EVPN, bytes([kind, len(body)]) + body)


def label(number: int) -> bytes:
    return (number << 4).to_bytes(3, "big")


TAG = pack("!I", 100)


@pytest.mark.parametrize(
    ("kind", "parts", "text", "fields"),
    [
        (
            1,
            (ESI, TAG, label(16)),
            f"[1]:[100]:[{ESI_TEXT}]",
            {"route_type": "ethernet-auto-discovery", "esi": ESI_TEXT, "ethernet_tag": 100,
             "labels": [16], "vnis": [256]},
        ),
        (
            2,
            (ESI, TAG, b"\x30", MAC, b"\x00", label(16)),
            "[2]:[100]:[48]:[02:00:00:00:00:01]",
            {"route_type": "mac-ip", "esi": ESI_TEXT, "ethernet_tag": 100,
             "mac": "02:00:00:00:00:01", "labels": [16], "vnis": [256]},
        ),
        (
            2,
            (ESI, TAG, b"\x30", MAC, b"\x20", V4, label(16), label(17)),
            "[2]:[100]:[48]:[02:00:00:00:00:01]:[32]:[192.0.2.1]",
            {"route_type": "mac-ip", "esi": ESI_TEXT, "ethernet_tag": 100,
             "mac": "02:00:00:00:00:01", "ip": "192.0.2.1", "labels": [16, 17],
             "vnis": [256, 272]},
        ),
        (
            3,
            (TAG, b"\x80", V6),
            "[3]:[100]:[128]:[2001:db8::1]",
            {"route_type": "inclusive-multicast", "ethernet_tag": 100, "ip": "2001:db8::1"},
        ),
        (
            4,
            (ESI, b"\x20", V4),
            f"[4]:[{ESI_TEXT}]:[32]:[192.0.2.1]",
            {"route_type": "ethernet-segment", "esi": ESI_TEXT, "ip": "192.0.2.1"},
        ),
        (
            5,
            (ESI, TAG, b"\x18", bytes([192, 0, 2, 0]), V4, label(16)),
            "[5]:[100]:[24]:[192.0.2.0]",
            {"route_type": "ip-prefix", "esi": ESI_TEXT, "ethernet_tag": 100,
             "prefix": "192.0.2.0/24", "gateway": "192.0.2.1", "labels": [16], "vnis": [256]},
        ),
        (
            5,
            (ESI, TAG, b"\x40", V6, bytes(16), label(16)),
            "[5]:[100]:[64]:[2001:db8::1]",
            {"route_type": "ip-prefix", "esi": ESI_TEXT, "ethernet_tag": 100,
             "prefix": "2001:db8::1/64", "gateway": "::", "labels": [16], "vnis": [256]},
        ),
    ],
)  # fmt: skip
def test_evpn(kind: int, parts: tuple[bytes, ...], text: str, fields: dict[str, Any]) -> None:
    assert evpn(kind, *parts) == Nlri(text, RD_WORD, fields)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (9, (ESI,)),
        (2, (ESI, TAG, b"\x31", MAC, b"\x00")),
        (2, (ESI, TAG, b"\x30", MAC, b"\x21", V4)),
        (5, (ESI, TAG, b"\x21", V4, V4, label(1))),
        (4, (ESI[:3],)),
    ],
)
def test_evpn_that_cannot_be_read_is_hexadecimal(kind: int, parts: tuple[bytes, ...]) -> None:
    read = evpn(kind, *parts)
    assert (read.text[:2], read.rd, read.fields) == (f"{kind:02x}", 0, {})


def flowspec(body: bytes, afi: int = 1, safi: int = 133) -> Nlri:
    size = len(body)
    head = bytes([size]) if size < 0xF0 else pack("!H", 0xF000 | size)
    return read_nlri(family(afi, safi), head + body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        # The examples of RFC 8955 section 4.3.
        (
            "01 18 c0 00 02  03 81 06  04 81 19",
            "destination 192.0.2.0/24, protocol =6, port =25",
        ),
        (
            "01 18 c0 00 02  02 08 cb  04 03 89 45 8b 91 1f 90",
            "destination 192.0.2.0/24, source 203.0.0.0/8, port >=137&<=139|=8080",
        ),
        ("01 20 c0 00 02 01  0c 80 05", "destination 192.0.2.1/32, fragment 0x05"),
        ("09 81 02", "tcp_flags =0x02"),
        ("09 01 10 82 02", "tcp_flags =0x10|!0x02"),
        ("0a 83 1f 02", None),
        ("0b 81 2e", "dscp =46"),
        ("05 92 04 00", "dst_port >1024"),
        ("05 87 00", "dst_port true"),
    ],
)
def test_flowspec(body: str, text: str | None) -> None:
    read = flowspec(bytes.fromhex(body))
    if text is None:
        assert read.fields == {}
    else:
        assert read.text == text
        assert ", ".join(f"{k} {v}" for k, v in read.fields.items()) == text


def test_flowspec_of_ipv6() -> None:
    """RFC 8956 section 3.8: a prefix, and a pattern from a bit on."""
    whole = flowspec(bytes.fromhex("01 20 00 20010db8  0d 81 05".replace(" ", "")), afi=2)
    assert whole.text == "destination 2001:db8::/32, flow_label =5"
    part = flowspec(bytes.fromhex("02 68 40 1234 5678 9a".replace(" ", "")), afi=2)
    assert part.text == "source 0:0:0:0:1234:5678:9a00:0/104 from bit 64".replace("0:0:0:0", ":")


def test_flowspec_of_a_vpn_has_a_distinguisher() -> None:
    read = flowspec(RD + bytes.fromhex("038111"), safi=134)
    assert (read.text, read.rd) == ("protocol =17", RD_WORD)


def test_long_flowspec() -> None:
    ports = b"".join(b"\x11" + pack("!H", p) for p in range(1000, 1090)) + b"\x91\x04\x00"
    assert flowspec(b"\x05" + ports).text.startswith("dst_port =1000|=1001|")


@pytest.mark.parametrize(
    "body",
    ["01 18 c0 00", "05 91 00", "05", "63 81 06", "01 21 c0 00 02 01 00", "03 81 06 03 81 07"],
)
def test_flowspec_that_cannot_be_read_is_hexadecimal(body: str) -> None:
    raw = bytes.fromhex(body)
    assert flowspec(raw) == Nlri(bytes([len(raw), *raw]).hex(), 0, {})


def tlv(kind: int, value: bytes) -> bytes:
    return pack("!HH", kind, len(value)) + value


LINK_STATE = family(16388, 71)
NODE = tlv(512, pack("!I", 64496)) + tlv(513, bytes(4)) + tlv(515, bytes.fromhex("010000000001"))
PSEUDO = tlv(512, pack("!I", 64496)) + tlv(515, bytes.fromhex("01000000000207"))


def link_state(kind: int, body: bytes, protocol: int = 2) -> Nlri:
    whole = bytes([protocol]) + pack("!Q", 7) + body
    return read_nlri(LINK_STATE, pack("!HH", kind, len(whole)) + whole)


LOCAL = {"local_asn": 64496, "local_bgp_ls_id": 0, "local_igp_rtr_id": "0100.0000.0001"}


def test_link_state_node() -> None:
    read = link_state(1, tlv(256, NODE))
    head = {"nlri_type": "node", "proto": "IS-IS Level 2", "identifier": 7}
    assert read.fields == head | LOCAL
    assert read.text == (
        "nlri_type node, proto IS-IS Level 2, identifier 7, local_asn 64496, local_bgp_ls_id 0,"
        " local_igp_rtr_id 0100.0000.0001"
    )


def test_link_state_link() -> None:
    body = tlv(256, NODE) + tlv(257, PSEUDO) + tlv(259, V4) + tlv(260, V4) + tlv(263, b"\x00\x02")
    read = link_state(2, body + tlv(258, pack("!II", 5, 6)))
    assert read.fields == LOCAL | {
        "nlri_type": "link",
        "proto": "IS-IS Level 2",
        "identifier": 7,
        "remote_asn": 64496,
        "remote_igp_rtr_id": "0100.0000.0002-07",
        "pseudonode": "true",
        "local_addr": "192.0.2.1",
        "neigh_addr": "192.0.2.1",
        "mt_ids": [2],
        "link_ids": [5, 6],
    }


@pytest.mark.parametrize(
    ("kind", "reach", "text"),
    [
        (3, bytes([24, 192, 0, 2]), "192.0.2.0/24"),
        (3, b"\x00", "0.0.0.0/0"),
        (4, bytes([32]) + V6[:4], "2001:db8::/32"),
        (3, bytes([33]) + bytes(5), "210000000000"),
        (3, bytes([24, 192]), "18c0"),
    ],
)
def test_link_state_prefix(kind: int, reach: bytes, text: str) -> None:
    assert link_state(kind, tlv(256, NODE) + tlv(265, reach)).fields["ip_reach"] == text


def test_link_state_of_ospf() -> None:
    node = tlv(514, bytes(4)) + tlv(515, V4 + bytes([192, 0, 2, 9]))
    fields = link_state(1, tlv(256, node), protocol=3).fields
    assert (fields["local_area_id"], fields["local_igp_rtr_id"], fields["pseudonode"]) == (
        "0.0.0.0", "192.0.2.1-192.0.2.9", "true"
    )  # fmt: skip


def test_descriptors_of_unknown_types_are_kept() -> None:
    fields = link_state(9, tlv(999, b"\xab") + tlv(256, tlv(998, b"\xcd")), protocol=77).fields
    assert (fields["nlri_type"], fields["proto"]) == (9, 77)
    assert (fields["descriptor_999"], fields["local_998"]) == ("ab", "cd")


def test_link_state_of_a_vpn() -> None:
    whole = RD + b"\x02" + bytes(8) + tlv(256, NODE)
    read = read_nlri(family(16388, 72), pack("!HH", 1, len(whole)) + whole)
    assert (read.rd, read.fields["local_asn"]) == (RD_WORD, 64496)


def test_link_state_attribute() -> None:
    octets = pack("!f", 1.25e9)
    value = b"".join(
        (
            tlv(1026, b"r1"),
            tlv(1027, bytes.fromhex("490001")),
            tlv(1027, bytes.fromhex("490002")),
            tlv(1028, V4),
            tlv(1088, pack("!I", 0xAB)),
            tlv(1089, octets),
            tlv(1091, octets * 8),
            tlv(1092, pack("!I", 10)),
            tlv(1095, b"\x00\x00\x0a"),
            tlv(266, b"\x01\x0a"),
            tlv(1155, b"\x00"),
            tlv(1158, b"\x01\x02"),
        )
    )
    assert link_state_attribute(value) == {
        "attr_node_name": "r1",
        "attr_isis_area_id": ["490001", "490002"],
        "attr_v4_rid_local": "192.0.2.1",
        "attr_admin_group": "ab",
        "attr_max_bw": 10_000_000_000,
        "attr_unresv_bw": [10_000_000_000] * 8,
        "attr_te_df_metric": 10,
        "attr_igp_metric": 10,
        "attr_node_msd": ["010a"],
        "attr_prefix_metric": "00",
        "attr_1158": "0102",
    }


@pytest.mark.parametrize("octets", ["7f800000", "7fc00000", "ff800000", "bf800000"])
def test_bandwidths_that_are_no_number_are_hexadecimal(octets: str) -> None:
    assert link_state_attribute(tlv(1089, bytes.fromhex(octets))) == {"attr_max_bw": octets}


TARGET = family(1, 132)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("00", "default"),
        ("60 0000fbf0 0002fbf000000007", "64496:RT:64496:7"),
        ("20 0000fbf0", "64496:0x0000000000000000/0"),
        ("40 0000fbf0 0002fbf0", "64496:0x0002fbf000000000/32"),
        ("61 0000fbf0 0002fbf000000007", None),
    ],
)
def test_route_targets(raw: str, text: str | None) -> None:
    octets = bytes.fromhex(raw)
    assert read_nlri(TARGET, octets).text == (text or octets.hex())


OPAQUE = [f for f in FAMILIES if not f.of_prefixes]


@given(st.sampled_from(OPAQUE), st.binary(min_size=1, max_size=80))
def test_any_octets_have_a_text(of: Family, raw: bytes) -> None:
    assert read_nlri(of, raw).text


@given(st.integers(1, 5), st.binary(max_size=80))
def test_any_evpn_route_has_a_text(kind: int, body: bytes) -> None:
    read = read_nlri(EVPN, bytes([kind, len(body)]) + body)
    assert read.text
    assert not read.fields.keys() & ROUTE_FIELDS.keys()


@given(st.sampled_from([1, 2]), st.booleans(), st.binary(max_size=250))
def test_any_flowspec_has_a_text(afi: int, vpn: bool, body: bytes) -> None:
    read = flowspec(body, afi, 134 if vpn else 133)
    assert read.text
    assert not read.fields.keys() & ROUTE_FIELDS.keys()


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(255, 266), st.binary(max_size=24)), max_size=5),
)
def test_any_link_state_nlri_has_a_text(kind: int, tlvs: list[tuple[int, bytes]]) -> None:
    read = link_state(kind, b"".join(tlv(k, v) for k, v in tlvs))
    assert read.text.startswith("nlri_type")
    assert not read.fields.keys() & ROUTE_FIELDS.keys()


@given(st.binary(max_size=120))
def test_any_link_state_attribute_is_read(value: bytes) -> None:
    assert not link_state_attribute(value).keys() & ROUTE_FIELDS.keys()


def test_links_that_differ_in_one_address_have_other_texts() -> None:
    v6 = tlv(261, V6)
    one, other = (link_state(2, tlv(259, bytes([192, 0, 2, i])) + v6) for i in (1, 2))
    assert one.text != other.text
    assert one.fields["local_addr"] == "2001:db8::1"
