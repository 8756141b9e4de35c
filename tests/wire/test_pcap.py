from __future__ import annotations

import contextlib
import dataclasses
import gzip
import ipaddress
import itertools
import os
import random
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowray.errors import CaptureError
from flowray.wire import capture_source, pcap
from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.pcap import CaptureReader, CaptureReport, PcapWriter, merge_captures, read_packets
from tests.wire import pcap_twin as twin
from tests.wire.pcap_twin import Record, Section

Row = tuple[bytes, str, int, int]  # payload, source, destination port, time

SECOND = 10**9
T0 = 1_700_000_000 * SECOND
MAGICS = [(big, nano) for big in (False, True) for nano in (False, True)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures") / "capture"


def read(
    path: Path, ports: frozenset[int] | None = None, batch: int = 65536
) -> tuple[list[Row], CaptureReport]:
    """[(payload, source, port, time)] of a capture, and its report."""
    exporters = Exporters()
    reader = CaptureReader(path, exporters, ports, batch)
    rows = []
    for part in reader:
        assert len(part) > 0
        assert (part.offset >= 0).all()
        assert (part.length >= 0).all()
        assert (part.offset + part.length <= len(part.buf)).all()
        rows += rows_of(part, exporters)
    times = [row[3] for row in rows]
    assert times == sorted(times)
    report = reader.report
    counted = report.datagrams + report.not_udp + report.other_port + report.fragments
    counted += report.malformed + report.unknown_link
    assert report.packets + report.reassembled == counted
    assert report.datagrams == len(rows)
    assert report.bytes == sum(len(row[0]) for row in rows)
    return rows, report


def rows_of(part: PacketBatch, exporters: Exporters) -> list[Row]:
    assert part.port is not None
    return [
        (part.payload(i), exporters.address(int(part.exporter[i])), int(part.port[i]),
         int(part.arrival[i]))
        for i in range(len(part))
    ]  # fmt: skip


def payloads(path: Path) -> list[bytes]:
    return [row[0] for row in read(path)[0]]


# ------------------------------------------------------------------------------------- frames
PIECES = st.sampled_from([0, 0, 0, 0, 0x4000, 0x2000, 0x0001])


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    port = draw(st.sampled_from([2055, 6343, 80]))
    size = draw(st.sampled_from([None] * 6 + [0, 7, 8, 9, 60000]))
    body = twin.udp(draw(st.binary(max_size=40)), port, size=size)
    total = draw(st.sampled_from([None] * 6 + [0, 10, 24, 30, 50, 65535]))
    if draw(st.booleans()):
        src = str(ipaddress.IPv4Address(draw(st.integers(1, 2**32 - 1))))
        options = bytes(4 * draw(st.sampled_from([0, 0, 0, 1, 3, 10])))
        protocol = draw(st.sampled_from([17, 17, 17, 17, 6]))
        piece = draw(PIECES)
        return twin.ipv4(
            body, src, options=options, protocol=protocol, piece=piece, total=total
        )  # fmt: skip
    src = str(ipaddress.IPv6Address(draw(st.integers(1, 2**128 - 1))))
    chain = tuple(draw(st.lists(st.sampled_from([0, 43, 44, 51, 60, 135, 50]), max_size=3)))
    return twin.ipv6(body, src, chain=chain, total=total)


@st.composite
def frames(draw: st.DrawFn, link: int) -> Record:
    vlans = tuple(draw(st.lists(st.sampled_from([0x8100, 0x88A8, 0x9100, 0x0806]), max_size=3)))
    data = twin.frame(draw(packets()), link, vlans) + bytes(draw(st.sampled_from([0, 0, 5])))
    wire = len(data)
    if draw(st.sampled_from([False, False, True])):
        data = data[: draw(st.integers(0, len(data)))]
        wire = draw(st.sampled_from([wire, len(data)]))
    if data and draw(st.sampled_from([False] * 4 + [True])):
        at = draw(st.integers(0, min(len(data) - 1, 70)))
        data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    return Record(data, draw(st.integers(T0, T0 + 10**6)), wire)


CAPTURES = st.sampled_from(twin.LINKS).flatmap(
    lambda link: st.tuples(st.just(link), st.lists(frames(link), max_size=12))
)


@given(CAPTURES, st.booleans(), st.booleans(), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_frames_are_dissected_like_the_twin_does(
    place: Path, capture: tuple[int, list[Record]], big: bool, next_generation: bool, batch: int
) -> None:
    link, records = capture
    if next_generation:
        section = Section(big=big).interface(link, (9, b"\x09"))
        for one in records:
            wire = one.wire or 0
            head = (0, one.time_ns >> 32, one.time_ns & 0xFFFFFFFF, len(one.data), wire)
            section.block(6, section.pack("IIIII", *head) + one.data)
        place.write_bytes(section.out)
    else:
        place.write_bytes(twin.pcap(records, link, big=big))
    counts = dict.fromkeys(["not_udp", "other_port", "fragments", "malformed", "truncated"], 0)
    expected = []
    clock = 0
    for one in records:
        clock = max(clock, one.time_ns)
        found = twin.parse(one.data, link, max(one.wire or 0, len(one.data)))
        if isinstance(found, str):
            counts[found] += 1
        elif found.port not in {2055, 6343}:
            counts["other_port"] += 1
        else:
            counts["truncated"] += found.truncated
            expected.append((found.payload, found.src, found.port, clock))
    rows, report = read(place, frozenset({2055, 6343}), batch)
    # A wrong port is told before a wrong length, of which the twin knows nothing.
    both = ("other_port", "malformed")
    assert rows == expected
    assert {k: getattr(report, k) for k in counts if k not in both} == {
        k: v for k, v in counts.items() if k not in both
    }
    assert report.other_port + report.malformed == counts["other_port"] + counts["malformed"]
    assert report.packets == len(records)
    assert not report.cut_off
    assert report.bytes_read == report.total_bytes == place.stat().st_size


# ------------------------------------------------------------------------------------- files
def sample(n: int = 5) -> list[Record]:
    return [
        Record(twin.frame(twin.ipv4(twin.udp(b"x" * i)), twin.ETHERNET), T0 + i * 1000)
        for i in range(n)
    ]


@pytest.mark.parametrize(("big", "nano"), MAGICS)
def test_all_magics(place: Path, big: bool, nano: bool) -> None:
    records = [dataclasses.replace(one, time_ns=one.time_ns + 7) for one in sample()]
    place.write_bytes(twin.pcap(records, big=big, nano=nano))
    rows, _ = read(place)
    assert [row[3] for row in rows] == [T0 + i * 1000 + 7 * nano for i in range(5)]
    assert [row[0] for row in rows] == [b"x" * i for i in range(5)]


@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
@pytest.mark.parametrize("next_generation", [False, True])
def test_gzip_of_several_members_in_chunks(
    place: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, next_generation: bool
) -> None:
    monkeypatch.setattr(capture_source, "_CHUNK", chunk)
    monkeypatch.setattr(capture_source, "_READ", max(chunk // 2, 2))
    if next_generation:
        section = Section().interface(1)
        for one in sample(40):
            section.enhanced(one.data, one.time_ns // 1000)
        whole = bytes(section.out)
    else:
        whole = twin.pcap(sample(40))
    place.write_bytes(gzip.compress(whole[:333]) + gzip.compress(whole[333:]) + bytes(512))
    rows, report = read(place)
    assert [row[0] for row in rows] == [b"x" * i for i in range(40)]
    assert not report.cut_off
    assert report.bytes_read <= report.total_bytes == place.stat().st_size


@pytest.mark.parametrize("cut", [1, 9, 30, 300])
def test_cut_off_gzip_gives_what_it_holds(place: Path, cut: int) -> None:
    noise = random.Random(4).randbytes(60_000)
    records = [
        Record(twin.frame(twin.ipv4(twin.udp(noise[i : i + 600])), 1), T0)
        for i in range(0, 60_000, 600)
    ]
    place.write_bytes(gzip.compress(twin.pcap(records))[:-cut])
    rows, report = read(place)
    assert report.cut_off
    assert "gzip" in report.fault
    assert len(rows) >= 98
    assert [row[0] for row in rows] == [noise[i * 600 :][:600] for i in range(len(rows))]


def test_damaged_gzip_is_reported(place: Path) -> None:
    place.write_bytes(gzip.compress(twin.pcap(sample())) + b"rubbish")
    rows, report = read(place)
    assert len(rows) == 5
    assert report.cut_off
    assert "damaged gzip data" in report.fault


def test_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    feeder = threading.Thread(target=lambda: path.write_bytes(twin.pcap(sample())))
    feeder.start()
    rows, report = read(path)
    feeder.join()
    assert len(rows) == 5
    assert report.total_bytes == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\xd4\xc3", "found a file that begins with d4 c3, allowed pcap or pcapng"),
        (b"GIF89a", "found a file that begins with 47 49 46 38"),
        (b"\x0a\x0d\x0d\x0a" + bytes(30), "found a file that begins with 0a 0d 0d 0a"),
        (twin.pcap([])[:23], "found 23 bytes, a pcap header has 24"),
        (twin.pcap([], 105), "found link type 105, allowed 0, 1, 9, 12"),
        (b"\x1f\x8b\x08", "cut-off gzip data"),
        (gzip.compress(b""), "the file is empty"),
        (gzip.compress(b"hello"), "found a file that begins with 68 65 6c 6c"),
    ],
)
def test_what_is_not_a_capture_is_refused(place: Path, content: bytes, message: str) -> None:
    place.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        read_packets(place, Exporters())
    assert str(caught.value).startswith(f"{place}: {message}")
    assert "\n" not in str(caught.value)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="none: No such file or directory"):
        CaptureReader(tmp_path / "none", Exporters())
    with pytest.raises(CaptureError, match="Is a directory"):
        CaptureReader(tmp_path, Exporters())


def test_arguments_are_checked(place: Path) -> None:
    place.write_bytes(twin.pcap([]))
    with pytest.raises(ValueError, match="port: found 65536"):
        CaptureReader(place, Exporters(), frozenset({65536}))
    with pytest.raises(ValueError, match="packets per batch: found 0"):
        CaptureReader(place, Exporters(), None, 0)


@pytest.mark.parametrize("next_generation", [False, True])
def test_every_cut_gives_the_records_before_it(place: Path, next_generation: bool) -> None:
    section = Section().interface(1)
    whole, ends, least = twin.pcap(sample(4)), [24], 24
    for one in sample(4):
        ends.append(ends[-1] + 16 + len(one.data))
    if next_generation:
        ends, least = [0, len(section.out) - 24, len(section.out)], 12
        ends = [28, len(section.out)]
        for one in sample(4):
            section.enhanced(one.data, one.time_ns // 1000)
            ends.append(len(section.out))
        whole = bytes(section.out)
    for cut in range(least, len(whole) + 1):
        place.write_bytes(whole[:cut])
        rows, report = read(place)
        assert len(rows) == max(sum(end <= cut for end in ends) - 1 - next_generation, 0)
        assert report.cut_off == (cut not in ends)
        assert bool(report.fault) == report.cut_off


def test_a_record_too_long_to_believe_ends_the_capture(place: Path) -> None:
    place.write_bytes(twin.pcap(sample(2)) + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30))
    rows, report = read(place)
    assert len(rows) == 2
    assert report.cut_off
    assert "damaged record" in report.fault


HEADS = [twin.pcap(sample(4)), bytes(Section().interface(1).enhanced(sample(4)[3].data, 5).out)]


@given(
    st.sampled_from([*HEADS, b"", HEADS[0][:24], HEADS[1][:28]]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.binary(max_size=120),
    st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_any_bytes_raise_nothing_but_capture_errors(
    place: Path, head: bytes, changes: list[tuple[int, int]], tail: bytes, packed: bool
) -> None:
    data = bytearray(head)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    data += tail
    place.write_bytes(gzip.compress(data) if packed else data)
    with contextlib.suppress(CaptureError):
        read(place)


def test_time_never_runs_backwards(place: Path) -> None:
    times = [5, 3, 9, 9, 1, 10]
    data = sample(1)[0].data
    place.write_bytes(twin.pcap([Record(data, T0 + t) for t in times]))
    rows, _ = read(place, batch=2)
    assert [row[3] - T0 for row in rows] == [5, 5, 9, 9, 9, 10]


def test_reading_twice_or_after_close_gives_nothing(place: Path) -> None:
    place.write_bytes(twin.pcap(sample()))
    with CaptureReader(place, Exporters(), None, 2) as reader:
        kept = next(iter(reader))
    assert list(reader) == []
    assert kept.payload(1) == b"x"


# ------------------------------------------------------------------------------------- pcapng
RESOLUTIONS = [  # if_tsresol, ticks, ns
    (6, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
    (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
    (0, 1_700_000_000, 1_700_000_000 * SECOND),
    (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
    (12, 17_000_000_123_456_789, 17_000_000_123_456),
    (0x7F, 2**64 - 1, 18),
    (0x80 | 10, (1_700_000_000 << 10) + 512, 1_700_000_000_500_000_000),
    (0x80 | 32, (1_700_000_000 << 32) + (1 << 30), 1_700_000_000_250_000_000),
    (0x80 | 40, (1_700_000 << 40) + (1 << 38), 1_700_000_250_000_000),
    (0x80 | 63, 1 << 62, SECOND // 2),
    (0x80 | 64, 1 << 63, SECOND // 2),
    (0xFF, 2**64 - 1, 0),
    (0, 2**64 - 1, 2**63 - 1),
    (0x80, 2**64 - 1, 2**63 - 1),
]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("resolution", "ticks", "time_ns"), RESOLUTIONS)
def test_resolutions(place: Path, big: bool, resolution: int, ticks: int, time_ns: int) -> None:
    data = sample(1)[0].data
    section = Section(big=big).interface(1, (9, bytes([resolution])))
    place.write_bytes(section.enhanced(data, ticks).out)
    assert read(place)[0][0][3] == time_ns


@pytest.mark.parametrize(
    ("offset", "expected"), [(100, 101 * SECOND), (-100, 0), (2**63 - 1, 2**62 + SECOND)]
)
def test_time_offset(place: Path, offset: int, expected: int) -> None:
    section = Section().interface(1, (14, struct.pack("<q", offset)), (9, b"\x00"))
    place.write_bytes(section.enhanced(sample(1)[0].data, 1).out)
    assert read(place)[0][0][3] == expected


def test_sections_interfaces_and_kinds_of_blocks(place: Path) -> None:
    one, two, three = (
        twin.ipv4(twin.udp(b"one")),
        twin.ipv6(twin.udp(b"two", 53)),
        twin.ipv4(twin.udp(b"three")),
    )
    big = Section(big=True).interface(1).interface(twin.RAW, (9, b"\x09")).interface(105)
    big.enhanced(twin.frame(one, 1, (0x8100,)), 10).block(0x0BAD, b"custom")
    big.obsolete(two, 20_000, 1).enhanced(three, 0, 2).enhanced(three, 0, 3)
    little = Section().block(5, b"statistics").interface(twin.RAW, snap=25)
    little.simple(three[:28], wire=31).block(6, b"short")
    place.write_bytes(big.out + little.out)
    rows, report = read(place, batch=2)
    assert rows == [
        (b"one", "192.0.2.1", 2055, 10_000),
        (b"two", "2001:db8::1", 53, 20_000),
    ]
    assert (report.unknown_link, report.malformed, report.packets) == (1, 3, 6)


def test_simple_packet_is_cut_by_the_snap_length(place: Path) -> None:
    packet = twin.ipv4(twin.udp(b"abcdef"))
    section = Section().interface(twin.RAW, snap=30)
    place.write_bytes(section.enhanced(packet, 7).simple(packet[:30], wire=len(packet)).out)
    rows, report = read(place)
    assert [(row[0], row[3]) for row in rows] == [(b"abcdef", 7000), (b"ab", 7000)]
    assert report.truncated == 1


@pytest.mark.parametrize("size", [0, 8, 13, 1 << 25])
def test_block_lengths_that_cannot_be(place: Path, size: int) -> None:
    section = Section().interface(1).enhanced(sample(1)[0].data, 1)
    place.write_bytes(bytes(section.out) + struct.pack("<III", 6, size, 0) + bytes(40))
    rows, report = read(place)
    assert len(rows) == 1
    assert "damaged record" in report.fault


# ------------------------------------------------------------------------------------- fragments
def split(draw_order: random.Random, packet_id: int, body: bytes, v6: bool) -> list[bytes]:
    """IP packets of a datagram cut at random places."""
    places = sorted(draw_order.sample(range(8, len(body), 8), k=min(3, (len(body) - 1) // 8)))
    edges = [0, *places, len(body)]
    out = []
    for start, stop in itertools.pairwise(edges):
        more = stop < len(body)
        if v6:
            inner = twin.ipv6_fragment(60, start, more, packet_id, body[start:stop])
            out.append(twin.ipv6_packet(inner, "2001:db8::9", 44))
        else:
            piece = start // 8 | more << 13
            out.append(twin.ipv4(body[start:stop], piece=piece, ident=packet_id))
    return out


@given(st.randoms(use_true_random=False), st.booleans(), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_fragments_are_joined(place: Path, rng: random.Random, shuffle: bool, batch: int) -> None:
    whole = [rng.randbytes(rng.randrange(20, 90)) for _ in range(4)]
    pieces = []
    for ident, payload in enumerate(whole):
        v6 = bool(ident & 1)
        body = twin.udp(payload, 2055 if ident < 3 else 99)
        if v6:  # a header of destination options, which only the first fragment holds
            body = bytes([17, 0]) + bytes(6) + body
        pieces.append([(ident, packet) for packet in split(rng, ident, body, v6)])
    flat = [packet for group in pieces for packet in group]
    if shuffle:
        rng.shuffle(flat)
    left = {ident: len(group) for ident, group in enumerate(pieces)}
    records, expected = [], []
    for at, (ident, packet) in enumerate(flat):
        records.append(Record(packet, T0 + at))
        left[ident] -= 1
        if left[ident] == 0 and ident < 3:
            expected.append((whole[ident], T0 + at))
        if rng.random() < 0.5:
            records.append(Record(twin.ipv4(twin.udp(b"plain")), T0 + at))
            expected.append((b"plain", T0 + at))
    place.write_bytes(twin.pcap(records, twin.RAW))
    rows, report = read(place, frozenset({2055}), batch)
    assert [(row[0], row[3]) for row in rows] == expected
    assert report.reassembled == 4
    assert report.fragments == len(flat)
    assert report.fragments_unused == 0


def test_many_fragments_in_one_chunk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "_LISTED_ROWS", 3)
    records = []
    for ident in range(20):
        body = twin.udp(bytes([ident]) * 30)
        records += [Record(p, T0) for p in split(random.Random(ident), ident, body, v6=False)]
        records.append(Record(twin.ipv4(twin.udp(b"plain")), T0))
    place.write_bytes(twin.pcap(records, twin.RAW))
    expected = [each for ident in range(20) for each in (bytes([ident]) * 30, b"plain")]
    assert payloads(place) == expected


def test_snapped_missing_and_late_fragments_are_unused(place: Path) -> None:
    first, second = twin.udp(b"x" * 16)[:16], twin.udp(b"x" * 16)[16:]

    def pair(ident: int, gap: int) -> list[Record]:
        return [
            Record(twin.ipv4(first, piece=0x2000, ident=ident), T0),
            Record(twin.ipv4(second, piece=2, ident=ident), T0 + gap),
        ]

    records = [*pair(1, 0), *pair(2, 0)[:1]]
    cut = twin.ipv4(second, piece=2, ident=2)
    records.append(Record(cut[:-1], T0, len(cut)))
    records += pair(3, 31 * SECOND)
    place.write_bytes(twin.pcap(records, twin.RAW))
    rows, report = read(place)
    assert len(rows) == 1
    assert (report.fragments, report.fragments_unused, report.reassembled) == (6, 4, 1)


# ------------------------------------------------------------------------------------- merging
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=12).map(sorted), max_size=4), st.integers(1, 5)
)
@settings(max_examples=200, deadline=None)
def test_captures_merge_by_time(place: Path, feeds: list[list[int]], batch: int) -> None:
    exporters = Exporters()
    readers = []
    expected = []
    for feed, times in enumerate(feeds):
        path = place.with_suffix(f".{feed}")
        rows = [(T0 + t, feed, at, f"{feed}.{at}".encode()) for at, t in enumerate(times)]
        expected += rows
        path.write_bytes(
            twin.pcap([Record(twin.ipv4(twin.udp(row[3])), row[0]) for row in rows], twin.RAW)
        )
        readers.append(CaptureReader(path, exporters, None, batch))
    found = [row for part in merge_captures(readers) for row in rows_of(part, exporters)]
    assert [(row[3], row[0]) for row in found] == [(row[0], row[3]) for row in sorted(expected)]


# ------------------------------------------------------------------------------------- writing
def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(
    st.lists(
        st.tuples(st.binary(max_size=30), st.booleans(), st.integers(0, 65535), st.integers(0, T0)),
        max_size=10,
    ),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_written_datagrams_come_back(
    place: Path, rows: list[tuple[bytes, bool, int, int]], nano: bool, ethernet: bool
) -> None:
    rows.sort(key=lambda row: row[3])
    with PcapWriter(place, nanoseconds=nano, ethernet=ethernet) as writer:
        writer.write_udp(
            ["2001:db8::5" if row[1] else "203.0.113.5" for row in rows],
            4739,
            ["2001:db8::6" if row[1] else "203.0.113.6" for row in rows],
            [row[2] for row in rows],
            [row[0] for row in rows],
            [row[3] for row in rows],
        )
    unit = 1 if nano else 1000
    found, report = read(place)
    assert found == [
        (data, "2001:db8::5" if v6 else "203.0.113.5", port, time_ns // unit * unit)
        for data, v6, port, time_ns in rows
    ]
    assert report.truncated == 0
    whole = place.read_bytes()
    at = 24
    for _, v6, _, _ in rows:
        size = struct.unpack("<I", whole[at + 8 : at + 12])[0]
        packet = whole[at + 16 + 14 * ethernet : at + 16 + size]
        head = 40 if v6 else 20
        assert v6 or checksum(packet[:20]) == 0xFFFF
        body = packet[head:]
        pseudo = packet[8 if v6 else 12 : head] + struct.pack(">IHH", len(body), 0, 17)
        assert checksum(pseudo + body) == 0xFFFF
        at += 16 + size


def test_written_frames_and_scalars(place: Path) -> None:
    with PcapWriter(place, ethernet=False) as writer:
        writer.write_frames([twin.ipv4(twin.udp(b"abc"))[:-1]], T0, [31])
        writer.write_udp("::1", 1, "::2", 2, [b"d", b"e"], np.array([T0, T0 + 1]))
        writer.write_udp("::1", 1, "::2", 2, [], T0)
    rows, report = read(place)
    assert rows == [
        (b"ab", "192.0.2.1", 2055, T0),
        (b"d", "::1", 2, T0),
        (b"e", "::1", 2, T0 + 1),
    ]
    assert report.truncated == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("::1", 1, "10.0.0.1", 2, [b""], 0), "found IPv4 and IPv6 in one packet"),
        ((["::1"], 1, "::1", 2, [b"", b""], 0), "src: found 1 addresses"),
        (("::1", 65536, "::1", 2, [b""], 0), "sport: found 65536"),
        (("::1", 1, "::1", [1, 2, 3], [b""], 0), "dport: found 3 numbers"),
        (("::1", 1, "::1", 2, [b""], -1), "times_ns: found -1"),
        (("::1", 1, "::1", 2, [bytes(65508)], 0), "payload: found 65508 bytes"),
        (("host", 1, "::1", 2, [b""], 0), "'host' does not appear to be"),
    ],
)
def test_what_cannot_be_written_is_refused(
    place: Path, arguments: tuple[Any, ...], message: str
) -> None:
    with PcapWriter(place) as writer, pytest.raises(ValueError, match=message):
        writer.write_udp(*arguments)
