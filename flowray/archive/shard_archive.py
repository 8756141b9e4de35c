"""The archive of one shard: taken from its receive thread, spooled by a thread, and from there on
its way to the place where it is kept.

The spool outlives the process: what a killed shard had spooled goes to its place when its successor
starts on the same node.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, TypeAlias
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowray.archive.datagrams import ROW_COST, SPOOLED, read_spool, rows_of, write_kept
from flowray.archive.events import Event, EventKind, read_lines, table_of
from flowray.archive.names import FileName
from flowray.archive.place import Place
from flowray.archive.uploader import Load, Uploader
from flowray.settings.archive import Archive
from flowray.sinks.paths import safe_part
from flowray.wire.packets import Exporters, PacketBatch

__all__ = ["ShardArchive", "listeners_of"]

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.25
"""How often the thread looks whether a period is over."""

CLOSE_SECONDS = 60.0

GRACE_NS = 1_000_000_000
"""How long after its end a period may still get datagrams: those that wait in the queue."""


def listeners_of(urls: Iterable[str]) -> dict[int, str]:
    """URLs that datagrams come to, by port."""
    return {urlsplit(url).port or 0: url for url in urls}


_Rows: TypeAlias = tuple[pa.RecordBatch, npt.NDArray[np.uint32]]
"""Rows of the spool, and the exporters that they count for."""

_SUFFIXES = ".datagrams", ".events"


@dataclass(slots=True)
class _Part:
    """Spool files of one period. `events` are JSON lines, `datagrams` an Arrow stream."""

    stem: Path
    datagrams: Any = None
    sink: Any = None
    events: IO[bytes] | None = None
    octets: int = 0
    first_ns: int = 1 << 62
    ends_ns: int = 1 << 62

    @property
    def paths(self) -> tuple[Path, Path]:
        names = (f"{self.stem.name}{suffix}" for suffix in _SUFFIXES)
        datagrams, events = (self.stem.with_name(name) for name in names)
        return datagrams, events


@dataclass(slots=True)
class _Figures:
    datagrams: int = 0
    lost: int = 0
    octets: int = 0
    errors: int = 0
    last_error: str = ""
    cpu_seconds: float = 0.0


class ShardArchive:
    """One life of a shard. `datagrams` and `event` are for its receive thread alone."""

    def __init__(
        self,
        settings: Archive,
        shard: str,
        life: str,
        listeners: Mapping[int, str],
        cut: Sequence[Any] | None = None,
    ) -> None:
        """Take up what a predecessor left, up to a `cut` (`position`) behind which its input is
        archived here, again. Raises OSError for a spool that cannot be made, and
        ConfigError for a place that cannot be.
        """
        self._settings, self._shard, self._life = settings, shard, life
        self._listeners = dict(listeners)
        self._folder = settings.spool / "shards" / safe_part(shard)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._uploader = Uploader(Place(settings.path), shard)
        self._queue: SimpleQueue[_Rows | Event | threading.Event | None]
        self._queue = SimpleQueue()
        # Octets put in and taken out: each is written by one thread.
        self._put = self._taken = 0
        self._lost: SimpleQueue[npt.NDArray[np.uint32]] = SimpleQueue()
        self._cut = cut
        self._sequence = self._events = 0
        self._number = 0
        self._part: _Part | None = None
        self._figures = _Figures()
        for stem in self._left():
            self._submit(stem)
        self._thread = threading.Thread(target=self._run, name=f"{shard}-archive", daemon=True)
        self._thread.start()

    # -- the receive thread ------------------------------------------------------------------------

    def datagrams(self, batch: PacketBatch, exporters: Exporters) -> bool:
        """Take a copy of datagrams, unless there is no room; whether they were taken."""
        first, n = self._sequence, len(batch)
        self._sequence += n
        octets = int(batch.length.sum()) + ROW_COST * n
        if self._put - self._taken + octets > self._settings.memory or self.full:
            self._figures.lost += n
            return False
        hi, lo = exporters.hi[batch.exporter], exporters.lo[batch.exporter]
        self._put += octets
        self._queue.put((rows_of(batch, hi, lo, first), batch.exporter))
        return True

    def event(self, kind: EventKind, time_ns: int, **told: Any) -> None:
        """Note what happened before the next datagram."""
        self._queue.put(Event(self._events, self._sequence, time_ns, kind, **told))
        self._events += 1

    @property
    def position(self) -> list[Any]:
        """How far it is: life, datagrams, events."""
        return [self._life, self._sequence, self._events]

    def flush(self, seconds: float) -> bool:
        """Wait until all that was taken is in the spool; whether it is."""
        if self._queue.empty() and self._put == self._taken:
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def lost(self) -> npt.NDArray[np.uint32] | None:
        """Exporters (n,) of datagrams that were taken and could not be spooled; None if none."""
        found = []
        with suppress(Empty):
            while True:
                found.append(self._lost.get_nowait())
        return np.concatenate(found) if found else None

    @property
    def full(self) -> bool:
        """Whether the spool takes no more: its files do not get to their place."""
        part = self._part
        here = 0 if part is None else part.octets
        return self._uploader.octets + here >= self._settings.spool_octets

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Spool and deliver all that was taken; whether that is done. The rest is left to the next
        shard of this name on this node.
        """
        deadline = time.monotonic() + timeout
        self._queue.put(None)
        self._thread.join(timeout)
        return self._uploader.close(max(deadline - time.monotonic(), 0.1))

    def status(self) -> dict[str, Any]:
        """Figures that cost nothing."""
        f, up = self._figures, self._uploader
        return {
            "datagrams": f.datagrams,
            "lost": f.lost,
            "octets": f.octets,
            "waiting_octets": self._put - self._taken,
            "spooled_octets": up.octets + (self._part.octets if self._part else 0),
            "files": up.files,
            "file_octets": up.stored,
            "failures": up.failures + f.errors,
            "last_error": up.last_error or f.last_error,
        }

    # -- the archive's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=IDLE_SECONDS)
            except Empty:
                self._rotate_late()
                continue
            if item is None:
                self._seal()
                return
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._spool(item)
            except OSError as error:
                self._failed(item, error)

    def _spool(self, item: _Rows | Event) -> None:
        if isinstance(item, Event):
            part = self._part_of(item.time_ns)
            if part.events is None:
                part.events = part.paths[1].open("ab", buffering=0)
            part.events.write(item.line())
            return
        rows, _ = item
        octets = rows["payload"].nbytes + ROW_COST * rows.num_rows
        self._taken += octets
        part = self._part_of(rows["arrival"][0].as_py())
        if part.datagrams is None:
            part.sink = pa.OSFile(str(part.paths[0]), "wb")
            part.datagrams = pa.ipc.new_stream(part.sink, SPOOLED)
        part.datagrams.write_batch(rows)
        part.octets += octets
        self._figures.datagrams += rows.num_rows
        self._figures.octets += rows["payload"].nbytes
        if part.octets >= self._settings.rotate_octets:
            self._seal()

    def _part_of(self, time_ns: int) -> _Part:
        """The part of a time: a new one if its period is over."""
        if self._part is not None and time_ns >= self._part.ends_ns:
            self._seal()
        if self._part is None:
            self._number += 1
            period = self._settings.rotate
            stem = self._folder / f"{self._life}.{self._number:06d}"
            self._part = _Part(stem, first_ns=time_ns, ends_ns=(time_ns // period + 1) * period)
        return self._part

    def _rotate_late(self) -> None:
        if self._part is not None and time.time_ns() >= self._part.ends_ns + GRACE_NS:
            self._seal()

    def _seal(self) -> None:
        """End the part; it is on its way."""
        part, self._part = self._part, None
        if part is None:
            return
        with suppress(OSError):
            if part.datagrams is not None:
                part.datagrams.close()
                part.sink.close()
            if part.events is not None:
                part.events.close()
        self._submit(part.stem)

    def _failed(self, item: _Rows | Event, error: OSError) -> None:
        f = self._figures
        f.errors, f.last_error = f.errors + 1, str(error)
        if f.errors & (f.errors - 1) == 0:
            log.error("archive of %s: error %d: %s", self._shard, f.errors, error)
        if not isinstance(item, Event):
            self._lost.put(item[1])
            f.lost += item[0].num_rows
        self._seal()

    # -- files -------------------------------------------------------------------------------------

    def _left(self) -> list[Path]:
        """Stems of what a predecessor spooled, in order."""
        found = {
            path.with_suffix("") for suffix in _SUFFIXES for path in self._folder.glob(f"*{suffix}")
        }
        return sorted(found)

    def _submit(self, stem: Path) -> None:
        paths = _Part(stem).paths
        octets = sum(path.stat().st_size for path in paths if path.exists())
        self._uploader.submit(Load(paths, lambda: self._build(stem), octets))

    def _build(self, stem: Path) -> list[tuple[Path, str]]:
        """The files of a part, those of events first: with datagrams there are always all."""
        from pyarrow.parquet import write_table  # slow to import

        life, _, number = stem.name.rpartition(".")
        spooled, lines = _Part(stem).paths
        table = read_spool(spooled) if spooled.exists() else SPOOLED.empty_table()
        events = read_lines(lines) if lines.exists() else []
        if self._cut is not None and self._cut[0] == life:
            end = pa.scalar(self._cut[1], pa.uint64())
            table = table.filter(pc.less(table["sequence"], end))
            events = [event for event in events if event.number < self._cut[2]]
        times = [event.time_ns for event in events]
        if table.num_rows:
            arrival = table["arrival"].to_numpy()
            times += [int(arrival.min()), int(arrival.max())]
        if not times:
            return []
        about = {"shard": self._shard, "life": life, "number": number}
        name = FileName(min(times), max(times), int(number), life, self._shard, "events")
        built = []
        if events:
            path = lines.with_name(f"{lines.name}.parquet")
            write_table(table_of(events).replace_schema_metadata(about), path, compression="zstd")
            built.append((path, name.path))
        if table.num_rows:
            path = spooled.with_name(f"{spooled.name}.parquet")
            level = self._settings.compression
            write_kept(table, path, self._listeners, level, about)
            built.append((path, replace(name, kind="datagrams").path))
        return built
