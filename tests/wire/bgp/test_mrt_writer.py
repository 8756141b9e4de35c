"""MRT files written: what our reader and bgpdump find in them is what was given."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp import mrt_writer
from flowray.wire.bgp.events import Contexts, Updates
from flowray.wire.bgp.families import FAMILIES, Family, Shape, family_index
from flowray.wire.bgp.mrt import MrtPeer, MrtReader, MrtStateChange, MrtUpdates
from flowray.wire.bgp.mrt_writer import MrtRoutes, MrtWriter
from flowray.wire.packets import address_words
from tests.conformance.bgpdump import lines, printed
from tests.wire.bgp import mrt_records as mrt
from tests.wire.bgp.mrt_records import NS, ORIGIN, SECONDS, V4, V6, Route

TIME = SECONDS * NS + 123_456_000
NEAR = address_words("192.0.2.9")
FIRST = MrtPeer(*address_words("192.0.2.1"), 65001, 0, *NEAR, 65009)
SECOND = MrtPeer(*address_words("2001:db8::1"), 4200000001, 0, 0, 0, 65009)
PEERS = [FIRST, SECOND]

V4_UNICAST, V6_UNICAST = np.uint64(1), np.uint64(2)
SENDERS = Contexts(
    four_octets=np.array([False, True, False, True]),
    add_path=np.array([0, 0, V4_UNICAST, V4_UNICAST | V6_UNICAST], np.uint64),
)


def updates(rows: Sequence[tuple[bytes, int]], time_ns: int = TIME) -> Updates:
    """Messages with their contexts."""
    length = np.array([len(raw) for raw, _ in rows], np.int64)
    return Updates(
        np.frombuffer(bytearray(b"".join(raw for raw, _ in rows)), np.uint8),
        np.cumsum(length) - length,
        length,
        np.array([context for _, context in rows], np.int64),
        np.full(len(rows), time_ns, np.int64),
    )


def messages_of(path: Path) -> list[tuple[bytes, MrtPeer, int, int]]:
    """(message, peer, context, time) of all UPDATEs; nothing may be wrong."""
    with MrtReader(path) as reader:
        found = [
            (e.updates.buf[at : at + n].tobytes(), reader.peers[p], context, time_ns)
            for e in reader
            if isinstance(e, MrtUpdates)
            for at, n, p, context, time_ns in zip(
                e.updates.offset,
                e.updates.length,
                e.peer,
                e.updates.context.tolist(),
                e.updates.time_ns.tolist(),
                strict=True,
            )
        ]
    report = reader.report
    assert (report.malformed, report.damaged, report.cut_off, report.unsupported) == (0, 0, 0, 0)
    return found


ATTRIBUTES = ORIGIN + mrt.path(65001) + mrt.next_hop("192.0.2.1")
NLRI = mrt.prefix("198.51.100.0/24")
CLASSIC = mrt.update(ATTRIBUTES, NLRI)
WITHDRAWAL = mrt.update(withdrawn=NLRI)
SIX = mrt.update(mrt.full_reach(2, 1, bytes(16), mrt.prefix("2001:db8::/32")) + ORIGIN)
GONE_SIX = mrt.update(mrt.attribute(15, b"\0\2\1", 0x80, wide=True))
VPN = mrt.update(ORIGIN + mrt.full_reach(1, 128, bytes(12)))
END_OF_RIB = mrt.update()
OPEN = mrt.message(bytes(10), 1)


def test_messages(tmp_path: Path) -> None:
    path = tmp_path / "updates.mrt"
    rows = [(CLASSIC, 1), (CLASSIC, 0), (SIX, 1), (OPEN, 1), (CLASSIC, 1)]
    peer = np.array([0, 0, 1, 0, 1])
    with MrtWriter(path) as writer:
        writer.write_messages(updates(rows), SENDERS, PEERS, peer)
        writer.write_state_change(MrtStateChange(TIME, 0, 6, 1), SECOND)
        assert not path.exists()
    assert messages_of(path) == [
        (CLASSIC, FIRST, 1, TIME),
        (CLASSIC, FIRST, 0, TIME),
        (SIX, SECOND, 1, TIME),
        (CLASSIC, SECOND, 1, TIME),
    ]
    with MrtReader(path) as reader:
        *_, last = reader
    assert isinstance(last, MrtStateChange)
    assert (last.time_ns, reader.peers[last.peer], last.old, last.new) == (TIME, SECOND, 6, 1)
    assert reader.report.other_messages == 1


@pytest.mark.parametrize(
    ("context", "raw", "path_ids"),
    [
        (0, CLASSIC, False),
        (2, CLASSIC, True),
        (2, WITHDRAWAL, True),
        (2, SIX, False),
        (2, GONE_SIX, False),
        (2, END_OF_RIB, False),
        (3, SIX, True),
        (3, GONE_SIX, True),
        (3, VPN, False),
        (3, OPEN, False),
        (3, CLASSIC[:19] + b"\xff" + CLASSIC[20:], False),
        (3, CLASSIC[:21] + b"\xff" + CLASSIC[22:], False),
        (3, mrt.message(b"\0\0\0"), False),
        (3, mrt.update(b"\x90\x0e\xff\xff"), False),
        (3, mrt.update(b"\x90\x0e\xff"), False),
        (3, mrt.update(b"\x80\x0e\2\0\2"), False),
    ],
)
def test_path_identifiers_by_what_a_message_holds(
    tmp_path: Path, context: int, raw: bytes, path_ids: bool
) -> None:
    path = tmp_path / "one"
    with MrtWriter(path) as writer:
        writer.write_messages(updates([(raw, context)]), SENDERS, PEERS, np.array([0]))
    subtype = int.from_bytes(path.read_bytes()[6:8], "big")
    four = bool(SENDERS.four_octets[context])
    assert subtype == {(0, 0): 1, (1, 0): 4, (0, 1): 8, (1, 1): 9}[four, path_ids]


def test_as_trans(tmp_path: Path) -> None:
    path = tmp_path / "old"
    with MrtWriter(path) as writer:
        writer.write_messages(updates([(CLASSIC, 0)]), SENDERS, PEERS, np.array([1]))
    ((_, peer, context, _),) = messages_of(path)
    assert (peer.asn, context) == (23456, 0)


# -- tables


@dataclass
class Sets:
    """Attribute sets as the writer sees them."""

    values: list[bytes] = field(default_factory=lambda: [b""])

    def add(self, hop: bytes, attributes: bytes, *, four: bool = True) -> int:
        self.values.append(bytes([four, len(hop)]) + hop + attributes)
        return len(self.values) - 1

    @property
    def arena(self) -> np.ndarray:
        return np.frombuffer(bytearray(b"".join(self.values)), np.uint8)

    @property
    def offset(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.values)])


Row = tuple[int, str, int, int, int, int]
"""Peer, prefix, attribute id, path identifier, route distinguisher, labels."""


def routes_of(rows: Sequence[Row]) -> MrtRoutes:
    words = [address_words(text.partition("/")[0]) for _, text, *_ in rows]
    return MrtRoutes(
        peer=np.array([r[0] for r in rows], np.int64),
        rd=np.array([r[4] for r in rows], np.uint64),
        path_id=np.array([r[3] for r in rows], np.uint32),
        hi=np.array([hi for hi, _ in words], np.uint64),
        lo=np.array([lo for _, lo in words], np.uint64),
        plen=np.array([int(r[1].partition("/")[2]) for r in rows], np.uint8),
        labels=np.array([r[5] for r in rows], np.uint64),
        attributes=np.array([r[2] for r in rows], np.uint32),
    )


HOP4, HOP6 = ip_address("192.0.2.1").packed, ip_address("2001:db8::1").packed
PATH = mrt.path(65001)
MED = mrt.attribute(4, b"\0\0\0\7", 0x80)


def write(path: Path, rows: Sequence[Row], sets: Sets, afi: int = 1, safi: int = 1) -> None:
    family = FAMILIES[family_index(afi, safi)]
    with MrtWriter(path) as writer:
        writer.write_peers(TIME, 0x0A0000FE, [V4, V6])
        writer.write_routes(TIME, family, routes_of(rows), sets)
        assert writer.too_long == 0


def test_routes_of_a_prefix_share_a_record(tmp_path: Path) -> None:
    sets = Sets()
    one, two = sets.add(HOP4, ORIGIN + PATH + MED), sets.add(HOP4, ORIGIN + PATH)
    path = tmp_path / "rib"
    ten, more = "10.0.0.0/8", "10.0.0.0/16"
    rows = [(1, more, one, 0, 0, 0), (0, ten, two, 0, 0, 0), (1, ten, one, 0, 0, 0)]
    write(path, rows, sets)
    hop = mrt.next_hop("192.0.2.1")
    whole, half = ORIGIN + PATH + hop + MED, ORIGIN + PATH + hop
    assert messages_of(path) == [
        (mrt.update(half, mrt.prefix(ten)), V4, 1, SECONDS * NS),
        (mrt.update(whole, mrt.prefix(ten)), V6, 1, SECONDS * NS),
        (mrt.update(whole, mrt.prefix(more)), V6, 1, SECONDS * NS),
    ]
    with MrtReader(path) as reader:
        assert len(list(reader)) == 1
    assert reader.report.records == 3
    # Sequence numbers count the records of routes.
    raw = path.read_bytes()
    first = 12 + int.from_bytes(raw[8:12], "big")
    second = first + 12 + int.from_bytes(raw[first + 8 : first + 12], "big")
    assert struct.unpack_from(">I", raw, first + 12) == (0,)
    assert struct.unpack_from(">I", raw, second + 12) == (1,)


def found(path: Path) -> list[Route]:
    return [mrt.route_of(row[0]) for row in messages_of(path)]


@pytest.mark.parametrize(
    ("afi", "safi", "text", "hop"),
    [
        (1, 1, "10.1.2.128/25", HOP4),
        (1, 1, "0.0.0.0/0", HOP6),  # RFC 8950
        (2, 1, "2001:db8::1/128", HOP6),
        (2, 1, "::/0", HOP6 + HOP6),
        (1, 2, "10.0.0.0/8", HOP4),
        (2, 2, "2001:db8::/33", HOP6),
    ],
)
def test_families_of_prefixes(tmp_path: Path, afi: int, safi: int, text: str, hop: bytes) -> None:
    sets = Sets()
    rows = [(0, text, sets.add(hop, ORIGIN + PATH), path_id, 0, 0) for path_id in (0, 7)]
    write(tmp_path / "rib", rows, sets, afi, safi)
    route = Route(afi, safi, mrt.prefix(text), hop, (ORIGIN, PATH))
    with_id = Route(afi, safi, struct.pack(">I", 7) + mrt.prefix(text), hop, route.attributes)
    assert found(tmp_path / "rib") == [route, with_id]


def test_labels_and_route_distinguishers(tmp_path: Path) -> None:
    sets = Sets()
    labels = 2 << 60 | 100 | 0xFFFFF << 20
    stack = (100 << 4).to_bytes(3, "big") + (0xFFFFF << 4 | 1).to_bytes(3, "big")
    rd = 0x0000FDE800000001
    both = HOP6 + HOP6
    row = [(0, "10.1.0.0/16", sets.add(HOP4, ORIGIN), 0, rd, labels)]
    write(tmp_path / "vpn", row, sets, 1, 128)
    nlri = bytes([48 + 64 + 16]) + stack + rd.to_bytes(8, "big") + b"\x0a\1"
    assert found(tmp_path / "vpn") == [Route(1, 128, nlri, bytes(8) + HOP4, (ORIGIN,))]
    row = [(0, "2001:db8::/32", sets.add(both, ORIGIN), 9, rd, labels)]
    write(tmp_path / "vpn6", row, sets, 2, 128)
    nlri = b"\0\0\0\x09" + bytes([48 + 64 + 32]) + stack + rd.to_bytes(8, "big") + HOP6[:4]
    twice = bytes(8) + HOP6 + bytes(8) + HOP6
    assert found(tmp_path / "vpn6") == [Route(2, 128, nlri, twice, (ORIGIN,))]
    row = [(0, "10.1.0.0/16", sets.add(HOP4, ORIGIN), 0, 0, labels)]
    write(tmp_path / "labeled", row, sets, 1, 4)
    nlri = bytes([48 + 16]) + stack + b"\x0a\1"
    assert found(tmp_path / "labeled") == [Route(1, 4, nlri, HOP4, (ORIGIN,))]


@pytest.mark.parametrize("family", [f for f in FAMILIES if not f.of_prefixes], ids=lambda f: f.name)
def test_other_families(tmp_path: Path, family: Family) -> None:
    nlri = {
        Shape.EVPN: b"\3\2ab",
        Shape.FLOWSPEC: b"\3\1\x08\x0a",
        Shape.FLOWSPEC_VPN: b"\xf0\x0b" + bytes(11),
        Shape.LINK_STATE: b"\0\1\0\2ab",
        Shape.LINK_STATE_VPN: b"\0\1\0\2ab",
        Shape.TARGET: b"\x60" + bytes(12),
    }[family.shape]
    sets = Sets()
    opaque = (0, "::/0", sets.add(HOP4, ORIGIN), 0, 0, 0)
    routes = routes_of([opaque, (1, "::/0", 1, 3, 0, 0)])
    routes = MrtRoutes(*(getattr(routes, n) for n in MrtRoutes.__slots__[:-1]), [nlri, nlri])
    with MrtWriter(tmp_path / "rib") as writer:
        writer.write_peers(TIME, 0, [V4, V6])
        writer.write_routes(TIME, family, routes, sets)
    one = Route(family.afi, family.safi, nlri, HOP4, (ORIGIN,))
    two = Route(family.afi, family.safi, b"\0\0\0\3" + nlri, HOP4, (ORIGIN,))
    assert found(tmp_path / "rib") == [one, two]


def test_as_numbers_of_two_octets_become_four(tmp_path: Path) -> None:
    segments = b"\2\2\xfd\xe9\x00\x01" + b"\1\1\x00\x02"
    old = ORIGIN + mrt.attribute(2, segments) + mrt.attribute(7, b"\xfd\xe9" + HOP4, 0xC0)
    sets = Sets()
    write(tmp_path / "rib", [(0, "10.0.0.0/8", sets.add(HOP4, old, four=False), 0, 0, 0)], sets)
    (route,) = found(tmp_path / "rib")
    wide = b"\2\2\0\0\xfd\xe9\0\0\0\x01" + b"\1\1\0\0\0\x02"
    assert route.attributes == (
        ORIGIN,
        mrt.attribute(2, wide, wide=True),
        mrt.attribute(7, b"\0\0\xfd\xe9" + HOP4, 0xC0, wide=True),
    )


def test_what_no_record_holds_is_left_out(tmp_path: Path) -> None:
    huge = mrt.attribute(8, bytes(40_000), 0xC0)
    sets = Sets()
    big, small = sets.add(HOP4, huge + huge), sets.add(HOP4, ORIGIN + huge)
    routes = routes_of([(0, f"10.0.{i}.0/24", big if i % 2 else small, 0, 0, 0) for i in range(90)])
    with MrtWriter(tmp_path / "rib") as writer:
        writer.write_peers(TIME, 0, [V4])
        writer.write_routes(TIME, FAMILIES[0], routes, sets)
        assert writer.too_long == 45
    kept = [mrt.prefix(f"10.0.{i}.0/24") for i in range(0, 90, 2)]
    assert [r.nlri for r in found(tmp_path / "rib")] == kept


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "0.0.0.0/0"]),
            st.integers(1, 3),
            st.integers(0, 2),
        ),
        max_size=30,
    )
)
def test_no_route_is_lost(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[int, str, int, int]]
) -> None:
    sets = Sets()
    attributes = [(ORIGIN,), (ORIGIN, PATH), (PATH, MED)]
    for values in attributes:
        sets.add(HOP4, b"".join(values))
    path = tmp_path_factory.mktemp("rib") / "rib"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mrt_writer, "_TABLE_OCTETS", 600)  # room for one or two
        write(path, [(*row, 0, 0) for row in given], sets)
    peers = [V4, V6]
    got = [(peer, mrt.route_of(raw)) for raw, peer, _, _ in messages_of(path)]
    want = [
        (
            peers[peer],
            Route(
                1,
                1,
                (struct.pack(">I", path_id) if path_id else b"") + mrt.prefix(text),
                HOP4,
                attributes[index - 1],
            ),
        )
        for peer, text, index, path_id in given
    ]
    assert sorted(map(repr, got)) == sorted(map(repr, want))


def test_too_many_peers(tmp_path: Path) -> None:
    writer = MrtWriter(tmp_path / "rib")
    with pytest.raises(ValueError, match="found 65536, allowed 65535"):
        writer.write_peers(TIME, 0, [V4] * 65536)
    writer.discard()


# -- files


def test_packed(tmp_path: Path) -> None:
    path = tmp_path / "updates.gz"
    with MrtWriter(path, compress=True) as writer:
        writer.write_messages(updates([(CLASSIC, 1)] * 9), SENDERS, PEERS, np.zeros(9, np.int64))
    assert gzip.decompress(path.read_bytes()).count(CLASSIC) == 9
    assert len(messages_of(path)) == 9


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "updates"
    path.write_bytes(b"before")
    bad = updates([(CLASSIC, len(SENDERS.four_octets))])
    with pytest.raises(IndexError), MrtWriter(path) as writer:
        writer.write_messages(bad, SENDERS, PEERS, np.array([0]))
    assert [p.name for p in tmp_path.iterdir()] == ["updates"]
    assert path.read_bytes() == b"before"
    with MrtWriter(path):
        pass
    assert path.read_bytes() == b""


# -- bgpdump


@pytest.mark.peers
def test_bgpdump_reads_messages(tmp_path: Path, peer: Callable[[str], Path]) -> None:
    path = tmp_path / "updates.mrt"
    six = mrt.full_reach(2, 1, HOP6, mrt.prefix("2001:db8:f::/48"))
    rows = [
        (mrt.update(ATTRIBUTES + MED, NLRI + mrt.prefix("10.0.0.0/8"), NLRI), 1),
        (mrt.update(ORIGIN + mrt.path(65001, width=2) + mrt.next_hop("192.0.2.1"), NLRI), 0),
        (mrt.update(ORIGIN + PATH + six), 1),
    ]
    with MrtWriter(path) as writer:
        writer.write_messages(updates(rows), SENDERS, PEERS, np.array([0, 0, 1]))
        writer.write_state_change(MrtStateChange(TIME, 0, 6, 1), FIRST)
    theirs = printed(peer("bgpdump"), path)
    assert len(theirs) == 6
    # It tells the microseconds of BGP4MP_ET.
    assert [(line[0], line[1][:10], *line[2:]) for line in theirs] == [
        ("BGP4MP_ET", *line) for line in lines(MrtReader(path))
    ]


@pytest.mark.peers
def test_bgpdump_reads_tables(tmp_path: Path, peer: Callable[[str], Path]) -> None:
    sets = Sets()
    one, two = sets.add(HOP4, ORIGIN + PATH + MED), sets.add(HOP6, ORIGIN + PATH)
    path = tmp_path / "rib.mrt"
    v4 = [(i % 2, f"10.{i // 2}.0.0/16", one, 0, 0, 0) for i in range(400)]
    v6 = [(1, f"2001:db8:{i:x}::/48", two, 0, 0, 0) for i in range(100)]
    with MrtWriter(path) as writer:
        writer.write_peers(TIME, 1, [V4, V6])
        writer.write_routes(TIME, FAMILIES[0], routes_of(v4), sets)
        writer.write_routes(TIME, FAMILIES[1], routes_of(v6), sets)
    theirs = printed(peer("bgpdump"), path)
    assert len(theirs) == 500
    assert theirs == [("TABLE_DUMP2", *line) for line in lines(MrtReader(path))]
