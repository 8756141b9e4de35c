"""MRT files read: what is well-formed comes out whole, what is not costs itself alone."""

from __future__ import annotations

import bz2
import gzip
import os
import struct
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.errors import CaptureError
from flowray.wire import capture_source
from flowray.wire.bgp.mrt import MrtPeer, MrtReader, MrtReport, MrtStateChange, MrtUpdates
from flowray.wire.packets import address_words
from tests.wire.bgp import mrt_records as mrt
from tests.wire.bgp.mrt_records import NS, ORIGIN, SECONDS, V4, V6, Entry, Route

LOCAL = MrtPeer(*address_words("192.0.2.1"), 65001, 0, *address_words("192.0.2.9"), 65009)
SESSION = mrt.session(65001, 65009, "192.0.2.1", "192.0.2.9")
SMALL_SESSION = mrt.session(65001, 65009, "192.0.2.1", "192.0.2.9", four=False)
ATTRIBUTES = ORIGIN + mrt.path(65001) + mrt.next_hop("192.0.2.1")
UPDATE = mrt.update(ATTRIBUTES, mrt.prefix("198.51.100.0/24"))


class Read:
    """A file read to its end; raw messages with what stands beside them."""

    def __init__(self, path: Path) -> None:
        with MrtReader(path) as reader:
            self.events = list(reader)
            self.report = reader.report
            self.peers = reader.peers
        self.changes = [e for e in self.events if isinstance(e, MrtStateChange)]
        self.batches = [e for e in self.events if isinstance(e, MrtUpdates)]
        self.rows = [
            (
                batch.updates.buf[at : at + octets].tobytes(),
                self.peers[peer],
                context,
                time_ns,
                sent,
            )
            for batch in self.batches
            for at, octets, peer, context, time_ns, sent in zip(
                batch.updates.offset,
                batch.updates.length,
                batch.peer,
                batch.updates.context.tolist(),
                batch.updates.time_ns.tolist(),
                batch.sent.tolist(),
                strict=True,
            )
        ]

    @property
    def messages(self) -> list[bytes]:
        return [row[0] for row in self.rows]

    @property
    def routes(self) -> list[Route]:
        return [mrt.route_of(row[0]) for row in self.rows]


Reads = Callable[..., Read]


@pytest.fixture
def read(tmp_path: Path) -> Reads:
    def write_and_read(*records: bytes) -> Read:
        path = tmp_path / "file.mrt"
        path.write_bytes(b"".join(records))
        return Read(path)

    return write_and_read


def counts(report: MrtReport) -> dict[str, int]:
    """What was counted and is not 0."""
    names = MrtReport.__slots__
    found = {n: getattr(report, n) for n in names if n not in ("bytes_read", "total_bytes")}
    return {n: value for n, value in found.items() if value}


@pytest.mark.parametrize(
    ("subtype", "context", "sent"),
    [(1, 0, 0), (4, 1, 0), (6, 0, 1), (7, 1, 1), (8, 2, 0), (9, 3, 0), (10, 2, 1), (11, 3, 1)],
)
def test_message_subtypes(read: Reads, subtype: int, context: int, sent: int) -> None:
    head = SESSION if context & 1 else SMALL_SESSION
    got = read(mrt.record(16, subtype, head + UPDATE))
    assert got.rows == [(UPDATE, LOCAL, context, SECONDS * NS, sent)]
    assert counts(got.report) == {"records": 1, "updates": 1}


def test_microseconds(read: Reads) -> None:
    got = read(mrt.record(17, 4, struct.pack(">I", 250_001) + SESSION + UPDATE))
    assert got.rows == [(UPDATE, LOCAL, 1, SECONDS * NS + 250_001_000, 0)]


def test_peers_are_the_same_whatever_names_them(read: Reads) -> None:
    six = mrt.session(65001, 65009, "2001:db8::1", "2001:db8::9")
    got = read(
        mrt.record(16, 4, SESSION + UPDATE),
        mrt.record(16, 1, SMALL_SESSION + UPDATE),
        mrt.record(16, 4, six + UPDATE),
        mrt.record(16, 5, SESSION + struct.pack(">HH", 6, 1)),
    )
    assert len(got.peers) == 2
    assert [row[1] for row in got.rows] == [LOCAL, LOCAL, got.peers[1]]
    assert got.peers[1].hi == 0x20010DB8 << 32
    assert got.changes == [MrtStateChange(SECONDS * NS, 0, 6, 1)]


