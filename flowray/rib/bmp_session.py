"""A BMP session: what a router tells of its BGP peers, octets in, events out. No I/O, no clock.

Route Monitoring goes by in batches: messages that follow each other become one `Updates`, found by
compiled walks. All else is rare, and a Python object each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowray.rib.bmp_events import (
    Discarded,
    Ended,
    Initiation,
    Mirroring,
    Output,
    PeerDown,
    PeerUp,
    RouteMonitoring,
    Statistics,
    Termination,
)
from flowray.rib.bmp_peers import BmpPeer, BmpPeers
from flowray.rib.bmp_route_marks import joined_marks, plain_marks, tlvs_beside
from flowray.wire.bgp import bmp, bmp_kernels
from flowray.wire.bgp.bmp import BmpError, MessageType, PeerHeader, PeerType, Tlv
from flowray.wire.bgp.bmp_route_tlvs import PathMark, read_route_tlvs
from flowray.wire.bgp.events import I64, U8, Contexts, Updates
from flowray.wire.bgp.messages import MessageError, Notification
from flowray.wire.bgp.open import Open

LOC_RIBS: frozenset[int] = frozenset({PeerType.LOC_RIB})
"""Peer types behind which there is no BGP session."""


@dataclass(frozen=True, slots=True)
class BmpSessionSettings:
    """What a session may take: octets of a message, peers (each policy view counts), seconds until
    the first message. Routes of a peer whose Peer Up was not seen are discarded, as pmacct does,
    but for peers of the types `without_peer_up`: of a Loc-RIB, GoBGP sends none. `path_marking` is
    the type of the Path Marking TLV if it is not that of the draft.
    """

    max_message: int = 1 << 20
    max_peers: int = 16384
    first_message_s: float = 60.0
    without_peer_up: frozenset[int] = LOC_RIBS
    path_marking: int | None = None


TOO_MANY_PEERS = "too many peers"
NOT_UP = "no Peer Up seen"
UNKNOWN_TYPE = "unknown message type"
TLVS = "TLVs beside an UPDATE cannot be read"

_HEADER = 19
"""Octets of a BGP message before its body."""

_VERDICTS = {
    bmp_kernels.HEADER_CUT: "per-peer header is cut off",
    bmp_kernels.PEER_REFUSED: TOO_MANY_PEERS,
    bmp_kernels.PEER_NOT_UP: NOT_UP,
    bmp_kernels.UPDATE_CUT: "BGP message is cut off",
    bmp_kernels.NO_UPDATE: "no UPDATE in it",
    bmp_kernels.TLV_CUT: "TLV is cut off",
}

_FRAMING = {
    bmp_kernels.BAD_VERSION: "a message of a version other than 3 and 4",
    bmp_kernels.TOO_SHORT: "a message shorter than its header",
    bmp_kernels.TOO_LONG: "a message longer than allowed",
}


class BmpSession:
    """A session with the router at `address` and `port`, connected at `now_ns`.

    `buffered` octets wait for the rest of their message: fewer than `max_message`.
    """

    def __init__(self, settings: BmpSessionSettings, address: str, port: int, now_ns: int) -> None:
        self.settings = settings
        self.address = address
        self.port = port
        self.connected_ns = now_ns
        self.messages = 0
        self.discarded: Counter[str] = Counter()
        """Messages not taken, by cause."""
        self.heard: Callable[[memoryview, int], None] | None = None
        """Given whole messages as they came, with the time, before anything becomes of them."""
        self._peers = BmpPeers(settings.max_peers, settings.without_peer_up)
        self._pending = bytearray()
        self._cause = ""
        self._refused: Counter[tuple[int, str, int]] = Counter()

    @property
    def peers(self) -> list[BmpPeer]:
        """All peers seen, in order: not to be changed."""
        return self._peers.peers

    @property
    def contexts(self) -> Contexts:
        """How UPDATEs are encoded, by `Updates.context`; those given out stay as they are."""
        return self._peers.contexts

    @property
    def ended(self) -> bool:
        """Whether `Ended` has been given out: the connection can be closed."""
        return bool(self._cause)

    @property
    def buffered(self) -> int:
        """Octets that wait for the rest of their message."""
        return len(self._pending)

    def receive(self, data: bytes | memoryview, now_ns: int) -> list[Output]:
        """Take octets as they came; routers give their own time."""
        if self.ended:
            return []
        self._pending += data
        if not self._may_be_whole():
            return []
        # The batch keeps this buffer: it is never written to again.
        whole = self._pending
        buf = np.frombuffer(whole, np.uint8)
        count, end, why = bmp_kernels.count_messages(buf, self.settings.max_message)
        self._pending = bytearray(memoryview(whole)[end:])
        self.messages += count
        if self.heard is not None and count:
            self.heard(memoryview(whole)[:end], now_ns)
        outputs = self._read(buf, count)
        return [*outputs, *self._discards(), *self._ending(_FRAMING.get(why, ""))]

    def tick(self, now_ns: int) -> list[Output]:
        """Let time pass: a router that has not sent one whole message for too long is given up."""
        waited_s = (now_ns - self.connected_ns) / 1e9
        if self.ended or self.messages or waited_s < self.settings.first_message_s:
            return []
        return self._ending(f"no message within {self.settings.first_message_s:g} s")

    def closed(self, now_ns: int, cause: str = "the router closed the connection") -> list[Output]:
        """The connection is closed, or will be."""
        del now_ns
        if self.ended:
            return []
        cut = f" after {self.buffered} octets of a message" if self.buffered else ""
        return self._ending(f"{cause}{cut}")

    def _may_be_whole(self) -> bool:
        """Whether a message is complete, or its header such that it will never be."""
        head = self._pending[: bmp.COMMON_HEADER]
        if not head or (head[0] in (3, 4) and len(head) < bmp.COMMON_HEADER):
            return False
        length = int.from_bytes(head[1:5])
        return length > self.settings.max_message or len(self._pending) >= length

    def _ending(self, cause: str) -> list[Output]:
        """The end, if `cause` is one or there has been one before."""
        self._cause = self._cause or cause
        if not self._cause:
            return []
        self._pending = bytearray()
        return [Ended(self._cause)]

    def _discards(self) -> list[Output]:
        """One row for all messages that were not taken for one reason."""
        rows: list[Output] = []
        for (kind, cause, peer), messages in self._refused.items():
            rows.append(Discarded(kind, cause, self.peers[peer] if peer >= 0 else None, messages))
            self.discarded[cause] += messages
        self._refused.clear()
        return rows

    def _read(self, buf: U8, count: int) -> list[Output]:
        offset, length = np.empty(count, np.int64), np.empty(count, np.int64)
        kind = np.empty(count, np.uint8)
        bmp_kernels.list_messages(buf, offset, length, kind)
        outputs: list[Output] = []
        routes = kind == MessageType.ROUTE_MONITORING
        # Rows where a run of Route Monitoring, or of all else, begins.
        starts = np.flatnonzero(routes[1:] != routes[:-1]) + 1
        for first, last in zip([0, *starts.tolist()], [*starts.tolist(), count], strict=True):
            if first == last:
                continue
            if routes[first]:
                outputs += self._routes(buf, offset[first:last], length[first:last])
                continue
            for at, octets, of in zip(
                offset[first:last].tolist(),
                length[first:last].tolist(),
                kind[first:last].tolist(),
                strict=True,
            ):
                outputs += self._message(of, buf[at : at + octets].tobytes())
                if self.ended:
                    return outputs
        return outputs

    def _routes(self, buf: U8, offset: I64, length: I64) -> list[Output]:
        """Consecutive Route Monitoring messages, one batch."""
        peers = self._peers
        n = len(offset)
        peer, context = np.full(n, -1, np.int64), np.zeros(n, np.int64)
        time_ns, verdict = np.zeros(n, np.int64), np.zeros(n, np.uint8)
        at = 0
        while True:
            stop = bmp_kernels.find_peers(
                buf,
                offset,
                length,
                at,
                peers.table,
                peers.seed,
                peers.context_of,
                peer,
                context,
                time_ns,
                verdict,
            )
            at = int(stop)
            if at == n:
                break
            place = int(offset[at]) + bmp.COMMON_HEADER
            header = bmp.read_peer_header(buf[place : place + bmp.PEER_HEADER].tobytes())
            peers.enter(buf, place, header)
        update, octets = np.zeros(n, np.int64), np.zeros(n, np.int64)
        kind, more = np.zeros(n, np.int64), np.zeros(n, np.bool_)
        bmp_kernels.find_updates(buf, offset, length, update, octets, kind, more, verdict)
        good = np.flatnonzero(verdict == bmp_kernels.GOOD)
        for row in np.flatnonzero(verdict != bmp_kernels.GOOD).tolist():
            cause = _VERDICTS[int(verdict[row])]
            self._refuse(MessageType.ROUTE_MONITORING, cause, int(peer[row]))
        if not len(good):
            return []
        updates = Updates(buf, update[good], octets[good], context[good], time_ns[good])
        peers.correct_contexts(updates, peer[good])
        batch = RouteMonitoring(updates, peer[good], None, ())
        rows = np.flatnonzero(more[good])
        if not len(rows):
            return [batch]
        chosen = good[rows]
        return [self._with_tlvs(batch, rows, offset[chosen], length[chosen], kind[chosen])]

    def _with_tlvs(
        self, batch: RouteMonitoring, rows: I64, offset: I64, length: I64, kind: I64
    ) -> RouteMonitoring:
        """The batch with what stands beside the UPDATEs in `rows` of it; the other columns tell of
        the messages in these rows.
        """
        updates = batch.updates
        begin, end = offset + _BODY, offset + length
        marks, plain = plain_marks(
            updates.buf, begin, end, updates.offset[rows], kind, self.settings.path_marking
        )
        marks.message[:] = rows[marks.message]
        found: list[tuple[int, PathMark]] = []
        others: list[tuple[int, Tlv]] = []
        for i in np.flatnonzero(~plain).tolist():
            row, update_type = int(rows[i]), int(kind[i])
            try:
                tlvs = tlvs_beside(updates, row, int(begin[i]), int(end[i]), update_type)
            except BmpError:
                self._refuse(MessageType.ROUTE_MONITORING, TLVS, int(batch.peers[row]))
                continue
            told = read_route_tlvs(tlvs, update_type, self.settings.path_marking)
            found += [(row, mark) for mark in told.marks]
            others += [(row, tlv) for tlv in told.others]
            if told.capabilities:
                updates.context[row] = self._peers.context_by(
                    int(updates.context[row]), told.capabilities
                )
        return RouteMonitoring(updates, batch.peers, joined_marks(marks, found), tuple(others))

    def _message(self, kind: int, data: bytes) -> list[Output]:
        """A whole message that is no Route Monitoring."""
        version, body = data[0], data[bmp.COMMON_HEADER :]
        if kind not in _OF_ROUTER and kind not in _OF_PEERS:
            return self._refuse(kind, UNKNOWN_TYPE)
        try:
            if kind in _OF_ROUTER:
                return self._of_router(kind, bmp.read_tlvs(body, version=version))
            header = bmp.read_peer_header(body)
        except BmpError as error:
            return self._refuse(kind, str(error))
        peer = self._peers.find(header)
        if peer is None:
            return self._refuse(kind, TOO_MANY_PEERS)
        try:
            return [self._of_peer(kind, peer, header, body[bmp.PEER_HEADER :], version)]
        except BmpError as error:
            return self._refuse(kind, str(error), peer.index)

    def _refuse(self, kind: int, cause: str, peer: int = -1) -> list[Output]:
        self._refused[kind, cause, peer] += 1
        return []

    def _of_router(self, kind: int, tlvs: tuple[Tlv, ...]) -> list[Output]:
        if kind == MessageType.INITIATION:
            return [Initiation(tlvs)]
        said = Termination(bmp.termination_reason(tlvs), tlvs)
        # The router will close the connection, and nothing may follow (RFC 7854 section 4.5).
        self._cause = f"the router ended the session: {said.reason_text}"
        return [said]

    def _of_peer(
        self, kind: int, peer: BmpPeer, header: PeerHeader, body: bytes, version: int
    ) -> Output:
        """A message about a peer, after its header."""
        if kind == MessageType.PEER_UP:
            return self._peer_up(peer, header, body, version)
        if kind == MessageType.PEER_DOWN:
            return self._peer_down(peer, header, body, version)
        if kind == MessageType.STATISTICS_REPORT:
            return Statistics(peer, header.time_ns, *bmp.read_statistics(body, version))
        return Mirroring(peer, header.time_ns, bmp.read_route_mirroring(body, version))

    def _peer_up(self, peer: BmpPeer, header: PeerHeader, body: bytes, version: int) -> PeerUp:
        told = bmp.read_peer_up(body, header, version)
        sent, received = _open(told.sent_open), _open(told.received_open)
        self._peers.up(peer, sent, received)
        return PeerUp(
            peer,
            header.time_ns,
            told.local_address,
            told.local_port,
            told.remote_port,
            local_as=sent.peer_as if sent else header.asn if peer.is_loc else 0,
            sent=sent,
            received=received,
            tlvs=told.tlvs,
        )

    def _peer_down(self, peer: BmpPeer, header: PeerHeader, body: bytes, version: int) -> PeerDown:
        told = bmp.read_peer_down(body, version)
        note = told.notification
        return PeerDown(
            peer,
            header.time_ns,
            self._peers.down(peer),
            told.reason,
            None if note is None else Notification.decode(note[_HEADER:]),
            told.fsm_event,
            told.tlvs,
        )


_OF_ROUTER = frozenset({MessageType.INITIATION, MessageType.TERMINATION})
_OF_PEERS = frozenset(
    {
        MessageType.STATISTICS_REPORT,
        MessageType.PEER_DOWN,
        MessageType.PEER_UP,
        MessageType.ROUTE_MIRRORING,
    }
)
_BODY = bmp.COMMON_HEADER + bmp.PEER_HEADER


def _open(message: bytes) -> Open | None:
    """An OPEN of a Peer Up; some routers make up one of a header alone for a Loc-RIB."""
    if len(message) < _HEADER + 10:
        return None
    try:
        return Open.decode(message[_HEADER:])
    except MessageError:
        return None
