"""An ingest shard at work: receive, decode, fold and hand over in one thread; exchange templates
with the store in another.

It knows no Ray. Aggregators are reached through a `Transport`, the store through `Knowledge`, RIB
groups through `Routes`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from flowray.archive.recorder import RecordedCollector, collectors_of
from flowray.clock import Clock, Rising, wall_clock
from flowray.ingest.delivery import Delivery, Transport
from flowray.ingest.following import Follower, Routes
from flowray.ingest.knowledge import Entry, Outbox, from_entry, to_entry
from flowray.ingest.ledger import Snapshot
from flowray.ingest.movements import LedgerMovements, Movements
from flowray.ingest.receive import Receiver
from flowray.ingest.ring import Ring
from flowray.ingest.settling import NEWS_NS
from flowray.ingest.succession import Cuts, collector_of
from flowray.ingest.turnover import Turnover, successor
from flowray.ingest.warm import warm
from flowray.settings.compile import Program
from flowray.views.aggregate import END_OF_INPUT
from flowray.views.view import Partial

log = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_SECONDS = 0.05
"""Longest wait for a datagram: how soon the thread looks at its other duties."""

EXCHANGE_SECONDS = 1.0
"""How often templates are exchanged with the store."""

EAGER_ROWS = 1 << 20
"""Rows of open partials at which the shard hands over before its time."""

PATIENCE = 5
"""Times its interval that a hand-over is put off while an aggregator lags."""

STUCK_SECONDS = 10.0
"""A thread that did not turn for so long is not healthy."""

RELOAD_SECONDS = 30.0
"""How long a batch and a cut may take before another configuration is taken over."""

LAST_NEWS_SECONDS = 3 * NEWS_NS / 1e9
"""How long a shard that drains and holds data for templates waits for them."""

QUIET_SECONDS = 0.02
"""After its sockets were turned away, how long nothing may come before they are closed."""


class Knowledge(Protocol):
    """The template store, from a shard's side. Calls may block and may raise; they are repeated."""

    def publish(self, entries: list[Entry]) -> object:
        """Make news durable."""

    def since(self, epoch: str, generation: int) -> tuple[str, int, list[Entry]]:
        """News since a generation: (epoch, generation, entries)."""


