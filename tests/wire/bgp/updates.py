"""Batches of UPDATE messages, and hypothesis strategies over messages good and bad."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from hypothesis import strategies as st

from flowray.wire.bgp.events import Contexts, Parsed, Updates
from flowray.wire.bgp.families import FAMILIES, Shape
from tests.wire.bgp import encode as e

PLAIN = Contexts(np.array([True, False]), np.array([0, 0], np.uint64))
ALL_PATHS = (1 << len(FAMILIES)) - 1


def contexts(*rows: tuple[bool, int]) -> Contexts:
    """Contexts of (four-octet AS numbers, families with path identifiers as bits)."""
    return Contexts(
        np.array([four for four, _ in rows], np.bool_),
        np.array([paths for _, paths in rows], np.uint64),
    )


def batch(messages: Sequence[bytes], context: Sequence[int] | None = None) -> Updates:
    length = np.array([len(data) for data in messages], np.int64)
    offset = np.cumsum(length) - length
    return Updates(
        buf=np.frombuffer(b"".join(messages), np.uint8).copy(),
        offset=offset,
        length=length,
        context=np.array(context or [0] * len(messages), np.int64),
        time_ns=np.arange(len(messages), dtype=np.int64),
    )


def rows_of(parsed: Parsed, buf: bytes) -> list[tuple[object, ...]]:
    """(message, key as of the twin, attribute set id) of all events."""
    ev = parsed.events
    rows: list[tuple[object, ...]] = []
    for m in range(len(ev)):
        start, size = int(ev.nlri_offset[m]), int(ev.nlri_length[m])
        key = (
            int(ev.family[m]), int(ev.rd[m]), int(ev.path_id[m]), int(ev.hi[m]), int(ev.lo[m]),
            int(ev.plen[m]), int(ev.labels[m]), int(ev.action[m]), buf[start : start + size],
        )  # fmt: skip
        rows.append((int(ev.message[m]), key, int(ev.attributes[m])))
    return rows


numbers = st.one_of(st.sampled_from([0, 1, 23456, 64512]), st.integers(0, 0xFFFF))
wide = st.one_of(numbers, st.integers(0, 0xFFFFFFFF))
octets4 = st.binary(min_size=4, max_size=4)


@cache
def _paths(*, four: bool) -> st.SearchStrategy[list[tuple[int, list[int]]]]:
    number = wide if four else numbers
    segment = st.tuples(st.integers(1, 4), st.lists(number, min_size=1, max_size=4))
    return st.lists(segment, max_size=4)


@cache
def _attributes(*, four: bool) -> st.SearchStrategy[bytes]:
    """One attribute other than NEXT_HOP and MP_…, mostly well-formed."""
    sized = st.binary(max_size=24)
    return st.one_of(
        st.builds(e.origin, st.integers(0, 3)),
        _paths(four=four).map(lambda path: e.as_path_segments(path, four=four)),
        st.builds(e.med, wide),
        st.builds(e.local_pref, wide),
        st.just(e.atomic_aggregate()),
        st.builds(e.aggregator, numbers, st.just("192.0.2.9"), four=st.booleans()),
        st.lists(st.tuples(numbers, numbers), max_size=3).map(lambda c: e.communities(*c)),
        octets4.map(lambda value: e.attribute(9, value, e.OPTIONAL)),
        sized.map(lambda value: e.attribute(10, value, e.OPTIONAL)),
        st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(
            lambda c: e.extended_communities(*c)
        ),
        st.lists(st.tuples(wide, wide, wide), max_size=2).map(lambda c: e.large_communities(*c)),
        _paths(four=True).map(e.as4_path),
        st.builds(e.as4_aggregator, wide, st.just("192.0.2.9")),
        st.builds(e.aigp, wide),
        st.builds(e.only_to_customer, wide),
        st.builds(
            e.attribute,
            st.sampled_from([11, 22, 23, 25, 26, 29, 40, 99, 128, 255]),
            sized,
            st.sampled_from([0x80, 0x90, 0xC0, 0xE0, 0xD0, 0x40]),
        ),
        st.builds(e.attribute, st.sampled_from([40, 26]), st.just(b"\1\0\4abcd"), st.just(0xC0)),
    )


@cache
def _nlri(family: int) -> st.SearchStrategy[bytes]:
    """One NLRI of a family without path identifier."""
    row = FAMILIES[family]
    if row.shape == Shape.EVPN:
        return st.builds(e.evpn, st.integers(0, 12), st.binary(max_size=40))
    if row.shape in {Shape.FLOWSPEC, Shape.FLOWSPEC_VPN}:
        return st.binary(max_size=300).map(e.flowspec)
    if row.shape in {Shape.LINK_STATE, Shape.LINK_STATE_VPN}:
        return st.builds(e.link_state, st.integers(0, 6), st.binary(max_size=40))
    if row.shape == Shape.TARGET:
        return st.one_of(st.just(b""), st.binary(min_size=4, max_size=12)).map(e.route_target)
    host = st.binary(min_size=row.address_octets, max_size=row.address_octets)
    bits = st.integers(0, 8 * row.address_octets + (row.shape == Shape.PREFIX))
    stack = st.one_of(
        st.lists(st.integers(0, 0xFFFFF), min_size=1, max_size=5).map(e.label_stack),
        st.sampled_from([e.WITHDRAWN_LABEL, b"\0\0\0", b"\x12\x34\x50"]),
    )
    rd = st.binary(min_size=8, max_size=8)

    def build(host: bytes, bits: int, stack: bytes, rd: bytes) -> bytes:
        front = b"" if row.shape == Shape.PREFIX else stack
        front += rd if row.shape == Shape.VPN else b""
        total = min(bits + 8 * len(front), 255)
        return bytes([total]) + (front + host)[: (total + 7) // 8]

    return st.builds(build, host, bits, stack, rd)


@st.composite
def _fields(draw: st.DrawFn, family: int, *, paths: bool) -> bytes:
    items = draw(st.lists(_nlri(family), max_size=4))
    return b"".join((draw(octets4) if paths else b"") + item for item in items)


@st.composite
def _multiprotocol(draw: st.DrawFn, paths: int) -> bytes:
    family = draw(st.sampled_from(FAMILIES))
    afi, safi = family.afi, family.safi
    nlri = draw(_fields(family.index, paths=bool(paths >> family.index & 1)))
    if draw(st.integers(0, 9)) == 0:
        safi = 200
    if draw(st.booleans()):
        return e.mp_unreach(afi, safi, nlri)
    size = draw(st.sampled_from([0, 4, 12, 16, 16, 24, 32, 48, 5]))
    return e.mp_reach(afi, safi, draw(st.binary(min_size=size, max_size=size)), nlri)


@st.composite
def messages(draw: st.DrawFn, *, four: bool, paths: int) -> bytes:
    """A message with attributes in any order, some wrong, and at times some octets changed."""
    parts = draw(st.lists(_attributes(four=four), max_size=5))
    if draw(st.integers(0, 3)) > 0:
        parts += [e.origin(), e.as_path(65001, four=four), e.next_hop("192.0.2.1")]
    parts += draw(st.lists(_multiprotocol(paths), max_size=2))
    parts = draw(st.permutations(parts)) if draw(st.booleans()) else parts
    withdrawn, nlri = draw(_fields(0, paths=paths & 1 > 0)), draw(_fields(0, paths=paths & 1 > 0))
    if draw(st.integers(0, 9)) == 0:
        parts, withdrawn, nlri = [], b"", b""
    data = bytearray(e.update(withdrawn, b"".join(parts), nlri))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 5]))):
        data[draw(st.integers(19, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)
