"""Canonical attribute sets as values and texts."""

from ipaddress import ip_address
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp.attributes import Attributes, AttributeType, PmsiTunnel, decode_attributes
from flowray.wire.bgp.prefix_sid import Srv6Service
from tests.wire.bgp.sets import attribute, attribute_set, segment

V4 = ip_address("192.0.2.1").packed
V6 = ip_address("2001:db8::1").packed
LINK_LOCAL = ip_address("fe80::1").packed
T = AttributeType


def one(kind: int, value: bytes) -> Attributes:
    return decode_attributes(attribute_set(attribute(kind, value)))


def test_empty_set() -> None:
    assert decode_attributes(b"\x01\x00") == Attributes()
    assert decode_attributes(b"") == Attributes()


def test_all_of_a_usual_route() -> None:
    read = decode_attributes(
        attribute_set(
            attribute(T.ORIGIN, b"\x02"),
            attribute(T.AS_PATH, segment(2, 64496, 4200000000) + segment(1, 64498, 64497)),
            attribute(T.MULTI_EXIT_DISC, pack("!I", 0)),
            attribute(T.LOCAL_PREF, pack("!I", 200)),
            attribute(T.ATOMIC_AGGREGATE, b""),
            attribute(T.AGGREGATOR, pack("!I", 4200000000) + V4),
            attribute(T.COMMUNITIES, pack("!II", 64496 << 16 | 2, 64496 << 16 | 1)),
            attribute(T.ORIGINATOR_ID, V4),
            attribute(T.CLUSTER_LIST, bytes([192, 0, 2, 2, 192, 0, 2, 3])),
            attribute(T.EXTENDED_COMMUNITIES, bytes.fromhex("0002fbf100000001")),
            attribute(T.LARGE_COMMUNITY, pack("!III", 64496, 1, 2)),
            attribute(T.ONLY_TO_CUSTOMER, pack("!I", 64499)),
            attribute(99, b"\xab", flags=0xC0),
            next_hop=V4,
        )
    )
    assert read.next_hop_text == "192.0.2.1"
    assert read.origin == "u"
    assert read.as_path_text == "64496 4200000000 {64497,64498}"
    assert (read.med, read.local_pref, read.atomic_aggregate) == (0, 200, True)
    assert read.aggregator == (4200000000, "192.0.2.1")
    assert read.communities_text == "64496:1 64496:2"
    assert read.extended_communities_text == "RT:64497:1"
    assert read.large_communities_text == "64496:1:2"
    assert read.originator_id == "192.0.2.1"
    assert read.cluster_list == ("192.0.2.2", "192.0.2.3")
    assert read.only_to_customer == 64499
    assert read.unknown == ((99, "ab"),)


@pytest.mark.parametrize(
    ("next_hop", "text"),
    [
        (b"", None),
        (V4, "192.0.2.1"),
        (V6, "2001:db8::1"),
        (V6 + LINK_LOCAL, "2001:db8::1"),
        (bytes(10) + b"\xff\xff" + V4, "::ffff:192.0.2.1"),
        (bytes(16), "::"),
        (b"abc", None),
    ],
)
def test_next_hop_text(next_hop: bytes, text: str | None) -> None:
    assert decode_attributes(attribute_set(next_hop=next_hop)).next_hop_text == text


def test_attributes_longer_than_255_octets() -> None:
    many = pack("!100I", *range(100))
    assert one(T.COMMUNITIES, many).communities == tuple(range(100))


def test_what_cannot_be_read_is_absent() -> None:
    read = decode_attributes(
        attribute_set(
            attribute(T.ORIGIN, b"\x07"),
            attribute(T.AS_PATH, b"\x02\x09"),
            attribute(T.MULTI_EXIT_DISC, b"\x00"),
            attribute(T.COMMUNITIES, b"\x00\x01"),
            attribute(T.AGGREGATOR, b"\x00"),
            attribute(T.CLUSTER_LIST, b"\x00"),
            attribute(T.PMSI_TUNNEL, b"\x00"),
            attribute(T.LOCAL_PREF, pack("!I", 7)),
        )
    )
    assert read == Attributes(local_pref=7)


def test_of_attributes_that_stand_twice_the_first_counts() -> None:
    twice = attribute(T.LOCAL_PREF, pack("!I", 1)) + attribute(T.LOCAL_PREF, pack("!I", 2))
    assert decode_attributes(attribute_set(twice)).local_pref == 1


def test_a_length_that_overruns_ends_the_set() -> None:
    whole = attribute(T.LOCAL_PREF, pack("!I", 1))
    assert decode_attributes(attribute_set(whole, b"\x40\x05\xff\x00")).local_pref == 1
    assert decode_attributes(b"\x01\xff" + whole) == Attributes()