def test_order_of_changes_and_messages(read: Reads) -> None:
    change = mrt.record(16, 0, SMALL_SESSION + struct.pack(">HH", 5, 6))
    update = mrt.record(16, 1, SMALL_SESSION + UPDATE)
    got = read(update, update, change, update)
    kinds = [len(e.updates) if isinstance(e, MrtUpdates) else e.new for e in got.events]
    assert kinds == [2, 6, 1]


def test_other_messages_are_counted(read: Reads) -> None:
    keepalive = mrt.message(b"", 4)
    got = read(mrt.record(16, 4, SESSION + keepalive), mrt.record(16, 4, SESSION + UPDATE))
    assert got.messages == [UPDATE]
    assert counts(got.report) == {"records": 2, "updates": 1, "other_messages": 1}


def test_zebra_without_addresses(read: Reads) -> None:
    head = struct.pack(">HH", 65001, 65009)
    got = read(
        mrt.record(16, 1, head + UPDATE),
        mrt.record(16, 0, head + struct.pack(">HH", 3, 4)),
    )
    assert got.rows[0][1] == MrtPeer(0, 0, 65001, local_as=65009)
    assert got.changes == [MrtStateChange(SECONDS * NS, 0, 3, 4)]


def test_mrtd_messages(read: Reads) -> None:
    head = struct.pack(">H4sH4s", 65001, b"\xc0\0\2\1", 65009, b"\xc0\0\2\x09")
    state = struct.pack(">H4sHH", 65001, b"\xc0\0\2\1", 5, 6)
    got = read(
        mrt.record(5, 1, head + UPDATE[19:]),
        mrt.record(5, 3, state),
        mrt.record(5, 7, head),
        mrt.record(5, 1, head + b"\0"),
    )
    assert got.rows == [(UPDATE, LOCAL, 0, SECONDS * NS, 0)]
    assert got.changes == [MrtStateChange(SECONDS * NS, 1, 5, 6)]
    assert got.peers[1] == MrtPeer(LOCAL.hi, LOCAL.lo, 65001)
    assert counts(got.report) == {
        "records": 4, "updates": 1, "state_changes": 1, "other_messages": 1, "malformed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"",
        SESSION[:7],
        SESSION[:15],
        SESSION,
        SESSION + UPDATE[:18],
        SESSION + UPDATE[:-1],
        SESSION + b"\0" + UPDATE[1:],
        SESSION + b"\xff" * 16 + b"\0\x12\2",
        SESSION[:11] + b"\3" + SESSION[12:] + UPDATE,
    ],
)
def test_malformed_message(read: Reads, body: bytes) -> None:
    good = mrt.record(16, 4, SESSION + UPDATE)
    got = read(good, mrt.record(16, 4, body), good)
    assert got.messages == [UPDATE, UPDATE]
    assert got.report.malformed == 1


def test_malformed_state_change(read: Reads) -> None:
    got = read(mrt.record(16, 5, SESSION), mrt.record(17, 5, b"\0\0\0"), mrt.record(5, 3, b""))
    assert (got.events, got.report.malformed) == ([], 3)


def test_octets_after_a_message_are_not_its(read: Reads) -> None:
    assert read(mrt.record(16, 4, SESSION + UPDATE + b"more")).messages == [UPDATE]


# -- tables


def of_table(*records: bytes, width: int = 4) -> tuple[bytes, ...]:
    return (mrt.peer_index([V4, V6], width=width), *records)


def test_ipv4_routes(read: Reads) -> None:
    nlri = mrt.prefix("198.51.100.0/24")
    more = ORIGIN + mrt.path(4200000001, 64500) + mrt.next_hop("203.0.113.7")
    got = read(*of_table(mrt.table(2, nlri, Entry(0, ATTRIBUTES), Entry(1, more))))
    assert got.messages == [mrt.update(ATTRIBUTES, nlri), mrt.update(more, nlri)]
    assert [row[1:] for row in got.rows] == [
        (V4, 1, SECONDS * NS, 0),
        (V6, 1, SECONDS * NS, 0),
    ]
    assert all(batch.table for batch in got.batches)
    assert counts(got.report) == {"records": 2, "routes": 2}


