"""A RIB group as an actor: sessions and tables in a thread inside, Ray methods only look."""

from __future__ import annotations

from typing import Any

import ray

from actors.metrics import RIB, Meter
from actors.naming import as_actor, here, rib_name
from actors.snapshots import Parcel, SnapshotBox
from flowray.garbage import search_seldom
from flowray.logs import configure
from flowray.rib.service import RouteService
from flowray.rib.streams import Stream
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings
from flowray.sinks.opening import open_stream


class Rib:
    """See `flowray.rib.service.RouteService`."""

    def __init__(self, settings: Settings, file: str, name: str) -> None:
        self._name, self._state = rib_name(name), "starting"
        configure(self._name, settings.logs)
        program = compile_settings(settings, file)
        names = [group.name for group in settings.route_groups]
        number = names.index(name)
        streams = {
            stream: Stream(stream, open_stream(program, stream), number)
            for stream in program.streams
        }
        self._service = RouteService(program, settings.route_groups[number], streams)
        self._box = SnapshotBox(self._service.newest)
        self._service.start()
        self._state = "running"
        self._meter = Meter(RIB, {"group": name}, self._service.status)
        search_seldom()

    def __repr__(self) -> str:
        return f"Rib({self._name}, {self._state})"  # asked for when the start fails, too

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """Figures, at most a second old. Raises RuntimeError if the group does not do its work."""
        self._service.check()
        return {**self._service.status(), **here()}

    @ray.method(concurrency_group="control")
    def snapshot(self, epoch: str, generation: int) -> Parcel | None:
        """The newest snapshot, None if it is the one of this epoch and generation, or there is none
        yet.
        """
        return self._box.newer(epoch, generation)

    def stop(self) -> dict[str, Any]:
        """Save the routes and end all sessions; the last figures."""
        figures = self._service.stop()
        self._state = "stopped"
        self._meter.flush()
        return figures

    def __ray_shutdown__(self) -> None:
        self._service.stop()


RibActor = as_actor(Rib)
