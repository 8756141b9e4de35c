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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowray.clock import Clock, wall_clock
from flowray.ingest.ledger import Snapshot, ViewAccount
from flowray.sinks.base import Sink
from flowray.state.outbox import OUTBOX_LIMIT
from flowray.state.snapshots import Part, Seed, SnapshotError, Snapshots
from flowray.state.store import patiently
from flowray.views.aggregate import END_OF_INPUT, Aggregator
from flowray.views.checkpoint import Checkpoint, CheckpointError
from flowray.views.leading import Leading, Totals
from flowray.views.view import Partial, ViewPlan

log = logging.getLogger(__name__)

ROWS_INTERVAL = 1_000_000_000
"""Nanoseconds between checkpoints of a view without a window at most."""

SHARE_OF_TIME = 0.1
"""Checkpoints take at most about this share of the time: big ones are written less often."""

FIRST_PAUSE_NS, LONGEST_PAUSE_NS = 250_000_000, 30_000_000_000
"""Between tries of a checkpoint while the state store is away; the first doubles."""

FLUSH_SECONDS, STORE_SECONDS, RETRY_SECONDS = 10.0, 10.0, 0.5
"""How long the end of a run waits for sinks and for the state store, and between tries."""

SETTLE_SECONDS = 0.2
"""How long a checkpoint waits for sinks that are at work: what they take need not be stored."""

