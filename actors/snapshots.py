"""Snapshots of routes through the object store: put once by a RIB group, mapped by every shard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.naming import NAMESPACE, rib_name
from flowray.rib.parcel import Array, Packed, pack, unpack
from flowray.rib.snapshot import Snapshot

ANSWER_SECONDS = 2.0
FETCH_SECONDS = 30.0
"""From another node: some hundred megabytes."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A snapshot by reference. References are in lists, for Ray would fetch what bare ones refer
    to: `packed` is one to a `Packed` without its large arrays, `large` are those to them.
    """

    epoch: str
    generation: int
    packed: list[ray.ObjectRef[Packed]]
    large: list[ray.ObjectRef[Array]]


_NOTHING = Parcel("", 0, [], [])


class SnapshotBox:
    """The newest snapshot in the object store, put there when it is first asked for: of it, what
    the last one there has not.
    """

    def __init__(self, newest: Callable[[str, int], Snapshot | None]) -> None:
        self._newest = newest
        self._lock = threading.Lock()
        self._parcel = _NOTHING
        self._kept: dict[tuple[int, int], tuple[Array, ray.ObjectRef[Array]]] = {}
        """Large arrays in the object store, by address and size; they are kept, so it is theirs."""

    def newer(self, epoch: str, generation: int) -> Parcel | None:
        """What is newer than this epoch and generation, None if nothing is."""
        with self._lock:
            fresh = self._newest(self._parcel.epoch, self._parcel.generation)
            if fresh is not None:
                self._parcel = self._put(fresh)
            parcel = self._parcel
        known = (parcel.epoch, parcel.generation) == (epoch, generation)
        return None if not parcel.packed or known else parcel

    def _put(self, snapshot: Snapshot) -> Parcel:
        packed, kept = pack(snapshot), {}
        for array in packed.large:
            place = array.ctypes.data, array.nbytes
            kept[place] = self._kept.get(place) or (array, ray.put(array))
        large = [kept[array.ctypes.data, array.nbytes][1] for array in packed.large]
        self._kept = kept
        rest = replace(packed, large=[])
        return Parcel(snapshot.epoch, snapshot.generation, [ray.put(rest)], large)


class RayRoutes:
    """RIB groups by name, from a shard's side."""

    def __init__(self) -> None:
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._arrays: dict[str, dict[ray.ObjectRef[Array], Array]] = {}

    def newest(self, group: str, epoch: str, generation: int) -> Snapshot | None:
        """The newest snapshot of a group, mapped from the object store. Raises RayError, and
        ValueError if there is no such group.
        """
        try:
            if group not in self._handles:
                self._handles[group] = ray.get_actor(rib_name(group), NAMESPACE)
            call: Any = self._handles[group].snapshot.remote(epoch, generation)
            parcel: Parcel | None = ray.get(call, timeout=ANSWER_SECONDS)
            return None if parcel is None else self._fetch(group, parcel)
        except RayError:
            self._handles.pop(group, None)
            raise

    def _fetch(self, group: str, parcel: Parcel) -> Snapshot:
        """Put a snapshot together, of what the last one has and what is new."""
        had = self._arrays.get(group, {})
        new = [ref for ref in parcel.large if ref not in had]
        packed, *arrays = ray.get([parcel.packed[0], *new], timeout=FETCH_SECONDS)
        had = had | dict(zip(new, arrays, strict=True))
        self._arrays[group] = {ref: had[ref] for ref in parcel.large}
        return unpack(replace(packed, large=[had[ref] for ref in parcel.large]))
