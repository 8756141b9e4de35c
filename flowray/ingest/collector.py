"""The engine of an ingest shard: datagrams in, partials of views out. Knows no sockets, no clock,
no Ray.
"""

from __future__ import annotations

import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.columns import Columns, Layout
from flowray.counters import COUNTER_LAYOUT, block_names
from flowray.hashing import Interner
from flowray.ingest.decode import FlowDecoder, Learned, Messages
from flowray.ingest.enrich import Context, needed_fields, steps_for
from flowray.ingest.group_join import GroupJoin
from flowray.ingest.ledger import Account, Ledger, Snapshot, merge_snapshots
from flowray.ingest.operator import OperatorMaps
from flowray.ingest.samples import SampleDecoder
from flowray.ingest.senders import Senders
from flowray.ingest.sequence_runs import Told, with_gaps
from flowray.settings.compile import Program
from flowray.views.view import Partial, View
from flowray.wire.packets import Exporters, PacketBatch

TEXT_LIMIT = 1 << 20
"""Interned strings of a shard; past half of it the interner is renewed at a hand-over."""

CLOCK_SKEW_NS = 10_000_000_000
"""How far ahead of its datagram's arrival a flow may begin before its exporter's clock is called
wrong.
"""


class Keeping(Protocol):
    """Where partials are kept until they are acknowledged, if not in memory (`KeptPartials`)."""

    def keep(self, partial: Partial) -> Partial:
        """Store a partial; the same, with its table where it is stored."""

    def forget(self, partial: Partial) -> None:
        """Let go of a partial that was acknowledged."""


