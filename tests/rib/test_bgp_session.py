"""The state machine of a BGP session: every state, timer and end, and streams cut anywhere."""

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.bgp_negotiation import Restart
from flowray.rib.bgp_session import (
    Ended,
    Established,
    Opened,
    RefreshMark,
    Send,
    State,
    UpdatesReceived,
)
from flowray.wire.bgp.capabilities import four_octet_as, multiprotocol
from flowray.wire.bgp.families import FAMILIES, family_index
from flowray.wire.bgp.messages import (
    KEEPALIVE,
    MARKER,
    MessageType,
    Notification,
    RouteRefresh,
    encode,
    encode_end_of_rib,
    shutdown_communication,
)
from flowray.wire.bgp.open import Open
from tests.rib.bgp_peer import (
    SECOND,
    SETTINGS,
    START,
    comparable,
    established,
    new_session,
    peer_open,
    plain_open,
    update,
)

V4, V6, VPN4 = family_index(1, 1), family_index(2, 1), family_index(1, 128)


def test_from_open_to_established() -> None:
    session = new_session()
    opened, sent = session.receive(peer_open(), START)
    assert isinstance(opened, Opened)
    assert isinstance(sent, Send)
    assert opened.open.peer_as == 65551
    assert str(opened.open.bgp_id) == "198.51.100.7"
    assert session.state is State.OPEN_CONFIRM
    ours = Open.decode(sent.octets[19 : -len(KEEPALIVE)])
    assert sent.octets.endswith(KEEPALIVE)
    assert (ours.my_as, ours.peer_as, ours.hold_time_s) == (23456, 65551, 180)
    assert {(f.afi, f.safi) for f in FAMILIES} == set(ours.families)
    assert all(c.understood for c in ours.capabilities)
    assert {(r.afi, r.safi, r.mode) for r in ours.add_path} == {
        (f.afi, f.safi, 1) for f in FAMILIES if f.of_prefixes
    }
    marks = Send(b"".join(encode_end_of_rib(*f) for f in [(1, 1), (2, 1), (1, 128)]))
    assert session.receive(KEEPALIVE, START) == [Established(), marks]
    assert session.state is State.ESTABLISHED


@pytest.mark.parametrize(
    ("local_as", "four_octets", "path"),
    [(0, True, ""), (65000, True, "02010000fde8"), (65000, False, "0201fde8")],
)
def test_a_peer_that_distributes_by_route_target_is_asked_for_all(
    local_as: int, four_octets: bool, path: str
) -> None:
    capabilities = [multiprotocol(1, 128), multiprotocol(1, 132)]
    if four_octets:
        capabilities.append(four_octet_as(65001))
    session = new_session(replace(SETTINGS, local_as=local_as))
    session.receive(peer_open(65001, capabilities=capabilities), START)
    _, said = session.receive(KEEPALIVE, START)
    assert isinstance(said, Send)
    attributes = f"40010100 4002{len(path) // 2:02x}{path}"
    attributes += "" if local_as else "40050400000064"
    attributes = bytes.fromhex(attributes + "800e0a 0001 84 04 c0000201 00 00")
    update = encode(MessageType.UPDATE, bytes(2) + len(attributes).to_bytes(2, "big") + attributes)
    # That there is no more to come is said of targets even without graceful restart.
    assert said.octets == update + encode_end_of_rib(1, 132)


def test_what_is_negotiated() -> None:
    agreed = established().negotiated
    assert agreed is not None
    assert (agreed.local_as, agreed.peer_as, agreed.hold_time_s) == (65551, 65551, 90)
    assert agreed.families == (V4, V6, VPN4)
    assert agreed.add_path == 1 << V4 | 1 << VPN4
    assert agreed.extended_next_hop == (V4,)
    assert (agreed.four_octets, agreed.extended_messages) == (True, True)
    assert (agreed.route_refresh, agreed.enhanced_refresh) == (True, True)
    assert agreed.restart == Restart(
        restarted=True,
        notification=False,
        time_s=120,
        families=(V4, VPN4),
        preserved=(V4,),
        long_lived=((V4, 3600),),
    )
    contexts = agreed.contexts()
    assert contexts.four_octets.tolist() == [True]
    assert contexts.add_path.tolist() == [1 << V4 | 1 << VPN4]


