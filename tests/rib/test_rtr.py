"""The RPKI-to-Router session: what is asked when, and what becomes of what a cache sends."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.roa import STATE_CODES, RoaSet
from flowray.rib.rtr import (
    NEVER,
    Connect,
    Disconnect,
    ErrorCode,
    Output,
    Publish,
    RtrSession,
    Send,
)
from flowray.rib.rtr_payloads import Payloads, PayloadsError, Taken
from flowray.wire.packets import address_words
from tests.conformance.captures import MISSING, SHARED
from tests.rib import rtr_pdus as rtr
from tests.rib.rtr_pdus import RESET_QUERY

S = 1_000_000_000
START = 5 * S

FIRST = rtr.prefix("192.0.2.0/24", 64496, 26)
SECOND = rtr.prefix("2001:db8::/32", 64497)
TABLE = rtr.response(7) + FIRST + SECOND + rtr.end(7, 100)


def online(session: RtrSession, now: int = START) -> list[Output]:
    assert session.tick(now) == [Connect()]
    return session.connected(now)


def loaded(**settings: int) -> RtrSession:
    """A session with the payloads of TABLE."""
    session = RtrSession(**settings)
    online(session)
    session.receive(TABLE, START)
    return session


def states(roas: RoaSet, *routes: tuple[str, int]) -> str:
    networks = [ip_network(text) for text, _ in routes]
    words = [address_words(str(n.network_address)) for n in networks]
    found = roas.validate(
        np.array([hi for hi, _ in words], np.uint64),
        np.array([lo for _, lo in words], np.uint64),
        np.array([n.prefixlen for n in networks], np.uint8),
        np.array([asn for _, asn in routes], np.uint32),
    )
    return "".join(STATE_CODES[state] for state in found)


ROUTES = ("192.0.2.64/26", 64496), ("2001:db8::/32", 64497), ("203.0.113.0/24", 64496)


def published(outputs: Sequence[Output]) -> Publish:
    (output,) = outputs
    assert isinstance(output, Publish)
    return output


def error_of(outputs: Sequence[Output]) -> tuple[int, bytes]:
    """Code and quoted PDU of the error report before a disconnection."""
    report, end = outputs
    assert isinstance(report, Send)
    assert isinstance(end, Disconnect)
    _, kind, code, size, quoted = struct.unpack_from(">BBHII", report.data)
    (text,) = struct.unpack_from(">I", report.data, 12 + quoted)
    assert (kind, size, 16 + quoted + text) == (10, len(report.data), len(report.data))
    return code, report.data[12 : 12 + quoted]


def test_reset_query_and_answer() -> None:
    session = RtrSession()
    assert online(session) == [Send(RESET_QUERY)]
    for octet in TABLE[:-1]:
        assert session.receive(bytes([octet]), START) == []
    told = published(session.receive(TABLE[-1:], START))
    assert (told.serial, len(told.roas)) == (100, 2)
    assert states(told.roas, *ROUTES) == "vvu"
    assert session.wake_ns == START + 3600 * S


def test_serial_query_and_changes() -> None:
    session = loaded()
    assert session.tick(START + 3600 * S - 1) == []
    now = START + 3600 * S
    assert session.tick(now) == [Send(rtr.serial_query(7, 100))]
    gone = rtr.prefix("192.0.2.0/24", 64496, 26, announce=False)
    more = rtr.prefix("203.0.113.0/24", 64496)
    told = published(session.receive(rtr.response(7) + gone + more + rtr.end(7, 101), now))
    assert (told.serial, states(told.roas, *ROUTES)) == (101, "uvv")
    assert session.receive(rtr.notify(7, 102), now) == [Send(rtr.serial_query(7, 101))]
    # Nothing has changed: nothing to publish.
    assert session.receive(rtr.response(7) + rtr.end(7, 102), now) == []
    assert session.serial == 102


def test_notify_is_heard_once_and_never_before_the_first_answer() -> None:
    session = RtrSession()
    online(session)
    assert session.receive(rtr.notify(7, 1), START) == []
    assert len(session.receive(TABLE, START)) == 1
    assert len(session.receive(rtr.notify(7, 101) * 3, START)) == 1


def test_cache_reset() -> None:
    session = loaded()
    session.receive(rtr.notify(7, 101), START)
    assert session.receive(rtr.pdu(8), START) == [Send(RESET_QUERY)]
    told = published(session.receive(rtr.response(8) + FIRST + rtr.end(8, 1), START))
    assert (told.serial, states(told.roas, *ROUTES)) == (1, "vuu")


def test_payloads_stay_while_connections_come_and_go() -> None:
    session = loaded()
    assert session.closed(START + S) == []
    assert session.wake_ns == START + 2 * S
    assert online(session, START + 2 * S) == [Send(rtr.serial_query(7, 100))]
    half = rtr.response(7) + rtr.prefix("203.0.113.0/24", 64496)
    assert session.receive(half, START + 2 * S) == []
    assert session.closed(START + 3 * S) == []
    assert len(session.payloads) == 2
    # The answer did not end: as the cache may not know the session, all is asked for.
    assert online(session, START + 5 * S) == [Send(RESET_QUERY)]
    assert len(session.payloads) == 2


def test_a_cache_that_does_not_know_the_session_any_more() -> None:
    session = loaded()
    session.closed(START)
    online(session, START + S)
    (end,) = session.receive(rtr.error(0, b"", b"Session ID mismatch\0"), START + S)
    assert end == Disconnect("the cache reports error 0: 'Session ID mismatch'")
    assert online(session, START + 3 * S) == [Send(RESET_QUERY)]
    assert len(session.payloads) == 2


def test_an_incomplete_first_answer_is_asked_for_anew() -> None:
    session = RtrSession()
    online(session)
    session.receive(TABLE[:-1], START)
    session.closed(START)
    assert online(session, START + S) == [Send(RESET_QUERY)]
    assert len(published(session.receive(TABLE, START + S)).roas) == 2


def test_payloads_expire() -> None:
    session = loaded()
    session.closed(START)
    now = START
    while True:  # the cache cannot be reached
        now = session.wake_ns
        outputs = session.tick(now)
        if outputs == [Connect()]:
            session.closed(now)
        else:
            break
    assert now == START + 7200 * S
    told = published(outputs)
    assert (told.serial, len(told.roas)) == (None, 0)
    assert online(session, session.wake_ns) == [Send(RESET_QUERY)]


def test_payloads_expire_amid_an_answer() -> None:
    session = loaded()
    at = START + 7200 * S
    session.closed(at - 70 * S)
    online(session, at - 30 * S)
    outputs = session.tick(at)
    assert isinstance(outputs[0], Publish)
    assert isinstance(outputs[1], Disconnect)
    assert online(session, session.wake_ns) == [Send(RESET_QUERY)]
    assert len(published(session.receive(TABLE, at + 5 * S)).roas) == 2


def test_expired_payloads_and_a_full_answer_under_way() -> None:
    session = loaded()
    at = START + 7200 * S
    session.closed(at - 70 * S)
    online(session, at - 30 * S)
    session.receive(rtr.pdu(8) + rtr.response(9) + FIRST, at - 20 * S)
    assert len(published(session.tick(at)).roas) == 0
    assert len(published(session.receive(rtr.end(9, 3), at)).roas) == 1


def test_a_silent_cache_is_given_up() -> None:
    session = RtrSession()
    online(session)
    session.receive(rtr.response(7) + FIRST, START + 50 * S)
    assert session.tick(START + 100 * S) == []
    assert session.tick(START + 110 * S) == [Disconnect("no answer from the cache")]
    assert session.wake_ns == START + 111 * S


def test_delays_double_up_to_the_retry_interval() -> None:
    session = loaded()
    session.receive(rtr.notify(7, 101), START)
    session.receive(rtr.response(7) + rtr.end(7, 101, retry=30), START)
    now, delays = START, []
    for _ in range(8):
        session.closed(now)
        delays.append((session.wake_ns - now) // S)
        now = session.wake_ns
        assert session.tick(now) == [Connect()]
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize(
    ("told", "wakes"),
    [
        ((60, 30, 900), (60, 900)),
        ((0, 0, 0), (1, 600)),
        ((1 << 31, 1 << 31, 1 << 31), (86400, 172800)),
        ((7200, 600, 600), (7200, 7201)),
    ],
)
def test_intervals_of_the_cache(told: tuple[int, int, int], wakes: tuple[int, int]) -> None:
    session = RtrSession()
    online(session)
    refresh, retry, expire = told
    end = rtr.end(7, 1, refresh=refresh, retry=retry, expire=expire)
    session.receive(rtr.response(7) + FIRST + end, START)
    assert session.wake_ns == START + wakes[0] * S
    session.closed(START)
    session.tick(START + S)
    assert session.wake_ns == START + wakes[1] * S


# -- versions


def test_version_0() -> None:
    session = RtrSession(version=0)
    assert online(session) == [Send(rtr.pdu(2, version=0))]
    table = rtr.response(7, version=0) + rtr.prefix("10.0.0.0/8", 1, version=0)
    assert len(published(session.receive(table + rtr.end(7, 1, version=0), START)).roas) == 1
    assert session.wake_ns == START + 3600 * S


def test_a_cache_may_answer_in_an_earlier_version() -> None:
    session = RtrSession()
    online(session)
    table = rtr.response(7, version=0) + rtr.prefix("10.0.0.0/8", 1, version=0)
    published(session.receive(table + rtr.end(7, 1, version=0), START))
    assert session.version == 0
    code, _ = error_of(session.receive(rtr.notify(7, 1), START))
    assert code == ErrorCode.UNEXPECTED_VERSION


def test_a_cache_may_refuse_the_version() -> None:
    session = RtrSession()
    online(session)
    (end,) = session.receive(rtr.error(4, RESET_QUERY, b"only 0", version=0), START)
    assert end == Disconnect("the cache reports error 4: 'only 0'")
    assert online(session, START + S) == [Send(rtr.pdu(2, version=0))]


def test_a_later_version_is_not_spoken() -> None:
    session = RtrSession()
    online(session)
    code, quoted = error_of(session.receive(rtr.response(7, version=2), START))
    assert (code, quoted) == (ErrorCode.UNSUPPORTED_VERSION, rtr.response(7, version=2))


@pytest.mark.parametrize("version", [-1, 2])
def test_wrong_version(version: int) -> None:
    with pytest.raises(ValueError, match=f"found {version}, allowed 0 to 1"):
        RtrSession(version=version)


# -- errors


def test_no_data_available_is_waited_out() -> None:
    session = RtrSession()
    online(session)
    assert session.receive(rtr.error(2, RESET_QUERY), START) == []
    assert session.wake_ns == START + 600 * S
    assert session.tick(START + 600 * S) == [Send(RESET_QUERY)]


BAD = [
    (rtr.pdu(11), ErrorCode.UNSUPPORTED_PDU),
    (rtr.pdu(1, 7, bytes(4)), ErrorCode.UNSUPPORTED_PDU),
    (rtr.pdu(8, 0, b"?"), ErrorCode.CORRUPT_DATA),
    (struct.pack(">BBHI", 1, 3, 0, 0), ErrorCode.CORRUPT_DATA),
    (struct.pack(">BBHI", 1, 10, 0, 1 << 31), None),
    (rtr.response(7) * 2, ErrorCode.CORRUPT_DATA),
    (FIRST, ErrorCode.CORRUPT_DATA),
    (rtr.end(7, 1), ErrorCode.CORRUPT_DATA),
    (rtr.pdu(8), ErrorCode.CORRUPT_DATA),
    (rtr.response(7) + rtr.end(8, 1), ErrorCode.CORRUPT_DATA),
    (rtr.response(7) + rtr.pdu(7, 7, bytes(4)), ErrorCode.CORRUPT_DATA),
    (rtr.response(7) + rtr.pdu(8), ErrorCode.CORRUPT_DATA),
    (rtr.response(7) + rtr.prefix("10.0.0.0/8", 1, 7), ErrorCode.CORRUPT_DATA),
    (rtr.response(7) + rtr.prefix("10.0.0.0/8", 1, 33), ErrorCode.CORRUPT_DATA),
    (rtr.response(7) + rtr.prefix("::/0", 1, 129), ErrorCode.CORRUPT_DATA),
    (rtr.response(7) + FIRST * 2 + rtr.end(7, 1), ErrorCode.DUPLICATE_ANNOUNCEMENT),
    (
        rtr.response(7) + rtr.prefix("10.0.0.0/8", 1, announce=False) + rtr.end(7, 1),
        ErrorCode.UNKNOWN_WITHDRAWAL,
    ),
    (rtr.error(0, b"x" * 3, b"what"), None),
    (rtr.pdu(10, 3, b"\xff" * 8), None),
]


@pytest.mark.parametrize(("data", "code"), BAD)
def test_what_a_cache_must_not_send(data: bytes, code: ErrorCode | None) -> None:
    session = RtrSession()
    online(session)
    outputs = session.receive(data + TABLE, START)
    if code is None:  # an error report is not answered by one
        assert [type(o) for o in outputs] == [Disconnect]
    else:
        assert error_of(outputs)[0] == code
    assert session.wake_ns == START + S
    assert session.receive(TABLE, START) == []
    assert online(session, START + S) == [Send(RESET_QUERY)]
    assert len(published(session.receive(TABLE, START + S)).roas) == 2


def test_another_session_than_the_one_asked_for() -> None:
    session = loaded()
    session.receive(rtr.notify(7, 101), START)
    gone, *rest = session.receive(rtr.response(8), START)
    assert isinstance(gone, Publish)
    assert len(gone.roas) == 0
    assert error_of(rest)[0] == ErrorCode.CORRUPT_DATA
    assert online(session, START + S) == [Send(RESET_QUERY)]


def test_payloads_are_bounded() -> None:
    session = RtrSession(limit=1)
    online(session)
    assert error_of(session.receive(TABLE, START))[0] == ErrorCode.INTERNAL_ERROR
    session = loaded(limit=2)
    session.receive(rtr.notify(7, 101), START)
    more = rtr.prefix("203.0.113.0/24", 64496)
    outputs = session.receive(rtr.response(7) + more + rtr.end(7, 101), START)
    assert error_of(outputs)[0] == ErrorCode.INTERNAL_ERROR
    assert len(session.payloads) == 2


def test_router_keys_are_passed_over() -> None:
    session = RtrSession()
    online(session)
    key = rtr.pdu(9, 1 << 8, bytes(24) + b"key")
    assert len(published(session.receive(TABLE[:8] + key + TABLE[8:28] + key + TABLE[28:], 0)).roas)


@given(st.data())
def test_any_octets(data: st.DataObject) -> None:
    pieces = [
        TABLE, FIRST, SECOND, rtr.notify(7, 101), rtr.response(7), rtr.end(7, 2), rtr.pdu(8),
        rtr.error(2), rtr.error(4, version=0), rtr.pdu(9, 0, bytes(24)), rtr.response(7, version=0),
    ]  # fmt: skip
    session = RtrSession(limit=5)
    now = START
    for _ in range(data.draw(st.integers(1, 5))):
        outputs = session.tick(now)
        if Connect() in outputs:
            session.connected(now)
        raw = bytearray(b"".join(data.draw(st.lists(st.sampled_from(pieces), max_size=5))))
        for _ in range(data.draw(st.integers(0, 2))):
            if raw:
                raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        session.receive(bytes(raw), now)
        assert len(session.payloads) <= 5
        assert session.wake_ns < NEVER
        now = data.draw(st.sampled_from([now + S, session.wake_ns]))


@pytest.mark.skipif(not SHARED.is_dir(), reason=MISSING)
def test_recorded_malformed_answer() -> None:
    raw = (SHARED / "tcpdump" / "rpki-rtr-oobr.pcap").read_bytes()
    for at in range(len(raw)):
        session = RtrSession()
        online(session)
        session.receive(raw[at:], START)
        assert session.wake_ns < NEVER


# -- payloads

changes = st.lists(st.tuples(st.sampled_from(["10.0.0.0/8", "::/0"]), st.booleans()), max_size=8)


@given(changes, changes)
def test_payloads_are_a_set(first: list[tuple[str, bool]], second: list[tuple[str, bool]]) -> None:
    payloads, kept = Payloads(), set[str]()
    for part in (first, second):
        raw = b"".join(rtr.prefix(text, 1, announce=on) for text, on in part)
        taken, octets = Taken.of(np.frombuffer(raw, np.uint8), 1)
        assert octets == len(raw)
        after, wrong = set(kept), False
        for text, on in part:
            wrong = wrong or (text in after) == on
            after = after | {text} if on else after - {text}
        if wrong:
            with pytest.raises(PayloadsError):
                payloads.changed([taken])
            continue
        payloads, kept = payloads.changed([taken]), after
        assert len(payloads) == len(payloads.roas()) == len(kept)


@given(st.integers(0, 128), st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1))
def test_prefixes_lose_their_host_bits(bits: int, raw: bytes, asn: int) -> None:
    body = bytes([1, bits, 128, 0]) + raw + struct.pack(">I", asn)
    taken, _ = Taken.of(np.frombuffer(rtr.pdu(6, 0, body), np.uint8), 1)
    value = int(taken.hi[0]) << 64 | int(taken.lo[0])
    assert value == int.from_bytes(raw, "big") >> (128 - bits) << (128 - bits)
    assert int(taken.word[0]) == asn << 16 | bits << 8 | 128
    four = bytes([1, min(bits, 32), 32, 0]) + raw[:4] + struct.pack(">I", asn)
    taken, _ = Taken.of(np.frombuffer(rtr.pdu(4, 0, four), np.uint8), 1)
    shift = 32 - min(bits, 32)
    assert int(taken.lo[0]) == 0xFFFF << 32 | int.from_bytes(raw[:4], "big") >> shift << shift
