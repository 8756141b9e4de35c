"""Snapshots of the state: what aggregators have open, readable on its own, to start anew from.

A snapshot is a folder named by its time (UTC). Each aggregator writes a part of its own when the
time comes, `<view>-<partition>/`: `windows.parquet` has the native rows of all open windows, with
their start, revision and whether they are others rows; `outbox-<n>.parquet` has a commit that some
sink lacks; `manifest.json` is written last. A snapshot is complete with the parts of all places.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowray import __version__
from flowray.errors import FlowrayError
from flowray.filesystems import is_uri
from flowray.settings.model import Settings
from flowray.state.store import Store, open_store
from flowray.views.checkpoint import State
from flowray.views.window import REVISION, WINDOW

__all__ = [
    "Part", "Seed", "Shelf", "SnapshotError", "Snapshots", "find_snapshot", "seed_of",
    "snapshots_of",
]  # fmt: skip

SECOND = 1_000_000_000
FORM = 1
LATEST = "latest"

_NAME = "%Y%m%dT%H%M%SZ"
_MANIFEST, _WINDOWS = "manifest.json", "windows.parquet"


class SnapshotError(FlowrayError):
    """A snapshot that is not there, or of no use."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one aggregator writes: its state, and the rows of its outbox by number.

    `manifest` has what is told beside: view, partition, shape, accounts.
    """

    manifest: dict[str, Any]
    state: State
    outbox: dict[int, pa.Table]


Seed: TypeAlias = Callable[[], Part | None]
"""Reads what an aggregator without a checkpoint begins with. Raises SnapshotError, OSError."""


class Shelf:
    """Snapshots in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def names(self) -> list[str]:
        """All, oldest first, complete or not. Raises OSError."""
        names = {name.partition("/")[0] for name in self.store.names()}
        return sorted(name for name in names if _is_name(name))

    def manifests(self, name: str) -> dict[str, dict[str, Any]]:
        """Manifest by part of a snapshot. Raises OSError."""
        found = {}
        for place in self.store.names(f"{name}/"):
            if place.endswith(f"/{_MANIFEST}"):
                content = self.store.read(place)
                if content is not None:
                    found[place.split("/")[1]] = json.loads(content)
        return found

    def complete(self, name: str) -> bool:
        """Whether all aggregators have written their part. Raises OSError."""
        manifests = self.manifests(name)
        wanted = next(iter(manifests.values()))["places"] if manifests else []
        return bool(wanted) and {f"{view}-{p}" for view, p in wanted} <= manifests.keys()

    def resolve(self, name: str) -> str:
        """The name of a complete snapshot: this one, or the newest for `latest`. Raises
        SnapshotError, OSError.
        """
        names = self.names()
        if name == LATEST:
            found = next((n for n in reversed(names) if self.complete(n)), None)
            if found is None:
                raise SnapshotError(f"no complete snapshot in {self.store}")
            return found
        if name not in names:
            known = ", ".join(names[-3:]) or "none"
            raise SnapshotError(f"no snapshot {name} in {self.store}; the newest there: {known}")
        if not self.complete(name):
            raise SnapshotError(f"snapshot {name} in {self.store} lacks parts")
        return name

    def windows(self, name: str, part: str) -> pa.Table:
        """Native rows of the open windows of a part. Raises SnapshotError, OSError."""
        return self._table(f"{name}/{part}/{_WINDOWS}")

    def _table(self, place: str) -> pa.Table:
        content = self.store.read(place)
        if content is None:
            raise SnapshotError(f"{place} is not in {self.store}")
        try:
            return pq.read_table(pa.BufferReader(content))
        except pa.ArrowException as error:
            raise SnapshotError(f"{place} in {self.store} cannot be read: {error}") from None

    def part(self, name: str, view: str, partition: int) -> Part:
        """What an aggregator wrote. Raises SnapshotError, OSError."""
        folder = f"{view}-{partition}"
        content = self.store.read(f"{name}/{folder}/{_MANIFEST}")
        if content is None:
            raise SnapshotError(f"snapshot {name} in {self.store} has no part {folder}")
        manifest = json.loads(content)
        description = manifest["aggregator"]
        rows = self.windows(name, folder)
        tables = {
            f"window-{start}-{revision}": _of_window(rows, start, revision)
            for start, revision in description["open"]
        }
        numbers = [entry["number"] for entry in description["outbox"]]
        outbox = {n: self._table(f"{name}/{folder}/outbox-{n}.parquet") for n in numbers}
        return Part(manifest, (description, tables), outbox)

    def write(self, name: str, manifest: Mapping[str, Any], part: Part) -> int:
        """Write a part; octets. Raises OSError."""
        description, tables = part.state
        folder = f"{name}/{manifest['view']}-{manifest['partition']}"
        octets = 0
        for n, table in part.outbox.items():
            octets += self._put(f"{folder}/outbox-{n}.parquet", table)
        octets += self._put(f"{folder}/{_WINDOWS}", _windows(description, tables))
        content = json.dumps({**manifest, "octets": octets, "aggregator": description}).encode()
        self.store.replace(f"{folder}/{_MANIFEST}", content)
        return octets

    def _put(self, place: str, table: pa.Table) -> int:
        out = pa.BufferOutputStream()
        pq.write_table(table, out, compression="zstd")
        content = out.getvalue()
        self.store.replace(place, content)
        return content.size

    def prune(self, keep: int, parts: Iterable[str]) -> None:
        """Remove all but the newest `keep`, and never the newest that has all these parts. Raises
        OSError.
        """
        found: dict[str, list[str]] = {}
        for place in self.store.names():
            name = place.partition("/")[0]
            if _is_name(name):
                found.setdefault(name, []).append(place)
        wanted = [f"/{part}/{_MANIFEST}" for part in parts]
        whole = [n for n, places in found.items() if {n + w for w in wanted} <= set(places)]
        for name in sorted(found)[:-keep]:
            if name < max(whole, default=""):
                for place in found[name]:
                    self.store.delete(place)


