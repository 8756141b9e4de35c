"""Loads the compiled kernels of the route path: a router that connects must not wait."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

import numpy as np

from flowray.rib.collector import RouteCollector
from flowray.rib.journal import Labels
from flowray.rib.looking_glass import answer, asking
from flowray.rib.lpm import Forest, Prefixes, look_up
from flowray.rib.overlay import LEAST_LINES, Layered
from flowray.rib.replay import RouteReplay
from flowray.rib.restore import restore, saved
from flowray.rib.rib import Rib
from flowray.rib.route_query import RouteQuery, read_query
from flowray.rib.snapshot import Snapshot
from flowray.rib.streams import Stream
from flowray.rib.table_diff import differences
from flowray.route_fields import Protocol
from flowray.settings.compile import Program
from flowray.settings.model import Settings
from flowray.sinks.base import MemorySink
from flowray.wire.bgp.capabilities import (
    AddPath,
    Capability,
    add_path,
    four_octet_as,
    multiprotocol,
)
from flowray.wire.bgp.messages import KEEPALIVE, MessageType, encode
from flowray.wire.bgp.open import Open, two_octet_as

ROUTER = "192.0.2.1"
"""The router whose routes of all families are among the made-up ones."""

PORT = 50000
START = 1_700_000_000_000_000_000

_AS = 65551
_USUAL = bytes.fromhex("40010100 4002060201 0001000f c00804 ffff0001")
_HOP = bytes.fromhex("400304 c0000201")
_V4 = bytes.fromhex("18 c00002 18 c63364")
_V6_REACH = bytes.fromhex("800e1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8")
_VPN_REACH = bytes.fromhex("800e20 0001 80 0c 0000000000000000c0000201 00")
_VPN_NLRI = bytes.fromhex("70 000641 0000fde800000001 cb0071")
_EVPN_REACH = bytes.fromhex("800e1c 0019 46 04 c0000201 00")
_EVPN_NLRI = bytes.fromhex("03 11 0000fde800000001 00000000 20 c0000201")


def _update(attributes: bytes, nlri: bytes = b"", withdrawn: bytes = b"") -> bytes:
    parts = (withdrawn, attributes)
    body = b"".join(len(part).to_bytes(2) + part for part in parts)
    return encode(MessageType.UPDATE, body + nlri)


def _reach(attribute: bytes, nlri: bytes = b"") -> bytes:
    """An UPDATE with an MP_REACH_NLRI, which gets its length here."""
    value = attribute[3:] + nlri
    return _update(attribute[:2] + bytes((len(value),)) + value + _USUAL)


UPDATES = (
    _update(_USUAL + _HOP, _V4)
    + _reach(_V6_REACH)
    + _reach(_VPN_REACH, _VPN_NLRI)
    + _reach(_EVPN_REACH, _EVPN_NLRI)
    + _update(b"", b"", _V4[:4])
)
"""Routes of IPv4, IPv6, VPN and EVPN, and a withdrawal."""


PATHS = _update(_USUAL + _HOP, b"".join(bytes((0, 0, 0, n)) + _V4[:4] for n in (1, 2)))
"""Two paths to one prefix."""


def _open(*more: Capability) -> bytes:
    families = ((1, 1), (2, 1), (1, 128), (25, 70))
    capabilities = [*(multiprotocol(*family) for family in families), four_octet_as(_AS), *more]
    said = Open(two_octet_as(_AS), 90, IPv4Address(ROUTER), tuple(capabilities))
    return said.encode() + KEEPALIVE


def _bmp() -> bytes:
    """Initiation, and the same routes of a Loc-RIB, whose Peer Up is not asked for; one of them as
    version 4 has it, with a mark of its path.
    """
    header = b"\x03" + bytes(8 + 1 + 16) + _AS.to_bytes(4) + bytes((192, 0, 2, 1)) + bytes(8)
    routes = b"".join(_message(0, header + update) for update in split_messages(UPDATES))
    newer = _message(0, header + _in_tlv(split_messages(UPDATES)[0]), 4)
    return _message(4, b"\x00\x02\x00\x01r") + routes + newer


def _in_tlv(update: bytes) -> bytes:
    mark = b"\x00\x05\x00\x04\x00\x00" + b"\x00\x00\x00\x02"
    return b"\x00\x07" + len(update).to_bytes(2) + b"\x00\x00" + update + mark


def _message(kind: int, body: bytes, version: int = 3) -> bytes:
    return bytes((version,)) + (6 + len(body)).to_bytes(4) + bytes((kind,)) + body


def split_messages(messages: bytes) -> list[bytes]:
    """BGP messages one by one."""
    found = []
    while messages:
        length = int.from_bytes(messages[16:18])
        found.append(messages[:length])
        messages = messages[length:]
    return found


def snapshot_of(program: Program) -> Snapshot:
    """What made-up sessions tell through a collector that is thrown away. Its kernels, those of
    publishing, merging and looking up are loaded then, those of streams that are asked for, too.
    """
    settings = program.settings
    streams = {name: Stream(name, [MemorySink()]) for name in program.streams}
    labels = Labels(program.labels, frozenset(settings.maps.labels_apply_to))
    replay = RouteReplay(settings, RouteCollector(settings, streams, labels))
    snapshot = replay.publish(START)
    for protocol, router, octets in made_up_sessions(settings):
        replay.receive(protocol, router, PORT, octets, START)
        snapshot = replay.publish(START)
    replay.collector.flush(START)
    restore(Rib(), saved(replay.collector.rib))
    _look_up(snapshot)
    for version in (4, 6):
        _lay_over(version)
    _look_into(replay.collector.rib)
    for protocol, router, _ in made_up_sessions(settings):
        replay.close(protocol, router, PORT, START)
    return snapshot


def made_up_sessions(settings: Settings) -> Iterator[tuple[Protocol, str, bytes]]:
    """Protocol and address of a router, and what it says, turn by turn."""
    if settings.listen.bgp is not None:
        for octets in (_open(), UPDATES, _update(_USUAL + _HOP, _V4)):
            yield "bgp", ROUTER, octets
        yield "bgp", "192.0.2.2", _open(add_path([AddPath(1, 1, 3)])) + PATHS
    if settings.listen.bmp is not None:
        yield "bmp", "192.0.2.3", _bmp()


def _look_into(rib: Rib) -> None:
    """As a looking glass does."""
    query = read_query(prefix="0.0.0.0/0", longer=True, as_path="_1$", communities=["64496:1"])
    assert not list(answer(asking(rib), query))
    assert not list(differences(asking(rib), asking(rib), RouteQuery()))


def _lay_over(version: int) -> None:
    """Change a route of a table that is large enough to have overlays."""
    n = 8 * LEAST_LINES
    zero, none = np.zeros(n, np.uint64), np.zeros(n, np.uint8)
    lo, hi = np.arange(n, dtype=np.uint64), zero
    if version == 6:
        lo, hi = zero, lo << np.uint64(32)
    plen = none + np.uint8(32 if version == 4 else 64)
    number = np.arange(n, dtype=np.uint32)
    table = Layered.of(Prefixes.of(version, hi, lo, plen, number))
    news = Prefixes.of(version, hi[:1], lo[:1], plen[:1], number[1:2])
    table = table.changed(news, most=1.0).changed(news, most=1.0)
    pair = (table.intervals, None) if version == 4 else (None, table.intervals)
    look_up(Forest([pair]), np.zeros(1, np.int64), hi[:1], lo[:1])


def _look_up(snapshot: Snapshot) -> None:
    address = np.zeros(2, np.uint64), np.array([0xFFFFC0000201, 1], np.uint64)
    look_up(snapshot.forest, np.zeros(2, np.int64), *address)
