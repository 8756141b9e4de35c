"""What archiving costs: `PYTHONPATH=.:scripts python -m benchmark.archiving`.

Datagrams go to a shard's archive in batches of the usual size, at full speed, and to a local
folder; a replay reads them back. CPU seconds are those of this process, all threads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from flowray.archive.life import Datagrams, Span, lives_of
from flowray.archive.place import Place
from flowray.archive.shard_archive import ShardArchive
from flowray.generate.bench import MIX, bench_traffic
from flowray.settings.archive import Archive
from flowray.wire.packets import Exporters, PacketBatch

BATCH = 2000
"""Datagrams of a batch."""


@contextmanager
def cpu(into: dict[str, float], name: str) -> Iterator[None]:
    """Note the CPU seconds of a piece of work."""
    thread, process = time.thread_time(), time.process_time()
    yield
    into[name] = time.process_time() - process
    into[f"{name} (thread)"] = time.thread_time() - thread


def measure(traffic: PacketBatch, exporters: Exporters, level: int) -> dict[str, float]:
    """CPU seconds and octets of archiving all of it at a level of compression."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        wanted = Archive(path=str(root / "kept"), spool=root / "spool", compression=level)
        with cpu(found, "write"):
            archive = ShardArchive(wanted, "bench", "1", {})
            with cpu(found, "taken"):
                for begin in range(0, len(traffic), BATCH):
                    part = traffic.slice(begin, begin + BATCH)
                    while not archive.datagrams(part, exporters):
                        time.sleep(0.001)
            archive.close(600)
        found["octets"] = archive.status()["file_octets"]
        with cpu(found, "read"):
            for life in lives_of(Place(wanted.path), Span()):
                items = life.items(Span(), lambda a: np.ones(len(a), np.bool_))
                rows = sum(len(item) for _, item in items if isinstance(item, Datagrams))
        found["rows"] = rows
    return found


def main() -> int:
    """Print a line for each kind of traffic and level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=4_000_000)
    parser.add_argument("--levels", type=int, nargs="*", default=[1, 3, 6, 9])
    options = parser.parse_args()
    print("traffic    level  records/s of CPU   CPU s per million: datagrams  records   "
          "receive thread  read back   octets of a datagram kept  of")  # fmt: skip
    for name, mix in (("ipfix", None), ("mix", MIX)):
        made = bench_traffic(options.records, distinct=options.records // 60, mix=mix)
        exporters = Exporters()
        ids = np.full(len(made), exporters.intern_one("192.0.2.1"), np.uint32)
        traffic = PacketBatch(made.buffer, made.offset, made.length, ids, made.time_ns)
        measure(traffic.slice(0, 4 * BATCH), exporters, 1)  # kernels and libraries are loaded
        for level in options.levels:
            f = measure(traffic, exporters, level)
            n, millions = len(traffic), options.records / 1e6
            assert f["rows"] >= n - 1, "all of it is there"
            print(f"{name:10} {level:5}  {options.records / f['write']:16,.0f}"
                  f"  {f['write'] / n * 1e6:28.2f}  {f['write'] / millions:7.3f}"
                  f"  {f['taken (thread)'] / n * 1e6:15.2f}  {f['read'] / n * 1e6:9.2f}"
                  f"  {f['octets'] / n:26.0f}  {traffic.length.sum() / n:.0f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
