"""A worker of a replay as an actor: reads captures, keeps its exporters, hands partials back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray

from flowray.ingest.collector import Collector
from flowray.replay import HAND_OVER_ROWS
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings
from flowray.views.aggregate import END_OF_INPUT
from flowray.views.view import Partial
from flowray.wire.capture_merge import merge_captures
from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.pcap import CaptureReader

PACKETS_PER_BATCH = 8192

STEP_SECONDS = 2.0
"""A step ends after so long at the latest, so that the others' windows can close."""


class Replay:
    """Worker `number` of `workers`. `step` is called until it says that there is no more."""

    def __init__(
        self, settings: Settings, inputs: Sequence[Path], number: int, workers: int
    ) -> None:
        self._number, self._workers = number, workers
        self._collector = Collector(compile_settings(settings, "configuration"), str(number))
        self._inputs = inputs
        self._readers: list[CaptureReader[PacketBatch]] = []
        self._batches: Iterator[PacketBatch] | None = None
        self._clock = 0

    def __repr__(self) -> str:
        return f"Replay({self._number} of {self._workers})"

    def _open(self) -> Iterator[PacketBatch]:
        exporters = self._collector.exporters
        self._readers = [
            CaptureReader(path, exporters, None, PACKETS_PER_BATCH) for path in self._inputs
        ]
        if len(self._readers) == 1:
            return iter(self._readers[0])
        return iter(merge_captures(self._readers))

    @ray.method
    def step(self) -> tuple[list[Partial], tuple[int, int], bool]:
        """Partials up to some point, octets (read, in all), whether there is more. Raises
        CaptureError at the first step.
        """
        if self._batches is None:
            self._batches = self._open()
        until = time.monotonic() + STEP_SECONDS
        more = True
        while self._collector.pending_rows < HAND_OVER_ROWS and time.monotonic() < until:
            batch = next(self._batches, None)
            if batch is None:
                more = False
                break
            self._collector.feed(_share(batch, self._mine()))
            self._clock = max(self._clock, int(batch.arrival[-1]))
        partials = self._collector.hand_over(self._clock if more else END_OF_INPUT)
        for partial in partials:
            # What is returned is merged: there is nothing to repeat.
            self._collector.acknowledge(partial.view, partial.partition, partial.sequence)
        reports = [reader.report for reader in self._readers]
        octets = sum(r.bytes_read for r in reports), sum(r.total_bytes for r in reports)
        return partials, octets, more

    def _mine(self) -> npt.NDArray[np.bool_]:
        return share_of(self._collector.exporters, self._number, self._workers)

    @ray.method
    def end(self) -> dict[str, Any]:
        """The accounts and figures of this worker."""
        return {
            "ledger": self._collector.snapshot(),
            "sets_held": self._collector.sets_held,
            "captures": [{"path": r.path, **asdict(r.report)} for r in self._readers],
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
