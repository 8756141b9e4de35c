"""MRT files into a RIB: tables as seeds, sessions followed, several files in the order of time."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from flowray.errors import CaptureError
from flowray.rib.journal import Journal, Labels
from flowray.rib.mrt_routes import MrtFiles
from flowray.rib.rib import Rib
from flowray.wire.bgp.attributes import decode_attributes
from flowray.wire.packets import address_text
from tests.rib.stream_rig import KeptStreams
from tests.wire.bgp import mrt_records as m

NS = 1_000_000_000
T = m.SECONDS
ATTRIBUTES = m.ORIGIN + m.path(65001, 64500) + m.next_hop("192.0.2.1")
LATER = m.ORIGIN + m.path(65001, 64501) + m.next_hop("192.0.2.1")


def at(seconds: int) -> int:
    return (T + seconds) * NS


def told(seconds: int, *prefixes: str, withdrawn: str = "", subtype: int = 4) -> bytes:
    """An UPDATE of a session (BGP4MP_MESSAGE_AS4, or another subtype)."""
    gone = m.prefix(withdrawn) if withdrawn else b""
    nlri = b"".join(map(m.prefix, prefixes))
    update = m.update(LATER if prefixes else b"", nlri, gone)
    head = m.session(65001, 65000, "192.0.2.1", "192.0.2.254")
    return m.record(16, subtype, head + update, T + seconds)


def state(seconds: int, old: int, new: int) -> bytes:
    head = m.session(65001, 65000, "192.0.2.1", "192.0.2.254")
    return m.record(16, 5, head + struct.pack(">HH", old, new), T + seconds)


def table(*prefixes: str) -> bytes:
    """A table of the peer, dumped at T."""
    rows = (m.table(2, m.prefix(p), m.Entry(0, ATTRIBUTES)) for p in prefixes)
    return b"".join([m.peer_index([m.V4]), *rows])


class Files:
    def __init__(self, folder: Path) -> None:
        self.rib, self.kept, self.folder = Rib(), KeptStreams(), folder
        self.journal = Journal(self.rib, self.kept.streams, Labels())
        self.mrt = MrtFiles(self.rib, self.journal)

    def add(self, *records: bytes) -> None:
        path = self.folder / f"{len(list(self.folder.iterdir()))}.mrt"
        path.write_bytes(b"".join(records))
        self.mrt.add(path)

    def routes(self) -> dict[str, int]:
        """Prefix -> last AS of the path, of all peers."""
        found: dict[str, int] = {}
        for tables in self.rib.peers():
            for t in tables.tables.values():
                rows = t.rows()
                for i in range(len(rows)):
                    name = f"{address_text(int(rows.hi[i]), int(rows.lo[i]))}/{rows.plen[i]}"
                    assert name not in found
                    path = decode_attributes(self.rib.store[int(rows.attributes[i])]).as_path_text
                    found[name] = int((path or "0").split()[-1])
        return found

    def log(self) -> list[tuple[str, str]]:
        self.journal.settle()
        for stream in self.kept.streams.values():
            stream.flush(0)
            stream.store()
        return [(r["log_type"], r["ip_prefix"]) for r in self.kept.rows("bgp_log")]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_table_is_there_from_its_time_on_and_is_not_logged(files: Files) -> None:
    files.add(table("10.0.0.0/8", "203.0.113.0/24"))
    files.mrt.until(at(-1))
    assert files.routes() == {}
    files.mrt.until(at(0))
    assert files.routes() == {"10.0.0.0/8": 64500, "203.0.113.0/24": 64500}
    assert files.log() == []
    (tables,) = files.rib.peers()
    assert (tables.peer.router, tables.peer.port, tables.peer.asn) == ("192.0.2.1", 0, 65001)
    assert tables.peer.bgp_id == "10.0.0.1"


def test_sessions_are_followed_as_time_goes_on(files: Files) -> None:
    files.add(
        *(told(0, "10.0.0.0/8"), told(1, "10.1.0.0/16"), told(1, withdrawn="10.0.0.0/8")),
        told(5, "10.2.0.0/16"),
    )
    files.mrt.until(at(0))
    assert files.routes() == {"10.0.0.0/8": 64501}
    files.mrt.until(at(4))
    assert files.routes() == {"10.1.0.0/16": 64501}
    files.mrt.until(at(4))
    files.mrt.until(at(100))
    assert set(files.routes()) == {"10.1.0.0/16", "10.2.0.0/16"}
    assert files.log() == [
        *(("update", "10.0.0.0/8"), ("update", "10.1.0.0/16"), ("withdraw", "10.0.0.0/8")),
        ("update", "10.2.0.0/16"),
    ]


def test_a_session_that_ends_takes_its_routes_along(files: Files) -> None:
    files.add(
        *(state(0, 5, 6), told(1, "10.0.0.0/8"), state(2, 6, 1), state(3, 1, 3), state(4, 5, 6)),
        told(5, "10.1.0.0/16"),
    )
    files.mrt.until(at(3))
    assert (files.routes(), list(files.rib.peers())) == ({}, [])
    files.mrt.until(at(9))
    assert files.routes() == {"10.1.0.0/16": 64501}
    assert files.log() == [
        *(("update", "10.0.0.0/8"), ("delete", "10.0.0.0/8"), ("update", "10.1.0.0/16")),
    ]


def test_what_the_collector_itself_sent_is_no_route(files: Files) -> None:
    files.add(told(0, "10.0.0.0/8", subtype=7))  # BGP4MP_MESSAGE_AS4_LOCAL
    files.mrt.until(at(9))
    assert files.routes() == {}


@pytest.mark.parametrize("first", ["table", "session"])
def test_a_table_and_the_sessions_after_it_are_of_one_peer(files: Files, first: str) -> None:
    # Whatever the order in which the files are named.
    parts = [(table("10.0.0.0/8", "10.1.0.0/16"),), (told(3, withdrawn="10.0.0.0/8"),)]
    for part in parts if first == "table" else parts[::-1]:
        files.add(*part)
    files.mrt.until(at(0))
    assert set(files.routes()) == {"10.0.0.0/8", "10.1.0.0/16"}
    files.mrt.until(at(9))
    assert files.routes() == {"10.1.0.0/16": 64500}
    assert len(list(files.rib.peers())) == 1


def test_files_come_in_the_order_of_their_times(files: Files) -> None:
    for parity in (1, 0):
        files.add(*(told(n, f"10.{n}.0.0/16") for n in range(10) if n % 2 == parity))
    files.mrt.until(at(9))
    assert [prefix for _, prefix in files.log()] == [f"10.{n}.0.0/16" for n in range(10)]


def test_a_missing_file_is_told(files: Files, tmp_path: Path) -> None:
    with pytest.raises(CaptureError):
        files.mrt.add(tmp_path / "none.mrt")
