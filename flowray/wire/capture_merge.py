"""Merging captures by time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from flowray.wire.packets import PacketBatch
from flowray.wire.segments import Batch, SegmentBatch, alternate

__all__ = ["merge_captures"]

_B = TypeVar("_B", bound=Batch)


def merge_captures(readers: Sequence[Iterable[_B]]) -> Iterator[_B]:
    """One stream of batches out of several, ordered by arrival time.

    Simultaneous packets come in the order of `readers`, then in the order of their file, whether
    datagrams or segments; a batch ends where the kind changes.  Each reader must be ordered in
    itself and all must share one `Exporters`.  At most one batch of each is held.  Where several
    readers meet in time their payloads are copied into one buffer.
    """
    streams = [iter(reader) for reader in readers]
    heads: dict[int, Batch] = {}
    for index, stream in enumerate(streams):
        _advance(heads, index, stream)
    while heads:
        # Of the batches that end first, the one of the first reader: nothing that any reader has
        # yet to give belongs before its end, so all up to there can go.
        last = min(heads, key=lambda index: (int(heads[index].arrival[-1]), index))
        cut = np.int64(heads[last].arrival[-1])
        taken: list[Batch] = []
        for index in sorted(heads):
            head = heads[index]
            # Its next batch may go on at the same instant, which later readers must await.
            side: Literal["left", "right"] = "right" if index <= last else "left"
            count = int(np.searchsorted(head.arrival, cut, side))
            if count:
                taken.append(head.slice(0, count))
                heads[index] = head.slice(count, len(head))
        _advance(heads, last, streams[last])
        yield from cast("Iterator[_B]", _by_time(taken))


def _advance(heads: dict[int, Batch], index: int, stream: Iterator[Batch]) -> None:
    heads.pop(index, None)
    for batch in stream:
        if len(batch):
            heads[index] = batch
            return


def _by_time(parts: list[Batch]) -> Iterator[Batch]:
    packets = [part for part in parts if isinstance(part, PacketBatch)]
    segments = [part for part in parts if isinstance(part, SegmentBatch)]
    if not segments:
        yield _joined_packets(packets)
    elif not packets:
        yield _joined_segments(segments)
    else:
        is_segment = np.repeat(
            [isinstance(part, SegmentBatch) for part in parts], [len(part) for part in parts]
        )[_order(parts)]
        before = np.cumsum(~is_segment)[is_segment]
        yield from alternate(_joined_packets(packets), _joined_segments(segments), before)


def _joined_packets(parts: list[PacketBatch]) -> PacketBatch:
    return parts[0] if len(parts) == 1 else PacketBatch.gather(parts, _order(parts))


def _joined_segments(parts: list[SegmentBatch]) -> SegmentBatch:
    return parts[0] if len(parts) == 1 else SegmentBatch.gather(parts, _order(parts))


def _order(parts: Sequence[Batch]) -> NDArray[np.int64]:
    """Rows of the parts, counted one after another, by arrival and then by part."""
    return np.argsort(np.concatenate([part.arrival for part in parts]), kind="stable")
