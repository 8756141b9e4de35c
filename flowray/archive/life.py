"""The life of a shard out of an archive: datagrams and events in the order in which it took
them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowray.archive.datagrams import KEPT
from flowray.archive.events import Event, EventKind, events_of
from flowray.archive.names import FileName
from flowray.archive.place import Place
from flowray.errors import CaptureError

__all__ = ["Datagrams", "FileReport", "Life", "Span", "lives_of"]

ROWS = 8192
"""Datagrams of a part at most: the columns of their records stay in the processor's cache."""

END = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Span:
    """What is asked for: datagrams that arrived in [begin, end), ns since the epoch, of some
    exporters or of all.
    """

    begin_ns: int = 0
    end_ns: int = END
    exporters: frozenset[str] = frozenset()


@dataclass(slots=True)
class FileReport:
    """What was read of one file, as `replay` prints it."""

    path: str
    datagrams: int = 0
    cut_off: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Some that stand together. Payload i is ``buf[offset[i] : offset[i] + length[i]]``; `source`
    (n,) indexes `addresses`.
    """

    buf: npt.NDArray[np.uint8]
    offset: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    arrival: npt.NDArray[np.int64]
    addresses: Sequence[str]

    def __len__(self) -> int:
        return len(self.offset)

    def slice(self, begin: int, end: int) -> Datagrams:
        """Rows begin..end-1, without copying anything."""
        rows = slice(begin, end)
        return Datagrams(
            self.buf, self.offset[rows], self.length[rows], self.source[rows],
            self.arrival[rows], self.addresses,
        )  # fmt: skip


Item: TypeAlias = Datagrams | Event
Chosen: TypeAlias = Callable[[Sequence[str]], npt.NDArray[np.bool_]]
"""Which of some exporters' addresses (k,) are wanted."""


@dataclass(slots=True)
class Life:
    """Files of one life by number: those of events, those of datagrams."""

    place: Place
    owner: str
    life: str
    files: dict[int, dict[str, FileName]] = field(default_factory=dict)
    reports: list[FileReport] = field(default_factory=list)
    missing: int = 0
    """Datagrams that were taken and are not there."""
    cut: tuple[int, int] | None = None
    """The datagram and the event behind which a successor went on."""
    complete: bool = False
    """Whether it ended by itself, nothing waiting any longer; known at its end."""

    def events(self, span: Span) -> Iterator[Event]:
        """The events up to the end of the span. Of those before it only what still holds when it
        begins: what was learned, and the routes that are joined with.
        """
        joined: dict[str, list[Event]] = defaultdict(list)
        begun = False
        for number in sorted(self.files):
            name = self.files[number].get("events")
            if name is None or name.first_ns >= span.end_ns:
                continue
            for event in self._events(name):
                if event.time_ns >= span.end_ns:
                    return
                if self.cut is not None and event.number >= self.cut[1]:
                    return
                if event.time_ns >= span.begin_ns:
                    if not begun:
                        begun = True
                        yield from (e for events in joined.values() for e in events)
                    yield event
                elif event.kind in (EventKind.TOLD, EventKind.INSTALLED):
                    yield event
                elif event.kind is EventKind.ROUTES:
                    joined[event.group] = [event]
                elif event.kind is EventKind.LOST:
                    joined[event.group].append(event)
        if not begun:
            yield from (e for events in joined.values() for e in events)

    @property
    def adopted(self) -> Event | None:
        """How it went on from another life, if it did."""
        first = self.files.get(1, {}).get("events")
        events = () if first is None else self._events(first)
        return next((event for event in events if event.kind is EventKind.ADOPTED), None)

    def _events(self, name: FileName) -> Iterator[Event]:
        try:
            with self.place.open(name) as file:
                yield from events_of(pq.read_table(file, schema=None))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            self._fault(name, error)

    def items(self, span: Span, chosen: Chosen) -> Iterator[tuple[int, Item]]:
        """Everything in order, each with the time (ns) by which lives are merged."""
        now = span.begin_ns
        events = self.events(span)
        event = next(events, None)
        for part in self._datagrams(span, chosen):
            sequence, rows = part
            done = 0
            while done < len(rows):
                first = int(sequence[done])
                while event is not None and event.sequence <= first:
                    now = max(now, event.time_ns)
                    yield now, event
                    self.complete = event.kind is EventKind.GIVEN_UP
                    event = next(events, None)
                end = len(rows) if event is None else int(np.searchsorted(sequence, event.sequence))
                end = min(end, done + ROWS)
                now = max(now, int(rows.arrival[done]))
                yield now, rows.slice(done, end)
                self.complete = False
                done = end
        while event is not None:
            now = max(now, event.time_ns)
            yield now, event
            self.complete = event.kind is EventKind.GIVEN_UP
            event = next(events, None)

    def _datagrams(
        self, span: Span, chosen: Chosen
    ) -> Iterator[tuple[npt.NDArray[np.uint64], Datagrams]]:
        """Of each file the rows that are wanted, in order, with their numbers."""
        following: int | None = None
        for number in sorted(self.files):
            name = self.files[number].get("datagrams")
            if name is None or name.last_ns < span.begin_ns or name.first_ns >= span.end_ns:
                continue
            try:
                with self.place.open(name) as file:
                    parquet = pq.ParquetFile(file)
                    following = self._account(parquet, following)
                    table = _read(parquet, span)
            except (pa.ArrowException, OSError, KeyError) as error:
                self._fault(name, error)
                continue
            self.reports.append(FileReport(name.path, table.num_rows))
            if self.cut is not None:
                table = table.filter(
                    pc.less(table["sequence"], pa.scalar(self.cut[0], pa.uint64()))
                )
            found = _rows(table, span, chosen)
            if len(found[1]):
                yield found
        if self.cut is not None and following is not None:
            self.missing += max(self.cut[0] - following, 0)

    def _account(self, parquet: Any, following: int | None) -> int:
        """Count what is missing: numbers that no row has, in a file and before it."""
        column = parquet.schema_arrow.get_field_index("sequence")
        metadata = parquet.metadata
        bounds = [
            metadata.row_group(i).column(column).statistics for i in range(metadata.num_row_groups)
        ]
        low, high = min(b.min for b in bounds), max(b.max for b in bounds)
        self.missing += high - low + 1 - metadata.num_rows
        if following is not None:
            self.missing += low - following
        return int(high + 1)

    def _fault(self, name: FileName, error: Exception) -> None:
        fault = f"{self.place}/{name.path}: {' '.join(str(error).split())}"
        self.reports.append(FileReport(name.path, 0, cut_off=True, fault=fault))