def test_a_peer_without_capabilities() -> None:
    session = established(opened=plain_open())
    agreed = session.negotiated
    assert session.state is State.ESTABLISHED
    assert agreed is not None
    assert (agreed.families, agreed.add_path, agreed.restart) == ((V4,), 0, None)
    assert (agreed.four_octets, agreed.extended_messages, agreed.limit) == (False, False, 4096)


def test_a_local_as_of_its_own_and_no_path_identifiers() -> None:
    session = new_session(replace(SETTINGS, local_as=65543, add_path=False))
    _, sent = session.receive(peer_open(), START)
    assert isinstance(sent, Send)
    ours = Open.decode(sent.octets[19:-19])
    assert (ours.my_as, ours.peer_as, ours.add_path) == (23456, 65543, ())
    assert session.negotiated is not None
    assert (session.negotiated.local_as, session.negotiated.add_path) == (65543, 0)


def test_our_own_identifier_from_our_own_as_is_refused() -> None:
    mirror = peer_open(bgp_id=str(SETTINGS.router_id))
    sent, ended = new_session().receive(mirror, START)
    assert sent == Send(Notification(2, 3).encode())
    assert isinstance(ended, Ended)
    assert (ended.code, ended.subcode, ended.by) == (2, 3, "local")
    other = new_session(replace(SETTINGS, local_as=65000))
    assert isinstance(other.receive(mirror, START)[0], Opened)


# -- UPDATEs


def test_updates_between_keepalives_are_one_batch() -> None:
    session = established()
    stream = update(4) + KEEPALIVE + update(9) + update(4000) + update(60000)
    (received,) = session.receive(stream + update()[:-1], START + 5)
    assert isinstance(received, UpdatesReceived)
    assert received.updates.length.tolist() == [23, 28, 4019, 60019]
    assert comparable([received]) == [
        [(message, 0, START + 5) for message in (update(4), update(9), update(4000), update(60000))]
    ]
    assert session.buffered == 22


def test_updates_survive_the_buffer_that_brought_them() -> None:
    session = established()
    buffer = bytearray(update(50) + update(60))
    outputs = session.receive(memoryview(buffer)[:100], START)
    outputs += session.receive(memoryview(buffer)[100:], START)
    buffer[:] = bytes(len(buffer))
    assert comparable(outputs) == [[(update(50), 0, START), (update(60), 0, START)]]


def test_refresh_marks_stand_between_updates() -> None:
    session = established()
    begin, end = (RouteRefresh(1, 128, subtype).encode() for subtype in (1, 2))
    outputs = session.receive(update() + begin + update() + end + update(), START)
    one = [(update(), 0, START)]
    assert comparable(outputs) == [
        one,
        RefreshMark(VPN4, "begin"),
        one,
        RefreshMark(VPN4, "end"),
        one,
    ]


def test_a_refresh_request_is_answered_by_marks_alone() -> None:
    begin, end = (RouteRefresh(2, 1, subtype).encode() for subtype in (1, 2))
    request = RouteRefresh(2, 1, 0).encode()
    assert established().receive(request, START) == [Send(begin + end)]
    assert established(opened=plain_open()).receive(request, START) == []
    unknown = RouteRefresh(1, 99, 1).encode() + RouteRefresh(1, 1, 77).encode()
    assert established().receive(unknown, START) == []


# -- ends


def ends(code: int, subcode: int, data: bytes, reason: str) -> list[Send | Ended]:
    return [
        Send(Notification(code, subcode, data).encode()),
        Ended(code, subcode, reason, "local"),
    ]