FORM = 2
"""Of what a checkpoint holds."""


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
    """One view's partition. Thread-safe. Nobody waits for the state store but who asks for a
    checkpoint, and nobody for sinks once `start` was called.
    """

    def __init__(
        self,
        plan: ViewPlan,
        sinks: Sequence[Sink] | Mapping[str, Sink],
        partition: int = 0,
        *,
        checkpoint: Checkpoint | None = None,
        interval_ns: int = 5_000_000_000,
        outbox_limit: int = OUTBOX_LIMIT,
        snapshots: Snapshots | None = None,
        start_from: Seed | None = None,
        clock: Clock = wall_clock,
    ) -> None:
        """Go on from the checkpoint, or from what `start_from` reads if there is none; waits for a
        state store that is away. Raises SnapshotError.
        """
        store = None if checkpoint is None else checkpoint.place
        self._aggregator = Aggregator(
            plan, sinks, partition, store=store, outbox_limit=outbox_limit
        )
        self._checkpoint = checkpoint
        # What is committed at once leaves shards waiting for the checkpoint alone, a small one.
        self._interval_ns = interval_ns if plan.windows else min(interval_ns, ROWS_INTERVAL)
        self._clock = clock
        # Time in front: incarnations are ordered.
        self.incarnation = f"{clock():016x}"
        self._lock, self._storing = threading.Lock(), threading.Lock()
        self._expecting = False
        self._changed = False
        self._store_at = clock() + self._interval_ns
        self._failures = 0
        self._snapshots = snapshots
        self._snapshot_at = 0
        self.checkpoints = 0
        self.checkpoint_octets = 0
        self.errors = 0
        self.last_error = ""
        self.partials = 0
        self.refused = 0
        self.merge_seconds = 0.0
        self.restored = self._restore(start_from)

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
        return [FORM, plan.name, plan.partitions, [f.name for f in plan.fields], windows]

    def _restore(self, start_from: Seed | None) -> bool:
        checkpoint = self._checkpoint
        if checkpoint is None:
            return False
        what = f"{self.plan.name}/{self.partition}"
        outbox = self._aggregator.outbox
        try:
            state = patiently(what, checkpoint.load)
            if state is not None:
                self._go_on(*state)
        except CheckpointError as error:
            aside = patiently(what, checkpoint.set_aside)
            self._failed("checkpoint", error)
            log.error("%s; it is kept as %s", error, aside)  # noqa: TRY400
            state = None
        if state is None and start_from is not None:
            part = patiently(what, start_from)
            if part is not None:
                self._adopt(part)
        # Without a checkpoint what an earlier one listed may still be of use to somebody.
        patiently(what, lambda: outbox.find(tidy=state is not None))
        return state is not None

    def _adopt(self, part: Part) -> None:
        if part.manifest["shape"] != self._shape():
            raise SnapshotError(f"view {self.plan.name}: the snapshot is of another form of it")
        self._aggregator.adopt(*part.state, part.outbox)

    def _go_on(self, description: dict[str, Any], tables: dict[str, Any]) -> None:
        """Go on from a checkpoint, of another form of the view only if nothing is open there."""
        state = description["aggregator"]
        if description["shape"] == self._shape():
            self._aggregator.restore(state, tables)
        elif description["shape"][0] != FORM or state["open"] or state["outbox"]:
            raise CheckpointError("the checkpoint is of another form of the view")
        else:
            self._aggregator.succeed(state)

    def _store(self) -> None:
        """Checkpoint, then acknowledge what it holds. Raises OSError."""
        with self._storing:
            a = self._aggregator
            a.outbox.settle(SETTLE_SECONDS)
            begun = time.monotonic_ns()
            with self._lock:
                description, tables, listed = a.state()
                changed, self._changed = self._changed, False
            try:
                if self._checkpoint is not None:
                    a.outbox.store(listed)
                    state = {"shape": self._shape(), "aggregator": description}
                    self.checkpoint_octets = self._checkpoint.store((state, tables))
            except OSError:
                self._changed = self._changed or changed
                self._failures += 1
                pause_ns = min(FIRST_PAUSE_NS << min(self._failures, 10), LONGEST_PAUSE_NS)
                self._store_at = self._clock() + pause_ns
                raise
            with self._lock:
                a.acknowledge(description)
            self.checkpoints += 1
            self._failures = 0
            took = time.monotonic_ns() - begun
            self._store_at = self._clock() + max(self._interval_ns, int(took / SHARE_OF_TIME))
            a.outbox.sweep(listed)

    @property
    def _store_away(self) -> bool:
        """Whether the store was away a moment ago."""
        return self._failures > 0 and self._clock() < self._store_at

    # -- partials ----------------------------------------------------------------------------------

    def deliver(self, partial: Partial, incarnation: str) -> Receipt:
        """Merge a partial of a shard that knows this incarnation; see `Receipt`."""
        with self._lock:
            merged = incarnation == self.incarnation
            if merged and (sink := self._aggregator.outbox.full):
                # Until there is room the shard keeps it, and folds what comes into the next.
                self.refused += 1
                place = self.plan.name, self.partition
                return Receipt(*place, failure=f"the outbox of sink {sink} is full")
            if merged:
                begun = time.monotonic()
                self._aggregator.merge(partial)
                self.partials += 1
                self._changed = self._changed or partial.table is not None
                self.merge_seconds += time.monotonic() - begun
            return self._receipt(partial.shard, partial.incarnation, merged=merged)

    def settle(self, shard: str, incarnation: str) -> Receipt:
        """Checkpoint now: what this shard has delivered is acknowledged with the answer, unless the
        state store is away.
        """
        with self._lock:
            wanted = self._changed or self._aggregator.unacknowledged(shard, incarnation)
        if wanted and not self._store_away:
            try:
                self._store()
            except OSError as error:
                self._failed("checkpoint", error)
        with self._lock:
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

    def start(self) -> None:
        """Have sinks written by threads of their own."""
        self._aggregator.outbox.start()

    def tick(self) -> int:
        """`advance` and `keep`."""
        closed = self.advance()
        self.keep()
        return closed

    def advance(self) -> int:
        """Close the windows that are due and offer refused commits again; returns the number of
        windows closed. What goes wrong is counted and tried again.
        """
        with self._lock:
            closed = 0
            try:
                if self._expecting:
                    closed = self._aggregator.advance()
                    self._changed = self._changed or closed > 0
            except Exception as error:  # noqa: BLE001 - the next tick tries again
                self._failed("tick", error)
            return closed

    def keep(self) -> None:
        """Checkpoint and add to a snapshot if it is time. What goes wrong is counted and tried
        again, ever later.
        """
        try:
            if self._clock() >= self._store_at:
                self._store()
        except Exception as error:  # noqa: BLE001 - it is tried again
            self._failed("checkpoint", error)
        now = self._clock()
        if self._snapshots is not None and now >= self._snapshot_at and self._snapshots.due(now):
            try:
                self._snapshot(self._snapshots, now)
            except Exception as error:  # noqa: BLE001 - it is tried again
                self._snapshot_at = now + LONGEST_PAUSE_NS
                self._failed("snapshot", error)

    def _snapshot(self, snapshots: Snapshots, now: int) -> None:
        """Write our part of a snapshot. Raises OSError."""
        a = self._aggregator
        with self._storing:  # which removes from the outbox what it has read here
            with self._lock:
                description, tables, listed = a.state()
                told = {
                    "view": self.plan.name,
                    "partition": self.partition,
                    "shape": self._shape(),
                    "ledger": self.ledger()["views"][self.plan.name],
                    "sinks": a.outbox.report(),
                }
            outbox = {entry.number: a.outbox.table(entry) for entry in listed}
        snapshots.write(now, Part(told, (description, tables), outbox))

    def _failed(self, what: str, error: Exception) -> None:
        self.errors += 1
        self.last_error = f"{what}: {type(error).__name__}: {error}"
        if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            log.warning("%s/%s: %s", self.plan.name, self.partition, self.last_error)

    def finish(self) -> None:
        """Close every window, whatever the watermarks, offer all to the sinks, checkpoint. Sinks
        stay open. Raises OSError if the state store is away for long.
        """
        with self._lock:
            self._aggregator.advance(END_OF_INPUT)
        self._aggregator.outbox.flush(FLUSH_SECONDS)
        deadline = time.monotonic() + STORE_SECONDS
        while True:
            try:
                return self._store()
            except OSError as error:
                self._failed("checkpoint", error)
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def close_accounts(self) -> None:
        """End a run whose records are all committed: the next one counts from zero."""
        with self._lock:
            self._aggregator.close_accounts()
        self._store()

    def close(self) -> None:
        """Checkpoint and close the sinks. Raises OSError."""
        try:
            self._store()
        finally:
            self._aggregator.close()

    # -- looking at it -----------------------------------------------------------------------------

    def leading(self, n: int, windows: int) -> list[Leading]:
        """The first rows of the newest open windows, see `Aggregator.leading`."""
        with self._lock:
            return self._aggregator.leading(n, windows)

    def take_closed(self) -> list[Totals]:
        """The totals of windows closed since the last call."""
        with self._lock:
            return self._aggregator.take_closed()

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
            "outbox": a.outbox.report(),
            "outbox_octets": a.outbox.octets,
            "outbox_full": a.outbox.full,
            "refused": self.refused,
            "sink_errors": a.outbox.errors,
            "last_sink_error": a.last_sink_error,
            "checkpoints": self.checkpoints,
            "checkpoint_octets": self.checkpoint_octets,
            "snapshots": self._snapshots.written if self._snapshots else 0,
            "snapshot_octets": self._snapshots.octets if self._snapshots else 0,
            "errors": self.errors,
            "last_error": self.last_error,
            "behind_seconds": round((self._clock() - least) / 1e9, 3) if running else None,
            "waits_for": [shard for shard, mark in marks.items() if mark == least and mark == 0],
            "merge_seconds": round(self.merge_seconds, 3),
            "cpu_seconds": round(time.process_time(), 3),
        }
