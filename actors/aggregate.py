"""The aggregator of a view's partition as an actor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ray

from actors.metrics import AGGREGATOR, Meter
from actors.naming import aggregate_name, as_actor, here
from flowray.fleet.changes import folded, written
from flowray.garbage import search_seldom
from flowray.ingest.ledger import Snapshot
from flowray.ingest.warm import warm_aggregator
from flowray.live.publish import LivePublisher
from flowray.logs import configure
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings
from flowray.sinks.opening import open_sinks
from flowray.state.snapshots import seed_of, snapshots_of
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation, Receipt
from flowray.views.checkpoint import Checkpoint
from flowray.views.leading import Leading
from flowray.views.view import Partial

TICK_SECONDS = 0.2


class Aggregate:
    """See `flowray.views.aggregation.Aggregation`."""

    def __init__(self, settings: Settings, file: str, view: str, partition: int) -> None:
        self._name = aggregate_name(view, partition)
        self._stop = threading.Event()
        self._forms = {"folded": folded(settings)[view], "written": written(settings)[view]}
        configure(self._name, settings.logs)
        program = compile_settings(settings, file)
        plan = next(p for p in program.views if p.name == view)
        warm_aggregator(program, view)
        store = open_store(settings.state.path)
        self._aggregation = Aggregation(
            plan,
            open_sinks(program, view),
            partition,
            checkpoint=Checkpoint(store, f"checkpoints/{view}-{partition}.checkpoint"),
            interval_ns=settings.state.checkpoint,
            outbox_limit=settings.state.outbox_limit,
            snapshots=snapshots_of(settings),
            start_from=seed_of(settings, view, partition),
        )
        self._aggregation.start()
        tags = {"view": view, "partition": str(partition)}
        self._live = LivePublisher(program, view, partition, self._aggregation)
        self._meter = Meter(AGGREGATOR, tags, self._figures)
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in (
                ("tick", self._aggregation.advance),
                ("keep", self._aggregation.keep),
            )
        ]
        for thread in self._threads:
            thread.start()
        self._live.start()
        search_seldom()

    def __repr__(self) -> str:
        return f"Aggregate({self._name}, {'stopped' if self._stop.is_set() else 'running'})"

    def _run(self, work: Callable[[], object]) -> None:
        while not self._stop.wait(TICK_SECONDS):
            work()

    def deliver(self, partial: Partial, incarnation: str) -> Receipt:
        """Merge a partial."""
        return self._aggregation.deliver(partial, incarnation)

    def settle(self, shard: str, incarnation: str) -> Receipt:
        """Checkpoint, so that what this shard delivered is acknowledged."""
        return self._aggregation.settle(shard, incarnation)

    @ray.method(concurrency_group="control")
    def expect(self, shards: list[str]) -> None:
        """Whose watermarks hold windows open."""
        self._aggregation.expect(shards)

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """Figures. Raises RuntimeError if time stands still here."""
        for thread in self._threads:
            if not thread.is_alive() and not self._stop.is_set():
                raise RuntimeError(f"the thread {thread.name} died")
        return {**self._figures(), **self._forms, **here()}

    def _figures(self) -> dict[str, Any]:
        return {**self._aggregation.status(), **self._live.status()}

    @ray.method(concurrency_group="control")
    def ledger(self) -> Snapshot:
        """The accounts of the view."""
        return self._aggregation.ledger()

    @ray.method(concurrency_group="control")
    def leading(self, n: int) -> list[Leading]:
        """The first rows of the newest open window, if there is one."""
        return self._aggregation.leading(n, windows=1)

    def finish(self) -> dict[str, Any]:
        """Close every window and checkpoint; the last figures."""
        self._stop.set()
        self._aggregation.finish()
        self._live.stop()
        self._meter.flush()
        return {**self._figures(), "ledger": self._aggregation.ledger()}

    def close_accounts(self) -> None:
        """End a run whose records are all committed."""
        self._aggregation.close_accounts()

    def __ray_shutdown__(self) -> None:
        self._stop.set()
        self._aggregation.close()


AggregateActor = as_actor(Aggregate)
