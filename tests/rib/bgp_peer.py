"""What a peer would send, and outputs of a session in a form that can be compared."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from typing import Any

from flowray.rib.bgp_negotiation import BgpSettings
from flowray.rib.bgp_session import BgpSession, Output, UpdatesReceived
from flowray.wire.bgp.capabilities import (
    AddPath,
    Capability,
    CapabilityCode,
    ExtendedNextHop,
    add_path,
    extended_next_hop,
    flag,
    four_octet_as,
    multiprotocol,
)
from flowray.wire.bgp.messages import KEEPALIVE, MessageType, encode
from flowray.wire.bgp.open import Open, two_octet_as

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
SETTINGS = BgpSettings(router_id=IPv4Address("192.0.2.1"))
CAPABILITIES = (
    multiprotocol(1, 1),
    multiprotocol(2, 1),
    multiprotocol(1, 128),
    multiprotocol(1, 99),
    four_octet_as(65551),
    flag(CapabilityCode.ROUTE_REFRESH),
    flag(CapabilityCode.ENHANCED_ROUTE_REFRESH),
    flag(CapabilityCode.EXTENDED_MESSAGE),
    extended_next_hop([ExtendedNextHop(1, 1, 2), ExtendedNextHop(1, 4, 2)]),
    add_path([AddPath(1, 1, 3), AddPath(2, 1, 1), AddPath(1, 128, 2), AddPath(1, 4, 2)]),
    Capability(CapabilityCode.GRACEFUL_RESTART, bytes.fromhex("8078 00010180 00018000")),
    Capability(
        CapabilityCode.LONG_LIVED_GRACEFUL_RESTART, bytes.fromhex("00010180000e10 00190080000e10")
    ),
)


def peer_open(
    asn: int = 65551,
    hold_time_s: int = 90,
    capabilities: Sequence[Capability] = CAPABILITIES,
    bgp_id: str = "198.51.100.7",
) -> bytes:
    return Open(two_octet_as(asn), hold_time_s, IPv4Address(bgp_id), tuple(capabilities)).encode()


def plain_open(asn: int = 65000, hold_time_s: int = 90) -> bytes:
    return peer_open(asn, hold_time_s, ())


def update(octets: int = 4) -> bytes:
    """An UPDATE of this many octets after its header; a session does not look at them."""
    return encode(MessageType.UPDATE, bytes(octets))


def new_session(settings: BgpSettings = SETTINGS) -> BgpSession:
    return BgpSession(settings, "198.51.100.7", 50000, START)


def established(settings: BgpSettings = SETTINGS, opened: bytes | None = None) -> BgpSession:
    session = new_session(settings)
    session.receive((opened or peer_open()) + KEEPALIVE, START)
    return session


def comparable(outputs: Iterable[Output]) -> list[Any]:
    """The outputs with the messages of neighbouring `UpdatesReceived` in one list each."""
    told: list[Any] = []
    for output in outputs:
        if not isinstance(output, UpdatesReceived):
            told.append(output)
            continue
        if not told or not isinstance(told[-1], list):
            told.append([])
        u = output.updates
        rows = zip(u.offset, u.length, u.context, u.time_ns, strict=True)
        told[-1] += [(u.buf[o : o + n].tobytes(), int(c), int(t)) for o, n, c, t in rows]
    return told
