"""The archive of a RIB group: what its routers told, in the one order in which the group took it,
and where in that order each snapshot was made.

The messages of BGP sessions are records of MRT (RFC 6396), all else `route_records`. Files grow in
the spool; each snapshot is written through before shards may join with it.
"""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from flowray.archive.names import FileName
from flowray.archive.place import Place
from flowray.archive.route_records import RecordType, RouteRecord
from flowray.archive.uploader import Load, Uploader
from flowray.rib.peers import Peer
from flowray.rib.roa import RoaSet
from flowray.rib.snapshot import Snapshot
from flowray.settings.archive import Archive
from flowray.sinks.paths import safe_part
from flowray.views.checkpoint import State, encode
from flowray.wire.bgp.events import Contexts, Updates
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.bgp.mrt import MrtPeer
from flowray.wire.bgp.mrt_writer import message_records
from flowray.wire.packets import address_words

__all__ = ["RouteTape"]

log = logging.getLogger(__name__)

CLOSE_SECONDS = 20.0
_GZIP_LEVEL = 4


class RouteTape:
    """One life of a RIB group. Not thread-safe. What cannot be written is lost, counted: from there
    on snapshots cannot be made again until the group starts anew.
    """

    def __init__(self, settings: Archive, group: str, life: str, local_as: int) -> None:
        """Take up what a predecessor left. Raises OSError and ConfigError as `ShardArchive`."""
        self._settings, self._group, self._life = settings, group, life
        self._local_as = local_as
        self._folder = settings.spool / "routes" / safe_part(group)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._uploader = Uploader(Place(settings.path), f"rib-{group}")
        self._sessions = 0
        self._bgp: dict[str, int] = {}
        self._number = 0
        self._file: IO[bytes] | None = None
        self._path = Path()
        self._octets = 0
        self._ends_ns = 0
        self._table = ""
        self.messages = 0
        self.lost = 0
        for path in sorted(self._folder.glob("*.mrt")):
            self._submit(path)

    # -- what was there ----------------------------------------------------------------------------

    def restored(self, state: State, now_ns: int) -> None:
        """The group begins with these tables."""
        name = FileName(now_ns, now_ns, 0, self._life, self._group, "tables").path
        path = self._folder / f"{self._life}.rib"
        path.write_bytes(encode(state))
        self._table = name
        # A copy, for the load is removed when it is at its place and may be built again before.
        aside = self._folder / f"{self._life}.rib.copy"
        load = Load([path], lambda: [(Path(shutil.copy(path, aside)), name)], path.stat().st_size)
        self._uploader.submit(load)

    # -- BGP sessions ------------------------------------------------------------------------------

    def opened(self, peer: Peer, now_ns: int) -> None:
        """A BGP session is up."""
        self._sessions += 1
        self._bgp[peer.address] = self._sessions
        self._write(RecordType.BGP_OPENED, now_ns, self._sessions, _json(asdict(peer)))

    def received(self, peer: Peer, updates: Updates, contexts: Contexts) -> None:
        """A BGP session told something."""
        told = MrtPeer(*address_words(peer.address), peer.asn, local_as=self._local_as)
        numbers = np.zeros(len(updates), np.int64)
        records = message_records(updates, contexts, [told], numbers)
        self._put(records.data, int(updates.time_ns[0]), len(updates))

    def refreshed(self, peer: Peer, family: int, *, begin: bool, now_ns: int) -> None:
        """A BGP session begins to tell its routes of a family anew, or has done so."""
        f = FAMILIES[family]
        body = bytes((1 if begin else 2,)) + f.afi.to_bytes(2) + bytes((f.safi,))
        self._write(RecordType.BGP_REFRESH, now_ns, self._bgp.get(peer.address, 0), body)

    def ended(self, peer: Peer, now_ns: int) -> None:
        """A BGP session is over."""
        session = self._bgp.pop(peer.address, 0)
        self._write(RecordType.BGP_ENDED, now_ns, session)

    # -- BMP sessions ------------------------------------------------------------------------------

    def bmp_opened(self, address: str, port: int, now_ns: int) -> int:
        """A router connected: the number of its session."""
        self._sessions += 1
        told = _json({"address": address, "port": port})
        self._write(RecordType.BMP_OPENED, now_ns, self._sessions, told)
        return self._sessions

    def bmp_received(self, session: int, messages: bytes | memoryview, now_ns: int) -> None:
        """A router told whole messages."""
        self._write(RecordType.BMP_MESSAGES, now_ns, session, bytes(messages))

    def bmp_ended(self, session: int, now_ns: int) -> None:
        """The connection of a router is over."""
        self._write(RecordType.BMP_ENDED, now_ns, session)

    # -- the group ---------------------------------------------------------------------------------

    def expired(self, peer: Peer, now_ns: int) -> None:
        """Routes of a peer from before a restart were given up."""
        self._write(RecordType.EXPIRED, now_ns, 0, _json(list(peer.identity)))

    def validated(self, roas: RoaSet, now_ns: int) -> None:
        """Routes are validated by these payloads from here on."""
        out = pa.BufferOutputStream()
        table = pa.table(roas.columns())
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
        self._write(RecordType.PAYLOADS, now_ns, 0, out.getvalue().to_pybytes())

    def published(self, snapshot: Snapshot) -> None:
        """A snapshot was made of all that came before."""
        body = snapshot.generation.to_bytes(8) + snapshot.epoch.encode()
        self._write(RecordType.PUBLISHED, snapshot.as_of_ns, 0, body)

    def advance(self, now_ns: int) -> None:
        """Let time pass: the file of a period that is over is on its way."""
        if self._file is not None and now_ns >= self._ends_ns:
            self._seal()

    def close(self) -> None:
        """End the file, and deliver what waits if that does not take long."""
        self._seal()
        self._uploader.close(CLOSE_SECONDS)

    # -- the file ----------------------------------------------------------------------------------

    def _write(self, kind: RecordType, now_ns: int, session: int, body: bytes = b"") -> None:
        messages = kind is RecordType.BMP_MESSAGES
        self._put(RouteRecord(kind, now_ns, session, body).encode(), now_ns, int(messages))

    def _put(self, octets: bytes | memoryview, now_ns: int, messages: int) -> None:
        if self._octets >= self._settings.rotate_octets:
            self._seal()
        self.advance(now_ns)
        if self._uploader.octets >= self._settings.spool_octets:
            self.lost += messages
            return
        try:
            if self._file is None:
                self._file = self._open(now_ns)
            self._file.write(octets)
        except OSError as error:
            self.lost += messages
            log.error("archive of routes of %s: %s", self._group, error)  # noqa: TRY400 - a line, not a trace
            self._seal()
            return
        self._octets += len(octets)
        self.messages += messages

    def _open(self, now_ns: int) -> IO[bytes]:
        self._number += 1
        period = self._settings.rotate
        self._ends_ns = (now_ns // period + 1) * period
        self._path = self._folder / f"{self._life}.{self._number:06d}.{now_ns}.mrt"
        # Not buffered: what the group was told outlives its process.
        file = self._path.open("wb", buffering=0)
        about = {"group": self._group, "life": self._life, "number": self._number}
        about |= {"table": self._table}
        file.write(RouteRecord(RecordType.BEGIN, now_ns, 0, _json(about)).encode())
        return file

    def _seal(self) -> None:
        file, self._file = self._file, None
        self._octets = 0
        if file is None:
            return
        with suppress(OSError):
            file.close()
        self._submit(self._path)

    def _submit(self, path: Path) -> None:
        load = Load([path], lambda: self._build(path), path.stat().st_size)
        self._uploader.submit(load)

    def _build(self, path: Path) -> list[tuple[Path, str]]:
        life, number, first = path.name.removesuffix(".mrt").rsplit(".", 2)
        last = max(int(first), path.stat().st_mtime_ns)
        name = FileName(int(first), last, int(number), life, self._group, "routes")
        packed = path.with_name(f"{path.name}.gz")
        with path.open("rb") as plain, gzip.open(packed, "wb", _GZIP_LEVEL) as out:
            shutil.copyfileobj(plain, out, 1 << 20)
        return [(packed, name.path)]


def _json(told: Any) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode()
