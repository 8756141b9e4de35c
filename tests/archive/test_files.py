"""Files of an archive: names, spool, rotation, what is wrong with them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.archive.datagrams import SPOOLED, read_spool, rows_of
from flowray.archive.events import Event, EventKind, events_of, read_lines, table_of
from flowray.archive.life import Datagrams, Life, Span, lives_of
from flowray.archive.names import FileName
from flowray.archive.place import Place
from flowray.archive.route_records import RecordType, RouteRecord, read_record
from flowray.archive.shard_archive import ShardArchive
from flowray.errors import CaptureError
from flowray.settings.archive import Archive
from flowray.wire.packets import Exporters, PacketBatch

START = 1_750_000_000_000_000_000
SECOND = 1_000_000_000
SHARD = "ingest/node_1-a/0"


def batch(exporters: Exporters, *told: tuple[str, int, bytes], port: int = 2055) -> PacketBatch:
    """A batch of (exporter, arrival in seconds after START, payload)."""
    length = np.array([len(payload) for _, _, payload in told], np.int64)
    return PacketBatch(
        np.frombuffer(b"".join(payload for _, _, payload in told), np.uint8).copy(),
        np.cumsum(length) - length,
        length,
        np.array([exporters.intern_one(address) for address, _, _ in told], np.uint32),
        np.array([START + at * SECOND for _, at, _ in told], np.int64),
        np.full(len(told), port, np.uint16),
    )


def settings(root: Path, **options: Any) -> Archive:
    return Archive(path=str(root / "kept"), spool=root / "spool", **options)


def read_back(root: Path, **span: Any) -> tuple[list[tuple[str, int, bytes]], list[Life]]:
    """Datagrams of all lives as they were given to `batch`."""
    wanted = Span(**span)

    def chosen(addresses: Sequence[str]) -> npt.NDArray[np.bool_]:
        named = [not wanted.exporters or address in wanted.exporters for address in addresses]
        return np.array(named, np.bool_)

    found, lives = [], lives_of(Place(str(root / "kept")), wanted)
    for life in lives:
        for _, item in life.items(wanted, chosen):
            if isinstance(item, Datagrams):
                found += [told(item, i) for i in range(len(item))]
    return found, lives


def told(rows: Datagrams, i: int) -> tuple[str, int, bytes]:
    payload = rows.buf[rows.offset[i] : rows.offset[i] + rows.length[i]].tobytes()
    return rows.addresses[rows.source[i]], int(rows.arrival[i] - START) // SECOND, payload


@given(
    st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.integers(0, 10**9),
    st.from_regex(r"[0-9a-f]{1,16}", fullmatch=True), st.text(min_size=1, max_size=30),
    st.sampled_from(["datagrams", "events", "routes", "tables"]),
)  # fmt: skip
def test_a_name_tells_all_again(
    first: int, last: int, number: int, life: str, owner: str, kind: Any
) -> None:
    name = FileName(first, last, number, life, owner, kind)
    assert FileName.of(name.path) == name


@pytest.mark.parametrize(
    "path", ["", "datagrams", "other/a.parquet", "datagrams/x/.a.parquet", "events/a_b.parquet"]
)
def test_other_files_are_none_of_ours(path: str) -> None:
    assert FileName.of(path) is None


def test_datagrams_come_back_as_they_were(tmp_path: Path) -> None:
    exporters = Exporters()
    archive = ShardArchive(settings(tmp_path), SHARD, "1", {2055: "udp://[::]:2055"})
    given_ = [("192.0.2.2", 0, b"one"), ("192.0.2.1", 0, b""), ("2001:db8::1", 1, b"x" * 9000)]
    more = [("192.0.2.1", 2, b"four"), ("192.0.2.2", 2, b"five")]
    assert archive.datagrams(batch(exporters, *given_), exporters)
    assert archive.datagrams(batch(exporters, *more), exporters)
    assert archive.close()
    found, (life,) = read_back(tmp_path)
    assert found == given_ + more
    assert (life.owner, life.missing, life.reports[0].fault) == (SHARD, 0, "")
    assert read_back(tmp_path, exporters=frozenset(["192.0.2.2"]))[0] == [given_[0], more[1]]
    begin, end = START + SECOND, START + 2 * SECOND
    assert read_back(tmp_path, begin_ns=begin, end_ns=end)[0] == [given_[2]]
    (file,) = (tmp_path / "kept" / "datagrams").rglob("*.parquet")
    table = pq.read_table(file)  # with the partitions of its folders
    assert set(table["listener"].to_pylist()) == {"udp://[::]:2055"}
    sources = [*["192.0.2.1"] * 2, *["192.0.2.2"] * 2, "2001:db8::1"]
    assert table["source"].to_pylist() == sources
    assert not list((tmp_path / "spool").rglob("*.*"))


def test_files_end_with_their_period_and_size(tmp_path: Path) -> None:
    exporters = Exporters()
    wanted = settings(tmp_path, rotate="10s", rotate_octets="1MiB")
    archive = ShardArchive(wanted, SHARD, "1", {})
    for at in (0, 9, 10, 25):
        archive.datagrams(batch(exporters, ("192.0.2.1", at, b"a")), exporters)
    for _ in range(3):
        archive.datagrams(batch(exporters, ("192.0.2.1", 26, b"b" * (1 << 20))), exporters)
    assert archive.close()
    names = sorted(Place(wanted.path).names("datagrams"), key=lambda name: name.number)
    assert [name.number for name in names] == [1, 2, 3, 4, 5]
    assert [(name.first_ns - START) // SECOND for name in names] == [0, 10, 25, 26, 26]
    assert len(read_back(tmp_path)[0]) == 7


def test_what_a_killed_shard_had_spooled_is_kept_by_its_successor(tmp_path: Path) -> None:
    exporters = Exporters()
    folder = tmp_path / "spool" / "shards" / "ingest%2Fnode_1-a%2F0"
    folder.mkdir(parents=True)
    rows = rows_of(
        batch(exporters, ("192.0.2.1", 0, b"a"), ("192.0.2.1", 1, b"b")),
        exporters.hi[[1, 1]], exporters.lo[[1, 1]], 0,
    )  # fmt: skip
    cut = folder / "1.000001.datagrams"
    with pa.OSFile(str(cut), "wb") as file, pa.ipc.new_stream(file, SPOOLED) as stream:
        stream.write_batch(rows)
        stream.write_batch(rows)
    cut.write_bytes(cut.read_bytes()[:-40])  # killed while it wrote
    event = Event(0, 2, START + SECOND, EventKind.PULLED, began_ns=7)
    (folder / "1.000001.events").write_bytes(event.line() + event.line()[:-9])
    assert read_spool(cut).num_rows == 2
    assert ShardArchive(settings(tmp_path), SHARD, "2", {}).close()
    found, (life,) = read_back(tmp_path)
    assert [payload for _, _, payload in found] == [b"a", b"b"]
    assert [item for _, item in life.items(Span(), lambda a: np.ones(len(a), np.bool_))][
        -1
    ] == event


def test_without_room_datagrams_are_not_taken(tmp_path: Path) -> None:
    exporters = Exporters()
    (tmp_path / "kept").write_text("a file where the folder should be")
    archive = ShardArchive(settings(tmp_path, spool_octets="1MiB"), SHARD, "1", {})
    big = batch(exporters, ("192.0.2.1", 0, b"b" * (1 << 20)))
    assert archive.datagrams(big, exporters)
    deadline = time.monotonic() + 30
    while archive.datagrams(batch(exporters, ("192.0.2.1", 0, b"c")), exporters):
        assert time.monotonic() < deadline
    assert archive.status()["lost"] == 1
    (tmp_path / "kept").unlink()  # the place is back
    while not archive.datagrams(batch(exporters, ("192.0.2.1", 0, b"d")), exporters):
        assert time.monotonic() < deadline
    assert archive.close()
    found, (life,) = read_back(tmp_path)
    assert len(found) == archive.status()["datagrams"]
    assert life.missing == archive.status()["lost"]


def test_a_damaged_file_is_told_and_passed_over(tmp_path: Path) -> None:
    exporters = Exporters()
    archive = ShardArchive(settings(tmp_path, rotate="1s"), SHARD, "1", {})
    for at in range(3):
        archive.datagrams(batch(exporters, ("192.0.2.1", at, b"abc")), exporters)
    assert archive.close()
    files = sorted((tmp_path / "kept" / "datagrams").rglob("*.parquet"))
    files[1].write_bytes(files[1].read_bytes()[:-20])
    found, (life,) = read_back(tmp_path)
    assert [at for _, at, _ in found] == [0, 2]
    (report,) = [report for report in life.reports if report.cut_off]
    assert str(files[1]) in report.fault
    assert "\n" not in report.fault
    assert life.missing == 1


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no archive"):
        lives_of(Place(str(tmp_path)), Span())


_NUMBERS = st.integers(0, 1 << 63)
_TIMES = st.integers(0, 1 << 62)
EVENTS = st.builds(
    Event, _NUMBERS, _NUMBERS, _TIMES, st.sampled_from(EventKind), st.text(), st.text(), _NUMBERS,
    _TIMES, st.text(),
)  # fmt: skip


@given(st.lists(EVENTS, max_size=5))
def test_events_come_back_as_they_were(tmp_path_factory: Any, events: list[Event]) -> None:
    assert list(events_of(table_of(events))) == events
    path = tmp_path_factory.mktemp("events") / "lines"
    path.write_bytes(b"".join(event.line() for event in events))
    assert read_lines(path) == events


@given(
    st.sampled_from(RecordType), st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 32) - 1),
    st.binary(max_size=50),
)  # fmt: skip
def test_records_of_routes_come_back_as_they_were(
    kind: RecordType, time_ns: int, session: int, body: bytes
) -> None:
    record = RouteRecord(kind, time_ns, session, body)
    octets = record.encode()
    assert read_record(int.from_bytes(octets[6:8]), octets[12:]) == record
