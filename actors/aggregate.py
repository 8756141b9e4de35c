"""The aggregator of a view's partition as an actor."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
import ray

from actors.metrics import AGGREGATOR, Meter
from actors.naming import aggregate_name, as_actor, here
from flowray.garbage import search_seldom
from flowray.ingest.ledger import Snapshot
from flowray.ingest.warm import warm_aggregator
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings
from flowray.sinks.opening import open_sinks
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation, Receipt
from flowray.views.checkpoint import Checkpoint
from flowray.views.view import Partial

TICK_SECONDS = 0.2


class Aggregate:
    """See `flowray.views.aggregation.Aggregation`."""

    def __init__(self, settings: Settings, file: str, view: str, partition: int) -> None:
        self._name = aggregate_name(view, partition)
        self._stop = threading.Event()
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
        )
        tags = {"view": view, "partition": str(partition)}
        self._meter = Meter(AGGREGATOR, tags, self._aggregation.status)
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)
        self._thread.start()
        search_seldom()

    def __repr__(self) -> str:
        return f"Aggregate({self._name}, {'stopped' if self._stop.is_set() else 'running'})"

    def _run(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            self._aggregation.tick()

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
        if not self._thread.is_alive():
            raise RuntimeError("the tick thread died")
        return {**self._aggregation.status(), **here()}

    @ray.method(concurrency_group="control")
    def ledger(self) -> Snapshot:
        """The accounts of the view."""
        return self._aggregation.ledger()

    @ray.method(concurrency_group="control")
    def newest(self, n: int, by: str) -> pa.Table | None:
        """The first n rows of the newest open window by a counter."""
        return self._aggregation.newest(n, by)

    def finish(self) -> dict[str, Any]:
        """Close every window and checkpoint; the last figures."""
        self._stop.set()
        self._aggregation.finish()
        self._meter.flush()
        return {**self._aggregation.status(), "ledger": self._aggregation.ledger()}

    def close_accounts(self) -> None:
        """End a run whose records are all committed."""
        self._aggregation.close_accounts()

    def __ray_shutdown__(self) -> None:
        self._stop.set()
        self._aggregation.close()


AggregateActor = as_actor(Aggregate)
