"""One run of a walk over a capture: the arrays it fills, and the batches these make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.segments import Batch, SegmentBatch, alternate

__all__ = ["Chunk"]

_LAST = np.int64((1 << 32) - 1)


@dataclass(frozen=True, slots=True)
class _Joined:
    """A datagram made of fragments."""

    place: int
    time_ns: int
    hi: int
    lo: int
    port: int
    payload: bytes


class Chunk:
    """The datagrams that a walk appends, and what was listed beside them, in capture order.

    Places order them: of datagram i it is ``i << 32 | _LAST``, of what was listed after `before`
    datagrams ``before << 32 | n`` as the n-th listed.
    """

    def __init__(self, capacity: int) -> None:
        self.offset: NDArray[np.int64] = np.empty(capacity, np.int64)
        self.length: NDArray[np.int64] = np.empty(capacity, np.int64)
        self.arrival: NDArray[np.int64] = np.empty(capacity, np.int64)
        self.port: NDArray[np.uint16] = np.empty(capacity, np.uint16)
        self.hi: NDArray[np.uint64] = np.empty(capacity, np.uint64)
        self.lo: NDArray[np.uint64] = np.empty(capacity, np.uint64)
        self.segments = 0  # added so far
        self._joined: list[_Joined] = []
        self._segments: list[tuple[NDArray[np.int64], SegmentBatch]] = []
        self._listed = 0

    def reserve(self, listed: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places, (n,), of listed rows (n, LISTED_WORDS): to be called once for each list."""
        count = len(listed)
        places = (listed[:, 1].astype(np.int64) << 32) + np.arange(count) + self._listed
        self._listed += count
        return places

    def add_datagram(
        self, place: int, time_ns: int, hi: int, lo: int, port: int, payload: bytes
    ) -> None:
        """Add a datagram that was joined from fragments."""
        self._joined.append(_Joined(place, time_ns, hi, lo, port, payload))

    def add_segments(
        self, places: NDArray[np.int64], listed: NDArray[np.uint64], data: NDArray[np.uint8]
    ) -> None:
        """Add segments as listed, whose payloads stand in `data`."""
        column = listed.T
        batch = SegmentBatch(
            data,
            column[9].astype(np.int64),
            column[10].astype(np.int64),
            column[3].copy(),
            column[4].copy(),
            column[5].astype(np.uint16),
            column[6].astype(np.uint16),
            column[7].astype(np.uint32),
            column[8].astype(np.uint8),
            column[2].astype(np.int64),
        )
        self._segments.append((places, batch))
        self.segments += len(batch)

    def batches(self, data: NDArray[np.uint8], count: int, exporters: Exporters) -> Iterator[Batch]:
        """All that was added, `count` datagrams of the walk among it, none of them empty."""
        packets = PacketBatch(
            data,
            self.offset[:count],
            self.length[:count],
            exporters.intern(self.hi[:count], self.lo[:count]),
            self.arrival[:count],
            self.port[:count],
        )
        if not self._joined and not self._segments:
            if count:
                yield packets
            return
        places = np.arange(count, dtype=np.int64) << 32 | _LAST
        if self._joined:
            packets, places = self._with_joined(packets, places, exporters)
        if not self._segments:
            yield packets
            return
        segments, their_places = self._all_segments()
        yield from alternate(packets, segments, np.searchsorted(places, their_places))

    def _with_joined(
        self, packets: PacketBatch, places: NDArray[np.int64], exporters: Exporters
    ) -> tuple[PacketBatch, NDArray[np.int64]]:
        """The packets with the datagrams made of fragments where their last fragment stood."""
        joined = self._joined
        length = np.array([len(one.payload) for one in joined], np.int64)
        hi = np.array([one.hi for one in joined], np.uint64)
        lo = np.array([one.lo for one in joined], np.uint64)
        side = PacketBatch(
            np.frombuffer(bytearray().join(one.payload for one in joined), np.uint8),
            np.cumsum(length) - length,
            length,
            exporters.intern(hi, lo),
            np.array([one.time_ns for one in joined], np.int64),
            np.array([one.port for one in joined], np.uint16),
        )
        places = np.concatenate([places, np.array([one.place for one in joined], np.int64)])
        order = np.argsort(places)
        return PacketBatch.gather([packets, side], order), places[order]

    def _all_segments(self) -> tuple[SegmentBatch, NDArray[np.int64]]:
        places = np.concatenate([places for places, _ in self._segments])
        parts = [batch for _, batch in self._segments]
        first = parts[0].buf
        if all(part.buf is first for part in parts):
            return SegmentBatch.concatenate(parts), places
        order = np.argsort(places)
        return SegmentBatch.gather(parts, order), places[order]
