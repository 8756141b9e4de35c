"""The ingest shard as an actor: the receive thread is inside, Ray methods only control."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.configuration import Configuration, current
from actors.metrics import SHARD, Meter, ledger_counters
from actors.naming import NAMESPACE, TEMPLATES, aggregate_name, as_actor
from actors.snapshots import RayRoutes
from flowray.fleet.changes import digest
from flowray.garbage import search_seldom
from flowray.ingest.delivery import Place
from flowray.ingest.knowledge import Entry
from flowray.ingest.ledger import Snapshot
from flowray.ingest.ring import open_ring
from flowray.ingest.shard import Shard
from flowray.logs import configure
from flowray.settings.compile import Program, compile_settings
from flowray.settings.model import Settings
from flowray.views.aggregation import Receipt
from flowray.views.view import Partial

LOOK_SECONDS = 0.02
"""How often answers of aggregators are looked for: a look costs some ten microseconds."""

STORE_SECONDS = 10.0


class RayTransport:
    """Partials as arguments of calls; their tables go through the object store without a copy."""

    def __init__(self) -> None:
        self._handles: dict[Place, ActorHandle[Any]] = {}
        self._moving: dict[ray.ObjectRef[Receipt], Place] = {}
        self._failed: list[Receipt] = []
        self._look_at = 0.0

    def send(self, partial: Partial, incarnation: str) -> None:
        """Begin to deliver."""
        self._call((partial.view, partial.partition), "deliver", partial, incarnation)

    def settle(self, place: Place, shard: str, incarnation: str) -> None:
        """Ask for a checkpoint."""
        self._call(place, "settle", shard, incarnation)

    def _call(self, place: Place, method: str, *arguments: object) -> None:
        try:
            if place not in self._handles:
                self._handles[place] = ray.get_actor(aggregate_name(*place), NAMESPACE)
            ref = getattr(self._handles[place], method).remote(*arguments)
        except (ValueError, RayError) as error:  # ValueError: there is none of this name
            self._handles.pop(place, None)
            self._failed.append(Receipt(*place, failure=str(error)))
            return
        self._moving[ref] = place

    def receipts(self) -> list[Receipt]:
        """Answers that are there."""
        answers, self._failed = self._failed, []
        now = time.monotonic()
        if not self._moving or now < self._look_at:
            return answers
        self._look_at = now + LOOK_SECONDS
        moving = list(self._moving)
        for ref in ray.wait(moving, num_returns=len(moving), timeout=0)[0]:
            place = self._moving.pop(ref)
            try:
                answers.append(ray.get(ref))
            except RayError as error:
                self._handles.pop(place, None)
                answers.append(Receipt(*place, failure=f"{type(error).__name__}: {error}"))
        return answers


class RayKnowledge:
    """The template store by name."""

    def publish(self, entries: list[Entry]) -> object:
        """Make news durable. Raises RayError, or ValueError if there is no store."""
        return ray.get(self._store().publish.remote(entries), timeout=STORE_SECONDS)

    def since(self, epoch: str, generation: int) -> tuple[str, int, list[Entry]]:
        """News. Raises as `publish`."""
        call: Any = self._store().since.remote(epoch, generation)
        news: tuple[str, int, list[Entry]] = ray.get(call, timeout=STORE_SECONDS)
        return news

    def _store(self) -> ActorHandle[Any]:
        return ray.get_actor(TEMPLATES, NAMESPACE)


class Ingest:
    """See `flowray.ingest.shard.Shard`."""

    def __init__(self, settings: Settings, file: str, name: str, listen: tuple[str, ...]) -> None:
        self._name, self._state = name, "starting"
        configure(name, settings.logs)
        program = self._current(Configuration(settings, file))
        settings = program.settings
        routes = RayRoutes() if settings.route_groups else None
        ring = open_ring(settings, name)
        self._shard = Shard(
            *(program, name, RayTransport(), RayKnowledge()),
            routes=routes,
            listen=listen,
            ring=ring,
        )
        self._shard.start()
        self._state = "running"
        tags = {"shard": name}
        self._meter = Meter(
            *(SHARD, tags, self._shard.status), ledger_counters(tags, self._shard.movements)
        )
        search_seldom()

    def _current(self, otherwise: Configuration) -> Program:
        """What is to run now."""
        now = current() or otherwise
        self._number, self._digest = now.number, digest(now.settings)
        return compile_settings(now.settings, now.file)

    def __repr__(self) -> str:
        return f"Ingest({self._name}, {self._state})"  # asked for when the start fails, too

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """Figures that cost nothing. Raises RuntimeError if the shard does not do its work."""
        self._shard.check()
        # Before the figures: with a new number there are those of its beginning, at least.
        told = {"reload": self._number, "configuration": self._digest}
        return {**told, **self._shard.status()}

    @ray.method(concurrency_group="control")
    def reload(self) -> bool:
        """Go on with the configuration that is to run now. Raises what `Shard.reload` raises."""
        now = current()
        if now is not None and now.number != self._number:
            self._shard.reload(compile_settings(now.settings, now.file))
            self._number, self._digest = now.number, digest(now.settings)
        return True

    @ray.method(concurrency_group="control")
    def release(self, views: list[str]) -> bool:
        """The new aggregators of these views are there."""
        self._shard.release(views)
        return True

    @ray.method(concurrency_group="control")
    def figures(self) -> dict[str, Any]:
        """All figures, with the ledger, as they are between two batches."""
        return self._shard.figures()

    @ray.method(concurrency_group="control")
    def ledger(self) -> Snapshot:
        """The accounts, as they are between two batches."""
        return self._shard.ledger()

    @ray.method(concurrency_group="control")
    def drain(self, timeout: float, final: bool) -> dict[str, Any]:
        """Stop receiving and hand over all; the last figures."""
        figures = self._shard.drain(timeout, final=final)
        self._state = "drained"
        self._meter.flush()
        return figures

    def __ray_shutdown__(self) -> None:
        self._shard.close()


IngestActor = as_actor(Ingest)
