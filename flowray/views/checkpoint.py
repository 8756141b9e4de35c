"""Checkpoints: what an aggregator knows, in one file that is replaced as a whole.

A file is: the magic, the octets of the description (uint64, little endian), the description (JSON),
the tables as Arrow IPC streams one after another, and the CRC-32 of all that (uint32, little
endian).
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from flowray.errors import FlowrayError

MAGIC = b"flowray\x01"
_LENGTH = struct.Struct("<Q")
_SUM = struct.Struct("<I")

State: TypeAlias = tuple[dict[str, Any], dict[str, pa.Table]]
"""A JSON-able description and the tables that it names."""


class CheckpointError(FlowrayError):
    """A checkpoint that cannot be read."""


def replace_file(path: Path, content: bytes | pa.Buffer) -> None:
    """Give a file new content, all or nothing, also if power fails. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def encode(state: State) -> bytes:
    """A state as the octets of a file."""
    description, tables = state
    streams = {name: _stream(table) for name, table in tables.items()}
    header = json.dumps(
        {
            "description": description,
            "tables": [[name, stream.size] for name, stream in streams.items()],
        }
    ).encode()
    content = b"".join((MAGIC, _LENGTH.pack(len(header)), header, *streams.values()))
    return content + _SUM.pack(zlib.crc32(content))


def _stream(table: pa.Table) -> pa.Buffer:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def decode(content: bytes) -> State:
    """The state in the octets of a file. Raises CheckpointError."""
    if not content.startswith(MAGIC):
        raise CheckpointError("no checkpoint")
    body, check = content[: -_SUM.size], content[-_SUM.size :]
    if len(check) < _SUM.size or _SUM.unpack(check)[0] != zlib.crc32(body):
        raise CheckpointError("damaged checkpoint")
    at = len(MAGIC) + _LENGTH.size
    (length,) = _LENGTH.unpack_from(body, len(MAGIC))
    header = json.loads(body[at : at + length])
    at += length
    tables = {}
    whole = pa.py_buffer(body)
    for name, size in header["tables"]:
        tables[name] = pa.ipc.open_stream(whole.slice(at, size)).read_all()
        at += size
    return header["description"], tables


class Checkpoint:
    """The checkpoint of one aggregator."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self, state: State) -> int:
        """Replace the checkpoint; octets written. Raises OSError."""
        content = encode(state)
        replace_file(self.path, content)
        return len(content)

    def load(self) -> State | None:
        """What was stored last, None if nothing was. Raises CheckpointError, OSError."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return decode(content)
        except (ValueError, KeyError, struct.error, pa.ArrowException) as error:
            raise CheckpointError(f"{self.path}: {error}") from error

    def set_aside(self) -> Path:
        """Move a checkpoint that cannot be used out of the way; where it is now."""
        aside = self.path.with_suffix(".unusable")
        self.path.replace(aside)
        return aside
