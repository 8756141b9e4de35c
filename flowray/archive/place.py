"""Where an archive is: a folder, or object storage by URI."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from flowray.archive.names import FileName, Kind
from flowray.errors import CaptureError
from flowray.filesystems import (
    PUBLISH_ON_CLOSE,
    aside_name,
    filesystem_of,
    is_uri,
    shown,
    sync_directory,
)

__all__ = ["Place"]

_CHUNK = 4 << 20


class Place:
    """An archive's files by their names in it. `path` is a local folder or a URI of pyarrow.fs,
    connected when it is first used.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened: tuple[fs.FileSystem, str] | None = None

    def __str__(self) -> str:
        return shown(self._path)

    def _place(self) -> tuple[fs.FileSystem, str]:
        """The file system and the path inside it. Raises OSError, ValueError."""
        if self._opened is None:
            local = str(Path(self._path).expanduser().absolute())
            here = fs.LocalFileSystem(), local
            self._opened = filesystem_of(self._path) if is_uri(self._path) else here
        return self._opened

    def put(self, source: Path, name: str) -> None:
        """Move a local file to its name here, where it appears complete or not at all. Raises
        OSError, ValueError.
        """
        filesystem, base = self._place()
        if isinstance(filesystem, fs.LocalFileSystem):
            _put_local(source, Path(base) / name)
            return
        target = f"{base}/{name}"
        if filesystem.type_name in PUBLISH_ON_CLOSE:
            _send(source, filesystem, target)
        else:
            folder, last = posixpath.split(target)
            filesystem.create_dir(folder, recursive=True)
            aside = posixpath.join(folder, aside_name(last))
            _send(source, filesystem, aside)
            filesystem.move(aside, target)
        source.unlink()

    def names(self, kind: Kind) -> Iterator[FileName]:
        """The files of a kind, in no order. Raises CaptureError if they cannot be listed."""
        try:
            filesystem, base = self._place()
            selector = fs.FileSelector(f"{base}/{kind}", allow_not_found=True, recursive=True)
            listed = filesystem.get_file_info(selector)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise CaptureError(f"{self}: cannot be listed: {error}") from error
        for info in listed:
            name = FileName.of(info.path[len(base) :].lstrip("/"))
            if info.type == fs.FileType.File and name is not None:
                yield name

    def open(self, name: FileName) -> Any:
        """A file for random access (`pyarrow.NativeFile`). Raises CaptureError."""
        try:
            filesystem, base = self._place()
            return filesystem.open_input_file(f"{base}/{name.path}")
        except (OSError, ValueError, pa.ArrowException) as error:
            raise CaptureError(f"{self}/{name.path}: {error}") from error

    def fetch(self, name: FileName, into: IO[bytes]) -> None:
        """Copy the octets of a file. Raises CaptureError."""
        with self.open(name) as file:
            try:
                while chunk := file.read(_CHUNK):
                    into.write(chunk)
            except (OSError, pa.ArrowException) as error:
                raise CaptureError(f"{self}/{name.path}: {error}") from error


def _send(source: Path, filesystem: fs.FileSystem, target: str) -> None:
    with source.open("rb") as file, filesystem.open_output_stream(target) as out:
        while chunk := file.read(_CHUNK):
            out.write(chunk)


def _put_local(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(aside_name(target.name))
    shutil.move(source, aside)  # a rename on one file system, else a copy
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(target)
    sync_directory(target.parent)
