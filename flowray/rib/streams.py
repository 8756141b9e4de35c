"""Streams of rows about routes: message logs and table dumps, on their way to sinks."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from flowray.rib.rows import stream_schema
from flowray.sinks.base import Commit, Sink, SinkError

log = logging.getLogger(__name__)

MOST_ROWS = 4_000_000
"""Rows that wait for sinks which take none; past it the oldest commits go, counted."""

MICROSECOND = 1000


class Stream:
    """Rows of one stream. Commits are numbered by time, so that those after a restart are new.

    Every sink has a queue of its own: one that fails keeps only itself waiting.
    """

    def __init__(self, name: str, sinks: Sequence[Sink], partition: int = 0) -> None:
        """`partition` tells apart several that write the same stream."""
        self.name = name
        self.rows = 0
        self.lost = 0
        self._errors = [""] * len(sinks)
        self._sinks = [(sink, deque[tuple[Commit, pa.Table]]()) for sink in sinks]
        self._partition = partition
        self._open: list[pa.Table] = []
        self._sequence = 0
        self._seq = 0

    def number(self, rows: int) -> int:
        """Take `rows` numbers for rows (column `seq`): the first of them."""
        first = self._seq
        self._seq += rows
        return first

    def add(self, tables: Iterable[pa.Table]) -> None:
        """Append rows."""
        self._open += [table for table in tables if table.num_rows]

    def flush(self, now_ns: int, window: tuple[int, int] | None = None) -> None:
        """Make a commit of what was added, of a table dump with its `window`."""
        if not self._open:
            return
        self._sequence = max(self._sequence + 1, now_ns // MICROSECOND)
        commit = Commit(self.name, partition=self._partition, sequence=self._sequence)
        if window is not None:
            commit = replace(commit, window_ns=window[0], window_end_ns=window[1])
        table = pa.concat_tables(self._open).cast(stream_schema())
        self._open = []
        self.take(commit, table)

    def take(self, commit: Commit, table: pa.Table) -> None:
        """Take a commit as it is, such as one that was made elsewhere."""
        self.rows += table.num_rows
        for _, queue in self._sinks:
            queue.append((commit, table))

    def store(self) -> None:
        """Give sinks the commits that they lack. May be called by another thread than the rest."""
        for i, (sink, queue) in enumerate(self._sinks):
            self._store(i, sink, queue)

    def _store(self, number: int, sink: Sink, queue: deque[tuple[Commit, pa.Table]]) -> None:
        error = ""
        try:
            while queue:
                sink.commit(*queue[0])
                queue.popleft()
        except SinkError as failure:
            error = str(failure)
        if error and error != self._errors[number]:
            log.error("stream %s: %s", self.name, error)
        self._errors[number] = error
        while _rows(queue) > MOST_ROWS:
            self.lost += queue.popleft()[1].num_rows

    @property
    def last_error(self) -> str:
        """Why a sink does not take rows now, empty if all do."""
        return next(filter(None, self._errors), "")

    @property
    def waiting(self) -> int:
        """Rows that a sink has not taken yet."""
        return max((_rows(queue) for _, queue in self._sinks), default=0)

    @property
    def unstored(self) -> str:
        """What sinks have not taken, as a line; empty if they took all."""
        missing = self.waiting + self.lost
        return f"{missing} rows of {self.name} are not stored: {self.last_error}" if missing else ""

    def close(self) -> None:
        """Close the sinks."""
        for sink, _ in self._sinks:
            sink.close()


def _rows(queue: deque[tuple[Commit, pa.Table]]) -> int:
    return sum(table.num_rows for _, table in queue.copy())
