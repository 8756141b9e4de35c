"""OPEN messages: round trips, every error that RFC 4271 section 6.2 names, any octets at all."""

from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp.capabilities import (
    LAYOUTS,
    AddPath,
    Capability,
    CapabilityCode,
    ExtendedNextHop,
    GracefulRestart,
    Hostname,
    LongLived,
    Multiprotocol,
    RestartFamily,
    Role,
    SoftwareVersion,
    add_path,
    extended_next_hop,
    four_octet_as,
    multiprotocol,
)
from flowray.wire.bgp.messages import MessageError
from flowray.wire.bgp.open import Open, two_octet_as

IDENTIFIER = IPv4Address("192.0.2.1")
FIXED = b"\x04\xfd\xe8\x00\xb4\xc0\x00\x02\x01"

CAPABILITIES = st.lists(
    st.builds(
        Capability,
        st.one_of(st.sampled_from(sorted(LAYOUTS)), st.integers(0, 255)),
        st.binary(max_size=60),
    ).filter(lambda c: c.code != 65 or c.octets != bytes(4)),
    max_size=20,
).map(tuple)


@given(
    st.integers(1, 65535),
    st.one_of(st.just(0), st.integers(3, 65535)),
    st.integers(1, 2**32 - 1).map(IPv4Address),
    CAPABILITIES,
)
def test_round_trip(
    my_as: int, hold_time: int, identifier: IPv4Address, capabilities: tuple[Capability, ...]
) -> None:
    opened = Open(my_as, hold_time, identifier, capabilities)
    message = opened.encode()
    assert len(message) == int.from_bytes(message[16:18])
    assert Open.decode(message[19:]) == opened


@given(st.binary(min_size=10, max_size=300), st.booleans())
def test_any_octets_are_an_open_or_a_message_error(body: bytes, fixed: bool) -> None:
    with suppress(MessageError):
        opened = Open.decode(FIXED + body if fixed else body)
        assert opened.peer_as > 0
        assert all(c.facts()[0]["code"] == c.code for c in opened.capabilities)


@pytest.mark.parametrize(
    ("body", "subcode", "data"),
    [
        (b"\x05" + FIXED[1:] + b"\x00", 1, b"\x00\x04"),
        (b"\x04\x00\x00" + FIXED[3:] + b"\x00", 2, b""),
        (FIXED + b"\x08\x02\x06\x41\x04\x00\x00\x00\x00", 2, b""),
        (FIXED[:5] + bytes(4) + b"\x00", 3, b""),
        (FIXED + b"\x02\x01\x00", 4, b""),
        (FIXED[:3] + b"\x00\x02" + FIXED[5:] + b"\x00", 6, b""),
        (FIXED + b"\x04\x02\x02\x02\x00\x00", 0, b""),
        (FIXED + b"\x04\x02\x03\x02\x00", 0, b""),
        (FIXED + b"\x04\x02\x02\x02\x01", 0, b""),
        (FIXED + b"\x03\x02\x01\x02", 0, b""),
        (FIXED + b"\x01\x02", 0, b""),
        (FIXED + b"\x05\x02\x00", 0, b""),
        (FIXED + b"\xff\xff\x00", 0, b""),
        (FIXED + b"\xff\xff\x00\x09\x02\x00\x00", 0, b""),
    ],
)
def test_errors(body: bytes, subcode: int, data: bytes) -> None:
    with pytest.raises(MessageError) as raised:
        Open.decode(body)
    assert (raised.value.code, raised.value.subcode, raised.value.data) == (2, subcode, data)


def test_parameters_with_long_lengths() -> None:
    capabilities = tuple(Capability(200, bytes([i]) * 100) for i in range(5))
    body = Open(65000, 180, IDENTIFIER, capabilities).encode()[19:]
    assert body[9:11] == b"\xff\xff"
    assert Open.decode(body).capabilities == capabilities
    # The octet before them may be anything but 0 (RFC 9072 section 2).
    assert Open.decode(body[:9] + b"\x01" + body[10:]).capabilities == capabilities
    short = Open.decode(FIXED + b"\x20\xff\x00\x05\x02\x00\x02\x02\x00")
    assert short.capabilities == (Capability(2, b""),)


def test_several_parameters_and_several_capabilities_in_one() -> None:
    opened = Open.decode(FIXED + b"\x08\x02\x04\x02\x00\x06\x00\x02\x00")
    assert [c.name for c in opened.capabilities] == ["route refresh", "extended message"]


@pytest.mark.parametrize(
    ("code", "octets", "records"),
    [
        (1, "0001 00 80", (Multiprotocol(1, 128),)),
        (1, "0001 00", None),
        (2, "", ()),
        (2, "00", None),
        (5, "000100010002 000100800002", (ExtendedNextHop(1, 1, 2), ExtendedNextHop(1, 128, 2))),
        (5, "0001000100", None),
        (6, "", ()),
        (9, "03", (Role(3),)),
        (
            64,
            "c078 0001 01 80 0002 01 00",
            (
                GracefulRestart(
                    True,
                    True,
                    120,
                    (RestartFamily(1, 1, True), RestartFamily(2, 1, False)),
                ),
            ),
        ),
        (64, "00", None),
        (65, "fdec005e", ((4260102238,),)),
        (65, "fdec", None),
        (69, "0001 01 03 0002 01 01", (AddPath(1, 1, 3), AddPath(2, 1, 1))),
        (70, "", ()),
        (71, "0001 01 80 015180", (LongLived(1, 1, True, 86400),)),
        (73, "027231 03 6c6162", (Hostname("r1", "lab"),)),
        (73, "0272310461", None),
        (73, "02720a00", (Hostname("r\ufffd", ""),)),
        (75, "03465252", (SoftwareVersion("FRR"),)),
        (75, "", None),
        (128, "", ()),
        (131, "00", None),
    ],
)
def test_what_capabilities_say(code: int, octets: str, records: Any) -> None:
    capability = Capability(code, bytes.fromhex(octets))
    assert capability.understood is (records is not None)
    assert capability.records == (records or ())


def test_facts_for_a_log() -> None:
    capability = extended_next_hop([ExtendedNextHop(1, 1, 2), ExtendedNextHop(1, 128, 2)])
    assert capability.facts() == [
        {"code": 5, "afi": 1, "safi": 1, "nexthop_afi": 2},
        {"code": 5, "afi": 1, "safi": 128, "nexthop_afi": 2},
    ]
    assert Capability(2, b"").facts() == [{"code": 2}]
    assert four_octet_as(64969).facts() == [{"code": 65, "asn": 64969}]
    assert (Capability(131, b"x").name, Capability(131, b"x").facts()) == (
        "capability 131",
        [{"code": 131}],
    )


def test_what_an_open_says() -> None:
    big = Open(two_octet_as(65543), 180, IDENTIFIER, (four_octet_as(65543),))
    assert (big.my_as, big.peer_as, big.four_octets) == (23456, 65543, True)
    plain = Open(65000, 180, IDENTIFIER, ())
    assert (plain.peer_as, plain.four_octets, plain.families) == (65000, False, ((1, 1),))
    assert plain.graceful_restart is None
    several = Open(
        65000,
        180,
        IDENTIFIER,
        (multiprotocol(2, 1), multiprotocol(25, 70), add_path([AddPath(2, 1, 3)])),
    )
    assert several.families == ((2, 1), (25, 70))
    assert several.add_path[0].sends
    damaged = Open(65000, 180, IDENTIFIER, (Capability(6, b"?"),))
    assert not damaged.has(CapabilityCode.EXTENDED_MESSAGE)
