"""The BGP speaker on sockets: accepts peers, drives their sessions, hands over what happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from flowray.clock import Clock, wall_clock
from flowray.rib.admission import Admission, Limits, Refusal
from flowray.rib.bgp_negotiation import BgpSettings
from flowray.rib.bgp_session import BgpSession, Ended, Established, Output, Send
from flowray.rib.parts import PASSED, Passage, passed
from flowray.rib.tcp import listen_tcp, unread
from flowray.wire.bgp.messages import Cease, ErrorCode, Notification
from flowray.wire.packets import address_text, address_words

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
_BACKLOG = 128
_UNSENT_LIMIT = 1 << 16
"""Octets that may wait for a peer that does not read."""

_LINGER_NS = 2 * _SECOND
_LINGERING = 256
"""Connections at most that are over and only wait for their peer to read why."""

_REJECTED: Final = Notification(ErrorCode.CEASE, Cease.CONNECTION_REJECTED).encode()


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where and how to listen. `passwords` are TCP-MD5 passwords by prefix. At most `read_octets`
    are read before another peer's turn; `receive_buffer` octets wait in the kernel per peer.
    """

    address: str
    port: int
    limits: Limits = field(default_factory=Limits)
    passwords: Mapping[str, bytes] = field(default_factory=dict)
    receive_buffer: int = 4 << 20
    read_octets: int = 1 << 20


class Feed(Protocol):
    """Who takes what one session tells."""

    def take(self, output: Output, now_ns: int) -> list[Output]:
        """Act on an output, of all but `Send`; what the session says to that, such as the outputs
        of `BgpSession.reset`. If they end the session, outputs that came after this one are void.
        """


class Owner(Protocol):
    """Who wants to know of sessions."""

    def accepted(self, session: BgpSession, now_ns: int) -> Feed:
        """A peer has connected."""

    def refused(self, peer: str, port: int, refusal: Refusal, now_ns: int) -> None:
        """A connection was refused."""


class BgpListener:
    """Listens on one address, with one event loop and thread.

    `steady` is a clock that nobody sets: timers go by it when the wall clock is set.
    """

    def __init__(
        self,
        settings: ListenSettings,
        bgp: BgpSettings,
        owner: Owner,
        *,
        passage: Passage | None = None,
        clock: Clock = wall_clock,
        steady: Clock = time.monotonic_ns,
    ) -> None:
        self.bgp = bgp
        self.owner = owner
        self.admission = Admission(settings.limits)
        self.buffer = bytearray(settings.read_octets)
        self.steady = steady
        self.port = settings.port
        self.passage = passage
        self.counts: Counter[str] = Counter()
        self.connections: set[_Connection] = set()
        self.lingering: dict[_Connection, None] = {}
        self._settings = settings
        self._clock = clock
        self._wall_ns, self._steady_ns = clock(), steady()
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen; `port` is then the one that it got. Raises ListenError."""
        s = self._settings
        shared = self.passage is not None
        sock = listen_tcp(s.address, s.port, s.receive_buffer, s.passwords, shared=shared)
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), sock=sock, backlog=_BACKLOG
        )
        if self.passage is not None:
            self.passage.open(lambda: _Connection(self, adopted=True))
        self._ticking = loop.create_task(self._tick_on())

    async def stop(self, communication: str = "") -> None:
        """End all sessions, peers being told why (RFC 9003), and close everything."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            self._server.close()
        if self.passage is not None:
            self.passage.close()
        for connection in list(self.connections):
            connection.shut_down(communication)
        if self.lingering:
            self._gone.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), _LINGER_NS / _SECOND)
        for connection in list(self.lingering):
            connection.hang_up()
        await asyncio.sleep(0)  # what is hung up is closed in the loop's next round

    def counters(self) -> dict[str, int]:
        """What has been counted since the start; `sessions` and `established` are of now."""
        states = Counter(c.established_ns is not None for c in self.connections)
        return {
            **{name: self.counts[name] for name in COUNTERS},
            "sessions": len(self.connections),
            "established": states[True],
        }

    def tick(self) -> None:
        """Timers of all sessions: called once a second."""
        now_ns = self.now()
        for connection in list(self.connections):
            connection.tick(now_ns)
        for connection in list(self.lingering):
            connection.hang_up_late()

    def now(self) -> int:
        """The wall clock, ns. When it was set, timers of sessions go on from where they were."""
        wall_ns, steady_ns = self._clock(), self.steady()
        step = (wall_ns - self._wall_ns) - (steady_ns - self._steady_ns)
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        if abs(step) > _SECOND:
            for connection in self.connections:
                connection.clock_set(step)
        return wall_ns

    def gone(self, connection: _Connection) -> None:
        """A connection is closed."""
        self.lingering.pop(connection, None)
        if not self.lingering:
            self._gone.set()

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.tick()


