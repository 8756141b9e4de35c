"""The journal of what a shard knows of its exporters: templates and facts, in the order in which
they took effect.

A successor reads it up to the last cut, for the datagrams behind the cut are to be decoded with
what was known then. The template store cannot say that: it has the newest of everything, whoever
told it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flowray.ingest.knowledge import Entry, subject_of

GROWTH = 4 << 20
"""Octets that a journal grows beyond twice its size after the last compaction, before the next."""


class Journal:
    """A file of JSON lines, written anew as another file when most of it is outdated."""

    def __init__(self, directory: Path, place: dict[str, Any] | None) -> None:
        """Go on from a place that another journal told, or begin. Raises OSError."""
        self._directory = directory
        self._number = 0 if place is None else int(place["number"])
        self._octets = 0 if place is None else int(place["octets"])
        self._least = self._octets
        for path in directory.glob("known-*"):
            if place is None or path != self._path:
                path.unlink()
        self._file = self._path.open("ab")
        self._file.truncate(self._octets)  # what was noted after the last cut is noted again

    @property
    def _path(self) -> Path:
        return self._directory / f"known-{self._number}"

    def note(self, entries: Iterable[Entry]) -> None:
        """Add entries. Raises OSError."""
        lines = b"".join(_line(entry) for entry in entries)
        self._file.write(lines)
        self._octets += len(lines)

    def place(self) -> dict[str, Any]:
        """Where the journal is now, JSON-able, once all that was noted is in the file. Raises
        OSError.
        """
        self._file.flush()
        if self._octets > 2 * self._least + GROWTH:
            self._compact()
        return {"number": self._number, "octets": self._octets}

    def _compact(self) -> None:
        """Write the last entry of each subject to a new file; the old one stays until `settle`."""
        last: dict[Any, Entry] = {}
        for entry in self.entries():
            subject = subject_of(entry)
            last.pop(subject, None)
            last[subject] = entry
        content = b"".join(map(_line, last.values()))
        self._file.close()
        self._number += 1
        self._path.write_bytes(content)
        self._octets = self._least = len(content)
        self._file = self._path.open("ab")

    def settle(self) -> None:
        """The place that was told last is noted: what was there before a compaction may go."""
        old = self._directory / f"known-{self._number - 1}"
        old.unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """All entries, in the order of their noting."""
        with self._path.open("rb") as file:
            for line in file:
                yield json.loads(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
