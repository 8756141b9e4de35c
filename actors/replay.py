"""A worker of a replay as an actor: reads captures, keeps its exporters, hands partials back.

Every worker follows all routes, for any exporter's flows may be joined with any router's. The first
one hands back the rows of streams as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray

from flowray.ingest.collector import Collector
from flowray.replay import HAND_OVER_ROWS, routes_of
from flowray.rib.mrt_routes import MrtRoutes
from flowray.rib.replay import route_ports
from flowray.rib.streams import Stream
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings
from flowray.sinks.base import Commit
from flowray.views.aggregate import END_OF_INPUT
from flowray.views.view import Partial
from flowray.wire.bgp.mrt import is_mrt
from flowray.wire.capture_merge import merge_captures
from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.pcap import CaptureReader
from flowray.wire.segments import Batch, SegmentBatch

PACKETS_PER_BATCH = 8192

STEP_SECONDS = 2.0
"""A step ends after so long at the latest, so that the others' windows can close."""


class HandedBack:
    """A sink that keeps commits until they are handed back."""

    def __init__(self) -> None:
        self._commits: list[tuple[Commit, pa.Table]] = []

    def commit(self, commit: Commit, table: pa.Table) -> None:
        """Keep a commit."""
        self._commits.append((commit, table))

    def take(self) -> list[tuple[Commit, pa.Table]]:
        """The commits since the last call."""
        commits, self._commits = self._commits, []
        return commits

    def close(self) -> None:
        """There is nothing to release."""


class Step(NamedTuple):
    """What a worker did: partials, commits of streams, octets (read, in all), whether there is more
    to do.
    """

    partials: list[Partial]
    rows: dict[str, list[tuple[Commit, pa.Table]]]
    octets: tuple[int, int]
    more: bool


class Replay:
    """Worker `number` of `workers`. `step` is called until it says that there is no more."""

    def __init__(
        self, settings: Settings, inputs: Sequence[Path], number: int, workers: int
    ) -> None:
        self._number, self._workers = number, workers
        program = compile_settings(settings, "configuration")
        self._collector = Collector(program, str(number))
        self._streams = {name: HandedBack() for name in program.streams if number == 0}
        streams = {name: Stream(name, [sink]) for name, sink in self._streams.items()}
        self._routes = routes_of(program, streams)
        self._ports = frozenset(route_ports(settings))
        self._inputs = inputs
        self._readers: list[CaptureReader[Batch]] = []
        self._mrt: list[MrtRoutes] = []
        self._batches: Iterator[Batch] | None = None
        self._clock = 0

    def __repr__(self) -> str:
        return f"Replay({self._number} of {self._workers})"

    def _open(self) -> Iterator[Batch]:
        exporters, ports = self._collector.exporters, self._ports
        tables = [path for path in self._inputs if self._routes is not None and is_mrt(path)]
        self._mrt = [self._routes.add_mrt(path) for path in tables if self._routes is not None]
        self._readers = [
            CaptureReader(path, exporters, None, PACKETS_PER_BATCH, tcp_ports=ports)
            for path in self._inputs
            if path not in tables
        ]
        if len(self._readers) == 1:
            return iter(self._readers[0])
        return iter(merge_captures(self._readers))

    @ray.method
    def step(self) -> Step:
        """What there is up to some point. Raises CaptureError at the first step."""
        if self._batches is None:
            self._batches = self._open()
        until = time.monotonic() + STEP_SECONDS
        more = True
        while self._collector.pending_rows < HAND_OVER_ROWS and time.monotonic() < until:
            batch = next(self._batches, None)
            if batch is None:
                more = False
                break
            self._clock = max(self._clock, int(batch.arrival[-1]))
            self._feed(batch)
        partials = self._collector.hand_over(self._clock if more else END_OF_INPUT)
        for partial in partials:
            # What is returned is merged: there is nothing to repeat.
            self._collector.acknowledge(partial.view, partial.partition, partial.sequence)
        if not more and self._routes is not None:
            self._routes.end(self._clock)
        reports = [reader.report for reader in self._readers]
        octets = sum(r.bytes_read for r in reports), sum(r.total_bytes for r in reports)
        rows = {name: sink.take() for name, sink in self._streams.items()}
        return Step(partials, rows, octets, more)

    def _feed(self, batch: Batch) -> None:
        if isinstance(batch, SegmentBatch):
            assert self._routes is not None, "segments are read for the ports of listeners alone"
            self._routes.feed(batch)
            return
        if self._routes is None:
            self._collector.feed(_share(batch, self._mine()))
            return
        for part, snapshot in self._routes.parts(batch):
            if snapshot is not None and self._collector.join is not None:
                self._collector.join.install(snapshot)
            self._collector.feed(_share(part, self._mine()))

    def _mine(self) -> npt.NDArray[np.bool_]:
        return share_of(self._collector.exporters, self._number, self._workers)

    @ray.method
    def end(self) -> dict[str, Any]:
        """The accounts and figures of this worker."""
        return {
            "ledger": self._collector.snapshot(),
            "sets_held": self._collector.sets_held,
            "captures": [
                *({"path": r.path, **asdict(r.report)} for r in self._readers),
                *({"path": f.reader.path, **asdict(f.reader.report)} for f in self._mrt),
            ],
            "cpu_seconds": time.process_time(),
        }


def share_of(exporters: Exporters, number: int, workers: int) -> npt.NDArray[np.bool_]:
    """Which exporter ids (len(exporters),) are a worker's: by address, so in all workers alike."""
    h = (exporters.hi ^ np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ h >> np.uint64(32) ^ exporters.lo) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray((h >> np.uint64(33)) % np.uint64(workers) == number, np.bool_)


def _share(batch: PacketBatch, mine: npt.NDArray[np.bool_]) -> PacketBatch:
    keep = mine[batch.exporter]
    return PacketBatch(
        batch.buf,
        batch.offset[keep],
        batch.length[keep],
        batch.exporter[keep],
        batch.arrival[keep],
    )


ReplayActor: Any = ray.remote(Replay)
