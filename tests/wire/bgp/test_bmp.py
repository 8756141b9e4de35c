"""BMP messages, one at a time."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp import bmp
from flowray.wire.bgp.bmp import BmpError, PeerDownReason, Statistic, Tlv
from tests.wire.bgp import encode_bmp as make
from tests.wire.bgp.encode_bmp import Peer


def _body(message: bytes) -> bytes:
    return message[bmp.COMMON_HEADER + bmp.PEER_HEADER :]


@pytest.mark.parametrize(
    ("peer", "views"),
    [
        (Peer(), "in"),
        (Peer(flags=0x40), "in post"),
        (Peer(flags=0x10), "out"),
        (Peer(flags=0x50), "out post"),
        (Peer(peer_type=3, address="0.0.0.0", flags=0x80), "loc filtered"),
        (Peer(peer_type=3, address="0.0.0.0", flags=0x70), "loc"),
    ],
)
def test_policy_views(peer: Peer, views: str) -> None:
    header = bmp.read_peer_header(peer.header())
    told = [
        "loc" if header.is_loc else "out" if header.is_out else "in",
        *(["post"] if header.is_post else []),
        *(["filtered"] if header.is_filtered else []),
    ]
    assert " ".join(told) == views
    assert header.address == peer.address


def test_per_peer_header() -> None:
    peer = Peer(
        "2001:db8::7", 1, 0x20, 0x0000_FBF3_0000_000B, 4_200_000_000, "198.51.100.9", 1, 999_999
    )
    header = bmp.read_peer_header(peer.header())
    assert header == bmp.PeerHeader(
        1,
        0xA0,
        0x0000_FBF3_0000_000B,
        0x2001_0DB8_0000_0000,
        7,
        4_200_000_000,
        0xC633_6409,
        1_999_999_000,
    )
    assert header.address == "2001:db8::7"
    assert bmp.read_peer_header(Peer(seconds=0, micros=5).header()).time_ns == 0


def test_tlvs_are_kept_whatever_their_type() -> None:
    data = make.tlv(1, b"text\0") + make.tlv(0x8123, b"") + make.tlv(0xFFFB, b"\x00\xff")
    assert bmp.read_tlvs(data) == (Tlv(1, b"text\0"), Tlv(0x8123, b""), Tlv(0xFFFB, b"\x00\xff"))
    assert bmp.read_tlvs(data)[0].text == "text"
    assert Tlv(0, b"a\xff").text == "a\ufffd"


def test_enterprise_tlvs_of_version_4() -> None:
    data = make.tlv(5, b"ab", pen=9) + make.tlv(5, b"cd")
    assert bmp.read_tlvs(data, version=4) == (Tlv(5, b"ab", 9), Tlv(5, b"cd"))
    indexed = make.tlv(5, b"ab", pen=9, index=0x8001)
    assert bmp.read_tlvs(indexed, version=4, indexed=True) == (Tlv(5, b"ab", 9, 0x8001),)
    with pytest.raises(BmpError, match="enterprise"):
        bmp.read_tlvs(struct.pack(">HH", 0x8001, 3) + b"abc", version=4)


@given(st.binary(max_size=60), st.sampled_from([3, 4]), st.booleans())
def test_tlvs_of_random_octets(data: bytes, version: int, indexed: bool) -> None:
    try:
        found = bmp.read_tlvs(data, version=version, indexed=indexed)
    except BmpError:
        return
    octets = sum((6 if indexed else 4) + len(t.value) + (4 if t.pen else 0) for t in found)
    # An enterprise number of zero is that of IANA, and takes four octets as well.
    assert octets <= len(data)


def test_peer_up() -> None:
    sent = make.bgp_open(4_200_000_000, make.four_octet_as(4_200_000_000))
    received = make.bgp_open()
    peer = Peer("2001:db8::7")
    told = make.peer_up(peer, sent, received, make.tlv(3, b"red"), local="2001:db8::1")
    up = bmp.read_peer_up(_body(told), bmp.read_peer_header(peer.header()))
    assert (up.local_address, up.local_port, up.remote_port) == ("2001:db8::1", 179, 40000)
    assert (up.sent_open, up.received_open) == (sent, received)
    assert up.tlvs == (Tlv(3, b"red"),)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (bytes(19), "Peer Up is cut off"),
        (bytes(20) + make.MARKER, "BGP message is cut off"),
        (bytes(20) + make.MARKER + b"\x00\x12\x01", "a length that cannot be"),
        (bytes(20) + make.MARKER + b"\xff\xff\x01", "a length that cannot be"),
        (bytes(20) + make.bgp_open(), "BGP message is cut off"),
        (bytes(20) + make.bgp_open() + make.update(), "no OPEN"),
        (bytes(20) + make.bgp_open() + make.bgp_open() + b"\x00", "TLV header is cut off"),
        (bytes(20) + make.bgp_open() + make.bgp_open() + b"\x00\x00\x00\x01", "TLV is cut off"),
    ],
)
def test_malformed_peer_up(body: bytes, cause: str) -> None:
    with pytest.raises(BmpError, match=cause):
        bmp.read_peer_up(body, bmp.read_peer_header(Peer().header()))


def test_peer_down() -> None:
    note = make.bgp(3, b"\x06\x04")
    for reason in (PeerDownReason.LOCAL_NOTIFICATION, PeerDownReason.REMOTE_NOTIFICATION):
        assert bmp.read_peer_down(bytes((reason,)) + note).notification == note
    assert bmp.read_peer_down(b"\x02\x00\x12").fsm_event == 18
    assert bmp.read_peer_down(b"\x04") == bmp.PeerDownMessage(4, None, None, ())
    assert bmp.read_peer_down(b"\x05abc").tlvs == ()
    assert bmp.read_peer_down(b"\x06" + make.tlv(3, b"red")).tlvs == (Tlv(3, b"red"),)
    assert bmp.read_peer_down(b"\x04" + make.tlv(3, b"red"), version=4).tlvs == (Tlv(3, b"red"),)
    assert bmp.read_peer_down(b"\xfb").reason == 251


@pytest.mark.parametrize(
    "body", [b"", b"\x01", b"\x01" + make.update(), b"\x03" + make.bgp(3, b"\x06"), b"\x02\x00"]
)
def test_malformed_peer_down(body: bytes) -> None:
    with pytest.raises(BmpError):
        bmp.read_peer_down(body)


def test_statistics() -> None:
    rows = [
        (0, struct.pack(">I", 7)),
        (7, struct.pack(">Q", 1 << 40)),
        (10, struct.pack(">HBQ", 2, 128, 5)),
        (500, b"\x01\x02\x03"),
    ]
    told, others = bmp.read_statistics(make.statistics_rows(*rows))
    assert told == (
        Statistic(0, 7, None, None, rows[0][1]),
        Statistic(7, 1 << 40, None, None, rows[1][1]),
        Statistic(10, 5, 2, 128, rows[2][1]),
        Statistic(500, None, None, None, b"\x01\x02\x03"),
    )
    assert others == ()
    assert [row.name for row in told] == [
        "Number of prefixes rejected by inbound policy",
        "Number of routes in Adj-RIBs-In",
        "Number of routes in per-AFI/SAFI Loc-RIB",
        "Unknown",
    ]


def test_a_count_of_statistics_is_no_promise() -> None:
    rows = [(0, bytes(4)), (1, bytes(4))]
    assert len(bmp.read_statistics(make.statistics_rows(*rows, count=1))[0]) == 1
    assert len(bmp.read_statistics(make.statistics_rows(*rows, count=0xFFFF_FFFF))[0]) == 2


def test_statistics_of_version_4() -> None:
    plain = make.statistics_rows((0, struct.pack(">I", 7)))
    assert bmp.read_statistics(plain, 4)[0] == bmp.read_statistics(plain, 3)[0]
    wrapped = make.tlv(1, plain) + make.tlv(9, b"x", pen=3)
    rows, others = bmp.read_statistics(wrapped, 4)
    assert rows == bmp.read_statistics(plain)[0]
    assert others == (Tlv(9, b"x", 3),)


def test_termination() -> None:
    assert bmp.termination_reason((Tlv(0, b"bye"), Tlv(1, b"\x00\x02"))) == 2
    assert bmp.termination_reason((Tlv(1, b"\x02"),)) is None
    assert bmp.TERMINATION_REASONS[2] == "Out of resources"


def test_route_mirroring() -> None:
    pdu = make.update()
    body = make.tlv(1, b"\x00\x01") + make.tlv(0, pdu) + make.tlv(1, b"\x00") + make.tlv(7, b"z")
    told = bmp.read_route_mirroring(body)
    assert told.messages == (pdu,)
    assert told.information == (bmp.MirroringInformation.MESSAGES_LOST,)
    assert told.tlvs == (Tlv(1, b"\x00"), Tlv(7, b"z"))