@pytest.mark.parametrize(
    ("before", "message", "subcode", "reason"),
    [
        (b"", KEEPALIVE, 1, "KEEPALIVE in state Active"),
        (b"", update(), 1, "UPDATE in state Active"),
        (peer_open(), update(), 2, "UPDATE in state OpenConfirm"),
        (peer_open(), peer_open(), 2, "OPEN in state OpenConfirm"),
        (peer_open(), RouteRefresh(1, 1, 0).encode(), 2, "ROUTE-REFRESH in state OpenConfirm"),
        (peer_open() + KEEPALIVE, peer_open(), 3, "OPEN in state Established"),
    ],
)
def test_messages_out_of_place(before: bytes, message: bytes, subcode: int, reason: str) -> None:
    session = new_session()
    session.receive(before, START)
    outputs = session.receive(message + update(), START)
    assert outputs == ends(5, subcode, message[18:19], reason)
    assert session.state is State.IDLE
    assert session.buffered == 0


def test_a_wrong_header_ends_the_session_after_what_came_before() -> None:
    outputs = established().receive(update() + MARKER + b"\x00\x13\x09" + update(), START)
    assert comparable(outputs) == [
        [(update(), 0, START)],
        *ends(1, 3, b"\x09", "a message has type 9"),
    ]


def test_a_long_message_needs_the_capability() -> None:
    assert isinstance(established().receive(update(4096), START)[0], UpdatesReceived)
    outputs = established(opened=plain_open()).receive(update(4096), START)
    assert outputs == ends(1, 2, b"\x10\x13", "a message of type 2 claims 4115 octets")


@pytest.mark.parametrize("before", [b"", peer_open(), peer_open() + KEEPALIVE])
def test_the_peer_ends_it(before: bytes) -> None:
    session = new_session()
    session.receive(before, START)
    said = Notification(6, 2, shutdown_communication("bye")).encode()
    assert session.receive(said + KEEPALIVE, START) == [
        Ended(6, 2, 'Cease: Administrative Shutdown ("bye")', "remote")
    ]


def test_the_owner_ends_it() -> None:
    assert established().reset(3, 1, b"xy", START, "why") == ends(3, 1, b"xy", "why")
    assert established().reset(6, 1, b"", START) == ends(
        6, 1, b"", "Cease: Maximum Number of Prefixes Reached"
    )
    assert new_session().shutdown(START) == ends(6, 2, b"", "Cease: Administrative Shutdown")
    assert established().shutdown(START, "bye") == ends(
        6, 2, b"\x03bye", 'Cease: Administrative Shutdown ("bye")'
    )


def test_the_connection_is_gone() -> None:
    session = established()
    session.receive(update(30)[:40], START)
    assert session.closed(START) == [
        Ended(
            0, 0, "the connection was closed inside a message, after 40 octets of it", "transport"
        )
    ]
    assert new_session().closed(START) == [Ended(0, 0, "the connection was closed", "transport")]


def test_nothing_happens_after_the_end() -> None:
    session = established()
    session.closed(START)
    later = START + 1000 * SECOND
    assert session.receive(update(), later) == []
    assert session.tick(later) == []
    assert session.closed(later) == []
    assert session.reset(6, 1, b"", later) == []
    assert session.shutdown(later) == []


# -- timers


def test_a_silent_peer_is_given_up() -> None:
    session = new_session()
    assert session.tick(START + 60 * SECOND - 1) == []
    assert session.tick(START + 60 * SECOND) == ends(4, 0, b"", "no OPEN within 60 s")


def test_octets_that_make_no_message_do_not_count() -> None:
    session = new_session()
    session.receive(peer_open()[:-1], START + 59 * SECOND)
    assert session.tick(START + 60 * SECOND) == ends(4, 0, b"", "no OPEN within 60 s")


@pytest.mark.parametrize("message", [KEEPALIVE, update(), RouteRefresh(1, 1, 1).encode()])
def test_the_hold_time_begins_anew_with_each_message(message: bytes) -> None:
    session = established()
    session.receive(message, START + 89 * SECOND)
    assert not any(isinstance(o, Ended) for o in session.tick(START + 178 * SECOND))
    expired = session.tick(START + 179 * SECOND)
    assert expired == ends(4, 0, b"", "no message within the hold time of 90 s")


