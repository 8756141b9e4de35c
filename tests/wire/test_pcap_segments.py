from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowray.wire import pcap
from flowray.wire.packets import Exporters, PacketBatch, address_text
from flowray.wire.pcap import CaptureReader, CaptureReport, merge_captures
from flowray.wire.segments import FIN, SYN, Batch, SegmentBatch
from tests.wire import pcap_twin as twin
from tests.wire.pcap_twin import Datagram, Record, Section, Segment

T0 = 1_700_000_000 * 10**9
ACK = 0x10
TCP_PORTS = frozenset({179, 1790})
UDP_PORTS = frozenset({2055, 6343})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segments") / "capture"


def rows_of(part: Batch, exporters: Exporters) -> Iterator[tuple[Datagram | Segment, int]]:
    """Each entry (never told as truncated) and its time."""
    for i in range(len(part)):
        time_ns = int(part.arrival[i])
        if isinstance(part, SegmentBatch):
            src = address_text(int(part.source_hi[i]), int(part.source_lo[i]))
            ports = int(part.source_port[i]), int(part.port[i])
            sequence, flags = int(part.sequence[i]), int(part.flags[i])
            yield Segment(part.payload(i), src, *ports, sequence, flags, truncated=False), time_ns
        else:
            assert part.port is not None
            src = exporters.address(int(part.exporter[i]))
            yield Datagram(part.payload(i), src, int(part.port[i]), truncated=False), time_ns


def read(
    path: Path, batch: int = 65536, tcp_ports: frozenset[int] = TCP_PORTS
) -> tuple[list[tuple[Datagram | Segment, int]], CaptureReport]:
    exporters = Exporters()
    reader = CaptureReader(path, exporters, UDP_PORTS, batch, tcp_ports=tcp_ports)
    rows = []
    for part in reader:
        assert len(part) > 0
        rows += rows_of(part, exporters)
    r = reader.report
    counted = r.datagrams + r.segments + r.acknowledgements + r.not_udp + r.other_port
    assert r.packets + r.reassembled == counted + r.fragments + r.malformed + r.unknown_link
    assert r.datagrams + r.segments == len(rows)
    assert r.bytes == sum(len(row.payload) for row, _ in rows)
    return rows, r


def segment(payload: bytes, sequence: int = 1, flags: int = ACK, port: int = 179) -> bytes:
    return twin.ipv4(twin.tcp(payload, port, sequence=sequence, flags=flags), protocol=6)


def datagram(payload: bytes) -> bytes:
    return twin.ipv4(twin.udp(payload))


# ------------------------------------------------------------------------------------- frames
@st.composite
def packets(draw: st.DrawFn) -> bytes:
    payload = draw(st.binary(max_size=30))
    protocol = draw(st.sampled_from([6, 6, 6, 17]))
    if protocol == 6:
        body = twin.tcp(
            payload,
            draw(st.sampled_from([179, 1790, 80])),
            source_port=draw(st.integers(0, 65535)),
            sequence=draw(st.integers(0, 2**32 - 1)),
            flags=draw(st.sampled_from([ACK, ACK, SYN, ACK | FIN, 0x04, 0xFF])),
            options=bytes(4 * draw(st.sampled_from([0, 0, 1, 10]))),
            words=draw(st.sampled_from([None] * 6 + [0, 4, 15])),
        )
    else:
        body = twin.udp(payload)
    total = draw(st.sampled_from([None] * 6 + [0, 10, 24, 39, 40, 44, 50, 65535]))
    if draw(st.booleans()):
        src = str(ipaddress.IPv4Address(draw(st.integers(1, 2**32 - 1))))
        options = bytes(4 * draw(st.sampled_from([0, 0, 3])))
        piece = draw(st.sampled_from([0] * 6 + [0x4000, 0x2000]))
        return twin.ipv4(body, src, options=options, protocol=protocol, piece=piece, total=total)
    src = str(ipaddress.IPv6Address(draw(st.integers(1, 2**128 - 1))))
    chain = tuple(draw(st.lists(st.sampled_from([0, 44, 60]), max_size=2)))
    return twin.ipv6(body, src, chain=chain, total=total, protocol=protocol)