class Collector:
    """Decodes, enriches and folds. Partials are numbered, and kept until acknowledged. Not
    thread-safe.

    `shared`: other shards hear exporters too, and the owner installs what they learn. `watermark`
    (ns) is that of the last hand-over.
    """

    def __init__(
        self,
        program: Program,
        shard: str = "0",
        incarnation: str | None = None,
        *,
        shared: bool = False,
        keeping: Keeping | None = None,
    ) -> None:
        self.shard = shard
        self.keeping = keeping
        self.watermark = 0
        self.incarnation = incarnation or uuid.uuid4().hex[:12]
        self.exporters = Exporters(program.settings.decode.exporters)
        of_counters = [plan.name for plan in program.views if plan.of == "counters"]
        self.ledger = Ledger(self.exporters, of_counters)
        self.closed: Snapshot | None = None
        self._senders = Senders(self.exporters, self.ledger, program.proxies, program.exporters)
        self._texts = Interner(TEXT_LIMIT)
        self._maps = OperatorMaps(program.labels, program.sampling)
        of_flows = [plan for plan in program.views if plan.of == "flows"]
        asked = [name for plan in of_flows for name in sorted(plan.needs)]
        joined = program.join is not None
        if program.join is not None:
            asked += program.join.needs
        self.layout = Layout(needed_fields(asked, joined=joined), program.registry)
        self._trust_exporters = program.decode.trust_exporters
        self._steps = steps_for(self.layout.names, joined=joined)
        self.join = None if program.join is None else GroupJoin(program.join)
        self._decoder = FlowDecoder(
            self.layout, program.decode, self.ledger, self._texts, self._enrich, shared=shared
        )
        self.samples = SampleDecoder(
            self.layout,
            program.decode,
            self.ledger,
            self.exporters,
            self._enrich,
            self._offer_counters if of_counters else None,
        )
        layouts = {"flows": self.layout, "counters": COUNTER_LAYOUT}
        self._views = [View(plan, layouts[plan.of], self.ledger) for plan in program.views]
        self._flow_views = [view for view in self._views if view.plan.of == "flows"]
        self._counter_views = [view for view in self._views if view.plan.of == "counters"]
        self._block_names = block_names()
        self.sequence = {
            (plan.name, p): 0 for plan in program.views for p in range(plan.partitions)
        }
        # Of views that are no more, too, until they are acknowledged.
        self._unacknowledged: dict[tuple[str, int], deque[Partial]] = defaultdict(deque)
        self._kept_octets = 0
        self.refused_texts = 0

    @property
    def decoder(self) -> FlowDecoder:
        """Templates, options and held sets of this shard."""
        return self._decoder

    @property
    def position(self) -> list[Any] | None:
        """Where the archive of its input stands: life, datagrams, events; None without one."""
        return None

    def adopt(self, position: Sequence[Any] | None) -> None:
        """It goes on from another one, whose archive stood there."""

    # -- datagrams ---------------------------------------------------------------------------------
    # ------------------

    def feed(self, batch: PacketBatch) -> None:
        """Account a batch of datagrams and fold its records into the views' partials."""
        batch = self._senders.reveal(batch)
        if not len(batch):
            return
        sampled = _is_sflow(batch)
        if not sampled.any():
            self._offer(self._decoder.decode(batch))
        elif sampled.all():
            self._offer(self.samples.decode(batch))
        else:
            self._offer(self._decoder.decode(_choose(batch, ~sampled)))
            self._offer(self.samples.decode(_choose(batch, sampled)))

    def _offer(self, parts: Iterator[Columns]) -> None:
        for columns in parts:
            exporter = columns["_exporter"].view(np.int64)
            least, most = columns.bounds("_exporter") if columns.n else (0, 0)
            if least == most:
                self.ledger.add_one(Account.RECORDS, least, columns.n)
            else:
                self.ledger.add(Account.RECORDS, exporter)
            self._count_skewed(columns, exporter)
            for view in self._flow_views:
                view.offer(columns, self._texts)

    def _offer_counters(self, columns: Columns) -> None:
        for view in self._counter_views:
            view.offer(columns, self._block_names)

    def _count_skewed(self, columns: Columns, exporter: npt.NDArray[np.int64]) -> None:
        """Records that begin well after their datagram arrived: their exporter's clock is ahead of
        ours.
        """
        if "timestamp_start" not in self.layout:
            return
        latest = columns["timestamp_arrival"] + np.uint64(CLOCK_SKEW_NS)
        ahead = columns["timestamp_start"] > latest
        if ahead.any():
            self.ledger.add(Account.SKEWED, exporter[ahead])

    def _enrich(self, columns: Columns, messages: Messages) -> None:
        context = Context(
            self.exporters,
            self._decoder.options,
            self._texts,
            self._maps,
            self._trust_exporters,
            self.join,
        )
        for step in self._steps:
            step(columns, messages, context)

    # -- state shared through the template store
    # ---------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether exporters told anything since the last `learned`."""
        return bool(self._decoder.learned)

    def learned(self) -> list[tuple[str, Learned]]:
        """What exporters told since the last call: (exporter address, template or fact)."""
        news, self._decoder.learned = self._decoder.learned, []
        return [(self.exporters.address(x.key.exporter), x) for x in news]

    def known(self) -> list[tuple[str, Learned]]:
        """All that is known of exporters, as `learned` tells it."""
        return [(self.exporters.address(x.key.exporter), x) for x in self._decoder.known()]

    def install(self, address: str, learned: Learned, now_ns: int) -> None:
        """Take a template or fact that another shard learned; data held for it is decoded."""
        exporter = self.exporters.intern_one(address)
        self._offer(self._decoder.install_from_store(exporter, learned, now_ns))

    def pulled(self, began_ns: int) -> None:
        """All that the store told to a pull that began then is installed."""
        self._decoder.settling.pulled(began_ns)

    def wants_pull(self, now_ns: int) -> bool:
        """Whether data waits for a pull from the store that may begin now."""
        return self._decoder.settling.wants_pull(now_ns)

    def settle(self, now_ns: int) -> None:
        """Decode some of the data that need not wait any longer for its exporter's options."""
        self._decoder.settling.give_up(now_ns)
        self._offer(self._decoder.release_settled())

    @property
    def settling(self) -> bool:
        """Whether data waits for its exporter's options."""
        return bool(self._decoder.settling.hold.octets)

    def waiting(self) -> list[tuple[str, int, int, int]]:
        """Templates that held data waits for: (exporter address, domain, version, id)."""
        return [
            (self.exporters.address(k.exporter), k.domain, k.version, k.id)
            for k in self._decoder.hold.waiting
        ]

    def give_up_held(self) -> None:
        """Decode data that waits for options as it is; account data that still waits for a template
        as expired: nobody will decode it here.
        """
        settling = self._decoder.settling
        settling.settle_all()
        self._offer(self._decoder.release_settled(settling.hold.octets))
        self._decoder.expire((1 << 63) - 1)

    # -- partials ----------------------------------------------------------------------------------
    # ------------------

    @property
    def pending_rows(self) -> int:
        """Rows of the open partials."""
        return sum(view.pending for view in self._views)

    @property
    def nbytes(self) -> int:
        """Octets held by open partials and by those not acknowledged. Any thread may ask."""
        return self._kept_octets + sum(view.nbytes for view in self._views)

    def hand_over(self, watermark: int) -> list[Partial]:
        """Partials of all views since the last call, numbered; each is kept until `acknowledge`.

        A view without rows hands over an empty partial, which carries the watermark: it stops where
        data waits for its exporter's options.
        """
        self._decoder.expire(watermark)
        watermark = self._decoder.settling.horizon(watermark)
        self.watermark = watermark
        partials = []
        for view in self._views:
            plan = view.plan
            places = [(plan.name, p) for p in range(plan.partitions)]
            tables = dict(view.hand_over(self._texts))
            partials += [self._number(p, watermark, tables.get(p[1])) for p in places]
        if self._texts.crowded and not self.pending_rows:
            self._renew_texts()
        return partials

    def _number(self, place: tuple[str, int], watermark: int, table: pa.Table | None) -> Partial:
        self.sequence[place] += 1
        partial = Partial(
            place[0],
            place[1],
            self.shard,
            self.incarnation,
            self.sequence[place],
            watermark,
            table,
        )
        if table is not None:
            if self.keeping is not None:
                partial = self.keeping.keep(partial)
            self._keep(partial)
        return partial

    def _keep(self, partial: Partial) -> None:
        self._unacknowledged[partial.view, partial.partition].append(partial)
        self._kept_octets += _octets(partial)

    def go_on_with(self, partials: Iterable[Partial]) -> None:
        """Keep what a predecessor kept, in the order of their numbers."""
        for partial in partials:
            self._keep(partial)

    def _renew_texts(self) -> None:
        self.refused_texts += self._texts.refused
        self._texts = Interner(TEXT_LIMIT)
        self._decoder.replace_texts(self._texts)

    def acknowledge(self, view: str, partition: int, sequence: int) -> None:
        """The aggregator has everything up to this sequence in a checkpoint."""
        kept = self._unacknowledged[view, partition]
        while kept and kept[0].sequence <= sequence:
            partial = kept.popleft()
            self._kept_octets -= _octets(partial)
            if self.keeping is not None:
                self.keeping.forget(partial)

    def kept(self) -> list[Partial]:
        """All partials that are not acknowledged, in the order of their numbers per place."""
        return [partial for kept in self._unacknowledged.values() for partial in kept]

    def unacknowledged(self, view: str, partition: int) -> list[Partial]:
        """Partials to send again to an aggregator that came back, oldest first."""
        return list(self._unacknowledged[view, partition])

    @property
    def unacknowledged_count(self) -> int:
        """Partials that no checkpoint is known to hold."""
        return sum(len(kept) for kept in self._unacknowledged.values())

    # -- looking at it -----------------------------------------------------------------------------
    # ------------------

    @property
    def sets_held(self) -> int:
        """Data sets that wait for a template, or for their exporter's options."""
        return len(self._decoder.hold) + len(self._decoder.settling.hold)

    def snapshot(self) -> Snapshot:
        """The ledger, with what was closed of it, the sets that are held now and the sequence
        accounts.
        """
        held = {"held": self.sets_held} if self.sets_held else {}
        now = {**self.ledger.snapshot(), **held}
        found = now if self.closed is None else merge_snapshots((self.closed, now))
        return with_gaps({**found, "sequences": self.sequences()})

    def close_accounts(self) -> None:
        """Begin the accounts anew under other views; `snapshot` tells both."""
        ledger = self.ledger.snapshot()
        self.closed = ledger if self.closed is None else merge_snapshots((self.closed, ledger))
        self.ledger.reset()

    def made_for(self, program: Program) -> Collector:
        """Another collector of the same kind and place, empty, for another program."""
        return Collector(program, self.shard, self.incarnation, shared=True, keeping=self.keeping)

    def sequences(self) -> Told:
        """Sequence accounts of all exporters."""
        told = self._decoder.sequences.told(self.exporters.address)
        for exporter, places in self.samples.sequences.told(self.exporters.address).items():
            told[exporter] = told.get(exporter, {}) | places
        return told


MakeCollector: TypeAlias = Callable[[Keeping | None], Collector]
"""Makes the collector of a shard, whose partials something keeps or nothing does."""


def _octets(partial: Partial) -> int:
    return 0 if partial.table is None else int(partial.table.nbytes)


def _is_sflow(batch: PacketBatch) -> npt.NDArray[np.bool_]:
    """Datagrams that begin as sFlow does: a version of 32 bits below 65,536 (n,)."""
    sampled = np.zeros(len(batch), np.bool_)
    long = np.flatnonzero(batch.length >= 4)
    at = batch.offset[long]
    sampled[long] = (batch.buf[at] == 0) & (batch.buf[at + 1] == 0)
    return sampled


def _choose(batch: PacketBatch, mask: npt.NDArray[np.bool_]) -> PacketBatch:
    return PacketBatch(
        batch.buf,
        batch.offset[mask],
        batch.length[mask],
        batch.exporter[mask],
        batch.arrival[mask],
    )