def test_no_peer_is_given_up_whose_octets_are_unread() -> None:
    session = established()
    late = START + 1000 * SECOND
    assert session.tick(late, unread=True) == [Send(KEEPALIVE)]
    session.receive(KEEPALIVE, late)
    assert session.tick(late + SECOND) == []


@pytest.mark.parametrize("step", [-3600 * SECOND, 3600 * SECOND])
def test_timers_go_on_when_the_clock_is_set(step: int) -> None:
    session = established()
    session.clock_set(step)
    assert session.tick(START + step + 29 * SECOND) == []
    assert session.tick(START + step + 30 * SECOND) == [Send(KEEPALIVE)]
    assert isinstance(session.tick(START + step + 90 * SECOND)[-1], Ended)


def test_keepalives_are_sent_in_a_third_of_the_hold_time() -> None:
    session = established()
    sent = []
    for second in range(1, 90):
        session.receive(KEEPALIVE, START + second * SECOND)
        if outputs := session.tick(START + second * SECOND):
            assert outputs == [Send(KEEPALIVE)]
            sent.append(second)
    assert sent == [30, 60]


def test_without_hold_time_there_are_no_timers_once_established() -> None:
    session = new_session()
    session.receive(plain_open(hold_time_s=0), START)
    assert session.tick(START + 59 * SECOND) == []
    confirmed = established(opened=plain_open(hold_time_s=0))
    assert confirmed.tick(START + 10**6 * SECOND) == []
    assert session.tick(START + 60 * SECOND) == ends(4, 0, b"", "no KEEPALIVE within 60 s")


def test_no_timer_ends_a_recording() -> None:
    settings = replace(SETTINGS, expect_answers=False)
    late = START + 10**6 * SECOND
    for session in (new_session(settings), established(settings)):
        assert session.tick(late) == []
        assert session.state is not State.IDLE


# -- any stream

STREAMS = st.lists(
    st.one_of(
        st.just(KEEPALIVE),
        st.integers(4, 200).map(update),
        st.integers(4000, 6000).map(update),
        st.builds(
            lambda f, s: RouteRefresh(*f, s).encode(),
            st.sampled_from([(1, 1), (2, 1), (1, 99)]),
            st.integers(0, 4),
        ),
        st.binary(min_size=4, max_size=8).map(lambda b: encode(MessageType.ROUTE_REFRESH, b)),
        st.sampled_from([peer_open(), plain_open(), MARKER, Notification(6, 4).encode()]),
        st.binary(max_size=40),
    ),
    max_size=15,
).map(b"".join)
OPENINGS = st.sampled_from(
    [b"", peer_open(), peer_open() + KEEPALIVE, plain_open() + KEEPALIVE, peer_open() + update()]
)


@given(OPENINGS, STREAMS, st.lists(st.integers(0, 20000), max_size=30))
def test_cuts_of_the_stream_change_nothing(opening: bytes, rest: bytes, cuts: list[int]) -> None:
    stream = opening + rest
    whole, cut = new_session(), new_session()
    expected = whole.receive(stream, START) + whole.closed(START)
    outputs = []
    at = sorted({0, len(stream), *(min(c, len(stream)) for c in cuts)})
    for begin, end in pairwise(at):
        outputs += cut.receive(stream[begin:end], START)
        assert cut.buffered < 65535
    outputs += cut.closed(START)
    assert comparable(outputs) == comparable(expected)
    assert cut.state is whole.state is State.IDLE


@given(OPENINGS, st.binary(max_size=300))
def test_octet_by_octet(opening: bytes, rest: bytes) -> None:
    stream = opening + rest
    whole, single = new_session(), new_session()
    expected = whole.receive(stream, START)
    outputs = [o for i in range(len(stream)) for o in single.receive(stream[i : i + 1], START)]
    assert comparable(outputs) == comparable(expected)
    assert single.buffered == whole.buffered


@pytest.mark.parametrize("identifier", ["0.0.0.1", "255.255.255.255"])
def test_odd_identifiers_are_taken(identifier: str) -> None:
    opened, _ = new_session().receive(peer_open(bgp_id=identifier), START)
    assert isinstance(opened, Opened)
    assert opened.open.bgp_id == IPv4Address(identifier)