HOP = ip_address("2001:db8::1").packed


@pytest.mark.parametrize(
    "told",
    [mrt.reach(HOP), mrt.full_reach(2, 1, HOP), mrt.full_reach(2, 1, HOP, mrt.prefix("::/0"))],
)
def test_ipv6_routes(read: Reads, told: bytes) -> None:
    nlri = mrt.prefix("2001:db8:f::/48")
    got = read(*of_table(mrt.table(4, nlri, Entry(1, ORIGIN + told + mrt.path(65001)))))
    assert got.routes == [Route(2, 1, nlri, HOP, (ORIGIN, mrt.path(65001)))]


def test_families_and_path_identifiers(read: Reads) -> None:
    four, six = mrt.prefix("198.51.100.0/24"), mrt.prefix("2001:db8:f::/48")
    hop, reach = ip_address("192.0.2.1").packed, mrt.reach(HOP)
    evpn = bytes([3, 4]) + b"evpn"
    vpn = bytes([88 + 24]) + b"\0\0\x11" + bytes(8) + b"\xc6\x33\x64"
    linked = b"\0\1\0\3abc"
    one = struct.pack(">I", 1)
    got = read(
        *of_table(
            mrt.table(3, four, Entry(0, ATTRIBUTES)),
            mrt.table(5, six, Entry(0, ORIGIN + reach)),
            mrt.table(8, four, Entry(0, ATTRIBUTES, 1), Entry(0, ATTRIBUTES, 2)),
            mrt.table(10, six, Entry(1, ORIGIN + reach, 1)),
            mrt.table(6, evpn, Entry(0, ORIGIN + reach), family=struct.pack(">HB", 25, 70)),
            mrt.table(6, vpn, Entry(0, ORIGIN + reach), family=struct.pack(">HB", 1, 128)),
            mrt.table(6, linked, Entry(0, ORIGIN), family=struct.pack(">HB", 16388, 71)),
            mrt.table(12, vpn, Entry(0, ORIGIN + reach, 1), family=struct.pack(">HB", 1, 128)),
            mrt.table(2, four, Entry(0, ORIGIN + reach)),
        )
    )
    plain = (ORIGIN, mrt.path(65001))
    assert got.routes == [
        Route(1, 2, four, hop, plain),
        Route(2, 2, six, HOP, (ORIGIN,)),
        Route(1, 1, one + four, hop, plain),
        Route(1, 1, struct.pack(">I", 2) + four, hop, plain),
        Route(2, 1, one + six, HOP, (ORIGIN,)),
        Route(25, 70, evpn, HOP, (ORIGIN,)),
        Route(1, 128, vpn, HOP, (ORIGIN,)),
        Route(16388, 71, linked, b"", (ORIGIN,)),
        Route(1, 128, one + vpn, HOP, (ORIGIN,)),
        Route(1, 1, four, HOP, (ORIGIN,)),  # RFC 8950
    ]
    assert [row[2] for row in got.rows] == [1, 1, 3, 3, 3, 1, 1, 1, 3, 1]
    assert counts(got.report) == {"records": 10, "routes": 10}


def test_malformed_entries_cost_themselves_alone(read: Reads) -> None:
    nlri = mrt.prefix("198.51.100.0/24")
    good = Entry(0, ATTRIBUTES)
    cut = mrt.record(13, 2, struct.pack(">I", 1) + nlri + struct.pack(">H", 2) + bytes(good))
    got = read(
        *of_table(
            mrt.table(2, nlri, good, Entry(2, ATTRIBUTES), Entry(0, ORIGIN[:-1]), good),
            mrt.table(2, b"\x21" + bytes(5), good),
            mrt.table(4, nlri, Entry(0, ORIGIN + mrt.attribute(14, b"\x10\0", 0x80)), good),
            cut,
            mrt.record(13, 2, b"\0\0"),
            mrt.table(6, nlri, good, family=struct.pack(">HB", 1, 99)),
            mrt.record(13, 7, b"geo"),
        )
    )
    assert [r.nlri for r in got.routes] == [nlri] * 4
    assert counts(got.report) == {
        "records": 8, "routes": 4, "malformed": 6, "unknown_family": 1, "unsupported": 1,
    }  # fmt: skip


