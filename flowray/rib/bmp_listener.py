"""The sockets of the BMP station: accepts routers, drives their sessions, hands over what happened.

A router that connects again replaces its session: it has forgotten the old one, whose connection
may not be known to be dead here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, cast

from flowray.clock import Clock, wall_clock
from flowray.rib.admission import Admission, Limits, Refusal
from flowray.rib.bmp_events import Ended, Output
from flowray.rib.bmp_session import BmpSession, BmpSessionSettings
from flowray.rib.parts import PASSED, Passage, passed
from flowray.rib.tcp import listen_tcp, unread
from flowray.wire.packets import address_text, address_words
from flowray.wire.proxy_protocol import ProxyError, read_proxy_header

log = logging.getLogger(__name__)

_BACKLOG = 128
_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 60,
    socket.TCP_KEEPINTVL: 15,
    socket.TCP_KEEPCNT: 4,
}
"""BMP has no messages by which to find out that a router is gone: the kernel does."""


@dataclass(frozen=True, slots=True)
class BmpListenSettings:
    """Where and how to listen. With `proxy`, connections begin with a PROXY header that names the
    router, and `limits.allow` is about the proxies. At most `read_octets` are read before another
    router's turn; `receive_buffer` octets wait in the kernel per router.
    """

    address: str
    port: int
    limits: Limits = field(default_factory=Limits)
    proxy: bool = False
    receive_buffer: int = 4 << 20
    read_octets: int = 1 << 18


class Feed(Protocol):
    """Who takes what one session tells."""

    def take(self, output: Output, now_ns: int) -> None:
        """Act on an output; the last one is `Ended`."""


class Owner(Protocol):
    """Who wants to know of sessions."""

    def accepted(self, session: BmpSession, now_ns: int) -> Feed:
        """A router has connected."""

    def refused(self, router: str, port: int, refusal: Refusal, now_ns: int) -> None:
        """A connection was refused that is none of a stranger."""


COUNTERS: Final = (
    "accepted",
    *PASSED,
    "ended",
    "replaced",
    "octets_received",
    "refused_proxy",
    *(f"refused_{refusal.name.lower()}" for refusal in Refusal),
)
"""What `BmpListener.counters` counts: connections by what became of them, and octets."""


class BmpListener:
    """Listens on one address, with one event loop and thread.

    `steady` is a clock that nobody sets.
    """

    def __init__(
        self,
        settings: BmpListenSettings,
        bmp: BmpSessionSettings,
        owner: Owner,
        *,
        passage: Passage | None = None,
        clock: Clock = wall_clock,
        steady: Clock = time.monotonic_ns,
    ) -> None:
        self.settings = settings
        self.bmp = bmp
        self.owner = owner
        self.clock = clock
        self.steady = steady
        self.port = settings.port
        self.passage = passage
        self.counts: Counter[str] = Counter()
        self.buffer = bytearray(settings.read_octets)
        self.connections: dict[_Connection, None] = {}
        """All that are open, the oldest first."""
        self.gate, self.admission = _admissions(settings)
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen; `port` is then the one that it got. Raises ListenError."""
        settings = self.settings
        shared = self.passage is not None
        sock = listen_tcp(settings.address, settings.port, settings.receive_buffer, shared=shared)
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), sock=sock, backlog=_BACKLOG
        )
        if self.passage is not None:
            self.passage.open(lambda: _Connection(self, adopted=True))
        self._ticking = loop.create_task(self._tick_on())

    async def stop(self) -> None:
        """End all sessions and close everything."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            self._server.close()
        if self.passage is not None:
            self.passage.close()
        for connection in list(self.connections):
            connection.end("the collector stops")
        await asyncio.sleep(0)  # connections learn that they are lost in the loop's next round

    def counters(self) -> dict[str, int]:
        """What has been counted since the start; `sessions` are those of now."""
        sessions = sum(connection.router != "" for connection in self.connections)
        return {**{name: self.counts[name] for name in COUNTERS}, "sessions": sessions}

    def tick(self) -> None:
        """Timers of all connections: called once a second."""
        for connection in list(self.connections):
            connection.tick()

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.tick()


def _admissions(settings: BmpListenSettings) -> tuple[Admission, Admission]:
    """Who may connect at all, and which routers may have sessions."""
    limits = settings.limits
    routers = Admission(replace(limits, allow=()))
    return Admission(Limits(allow=limits.allow)), routers


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection, and its session once the router is known."""

    def __init__(self, listener: BmpListener, *, adopted: bool = False) -> None:
        self._adopted = adopted
        self.router = ""
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._peer = "", 0
        self._since_ns = listener.steady()
        self._first_ns: int | None = None
        self._head = bytearray()
        self._session: BmpSession | None = None
        self._feed: Feed | None = None

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self._listener
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        if name is None:  # gone already
            self._transport.abort()
            return
        peer = address_text(*address_words(name[0].partition("%")[0]))
        self._peer = peer, name[1]
        if not self._adopted and passed(listener.passage, self._transport, peer, listener.counts):
            return
        refusal = listener.gate.refusal(peer, listener.steady())
        if refusal is not None:
            self._refuse(peer, name[1], refusal)
            return
        self._keep_alive()
        if not listener.settings.proxy:
            self._begin(*self._peer)
        elif len(listener.connections) >= 2 * listener.settings.limits.max_peers:
            self._refuse(peer, name[1], Refusal.TOO_MANY)
        else:
            listener.connections[self] = None

    def get_buffer(self, sizehint: int) -> bytearray:
        """One buffer serves all: what is read is handed over before anything else is."""
        del sizehint
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._listener.counts["octets_received"] += nbytes
        with memoryview(self._listener.buffer)[:nbytes] as read:
            if self._session is None:
                self._introduce(bytes(read))
            else:
                self._receive(read)

    def eof_received(self) -> bool:
        return False  # close, then connection_lost

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.end("the router closed the connection")

    # -- what the listener calls

    def tick(self) -> None:
        """Timers, unless there is something to read: a connection has as long for its PROXY header
        as a session for a message.
        """
        assert self._transport is not None
        if unread(self._transport.get_extra_info("socket")):
            return
        if self._session is not None:
            now_ns = self._listener.clock()
            self._hand_over(self._session.tick(now_ns), now_ns)
        elif self._listener.steady() - self._since_ns >= self._listener.bmp.first_message_s * 1e9:
            self._no_header("no PROXY header in time")

    def end(self, cause: str) -> None:
        """End the session, if there is one, and the connection."""
        if self._session is not None:
            now_ns = self._listener.clock()
            self._hand_over(self._session.closed(now_ns, cause), now_ns)
        self._close()

    # -- sessions

    def _keep_alive(self) -> None:
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)

    def _introduce(self, data: bytes) -> None:
        """Octets of a PROXY header, or none."""
        if self not in self._listener.connections:
            return  # refused, and not closed yet
        self._head += data
        try:
            header = read_proxy_header(bytes(self._head))
        except ProxyError as error:
            self._no_header(str(error))
            return
        if header is None:
            return
        rest = bytes(self._head[header.octets :])
        self._head = bytearray()
        router = (header.source, header.source_port) if header.source else self._peer
        if self._begin(*router) and rest:
            self._receive(rest)

    def _no_header(self, cause: str) -> None:
        self._listener.counts["refused_proxy"] += 1
        log.warning(
            "bmp proxy %s port %d: %s",
            *(*self._peer, cause),
            extra={"peer": self._peer[0], "cause": str(cause)},
        )
        self._close()

    def _begin(self, router: str, port: int) -> bool:
        listener = self._listener
        refusal = listener.admission.refusal(router, listener.steady())
        if refusal is Refusal.DUPLICATE:
            oldest = next(other for other in listener.connections if other.router == router)
            listener.counts["replaced"] += 1
            oldest.end("the router connected again")
            refusal = listener.admission.refusal(router, listener.steady())
        if refusal is not None:
            self._refuse(router, port, refusal)
            return False
        now_ns = listener.clock()
        self.router = router
        self._session = BmpSession(listener.bmp, router, port, now_ns)
        listener.connections[self] = None
        listener.admission.begun(router)
        listener.counts["accepted"] += 1
        self._feed = listener.owner.accepted(self._session, now_ns)
        return True

    def _refuse(self, router: str, port: int, refusal: Refusal) -> None:
        listener = self._listener
        listener.counts[f"refused_{refusal.name.lower()}"] += 1
        unsaid = listener.admission.tell(router, refusal, listener.steady())
        if unsaid is not None:
            more = f" ({unsaid} more were refused meanwhile)" if unsaid else ""
            log.warning(
                "bmp router %s port %d: connection refused: %s%s", router, port, refusal.value, more
            )
        if refusal is not Refusal.NOT_ALLOWED:
            listener.owner.refused(router, port, refusal, listener.clock())
        self._close()

    def _receive(self, data: bytes | memoryview) -> None:
        assert self._session is not None
        now_ns = self._listener.clock()
        outputs = self._session.receive(data, now_ns)
        if self._first_ns is None and self._session.messages:
            self._first_ns = self._listener.steady()
        self._hand_over(outputs, now_ns)

    def _hand_over(self, outputs: list[Output], now_ns: int) -> None:
        for output in outputs:
            assert self._feed is not None
            self._feed.take(output, now_ns)
            if isinstance(output, Ended):
                self._over()

    def _over(self) -> None:
        listener = self._listener
        listener.counts["ended"] += 1
        listener.admission.over(self.router, self._first_ns, listener.steady())
        self._session = self._feed = None
        self._close()

    def _close(self) -> None:
        assert self._transport is not None
        self._listener.connections.pop(self, None)
        self._transport.abort()
