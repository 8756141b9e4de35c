"""What all measurements share: traffic, repeats, and places to write."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmark.processes import ROOT
from benchmark.source import Source
from flowray.generate.bench import bench_traffic
from flowray.generate.capture import write_capture

CACHE = ROOT / ".cache" / "bench"
RECORDS_PER_PACKET = 20
KEYS = 63_000
SHORT_RECORDS = 400
"""A capture that costs next to nothing, yet makes a program load all that it needs."""


def capture(records: int) -> Path:
    """A capture of so many generated records, made once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"ipfix-{records}.pcap"
    if not path.exists():
        made = path.with_suffix(".tmp")
        write_capture(made, bench_traffic(records, RECORDS_PER_PACKET, KEYS))
        made.rename(path)
    return path


@dataclass(frozen=True, slots=True)
class Bench:
    """A run of the benchmark."""

    records: int
    repeats: int
    rate: float
    routes: int
    full: Path
    short: Path
    source: Source
    ports: int = 1

    @property
    def first(self) -> int:
        """Datagrams that a collector takes before the measurement begins."""
        return SHORT_RECORDS // RECORDS_PER_PACKET + 1

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder for one program; gone afterwards."""
        path = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def bench(records: int, repeats: int, rate: float, routes: int) -> Iterator[Bench]:
    """Traffic made, sender started."""
    full, short = capture(records), capture(SHORT_RECORDS)
    with Source(full) as source:
        yield Bench(records, repeats, rate, routes, full, short, source)
