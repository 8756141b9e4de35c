"""An aggregator at work: partials come in, time passes, checkpoints are written, shards are
answered.

This is the aggregator's side of the exactly-once protocol (docs/decisions/0004). It knows no Ray:
the actor, the tests and whoever runs without Ray drive the same class.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flowray.clock import Clock, wall_clock
from flowray.ingest.ledger import Snapshot, ViewAccount
from flowray.sinks.base import Sink
from flowray.views.aggregate import END_OF_INPUT, Aggregator
from flowray.views.checkpoint import Checkpoint, CheckpointError
from flowray.views.view import Partial, ViewPlan

log = logging.getLogger(__name__)

ROWS_INTERVAL = 1_000_000_000
"""Nanoseconds between checkpoints of a view without a window at most."""

SHARE_OF_TIME = 0.1
"""Checkpoints take at most about this share of the time: big ones are written less often."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a partial.

    `merged` is False if the sender did not know this incarnation of the aggregator: then it sends
    what is not acknowledged once more, oldest first. `acknowledged`: all up to that sequence is in
    a checkpoint. `failure` says why there is no answer at all.
    """

    view: str
    partition: int
    incarnation: str = ""
    merged: bool = False
    acknowledged: int = 0
    failure: str = ""


class Aggregation:
    """One view's partition. Thread-safe; a slow sink or checkpoint makes callers wait."""

    def __init__(
        self,
        plan: ViewPlan,
        sinks: Sequence[Sink],
        partition: int = 0,
        *,
        checkpoint: Checkpoint | None = None,
        interval_ns: int = 5_000_000_000,
        clock: Clock = wall_clock,
    ) -> None:
        """Go on from the checkpoint, if there is one."""
        self._aggregator = Aggregator(plan, sinks, partition)
        self._checkpoint = checkpoint
        # What is committed at once leaves shards waiting for the checkpoint alone, a small one.
        self._interval_ns = interval_ns if plan.windows else min(interval_ns, ROWS_INTERVAL)
        self._clock = clock
        # Time in front: incarnations are ordered.
        self.incarnation = f"{clock():016x}"
        self._lock = threading.Lock()
        self._expecting = False
        self._changed = False
        self._stored_at = clock()
        self._pause_ns = self._interval_ns
        self.checkpoints = 0
        self.checkpoint_octets = 0
        self.errors = 0
        self.last_error = ""
        self.partials = 0
        self.merge_seconds = 0.0
        self.restored = self._restore()

    @property
    def plan(self) -> ViewPlan:
        """What is aggregated."""
        return self._aggregator.plan

    @property
    def partition(self) -> int:
        """Which part of the keys."""
        return self._aggregator.partition

    # -- checkpoints -------------------------------------------------------------------------------

    def _shape(self) -> list[Any]:
        """What must be the same for a checkpoint to be of use."""
        plan, w = self.plan, self.plan.windows
        windows = [w.width, w.offset, w.lateness] if w else None
        return [plan.name, plan.partitions, [f.name for f in plan.fields], windows]

    def _restore(self) -> bool:
        if self._checkpoint is None:
            return False
        try:
            state = self._checkpoint.load()
            if state is None:
                return False
            description, tables = state
            before = description["aggregator"]
            fits = self._fits(description)
        except CheckpointError as error:
            aside = self._checkpoint.set_aside()
            self._failed("checkpoint", error)
            log.error("%s; it is kept as %s", error, aside)  # noqa: TRY400
            return False
        if not fits:
            self._aggregator.succeed(before)
            return False
        self._aggregator.restore(before, tables)
        return True

    def _fits(self, description: dict[str, Any]) -> bool:
        """Whether all of a state is of use; of another form of the view only what is done with."""
        fits: bool = description["shape"] == self._shape()
        state = description["aggregator"]
        if not fits and (state["open"] or state["outstanding"]):
            raise CheckpointError("the checkpoint is of another form of the view")
        return fits

    def _store(self) -> None:
        """Checkpoint, then acknowledge what it holds."""
        begun = time.monotonic_ns()
        description, tables = self._aggregator.state()
        if self._checkpoint is not None:
            state = {"shape": self._shape(), "aggregator": description}
            self.checkpoint_octets = self._checkpoint.store((state, tables))
        self._aggregator.acknowledge(description)
        self._changed = False
        self.checkpoints += 1
        took = time.monotonic_ns() - begun
        self._pause_ns = max(self._interval_ns, int(took / SHARE_OF_TIME))
        self._stored_at = self._clock()

    # -- partials ----------------------------------------------------------------------------------

    def deliver(self, partial: Partial, incarnation: str) -> Receipt:
        """Merge a partial of a shard that knows this incarnation; see `Receipt`."""
        with self._lock:
            merged = incarnation == self.incarnation
            if merged:
                begun = time.monotonic()
                self._aggregator.merge(partial)
                self.partials += 1
                self._changed = self._changed or partial.table is not None
                self.merge_seconds += time.monotonic() - begun
            return self._receipt(partial.shard, partial.incarnation, merged=merged)

    def settle(self, shard: str, incarnation: str) -> Receipt:
        """Checkpoint now: what this shard has delivered is acknowledged with the answer."""
        with self._lock:
            if self._changed or self._aggregator.unacknowledged(shard, incarnation):
                self._store()
            return self._receipt(shard, incarnation, merged=True)

    def _receipt(self, shard: str, incarnation: str, *, merged: bool) -> Receipt:
        return Receipt(
            self.plan.name,
            self.partition,
            self.incarnation,
            merged,
            self._aggregator.acknowledged(shard, incarnation),
        )

    def expect(self, shards: Iterable[str]) -> None:
        """The shards whose watermarks hold windows open. Nothing is closed before this was said."""
        with self._lock:
            self._aggregator.expect(shards)
            self._expecting = True

    # -- time --------------------------------------------------------------------------------------

    def tick(self) -> int:
        """Close the windows that are due, offer refused commits again, checkpoint if it is time;
        returns the number of windows closed. What goes wrong is counted and tried again.
        """
        with self._lock:
            closed = 0
            try:
                if self._expecting:
                    closed = self._aggregator.advance()
                    self._changed = self._changed or closed > 0
                if self._clock() - self._stored_at >= self._pause_ns:
                    self._store()
            except Exception as error:  # noqa: BLE001 - the next tick tries again
                self._failed("tick", error)
            return closed

    def _failed(self, what: str, error: Exception) -> None:
        self.errors += 1
        self.last_error = f"{what}: {type(error).__name__}: {error}"
        if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            log.warning("%s/%s: %s", self.plan.name, self.partition, self.last_error)

    def finish(self) -> None:
        """Close every window, whatever the watermarks, and checkpoint. Sinks stay open."""
        with self._lock:
            self._aggregator.advance(END_OF_INPUT)
            self._store()

    def close_accounts(self) -> None:
        """End a run whose records are all committed: the next one counts from zero."""
        with self._lock:
            self._aggregator.close_accounts()
            self._store()

    def close(self) -> None:
        """Checkpoint and close the sinks."""
        with self._lock:
            self._store()
            self._aggregator.close()

    # -- looking at it -----------------------------------------------------------------------------

    def newest(self, n: int, by: str) -> pa.Table | None:
        """The n native rows of the newest open window that have most of the counter `by`; None if
        no
        window is open. Raises KeyError for a counter that the view lacks.
        """
        with self._lock:
            table = self._aggregator.newest()
        if table is None:
            return None
        import pyarrow.compute as pc  # slow to import, and few look

        order = pc.sort_indices(table, sort_keys=[(by, "descending")])
        return table.take(order[:n])

    def ledger(self) -> Snapshot:
        """The accounts of this aggregator as a ledger."""
        accounts = self._aggregator.accounts
        named = {a.label: int(accounts[a]) for a in ViewAccount if accounts[a]}
        return {"exporters": {}, "views": {self.plan.name: named}}

    def status(self) -> dict[str, Any]:
        """Figures for status, metrics and summaries; never waits for a sink."""
        a = self._aggregator
        marks = a.watermarks
        least = min(marks.values(), default=0)
        running = 0 < least < END_OF_INPUT
        return {
            "view": self.plan.name,
            "partition": self.partition,
            "pid": os.getpid(),
            "incarnation": self.incarnation,
            "restored": self.restored,
            "partials": self.partials,
            "open_windows": a.open_windows,
            "open_records": a.open_records,
            "rows_committed": a.rows_committed,
            "committed": dict(a.committed),
            "outstanding": a.outstanding,
            "sink_errors": a.sink_errors,
            "last_sink_error": a.last_sink_error,
            "checkpoints": self.checkpoints,
            "checkpoint_octets": self.checkpoint_octets,
            "errors": self.errors,
            "last_error": self.last_error,
            "behind_seconds": round((self._clock() - least) / 1e9, 3) if running else None,
            "waits_for": [shard for shard, mark in marks.items() if mark == least and mark == 0],
            "merge_seconds": round(self.merge_seconds, 3),
            "cpu_seconds": round(time.process_time(), 3),
        }
