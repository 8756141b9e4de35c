"""Framing against a naive walk, and the small messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp.message_kernels import (
    BAD_LENGTH,
    BAD_MARKER,
    BAD_TYPE,
    MESSAGE,
    STARVED,
    walk,
)
from flowray.wire.bgp.messages import (
    EXTENDED_LIMIT,
    KEEPALIVE,
    MARKER,
    MessageError,
    MessageType,
    MessageWalk,
    Notification,
    RouteRefresh,
    encode,
    encode_end_of_rib,
    shutdown_communication,
)

SHORTEST = {1: 29, 2: 23, 3: 21, 4: 19, 5: 23}


def walk_twin(
    raw: bytes, begin: int, limit: int, listing: bool
) -> tuple[list[tuple[int, int]], int, int]:
    found = []
    at = begin
    while True:
        header = raw[at : at + 19]
        if len(header) < 19:
            return found, at, STARVED
        length, kind = int.from_bytes(header[16:18]), header[18]
        if header[:16] != MARKER:
            return found, at, BAD_MARKER
        if not 19 <= length <= limit:
            return found, at, BAD_LENGTH
        if kind not in SHORTEST:
            return found, at, BAD_TYPE
        longest = {1: 4096, 4: 19}.get(kind, limit)
        if not SHORTEST[kind] <= length <= longest:
            return found, at, BAD_LENGTH
        if len(raw) - at < length:
            return found, at, STARVED
        if not listing or kind in (1, 3, 5):
            return found, at, MESSAGE
        if kind == 2:
            found.append((at, length))
        at += length


MESSAGES = st.one_of(
    st.just(KEEPALIVE),
    st.just(RouteRefresh(1, 1, 0).encode()),
    st.binary(min_size=4, max_size=90).map(lambda b: encode(MessageType.UPDATE, b)),
    st.binary(min_size=2, max_size=40).map(lambda b: encode(MessageType.NOTIFICATION, b)),
    st.binary(min_size=10, max_size=40).map(lambda b: encode(MessageType.OPEN, b)),
    st.just(encode(MessageType.UPDATE, bytes(5000))),
    st.tuples(st.integers(0, 65535), st.integers(0, 255)).map(
        lambda head: MARKER + head[0].to_bytes(2) + bytes([head[1]])
    ),
    st.binary(max_size=30),
)


@given(
    st.lists(MESSAGES, max_size=12).map(b"".join),
    st.integers(0, 40),
    st.integers(0, 60),
    st.sampled_from([4096, EXTENDED_LIMIT]),
    st.booleans(),
)
def test_walk_is_like_its_twin(raw: bytes, begin: int, cut: int, limit: int, listing: bool) -> None:
    raw = raw[: len(raw) - cut]
    begin = min(begin, len(raw))
    offset, length = (np.zeros(len(raw) // 23 + 1, np.int64) for _ in range(2))
    buf = np.frombuffer(raw, np.uint8)
    n, at, why = walk(buf, begin, limit, listing, offset, length)
    found = list(zip(offset[:n].tolist(), length[:n].tolist(), strict=True))
    assert (found, at, why) == walk_twin(raw, begin, limit, listing)


@pytest.mark.parametrize(
    ("raw", "subcode", "data"),
    [
        (b"GET / HTTP/1.1\r\n\r\n\r\n", 1, b""),
        (MARKER + b"\x00\x12\x04", 2, b"\x00\x12"),
        (MARKER + b"\x10\x01\x02", 2, b"\x10\x01"),
        (MARKER + b"\x00\x14\x04\x00", 2, b"\x00\x14"),
        (MARKER + b"\x00\x16\x02", 2, b"\x00\x16"),
        (MARKER + b"\x00\x1c\x01", 2, b"\x00\x1c"),
        (MARKER + b"\x00\x13\x00", 3, b"\x00"),
        (MARKER + b"\x00\x13\x06", 3, b"\x06"),
    ],
)
def test_a_wrong_header_names_its_error(raw: bytes, subcode: int, data: bytes) -> None:
    buf = np.frombuffer(KEEPALIVE + raw, np.uint8)
    walked = MessageWalk(buf).walk(0, 4096, listing=True)
    assert walked.error is not None
    assert (walked.next, walked.complete) == (19, False)
    assert (walked.error.code, walked.error.subcode, walked.error.data) == (1, subcode, data)


def test_extended_messages_are_taken_where_agreed() -> None:
    buf = np.frombuffer(encode(MessageType.UPDATE, bytes(EXTENDED_LIMIT - 19)), np.uint8)
    assert MessageWalk(buf).walk(0, 4096, listing=True).error is not None
    walked = MessageWalk(buf).walk(0, EXTENDED_LIMIT, listing=True)
    assert (walked.error, walked.length.tolist()) == (None, [EXTENDED_LIMIT])


# -- NOTIFICATION


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=5000))
def test_notifications_are_one_printable_line_and_fit(code: int, sub: int, data: bytes) -> None:
    notification = Notification(code, sub, data)
    message = notification.encode()
    assert len(message) == int.from_bytes(message[16:18]) <= 4096
    decoded = Notification.decode(message[19:])
    assert (decoded.code, decoded.subcode) == (code, sub)
    assert data.startswith(decoded.data)
    assert str(decoded).isprintable()


@pytest.mark.parametrize(
    ("notification", "text"),
    [
        (Notification(4, 0), "Hold Timer Expired"),
        (Notification(6, 5), "Cease: Connection Rejected"),
        (
            Notification(6, 2, shutdown_communication("Wartung, zurück 14:00")),
            'Cease: Administrative Shutdown ("Wartung, zurück 14:00")',
        ),
        (Notification(6, 4, b"\x05ab\nc"), 'Cease: Administrative Reset ("ab\ufffdc")'),
        (Notification(6, 2, b"\x02\xff!"), 'Cease: Administrative Shutdown ("\ufffd!")'),
        (
            Notification(6, 9, b"\x06\x02\x02hi"),
            'Cease: Hard Reset (Cease: Administrative Shutdown ("hi"))',
        ),
        (Notification(6, 9, b"\x06\x09\x06\x09"), "Cease: Hard Reset (Cease: Hard Reset)"),
        (Notification(3, 200), "UPDATE Message Error: subcode 200"),
        (Notification(99, 0), "error 99"),
    ],
)
def test_what_a_notification_says(notification: Notification, text: str) -> None:
    assert str(notification) == text


@given(st.text())
def test_a_shutdown_communication_is_cut_between_characters(text: str) -> None:
    data = shutdown_communication(text)
    assert data[0] == len(data) - 1
    assert text.startswith(data[1:].decode())
    assert len(data) > min(len(text.encode()), 252)


# -- ROUTE-REFRESH and End-of-RIB


@given(st.integers(0, 65535), st.integers(0, 255), st.integers(0, 255))
def test_route_refresh_round_trip(afi: int, safi: int, subtype: int) -> None:
    refresh = RouteRefresh(afi, safi, subtype)
    assert RouteRefresh.decode(refresh.encode()) == refresh


def test_a_mark_of_another_length_is_an_error() -> None:
    mark = encode(MessageType.ROUTE_REFRESH, b"\x00\x01\x01\x01more")
    with pytest.raises(MessageError) as raised:
        RouteRefresh.decode(mark)
    assert (raised.value.code, raised.value.subcode, raised.value.data) == (7, 1, mark)
    filters = encode(MessageType.ROUTE_REFRESH, b"\x00\x01\x00\x01more")
    assert RouteRefresh.decode(filters) == RouteRefresh(1, 1, 0)


def test_end_of_rib() -> None:
    assert encode_end_of_rib(1, 1)[16:] == bytes.fromhex("0017 02 0000 0000")
    assert encode_end_of_rib(2, 128)[16:] == bytes.fromhex("001d 02 0000 0006 800f03 0002 80")