def _read(parquet: Any, span: Span) -> pa.Table:
    """The row groups that may hold exporters of the span."""
    wanted = sorted(span.exporters)
    metadata = parquet.metadata
    column = parquet.schema_arrow.get_field_index("exporter")
    groups = []
    for i in range(metadata.num_row_groups):
        told = metadata.row_group(i).column(column).statistics
        if not wanted or not told.has_min_max or any(told.min <= w <= told.max for w in wanted):
            groups.append(i)
    columns = ["arrival", "exporter", "sequence", "payload"]
    table: pa.Table = parquet.read_row_groups(groups, columns)
    return table


def _rows(table: pa.Table, span: Span, chosen: Chosen) -> tuple[npt.NDArray[np.uint64], Datagrams]:
    """The rows of a span in the order of their numbers."""
    addresses, source = _exporters(table["exporter"])
    arrival = table["arrival"].cast(pa.int64()).to_numpy()
    sequence = table["sequence"].to_numpy()
    keep = (arrival >= span.begin_ns) & (arrival < span.end_ns)
    if addresses:
        keep &= chosen(addresses)[source]
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(sequence[rows], kind="stable")]
    buf, offset, length = _octets(table["payload"])
    return sequence[rows], Datagrams(
        buf, offset[rows], length[rows], source[rows], arrival[rows], addresses
    )


def _exporters(column: pa.ChunkedArray[Any]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Distinct addresses, and for each row (n,) which of them."""
    encoded: Any = pa.chunked_array(column, KEPT.field("exporter").type).unify_dictionaries()
    if not encoded.num_chunks:
        return [], np.empty(0, np.int64)
    index = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    return encoded.chunk(0).dictionary.to_pylist(), index.astype(np.int64)


def _octets(
    column: pa.ChunkedArray[Any],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Octets, offset and length of binary values. A copy: kernels are compiled for arrays that may
    be written to.
    """
    parts, offsets, at = [], [], 0
    for chunk in column.chunks:
        place, data = chunk.buffers()[1:]
        assert place is not None
        edges = np.frombuffer(place, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        edges = edges.astype(np.int64)
        if data is not None and len(edges) > 1:
            parts.append(np.frombuffer(data, np.uint8)[edges[0] : edges[-1]])
            offsets.append(np.stack([edges[:-1] - edges[0] + at, np.diff(edges)]))
            at += int(edges[-1] - edges[0])
    if not parts:
        return np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64)
    offset, length = np.concatenate(offsets, axis=1)
    return np.concatenate([*parts, np.empty(0, np.uint8)]), offset, length


def lives_of(place: Place, span: Span) -> list[Life]:
    """The lives of shards of which something is in the span, and their files up to its end. Raises
    CaptureError if there is no archive.
    """
    found: dict[tuple[str, str], Life] = {}
    used = set()
    for kind in ("events", "datagrams"):
        for name in place.names(kind):
            life = found.setdefault(name.origin, Life(place, *name.origin))
            life.files.setdefault(name.number, {})[kind] = name
            if name.first_ns < span.end_ns and name.last_ns >= span.begin_ns:
                used.add(name.origin)
    if not found:
        raise CaptureError(f"{place}: no archive: there are no datagrams in it")
    return [found[origin] for origin in sorted(used)]