def test_two_octets_are_completed_by_as4_path() -> None:
    path = attribute(T.AS_PATH, segment(2, 64496, 23456, width=2))
    as4 = attribute(T.AS4_PATH, segment(2, 4200000000))
    old = attribute_set(path, as4, four_octets=False)
    assert decode_attributes(old).as_path_text == "64496 4200000000"
    assert decode_attributes(attribute_set(path, four_octets=False)).as_path_text == "64496 23456"


def test_an_aggregator_without_as_trans_makes_as4_stale() -> None:
    """RFC 6793 section 4.2.3."""
    path = attribute(T.AS_PATH, segment(2, 64496, 23456, width=2))
    as4 = attribute(T.AS4_PATH, segment(2, 4200000000))
    by_old = attribute(T.AGGREGATOR, pack("!H", 64500) + V4)
    by_new = attribute(T.AGGREGATOR, pack("!H", 23456) + V4)
    as4_aggregator = attribute(T.AS4_AGGREGATOR, pack("!I", 4200000001) + V4)
    stale = decode_attributes(attribute_set(path, as4, by_old, as4_aggregator, four_octets=False))
    assert (stale.as_path_text, stale.aggregator) == ("64496 23456", (64500, "192.0.2.1"))
    fresh = decode_attributes(attribute_set(path, as4, by_new, as4_aggregator, four_octets=False))
    assert fresh.as_path_text == "64496 4200000000"
    assert fresh.aggregator == (4200000001, "192.0.2.1")


def test_as4_path_is_ignored_where_numbers_take_four_octets() -> None:
    path = attribute(T.AS_PATH, segment(2, 64496))
    read = decode_attributes(attribute_set(path, attribute(T.AS4_PATH, segment(2, 4200000000))))
    assert (read.as_path_text, read.unknown) == ("64496", ())


@pytest.mark.parametrize(
    ("value", "metric"),
    [
        (b"\x01\x00\x0b" + pack("!Q", 1 << 40), 1 << 40),
        (b"\x02\x00\x04\x00" + b"\x01\x00\x0b" + pack("!Q", 3), 3),
        (b"\x01\x00\x0a" + bytes(7), None),
        (b"\x02\x00\x00", None),
        (b"\x02\x00\xff", None),
        (b"", None),
    ],
)
def test_aigp(value: bytes, metric: int | None) -> None:
    assert one(T.AIGP, value).aigp == metric


def test_pmsi_tunnel() -> None:
    value = b"\x00\x06" + (100 << 4).to_bytes(3, "big") + V4
    tunnel = one(T.PMSI_TUNNEL, value).pmsi_tunnel
    assert tunnel == PmsiTunnel(0, 6, 100, V4)
    assert tunnel.text == "ingress replication 100 192.0.2.1"
    assert PmsiTunnel(0, 99, 0, b"\xab").text == "99 0 ab"


def test_prefix_sid_label_index() -> None:
    assert one(T.PREFIX_SID, b"\x01\x00\x07\x00\x00\x00" + pack("!I", 90)).label_index == 90
    assert one(T.PREFIX_SID, b"\x01\x00\x06" + bytes(6)).label_index is None


def test_prefix_sid_srv6_service() -> None:
    structure = b"\x01\x00\x06" + bytes([32, 16, 16, 0, 16, 64])
    information = b"\x00" + V6 + b"\x00" + pack("!H", 19) + b"\x00" + structure
    sub = b"\x01" + pack("!H", len(information)) + information
    value = b"\x05" + pack("!H", 1 + len(sub)) + b"\x00" + sub
    read = one(T.PREFIX_SID, value).prefix_sid
    assert read is not None
    service = Srv6Service(3, "2001:db8::1", 19, 0, (32, 16, 16, 0, 16, 64))
    assert read.services == (service,)
    assert service.behavior_text == "End.DT46"


def test_link_state_attribute_is_kept() -> None:
    assert one(T.LINK_STATE, b"\x04\x02\x00\x01a").link_state == b"\x04\x02\x00\x01a"


@given(st.binary(max_size=120))
def test_never_raises(octets: bytes) -> None:
    read = decode_attributes(octets)
    texts = (read.as_path_text, read.communities_text, read.extended_communities_text)
    assert all(t is None or isinstance(t, str) for t in texts)


@given(
    st.lists(st.tuples(st.sampled_from([*T, 77]), st.binary(max_size=40)), max_size=6),
    st.sampled_from([b"", V4, V6, V6 + LINK_LOCAL]),
    st.booleans(),
)
def test_never_raises_on_attributes_of_any_content(
    content: list[tuple[int, bytes]],
    next_hop: bytes,
    four: bool,
) -> None:
    raw = attribute_set(*(attribute(k, v) for k, v in content), next_hop=next_hop, four_octets=four)
    read = decode_attributes(raw)
    assert read.next_hop == next_hop
    assert all(k not in set(T) for k, _ in read.unknown)
