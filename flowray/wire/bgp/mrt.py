"""Reading MRT (RFC 6396, RFC 8050): recorded BGP sessions and dumped tables as UPDATE messages.

A route of a table comes as an UPDATE message of its own, so that messages of sessions and tables
are parsed, checked and applied alike.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.errors import CaptureError
from flowray.hashing import Interner
from flowray.wire.bgp import mrt_kernels as kernels
from flowray.wire.bgp import mrt_table_kernels as tables
from flowray.wire.bgp.events import Contexts, Updates
from flowray.wire.bgp.mrt_kernels import Kind, Stop
from flowray.wire.capture_source import open_source

__all__ = [
    "CONTEXTS",
    "MrtEvent",
    "MrtPeer",
    "MrtReader",
    "MrtReport",
    "MrtStateChange",
    "MrtUpdates",
    "is_mrt",
]

I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]

_EVERY_FAMILY = np.uint64(0xFFFFFFFFFFFFFFFF)

CONTEXTS = Contexts(
    four_octets=np.array([False, True, False, True]),
    add_path=np.array([0, 0, _EVERY_FAMILY, _EVERY_FAMILY], np.uint64),
)
"""How MRT encodes messages: bit 0 of a context is AS numbers of four octets, bit 1 path identifiers
(RFC 8050).
"""

_RECORDS = 65536  # per walk
_ROUTES = 65536  # of a table per batch
_TABLE_OCTETS = 16 << 20  # of messages made of a table per batch
_UPDATE = 2  # message type
_UPDATE_OCTETS = 65535 - 19
_V4_MAPPED = 0xFFFF << 32
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class MrtPeer:
    """A peer of the collector that wrote a file; 0 is what the file does not tell.

    Addresses are words (hi, lo), IPv4 as v4-mapped.
    """

    hi: int
    lo: int
    asn: int
    bgp_id: int = 0
    local_hi: int = 0
    local_lo: int = 0
    local_as: int = 0


@dataclass(frozen=True, slots=True)
class MrtUpdates:
    """UPDATE messages, in the order of the file.

    `updates` has contexts of `CONTEXTS` and times of the records; `peer` (n,) int64 indexes
    `MrtReader.peers`; `sent` (n,) uint8 is 1 where the collector was the sender (the subtypes
    LOCAL). `table` tells that each message is a route of a table dump.
    """

    updates: Updates
    peer: I64
    sent: npt.NDArray[np.uint8]
    table: bool


@dataclass(frozen=True, slots=True)
class MrtStateChange:
    """A session changed its state (RFC 6396 section 4.4.1: 1 Idle to 6 Established)."""

    time_ns: int
    peer: int
    old: int
    new: int


MrtEvent: TypeAlias = MrtUpdates | MrtStateChange


@dataclass(slots=True)
class MrtReport:
    """What a file held; complete when the reader is exhausted, growing until then."""

    records: int = 0
    updates: int = 0  # UPDATE messages of sessions
    other_messages: int = 0  # OPEN, KEEPALIVE, NOTIFICATION, ROUTE-REFRESH
    state_changes: int = 0
    routes: int = 0  # of tables
    unsupported: int = 0  # records of types or subtypes that are not about routes
    unknown_family: int = 0  # records of tables of families that are not understood
    malformed: int = 0  # records, or routes in records of tables, that contradict themselves
    refused: int = 0  # messages and routes of peers beyond the limit
    damaged: int = 0  # places after which the next record had to be looked for
    lost_bytes: int = 0  # passed over there
    cut_off: bool = False  # the file ends within a record
    fault: str = ""  # where and why, if cut_off or damaged
    bytes_read: int = 0  # of the file, for progress
    total_bytes: int = 0  # of the file, 0 if unknown (a pipe)


_TYPES = frozenset({5, 11, 12, 13, 16, 17, 32, 33, 48, 49})
_SUBTYPES = 64


def is_mrt(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file begins as MRT does: an MRT type and a small subtype behind four octets
    of time, where captures have their version or a length (RFC 6396 section 2). False for what
    cannot be read, and for pipes, of which nothing can be given back.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - os.PathLike has no is_file
        return False
    try:
        source = open_source(path)
    except CaptureError:
        return False
    if not len(source.data):
        source.more(0)
    head = source.data[:8].tobytes()
    source.close()
    kind, subtype = int.from_bytes(head[4:6]), int.from_bytes(head[6:8])
    return head[:4] not in _MAGIC and kind in _TYPES and subtype < _SUBTYPES


_MAGIC = {bytes.fromhex(m) for m in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "0a0d0d0a")}
"""Beginnings of captures."""


class MrtReader:
    """Iterates once over the UPDATE messages and changes of state of an MRT file, in its order.

    The file may be plain, gzip or bzip2 (told by content) or a pipe; memory is bounded by chunks.
    `peers` grows with the file, at most to `peer_limit`. What is malformed is counted in `report`
    and passed over; a file that is cut off gives what it holds.

    Raises CaptureError, on creation, for a file that is missing.
    """

    def __init__(self, path: str | os.PathLike[str], *, peer_limit: int = 65536) -> None:
        self.path = os.fspath(path)
        self.peers: list[MrtPeer] = []
        self._numbers: dict[MrtPeer, int] = {}
        self._peer_limit = peer_limit
        self._sessions = Interner(limit=2 * peer_limit)
        self._session_peer: I64 = np.full(1, -1, np.int64)
        self._table_peer: I64 = np.empty(0, np.int64)
        self._state: I64 = np.zeros(kernels.WALK_WORDS, np.int64)
        self._report = MrtReport()
        self._source = open_source(path)
        self._report.total_bytes = self._source.total_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was handed out stays valid."""
        self._source.close()

    @property
    def report(self) -> MrtReport:
        """What was read so far."""
        return replace(self._report)

    def __iter__(self) -> Iterator[MrtEvent]:
        try:
            yield from self._events()
        finally:
            self.close()

    def _events(self) -> Iterator[MrtEvent]:
        source, state, report = self._source, self._state, self._report
        stop = Stop.STARVED
        while stop != Stop.END:
            if stop == Stop.STARVED and not source.final:
                self._more()
            records = np.empty((_RECORDS, kernels.RECORD_WORDS), np.int64)
            stop, count = kernels.walk(source.data, source.final, state, records)
            report.records = int(state[kernels.RECORDS])
            report.bytes_read = source.bytes_read(int(state[kernels.POSITION]))
            yield from self._runs(source.data, records[:count])
            self._note_damage()
        self._end()

    def _more(self) -> None:
        state, source = self._state, self._source
        source.more(int(state[kernels.POSITION]))
        state[kernels.POSITION] = 0

    def _runs(self, data: npt.NDArray[np.uint8], records: I64) -> Iterator[MrtEvent]:
        """Records of one kind that stand together are read together."""
        kind = records[:, kernels.KIND]
        begins = np.flatnonzero(np.diff(kind, prepend=-1)).tolist()
        for begin, end in pairwise([*begins, len(kind)]):
            run = records[begin:end]
            match Kind(kind[begin]):
                case Kind.MESSAGE:
                    yield from self._messages(data, run)
                case Kind.OLD_UPDATE:
                    yield from self._old_updates(data, run)
                case Kind.TABLE:
                    yield from self._table(data, run)
                case Kind.OLD_TABLE:
                    yield from self._old_table(data, run)
                case Kind.STATE | Kind.OLD_STATE:
                    yield from self._state_changes(data, run)
                case Kind.PEERS:
                    for row in run:
                        self._index_peers(_octets(data, row))
                case Kind.OLD_MESSAGE:
                    self._report.other_messages += len(run)
                case Kind.UNSUPPORTED:
                    self._report.unsupported += len(run)

    # -- sessions

    def _messages(self, data: npt.NDArray[np.uint8], run: I64) -> Iterator[MrtEvent]:
        n = len(run)
        offset, length, context = (np.empty(n, np.int64) for _ in range(3))
        session = np.empty(n, np.uint64)
        kind, sent = np.empty(n, np.uint8), np.empty(n, np.uint8)
        kernels.read_messages(data, run, offset, length, session, kind, context, sent)
        chosen = np.flatnonzero(kind == _UPDATE)
        malformed = int((kind == 0).sum())
        self._report.malformed += malformed
        self._report.other_messages += n - malformed - len(chosen)
        time_ns = run[:, kernels.TIME_NS]
        updates = Updates(data, offset[chosen], length[chosen], context[chosen], time_ns[chosen])
        self._report.updates += len(chosen)
        peer = self._session_peers(data, session[chosen])
        yield from self._known(updates, peer, sent[chosen], table=False)

    def _old_updates(self, data: npt.NDArray[np.uint8], run: I64) -> Iterator[MrtEvent]:
        """UPDATEs of MRTd, which left the header of the message out (RFC 6396 appendix B.2.4)."""
        body = run[:, kernels.LENGTH] - 12
        whole = (body >= 4) & (body <= _UPDATE_OCTETS)
        self._report.malformed += len(run) - int(whole.sum())
        run, body = run[whole], body[whole]
        self._report.updates += len(run)
        at = run[:, kernels.OFFSET].copy()
        length = body + 19
        offset = np.cumsum(length) - length
        out = np.empty(int(length.sum()), np.uint8)
        kernels.frame_updates(data, at + 12, body, out, offset)
        context = np.zeros(len(run), np.int64)
        updates = Updates(out, offset, length, context, run[:, kernels.TIME_NS].copy())
        session = at.astype(np.uint64) << np.uint64(16) | np.uint64(12)
        peer = self._session_peers(data, session)
        yield from self._known(updates, peer, np.zeros(len(run), np.uint8), table=False)

    def _state_changes(self, data: npt.NDArray[np.uint8], run: I64) -> Iterator[MrtEvent]:
        for row in run:
            raw = _octets(data, row)
            old = row[kernels.KIND] == Kind.OLD_STATE
            peer = _old_session(raw[:-4]) if old else _session(raw[:-4])
            if peer is None:
                self._report.malformed += 1
                continue
            self._report.state_changes += 1
            before, after = struct.unpack(">HH", raw[-4:])
            number = self._number(peer)
            if number < 0:
                self._report.refused += 1
                continue
            yield MrtStateChange(int(row[kernels.TIME_NS]), number, before, after)

    # -- tables

    def _index_peers(self, raw: bytes) -> None:
        """PEER_INDEX_TABLE (RFC 6396 section 4.3.1): collector, name of the view, peers."""
        numbers = []
        name = int.from_bytes(raw[4:6], "big")
        at, count = 8 + name, int.from_bytes(raw[6 + name : 8 + name], "big")
        for _ in range(count):
            kind = raw[at] if at < len(raw) else 0
            address, width = (16 if kind & 1 else 4), (4 if kind & 2 else 2)
            end = at + 5 + address + width
            if end > len(raw) or len(raw) < 8:
                self._report.malformed += 1
                break
            bgp_id = int.from_bytes(raw[at + 1 : at + 5], "big")
            hi, lo = _words(raw[at + 5 : at + 5 + address])
            asn = int.from_bytes(raw[end - width : end], "big")
            numbers.append(self._number(MrtPeer(hi, lo, asn, bgp_id)))
            at = end
        self._table_peer = np.array(numbers, np.int64)

    def _table(self, data: npt.NDArray[np.uint8], run: I64) -> Iterator[MrtEvent]:
        state = np.zeros(tables.TABLE_WORDS, np.int64)
        stop = Stop.FULL
        while stop == Stop.FULL:
            out, offset, length, time_ns = _room(run)
            context, index = np.empty_like(offset), np.empty_like(offset)
            stop = tables.table_updates(
                data, run, len(self._table_peer), state, out, offset, length, context, index,
                time_ns,
            )  # fmt: skip
            n = int(state[tables.ROWS])
            updates = Updates(out, offset[:n], length[:n], context[:n], time_ns[:n])
            self._report.routes += n
            peer = self._table_peer[index[:n]]
            yield from self._known(updates, peer, np.zeros(n, np.uint8), table=True)
        self._count(state)

    def _old_table(self, data: npt.NDArray[np.uint8], run: I64) -> Iterator[MrtEvent]:
        state = np.zeros(tables.TABLE_WORDS, np.int64)
        stop = Stop.FULL
        while stop == Stop.FULL:
            out, offset, length, time_ns = _room(run)
            session = np.empty(len(offset), np.uint64)
            stop = tables.old_table_updates(data, run, state, out, offset, length, session, time_ns)
            n = int(state[tables.ROWS])
            context = np.zeros(n, np.int64)
            updates = Updates(out, offset[:n], length[:n], context, time_ns[:n])
            self._report.routes += n
            peer = self._session_peers(data, session[:n])
            yield from self._known(updates, peer, np.zeros(n, np.uint8), table=True)
        self._count(state)

    def _count(self, state: I64) -> None:
        self._report.malformed += int(state[tables.MALFORMED])
        self._report.unknown_family += int(state[tables.UNKNOWN_FAMILY])

    # -- peers

    def _known(
        self, updates: Updates, peer: I64, sent: npt.NDArray[np.uint8], *, table: bool
    ) -> Iterator[MrtEvent]:
        """The rows whose peer has a number, if there are any."""
        known = peer >= 0
        if not known.all():
            self._report.refused += len(peer) - int(known.sum())
            updates = Updates(
                updates.buf,
                updates.offset[known],
                updates.length[known],
                updates.context[known],
                updates.time_ns[known],
            )
            peer, sent = peer[known], sent[known]
        if len(peer):
            yield MrtUpdates(updates, peer, sent, table)

    def _session_peers(self, data: npt.NDArray[np.uint8], location: U64) -> I64:
        """(n,) numbers of the peers named by the octets at the locations, -1 beyond the limit."""
        ids = self._sessions.intern(data, location).astype(np.int64)
        known = len(self._session_peer)
        peers = [_session(self._sessions[i]) for i in range(known, len(self._sessions))]
        numbers = [-1 if peer is None else self._number(peer) for peer in peers]
        self._session_peer = np.append(self._session_peer, np.array(numbers, np.int64))
        return self._session_peer[ids]

    def _number(self, peer: MrtPeer) -> int:
        number = self._numbers.get(peer)
        if number is None:
            if len(self.peers) == self._peer_limit:
                return -1
            number = self._numbers[peer] = len(self.peers)
            self.peers.append(peer)
        return number

    # -- what is wrong with the file

    def _note_damage(self) -> None:
        state, report = self._state, self._report
        if state[kernels.DAMAGED] > report.damaged and not report.fault:
            at = self._source.base + int(state[kernels.FIRST_DAMAGE])
            report.fault = f"{self.path}: byte {at}: damaged record"
        report.damaged = int(state[kernels.DAMAGED])
        report.lost_bytes = int(state[kernels.LOST])

    def _end(self) -> None:
        source, report = self._source, self._report
        position = int(self._state[kernels.POSITION])
        left = len(source.data) - position
        report.cut_off = bool(source.fault) or (left > 0 and not self._state[kernels.SEARCHING])
        if report.cut_off and not report.fault:
            why = source.fault or f"cut off, {left} bytes of a record left"
            report.fault = f"{self.path}: byte {source.base + position}: {why}"