class Shard:
    """One shard. `start` opens the sockets and returns; `drain` ends it without losing anything.

    With a `ring` nothing that it received is lost either when its process is killed: see
    `flowray.ingest.ring`. The ring is closed with the shard.
    """

    def __init__(
        self,
        program: Program,
        name: str,
        transport: Transport,
        knowledge: Knowledge,
        *,
        routes: Routes | None = None,
        listen: Sequence[str] | None = None,
        ring: Ring | None = None,
        clock: Clock = wall_clock,
    ) -> None:
        self._program = program
        self.name = name
        self._listen = listen if listen is not None else program.settings.listen.flows
        self._clock = Rising(clock)
        # Time in front: the incarnations of a shard are ordered.
        life = f"{clock():016x}"
        make = collectors_of(program, name, life, self._listen, self._clock, ring)
        self._collector = collector_of(program, make, ring, self._clock())
        self._ring = ring
        self._cuts: Cuts | None = None
        # Numbered, but not committed to the ring: not to be sent yet.
        self._uncommitted: list[Partial] = []
        places = [(plan.name, p) for plan in program.views for p in range(plan.partitions)]
        self._delivery = Delivery(self._collector, transport, places)
        self._turnover = Turnover(self._delivery)
        self._knowledge = knowledge
        groups = [group.name for group in program.settings.route_groups]
        self._follower = None if routes is None else Follower(routes, groups)
        self._receiver: Receiver | None = None
        self._movements = LedgerMovements(
            self._collector.ledger, self._collector.exporters, program.settings.metrics.exporters
        )
        self._interval = program.settings.cluster.hand_over / 1e9
        self._memory = program.settings.cluster.shard_memory
        self._requests: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        # Entries to install; behind those of a pull, when it began.
        self._news: SimpleQueue[Entry | int] = SimpleQueue()
        self._outbox = Outbox()
        self._publishing = threading.Lock()
        self._known: tuple[str, int] = ("", 0)
        self._stop = threading.Event()
        self._ask_now = threading.Event()
        self._threads: list[threading.Thread] = []
        self._due = 0.0
        self._cut_at = 0.0
        self._turned = time.monotonic()
        self._cpu_seconds = 0.0
        self._full_seconds = 0.0
        self._full = False
        self._ended = False
        self.state = "starting"
        self.errors = 0
        self.last_error = ""
        self.installed = 0

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Install all that the store knows, then open the sockets. Raises ListenError, and what the
        store raises.
        """
        warm(self._program)
        self._pull()
        if self._follower is not None:
            self._follower.pull()
        self._install_routes()
        listen = self._program.settings.listen
        # What comes in from now on waits at the sockets until the ring is worked off: their buffers
        # hold that much, and before anything was ready other shards took what came.
        self._receiver = Receiver(
            self._listen,
            self._collector.exporters,
            self._collector.ledger,
            allow=listen.allow,
            buffer_octets=listen.receive_buffer,
            slots=self._ring.slots if self._ring is not None else None,
            clock=self._clock,
        )
        if self._ring is not None:
            self._cuts = Cuts(
                self._ring, self._program, self._collector, self._receiver, self._outbox
            )
            self._recover(self._ring)
        # Not before: what was received then is decoded with what was known then.
        self._install()
        self.state = "running"
        for run, name in ((self._run, "receive"), (self._exchange, "exchange")):
            thread = threading.Thread(target=run, name=f"{self.name}-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        if self._follower is not None:
            follow, name = self._follower.run, f"{self.name}-routes"
            # Not joined at the end: it may wait for a group that is away.
            threading.Thread(target=follow, args=(self._stop,), name=name, daemon=True).start()

    def _recover(self, ring: Ring) -> None:
        """Go on with what a predecessor had received after its last cut, and cut."""
        assert self._receiver is not None
        if ring.predecessor is not None:
            last = self._collector.watermark
            if last < END_OF_INPUT:
                self._clock.go_on_from(last)
            for batch in self._receiver.adopted(min(last, self._clock())):
                try:
                    self._collector.feed(batch)
                except Exception as error:  # noqa: BLE001 - one bad batch must not end the shard
                    self._failed(error)
            log.info("shard %s: %d datagrams of a predecessor", self.name, ring.found)
            self._uncommitted = self._collector.hand_over(self._clock())
        self._share()
        self._commit()

    def drain(self, timeout: float = 30.0, *, final: bool = False) -> dict[str, Any]:
        """Stop receiving, hand over all, wait until it is acknowledged; the figures of the end.

        `final`: all shards are drained, so windows need not wait for their time. After `timeout`
        seconds it gives up; "unacknowledged" then says how many partials are left.
        """
        if self.state == "drained":
            return self.figures()
        if self.state == "running":
            self._ask(self._turn_away, timeout)
        mark = END_OF_INPUT if final else None
        deadline = time.monotonic() + timeout
        self._pull_last()
        while not self._ask(lambda: self._drained(mark), timeout):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        self._publish_all()
        figures = self.figures()
        self._end_threads()
        if self._ring is not None and not figures["unacknowledged"]:
            self._ring.remove()
        self.close()
        self.state = "drained"
        return {**figures, "state": "drained"}

    def _pull_last(self) -> None:
        """Learn what data that is held here waits for, if others that drain with us were told it a
        moment ago.
        """
        # The store may be away: then that data is given up.
        with suppress(Exception):
            until = time.monotonic() + LAST_NEWS_SECONDS
            self._pull()
            while self._ask(self._collector.waiting) and time.monotonic() < until:
                time.sleep(IDLE_SECONDS)
                self._pull()

    def close(self) -> None:
        """Stop the threads and close the sockets, whatever is under way."""
        self._end_threads()
        if self._receiver is not None:
            self._receiver.close()
        if self._ring is not None:
            self._ring.close()

    def _end_threads(self) -> None:
        self._stop.set()
        self._ask_now.set()
        for thread in self._threads:
            thread.join(5)
        if isinstance(self._collector, RecordedCollector):
            self._collector.archive.close()

    def check(self) -> None:
        """Raises RuntimeError if the shard does not do its work."""
        dead = [t.name for t in self._threads if not t.is_alive()]
        if dead and not self._stop.is_set():
            raise RuntimeError(f"{self.name}: {', '.join(dead)} died: {self.last_error}")
        idle = time.monotonic() - self._turned
        if idle > STUCK_SECONDS and not self._stop.is_set():
            raise RuntimeError(f"{self.name}: stuck for {idle:.0f} s")

    def reload(self, program: Program) -> None:
        """Go on with another program, of the same listeners and routes. Raises TimeoutError, and
        what cutting raises; then nothing has changed.
        """
        warm(program)
        self._ask(lambda: self._turn_over(program), RELOAD_SECONDS)

    def release(self, views: Sequence[str]) -> None:
        """Deliver to the new aggregators of views that changed, now that they are there."""
        self._ask(lambda: self._turnover.release(views))

    def _turn_over(self, program: Program) -> None:
        assert self._receiver is not None
        self._cut(self._clock())
        collector = successor(self._collector, program, self._clock())
        self._receiver.follow(collector.exporters, collector.ledger)
        self._movements.follow(collector.ledger, collector.exporters)
        self._turnover.begin(self._program, program, collector)
        self._collector, self._program = collector, program
        if self._cuts is not None:
            self._cuts.follow(program, collector)

    # -- the receive thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - one bad batch must not end the shard
                self._failed(error)
        self._cpu_seconds = time.thread_time()

    def _turn(self) -> None:
        """Once round: a batch, and whatever is due."""
        assert self._receiver is not None
        if self.state == "running":
            if self._full or not self._receiver.room:
                # Better that the kernel drops, and counts, than that memory ends.
                self._full_seconds += IDLE_SECONDS
                self._receiver.watch()
                time.sleep(IDLE_SECONDS)
            elif (batch := self._receiver.receive(IDLE_SECONDS)) is not None:
                self._collector.feed(batch)
                if self._collector.has_news:
                    self._share()  # at once: an exporter may move to another shard any moment
        else:
            time.sleep(IDLE_SECONDS / 10)
        if self._full:
            self._full = self._collector.nbytes > self._memory
        self._serve()
        self._install()
        self._settle()
        self._turned = now = time.monotonic()
        if now >= self._due:
            self._due = now + self._interval
            self._share()
        self._cut_if_due(now)
        self._delivery.poll()
        if self._turnover.outgoing:
            self._turnover.step(self._collector)
        self._cpu_seconds = time.thread_time()

    def _cut_if_due(self, now: float) -> None:
        """Hand over when it is time and all aggregators are ready, or when there is no more room to
        wait for them.
        """
        if self._uncommitted:
            self._commit()
        crowded = self._ring is not None and self._ring.slots.crowded
        crowded = crowded or self._collector.pending_rows >= EAGER_ROWS
        patient = self._cut_at + (PATIENCE * self._interval if self._delivery.busy else 0)
        if crowded or now >= patient:
            self._cut(self._clock())

    def _cut(self, watermark: int) -> None:
        """Hand over the open partials of all views, which frees the ring."""
        self._cut_at = time.monotonic() + self._interval
        self._share()
        self._uncommitted += self._collector.hand_over(watermark)
        self._full = self._collector.nbytes > self._memory
        self._commit()

    def _commit(self) -> None:
        """Commit a cut to the ring, then send its partials: the other way round a successor could
        give their numbers to others. Raises OSError; it is to be called again.
        """
        if self._cuts is not None:
            self._cuts.commit()
        partials, self._uncommitted = self._uncommitted, []
        self._delivery.offer(partials)

    def _share(self) -> None:
        """Pass news on to the exchange thread, and have it ask if data waits for a template."""
        entries = [to_entry(*told) for told in self._collector.learned()]
        if entries:
            self._outbox.put(entries)
            self._note(entries)
        if self._outbox or self._collector.waiting():
            self._ask_now.set()

    def _note(self, entries: list[Entry]) -> None:
        """Note for a successor what is known from now on."""
        if self._ring is not None:
            self._ring.journal.note(entries)

    def _install_routes(self) -> None:
        if self._follower is not None and self._collector.join is not None:
            self._follower.install(self._collector.join)

    def _install(self) -> None:
        self._install_routes()
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, int):
                self._collector.pulled(news)
                continue
            address, learned = from_entry(news)
            self._collector.install(address, learned, self._clock())
            self._note([news])
            self.installed += 1

    def _settle(self) -> None:
        """Go on with data that waited for its exporter's options; have the exchange thread ask for
        what it waits for.
        """
        now = self._clock()
        if self._collector.wants_pull(now):
            self._ask_now.set()
        self._collector.settle(now)

    def _turn_away(self) -> None:
        """Take no more datagrams but those that wait at the sockets."""
        assert self._receiver is not None
        self._receiver.turn_away()
        quiet = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < quiet:
            batch = self._receiver.take()
            if batch is None:
                time.sleep(QUIET_SECONDS / 10)
                continue
            self._collector.feed(batch)
            self._cut_if_due(time.monotonic())
            quiet = time.monotonic() + QUIET_SECONDS
        self._receiver.watch()
        self._receiver.close()
        self._share()
        self.state = "draining"

    def _drained(self, watermark: int | None) -> bool:
        """Hand over what is left; whether all has arrived and is acknowledged."""
        self._delivery.poll()
        self._share()
        if self._uncommitted:
            self._commit()
        if self._delivery.busy or self._collector.settling or not self._news.empty():
            return False
        if self._collector.pending_rows or not self._ended:
            self._collector.give_up_held()
            self._cut(watermark if watermark is not None else self._clock())
            self._ended = True
            return False
        if self._collector.unacknowledged_count:
            self._delivery.settle(self.name, self._collector.incarnation)
            return False
        return True

    def _serve(self) -> None:
        """Do what other threads asked for."""
        while True:
            try:
                work, answer = self._requests.get_nowait()
            except Empty:
                return
            try:
                answer.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is the asker's
                answer.set_exception(error)

    def _ask(self, work: Callable[[], T], timeout: float = 5.0) -> T:
        """Have the receive thread do something between two batches. Raises TimeoutError."""
        answer: Future[T] = Future()
        if self._stop.is_set() or not self._threads:
            return work()
        self._requests.put((work, answer))
        return answer.result(timeout)

    # -- the exchange thread -----------------------------------------------------------------------

    def _exchange(self) -> None:
        while not self._stop.is_set():
            self._ask_now.wait(EXCHANGE_SECONDS)
            self._ask_now.clear()
            try:
                self._publish_all()
                self._pull()
            except Exception as error:  # noqa: BLE001 - the store is away; the next round repeats it
                self._failed(error)
            self._stop.wait(EXCHANGE_SECONDS / 4)

    def _publish_all(self) -> None:
        # One that drains publishes in another thread, too: what is counted off is what was told.
        with self._publishing:
            entries = self._outbox.entries()
            if entries:
                self._knowledge.publish(entries)
                self._outbox.published(len(entries))

    def _pull(self) -> None:
        began = self._clock()
        epoch, generation, entries = self._knowledge.since(*self._known)
        for entry in entries:
            self._news.put(entry)
        self._news.put(began)
        self._known = epoch, generation

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        self.last_error = f"{type(error).__name__}: {error}"
        if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            log.error("shard %s: error %d", self.name, self.errors, exc_info=error)

    # -- looking at it -----------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """What is listened on."""
        return self._receiver.addresses if self._receiver else []

    def ledger(self) -> Snapshot:
        """The accounts, as they are between two batches."""
        return self._ask(self._collector.snapshot)

    def movements(self) -> Movements:
        """What moved in the ledger since the last call, for metrics."""
        return self._ask(self._movements.take)

    def figures(self) -> dict[str, Any]:
        """Everything, the ledger included, as it is between two batches."""
        return self._ask(
            lambda: {
                **self.status(),
                "ledger": self._collector.snapshot(),
                "sets_held": self._collector.sets_held,
                "unacknowledged": self._collector.unacknowledged_count,
            }
        )

    def status(self) -> dict[str, Any]:
        """Figures that cost nothing: no wait for the receive thread."""
        r, c = self._receiver, self._collector
        return {
            "shard": self.name,
            "pid": os.getpid(),
            "state": self.state,
            "incarnation": c.incarnation,
            "listen": self.addresses,
            "datagrams": r.datagrams if r else 0,
            "octets": r.octets if r else 0,
            "refused": r.refused if r else 0,
            "kernel_drops": sum(r.kernel_drops.values()) if r else 0,
            "drops_by_socket": r.kernel_drops if r else {},
            "buffer_full": round(r.full, 3) if r else 0.0,
            "exporters": len(c.exporters) - 1,
            "exporters_not_told_apart": c.exporters.overflowed,
            "templates": len(c.decoder.templates),
            "installed": self.installed,
            **self._route_figures(),
            "archive": c.archive.status() if isinstance(c, RecordedCollector) else None,
            "pending_rows": c.pending_rows,
            "octets_held": c.nbytes,
            "full_seconds": round(self._full_seconds, 3),
            **self._ring_figures(),
            "outgoing": sorted(self._turnover.outgoing),
            "gated": sorted(self._turnover.gated),
            "delivered": self._delivery.delivered,
            "resent": self._delivery.resent,
            "failures": self._delivery.failures,
            "last_failure": self._delivery.last_failure,
            "lag_seconds": round(self._delivery.lag_seconds, 3),
            "errors": self.errors,
            "last_error": self.last_error,
            "thread_seconds": round(self._cpu_seconds, 3),
            "cpu_seconds": round(time.process_time(), 3),
        }

    def _ring_figures(self) -> dict[str, Any]:
        """What this shard has of predecessors, and how full its ring is."""
        cuts, ring = self._cuts, self._ring
        return {
            "ring": "" if ring is None else str(ring.directory),
            "ring_used": 0.0 if ring is None else round(ring.slots.used / ring.slots.n, 3),
            "ring_failures": 0 if ring is None else ring.partials.failures,
            "ring_set_aside": "" if ring is None else ring.set_aside,
            "resumed": 0 if cuts is None else cuts.resumed,
            "recovered": 0 if cuts is None else cuts.recovered,
        }

    def _route_figures(self) -> dict[str, Any]:
        """What flows are joined with, by RIB group."""
        join, f, now = self._collector.join, self._follower, self._clock()
        if join is None or f is None:
            return {"joined": {}, "snapshots": 0, "snapshot_failures": 0}
        joined = {
            group: {
                "epoch": s.epoch,
                "generation": s.generation,
                "age_seconds": round((now - s.as_of_ns) / 1e9, 3),
                "stale": group in join.lost,
            }
            for group, s in join.snapshots.items()
        }
        return {"joined": joined, "snapshots": f.pulls, "snapshot_failures": f.failures}
