"""BMP sessions: octets of a router in, events out."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.bmp_events import (
    Discarded,
    Ended,
    Initiation,
    Mirroring,
    Output,
    PeerDown,
    PeerUp,
    RouteMonitoring,
    Statistics,
    Termination,
)
from flowray.rib.bmp_session import NOT_UP, TLVS, TOO_MANY_PEERS, BmpSession, BmpSessionSettings
from flowray.wire.bgp.bmp import Tlv
from tests.wire.bgp import encode_bmp as make
from tests.wire.bgp.encode_bmp import Peer

V4_UNICAST, V6_UNICAST, VPN_V4 = 1 << 0, 1 << 1, 1 << 6


def session(**settings: Any) -> BmpSession:
    return BmpSession(BmpSessionSettings(**settings), "198.51.100.1", 4711, 0)


def feed(into: BmpSession, *messages: bytes) -> list[Output]:
    return into.receive(b"".join(messages), 1)


def routes(outputs: Iterable[Output]) -> RouteMonitoring:
    (only,) = [output for output in outputs if isinstance(output, RouteMonitoring)]
    return only


def updates(batch: RouteMonitoring) -> list[bytes]:
    u = batch.updates
    ends = (u.offset + u.length).tolist()
    return [u.buf[a:b].tobytes() for a, b in zip(u.offset.tolist(), ends, strict=True)]


def contexts(of: BmpSession, batch: RouteMonitoring) -> list[tuple[bool, int]]:
    all_of = of.contexts
    return [
        (bool(all_of.four_octets[c]), int(all_of.add_path[c]))
        for c in batch.updates.context.tolist()
    ]


def test_everything_in_order() -> None:
    s = session()
    peer = Peer()
    told = feed(
        s,
        make.initiation(make.tlv(1, b"descr"), make.tlv(2, b"name"), make.tlv(77, b"\x01")),
        make.peer_up(peer),
        make.route_monitoring(peer, make.update(b"\0\0\0\0")),
        make.route_monitoring(peer, make.update(b"\0\0\0\0\x08\x0a")),
        make.statistics(peer, (7, struct.pack(">Q", 2))),
        make.route_monitoring(peer),
        make.route_mirroring(peer, make.tlv(0, make.update())),
        make.peer_down(peer, 1, make.bgp(3, b"\x06\x02\x03abc")),
        make.termination(0, make.tlv(0, b"bye")),
    )
    assert [type(output) for output in told] == [
        Initiation,
        PeerUp,
        RouteMonitoring,
        Statistics,
        RouteMonitoring,
        Mirroring,
        PeerDown,
        Termination,
        Ended,
    ]
    init, up, first, stats, second, mirror, down, term, end = told
    assert isinstance(init, Initiation)
    assert init.tlvs == (Tlv(1, b"descr"), Tlv(2, b"name"), Tlv(77, b"\x01"))
    assert isinstance(up, PeerUp)
    assert (up.local_address, up.local_port, up.remote_port) == ("192.0.2.254", 179, 40000)
    assert up.local_as == 65000
    assert up.time_ns == 1_700_000_000_123_456_000
    assert isinstance(first, RouteMonitoring)
    assert updates(first) == [make.update(), make.update(b"\0\0\0\0\x08\x0a")]
    assert first.peers.tolist() == [0, 0]
    assert first.updates.time_ns.tolist() == [1_700_000_000_123_456_000] * 2
    assert isinstance(stats, Statistics)
    assert [(row.type, row.value) for row in stats.rows] == [(7, 2)]
    assert isinstance(second, RouteMonitoring)
    assert len(second.updates) == 1
    assert isinstance(mirror, Mirroring)
    assert mirror.content.messages == (make.update(),)
    assert isinstance(down, PeerDown)
    assert down.notification is not None
    assert (down.notification.code, down.notification.subcode) == (6, 2)
    assert down.reason_text == "The local system closed the session"
    assert isinstance(term, Termination)
    assert term.reason_text == "Session administratively closed"
    assert end == Ended("the router ended the session: Session administratively closed")
    assert feed(s, make.initiation()) == []
    assert s.closed(2) == []


def test_batches_keep_their_octets() -> None:
    s = session()
    peer = Peer()
    first = routes(feed(s, make.peer_up(peer), make.route_monitoring(peer)))
    routes(feed(s, make.route_monitoring(peer, make.update(b"\0\0\0\0\x08\x0b"))))
    assert updates(first) == [make.update()]


def test_peer_down_is_about_all_views_of_one_peer() -> None:
    s = session()
    views = [Peer(flags=flags) for flags in (0x00, 0x40, 0x10, 0x50)]
    others = [
        Peer(peer_type=1, distinguisher=5),
        Peer(address="192.0.2.2"),
        Peer(bgp_id="192.0.2.9"),
    ]
    told = feed(
        s,
        make.peer_up(views[0]),
        *(make.peer_up(other) for other in others),
        *(make.route_monitoring(peer) for peer in [*views, *others]),
    )
    assert routes(told).peers.tolist() == [0, 4, 5, 6, 1, 2, 3]
    assert all(peer.peer_up for peer in s.peers)
    (down,) = feed(s, make.peer_down(views[1], 4))
    assert isinstance(down, PeerDown)
    assert down.views == (0, 4, 5, 6)
    assert down.peer.index == 4
    assert [peer.index for peer in s.peers if peer.peer_up] == [1, 2, 3]
    told = feed(s, *(make.route_monitoring(peer) for peer in views))
    assert [(o.cause, o.messages) for o in told if isinstance(o, Discarded)] == [(NOT_UP, 1)] * 4
    feed(s, make.peer_up(views[3]))
    assert routes(feed(s, make.route_monitoring(views[2]))).peers.tolist() == [5]


def test_peer_down_without_a_bgp_id() -> None:
    s = session()
    peer, other = Peer(), Peer(peer_type=1, distinguisher=1)
    feed(s, make.peer_up(peer), make.peer_up(other), make.route_monitoring(Peer(flags=0x40)))
    (down,) = feed(s, make.peer_down(Peer(bgp_id="0.0.0.0"), 2, b"\0\0"))
    assert isinstance(down, PeerDown)
    assert down.views == (0, 2, 3)
    assert [p.peer_up for p in s.peers] == [False, True, False, False]


def test_the_distinguisher_tells_loc_ribs_apart() -> None:
    s = session(without_peer_up=frozenset())
    red, blue = (
        Peer("0.0.0.0", 3, 0, distinguisher, 65000) for distinguisher in (0x1_0000_0001, 2)
    )
    told = feed(
        s,
        make.peer_up(red, None, None, make.tlv(3, b"red"), local="0.0.0.0"),
        make.route_monitoring(red),
        make.route_monitoring(blue),
    )
    assert routes(told).peers.tolist() == [0]
    assert s.discarded == {NOT_UP: 1}
    assert s.peers[0].is_loc
    assert s.peers[0].distinguisher == 0x1_0000_0001


def test_a_header_alone_for_an_open() -> None:
    s = session()
    loc = Peer("0.0.0.0", 3, 0, 0, 65077)
    empty = make.bgp(1, b"")
    up, batch = feed(s, make.peer_up(loc, empty, empty), make.route_monitoring(loc))
    assert isinstance(up, PeerUp)
    assert (up.sent, up.received, up.local_as) == (None, None, 65077)
    assert isinstance(batch, RouteMonitoring)
    assert contexts(s, batch) == [(True, 0)]


def test_octets_of_as_numbers() -> None:
    s = session()
    two, four = Peer(flags=0x20), Peer()
    loc = Peer("0.0.0.0", 3, 0x20)
    told = feed(
        s,
        make.peer_up(four),
        make.peer_up(loc),
        *map(make.route_monitoring, (two, four, loc)),
    )
    batch = routes(told)
    assert contexts(s, batch) == [(False, 0), (True, 0), (True, 0)]
    assert batch.peers.tolist() == [0, 0, 1]  # how AS numbers are written makes no other peer


def test_path_identifiers_by_direction() -> None:
    s = session()
    sent = make.bgp_open(65000, make.add_path((1, 1, 1), (2, 1, 2), (1, 128, 3)))
    received = make.bgp_open(65001, make.add_path((1, 1, 2), (2, 1, 1), (1, 128, 3), (7, 7, 3)))
    into, out = Peer(), Peer(flags=0x10)
    told = feed(s, make.peer_up(into, sent, received), *map(make.route_monitoring, (into, out)))
    assert contexts(s, routes(told)) == [
        (True, V4_UNICAST | VPN_V4),
        (True, V6_UNICAST | VPN_V4),
    ]


def test_path_identifiers_of_a_loc_rib() -> None:
    s = session()
    loc = Peer("0.0.0.0", 3)
    both = make.bgp_open(65000, make.add_path((1, 1, 2), (2, 1, 0)))
    told = feed(s, make.peer_up(loc, both, both), make.route_monitoring(loc))
    assert contexts(s, routes(told)) == [(True, V4_UNICAST)]


def test_a_peer_up_for_each_family() -> None:
    s = session()
    loc = Peer("0.0.0.0", 3)
    v4 = make.bgp_open(65000, make.multiprotocol(1, 1) + make.add_path((1, 1, 3)))
    v6 = make.bgp_open(65000, make.multiprotocol(2, 1))
    feed(s, make.peer_up(loc, v4, v4), make.peer_up(loc, v6, v6))
    assert contexts(s, routes(feed(s, make.route_monitoring(loc)))) == [(True, V4_UNICAST)]
    plain = make.bgp_open(65000, make.multiprotocol(1, 1))
    feed(s, make.peer_up(loc, plain, plain))
    assert contexts(s, routes(feed(s, make.route_monitoring(loc)))) == [(True, 0)]


def test_without_peer_up_if_that_is_asked_for() -> None:
    s = session(without_peer_up=frozenset({0}))
    batch = routes(feed(s, make.route_monitoring(Peer())))
    assert contexts(s, batch) == [(True, 0)]
    assert not s.peers[0].peer_up


def test_a_loc_rib_may_do_without_peer_up() -> None:
    s = session()
    loc = Peer("0.0.0.0", 3)
    batch = routes(feed(s, make.route_monitoring(loc)))
    assert contexts(s, batch) == [(True, 0)]
    (down,) = feed(s, make.peer_down(loc, 6, make.tlv(3, b"red")))
    assert isinstance(down, PeerDown)
    assert down.views == (0,)
    s = session(without_peer_up=frozenset())
    told = feed(s, make.route_monitoring(loc))
    assert told == [Discarded(0, NOT_UP, s.peers[0], 1)]


def test_a_route_is_never_given_out_before_its_peer_up() -> None:
    s = session()
    peer = Peer()
    told = feed(s, make.route_monitoring(peer), make.peer_up(peer), make.route_monitoring(peer))
    assert [type(output) for output in told] == [PeerUp, RouteMonitoring, Discarded]
    assert told[-1] == Discarded(0, NOT_UP, s.peers[0], 1)


def test_too_many_peers() -> None:
    s = session(max_peers=2)
    peers = [Peer(address=f"192.0.2.{n}") for n in range(1, 6)]
    told = feed(s, *map(make.peer_up, peers), *map(make.route_monitoring, peers))
    assert [type(output) for output in told] == [PeerUp] * 2 + [RouteMonitoring] + [Discarded] * 2
    assert routes(told).peers.tolist() == [0, 1]
    assert s.discarded == {TOO_MANY_PEERS: 6}
    assert len(s.peers) == 2


def test_more_headers_than_are_remembered() -> None:
    s = session(max_peers=1)
    peer = Peer()
    feed(s, make.peer_up(peer))
    told = feed(s, *(make.route_monitoring(Peer(asn=asn)) for asn in range(3000)))
    assert routes(told).peers.tolist() == [0] * 3000
    assert len(s._peers.table) == 64


def test_many_peers() -> None:
    s = session()
    peers = [Peer(address=f"10.0.{n >> 8}.{n & 255}", flags=0x40) for n in range(1000)]
    told = feed(s, *map(make.peer_up, peers), *map(make.route_monitoring, peers * 2))
    assert routes(told).peers.tolist() == [*range(1000)] * 2


@pytest.mark.parametrize(
    ("head", "cause"),
    [
        (b"\x02", "a message of a version other than 3 and 4"),
        (b"GET / HTTP/1.1\r\n", "a message of a version other than 3 and 4"),
        (b"\x03\x00\x00\x00\x05\x04", "a message shorter than its header"),
        (b"\x03\x00\x10\x00\x01\x04", "a message longer than allowed"),
    ],
)
def test_framing_that_cannot_be(head: bytes, cause: str) -> None:
    s = session()
    told = feed(s, make.initiation(), head)
    assert told == [Initiation(()), Ended(cause)]
    assert (s.ended, s.buffered) == (True, 0)


def test_half_a_message_at_the_end() -> None:
    s = session()
    whole = make.peer_up(Peer())
    assert feed(s, make.initiation(), whole[:-1]) == [Initiation(())]
    assert s.buffered == len(whole) - 1
    ended = Ended(f"the router closed the connection after {len(whole) - 1} octets of a message")
    assert s.closed(5) == [ended]


def test_a_router_that_says_nothing() -> None:
    s = session(first_message_s=10.0)
    assert feed(s, b"\x03\x00") == []
    assert s.tick(9_999_999_999) == []
    assert s.tick(10_000_000_000) == [Ended("no message within 10 s")]
    assert s.tick(20_000_000_000) == []
    s = session(first_message_s=10.0)
    feed(s, make.initiation())
    assert s.tick(10_000_000_000) == []


def test_malformed_messages_pass() -> None:
    s = session()
    peer = Peer()
    told = feed(
        s,
        make.message(0, b"\0" * 41),
        make.message(4, b"\0\1\0\7abc"),
        make.message(200, b"?"),
        make.message(3, peer.header()),
        make.message(1, peer.header() + b"\0"),
        make.peer_up(peer),
        make.route_monitoring(peer, make.update()[:-1]),
        make.route_monitoring(peer, make.bgp(4, b"")),
        make.message(0, bytes(3), 4),
        make.route_monitoring(peer),
    )
    assert [type(o) for o in told] == [PeerUp, RouteMonitoring] + [Discarded] * 7
    assert len(routes(told).updates) == 1
    assert sum(s.discarded.values()) == 8
    assert s.messages == 10


def test_version_4() -> None:
    s = session()
    peer = Peer()
    pdu = make.update()
    told = feed(
        s,
        make.initiation(make.tlv(1, b"x", pen=9), version=4),
        make.peer_up(peer, version=4),
        make.route_monitoring_v4(peer, make.tlv(7, pdu, index=0)),
        make.route_monitoring_v4(
            peer,
            make.tlv(5, b"red", index=0),
            make.tlv(6, make.add_path((1, 1, 1)), index=0),
            make.tlv(7, pdu, index=0),
            make.tlv(4, b"\x00\x02\x00\x03", index=0x8001),
            make.tlv(5, b"\x00\x00\x00\x02", index=1),
            make.tlv(5, b"\x00\x00\x00\x04\x00\x06", index=0x8001),
            make.tlv(3, b"odd", index=0, pen=77),
        ),
        make.route_monitoring_v4(peer, pdu, make.tlv(9, b"after", index=0)),
        make.route_monitoring_v4(peer, pdu, b"\0"),
        make.peer_down(peer, 4, make.tlv(3, b"red"), version=4),
    )
    assert told[0] == Initiation((Tlv(1, b"x", 9),))
    batch = routes(told)
    assert updates(batch) == [pdu] * 4
    assert contexts(s, batch) == [(True, 0), (True, V4_UNICAST), (True, 0), (True, 0)]
    assert batch.tlvs == (
        (1, Tlv(5, b"red", 0, 0)),
        (1, Tlv(3, b"odd", 77, 0)),
        (2, Tlv(9, b"after", 0, 0)),
    )
    marks = batch.marks
    assert marks is not None
    assert marks.message.tolist() == [1, 1, 1]
    assert marks.index.tolist() == [1, 2, 3]
    assert marks.status.tolist() == [2, 4, 4]
    assert marks.reason.tolist() == [-1, 6, 6]
    assert s.discarded == {TLVS: 1}
    assert isinstance(told[-2], PeerDown)
    assert told[-2].tlvs == (Tlv(3, b"red"),)


def _flat(outputs: Iterable[Output]) -> list[object]:
    """Outputs without their division into batches."""
    rows: list[object] = []
    for output in outputs:
        if isinstance(output, RouteMonitoring):
            u = output.updates
            columns = (output.peers, u.context, u.time_ns)
            rows += zip(updates(output), *(c.tolist() for c in columns), strict=True)
        elif not isinstance(output, Discarded):
            rows.append(output)
    return rows


_PEERS = st.builds(
    Peer,
    address=st.sampled_from(["192.0.2.1", "2001:db8::1"]),
    flags=st.sampled_from([0, 0x40, 0x60]),
    distinguisher=st.integers(0, 1),
)
_MESSAGES = st.one_of(
    st.builds(make.peer_up, _PEERS),
    st.builds(make.peer_down, _PEERS, st.integers(0, 6), st.just(b"\0\1")),
    st.builds(make.route_monitoring, _PEERS),
    st.builds(lambda p: make.route_monitoring_v4(p, make.tlv(1, make.update(), index=0)), _PEERS),
    st.builds(make.statistics, _PEERS, st.tuples(st.integers(0, 20), st.binary(max_size=11))),
    st.builds(make.initiation, st.builds(make.tlv, st.integers(0, 5), st.binary(max_size=5))),
    st.builds(make.message, st.integers(0, 255), st.binary(max_size=60), st.sampled_from([3, 4])),
)


@given(st.lists(_MESSAGES, max_size=12), st.randoms(use_true_random=False), st.booleans())
def test_it_does_not_matter_how_octets_come(
    messages: list[bytes], rng: random.Random, mutate: bool
) -> None:
    data = bytearray(b"".join(messages))
    if mutate and data:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    at_once, in_pieces = session(max_message=4096), session(max_message=4096)
    expected = [*at_once.receive(bytes(data), 0), *at_once.closed(0)]
    found: list[Output] = []
    at = 0
    while at < len(data):
        octets = rng.choice([1, 2, 7, 50, 500])
        found += in_pieces.receive(bytes(data[at : at + octets]), 0)
        assert in_pieces.buffered <= 4096
        at += octets
    found += in_pieces.closed(0)
    assert _flat(found) == _flat(expected)
    assert in_pieces.discarded == at_once.discarded
    assert isinstance(found[-1], Ended)
    assert sum(isinstance(output, Ended) for output in found) == 1


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_random_octets(parts: list[bytes]) -> None:
    s = session()
    for part in parts:
        s.receive(b"\x03" + part, 0)
    s.tick(1 << 62)
    assert s.ended or s.messages


def test_time_of_no_message_overflows() -> None:
    s = session()
    peer = Peer(seconds=0xFFFF_FFFF, micros=0xFFFF_FFFF)
    batch = routes(feed(s, make.peer_up(peer), make.route_monitoring(peer)))
    assert batch.updates.time_ns.dtype == np.int64
    assert batch.updates.time_ns[0] == 0xFFFF_FFFF * 1_000_000_000 + 0xFFFF_FFFF * 1000


def test_path_identifiers_that_are_left_out() -> None:
    s = session()
    able = make.bgp_open(65000, make.add_path((1, 1, 3)))
    before, after, out = Peer(), Peer(flags=0x40), Peer(flags=0x10)
    plain = make.update(b"\0\0\0\0\x10\x0a\x01")
    identified = make.update(b"\0\0\0\0\0\0\0\x01\x10\x0a\x01")
    either = make.update(b"\0\0\0\0\x18\x0a\x01\x02\x18\x0a\x01\x03")
    told = feed(
        s,
        make.peer_up(before, able, able),
        make.route_monitoring(before, identified),
        make.route_monitoring(after, plain),
        make.route_monitoring(before, either),
        make.route_monitoring(after, either),
        make.route_monitoring(out, either),
    )
    expected = [V4_UNICAST, 0, V4_UNICAST, 0, V4_UNICAST]
    assert contexts(s, routes(told)) == [(True, bits) for bits in expected]
    told = feed(s, make.peer_up(before, able, able), make.route_monitoring(after, either))
    assert contexts(s, routes(told)) == [(True, V4_UNICAST)]
