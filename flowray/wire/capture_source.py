"""Where the bytes of a capture come from: a mapped file, or a stream (packed, pipe) in chunks."""

from __future__ import annotations

import bz2
import mmap
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from flowray.errors import CaptureError

__all__ = ["CaptureSource", "MappedFile", "Stream", "open_source"]

_CHUNK = 32 << 20  # bytes of capture that a stream adds at a time
_READ = 1 << 20
_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"


class CaptureSource(Protocol):
    """A growing window on the bytes of a capture."""

    data: NDArray[np.uint8]  # (bytes,) what is readable now
    final: bool  # nothing will be added to data
    fault: str  # why the bytes ended early, "" if they did not
    base: int  # position of data[0] in the (unpacked) capture
    total_bytes: int  # size of the file, 0 if that is unknown

    def more(self, keep: int) -> None:
        """Drop the bytes before `keep` and add a chunk: `data` becomes another array."""

    def bytes_read(self, position: int) -> int:
        """Bytes of the file behind us when the reader stands at `position` of `data`."""

    def close(self) -> None:
        """Let go of the file; arrays handed out stay valid."""


class MappedFile:
    """A regular file, mapped: pages are read as they are touched and never copied."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        # A private writable mapping gives the array the type of any other buffer, so that kernels
        # are compiled once and not a second time for read-only arrays. Nothing is ever written.
        mapping = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        mapping.madvise(mmap.MADV_SEQUENTIAL)
        self.data: NDArray[np.uint8] = np.frombuffer(mapping, np.uint8)
        self.final = True
        self.fault = ""
        self.base = 0
        self.total_bytes = size
        file.close()

    def more(self, keep: int) -> None:
        """Nothing to add: all of the file is there."""

    def bytes_read(self, position: int) -> int:
        """Bytes of the file before `position`."""
        return position

    def close(self) -> None:
        """Drop the mapping; it goes when the last batch that points into it goes."""
        self.data = self.data[:0]


class Stream:
    """A pipe or a packed file: chunks of bytes, each in an array of its own."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.data: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.final = False
        self.fault = ""
        self.base = 0
        self.total_bytes = size
        self._file = file
        self._file_bytes = 0
        first = self._read()
        if first.startswith(_GZIP):
            self._pieces = self._unpack_gzip(first)
        elif first.startswith(_BZIP2):
            self._pieces = self._unpack_bzip2(first)
        else:
            self._pieces = self._plain(first)

    def more(self, keep: int) -> None:
        """Drop the bytes before `keep`, add a chunk or learn that there is none."""
        pieces = [self.data[keep:].tobytes()]
        self.base += keep
        added = 0
        for piece in self._pieces:
            pieces.append(piece)
            added += len(piece)
            if added >= _CHUNK:
                break
        else:
            self.final = True
        # A fresh array each time: batches already handed out point into the earlier ones.
        self.data = np.frombuffer(bytearray().join(pieces), np.uint8)

    def bytes_read(self, position: int) -> int:  # noqa: ARG002 (part of the protocol)
        """Bytes of the file read so far (packed ones, if it is packed)."""
        return self._file_bytes

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> bytes:
        try:
            raw = self._file.read(_READ)
        except OSError as error:
            self.fault = error.strerror or str(error)
            return b""
        self._file_bytes += len(raw)
        return raw

    def _plain(self, raw: bytes) -> Iterator[bytes]:
        while raw:
            yield raw
            raw = self._read()

    def _unpack_gzip(self, raw: bytes) -> Iterator[bytes]:
        """Unpack the members of a gzip file (RFC 1952), in pieces of bounded size."""
        member = zlib.decompressobj(wbits=31)
        while raw:
            try:
                piece = member.decompress(raw, _READ)
            except zlib.error as error:
                self.fault = f"damaged gzip data: {error}"
                return
            if piece:
                yield piece
            if member.eof:
                # The next member may follow, or zeros that fill up a block of a tape.
                raw = (member.unused_data or self._read()).lstrip(b"\0")
                member = zlib.decompressobj(wbits=31)
            else:
                raw = member.unconsumed_tail or self._read()
                if not raw:
                    self.fault = "cut-off gzip data"
                    yield member.flush()

    def _unpack_bzip2(self, raw: bytes) -> Iterator[bytes]:
        """Unpack the streams of a bzip2 file, in pieces of bounded size."""
        member = bz2.BZ2Decompressor()
        while raw:
            try:
                piece = member.decompress(raw, _READ)
                while piece:
                    yield piece
                    piece = b"" if member.eof else member.decompress(b"", _READ)
            except OSError as error:
                self.fault = f"damaged bzip2 data: {error}"
                return
            raw = self._read()
            if member.eof:
                raw = member.unused_data + raw
                member = bz2.BZ2Decompressor()
            elif not raw:
                self.fault = "cut-off bzip2 data"


def open_source(path: str | os.PathLike[str]) -> CaptureSource:
    """Open a capture file; raises CaptureError if it cannot be read or is empty."""
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (the source closes it)
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}") from error
    try:
        return _source(file)
    except OSError as error:
        file.close()
        raise CaptureError(f"{path}: {error.strerror or error}") from error


def _source(file: BinaryIO) -> CaptureSource:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return Stream(file, 0)
    packed = os.pread(file.fileno(), 3, 0).startswith((_GZIP, _BZIP2))
    if packed or status.st_size == 0:  # an empty file cannot be mapped
        return Stream(file, status.st_size)
    return MappedFile(file, status.st_size)
