"""A BGP session as a state machine without I/O: octets and time in, what happened out.

The speaker is passive: it waits for the peer's connection and for its OPEN before it sends its own
(RFC 4271 section 8.2.2, Active with the DelayOpenTimer running), and it never sends routes: it only
asks for those of all route targets.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import Final, Literal, TypeAlias

import numpy as np

from flowray.rib.bgp_negotiation import BgpSettings, Negotiated, negotiate, our_open
from flowray.wire.bgp.as_path import SegmentType
from flowray.wire.bgp.capabilities import (
    CapabilityCode,
    flag,
    four_octet_as,
    multiprotocol,
)
from flowray.wire.bgp.events import U8, Updates
from flowray.wire.bgp.families import FAMILIES, UNKNOWN_FAMILY, family_index
from flowray.wire.bgp.message_kernels import HEADER, PLAIN_LIMIT
from flowray.wire.bgp.messages import (
    KEEPALIVE,
    Cease,
    ErrorCode,
    MessageError,
    MessageType,
    MessageWalk,
    Notification,
    Refresh,
    RouteRefresh,
    Walked,
    encode_end_of_rib,
    encode_every_route_target,
    shutdown_communication,
)
from flowray.wire.bgp.open import Open, two_octet_as

_SECOND = 1_000_000_000
_NEVER = (1 << 63) - 1
_TARGETS = family_index(1, 132)
_KEEPALIVES_PER_HOLD_TIME = 3  # RFC 4271 section 10

Ender: TypeAlias = Literal["local", "remote", "transport"]


class State(Enum):
    """States of RFC 4271 section 8.2.2 that a passive speaker passes."""

    ACTIVE = "Active"
    """Connected; the peer's OPEN has not come."""
    OPEN_CONFIRM = "OpenConfirm"
    ESTABLISHED = "Established"
    IDLE = "Idle"
    """Over: nothing that comes counts any more."""


_MADE_UP: Final = (
    *(multiprotocol(f.afi, f.safi) for f in FAMILIES),
    four_octet_as(0),
    flag(CapabilityCode.EXTENDED_MESSAGE),
    flag(CapabilityCode.ENHANCED_ROUTE_REFRESH),
)
"""Capabilities of a peer whose OPEN is not known."""

_UNEXPECTED: Final = {State.ACTIVE: 1, State.OPEN_CONFIRM: 2, State.ESTABLISHED: 3}
"""Subcode of Finite State Machine Error (RFC 6608) for a message that has no place there."""


@dataclass(frozen=True, slots=True)
class Send:
    """Octets for the peer."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer's OPEN was taken: who it is, and what holds from here on."""

    open: Open
    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class Established:
    """Routes may come."""


@dataclass(frozen=True, slots=True)
class UpdatesReceived:
    """UPDATEs with nothing between them but keepalives. `updates.context` is 0 throughout: the one
    row of `Negotiated.contexts()`.
    """

    updates: Updates


