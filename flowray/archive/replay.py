"""Replay of an archive: the shards of then, each given what it was given, on the time of then.

Every flow is joined with the snapshot of routes that its shard had, and so the rows are those that
were committed.
"""

from __future__ import annotations

import heapq
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flowray.archive.events import Event, EventKind
from flowray.archive.life import Datagrams, Item, Span, lives_of
from flowray.archive.place import Place
from flowray.archive.route_player import Moment, RoutePlayers
from flowray.ingest.collector import Collector
from flowray.ingest.group_join import GroupJoin
from flowray.ingest.knowledge import from_entry
from flowray.ingest.ledger import Account, Snapshot, merge_snapshots
from flowray.settings.compile import Program
from flowray.views.aggregate import END_OF_INPUT
from flowray.views.view import Partial
from flowray.wire.packets import PacketBatch, address_words

__all__ = ["ArchiveReplay", "share_of"]


def share_of(
    hi: npt.NDArray[np.uint64], lo: npt.NDArray[np.uint64], number: int, workers: int
) -> npt.NDArray[np.bool_]:
    """Which addresses (n,) are a worker's: the same in all workers."""
    h = (hi ^ np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ h >> np.uint64(32) ^ lo) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray((h >> np.uint64(33)) % np.uint64(workers) == number, np.bool_)


