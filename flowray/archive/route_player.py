"""The tables of a RIB group made again from its archive, as of any snapshot that shards joined
with.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from flowray.archive.names import FileName
from flowray.archive.place import Place
from flowray.archive.route_records import TYPE, RecordType, RouteRecord, read_record
from flowray.errors import CaptureError
from flowray.rib.bmp_routes import BmpRoutes
from flowray.rib.bmp_session import BmpSession
from flowray.rib.collector import RouteCollector, bmp_settings
from flowray.rib.journal import Labels
from flowray.rib.peers import Peer, PolicyView
from flowray.rib.restore import restore
from flowray.rib.roa import RoaSet
from flowray.rib.snapshot import Snapshot
from flowray.settings.model import Settings
from flowray.views.checkpoint import CheckpointError, decode
from flowray.wire.bgp import mrt_kernels as kernels
from flowray.wire.bgp.events import Action
from flowray.wire.bgp.families import UNKNOWN_FAMILY, family_index
from flowray.wire.bgp.mrt import CONTEXTS, MrtEvent, MrtReader, MrtUpdates
from flowray.wire.bgp.mrt_kernels import Kind
from flowray.wire.bgp.update import parse_updates
from flowray.wire.packets import address_text

__all__ = ["Moment", "RoutePlayer", "RoutePlayers"]

Moment: TypeAlias = tuple[str, str, int]
"""A snapshot: group, epoch, generation."""

_HEADER = 12


class _TapeReader(MrtReader):
    """Reads records of ours between those of MRT: `MrtReader` passes over them."""

    def records(self) -> Iterator[MrtEvent | RouteRecord]:
        """All of a file, in order."""
        yield from self

    def _runs(self, data: Any, records: Any) -> Iterator[Any]:
        ours = records[:, kernels.KIND] == Kind.UNSUPPORTED
        edges = np.flatnonzero(np.diff(ours, prepend=ours[:1])).tolist()
        begin = 0
        for end in [*edges, len(records)]:
            run = records[begin:end]
            begin = end
            if not len(run):
                continue
            if run[0, kernels.KIND] == Kind.UNSUPPORTED:
                yield from self._ours(data, run)
            else:
                yield from super()._runs(data, run)

    def _ours(self, data: Any, run: Any) -> Iterator[RouteRecord]:
        for row in run:
            at, size = int(row[kernels.OFFSET]), int(row[kernels.LENGTH])
            kind = int.from_bytes(data[at - 8 : at - 6].tobytes())
            if kind != TYPE:
                self._report.unsupported += 1
                continue
            try:
                record = read_record(int(row[kernels.SUBTYPE]), data[at : at + size].tobytes())
            except ValueError:
                self._report.malformed += 1
                continue
            yield record


@dataclass(slots=True)
class RouteReport:
    """What was read of the archive of routes."""

    files: int = 0
    records: int = 0
    snapshots: int = 0
    faults: list[str] | None = None


class RoutePlayer:
    """One life of a group. Snapshots are asked for in the order in which they were made."""

    def __init__(
        self, place: Place, files: Sequence[FileName], settings: Settings, report: RouteReport
    ) -> None:
        """`files` are all of that life, in order."""
        self._place, self._report = place, report
        self._collector = RouteCollector(settings, {}, Labels())
        self._rib = self._collector.rib
        self._settings = settings
        self._publisher = self._collector.publisher(f"{files[0].owner}.{files[0].life}")
        self._bgp: dict[str, int] = {}
        self._addresses: dict[int, str] = {}
        self._bmp: dict[int, BmpRoutes] = {}
        self._records = self._read(files)
        self._reader: _TapeReader | None = None

    def until(self, wanted: set[tuple[str, int]]) -> Iterator[tuple[tuple[str, int], Snapshot]]:
        """Snapshots (epoch, generation) that are wanted, each as it was."""
        for record in self._records:
            if isinstance(record, MrtUpdates):
                self._update(record)
                continue
            if not isinstance(record, RouteRecord):
                continue
            if record.kind is not RecordType.PUBLISHED:
                self._apply(record)
                continue
            key = record.body[8:].decode(), int.from_bytes(record.body[:8])
            if key in wanted:
                self._report.snapshots += 1
                yield key, self._publisher.publish(record.time_ns)

    def _read(self, files: Sequence[FileName]) -> Iterator[MrtEvent | RouteRecord]:
        for expected, name in enumerate(files, 1):
            if name.number != expected:
                gap = f"{self._place}: file {expected} of routes of {name.owner} is not there"
                raise CaptureError(f"{gap}: later tables cannot be made again")
            with tempfile.NamedTemporaryFile(suffix=".mrt") as file:
                self._place.fetch(name, file)
                file.flush()
                self._reader = _TapeReader(file.name)
                self._report.files += 1
                yield from self._reader.records()
                told = self._reader.report
                self._report.records += told.records
                if told.fault and self._report.faults is not None:
                    self._report.faults.append(told.fault.replace(file.name, name.path))

    # -- records -----------------------------------------------------------------------------------

    def _update(self, event: MrtUpdates) -> None:
        assert self._reader is not None
        self._rib.compact()
        told = [self._reader.peers[i] for i in range(len(self._reader.peers))]
        numbers = np.array([self._bgp.get(address_text(p.hi, p.lo), -1) for p in told], np.int64)
        peers = numbers[event.peer]
        if (peers < 0).any():
            return  # of a session whose beginning is not in the archive
        parsed = parse_updates(event.updates, CONTEXTS, self._rib.store)
        add_path = CONTEXTS.add_path[event.updates.context]
        events = parsed.events
        self._rib.apply(peers, events, event.updates.buf, add_path)
        for row in np.flatnonzero(events.action == Action.END_OF_RIB).tolist():
            number = int(peers[events.message[row]])
            self._rib.end_restart(number, int(events.family[row]))

    def _apply(self, record: RouteRecord) -> None:
        now_ns, body = record.time_ns, record.body
        match record.kind:
            case RecordType.BEGIN:
                self._begin(json.loads(body))
            case RecordType.BGP_OPENED:
                told = json.loads(body)
                peer = Peer(**{**told, "view": PolicyView(told["view"])})
                self._bgp[peer.address] = number = self._rib.open(peer, now_ns)
                self._addresses[record.session] = peer.address
                self._rib.adopt(number)
            case RecordType.BGP_REFRESH:
                self._refresh(record)
            case RecordType.BGP_ENDED:
                address = self._addresses.pop(record.session, "")
                if address in self._bgp:
                    self._rib.drop(self._bgp.pop(address))
            case RecordType.BMP_OPENED:
                told = json.loads(body)
                settings = bmp_settings(self._settings)
                session = BmpSession(settings, told["address"], told["port"], now_ns)
                self._bmp[record.session] = self._collector.accept_bmp(session, now_ns)
            case RecordType.BMP_MESSAGES:
                self._heard(record)
            case RecordType.BMP_ENDED:
                if (routes := self._bmp.pop(record.session, None)) is not None:
                    for output in routes.session.closed(now_ns):
                        routes.take(output, now_ns)
            case RecordType.EXPIRED:
                self._expire(json.loads(body))
            case RecordType.PAYLOADS:
                self._validate(body)

    def _begin(self, told: dict[str, Any]) -> None:
        if told["number"] != 1 or not told["table"]:
            return
        name = FileName.of(told["table"])
        if name is None:
            return
        with self._place.open(name) as file:
            try:
                restore(self._rib, decode(file.read()))
            except CheckpointError as error:
                raise CaptureError(f"{self._place}/{name.path}: {error}") from error

    def _heard(self, record: RouteRecord) -> None:
        if (routes := self._bmp.get(record.session)) is None:
            return
        for output in routes.session.receive(record.body, record.time_ns):
            routes.take(output, record.time_ns)

    def _refresh(self, record: RouteRecord) -> None:
        number = self._bgp.get(self._addresses.get(record.session, ""))
        family = family_index(int.from_bytes(record.body[1:3]), record.body[3])
        if number is None or family == UNKNOWN_FAMILY:
            return
        if record.body[0] == 1:
            self._rib.begin_refresh(number, family)
        else:
            self._rib.end_refresh(number, family)

    def _expire(self, identity: list[Any]) -> None:
        for tables in list(self._rib.peers()):
            if tables.stale and list(tables.peer.identity) == identity:
                self._rib.expire(tables.number)

    def _validate(self, body: bytes) -> None:
        with pa.ipc.open_stream(body) as stream:
            columns = {name: column.to_numpy() for name, column in zip(
                stream.schema.names, stream.read_all().columns, strict=True
            )}  # fmt: skip
        self._collector.validate_with(RoaSet(**columns))
        self._collector.validate_snapshots(self._publisher)


class RoutePlayers:
    """Snapshots of all groups and their lives. `wanted` counts how often each is asked for: it is
    kept until then.
    """

    def __init__(self, place: Place, settings: Settings, wanted: Counter[Moment]) -> None:
        """Raises CaptureError if the archive cannot be listed."""
        self.report = RouteReport(faults=[])
        self._place, self._settings = place, settings
        self._wanted = wanted
        self._files: dict[tuple[str, str], list[FileName]] = {}
        for name in sorted(place.names("routes"), key=lambda name: name.number):
            self._files.setdefault(name.origin, []).append(name)
        self._playing: dict[tuple[str, str], Iterator[tuple[tuple[str, int], Snapshot]]] = {}
        self._made: dict[Moment, Snapshot] = {}

    def snapshot(self, group: str, epoch: str, generation: int) -> Snapshot:
        """What was joined with then. Raises CaptureError if it cannot be made again."""
        moment = group, epoch, generation
        if moment not in self._made:
            for key, snapshot in self._play(group, _life(epoch)):
                self._made[group, *key] = snapshot
                if key == (epoch, generation):
                    break
        if moment not in self._made:
            at = f"{self._place}: snapshot {generation} of {epoch}"
            raise CaptureError(f"{at} is not in the archive of routes")
        snapshot = self._made[moment]
        self._wanted[moment] -= 1
        if self._wanted[moment] <= 0:
            del self._made[moment]
        return snapshot

    def _play(self, group: str, life: str) -> Iterator[tuple[tuple[str, int], Snapshot]]:
        origin = group, life
        if origin not in self._playing:
            files = self._files.get(origin)
            if not files:
                raise CaptureError(f"{self._place}: no routes of group {group} since {life}")
            player = RoutePlayer(self._place, files, self._settings, self.report)
            wanted = {(epoch, gen) for g, epoch, gen in self._wanted if g == group}
            self._playing[origin] = player.until(wanted)
        return self._playing[origin]


def _life(epoch: str) -> str:
    """The life of a group in the epoch of a snapshot: <group>.<life>.<compactions>."""
    return epoch.split(".")[1]
