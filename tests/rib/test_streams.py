"""Streams: commits, and sinks that fail."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest

from flowray.rib import streams as streams_module
from flowray.rib.rows import event_rows
from flowray.rib.streams import Stream
from flowray.route_fields import RowKind
from flowray.sinks.base import Commit, MemorySink, SinkError

MICROSECOND, SECOND = 1000, 1_000_000_000
NOW = 1_700_000_000 * SECOND


class FailingSink(MemorySink):
    """Takes nothing as long as it is `down`; every try is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.down = ""
        self.tries: list[str] = []
        self.commits: list[Commit] = []

    def commit(self, commit: Commit, table: pa.Table) -> None:
        self.tries.append(commit.id)
        if self.down:
            raise SinkError(self.down)
        self.commits.append(commit)
        super().commit(commit, table)

    @property
    def seqs(self) -> list[Any]:
        return [n for table in self.tables.values() for n in table["seq"].to_pylist()]


def rows(stream: Stream, n: int) -> pa.Table:
    first = stream.number(n)
    told = [{"peer_ip_src": "192.0.2.1", "seq": first + i} for i in range(n)]
    return event_rows(RowKind.BGP_SESSION, told)


def test_rows_become_commits_in_order() -> None:
    sink = FailingSink()
    stream = Stream("bgp_log", [sink], partition=3)
    stream.flush(NOW)
    stream.add([rows(stream, 2), rows(stream, 0), rows(stream, 1)])
    stream.flush(NOW)
    stream.add([rows(stream, 1)])
    stream.flush(NOW + SECOND)
    assert (stream.rows, stream.waiting, sink.tries) == (4, 4, [])
    stream.store()
    assert (stream.waiting, sink.seqs) == (0, [0, 1, 2, 3])
    first, second = sink.commits
    assert (first.view, first.partition, first.window_ns) == ("bgp_log", 3, None)
    assert first.sequence == NOW // MICROSECOND
    assert second.sequence == (NOW + SECOND) // MICROSECOND


def test_commits_differ_whatever_the_clock_does() -> None:
    sink = FailingSink()
    stream = Stream("bgp_log", [sink])
    for now in (NOW, NOW, NOW - SECOND, NOW + 1):
        stream.add([rows(stream, 1)])
        stream.flush(now)
    stream.store()
    sequences = [commit.sequence for commit in sink.commits]
    assert sequences == sorted(set(sequences))


def test_commits_of_dumps_are_named_by_their_window() -> None:
    sink = FailingSink()
    stream = Stream("bmp_dump", [sink])
    stream.add([rows(stream, 1)])
    stream.flush(NOW + 5, (NOW, NOW + 60 * SECOND))
    stream.store()
    (commit,) = sink.commits
    assert (commit.window_ns, commit.window_end_ns) == (NOW, NOW + 60 * SECOND)


def test_a_sink_that_fails_loses_nothing_and_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, other = FailingSink(), FailingSink()
    stream = Stream("bgp_log", [broken, other])
    broken.down = "disk full"
    for n in range(3):
        stream.add([rows(stream, 2)])
        stream.flush(NOW + n * SECOND)
        stream.store()
    assert (other.seqs, broken.seqs) == ([0, 1, 2, 3, 4, 5], [])
    assert (stream.waiting, stream.lost, stream.last_error) == (6, 0, "disk full")
    assert len(set(broken.tries)) == 1, "the oldest commit first"
    assert [r.getMessage() for r in caplog.records] == ["stream bgp_log: disk full"]
    broken.down = ""
    stream.store()
    assert (broken.seqs, stream.waiting) == (other.seqs, 0)
    assert (len(other.tries), stream.last_error) == (3, "")


def test_an_error_that_comes_again_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    sink = FailingSink()
    stream = Stream("bgp_log", [sink])
    for down in ("disk full", "", "disk full"):
        sink.down = down
        stream.add([rows(stream, 1)])
        stream.flush(NOW)
        stream.store()
    assert [r.getMessage() for r in caplog.records] == ["stream bgp_log: disk full"] * 2


def test_what_waits_is_bounded_and_what_goes_is_counted() -> None:
    sink = FailingSink()
    stream = Stream("bgp_log", [sink])
    sink.down = "away"
    with patch.object(streams_module, "MOST_ROWS", 5):
        for n in range(4):
            stream.add([rows(stream, 2)])
            stream.flush(NOW + n * SECOND)
            stream.store()
    assert (stream.rows, stream.waiting, stream.lost) == (8, 4, 4)
    sink.down = ""
    stream.store()
    assert sink.seqs == [4, 5, 6, 7]


def test_all_sinks_are_closed() -> None:
    sinks = [MemorySink(), MemorySink()]
    Stream("bgp_log", sinks).close()
    assert [sink.closed for sink in sinks] == [True, True]