def _room(run: I64) -> tuple[npt.NDArray[np.uint8], I64, I64, I64]:
    """A buffer for messages made of records, and three columns."""
    octets = int(run[:, kernels.LENGTH].sum())
    rows = min(_ROUTES, octets // 8 + 1)
    out = np.empty(min(_TABLE_OCTETS, 4 * octets) + tables.ENTRY_ROOM, np.uint8)
    return out, np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty(rows, np.int64)


def _octets(data: npt.NDArray[np.uint8], row: I64) -> bytes:
    begin = int(row[kernels.OFFSET])
    return data[begin : begin + int(row[kernels.LENGTH])].tobytes()


def _words(raw: bytes) -> tuple[int, int]:
    """Words of an address of 4 or 16 octets."""
    value = int.from_bytes(raw, "big")
    if len(raw) == 4:
        value |= _V4_MAPPED
    return value >> 64, value & _WORD


_FORMS = {  # by octets: of an AS number, of an address; TABLE_DUMP has no local side
    4: (2, 0),
    8: (4, 0),
    16: (2, 4),
    20: (4, 4),
    40: (2, 16),
    44: (4, 16),
}


def _session(raw: bytes) -> MrtPeer | None:
    """The peer that a record names (RFC 6396 sections 4.2 and 4.4, appendix B.2.4)."""
    if len(raw) in {6, 18}:  # TABLE_DUMP: address, AS
        return MrtPeer(*_words(raw[:-2]), int.from_bytes(raw[-2:], "big"))
    if len(raw) == 12:  # BGP: AS and address of the peer, then of the collector
        own = int.from_bytes(raw[6:8], "big")
        return replace(_as_and_address(raw[:6]), local_as=own, **_local(raw[8:]))
    if len(raw) not in _FORMS:
        return None
    width, size = _FORMS[len(raw)]
    asn = int.from_bytes(raw[:width], "big")
    own = int.from_bytes(raw[width : 2 * width], "big")
    if not size:
        return MrtPeer(0, 0, asn, local_as=own)
    at = 2 * width + 4  # interface and family between
    afi = int.from_bytes(raw[at - 2 : at], "big")
    if afi != (1 if size == 4 else 2):
        return None
    hi, lo = _words(raw[at : at + size])
    return MrtPeer(hi, lo, asn, local_as=own, **_local(raw[at + size :]))


def _old_session(raw: bytes) -> MrtPeer | None:
    """The peer of a change of state of the type BGP (RFC 6396 appendix B.2.5)."""
    return _as_and_address(raw) if len(raw) == 6 else None


def _as_and_address(raw: bytes) -> MrtPeer:
    return MrtPeer(*_words(raw[2:6]), int.from_bytes(raw[:2], "big"))


def _local(raw: bytes) -> dict[str, int]:
    hi, lo = _words(raw)
    return {"local_hi": hi, "local_lo": lo}
