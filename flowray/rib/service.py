"""A RIB group at work: listeners, tables, streams and snapshots, in one thread with its event loop.

It knows no Ray. Sinks, which may be slow, are written by a thread of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from flowray.archive.route_tape import RouteTape
from flowray.clock import Clock, Rising, wall_clock
from flowray.rib.archive import MessageArchive
from flowray.rib.collector import RouteCollector
from flowray.rib.glass_answers import Answers
from flowray.rib.group_glass import GroupGlass
from flowray.rib.history import TableHistory
from flowray.rib.journal import Labels
from flowray.rib.listeners import bgp_listener, bmp_listener
from flowray.rib.restore import restore, saved
from flowray.rib.roa import RoaSet
from flowray.rib.rtr import RtrSession
from flowray.rib.rtr_client import RtrClient
from flowray.rib.snapshot import Snapshot
from flowray.rib.streams import Stream
from flowray.rib.warm import snapshot_of
from flowray.settings.compile import Program
from flowray.settings.model import Settings
from flowray.settings.routes import RouteGroup
from flowray.state.store import open_store, patiently
from flowray.views.checkpoint import Checkpoint, CheckpointError, State

log = logging.getLogger(__name__)

T = TypeVar("T")

BEAT_SECONDS = 1.0
"""How often logs are handed to sinks, timers looked at and figures taken."""

STUCK_SECONDS = 30.0
"""A loop that did not turn for so long is not healthy."""

STOP_SECONDS = 30.0


class RouteService:
    """One group. `start` opens its listeners and returns; `stop` ends its sessions."""

    def __init__(
        self,
        program: Program,
        group: RouteGroup,
        streams: Mapping[str, Stream],
        *,
        clock: Clock = wall_clock,
    ) -> None:
        settings = program.settings
        self.group = group
        labels = Labels(program.labels, frozenset(settings.maps.labels_apply_to))
        self._program = program
        self._settings = settings
        self._clock = Rising(clock)
        self._archive = _archive(settings, group)
        # Attribute ids and generations of another start are not ours.
        life = f"{clock():016x}"
        self._tape = _tape(settings, group, life)
        self._collector = RouteCollector(settings, streams, labels, self._archive, self._tape)
        self._publisher = self._collector.publisher(f"{group.name}.{life}")
        self._bgp = bgp_listener(settings, group, self._collector, clock)
        self._bmp = bmp_listener(settings, group, self._collector, clock)
        store = open_store(settings.state.path)
        self._kept = Checkpoint(store, f"rib/{group.name}.bin")
        history = settings.routes.history
        self._history = TableHistory(
            self._kept,
            store,
            f"rib/history/{group.name}",
            history.every,
            history.keep,
            clock,
        )
        self._glass = GroupGlass(
            group.looking_glass,
            Answers(
                lambda question: self.look(lambda collector: question(collector.rib)),
                labels.of,
                self._history.at,
                lambda: self._collector.payloads,
            ),
        )
        self._saved = -1
        self._saves = 0
        self._restored = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"rib-{group.name}", daemon=True)
        self._writer = ThreadPoolExecutor(1, f"rib-{group.name}-sinks")
        # Neither waits for the other: the state store and a sink are seldom away together.
        self._saver = ThreadPoolExecutor(1, f"rib-{group.name}-state")
        self._saving: Future[None] | None = None
        self._written: Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._snapshot: Snapshot | None = None
        self._published = -1
        self._payloads = 0
        self._publish_seconds = 0.0
        self._publishes = 0
        self._turned = time.monotonic()
        self._figures: dict[str, Any] = {}
        self.state = "starting"
        self.errors = 0
        self.last_error = ""

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the kernels and the routes of before, then open the listeners; waits for a state
        store that is away. Raises ListenError.
        """
        snapshot_of(self._program)
        self._restore()
        self._thread.start()
        self.ask(self._open)
        self.state = "running"

    def stop(self, communication: str = "the collector stops") -> dict[str, Any]:
        """Save the routes, end all sessions, peers being told why, and flush the streams; the
        figures of the end.
        """
        if self.state == "stopped" or not self._thread.is_alive():
            return self.status()
        self._glass.close()
        self.ask(lambda: self._close(communication), STOP_SECONDS)
        self._writer.submit(self._store)
        self._writer.shutdown()
        self._saver.shutdown()
        self._collector.close_streams()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        self.state = "stopped"
        return self.status()

    def check(self) -> None:
        """Raises RuntimeError if the group does not do its work."""
        if self.state != "running":
            return
        if not self._thread.is_alive():
            raise RuntimeError(f"rib {self.group.name}: its thread died: {self.last_error}")
        idle = time.monotonic() - self._turned
        if idle > STUCK_SECONDS:
            raise RuntimeError(f"rib {self.group.name}: stuck for {idle:.0f} s")

    def ask(self, work: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Have the group's thread do something between two messages; what it returns, awaited if it
        is a coroutine. Raises TimeoutError, and what the work raises.
        """
        return asyncio.run_coroutine_threadsafe(_awaited(work), self._loop).result(timeout)

    def look(self, work: Callable[[RouteCollector], T], timeout: float = 10.0) -> T:
        """Look at the tables between two messages. Raises as `ask`."""
        found: T = self.ask(lambda: work(self._collector), timeout)
        return found

    def _restore(self) -> None:
        """Have the routes that were there when the group ended, or was ended."""
        try:
            state = patiently(f"rib {self.group.name}", self._kept.load)
            if state is not None:
                self._restored = restore(self._collector.rib, state)
                if self._tape is not None:
                    self._tape.restored(state, self._clock())
                self._history.note(state[0].get("at", 0))
        except CheckpointError as error:
            aside = self._kept.set_aside()
            self._failed(error)
            log.error("rib %s: routes cannot be restored, see %s", self.group.name, aside)  # noqa: TRY400 - `_failed` has told it

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def _open(self) -> None:
        for listener in (self._bgp, self._bmp):
            if listener is not None:
                await listener.start()
        self._beat()
        self._publish()
        routes = self._settings.routes
        self._tasks = [
            self._loop.create_task(self._repeat(self._beat, BEAT_SECONDS)),
            self._loop.create_task(self._repeat(self._publish, routes.snapshot / 1e9)),
            self._loop.create_task(self._repeat(self._save, routes.save / 1e9)),
        ]
        if routes.rpki.cache is not None:
            host, _, port = routes.rpki.cache.rpartition(":")
            client = RtrClient(host.strip("[]"), int(port), self._validate, RtrSession())
            self._tasks.append(self._loop.create_task(client.run()))

    async def _close(self, communication: str) -> None:
        for task in self._tasks:
            task.cancel()
        self._save(final=True)  # before sessions end, and their routes with them
        if self._bgp is not None:
            await self._bgp.stop(communication)
        if self._bmp is not None:
            await self._bmp.stop()
        self._collector.flush(self._clock())
        self._note()

    async def _repeat(self, work: Callable[[], None], seconds: float) -> None:
        spent = 0.0
        while True:
            # Sessions get their turn, however long the work takes.
            await asyncio.sleep(max(seconds - spent, seconds / 4))
            began = time.monotonic()
            try:
                work()
            except Exception as error:  # noqa: BLE001 - one failure must not end the group
                self._failed(error)
            spent = time.monotonic() - began

    def _beat(self) -> None:
        now_ns = self._clock()
        self._collector.advance(now_ns)
        self._collector.flush(now_ns)
        self._glass.open()
        if self._written is None or self._written.done():
            self._written = self._writer.submit(self._store)
        self._note()
        self._turned = time.monotonic()

    def _store(self) -> None:
        try:
            self._collector.store()
        except Exception as error:  # noqa: BLE001 - the next beat tries again
            self._failed(error)

    def _publish(self) -> None:
        """Make a snapshot if routes have changed since the last one."""
        generation = self._collector.rib.generation
        if generation == self._published:
            return
        began = time.thread_time()
        snapshot = self._publisher.publish(self._clock())
        if self._tape is not None:
            self._tape.published(snapshot)
        self._snapshot = snapshot
        self._published = generation
        self._publishes += 1
        self._publish_seconds += time.thread_time() - began

    def _save(self, *, final: bool = False) -> None:
        """Copy the routes if they have changed since, and have them written."""
        generation = self._collector.rib.generation
        busy = self._saving is not None and not self._saving.done()
        if generation != self._saved and (final or not busy):
            self._saved = generation
            now_ns = self._clock()
            self._saving = self._saver.submit(
                self._write, saved(self._collector.rib, now_ns), now_ns
            )

    def _write(self, state: State, now_ns: int) -> None:
        try:
            self._kept.store(state)
            self._saves += 1
            self._history.add(now_ns)
        except Exception as error:  # noqa: BLE001 - the next time tries again
            self._saved = -1
            self._failed(error)

    def _validate(self, roas: RoaSet) -> None:
        """The RPKI cache told other payloads."""
        if self._tape is not None:
            self._tape.validated(roas, self._clock())
        self._collector.validate_with(roas)
        self._collector.validate_snapshots(self._publisher)
        self._payloads = len(roas)
        self._published = -1

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        self.last_error = f"{type(error).__name__}: {error}"
        if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            log.error("rib %s: error %d", self.group.name, self.errors, exc_info=error)

    # -- looking at it -----------------------------------------------------------------------------

    def newest(self, epoch: str, generation: int) -> Snapshot | None:
        """The newest snapshot, None if it is the one of this epoch and generation or there is none
        yet.
        """
        snapshot = self._snapshot
        if snapshot is None or (snapshot.epoch, snapshot.generation) == (epoch, generation):
            return None
        return snapshot

    def _note(self) -> None:
        """Take the figures that only the thread may take."""
        counters = {
            name: {"port": listener.port, **listener.counters()}
            for name, listener in (("bgp", self._bgp), ("bmp", self._bmp))
            if listener is not None
        }
        status = self._collector.status()
        streams = status["streams"].values()
        self._figures = {
            **status,
            "octets": sum(c["octets_received"] for c in counters.values()),
            "connections_refused": sum(status["refused"].values()),
            "messages_malformed": sum(status["malformed"].values()),
            "rows": sum(stream["rows"] for stream in streams),
            "rows_lost": sum(stream["lost"] for stream in streams),
            "listeners": counters,
        }

    def status(self) -> dict[str, Any]:
        """Figures that cost nothing, at most a second old."""
        snapshot = self._snapshot
        behind = snapshot is not None and self._collector.rib.generation != self._published
        lag = (self._clock() - snapshot.as_of_ns) / 1e9 if snapshot and behind else 0.0
        return {
            "group": self.group.name,
            "pid": os.getpid(),
            "state": self.state,
            **self._figures,
            "restored": self._restored,
            "saves": self._saves,
            "epoch": "" if snapshot is None else snapshot.epoch,
            "generation": 0 if snapshot is None else snapshot.generation,
            "looking_glass": self._glass.status(),
            "rpki_payloads": self._payloads,
            "archived": 0 if self._archive is None else self._archive.messages,
            "archive_lost": 0 if self._archive is None else self._archive.lost,
            "taped": 0 if self._tape is None else self._tape.messages,
            "tape_lost": 0 if self._tape is None else self._tape.lost,
            "snapshots": self._publishes,
            "snapshot_lag_seconds": round(lag, 3),
            "snapshot_cpu_seconds": round(self._publish_seconds, 3),
            "snapshot_octets": 0 if snapshot is None else snapshot.nbytes,
            "errors": self.errors,
            "last_error": self.last_error,
            "cpu_seconds": round(time.process_time(), 3),
        }


def _archive(settings: Settings, group: RouteGroup) -> MessageArchive | None:
    """The archive that is asked for. Raises OSError for a folder that cannot be made."""
    wanted, bgp = settings.routes.archive, settings.listen.bgp
    if wanted is None or bgp is None or group.bgp is None:
        return None
    return MessageArchive(wanted.path, group.name, wanted.rotate, bgp.local_as)


def _tape(settings: Settings, group: RouteGroup, life: str) -> RouteTape | None:
    """The archive of what the group is told. Raises as `RouteTape`."""
    wanted, bgp = settings.archive, settings.listen.bgp
    if wanted is None or not wanted.routes:
        return None
    return RouteTape(wanted, group.name, life, 0 if bgp is None else bgp.local_as)


async def _awaited(work: Callable[[], Any]) -> Any:
    answer = work()
    return await answer if asyncio.iscoroutine(answer) else answer
