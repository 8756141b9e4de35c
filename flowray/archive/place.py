"""Where an archive is: a folder, or object storage by URI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from flowray.archive.names import FileName, Kind
from flowray.errors import CaptureError, ConfigError

__all__ = ["Place"]

_CHUNK = 4 << 20


class Place:
    """An archive's files by their names in it. `path` is a local folder or a URI of pyarrow.fs."""

    def __init__(self, path: str) -> None:
        """Raises ConfigError for a URI that nothing answers to."""
        self.path = path
        if "://" not in path:
            self._fs: fs.FileSystem = fs.LocalFileSystem()
            self._base = str(Path(path).expanduser().absolute())
            return
        try:
            self._fs, self._base = fs.FileSystem.from_uri(path)
        except (OSError, ValueError, pa.ArrowException) as error:
            allowed = f"a local folder or a URI that can be reached ({error})"
            raise ConfigError("configuration", "archive.path", repr(path), allowed) from error

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self._fs, fs.LocalFileSystem)

    def put(self, source: Path, name: str) -> None:
        """Move a local file to its name here, where it appears complete or not at all. Raises
        OSError.
        """
        if self.local:
            self._put_local(source, Path(self._base) / name)
            return
        target = f"{self._base}/{name}"
        if not isinstance(self._fs, fs.S3FileSystem | fs.GcsFileSystem):
            self._fs.create_dir(target.rpartition("/")[0], recursive=True)
            aside = f"{target.rpartition('/')[0]}/.{uuid4().hex}.part"
            self._send(source, aside)
            self._fs.move(aside, target)
        else:  # objects appear when their stream is closed
            self._send(source, target)
        source.unlink()

    def _send(self, source: Path, target: str) -> None:
        with source.open("rb") as file, self._fs.open_output_stream(target) as out:
            while chunk := file.read(_CHUNK):
                out.write(chunk)

    @staticmethod
    def _put_local(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.part")
        shutil.move(source, aside)  # a rename on one file system, else a copy
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(target)

    def names(self, kind: Kind) -> Iterator[FileName]:
        """The files of a kind, in no order. Raises CaptureError if they cannot be listed."""
        selector = fs.FileSelector(f"{self._base}/{kind}", allow_not_found=True, recursive=True)
        try:
            listed = self._fs.get_file_info(selector)
        except (OSError, pa.ArrowException) as error:
            raise CaptureError(f"{self.path}: cannot be listed: {error}") from error
        for info in listed:
            name = FileName.of(info.path[len(self._base) :].lstrip("/"))
            if info.type == fs.FileType.File and name is not None:
                yield name

    def open(self, name: FileName) -> Any:
        """A file for random access (`pyarrow.NativeFile`). Raises CaptureError."""
        try:
            return self._fs.open_input_file(f"{self._base}/{name.path}")
        except (OSError, pa.ArrowException) as error:
            raise CaptureError(f"{self.path}/{name.path}: {error}") from error

    def fetch(self, name: FileName, into: IO[bytes]) -> None:
        """Copy the octets of a file. Raises CaptureError."""
        with self.open(name) as file:
            try:
                while chunk := file.read(_CHUNK):
                    into.write(chunk)
            except (OSError, pa.ArrowException) as error:
                raise CaptureError(f"{self.path}/{name.path}: {error}") from error

    def exists(self) -> bool:
        """Whether there is an archive: files of datagrams or of what shards were told."""
        return any(True for kind in _FOUND_BY for _ in self.names(kind))


_FOUND_BY: tuple[Kind, ...] = ("datagrams", "events")
