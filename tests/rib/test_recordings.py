"""Recordings that lack the beginning of a session, or what the other router said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.collector import RouteCollector
from flowray.rib.journal import Labels
from flowray.rib.recordings import Search, as_octets
from flowray.rib.replay import RouteReplay
from flowray.settings.model import Settings
from flowray.wire.bgp.attributes import decode_attributes
from flowray.wire.bgp.capabilities import AddPath, add_path, four_octet_as
from flowray.wire.bgp.messages import KEEPALIVE
from flowray.wire.segments import SYN, SegmentBatch
from tests.rib.bgp_peer import START, peer_open
from tests.wire.bgp import encode as e
from tests.wire.bgp import encode_bmp as b

ROUTER, PORT = "192.0.2.1", 50000
LOC_RIB = b.Peer("192.0.2.9", peer_type=3)


def announced(*numbers: int, four: bool = True, nlri: bytes = e.prefix("198.51.100.0/24")) -> bytes:
    return e.update(attributes=e.usual(*numbers, four=four), nlri=nlri)


def replay() -> RouteReplay:
    settings = Settings.model_validate(
        {"views": [{"name": "v", "keys": ["dst_as"]}], "listen": {"bgp": {}, "bmp": {}}}
    )
    return RouteReplay(settings, RouteCollector(settings, {}, Labels()))


def segments(port: int, *payloads: bytes, begin: bool) -> SegmentBatch:
    """A stream, with its SYN or without."""
    parts = [b"", *payloads] if begin else list(payloads)
    length = np.array([len(part) for part in parts], np.int64)
    offset = np.cumsum(length) - length
    n = len(parts)
    flags = np.zeros(n, np.uint8)
    flags[0] = SYN if begin else 0
    sequence = offset.astype(np.uint32) + 1
    sequence[0] -= begin

    def of(value: int, kind: Any) -> Any:
        return np.full(n, value, kind)

    return SegmentBatch(
        np.frombuffer(b"".join(parts), np.uint8), offset, length, of(0, np.uint64),
        of(0xFFFFC0000201, np.uint64), of(PORT, np.uint16), of(port, np.uint16), sequence, flags,
        of(START, np.int64),
    )  # fmt: skip


def paths(run: RouteReplay) -> set[str | None]:
    """AS paths of all routes."""
    rib = run.collector.rib
    return {
        decode_attributes(rib.store[number]).as_path_text
        for tables in rib.peers()
        for table in tables.tables.values()
        for number in table.rows().attributes.tolist()
    }


@given(st.lists(st.integers(1, 0xFFFF), min_size=1, max_size=300))
def test_a_path_of_plain_numbers_is_seen_to_have_four_or_two_octets(numbers: list[int]) -> None:
    # A segment of 2n octets, read with four, ends behind the attribute.
    numbers = numbers[:255]
    assert as_octets(announced(*numbers, four=False)) in {2, None}
    assert as_octets(announced(*numbers, four=True)) in {4, None}


@given(st.binary(max_size=60))
def test_no_octets_are_too_odd_to_be_looked_at(data: bytes) -> None:
    assert as_octets(e.message(2, data)) in {None, 2, 4}


def test_what_a_path_does_not_tell() -> None:
    assert as_octets(e.update()) is None
    assert as_octets(announced()) is None
    assert as_octets(announced(65551, 65001)) == 4
    assert as_octets(announced(64496, 65001, four=False)) == 2


def test_an_old_router_does_not_get_four_octets() -> None:
    run = replay()
    told = [peer_open(capabilities=[four_octet_as(65551)]), KEEPALIVE]
    told += [announced(23456, 64496, four=False), announced(64497, four=False)]
    run.feed(segments(179, *told, begin=True))
    assert paths(run) == {"64497"}


def test_path_identifiers_that_the_other_router_did_not_want() -> None:
    run = replay()
    offer = [four_octet_as(65551), add_path([AddPath(1, 1, 3)])]
    prefixes = ("198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24")
    nlri = b"".join(map(e.prefix, prefixes))
    run.feed(
        segments(179, peer_open(capabilities=offer), KEEPALIVE, announced(1, nlri=nlri), begin=True)
    )
    assert run.collector.status()["routes"] == 3
    assert not run.collector.malformed


@pytest.mark.parametrize("four", [True, False])
@pytest.mark.parametrize("skipped", [0, 1, 16, 30])
def test_a_bgp_session_that_had_begun(skipped: int, four: bool) -> None:
    run = replay()
    stream = announced(1, four=four) + announced(2, four=four) + KEEPALIVE
    run.feed(segments(179, stream[skipped:], begin=False))
    assert paths(run) == {"2"}
    assert run.collector.status()["bgp_sessions"] == 1


def test_a_bgp_session_that_begins_anew_within_the_capture() -> None:
    run = replay()
    said = peer_open(capabilities=[four_octet_as(65551)]) + KEEPALIVE
    run.feed(segments(179, b"\x01\x02\x03", said, announced(2), begin=False))
    assert [tables.peer.asn for tables in run.collector.rib.peers()] == [65551]
    assert paths(run) == {"2"}


@pytest.mark.parametrize("skipped", [0, 5, 60])
def test_a_bmp_session_that_had_begun(skipped: int) -> None:
    run = replay()
    stream = b"".join(b.route_monitoring(LOC_RIB, announced(n)) for n in (1, 2))
    run.feed(segments(11019, stream[skipped:], begin=False))
    assert paths(run) == {"2"}


def test_octets_without_a_message_are_not_kept() -> None:
    search = Search("bgp", 4096)
    assert search.feed(bytes(10_000)) is None
    assert search.feed(b"\xff" * 10_000) is None
    assert len(search._data) < 10_016
    bmp = Search("bmp", 4096)
    assert bmp.feed(b"\xff" * 10_000) is None
    assert (bmp.skipped, bmp._data) == (10_000, b"")