def _is_name(text: str) -> bool:
    try:
        datetime.strptime(text, _NAME).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def _windows(description: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> pa.Table:
    """The tables of all open windows as one; no columns if none is open."""
    marked = []
    for start, revision in description["open"]:
        table = tables[f"window-{start}-{revision}"]
        n = table.num_rows
        table = table.append_column(WINDOW, pa.array(np.full(n, start, np.int64)))
        marked.append(table.append_column(REVISION, pa.array(np.full(n, revision, np.uint32))))
    return pa.concat_tables(marked) if marked else pa.table({})


def _of_window(rows: pa.Table, start: int, revision: int) -> pa.Table:
    chosen = pc.and_(
        pc.equal(rows[WINDOW], pa.scalar(start, pa.int64())),
        pc.equal(rows[REVISION], pa.scalar(revision, pa.uint32())),
    )
    return rows.filter(chosen).drop_columns([WINDOW, REVISION]).unify_dictionaries()


@dataclass(slots=True)
class Snapshots:
    """When an aggregator writes its part, and what goes with it. `about` is the same in all parts:
    version, digest of the configuration, places.
    """

    shelf: Shelf
    every_ns: int
    keep: int
    about: Mapping[str, Any]
    written: int = 0
    octets: int = 0
    _period: int = -1

    def due(self, now_ns: int) -> bool:
        """Whether a period has begun in which nothing was written. The first one is sat out: what
        has just begun is no news.
        """
        period = now_ns // self.every_ns
        if self._period < 0:
            self._period = period
        return period > self._period

    def write(self, now_ns: int, part: Part) -> None:
        """Write the part that is due. Raises OSError."""
        period = now_ns // self.every_ns
        name = datetime.fromtimestamp(period * self.every_ns // SECOND, UTC).strftime(_NAME)
        about = {
            "form": FORM,
            **self.about,
            "at": datetime.fromtimestamp(now_ns / SECOND, UTC).isoformat(timespec="milliseconds"),
            **part.manifest,
        }
        self.octets = self.shelf.write(name, about, part)
        self.written += 1
        self._period = period
        self.shelf.prune(self.keep, (f"{view}-{p}" for view, p in self.about["places"]))


def find_snapshot(told: str, usual: str) -> tuple[str, str]:
    """Where a snapshot lies that `state.start_from` tells, and its name: NAME or `latest` where
    snapshots usually are, or a path or URI that ends in one of them. Raises SnapshotError, OSError.
    """
    place, _, query = told.partition("?")
    folder, _, name = place.rstrip("/").rpartition("/")
    elsewhere = f"{folder}?{query}" if query and is_uri(folder) else folder
    location = elsewhere or usual
    return location, Shelf(open_store(location)).resolve(name)


def snapshots_of(settings: Settings) -> Snapshots | None:
    """What an aggregator of this configuration writes, if it asks for snapshots."""
    wanted = settings.state.snapshots
    if wanted is None:
        return None
    about = {
        "version": __version__,
        "config": hashlib.sha256(settings.model_dump_json().encode()).hexdigest(),
        "places": [[view.name, p] for view in settings.views for p in range(view.partitions)],
    }
    return Snapshots(Shelf(open_store(settings.state.shelf)), wanted.every, wanted.keep, about)


def seed_of(settings: Settings, view: str, partition: int) -> Seed | None:
    """Reads what an aggregator without a checkpoint begins with, if the configuration says so. A
    view that the snapshot does not have begins empty.
    """
    told = settings.state.start_from
    if told is None:
        return None

    def read() -> Part | None:
        location, name = find_snapshot(told, settings.state.shelf)
        shelf = Shelf(open_store(location))
        if f"{view}-{partition}" not in shelf.manifests(name):
            return None
        return shelf.part(name, view, partition)

    return read