class ArchiveReplay:
    """Worker `number` of `workers`, for its share of the exporters of a span."""

    def __init__(
        self, program: Program, place: Place, span: Span, number: int = 0, workers: int = 1
    ) -> None:
        """Raises CaptureError for what is no archive."""
        self._program, self._span = program, span
        self._number, self._workers = number, workers
        self._lives = lives_of(place, span)
        self._heirs = self._succession()
        wanted: Counter[Moment] = Counter()
        if program.join is not None:
            wanted.update(
                (event.group, event.epoch, event.generation)
                for life in self._lives
                for event in life.events(span)
                if event.kind is EventKind.ROUTES
            )
            for life in self._lives:
                life.reports.clear()  # faults are told when the files are read again
        self._players = RoutePlayers(place, program.settings, wanted)
        self._heap: list[tuple[int, int, Item, Iterator[tuple[int, Item]]]] = []
        self._collectors: dict[int, Collector] = {}
        self._retired: list[Snapshot] = []
        self._ids: dict[int, tuple[Sequence[str], npt.NDArray[np.uint32]]] = {}
        self._sequence: Counter[tuple[str, int]] = Counter()
        for index in set(range(len(self._lives))).difference(self._heirs.values()):
            self._begin(index)

    def _succession(self) -> dict[int, int]:
        """Who went on from whom: where that one's life is cut, so what was not handed over comes
        once.
        """
        numbers = {(life.owner, life.life): i for i, life in enumerate(self._lives)}
        heirs = {}
        for index, life in enumerate(self._lives):
            told = life.adopted
            before = None if told is None else numbers.get((life.owner, told.epoch))
            if told is not None and before is not None:
                self._lives[before].cut = told.generation, told.began_ns
                heirs[before] = index
        return heirs

    def _begin(self, index: int) -> None:
        """Queue a life; that of an heir begins when the one before it is over."""
        if not self._advance(index, self._lives[index].items(self._span, self._chosen)):
            self._over(index)

    # -- going on ----------------------------------------------------------------------------------

    def _advance(self, index: int, items: Iterator[tuple[int, Item]]) -> bool:
        """Queue what comes next of a life, if anything does."""
        told = next(items, None)
        if told is not None:
            heapq.heappush(self._heap, (told[0], index, told[1], items))
        return told is not None

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return bool(self._heap)

    @property
    def pending_rows(self) -> int:
        """Rows that are not handed over."""
        return sum(collector.pending_rows for collector in self._collectors.values())

    def steps(self, rows: int, seconds: float = float("inf")) -> None:
        """Go on until so many rows wait to be handed over, or that long, or to the end."""
        until = time.monotonic() + seconds
        while self._heap and self.pending_rows < rows and time.monotonic() < until:
            self._step()

    def _step(self) -> None:
        _, index, item, items = heapq.heappop(self._heap)
        collector = self._collector(index)
        if isinstance(item, Event):
            self._apply(collector, item)
        else:
            collector.feed(self._batch(index, item, collector))
        if not self._advance(index, items):
            self._over(index)

    def _batch(self, index: int, rows: Datagrams, collector: Collector) -> PacketBatch:
        known = self._ids.get(index)
        if known is None or known[0] is not rows.addresses:
            ids = [collector.exporters.intern_one(a) for a in rows.addresses]
            known = self._ids[index] = rows.addresses, np.array(ids, np.uint32)
        exporter = known[1][rows.source]
        return PacketBatch(rows.buf, rows.offset, rows.length, exporter, rows.arrival)

    def _collector(self, index: int) -> Collector:
        if index not in self._collectors:
            life = self._lives[index]
            self._collectors[index] = Collector(
                self._program, life.owner, life.life, shared=True
            )  # fmt: skip
            self._settle_known(self._collectors[index])
        return self._collectors[index]

    def _settle_known(self, collector: Collector) -> None:
        """Where a replay begins in the middle of a life, all that was told before is known."""
        if self._span.begin_ns:
            collector.pulled(self._span.begin_ns)

    def _over(self, index: int) -> None:
        """A life is over, or the span."""
        heir, collector = self._heirs.get(index), self._collectors.get(index)
        if heir is not None:
            if collector is not None:
                self._collectors[heir] = self._collectors.pop(index)
                self._ids.pop(index, None)
            self._begin(heir)
        elif collector is not None:
            self._give_up(index, collector)

    def _give_up(self, index: int, collector: Collector) -> None:
        """What still waits was decoded elsewhere, or later."""
        if not self._lives[index].complete:
            if self._span.end_ns < END_OF_INPUT:
                collector.give_up_held()
            for exporter, sets in collector.decoder.settling.hold.expire(END_OF_INPUT):
                collector.ledger.add_one(Account.SETS_EXPIRED, exporter, sets)

    # -- what happened -----------------------------------------------------------------------------

    def _apply(self, collector: Collector, event: Event) -> None:
        match event.kind:
            case EventKind.ADOPTED if collector.join is not None:
                assert self._program.join is not None
                collector.join = GroupJoin(self._program.join)
            case EventKind.ROUTES if collector.join is not None:
                place = event.group, event.epoch, event.generation
                collector.join.install(self._players.snapshot(*place), event.group)
            case EventKind.LOST if collector.join is not None:
                collector.join.lose(event.group)
            case EventKind.TOLD if event.time_ns < self._span.begin_ns:
                self._install(collector, event)
            case EventKind.INSTALLED:
                self._install(collector, event)
            case EventKind.PULLED:
                collector.pulled(event.began_ns)
            case EventKind.SETTLED:
                collector.settle(event.time_ns)
            case EventKind.EXPIRED:
                collector.decoder.expire(event.began_ns)
            case EventKind.GIVEN_UP:
                collector.give_up_held()

    def _install(self, collector: Collector, event: Event) -> None:
        address, learned = from_entry(json.loads(event.text))
        # Of all exporters: who sends for whom is not known before datagrams come.
        collector.install(address, learned, event.began_ns or event.time_ns)

    def _chosen(self, addresses: Sequence[str]) -> npt.NDArray[np.bool_]:
        words = np.array([address_words(a) for a in addresses], np.uint64).reshape(-1, 2)
        mine = share_of(words[:, 0], words[:, 1], self._number, self._workers)
        if self._span.exporters:
            mine &= np.array([a in self._span.exporters for a in addresses], np.bool_)
        return mine

    # -- what came of it ---------------------------------------------------------------------------

    def hand_over(self) -> list[Partial]:
        """Partials since the last call, as those of one shard that is called after the worker."""
        watermark = self._heap[0][0] if self._heap else END_OF_INPUT
        partials = []
        live = {index for _, index, _, _ in self._heap}
        for index, collector in list(self._collectors.items()):
            for partial in collector.hand_over(watermark):
                collector.acknowledge(partial.view, partial.partition, partial.sequence)
                watermark = min(watermark, partial.watermark)
                if partial.table is not None:
                    partials.append(partial)
            if index not in live:
                self._retired.append(collector.snapshot())
                del self._collectors[index]
        # The last ones tell how far all have come.
        places = [(v.name, p) for v in self._program.views for p in range(v.partitions)]
        ends = [Partial(*place, "", "", 0, watermark) for place in places]
        return [self._numbered(partial, 0) for partial in partials] + [
            self._numbered(partial, watermark) for partial in ends
        ]

    def _numbered(self, partial: Partial, watermark: int) -> Partial:
        place = partial.view, partial.partition
        self._sequence[place] += 1
        return replace(
            partial,
            shard=str(self._number),
            incarnation="archive",
            sequence=self._sequence[place],
            watermark=watermark,
        )

    def ledger(self) -> Snapshot:
        """The accounts."""
        now = [collector.snapshot() for collector in self._collectors.values()]
        return merge_snapshots([*self._retired, *now])

    @property
    def sets_held(self) -> int:
        """Data sets that still wait."""
        return sum(collector.sets_held for collector in self._collectors.values())

    def reports(self) -> list[dict[str, Any]]:
        """What was read, a file each."""
        files = [asdict(report) for life in self._lives for report in life.reports]
        faults = self._players.report.faults or []
        return files + [{"path": "routes", "cut_off": True, "fault": fault} for fault in faults]

    @property
    def missing(self) -> int:
        """Datagrams that shards took and that are not in the archive."""
        return sum(life.missing for life in self._lives)