@st.composite
def frames(draw: st.DrawFn, link: int) -> Record:
    data = twin.frame(draw(packets()), link) + bytes(draw(st.sampled_from([0, 0, 5])))
    wire = len(data)
    if draw(st.sampled_from([False, False, True])):
        data = data[: draw(st.integers(0, len(data)))]
        wire = draw(st.sampled_from([wire, len(data)]))
    return Record(data, draw(st.integers(T0, T0 + 10**6)), wire)


CAPTURES = st.sampled_from([twin.ETHERNET, twin.RAW, twin.SLL2]).flatmap(
    lambda link: st.tuples(st.just(link), st.lists(frames(link), max_size=12))
)


@given(CAPTURES, st.booleans(), st.booleans(), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_frames_are_dissected_like_the_twin_does(
    place: Path, capture: tuple[int, list[Record]], next_generation: bool, wanted: bool, batch: int
) -> None:
    link, records = capture
    tcp_ports = TCP_PORTS if wanted else frozenset[int]()
    if next_generation:
        section = Section().interface(link, (9, b"\x09"))
        for one in records:
            head = (0, one.time_ns >> 32, one.time_ns & 0xFFFFFFFF, len(one.data), one.wire or 0)
            section.block(6, section.pack("IIIII", *head) + one.data)
        place.write_bytes(section.out)
    else:
        place.write_bytes(twin.pcap(records, link))
    counts = dict.fromkeys(("not_udp", "fragments", "malformed", "acknowledgements"), 0)
    expected, clock, truncated = [], 0, 0
    for one in records:
        clock = max(clock, one.time_ns)
        found = twin.parse(one.data, link, max(one.wire or 0, len(one.data)), tcp_ports)
        if isinstance(found, str):
            counts[found] += 1
        else:
            truncated += found.truncated
            whole = type(found)(**{**vars(found), "truncated": False})
            expected.append((whole, clock))
    rows, report = read(place, batch, tcp_ports)
    assert rows == expected
    assert {name: getattr(report, name) for name in counts} == counts
    assert report.truncated == truncated
    assert wanted or report.segments == report.acknowledgements == 0


# ------------------------------------------------------------------------------------- batches
@pytest.mark.parametrize("batch", [2, 1000])
@pytest.mark.parametrize("listed", [2, 3, 1000])
def test_batches_end_where_the_kind_changes(
    place: Path, monkeypatch: pytest.MonkeyPatch, batch: int, listed: int
) -> None:
    monkeypatch.setattr(pcap, "_LISTED_ROWS", listed)
    kinds = "ssuuusuussssssu"
    made = [segment(b"x", n) if k == "s" else datagram(b"x") for n, k in enumerate(kinds)]
    place.write_bytes(twin.pcap([Record(p, T0) for p in made], twin.RAW))
    parts = list(CaptureReader(place, Exporters(), None, batch, tcp_ports=TCP_PORTS))
    assert "".join("su"[isinstance(p, PacketBatch)] * len(p) for p in parts) == kinds
    if batch == 1000:
        assert [len(p) for p in parts] == [2, 3, 1, 2, 6, 1]
    else:
        assert max(map(len, parts)) <= max(batch, listed)


def test_what_has_neither_payload_nor_news_is_counted(place: Path) -> None:
    flags = [SYN, ACK, 0x18, ACK | FIN, 0x04]
    made = [segment(b"", n, f) for n, f in enumerate(flags)]
    place.write_bytes(twin.pcap([Record(p, T0) for p in made], twin.RAW))
    rows, report = read(place)
    assert [row.sequence for row, _ in rows if isinstance(row, Segment)] == [0, 3, 4]
    assert (report.segments, report.acknowledgements) == (3, 2)


def test_padding_is_no_payload(place: Path) -> None:
    data = twin.frame(segment(b"ab"), twin.ETHERNET) + bytes(4)
    place.write_bytes(twin.pcap([Record(data, T0)]))
    assert [row.payload for row, _ in read(place)[0]] == [b"ab"]


def test_captures_of_udp_alone_do_not_know_tcp(place: Path) -> None:
    place.write_bytes(twin.pcap([Record(segment(b"x"), T0)], twin.RAW))
    reader = CaptureReader(place, Exporters())
    assert list(reader) == []
    assert reader.report.not_udp == 1


def test_tcp_ports_are_checked(place: Path) -> None:
    place.write_bytes(twin.pcap([]))
    with pytest.raises(ValueError, match="port: found 70000"):
        CaptureReader(place, Exporters(), tcp_ports=frozenset({70000}))


# ------------------------------------------------------------------------------------- fragments
@given(st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_fragments_are_joined(place: Path, rng: random.Random, batch: int) -> None:
    records, expected = [], []
    for ident in range(6):
        payload = rng.randbytes(rng.randrange(20, 60))
        # The identification tells the packets of one protocol apart: both may have the same.
        tcp = ident % 3 > 0
        body = twin.tcp(payload, sequence=ident) if tcp else twin.udp(payload)
        cut = rng.randrange(8, len(body), 8)
        if ident % 2:
            first = twin.ipv6_fragment(6 if tcp else 17, 0, True, ident, body[:cut])
            last = twin.ipv6_fragment(6 if tcp else 17, cut, False, ident, body[cut:])
            pieces = [twin.ipv6_packet(p, "2001:db8::9", 44) for p in (first, last)]
        else:
            protocol = 6 if tcp else 17
            pieces = [
                twin.ipv4(body[:cut], piece=0x2000, ident=1, protocol=protocol),
                twin.ipv4(body[cut:], piece=cut // 8, ident=1, protocol=protocol),
            ]
        rng.shuffle(pieces)
        records += [(ident, p) for p in pieces]
        expected.append(payload)
        for plain in (segment(b"plain"), datagram(b"plain")):
            if rng.random() < 0.5:
                records.append((ident, plain))
                expected.append(b"plain")
    place.write_bytes(twin.pcap([Record(p, T0 + at) for at, p in records], twin.RAW))
    rows, report = read(place, batch)
    assert [row.payload for row, _ in rows] == expected
    assert [t for _, t in rows] == sorted(t for _, t in rows)
    assert (report.reassembled, report.fragments, report.fragments_unused) == (6, 12, 0)


def test_fragments_of_two_protocols_are_not_mixed(place: Path) -> None:
    tcp, udp = twin.tcp(bytes(range(30))), twin.udp(bytes(range(50, 80)))
    made = [
        twin.ipv4(tcp[:8], piece=0x2000, protocol=6),
        twin.ipv4(udp[:8], piece=0x2000),
        twin.ipv4(tcp[8:], piece=1, protocol=6),
        twin.ipv4(udp[8:], piece=1),
    ]
    place.write_bytes(twin.pcap([Record(p, T0) for p in made], twin.RAW))
    rows, _ = read(place)
    assert [row.payload for row, _ in rows] == [bytes(range(30)), bytes(range(50, 80))]


def test_an_acknowledgement_in_fragments(place: Path) -> None:
    body = twin.tcp(b"", options=bytes(12))
    made = [
        twin.ipv4(body[:16], piece=0x2000, protocol=6),
        twin.ipv4(body[16:], piece=2, protocol=6),
    ]
    place.write_bytes(twin.pcap([Record(p, T0) for p in made], twin.RAW))
    rows, report = read(place)
    assert rows == []
    assert (report.reassembled, report.acknowledgements) == (1, 1)


# ------------------------------------------------------------------------------------- merging
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12).map(
            lambda rows: sorted(rows, key=lambda row: row[0])
        ),
        max_size=4,
    ),
    st.integers(1, 5),
)
@settings(max_examples=200, deadline=None)
def test_captures_merge_by_time(
    place: Path, feeds: list[list[tuple[int, bool]]], batch: int
) -> None:
    exporters = Exporters()
    readers, expected = [], []
    for feed, times in enumerate(feeds):
        path = place.with_suffix(f".{feed}")
        rows = [(T0 + t, feed, at, f"{feed}.{at}".encode()) for at, (t, _) in enumerate(times)]
        expected += rows
        made = [
            Record(segment(row[3]) if tcp else datagram(row[3]), row[0])
            for row, (_, tcp) in zip(rows, times, strict=True)
        ]
        path.write_bytes(twin.pcap(made, twin.RAW))
        readers.append(CaptureReader(path, exporters, None, batch, tcp_ports=TCP_PORTS))
    parts = list(merge_captures(readers))
    found = [row for part in parts for row in rows_of(part, exporters)]
    assert [(t, row.payload) for row, t in found] == [(row[0], row[3]) for row in sorted(expected)]
    assert all(map(len, parts))