@dataclass(frozen=True, slots=True)
class RefreshMark:
    """The peer begins to send all routes of a family anew, or has done so (RFC 7313)."""

    family: int
    mark: Literal["begin", "end"]


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over; `code` and `subcode` are those of the NOTIFICATION that was sent or
    received, 0 without one. `reason` is one line.
    """

    code: int
    subcode: int
    reason: str
    by: Ender


Output: TypeAlias = Send | Opened | Established | UpdatesReceived | RefreshMark | Ended


class BgpSession:
    """One connection of a peer, from its acceptance on.

    Outputs are in the order in which things happened. Time is in ns and never decreases. After
    `Ended`, which comes once, there are no outputs.
    """

    def __init__(self, settings: BgpSettings, peer: str, port: int, now_ns: int) -> None:
        self.peer = peer
        self.port = port
        self.state = State.ACTIVE
        self.negotiated: Negotiated | None = None
        self._settings = settings
        self._rest = bytearray()
        self._wanted = HEADER
        self._limit = PLAIN_LIMIT
        self._hold_ns = 0
        self._expires_ns = now_ns + settings.open_timeout_s * _SECOND
        self._keepalive_ns = _NEVER

    @property
    def buffered(self) -> int:
        """Octets of the message whose end has not come: less than the longest message."""
        return len(self._rest)

    def receive(self, data: bytes | bytearray | memoryview, now_ns: int) -> list[Output]:
        """Take octets of the stream, cut anywhere; `data` may be reused afterwards."""
        if self.state is State.IDLE:
            return []
        if len(self._rest) + len(data) < self._wanted:
            self._rest += data
            return []
        buf = _joined(self._rest, data)
        outputs: list[Output] = []
        at = self._walk(buf, now_ns, outputs)
        self._keep(buf[at:])
        return outputs

    def resume(self, now_ns: int) -> list[Output]:
        """Go on with a session whose OPEN nobody has recorded: what it told is made up, with AS
        numbers of four octets and without path identifiers.
        """
        told = Open(0, 0, IPv4Address(0), _MADE_UP)
        return [*self._on_open(told, now_ns)[:1], *self._on_confirmation()[:1]]

    def tick(self, now_ns: int, *, unread: bool = False) -> list[Output]:
        """Timers: to be called about once a second. No peer is given up whose octets are `unread`
        yet.
        """
        if self.state is State.IDLE or not self._settings.expect_answers:
            return []
        if now_ns >= self._expires_ns and not unread:
            return self._fail(MessageError(ErrorCode.HOLD_TIMER_EXPIRED, 0, b"", self._silence()))
        if now_ns < self._keepalive_ns:
            return []
        self._keepalive_ns = now_ns + self._hold_ns // _KEEPALIVES_PER_HOLD_TIME
        return [Send(KEEPALIVE)]

    def clock_set(self, step_ns: int) -> None:
        """The clock that `now_ns` comes from was set by so much: timers go on from where they are,
        and time may decrease this once.
        """
        self._expires_ns = min(self._expires_ns + step_ns, _NEVER)
        self._keepalive_ns = min(self._keepalive_ns + step_ns, _NEVER)

    def closed(self, now_ns: int) -> list[Output]:
        """The connection is gone without our doing."""
        del now_ns
        cut = f" inside a message, after {self.buffered} octets of it" if self._rest else ""
        return self._end(0, 0, f"the connection was closed{cut}", "transport")

    def reset(
        self, code: int, subcode: int, data: bytes, now_ns: int, reason: str = ""
    ) -> list[Output]:
        """End the session with a NOTIFICATION: what the session itself cannot see, such as an
        UPDATE for which RFC 7606 asks this. Without a `reason` it is the name of the error.
        """
        del now_ns
        return self._fail(MessageError(code, subcode, data, reason))

    def shutdown(self, now_ns: int, communication: str = "") -> list[Output]:
        """End the session because we stop; the peer may be told more (RFC 9003)."""
        data = shutdown_communication(communication) if communication else b""
        return self.reset(ErrorCode.CEASE, Cease.ADMINISTRATIVE_SHUTDOWN, data, now_ns)

    # -- messages

    def _walk(self, buf: U8, now_ns: int, outputs: list[Output]) -> int:
        """Take all complete messages; returns where the first incomplete one begins."""
        messages = MessageWalk(buf)
        at = 0
        while self.state is not State.IDLE:
            listing = self.state is State.ESTABLISHED
            walked = messages.walk(at, self._limit, listing=listing)
            if walked.next > at:
                self._heard(now_ns)
            if len(walked.offset):
                outputs.append(UpdatesReceived(_updates(buf, walked, now_ns)))
            at = walked.next
            if walked.error is not None:
                outputs += self._fail(walked.error)
            if not walked.complete:
                break
            end = at + int.from_bytes(buf[at + 16 : at + 18].tobytes())
            outputs += self._take(buf[at:end].tobytes(), now_ns)
            at = end
        return at

    def _keep(self, rest: U8) -> None:
        self._rest = bytearray() if self.state is State.IDLE else bytearray(rest.tobytes())
        whole = len(self._rest) >= HEADER
        self._wanted = int.from_bytes(self._rest[16:18]) if whole else HEADER

    def _take(self, message: bytes, now_ns: int) -> list[Output]:
        try:
            outputs = self._on_message(message, now_ns)
        except MessageError as error:
            return self._fail(error)
        if self.state is not State.ACTIVE:
            self._heard(now_ns)
        return outputs

    def _on_message(self, message: bytes, now_ns: int) -> list[Output]:
        kind = MessageType(message[18])
        if kind is MessageType.NOTIFICATION:
            said = Notification.decode(message[HEADER:])
            return self._end(said.code, said.subcode, str(said), "remote")
        match self.state, kind:
            case State.ACTIVE, MessageType.OPEN:
                return self._on_open(Open.decode(message[HEADER:]), now_ns)
            case State.OPEN_CONFIRM, MessageType.KEEPALIVE:
                return self._on_confirmation()
            case State.ESTABLISHED, MessageType.ROUTE_REFRESH:
                return self._on_refresh(RouteRefresh.decode(message))
        raise MessageError(
            ErrorCode.FINITE_STATE_MACHINE,
            _UNEXPECTED[self.state],
            bytes((kind,)),
            f"{kind.name.replace('_', '-')} in state {self.state.value}",
        )

    def _on_open(self, theirs: Open, now_ns: int) -> list[Output]:
        agreed = negotiate(self._settings, theirs)
        self.negotiated = agreed
        self.state = State.OPEN_CONFIRM
        self._limit = agreed.limit
        if agreed.hold_time_s:
            self._hold_ns = agreed.hold_time_s * _SECOND
            self._keepalive_ns = now_ns + self._hold_ns // _KEEPALIVES_PER_HOLD_TIME
        ours = our_open(self._settings, agreed.local_as)
        return [Opened(theirs, agreed), Send(ours.encode() + KEEPALIVE)]

    def _on_confirmation(self) -> list[Output]:
        self.state = State.ESTABLISHED
        if not self._hold_ns:
            self._expires_ns = _NEVER
        assert self.negotiated is not None
        if octets := self._all_we_tell(self.negotiated):
            return [Established(), Send(octets)]
        return [Established()]

    def _all_we_tell(self, agreed: Negotiated) -> bytes:
        """That we want the routes of every route target, which a peer that knows of targets would
        hold back (RFC 4684 section 3), and that these are all our routes: a peer that restarts
        waits for that before it chooses its own (RFC 4724 section 4.1).
        """
        wanted, marked = b"", agreed.families if agreed.restart is not None else ()
        if _TARGETS in agreed.families:
            internal = agreed.local_as == agreed.peer_as
            path = b"" if internal else _path(agreed)
            wanted = encode_every_route_target(self._settings.router_id, path, internal=internal)
            marked = marked or (_TARGETS,)
        return wanted + b"".join(encode_end_of_rib(*_numbers(f)) for f in marked)

    def _on_refresh(self, refresh: RouteRefresh) -> list[Output]:
        assert self.negotiated is not None
        family = family_index(refresh.afi, refresh.safi)
        enhanced = self.negotiated.enhanced_refresh
        if family == UNKNOWN_FAMILY or not enhanced:
            return []
        if refresh.subtype == Refresh.BEGIN:
            return [RefreshMark(family, "begin")]
        if refresh.subtype == Refresh.END:
            return [RefreshMark(family, "end")]
        if refresh.subtype != Refresh.REQUEST:
            return []  # RFC 7313 section 5
        return [Send(_mark(refresh, Refresh.BEGIN) + _mark(refresh, Refresh.END))]

    # -- timers and ends

    def _heard(self, now_ns: int) -> None:
        if self._hold_ns:
            self._expires_ns = now_ns + self._hold_ns

    def _silence(self) -> str:
        if self.state is State.ESTABLISHED or self._hold_ns:
            return f"no message within the hold time of {self._hold_ns // _SECOND} s"
        missing = "OPEN" if self.state is State.ACTIVE else "KEEPALIVE"
        return f"no {missing} within {self._settings.open_timeout_s} s"

    def _fail(self, error: MessageError) -> list[Output]:
        if self.state is State.IDLE:
            return []
        notification = Notification(error.code, error.subcode, error.data)
        reason = error.reason or str(notification)
        sent: list[Output] = [Send(notification.encode())]
        return sent + self._end(error.code, error.subcode, reason, "local")

    def _end(self, code: int, subcode: int, reason: str, by: Ender) -> list[Output]:
        if self.state is State.IDLE:
            return []
        self.state = State.IDLE
        self._rest = bytearray()
        return [Ended(code, subcode, reason, by)]


def _joined(rest: bytearray, data: bytes | bytearray | memoryview) -> U8:
    """An array of its own, for UPDATEs outlive both."""
    buf = np.empty(len(rest) + len(data), np.uint8)
    buf[: len(rest)] = np.frombuffer(rest, np.uint8)
    buf[len(rest) :] = np.frombuffer(data, np.uint8)
    return buf


def _updates(buf: U8, walked: Walked, now_ns: int) -> Updates:
    n = len(walked.offset)
    begin, end = int(walked.offset[0]), walked.next
    return Updates(
        buf=buf[begin:end],
        offset=walked.offset - begin,
        length=walked.length,
        context=np.zeros(n, np.int64),
        time_ns=np.full(n, now_ns, np.int64),
    )


def _numbers(family: int) -> tuple[int, int]:
    return FAMILIES[family].afi, FAMILIES[family].safi


def _path(agreed: Negotiated) -> bytes:
    """Our AS number as the value of AS_PATH."""
    if agreed.four_octets:
        return struct.pack(">BBI", SegmentType.SEQUENCE, 1, agreed.local_as)
    return struct.pack(">BBH", SegmentType.SEQUENCE, 1, two_octet_as(agreed.local_as))


def _mark(refresh: RouteRefresh, subtype: Refresh) -> bytes:
    return RouteRefresh(refresh.afi, refresh.safi, subtype).encode()
