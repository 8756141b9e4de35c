"""Communities of all sizes: values and texts."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp import communities as c


def test_communities_are_a_set_in_order() -> None:
    assert c.communities(pack("!4I", 5, 1, 5, 0xFFFFFF01)) == (1, 5, 0xFFFFFF01)
    assert c.communities(b"") == ()
    assert c.communities(b"\x00" * 5) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (64496 << 16 | 299, "64496:299"),
        (0, "internet"),
        (0xFFFFFF01, "no-export"),
        (0xFFFFFF02, "no-advertise"),
        (0xFFFFFF03, "local-AS"),
        (0xFFFF029A, "65535:666"),
    ],
)
def test_community_text(value: int, text: str) -> None:
    assert c.community_text(value) == text


def test_large_communities() -> None:
    value = pack("!6I", 64497, 2, 3, 64496, 4294967295, 0)
    assert c.large_communities(value + value) == ((64496, 4294967295, 0), (64497, 2, 3))
    assert c.large_communities(value[:-1]) is None
    assert c.large_community_text((64496, 4294967295, 0)) == "64496:4294967295:0"


def test_extended_communities_are_a_set_in_order() -> None:
    first, second = bytes.fromhex("0002fbf100000001"), bytes.fromhex("0002fbf100000002")
    assert c.extended_communities(second + first + second) == (first, second)
    assert c.extended_communities(first[:-1]) is None


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        ("0002fbf100000001", "RT:64497:1"),
        ("0003fbf100000001", "SoO:64497:1"),
        ("0102c00002010007", "RT:192.0.2.1:7"),
        ("0103c00002010007", "SoO:192.0.2.1:7"),
        ("0202000100000007", "RT:65536:7"),
        ("0203000100000007", "SoO:65536:7"),
        ("030b000000000064", "color:100"),
        ("030c000000000008", "encapsulation:VXLAN"),
        ("030c0000000000fe", "encapsulation:254"),
        ("0600010000000005", "MAC-mobility:5:sticky"),
        ("0600000000000005", "MAC-mobility:5"),
        ("0601010000000641", "ESI-label:100:single-active"),
        ("0602020000000001", "ES-import:02:00:00:00:00:01"),
        ("0603020000000001", "router-MAC:02:00:00:00:00:01"),
        ("8006000041200000", "flowspec-rate:0:10"),
        ("8008fbf100000001", "flowspec-redirect:64497:1"),
        ("800900000000002e", "flowspec-mark:46"),
        ("8000000000010501", "OSPF-RT:0.0.0.1:5:1"),
        ("8001c00002010000", "OSPF-RID:192.0.2.1"),
        ("4004fbf149742400", "bandwidth:64497:1e+06"),
        ("fffe000102030405", "0xfffe000102030405"),
    ],
)
def test_extended_community_text(octets: str, text: str) -> None:
    assert c.extended_community_text(bytes.fromhex(octets)) == text


@given(st.binary(min_size=8, max_size=8))
def test_any_extended_community_has_a_text_of_one_word(octets: bytes) -> None:
    assert len(c.extended_community_text(octets).split()) == 1