COUNTERS: Final = (
    "accepted",
    *PASSED,
    "octets_received",
    *(f"refused_{refusal.name.lower()}" for refusal in Refusal),
    *("ended_local", "ended_remote", "ended_transport"),
)
"""What `BgpListener.counters` counts: connections by what became of them, and octets."""


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection and its session."""

    def __init__(self, listener: BgpListener, *, adopted: bool = False) -> None:
        self._adopted = adopted
        self.established_ns: int | None = None
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._session: BgpSession | None = None
        self._feed: Feed | None = None
        self._hang_up_ns = 0
        self._outputs: deque[Output] = deque()
        self._handing_over = False

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        if name is None:  # gone already
            self._transport.abort()
            return
        peer, port = address_text(*address_words(name[0].partition("%")[0])), name[1]
        listener = self._listener
        if not self._adopted and passed(listener.passage, self._transport, peer, listener.counts):
            return
        refusal = listener.admission.refusal(peer, listener.steady())
        if refusal is not None:
            self._refuse(peer, port, refusal)
            return
        self._begin(peer, port)

    def get_buffer(self, sizehint: int) -> bytearray:
        """One buffer serves all: what is read is handed over before anything else is."""
        del sizehint
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._session is None:
            return
        self._listener.counts["octets_received"] += nbytes
        now_ns = self._listener.now()
        with memoryview(self._listener.buffer)[:nbytes] as read:
            outputs = self._session.receive(read, now_ns)
        self._hand_over(outputs, now_ns)

    def eof_received(self) -> bool:
        self._lost()
        self.hang_up()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._lost()
        self._listener.gone(self)

    # -- what the listener calls

    def tick(self, now_ns: int) -> None:
        if self._session is None or self._transport is None:
            return
        waiting = unread(self._transport.get_extra_info("socket")) > 0
        self._hand_over(self._session.tick(now_ns, unread=waiting), now_ns)

    def clock_set(self, step_ns: int) -> None:
        if self._session is not None:
            self._session.clock_set(step_ns)

    def shut_down(self, communication: str) -> None:
        if self._session is not None:
            now_ns = self._listener.now()
            self._hand_over(self._session.shutdown(now_ns, communication), now_ns)

    def hang_up(self) -> None:
        """Close; what the peer has not taken yet is lost if it does not read."""
        assert self._transport is not None
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        self._transport.close()

    def hang_up_late(self) -> None:
        if self._listener.steady() >= self._hang_up_ns:
            self.hang_up()

    # -- sessions

    def _begin(self, peer: str, port: int) -> None:
        listener, now_ns = self._listener, self._listener.now()
        session = BgpSession(listener.bgp, peer, port, now_ns)
        self._feed = listener.owner.accepted(session, now_ns)
        self._session = session
        listener.admission.begun(peer)
        listener.counts["accepted"] += 1
        listener.connections.add(self)

    def _lost(self) -> None:
        if self._session is not None:
            now_ns = self._listener.now()
            self._hand_over(self._session.closed(now_ns), now_ns)

    def _refuse(self, peer: str, port: int, refusal: Refusal) -> None:
        assert self._transport is not None
        listener = self._listener
        listener.counts[f"refused_{refusal.name.lower()}"] += 1
        unsaid = listener.admission.tell(peer, refusal, listener.steady())
        if unsaid is not None:
            more = f" ({unsaid} more were refused meanwhile)" if unsaid else ""
            log.warning(
                "bgp peer %s port %d: connection refused: %s%s",
                *(peer, port, refusal.value, more),
                extra={"peer": peer, "cause": refusal.value},
            )
        if refusal is Refusal.NOT_ALLOWED:
            self._transport.abort()  # strangers learn nothing
            return
        listener.owner.refused(peer, port, refusal, listener.now())
        self._transport.write(_REJECTED)
        self._linger()

    def _hand_over(self, outputs: list[Output], now_ns: int) -> None:
        """Act on outputs in order. What the feed says to one goes before those that wait."""
        self._outputs.extend(outputs)
        if self._handing_over:
            return
        self._handing_over = True
        try:
            while self._outputs:
                self._act(self._outputs.popleft(), now_ns)
        finally:
            self._handing_over = False

    def _act(self, output: Output, now_ns: int) -> None:
        if isinstance(output, Send):
            self._send(output.octets, now_ns)
            return
        if isinstance(output, Established):
            self.established_ns = self._listener.steady()
        answer = self._answer(output, now_ns)
        if any(isinstance(said, Ended) for said in answer):
            self._outputs.clear()
        self._outputs.extendleft(reversed(answer))
        if isinstance(output, Ended):
            self._over(output)

    def _answer(self, output: Output, now_ns: int) -> list[Output]:
        """What the feed says; if it fails, its peer alone pays for it."""
        assert self._feed is not None
        assert self._session is not None
        try:
            return self._feed.take(output, now_ns)
        except Exception:
            log.exception("bgp peer %s: what it sent could not be taken", self._session.peer)
            why = "what it sent could not be taken"
            return self._session.reset(ErrorCode.CEASE, Cease.OUT_OF_RESOURCES, b"", now_ns, why)

    def _send(self, octets: bytes, now_ns: int) -> None:
        assert self._transport is not None
        assert self._session is not None
        self._transport.write(octets)
        unsent = self._transport.get_write_buffer_size()
        if unsent > _UNSENT_LIMIT:
            reason = f"{unsent} octets wait for the peer to read"
            code = ErrorCode.SEND_HOLD_TIMER_EXPIRED
            if ends := self._session.reset(code, 0, b"", now_ns, reason):
                self._outputs.clear()
                self._outputs.extend(ends)

    def _over(self, ended: Ended) -> None:
        assert self._session is not None
        listener = self._listener
        listener.counts[f"ended_{ended.by}"] += 1
        listener.connections.discard(self)
        listener.admission.over(self._session.peer, self.established_ns, listener.steady())
        self._session = self._feed = None
        if ended.by != "transport":
            self._linger()

    def _linger(self) -> None:
        """Close once the peer has read what we said: a close with octets unread here would make
        the kernel reset the connection, and the peer might never see our NOTIFICATION.
        """
        assert self._transport is not None
        listener = self._listener
        with suppress(OSError):
            self._transport.write_eof()
        if len(listener.lingering) >= _LINGERING:
            oldest = next(iter(listener.lingering))
            del listener.lingering[oldest]
            oldest.hang_up()
        self._hang_up_ns = listener.steady() + _LINGER_NS
        listener.lingering[self] = None
