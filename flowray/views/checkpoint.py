"""Checkpoints: what an aggregator knows, in one object of the store, replaced as a whole.

It is: the magic, the octets of the description (uint64, little endian), the description (JSON),
the tables as Arrow IPC streams one after another, and the CRC-32 of all that (uint32, little
endian).
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from flowray.errors import FlowrayError
from flowray.state.store import Store

MAGIC = b"flowray\x01"
_LENGTH = struct.Struct("<Q")
_SUM = struct.Struct("<I")

State: TypeAlias = tuple[dict[str, Any], dict[str, pa.Table]]
"""A JSON-able description and the tables that it names."""


class CheckpointError(FlowrayError):
    """A checkpoint that cannot be read."""


def encode(state: State, compression: Literal["zstd"] | None = None) -> bytes:
    """A state as octets."""
    description, tables = state
    streams = {name: _stream(table, compression) for name, table in tables.items()}
    header = json.dumps(
        {
            "description": description,
            "tables": [[name, stream.size] for name, stream in streams.items()],
        }
    ).encode()
    content = b"".join((MAGIC, _LENGTH.pack(len(header)), header, *streams.values()))
    return content + _SUM.pack(zlib.crc32(content))


def _stream(table: pa.Table, compression: Literal["zstd"] | None) -> pa.Buffer:
    out = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(out, table.schema, options=options) as writer:
        writer.write_table(table)
    return out.getvalue()


def decode(content: bytes) -> State:
    """The state in octets. Raises CheckpointError."""
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
    """One state in a store: an aggregator's, a RIB's."""

    def __init__(self, store: Store, name: str) -> None:
        self.place = store
        self.name = name

    def store(self, state: State) -> int:
        """Replace the checkpoint; octets written. Raises OSError."""
        content = encode(state)
        self.place.replace(self.name, content)
        return len(content)

    def load(self) -> State | None:
        """What was stored last, None if nothing was. Raises CheckpointError, OSError."""
        content = self.place.read(self.name)
        if content is None:
            return None
        try:
            return decode(content)
        except (ValueError, KeyError, struct.error, pa.ArrowException) as error:
            raise CheckpointError(f"{self}: {error}") from error

    def __str__(self) -> str:
        return f"{self.place}/{self.name}"

    def set_aside(self) -> str:
        """Move a checkpoint that cannot be used out of the way; where it is now. Raises OSError."""
        aside = f"{self.name.rpartition('.')[0] or self.name}.unusable"
        self.place.copy(self.name, aside)
        self.place.delete(self.name)
        return f"{self.place}/{aside}"
