"""A collector that archives its input: datagrams, and in order with them all else that its rows
follow from.

A collector knows no sockets and no clock, so whoever gives another one the same input gets the same
rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowray.archive.events import EventKind
from flowray.archive.shard_archive import ShardArchive, listeners_of
from flowray.clock import Clock
from flowray.ingest.collector import Collector, Keeping, MakeCollector
from flowray.ingest.decode import Learned
from flowray.ingest.knowledge import to_entry
from flowray.ingest.ledger import Account
from flowray.ingest.ring import Ring
from flowray.settings.compile import Program
from flowray.views.view import Partial
from flowray.wire.packets import PacketBatch

__all__ = ["RecordedCollector", "collectors_of"]


FLUSH_SECONDS = 0.05
"""How long a hand-over waits at most until all before it is spooled."""


class RecordedCollector(Collector):
    """As `Collector`, archived. `clock` tells when something happened."""

    def __init__(
        self,
        program: Program,
        shard: str,
        life: str,
        archive: ShardArchive,
        clock: Clock,
        *,
        keeping: Keeping | None = None,
    ) -> None:
        super().__init__(program, shard, life, shared=True, keeping=keeping)
        self.archive = archive
        self._clock = clock
        archive.event(EventKind.BEGUN, clock())
        self._joined: dict[str, tuple[str, int, bool]] = {}

    def made_for(self, program: Program) -> Collector:
        """As `Collector.made_for`, with the same archive."""
        life = self.incarnation
        return RecordedCollector(
            program, self.shard, life, self.archive, self._clock, keeping=self.keeping
        )

    def feed(self, batch: PacketBatch) -> None:
        """As `Collector.feed`; what cannot be archived is counted."""
        if not len(batch):
            return
        self._note_routes()
        if not self.archive.datagrams(batch, self.exporters):
            self._count_lost(batch.exporter)
        if (lost := self.archive.lost()) is not None:
            self._count_lost(lost)
        super().feed(batch)

    def _count_lost(self, exporter: npt.NDArray[np.uint32]) -> None:
        self.ledger.add(Account.UNARCHIVED, exporter.astype(np.int64))

    def _note_routes(self) -> None:
        """Note which snapshots are joined with, if that has changed."""
        if self.join is None:
            return
        lost = self.join.lost
        for group, snapshot in self.join.snapshots.items():
            now = snapshot.epoch, snapshot.generation, group in lost
            if self._joined.get(group) == now:
                continue
            self._joined[group] = now
            kind = EventKind.LOST if now[2] else EventKind.ROUTES
            self.archive.event(
                kind, self._clock(), group=group, epoch=now[0], generation=now[1]
            )  # fmt: skip

    @property
    def position(self) -> list[Any]:
        """As `Collector.position`."""
        return self.archive.position

    def adopt(self, position: Sequence[Any] | None) -> None:
        """As `Collector.adopt`."""
        if position is not None:
            life, datagrams, events = position
            self.archive.event(
                EventKind.ADOPTED, self._clock(), epoch=life, generation=datagrams, began_ns=events
            )

    def learned(self) -> list[tuple[str, Learned]]:
        """As `Collector.learned`."""
        news = super().learned()
        for address, learned in news:
            text = _text(address, learned)
            self.archive.event(EventKind.TOLD, self._clock(), text=text)
        return news

    def install(self, address: str, learned: Learned, now_ns: int) -> None:
        """As `Collector.install`."""
        self._note_routes()
        text = _text(address, learned)
        self.archive.event(EventKind.INSTALLED, self._clock(), began_ns=now_ns, text=text)
        super().install(address, learned, now_ns)

    def pulled(self, began_ns: int) -> None:
        """As `Collector.pulled`."""
        self.archive.event(EventKind.PULLED, self._clock(), began_ns=began_ns)
        super().pulled(began_ns)

    def settle(self, now_ns: int) -> None:
        """As `Collector.settle`."""
        if self._decoder.settling.active or self.settling:
            self._note_routes()
            self.archive.event(EventKind.SETTLED, now_ns)
        super().settle(now_ns)

    def give_up_held(self) -> None:
        """As `Collector.give_up_held`."""
        self._note_routes()
        self.archive.event(EventKind.GIVEN_UP, self._clock())
        super().give_up_held()

    def hand_over(self, watermark: int) -> list[Partial]:
        """As `Collector.hand_over`. What came before is in the spool then, unless the disk is slow:
        a successor goes on from here.
        """
        if self._decoder.hold.octets:
            self.archive.event(EventKind.EXPIRED, self._clock(), began_ns=watermark)
        self.archive.flush(FLUSH_SECONDS)
        return super().hand_over(watermark)


def _text(address: str, learned: Learned) -> str:
    return json.dumps(to_entry(address, learned), separators=(",", ":"))


def collectors_of(
    program: Program,
    shard: str,
    life: str,
    listen: Sequence[str],
    clock: Clock,
    ring: Ring | None = None,
) -> MakeCollector:
    """What makes the collector of a live shard with these listeners, archived if the configuration
    says so. Raises as `ShardArchive`.
    """
    wanted = program.settings.archive
    if wanted is None or not wanted.datagrams:
        return lambda keeping: Collector(program, shard, life, shared=True, keeping=keeping)
    cut = None
    if ring is not None and ring.predecessor is not None:
        cut = ring.predecessor[0].get("archive")
    archive = ShardArchive(wanted, shard, life, listeners_of(listen), cut)
    return lambda keeping: RecordedCollector(program, shard, life, archive, clock, keeping=keeping)
