"""UPDATE parsing: against a naive parser, and the rules of RFC 7606 one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.causes import SUBCODES
from flowray.wire.bgp.events import Action, Parsed, Verdict
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.bgp.update import CAUSES, parse_updates
from tests.wire.bgp import encode as e
from tests.wire.bgp import update_twin as twin
from tests.wire.bgp.updates import ALL_PATHS, PLAIN, batch, contexts, messages, rows_of

CONTEXTS = ((True, 0), (False, 0), (True, ALL_PATHS), (False, 0b0101))


batches = st.lists(
    st.one_of(
        *(
            st.tuples(st.just(c), messages(four=four, paths=paths))
            for c, (four, paths) in enumerate(CONTEXTS)
        )
    ),
    max_size=4,
)


@given(batches)
def test_messages_are_read_as_a_naive_parser_reads_them(items: list[tuple[int, bytes]]) -> None:
    data = [message for _, message in items]
    updates = batch(data, [context for context, _ in items])
    store = AttributeStore()
    parsed = parse_updates(updates, contexts(*CONTEXTS), store)
    buf = updates.buf.tobytes()
    expected: list[tuple[object, ...]] = []
    for i, (context, message) in enumerate(items):
        four, paths = CONTEXTS[context]
        alone = twin.parse(message, four=four, add_path=paths)
        assert (Verdict(parsed.verdict[i]), CAUSES[parsed.cause[i]]) == (
            alone.verdict,
            alone.cause,
        )
        assert parsed.subcode[i] == SUBCODES[CAUSES.index(alone.cause)]
        start = int(parsed.data_offset[i])
        assert buf[start : start + int(parsed.data_length[i])] == alone.data
        expected += [(i, key, canonical) for key, canonical in alone.events]
    found = [(i, key, store[_as_int(number)]) for i, key, number in rows_of(parsed, buf)]
    assert found == expected
    assert len({store[s] for s in range(len(store))}) == len(store)


def _as_int(number: object) -> int:
    assert isinstance(number, int)
    return number


@given(st.binary(max_size=200), st.integers(0, len(CONTEXTS) - 1))
def test_noise_behind_a_header_is_read_as_a_naive_parser_reads_it(body: bytes, c: int) -> None:
    message = e.message(2, body)
    parsed = parse_updates(batch([message], [c]), contexts(*CONTEXTS), AttributeStore())
    alone = twin.parse(message, four=CONTEXTS[c][0], add_path=CONTEXTS[c][1])
    assert (Verdict(parsed.verdict[0]), CAUSES[parsed.cause[0]]) == (alone.verdict, alone.cause)
    assert [row[1] for row in rows_of(parsed, message)] == [key for key, _ in alone.events]


def parse(*data: bytes, context: int = 0) -> tuple[Parsed, AttributeStore]:
    store = AttributeStore()
    return parse_updates(batch(data, [context] * len(data)), PLAIN, store), store


def actions(parsed: Parsed) -> list[Action]:
    return [Action(a) for a in parsed.events.action]


ROUTE = e.prefix("198.51.100.0/24")
GOOD = e.usual(65001)


def one(attributes: bytes, **kw: Any) -> tuple[Verdict, str]:
    parsed, _ = parse(e.update(attributes=attributes, nlri=ROUTE), **kw)
    return Verdict(parsed.verdict[0]), CAUSES[parsed.cause[0]]


def test_an_empty_batch_gives_nothing() -> None:
    parsed, store = parse()
    assert len(parsed.events) == 0
    assert len(store) == 1
    assert store[0] == b""


def test_withdrawn_routes_come_before_announced_ones() -> None:
    attributes = (
        GOOD
        + e.mp_reach(2, 1, e.address("2001:db8::1"), e.prefix("2001:db8:1::/48"))
        + e.mp_unreach(2, 1, e.prefix("2001:db8:2::/48"))
    )
    parsed, store = parse(e.update(e.prefix("10.0.0.0/8"), attributes, ROUTE))
    assert [FAMILIES[f].name for f in parsed.events.family] == ["ipv4 unicast", "ipv6 unicast"] * 2
    assert actions(parsed) == [Action.WITHDRAW] * 2 + [Action.ANNOUNCE] * 2
    legacy, multiprotocol = (store[int(s)] for s in parsed.events.attributes[2:])
    assert legacy == b"\1\4" + e.address("192.0.2.1") + e.origin() + e.as_path(65001)
    assert multiprotocol == b"\1\x10" + e.address("2001:db8::1") + e.origin() + e.as_path(65001)


def test_host_bits_are_cleared() -> None:
    parsed, _ = parse(e.update(attributes=GOOD, nlri=e.prefix("10.255.255.255/9")))
    assert int(parsed.events.lo[0]) == 0xFFFF << 32 | 0x0A800000


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_end_of_rib_of_every_family(family: Any) -> None:
    parsed, _ = parse(e.update(attributes=e.mp_unreach(family.afi, family.safi)))
    assert actions(parsed) == [Action.END_OF_RIB]
    assert parsed.events.family[0] == family.index


def test_end_of_rib_of_ipv4_is_an_empty_update() -> None:
    parsed, _ = parse(e.update())
    assert actions(parsed) == [Action.END_OF_RIB]
    assert parsed.events.family[0] == 0


def test_attributes_without_routes_are_no_end_of_rib() -> None:
    parsed, _ = parse(e.update(attributes=GOOD))
    assert actions(parsed) == []
    assert parsed.verdict[0] == Verdict.WELL_FORMED


@pytest.mark.parametrize(
    ("hop", "kept"),
    [
        (e.address("192.0.2.9"), e.address("192.0.2.9")),
        (bytes(8) + e.address("192.0.2.9"), e.address("192.0.2.9")),
        (e.address("2001:db8::9"), e.address("2001:db8::9")),
        (bytes(8) + e.address("::ffff:203.0.113.24"), e.address("::ffff:203.0.113.24")),
        (bytes(8) + e.address("cb00:7117::"), e.address("cb00:7117::")),
        (e.address("2001:db8::9") + e.address("fe80::1"),) * 2,
        (
            (bytes(8) + e.address("2001:db8::9")) + (bytes(8) + e.address("fe80::1")),
            e.address("2001:db8::9") + e.address("fe80::1"),
        ),
    ],
)
@pytest.mark.parametrize("afi", [1, 2])
def test_a_next_hop_is_kept_without_its_route_distinguishers(
    afi: int, hop: bytes, kept: bytes
) -> None:
    nlri = e.labeled("0.0.0.0/0" if afi == 1 else "::/0", e.label_stack([16]), e.rd_as(65000, 1))
    parsed, store = parse(
        e.update(attributes=e.origin() + e.as_path() + e.mp_reach(afi, 128, hop, nlri))
    )
    canonical = store[int(parsed.events.attributes[0])]
    assert canonical[1:] == bytes([len(kept)]) + kept + e.origin() + e.as_path()


@pytest.mark.parametrize("size", [0, 1, 8, 20, 64])
def test_a_next_hop_of_another_length_resets_the_session(size: int) -> None:
    reach = e.mp_reach(2, 1, bytes(size), e.prefix("2001:db8::/32"))
    parsed, _ = parse(e.update(attributes=e.origin() + e.as_path() + reach))
    assert parsed.verdict[0] == Verdict.SESSION_RESET
    assert parsed.subcode[0] == 9
    assert parsed.data_length[0] == len(reach)


def labels_of(stack: bytes, *, withdrawn: bool = False) -> tuple[int, int]:
    nlri = e.labeled("203.0.112.0/24", stack)
    attributes = e.mp_unreach(1, 4, nlri)
    if not withdrawn:
        attributes = e.usual(hop=None) + e.mp_reach(1, 4, bytes(4), nlri)
    parsed, _ = parse(e.update(attributes=attributes))
    return int(parsed.events.labels[0]), int(parsed.events.plen[0])


def test_labels_end_at_the_bottom_of_the_stack() -> None:
    word = 4 << 60 | 16 | 17 << 20 | 18 << 40
    assert labels_of(e.label_stack([16, 17, 18, 19])) == (word, 24)


@pytest.mark.parametrize(
    "stack", [e.WITHDRAWN_LABEL, b"\0\0\0", e.label_stack([16]), e.label_stack([16, 17])]
)
def test_withdrawals_have_any_label_and_keep_none(stack: bytes) -> None:
    assert labels_of(stack, withdrawn=True) == (0, 24)


def test_a_label_without_bottom_of_stack_is_one_label() -> None:
    assert labels_of(b"\x00\x10\x00") == (1 << 60 | 256, 24)


WITHDRAW, DISCARD, RESET = twin.WITHDRAW, twin.DISCARD, twin.RESET
PATH, HOP = e.as_path(65001), e.next_hop("192.0.2.1")
T, O, OT = e.TRANSITIVE, e.OPTIONAL, e.OPTIONAL | e.TRANSITIVE


@pytest.mark.parametrize(
    ("attributes", "verdict", "cause"),
    [
        (PATH + HOP, WITHDRAW, "missing"),
        (e.origin() + HOP, WITHDRAW, "missing"),
        (e.origin() + PATH, WITHDRAW, "missing"),
        (e.origin(3) + PATH + HOP, WITHDRAW, "ORIGIN"),
        (e.attribute(1, b"", T) + PATH + HOP, WITHDRAW, "length"),
        (e.attribute(1, b"\0", OT) + PATH + HOP, WITHDRAW, "flags"),
        (e.origin() + e.attribute(2, b"\2\1\0\0\1", T) + HOP, WITHDRAW, "segments"),
        (e.origin() + e.attribute(2, b"\2\0", T) + HOP, WITHDRAW, "segments"),
        (e.origin() + e.attribute(2, b"\5\1\0\0\0\1", T) + HOP, WITHDRAW, "segments"),
        (e.origin() + e.attribute(2, b"\2\1\0\0\0\1\2", T) + HOP, WITHDRAW, "segments"),
        (e.origin() + PATH + e.attribute(3, bytes(5), T), WITHDRAW, "length"),
        (GOOD + e.attribute(4, bytes(3), O), WITHDRAW, "length"),
        (GOOD + e.attribute(5, bytes(5), T), WITHDRAW, "length"),
        (GOOD + e.local_pref(200), Verdict.WELL_FORMED, ""),
        (GOOD + e.attribute(6, b"\0", T), DISCARD, "length"),
        (GOOD + e.aggregator(65001, "192.0.2.3", four=False), DISCARD, "length"),
        (GOOD + e.communities(), WITHDRAW, "length"),
        (GOOD + e.attribute(8, bytes(6)), WITHDRAW, "length"),
        (GOOD + e.attribute(9, bytes(3), O), WITHDRAW, "length"),
        (GOOD + e.attribute(10, bytes(3), O), WITHDRAW, "length"),
        (GOOD + e.attribute(16, bytes(9)), WITHDRAW, "length"),
        (GOOD + e.attribute(32, bytes(8)), WITHDRAW, "length"),
        (GOOD + e.as4_path([(2, [65001])]), DISCARD, "four-octet"),
        (GOOD + e.as4_aggregator(65001, "192.0.2.3"), DISCARD, "four-octet"),
        (GOOD + e.attribute(26, b"\1\0\4\0", O), Verdict.WELL_FORMED, ""),
        (GOOD + e.attribute(26, b"\1\0\5\0", O), DISCARD, "TLVs"),
        (GOOD + e.attribute(26, b"\1\0\2\0", O), DISCARD, "TLVs"),
        (GOOD + e.attribute(40, b"\xfa\0\2ab"), Verdict.WELL_FORMED, ""),
        (GOOD + e.attribute(40, b"\xfa\0\3ab"), DISCARD, "TLVs"),
        (GOOD + e.attribute(99, b"anything"), Verdict.WELL_FORMED, ""),
        (GOOD + e.attribute(99, b"anything", T), RESET, "unrecognized"),
        (GOOD + e.med(1) + e.med(2), DISCARD, "more than once"),
        (GOOD + b"\x80\x04", WITHDRAW, "exceeds"),
        (GOOD + b"\x90\x04\x00", WITHDRAW, "exceeds"),
        (GOOD + b"\x80\x04\x05\0\0\0\0", WITHDRAW, "exceeds"),
        (GOOD + b"\x80\x0e\x09\0\0", RESET, "exceeds"),
        (GOOD + e.mp_unreach(2, 1) * 2, RESET, "more than once"),
        (GOOD + e.mp_unreach(2, 1, flags=OT), RESET, "flags"),
        (GOOD + e.attribute(15, b"\0\2", O), RESET, "too short"),
        (GOOD + e.attribute(14, bytes(4), O), RESET, "too short"),
        (GOOD + e.attribute(14, b"\0\2\1\x10abc", O), RESET, "too short"),
        (GOOD + e.mp_unreach(2, 1, b"\x81" + bytes(17)), RESET, "MP_UNREACH_NLRI"),
        (GOOD + e.mp_reach(2, 1, bytes(16), b"\x40abc"), RESET, "MP_REACH_NLRI"),
        (GOOD + e.communities() + e.attribute(6, b"\0", T), WITHDRAW, "length"),
        (GOOD + e.attribute(6, b"\0", T) + e.communities(), WITHDRAW, "length"),
    ],
)
def test_rfc7606(attributes: bytes, verdict: Verdict, cause: str) -> None:
    parsed, store = parse(e.update(attributes=attributes, nlri=ROUTE))
    assert (Verdict(parsed.verdict[0]), cause in CAUSES[parsed.cause[0]]) == (verdict, True)
    expected = {RESET: [], WITHDRAW: [Action.WITHDRAW]}.get(verdict, [Action.ANNOUNCE])
    assert actions(parsed) == expected
    assert len(store) == (2 if verdict < WITHDRAW else 1)


@pytest.mark.parametrize("attributes", [HOP, e.origin() + HOP, e.origin() + PATH])
def test_monitored_routes_may_lack_mandatory_attributes(attributes: bytes) -> None:
    store = AttributeStore()
    data = e.update(attributes=attributes, nlri=ROUTE)
    parsed = parse_updates(batch([data], [0]), PLAIN, store, monitored=True)
    assert (parsed.verdict[0], actions(parsed)) == (Verdict.WELL_FORMED, [Action.ANNOUNCE])
    assert "missing" in CAUSES[parsed.cause[0]]
    canonical = store[int(parsed.events.attributes[0])]
    assert canonical.endswith(attributes.replace(HOP, b""))
    broken = e.update(attributes=attributes + e.attribute(4, b"", O), nlri=ROUTE)
    parsed = parse_updates(batch([broken], [0]), PLAIN, store, monitored=True)
    assert actions(parsed) == [Action.WITHDRAW]


@pytest.mark.parametrize(
    ("data", "cause", "subcode"),
    [
        (e.message(2, b"\0\0\0"), "too short", 1),
        (e.message(2, b"\0\1\0\0"), "Withdrawn Routes Length", 1),
        (e.message(2, b"\0\0\0\1"), "Total Path Attribute Length", 1),
        (e.update(withdrawn=b"\x21" + bytes(5)), "Withdrawn Routes", 10),
        (e.update(withdrawn=b"\x18\0"), "Withdrawn Routes", 10),
        (e.update(attributes=GOOD, nlri=b"\x21" + bytes(5)), "Network Layer", 10),
        (e.update(attributes=GOOD, nlri=b"\x18\0"), "Network Layer", 10),
        (e.update(attributes=e.attribute(4, b"\0", O)), "attribute length", 5),
        (e.update(attributes=e.origin(9)), "ORIGIN", 6),
        (e.update(attributes=e.attribute(2, b"\0", T)), "segments", 11),
    ],
)
def test_what_leaves_no_routes_to_withdraw_resets_the_session(
    data: bytes, cause: str, subcode: int
) -> None:
    parsed, _ = parse(data)
    assert parsed.verdict[0] == RESET
    assert cause in CAUSES[parsed.cause[0]]
    assert parsed.subcode[0] == subcode
    assert len(parsed.events) == 0


def test_two_octet_speakers_send_shorter_numbers() -> None:
    attributes = e.usual(65001, four=False) + e.aggregator(65001, "192.0.2.3", four=False)
    attributes += e.as4_path([(2, [70000])]) + e.as4_aggregator(70000, "192.0.2.3")
    assert one(attributes, context=1) == (Verdict.WELL_FORMED, "")


def test_the_first_of_duplicates_is_kept() -> None:
    parsed, store = parse(e.update(attributes=GOOD + e.med(1) + e.med(2), nlri=ROUTE))
    assert store[int(parsed.events.attributes[0])].endswith(e.as_path(65001) + e.med(1))


def test_an_unknown_family_is_counted_and_gives_nothing() -> None:
    parsed, store = parse(
        e.update(attributes=e.usual(hop=None) + e.mp_reach(1, 85, bytes(7), b"junk")),
        e.update(attributes=e.mp_unreach(1, 85, b"junk")),
        e.update(attributes=e.mp_unreach(1, 85)),
    )
    assert [CAUSES[c] for c in parsed.cause] == ["unknown address family"] * 3
    assert not parsed.verdict.any()
    assert len(parsed.events) == 0
    assert len(store) == 1


def test_a_message_outside_the_buffer_is_too_short() -> None:
    updates = batch([e.update()])
    updates.length[0] = 24
    parsed = parse_updates(updates, PLAIN, AttributeStore())
    assert CAUSES[parsed.cause[0]] == "message is too short for an UPDATE"


def test_extended_messages_hold_many_routes_and_long_attributes() -> None:
    routes = b"".join(e.prefix(f"10.{k >> 8}.{k & 255}.0/24") for k in range(10000))
    long = e.communities(*((65001, k) for k in range(5000)))
    parsed, store = parse(e.update(attributes=GOOD + long, nlri=routes))
    assert len(parsed.events) == 10000
    assert np.array_equal(parsed.events.attributes, np.ones(10000, np.uint32))
    assert store[1].endswith(long)


def test_the_store_grows_within_a_batch() -> None:
    data = [e.update(attributes=e.usual(*range(1, 100), k + 1), nlri=ROUTE) for k in range(3000)]
    parsed, store = parse(*data, *data)
    assert len(store) == 3001
    half = np.arange(1, 3001, dtype=np.uint32)
    assert np.array_equal(parsed.events.attributes, np.concatenate([half, half]))
    assert store[3000].endswith(e.as_path(*range(1, 100), 3000))
