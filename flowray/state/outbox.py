"""Commits on their way to sinks: each sink takes them in order, at its own pace.

A commit that every sink took before the next checkpoint is never written down. One that a sink has
not taken by then is stored once, as an object of its own in the state store; the checkpoint lists
it, and it is removed when a checkpoint is stored that does not (docs/decisions/0010).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from flowray.sinks.base import Commit, Sink, SinkError
from flowray.state.store import Store
from flowray.views.checkpoint import CheckpointError, decode, encode

log = logging.getLogger(__name__)

OUTBOX_LIMIT = 1 << 30
"""Octets that wait for one sink at most."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds between offers to a sink that refuses."""

CLOSE_SECONDS = 5.0
"""How long the end waits for a sink that is at work."""

_ROWS = "rows"
_SUFFIX = ".commit"


@dataclass(slots=True, eq=False)
class Entry:
    """A commit that some sink has not taken. `table` is None while it is in the store alone."""

    number: int
    commit: Commit
    records: int
    rows: int
    sums: dict[str, int]
    octets: int
    waiting: set[str]
    table: pa.Table | None = None
    stored: bool = False

    def describe(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        c = self.commit
        return {
            "number": self.number,
            "window": [c.window_ns, c.window_end_ns, c.revision, c.sequence],
            "records": self.records,
            "rows": self.rows,
            "sums": self.sums,
            "octets": self.octets,
            "waiting": sorted(self.waiting),
        }


@dataclass(slots=True)
class Lane:
    """The way to one sink."""

    sink: Sink
    queue: deque[Entry] = field(default_factory=deque)
    octets: int = 0
    refused: bool = False
    pause: float = FIRST_PAUSE
    errors: int = 0
    last_error: str = ""
    passes: int = 0
    wake: threading.Event = field(default_factory=threading.Event)

    def report(self) -> dict[str, Any]:
        """For `flowray status`."""
        return {
            "commits": len(self.queue),
            "octets": self.octets,
            "refusing": self.refused,
            "errors": self.errors,
            "last_error": self.last_error,
        }


class Outbox:
    """The commits of one view's partition. Thread-safe.

    Without `start` whoever calls `push` offers them; with it a thread per sink does, so that no
    sink waits for another and nobody waits for sinks. `taken` is called, with `lock` held, for each
    commit that its last sink took.
    """

    def __init__(
        self,
        view: str,
        partition: int,
        sinks: Mapping[str, Sink],
        *,
        taken: Callable[[Entry], None],
        store: Store | None = None,
        limit: int = OUTBOX_LIMIT,
    ) -> None:
        self._view, self._partition = view, partition
        self._lanes = {name: Lane(sink) for name, sink in sinks.items()}
        self._on_taken = taken
        self._store = store
        self._folder = f"outbox/{view}-{partition}/"
        self._limit = limit
        self._entries: dict[int, Entry] = {}
        self._stored: set[int] = set()
        self._next = 1
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.lock = threading.RLock()
        self._passed = threading.Condition(self.lock)
        self.unreadable = 0

    # -- in ----------------------------------------------------------------------------------------

    def put(self, commit: Commit, table: pa.Table, records: int, counters: Iterable[str]) -> None:
        """Take a commit for all sinks."""
        sums = {name: int(table[name].to_numpy().sum()) for name in counters}
        with self.lock:
            number, self._next = self._next, self._next + 1
            waiting = set(self._lanes)
            entry = Entry(
                number, commit, records, table.num_rows, sums, table.nbytes, waiting, table
            )
            self._enqueue(entry)

    def _enqueue(self, entry: Entry) -> None:
        if not entry.waiting:
            self._on_taken(entry)
            return
        self._entries[entry.number] = entry
        for name in entry.waiting:
            lane = self._lanes[name]
            lane.queue.append(entry)
            lane.octets += entry.octets
            if not lane.refused:
                lane.wake.set()

    @property
    def full(self) -> str:
        """The sink for which as much waits as may; empty while there is none."""
        lanes = self._lanes.items()
        return next((name for name, lane in lanes if lane.octets >= self._limit), "")

    # -- out ---------------------------------------------------------------------------------------

    def push(self) -> None:
        """Offer what waits, unless threads do."""
        if not self._threads:
            for name in self._lanes:
                self._deliver(name)

    def start(self) -> None:
        """Begin to offer from a thread per sink."""
        self._threads = [
            threading.Thread(target=self._run, args=(name,), name=f"sink-{name}", daemon=True)
            for name in self._lanes
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, name: str) -> None:
        lane = self._lanes[name]
        while not self._stop.is_set():
            if not lane.wake.wait(lane.pause if lane.refused else None) and lane.refused:
                lane.pause = min(2 * lane.pause, LONGEST_PAUSE)
            lane.wake.clear()
            self._deliver(name)
            with self._passed:
                lane.passes += 1
                self._passed.notify_all()

    def _deliver(self, name: str) -> None:
        """Offer what waits for a sink, in order, until it refuses."""
        lane = self._lanes[name]
        while lane.queue and not (self._stop.is_set() and self._threads):
            entry = lane.queue[0]
            try:
                lane.sink.commit(entry.commit, self.table(entry))
            except CheckpointError as error:
                # Its rows are gone; the ledger will not balance, and say so.
                self.unreadable += 1
                log.error("%s: a commit waiting for %s is lost: %s", entry.commit.id, name, error)  # noqa: TRY400 - not our bug
                self._took(lane, entry, name, lost=True)
            except Exception as error:  # noqa: BLE001 - a sink with a bug is a sink that refuses
                known = isinstance(error, SinkError | OSError)
                lane.last_error = str(error) if known else f"{type(error).__name__}: {error}"
                lane.errors += 1
                lane.refused = True
                return
            else:
                self._took(lane, entry, name, lost=False)

    def _took(self, lane: Lane, entry: Entry, name: str, *, lost: bool) -> None:
        with self.lock:
            lane.queue.popleft()
            lane.octets -= entry.octets
            lane.refused, lane.pause = False, FIRST_PAUSE
            entry.waiting.discard(name)
            if entry.waiting:
                return
            del self._entries[entry.number]
            if not lost:
                self._on_taken(entry)

    def table(self, entry: Entry) -> pa.Table:
        """Its rows. Raises CheckpointError if they are gone, OSError."""
        table = entry.table
        if table is not None:
            return table
        assert self._store is not None, "what is not in memory was stored"
        place = self._place(entry.number)
        content = self._store.read(place)
        if content is None:
            raise CheckpointError(f"{place} is gone")
        return decode(content)[1][_ROWS]

    def flush(self, seconds: float) -> None:
        """Have every sink offered what waits for it once more, and wait for the answers."""
        self.push()
        with self._passed:
            before = {name: lane.passes for name, lane in self._lanes.items()}
            for lane in self._lanes.values():
                lane.wake.set()

            def answered() -> bool:
                lanes = self._lanes.items()
                return all(
                    not lane.queue or (lane.refused and lane.passes > before[name])
                    for name, lane in lanes
                )

            if self._threads:
                self._passed.wait_for(answered, seconds)

    def settle(self, seconds: float) -> None:
        """Wait until the sinks that do not refuse have taken what is there."""
        with self._passed:
            if self._threads:
                lanes = self._lanes.values()
                self._passed.wait_for(
                    lambda: all(lane.refused or not lane.queue for lane in lanes), seconds
                )

    def close(self) -> None:
        """End the threads and close the sinks. What waits is in the store if a checkpoint is."""
        self._stop.set()
        for lane in self._lanes.values():
            lane.wake.set()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)
        busy = {thread.name for thread in self._threads if thread.is_alive()}
        for name, lane in self._lanes.items():
            if f"sink-{name}" not in busy:
                lane.sink.close()

    # -- checkpoints -------------------------------------------------------------------------------

    def _place(self, number: int) -> str:
        return f"{self._folder}{number:012d}{_SUFFIX}"

    def entries(self) -> list[Entry]:
        """What some sink has not taken, oldest first. Ask with `lock` held."""
        return list(self._entries.values())

    def store(self, entries: Iterable[Entry]) -> None:
        """Have all of these in the store, then let go of their rows. Raises OSError."""
        if self._store is None:
            return
        for entry in entries:
            table = entry.table
            if table is None:
                continue
            with self.lock:
                described = entry.describe()
            content = encode((described, {_ROWS: table}), compression="zstd")
            self._store.replace(self._place(entry.number), content)
            self._stored.add(entry.number)
            with self.lock:
                for name in entry.waiting:
                    self._lanes[name].octets += len(content) - entry.octets
                entry.octets, entry.table = len(content), None

    def sweep(self, listed: Iterable[Entry]) -> None:
        """Remove what no checkpoint lists any more: the last one lists these. Raises OSError."""
        for number in sorted(self._stored - {entry.number for entry in listed}):
            assert self._store is not None, "it was stored there"
            self._store.delete(self._place(number))
            self._stored.discard(number)

    def restore(
        self,
        described: Iterable[dict[str, Any]],
        tables: Mapping[int, pa.Table] | None = None,
    ) -> None:
        """Go on with what a checkpoint lists, offering what waits for a sink that is gone to all of
        the view's sinks. Rows are in the store, or in `tables` by number.
        """
        with self.lock:
            for row in described:
                start, end, revision, sequence = row["window"]
                entry = Entry(
                    row["number"],
                    Commit(self._view, start, end, self._partition, revision, sequence),
                    row["records"],
                    row["rows"],
                    row["sums"],
                    row["octets"],
                    set(row["waiting"]),
                )
                if not entry.waiting <= self._lanes.keys():
                    entry.waiting = set(self._lanes)
                if tables is None:
                    self._stored.add(entry.number)
                else:
                    entry.table = tables[entry.number]
                self._next = max(self._next, entry.number + 1)
                self._enqueue(entry)

    def find(self, *, tidy: bool) -> None:
        """Number what comes after what the store has already; `tidy` removes of that what no
        checkpoint lists. Raises OSError.
        """
        if self._store is None:
            return
        names = self._store.names(self._folder)
        numbers = {int(PurePosixPath(n).stem) for n in names if n.endswith(_SUFFIX)}
        self._next = max(self._next, max(numbers, default=0) + 1)
        if tidy:
            for number in numbers - self._stored:
                self._store.delete(self._place(number))

    # -- looking at it -----------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """Commits that a sink has not taken yet."""
        return len(self._entries)

    @property
    def records(self) -> int:
        """Records in them."""
        with self.lock:
            return sum(entry.records for entry in self._entries.values())

    @property
    def octets(self) -> int:
        """What waits for all sinks together."""
        return sum(lane.octets for lane in self._lanes.values())

    @property
    def errors(self) -> int:
        """Offers that a sink refused."""
        return sum(lane.errors for lane in self._lanes.values())

    @property
    def last_error(self) -> str:
        """What a sink that refuses said last, or else one that did."""
        lanes = sorted(self._lanes.values(), key=lambda lane: lane.refused, reverse=True)
        return next((lane.last_error for lane in lanes if lane.last_error), "")

    def report(self) -> dict[str, Any]:
        """By sink, for `flowray status`."""
        return {name: lane.report() for name, lane in self._lanes.items()}
