"""Rows of big-endian fields, and datagrams in one flat buffer: what encoders are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

Value: TypeAlias = int | bytes | npt.NDArray[Any]
"""A field's value: an integer or integers (n,), `bytes` or a matrix (n, width) uint8."""

_INTEGERS = {1: ">u1", 2: ">u2", 4: ">u4", 8: ">u8"}
V4_MAPPED = np.uint64(0xFFFF_0000_0000)


def pack(count: int, *fields: tuple[int, Value]) -> Bytes:
    """`count` rows of `(width in bytes, value)` fields: (count, sum of widths) uint8.

    Integers are written in network order.

    Raises ValueError for an integer that does not fit its width: an encoder that is the reference
    must not wrap.
    """
    columns = [(width, _column(width, value)) for width, value in fields if width]
    formats: list[Any] = [
        (f"f{i}", _INTEGERS[width]) if _is_integer(width, value) else (f"f{i}", "u1", (width,))
        for i, (width, value) in enumerate(columns)
    ]
    rows = np.zeros(count, np.dtype(formats))
    for i, (_, value) in enumerate(columns):
        rows[f"f{i}"] = value
    return rows.view(np.uint8).reshape(count, rows.dtype.itemsize)


def _is_integer(width: int, value: Value) -> bool:
    return width in _INTEGERS and (isinstance(value, int) or getattr(value, "ndim", 0) == 1)


def _column(width: int, value: Value) -> Value:
    """The value as numpy can assign it: integers of native widths stay, the rest is uint8."""
    if isinstance(value, int | np.integer):
        raw = int(value).to_bytes(width, "big") if 0 <= value < 1 << 8 * width else None
        if raw is None:
            raise ValueError(f"{value} does not fit {width} bytes")
        return int(value) if width in _INTEGERS else np.frombuffer(raw, np.uint8)
    if isinstance(value, bytes):
        if len(value) != width:
            raise ValueError(f"{len(value)} bytes given for a field of {width}")
        return np.frombuffer(value, np.uint8).reshape(1, width)
    if value.ndim == 2:
        if value.shape[1] != width:
            raise ValueError(f"rows of {value.shape[1]} bytes given for a field of {width}")
        return value
    _check_range(width, value)
    if width in _INTEGERS:
        return value
    if width > 8:
        raise ValueError(
            f"integers have at most 8 bytes, the field has {width}: give a matrix of bytes"
        )
    return value.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]


def _check_range(width: int, values: npt.NDArray[Any]) -> None:
    if not values.size:
        return
    if values.dtype.kind == "i" and int(values.min()) < 0:
        raise ValueError(f"{values.min()} is negative")
    if width < values.dtype.itemsize and int(values.max()) >> 8 * width:
        raise ValueError(f"{values.max()} does not fit {width} bytes")


def address16(hi: npt.NDArray[Any], lo: npt.NDArray[Any]) -> Bytes:
    """Addresses as two words (n,) -> (n, 16) uint8 in network order."""
    return pack(len(hi), (8, hi), (8, lo))


def address4(lo: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """The IPv4 address inside the low word of a v4-mapped address: (n,) uint32."""
    return lo.astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Records:
    """Encoded records end to end: record i is `data[offset[i]:offset[i + 1]]`.

    `data` (bytes,) uint8; `offset` (n + 1,) int64.
    """

    data: Bytes
    offset: I64

    @classmethod
    def of(cls, rows: Bytes) -> Records:
        """Records of one size from the matrix (n, size)."""
        count, size = rows.shape
        return cls(rows.reshape(-1), np.arange(count + 1, dtype=np.int64) * size)

    def __len__(self) -> int:
        return len(self.offset) - 1

    def fitting(self, first: int, room: int) -> int:
        """How many records from `first` on fit into `room` bytes."""
        end = int(np.searchsorted(self.offset, self.offset[first] + room, side="right")) - 1
        return max(0, end - first)

    def slice(self, first: int, stop: int) -> bytes:
        """The bytes of records first..stop-1."""
        return self.data[self.offset[first] : self.offset[stop]].tobytes()


def _no_times() -> I64:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Datagrams:
    """UDP payloads in one buffer, in sending order.

    `buffer` (bytes,) uint8; `offset`, `length` (n,) int64; `exporter` (n,) uint32 index into
    `addresses`; `time_ns` (n,) int64 ns since the epoch, or empty when the datagrams carry no
    schedule.
    """

    buffer: Bytes
    offset: I64
    length: I64
    exporter: npt.NDArray[np.uint32]
    time_ns: I64 = field(default_factory=_no_times)
    addresses: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, payloads: Iterable[bytes], exporter: int = 0, *, time_ns: int | None = None
    ) -> Datagrams:
        """Join separate payloads of one exporter, all sent at `time_ns` if given."""
        parts = list(payloads)
        count = len(parts)
        length = np.fromiter(map(len, parts), np.int64, count)
        return cls(
            np.frombuffer(b"".join(parts), np.uint8),
            np.cumsum(length) - length,
            length,
            np.full(count, exporter, np.uint32),
            _no_times() if time_ns is None else np.full(count, time_ns, np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Datagrams], addresses: tuple[str, ...] = ()) -> Datagrams:
        """One after the other; `exporter` indexes are kept."""
        sizes = np.cumsum([0] + [part.buffer.size for part in parts])
        offsets = [part.offset + base for part, base in zip(parts, sizes, strict=False)]
        return cls(
            np.concatenate([part.buffer for part in parts]),
            np.concatenate(offsets),
            np.concatenate([part.length for part in parts]),
            np.concatenate([part.exporter for part in parts]),
            np.concatenate([part.time_ns for part in parts]),
            addresses,
        )

    def take(self, index: npt.NDArray[Any] | slice) -> Datagrams:
        """The datagrams at `index`, sharing the buffer."""
        times = self.time_ns[index] if self.time_ns.size else self.time_ns
        return Datagrams(
            self.buffer,
            self.offset[index],
            self.length[index],
            self.exporter[index],
            times,
            self.addresses,
        )

    def __len__(self) -> int:
        return len(self.offset)

    def __iter__(self) -> Iterator[bytes]:
        view = memoryview(self.buffer)
        for offset, length in zip(self.offset.tolist(), self.length.tolist(), strict=True):
            yield bytes(view[offset : offset + length])
