"""Batches of TCP segments, and their order among batches of UDP payloads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowray.wire.packets import PacketBatch
from flowray.wire.packets_kernels import copy_payloads

__all__ = ["FIN", "RST", "SYN", "Batch", "SegmentBatch", "alternate"]

FIN, SYN, RST = 0x01, 0x02, 0x04
"""Control bits of a segment (RFC 9293 section 3.1) that a stream depends on."""


@dataclass(slots=True)
class SegmentBatch:
    """TCP segments in one buffer; payload *i* is ``buf[offset[i] : offset[i] + length[i]]``.

    `buf` may be a mapped file: it is shared and must not be written to.
    """

    buf: NDArray[np.uint8]  # (bytes,)
    offset: NDArray[np.int64]  # (n,) start of the payload in buf
    length: NDArray[np.int64]  # (n,) bytes of payload, 0 for a mere SYN, FIN or RST
    source_hi: NDArray[np.uint64]  # (n,) source address, IPv4 as v4-mapped
    source_lo: NDArray[np.uint64]  # (n,)
    source_port: NDArray[np.uint16]  # (n,)
    port: NDArray[np.uint16]  # (n,) destination port
    sequence: NDArray[np.uint32]  # (n,) of the first octet, or of the SYN before it
    flags: NDArray[np.uint8]  # (n,) control bits
    arrival: NDArray[np.int64]  # (n,) ns since the epoch, never decreasing

    def __len__(self) -> int:
        return len(self.offset)

    def slice(self, start: int, stop: int) -> SegmentBatch:
        """Segments start..stop-1, without copying anything."""
        return SegmentBatch(self.buf, *(column[start:stop] for column in self.columns()))

    def payload(self, index: int) -> bytes:
        """A copy of the payload of one segment."""
        start = int(self.offset[index])
        return self.buf[start : start + int(self.length[index])].tobytes()

    @staticmethod
    def gather(parts: Sequence[SegmentBatch], order: NDArray[np.int64]) -> SegmentBatch:
        """One batch with a buffer of its own out of several; see `PacketBatch.gather`."""
        length = np.concatenate([part.length for part in parts])[order]
        offset = np.cumsum(length) - length
        target = np.empty(len(order), np.int64)
        target[order] = offset
        buf = np.empty(int(length.sum()), np.uint8)
        first = 0
        for part in parts:
            place = target[first : first + len(part)]
            copy_payloads(part.buf, part.offset, part.length, place, buf)
            first += len(part)
        columns = zip(*(part.columns()[2:] for part in parts), strict=True)
        return SegmentBatch(
            buf, offset, length, *(np.concatenate(column)[order] for column in columns)
        )

    @staticmethod
    def concatenate(parts: Sequence[SegmentBatch]) -> SegmentBatch:
        """One batch out of several that share one buffer, one after another."""
        columns = zip(*(part.columns() for part in parts), strict=True)
        return SegmentBatch(parts[0].buf, *map(np.concatenate, columns))

    def columns(self) -> tuple[NDArray[Any], ...]:
        """The columns (n,) in the order of their declaration."""
        return (
            self.offset, self.length, self.source_hi, self.source_lo, self.source_port, self.port,
            self.sequence, self.flags, self.arrival,
        )  # fmt: skip


Batch: TypeAlias = PacketBatch | SegmentBatch
"""What a capture gives: datagrams or segments."""


def alternate(
    packets: PacketBatch, segments: SegmentBatch, before: NDArray[np.int64]
) -> Iterator[Batch]:
    """The packets and segments in their common order, a batch ending where the kind changes.

    `before` is (segments,) int64, never decreasing: how many of the packets come before each.
    """
    given = 0
    starts = np.flatnonzero(np.diff(before, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(segments)], strict=True):
        upto = int(before[start])
        if upto > given:
            yield packets.slice(given, upto)
            given = upto
        yield segments.slice(start, stop)
    if given < len(packets):
        yield packets.slice(given, len(packets))