def test_routes_without_index_are_malformed(read: Reads) -> None:
    got = read(mrt.table(2, mrt.prefix("10.0.0.0/8"), Entry(0, ATTRIBUTES)))
    assert (got.events, got.report.malformed) == ([], 1)


def test_peer_index(read: Reads) -> None:
    small = MrtPeer(*address_words("192.0.2.2"), 65001, 5)
    got = read(mrt.peer_index([small, V4], width=2), mrt.peer_index([V6, small]))
    assert got.peers == [small, V4, V6]
    whole = mrt.peer_index([V4, V6])[12:]
    for size in range(len(whole)):
        got = read(mrt.record(13, 1, whole[:size]))
        assert len(got.peers) < 2
        assert got.report.records == 1


def old_entry(text: str, attributes: bytes, afi: int = 1) -> bytes:
    address, _, bits = text.partition("/")
    peer = ip_address("192.0.2.1" if afi == 1 else "2001:db8::1").packed
    head = ip_address(address).packed + bytes([int(bits), 1]) + struct.pack(">I", SECONDS)
    return head + peer + struct.pack(">HH", 65001, len(attributes)) + attributes


def old_record(*entries: bytes, afi: int = 1, short: int = 0) -> bytes:
    body = bytes(4) + b"".join(entries)
    return struct.pack(">IHHI", SECONDS, 12, afi, len(body) - short) + body


@pytest.mark.parametrize("short", [0, 4])
@pytest.mark.parametrize("records", [1, 3])
def test_old_tables(read: Reads, short: int, records: int) -> None:
    attributes = ORIGIN + mrt.path(65001, width=2) + mrt.next_hop("192.0.2.1")
    texts = ["10.0.0.0/8", "198.51.100.0/24", "0.0.0.0/0"]
    entries = [old_entry(text, attributes) for text in texts]
    got = read(*[old_record(*entries, short=short)] * records)
    expected = [mrt.update(attributes, mrt.prefix(text)) for text in texts]
    assert got.messages == expected * records
    assert {row[1:] for row in got.rows} == {
        (MrtPeer(LOCAL.hi, LOCAL.lo, 65001), 0, SECONDS * NS, 0)
    }
    assert counts(got.report) == {"records": records, "routes": 3 * records}


def test_old_table_of_ipv6(read: Reads) -> None:
    attributes = ORIGIN + mrt.full_reach(2, 1, HOP, mrt.prefix("2001:db8:f::/48"))
    bad = old_entry("2001:db8:f::/48", b"\x40\1\2\0", afi=2)
    entry = old_entry("2001:db8:f::/48", attributes, afi=2)
    got = read(old_record(entry, bad, entry, afi=2), old_record(entry[:-1], afi=2))
    route = Route(2, 1, mrt.prefix("2001:db8:f::/48"), HOP, (ORIGIN,))
    assert got.routes == [route, route]
    assert got.report.malformed == 2


