"""Partials in files: mapped into memory while they wait, and there for a successor.

The files lie in shared memory, so a partial takes its memory once, and none of the process. The
name of a file says what it is: sequence, partition, watermark and view.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from flowray.views.view import Partial

log = logging.getLogger(__name__)

MAPPED = 1 << 16
"""Octets from which a partial is mapped. Smaller ones stay in memory as well: a process may have
some 65,000 maps only.
"""


class KeptPartials:
    """The partials of one shard that are not acknowledged."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError."""
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.failures = 0

    def keep(self, partial: Partial) -> Partial:
        """Store a partial; the same with its table in the file. If there is no room for it, it
        stays in memory alone, which is counted.
        """
        assert partial.table is not None
        path = self._path(partial)
        try:
            with (
                pa.OSFile(str(path), "wb") as file,
                pa.ipc.new_stream(file, partial.table.schema) as writer,
            ):
                writer.write_table(partial.table)
            if partial.table.nbytes >= MAPPED:
                partial.table = _mapped(path)
        except (OSError, pa.ArrowException) as error:
            self.failures += 1
            log.warning("%s: a partial is in memory alone: %s", self._directory, error)
            path.unlink(missing_ok=True)
        return partial

    def forget(self, partial: Partial) -> None:
        """Delete a partial that was acknowledged; its table stays valid while somebody has it."""
        with suppress(FileNotFoundError):
            self._path(partial).unlink()

    def restore(
        self, shard: str, incarnation: str, sequences: dict[tuple[str, int], int]
    ) -> list[Partial]:
        """The partials that a predecessor kept, in the order of their numbers; those past the
        sequences of its last cut were never sent, their datagrams are in the ring, and they are
        deleted.
        """
        found = []
        for path in sorted(self._directory.iterdir()):
            sequence, partition, watermark, view = path.name.split("-", 3)
            place = view, int(partition)
            if int(sequence, 16) > sequences.get(place, 0):
                path.unlink()
                continue
            table = _mapped(path)
            found.append(
                Partial(*place, shard, incarnation, int(sequence, 16), int(watermark), table)
            )
        return found

    def clear(self) -> None:
        """Delete all."""
        for path in self._directory.iterdir():
            path.unlink()

    def _path(self, partial: Partial) -> Path:
        p = partial
        return self._directory / f"{p.sequence:016x}-{p.partition}-{p.watermark}-{p.view}"


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
