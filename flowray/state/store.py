"""The state store: named objects that outlive a process, and on object storage a node.

Names are relative POSIX paths. Each object is replaced as a whole: who reads finds the old content
or the new one, after a crash too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa
from pyarrow import fs

from flowray.filesystems import filesystem_of, is_uri, put_object, replace_file, shown

__all__ = ["LocalStore", "ObjectStore", "Store", "open_store", "patiently"]

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between tries of `patiently`."""


class Store(Protocol):
    """Named objects. Thread-safe. Every method raises OSError while the store is away."""

    def read(self, name: str) -> bytes | None:
        """The content, None if there is no such object. In the very moment in which it is replaced
        a server may refuse it (OSError).
        """

    def replace(self, name: str, content: bytes | pa.Buffer) -> None:
        """Give an object new content, all or nothing; when this returns it survives a crash."""

    def copy(self, source: str, target: str) -> None:
        """Give one object the content of another, without reading it. Raises FileNotFoundError."""

    def names(self, prefix: str = "") -> list[str]:
        """All names that begin with this, sorted."""

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no mistake."""


class LocalStore:
    """A directory of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __str__(self) -> str:
        return str(self._directory)

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def replace(self, name: str, content: bytes | pa.Buffer) -> None:
        """See `Store`: written aside, synced, renamed."""
        replace_file(self._directory / name, content)

    def copy(self, source: str, target: str) -> None:
        """See `Store`: a link, for content is replaced and never changed."""
        path = self._directory / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.link(self._directory / source, path)

    def names(self, prefix: str = "") -> list[str]:
        """See `Store`."""
        folder = self._directory / prefix.rpartition("/")[0]
        files = (path for path in folder.rglob("*") if path.is_file())
        names = (path.relative_to(self._directory) for path in files if path.name[0] != ".")
        return sorted(n for n in map(Path.as_posix, names) if n.startswith(prefix))

    def delete(self, name: str) -> None:
        """See `Store`."""
        (self._directory / name).unlink(missing_ok=True)


class ObjectStore:
    """A prefix of a bucket, by a URI of pyarrow.fs; connected when it is first used."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: tuple[fs.FileSystem, str] | None = None

    def __str__(self) -> str:
        return shown(self._uri)

    def _place(self, name: str) -> tuple[fs.FileSystem, str]:
        if self._opened is None:
            self._opened = filesystem_of(self._uri)
        filesystem, base = self._opened
        return filesystem, f"{base}/{name}"

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        filesystem, path = self._place(name)
        try:
            with filesystem.open_input_file(path) as stream:
                content: bytes = stream.read()
        except FileNotFoundError:
            return None
        return content

    def replace(self, name: str, content: bytes | pa.Buffer) -> None:
        """See `Store`."""
        put_object(*self._place(name), content)

    def copy(self, source: str, target: str) -> None:
        """See `Store`: copied by the server."""
        filesystem, path = self._place(source)
        filesystem.copy_file(path, self._place(target)[1])

    def names(self, prefix: str = "") -> list[str]:
        """See `Store`."""
        filesystem, base = self._place("")
        folder = (base + prefix).rpartition("/")[0]
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        found = filesystem.get_file_info(selector)
        files = (f for f in found if f.type == fs.FileType.File and f.base_name[0] != ".")
        names = (f.path.removeprefix(base) for f in files)
        return sorted(n for n in names if n.startswith(prefix))

    def delete(self, name: str) -> None:
        """See `Store`."""
        filesystem, path = self._place(name)
        with suppress(FileNotFoundError):
            filesystem.delete_file(path)


def open_store(location: str | Path) -> Store:
    """The store at a local directory or a URI of pyarrow.fs. Nothing is asked of it yet."""
    if isinstance(location, str) and is_uri(location):
        return ObjectStore(location)
    return LocalStore(Path(location).expanduser())


def patiently(
    what: str,
    work: Callable[[], T],
    *,
    tell: Callable[[str], None] = log.warning,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Do what a start cannot do without, again and again while the store is away, saying so."""
    pause, tries = FIRST_PAUSE, 0
    while True:
        try:
            return work()
        except OSError as error:
            tries += 1
            if tries & (tries - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                tell(f"{what}: waiting for the state store: {error}")
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
