"""Appending commits to one local file, each exactly once, also after a crash in the middle of it.

Beside FILE stand `.FILE.commits`, a journal of which commits are in it and where the one in
progress began, and `.FILE.lock`, which makes writers of several processes take turns.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from flowray.filesystems import sync_directory

__all__ = ["append_once"]

_KEPT: Final = 4096
"""Commits that are remembered. Only the last few are repeated, by a caller that was not told."""


def append_once(path: Path, commit_id: str, write: Callable[[BinaryIO, int], None]) -> bool:
    """Let `write` add to the end of the file, unless this commit is in it; returns whether it did.

    `write` gets the file and the size it has. What it wrote is on disk when this returns. If it
    raises, or the process dies, what was left unfinished is cut off before anything else is added.
    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        journal = _Journal(path.with_name(f".{path.name}.commits"))
        if journal.unfinished is not None:
            _cut(path, journal.unfinished)
        if commit_id in journal.done:
            return False
        size = path.stat().st_size if path.exists() else 0
        journal.begin(size)
        try:
            with path.open("ab") as file:
                write(file, size)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            _cut(path, size)
            raise
        journal.end(commit_id)
        if size == 0:
            sync_directory(path.parent)
    return True


def _cut(path: Path, size: int) -> None:
    # A shorter or missing file was rotated away by the operator: nothing of the commit is left in
    # it.
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Journal:
    """Lines `{"begin": size}` and `{"end": commit}`; a begin without an end is unfinished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done: dict[str, None] = {}
        self.unfinished: int | None = None
        lines = path.read_bytes().splitlines() if path.exists() else []
        for line in lines:
            self._take(line)
        if len(self.done) > 2 * _KEPT:
            self._compact()

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return  # cut off by a crash: as if it had not been written, which is what it says
        self.unfinished = entry.get("begin")
        if "end" in entry:
            self.done[entry["end"]] = None

    def _compact(self) -> None:
        self.done = dict.fromkeys(list(self.done)[-_KEPT:])
        entries = [{"end": commit} for commit in self.done]
        if self.unfinished is not None:
            entries.append({"begin": self.unfinished})  # type: ignore[dict-item]
        aside = self._path.with_name(f"{self._path.name}.tmp")
        with aside.open("wb") as file:
            file.writelines(json.dumps(entry).encode() + b"\n" for entry in entries)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)

    def begin(self, size: int) -> None:
        self._add({"begin": size})

    def end(self, commit_id: str) -> None:
        self._add({"end": commit_id})

    def _add(self, entry: dict[str, int] | dict[str, str]) -> None:
        # A newline first as well: the line before may have been cut off.
        with self._path.open("ab") as file:
            file.write(b"\n" + json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
