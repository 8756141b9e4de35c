"""Merging captures by time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from flowray.wire.packets import PacketBatch

__all__ = ["merge_captures"]


def merge_captures(readers: Sequence[Iterable[PacketBatch]]) -> Iterator[PacketBatch]:
    """One stream of batches out of several, ordered by arrival time.

    Simultaneous packets come in the order of `readers`, then in the order of their file.  Each
    reader must be ordered in itself and all must share one `Exporters`.  At most one batch of each
    is held.  Where several readers meet in time their payloads are copied into one buffer.
    """
    streams = [iter(reader) for reader in readers]
    heads: dict[int, PacketBatch] = {}
    for index, stream in enumerate(streams):
        _advance(heads, index, stream)
    while heads:
        # Of the batches that end first, the one of the first reader: nothing that any reader has
        # yet to give belongs before its end, so all up to there can go.
        last = min(heads, key=lambda index: (int(heads[index].arrival[-1]), index))
        cut = np.int64(heads[last].arrival[-1])
        taken = []
        for index in sorted(heads):
            head = heads[index]
            # Its next batch may go on at the same instant, which later readers must await.
            side: Literal["left", "right"] = "right" if index <= last else "left"
            count = int(np.searchsorted(head.arrival, cut, side))
            if count:
                taken.append(head.slice(0, count))
                heads[index] = head.slice(count, len(head))
        _advance(heads, last, streams[last])
        yield _by_time(taken)


def _advance(heads: dict[int, PacketBatch], index: int, stream: Iterator[PacketBatch]) -> None:
    heads.pop(index, None)
    for batch in stream:
        if len(batch):
            heads[index] = batch
            return


def _by_time(parts: list[PacketBatch]) -> PacketBatch:
    if len(parts) == 1:
        return parts[0]
    arrival = np.concatenate([part.arrival for part in parts])
    return PacketBatch.gather(parts, np.argsort(arrival, kind="stable"))
