"""Feeds of a case as batches: packets taken by port, presented by the exporter's address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from flowray.wire.packets import Exporters, PacketBatch, address_words
from flowray.wire.pcap import CaptureReader
from flowray.wire.segments import Batch, SegmentBatch
from tests.conformance.case import Case, Feed

PROTOCOLS = ("bgp", "bmp")
"""Where TCP payloads may go; a segment's `port` is made the index here."""


@dataclass(frozen=True, slots=True)
class Session:
    """A TCP connection of a feed."""

    protocol: str
    address: str
    port: int


@dataclass(slots=True)
class Ports:
    """Source ports of sessions: two feeds of one address may have been recorded with the same."""

    taken: dict[tuple[str, int], str] = field(default_factory=dict)

    def of(self, feed: Feed, port: int) -> int:
        address = feed.exporter.present_as
        while self.taken.setdefault((address, port), feed.id) != feed.id:
            port += 1
        return port


class Playing:
    """One capture of a feed, `times` times after another, as batches of a replay.

    Packets are those from `exporter.in_pcap`, if that is given. The exporter of datagrams is
    numbered by `exporters`; segments come from the feed's address and a port of its own.
    """

    def __init__(
        self, case: Case, feed: Feed, name: str, exporters: Exporters, ports: Ports
    ) -> None:
        self.feed = feed
        self.sessions: dict[Session, None] = {}
        self._ports = ports
        self._exporter = exporters.intern_one(feed.exporter.present_as)
        self._senders = Exporters()
        self._into = {t.dst_port: t.into for t in feed.take if t.l4 == "tcp"}
        self.reader = CaptureReader(
            case.path(name),
            self._senders,
            frozenset(t.dst_port for t in feed.take if t.l4 == "udp" and t.into == "flow"),
            tcp_ports=frozenset(p for p, into in self._into.items() if into in PROTOCOLS),
        )

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.reader:
            presented = (
                self._segments(batch) if isinstance(batch, SegmentBatch) else self._packets(batch)
            )
            if len(presented):
                yield presented

    def _packets(self, batch: PacketBatch) -> PacketBatch:
        keep = self._of_sender(self._senders.hi[batch.exporter], self._senders.lo[batch.exporter])
        return PacketBatch(
            batch.buf,
            batch.offset[keep],
            batch.length[keep],
            np.full(int(keep.sum()), self._exporter, np.uint32),
            batch.arrival[keep],
        )

    def _segments(self, batch: SegmentBatch) -> SegmentBatch:
        keep = self._of_sender(batch.source_hi, batch.source_lo)
        kept = SegmentBatch(batch.buf, *(column[keep] for column in batch.columns()))
        address = self.feed.exporter.present_as
        hi, lo = address_words(address)
        kept.source_hi[:], kept.source_lo[:] = hi, lo
        for i in range(len(kept)):
            protocol = self._into[int(kept.port[i])]
            kept.port[i] = PROTOCOLS.index(protocol)
            kept.source_port[i] = port = self._ports.of(self.feed, int(kept.source_port[i]))
            self.sessions[Session(protocol, address, port)] = None
        return kept

    def _of_sender(self, hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not self.feed.exporter.in_pcap:
            return np.ones(len(hi), np.bool_)
        wanted_hi, wanted_lo = address_words(self.feed.exporter.in_pcap)
        return np.asarray((hi == wanted_hi) & (lo == wanted_lo), np.bool_)


@dataclass(frozen=True, slots=True)
class Repeated:
    """Captures of a feed in turn, round by round, each as often as it is to be played.

    Every pass begins when the one before ended, and gaps are multiplied by `speed`.
    """

    captures: list[Playing]
    times: list[int]
    speed: float

    def __iter__(self) -> Iterator[Batch]:
        recorded = [list(capture) for capture in self.captures]
        clock = min((int(b[0].arrival[0]) for b in recorded if b), default=0)
        for turn in range(max(self.times)):
            for batches, times in zip(recorded, self.times, strict=True):
                if turn >= times:
                    continue
                begin = clock
                for batch in batches:
                    gaps = batch.arrival - batches[0].arrival[0]
                    arrival = begin + (gaps * self.speed).astype(np.int64)
                    clock = int(arrival[-1])
                    yield replace(batch, arrival=arrival)


def play(case: Case, feed: Feed, exporters: Exporters, ports: Ports) -> list[Playing | Repeated]:
    """What a feed gives, to be merged by time. Raises CaseError, CaptureError."""
    captures = [Playing(case, feed, name, exporters, ports) for name in feed.pcaps]
    if feed.repeat is None:
        return [*captures]
    return [Repeated(captures, feed.repeat.times, feed.gaps)]
