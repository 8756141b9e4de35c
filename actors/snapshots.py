"""Snapshots of routes through the object store: put once by a RIB group, mapped by every shard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.naming import NAMESPACE, rib_name
from flowray.rib.snapshot import Snapshot

ANSWER_SECONDS = 2.0
FETCH_SECONDS = 30.0
"""From another node: some hundred megabytes."""

Parcel = tuple[str, int, list[ray.ObjectRef[Snapshot]]]
"""Epoch, generation, and the reference in a list, for Ray would fetch what a bare one refers to."""


class SnapshotBox:
    """The newest snapshot in the object store, put there when it is first asked for."""

    def __init__(self, newest: Callable[[str, int], Snapshot | None]) -> None:
        self._newest = newest
        self._lock = threading.Lock()
        self._parcel: Parcel = "", 0, []

    def newer(self, epoch: str, generation: int) -> Parcel | None:
        """What is newer than this epoch and generation, None if nothing is."""
        with self._lock:
            if (fresh := self._newest(*self._parcel[:2])) is not None:
                self._parcel = fresh.epoch, fresh.generation, [ray.put(fresh)]
            parcel = self._parcel
        return None if not parcel[2] or parcel[:2] == (epoch, generation) else parcel


class RayRoutes:
    """RIB groups by name, from a shard's side."""

    def __init__(self) -> None:
        self._handles: dict[str, ActorHandle[Any]] = {}

    def newest(self, group: str, epoch: str, generation: int) -> Snapshot | None:
        """The newest snapshot of a group, mapped from the object store. Raises RayError, and
        ValueError if there is no such group.
        """
        try:
            if group not in self._handles:
                self._handles[group] = ray.get_actor(rib_name(group), NAMESPACE)
            call: Any = self._handles[group].snapshot.remote(epoch, generation)
            parcel: Parcel | None = ray.get(call, timeout=ANSWER_SECONDS)
            return None if parcel is None else ray.get(parcel[2][0], timeout=FETCH_SECONDS)
        except RayError:
            self._handles.pop(group, None)
            raise