def test_a_full_batch_goes_on_in_the_next(read: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowray.wire.bgp.mrt._ROUTES", 3)
    nlri = [mrt.prefix(f"10.{i}.0.0/16") for i in range(5)]
    got = read(*of_table(*(mrt.table(2, n, *[Entry(0, ATTRIBUTES)] * 4) for n in nlri)))
    assert [r.nlri for r in got.routes] == [n for n in nlri for _ in range(4)]
    assert [len(b.updates) for b in got.batches] == [3] * 6 + [2]
    old = old_record(*(old_entry(f"10.{i}.0.0/16", ATTRIBUTES) for i in range(8)))
    assert [len(b.updates) for b in read(old, old).batches] == [3] * 5 + [1]


# -- files


RECORDS = [mrt.record(16, 4, SESSION + UPDATE), *of_table(), mrt.record(13, 7, b"geo")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_packed(read: Reads, pack: Callable[[bytes], bytes]) -> None:
    raw = b"".join(RECORDS)
    assert read(pack(raw)).messages == [UPDATE]
    assert read(pack(raw), pack(raw)).report.records == 2 * len(RECORDS)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_and_cut_off(read: Reads, pack: Callable[[bytes], bytes]) -> None:
    got = read(pack(b"".join(RECORDS * 10))[:-5])
    assert got.report.cut_off
    assert "cut-off" in got.report.fault


def test_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    raw = RECORDS[0] * 1000
    writer = threading.Thread(target=path.write_bytes, args=(raw,))
    writer.start()
    assert len(Read(path).messages) == 1000
    writer.join()


def test_missing_and_empty(tmp_path: Path, read: Reads) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        MrtReader(tmp_path / "none")
    assert counts(read(b"").report) == {}


@pytest.mark.parametrize("left", range(1, len(RECORDS[0])))
def test_cut_off(read: Reads, left: int) -> None:
    got = read(RECORDS[0], RECORDS[0], RECORDS[0][:left])
    assert got.messages == [UPDATE] * 2
    assert got.report.cut_off
    assert got.report.fault.endswith(f"byte {2 * len(RECORDS[0])}: cut off, {left} bytes of a "
                                     "record left")  # fmt: skip
    assert got.report.damaged == 0


def test_chunks(read: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_source, "_CHUNK", 1)
    monkeypatch.setattr(capture_source, "_READ", 777)
    monkeypatch.setattr("flowray.wire.bgp.mrt._RECORDS", 5)
    got = read(gzip.compress(RECORDS[0] * 200))
    assert got.messages == [UPDATE] * 200
    assert counts(got.report) == {"records": 200, "updates": 200}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.binary(max_size=40), st.integers(0))
def test_after_damage_the_next_record_is_found(
    tmp_path_factory: pytest.TempPathFactory, before: list[int], noise: bytes, cut: int
) -> None:
    """A record that was cut and written over: the ones before and after it come out."""
    path = tmp_path_factory.mktemp("damage") / "file"
    good = RECORDS[0]
    part = good[: 12 + cut % (len(good) - 12)]
    path.write_bytes(good * len(before) + part + noise + good * 3)
    got = Read(path)
    # Records may hide in noise, and the one that was cut swallow some octets of the next.
    assert got.messages[: len(before)] == [UPDATE] * len(before)
    assert len(got.messages) >= len(before) + 2


@given(st.data())
def test_any_octets(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Nothing raises, and each octet of the file is accounted for by a record or as lost."""
    records = [
        mrt.record(16, 4, SESSION + UPDATE),
        mrt.record(16, 0, SMALL_SESSION + bytes(4)),
        mrt.peer_index([V4, V6]),
        mrt.table(2, mrt.prefix("10.0.0.0/8"), Entry(0, ATTRIBUTES), Entry(1, ATTRIBUTES)),
        mrt.table(10, mrt.prefix("::/0"), Entry(1, ORIGIN + mrt.reach(HOP), 9)),
        mrt.table(6, b"\3\1a", Entry(0, ORIGIN), family=struct.pack(">HB", 25, 70)),
        old_record(old_entry("10.0.0.0/8", ATTRIBUTES), short=4),
        mrt.record(5, 1, bytes(12) + UPDATE[19:]),
    ]
    raw = bytearray(b"".join(data.draw(st.lists(st.sampled_from(records), max_size=6))))
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            at = data.draw(st.integers(0, len(raw) - 1))
            raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(raw)
    got = Read(path)
    for message in got.messages:
        assert len(message) == int.from_bytes(message[16:18], "big")
    report = got.report
    assert len(got.messages) == report.updates + report.routes - report.refused
    assert report.lost_bytes <= len(raw)


def test_peers_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "many"
    heads = [mrt.session(65001, 1, f"10.0.0.{i}", "10.0.1.0") for i in range(9)]
    path.write_bytes(b"".join(mrt.record(16, 4, head + UPDATE) for head in heads))
    with MrtReader(path, peer_limit=4) as reader:
        assert sum(len(e.updates) for e in reader if isinstance(e, MrtUpdates)) == 4
        assert (len(reader.peers), reader.report.refused) == (4, 5)
