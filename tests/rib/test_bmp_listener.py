"""The BMP listener on loopback: real sockets, no clock but that of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from flowray.ingest.listen import ListenError
from flowray.rib.admission import Limits, Refusal
from flowray.rib.bmp_events import Ended, Initiation, Output, PeerUp, RouteMonitoring
from flowray.rib.bmp_listener import BmpListener, BmpListenSettings
from flowray.rib.bmp_session import BmpSession, BmpSessionSettings
from tests.wire.bgp import encode_bmp as make
from tests.wire.bgp.encode_bmp import Peer


@dataclass
class Heard:
    """Who wants to know of sessions: keeps what it is told, by number of the session."""

    sessions: list[BmpSession] = field(default_factory=list)
    outputs: list[tuple[int, Output]] = field(default_factory=list)
    refusals: list[tuple[str, Refusal]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def accepted(self, session: BmpSession, now_ns: int) -> Feed:
        del now_ns
        self.sessions.append(session)
        self.changed.set()
        return Feed(self, len(self.sessions) - 1)

    def refused(self, router: str, port: int, refusal: Refusal, now_ns: int) -> None:
        del port, now_ns
        self.refusals.append((router, refusal))
        self.changed.set()

    def of(self, number: int) -> list[Output]:
        return [output for session, output in self.outputs if session == number]

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)


@dataclass
class Feed:
    owner: Heard
    number: int

    def take(self, output: Output, now_ns: int) -> None:
        del now_ns
        self.owner.outputs.append((self.number, output))
        self.owner.changed.set()


@dataclass
class Steady:
    """A clock that stands."""

    now_ns: int = 1

    def __call__(self) -> int:
        return self.now_ns


class Station:
    """A listener on a free port of loopback."""

    def __init__(self, limits: Limits | None = None, *, proxy: bool = False) -> None:
        self.heard = Heard()
        self.clock = Steady()
        settings = BmpListenSettings("127.0.0.1", 0, limits or Limits(), proxy, read_octets=4096)
        self.listener = BmpListener(
            settings, BmpSessionSettings(), self.heard, clock=self.clock, steady=self.clock
        )
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(
        self, data: bytes = b"", source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.listener.port, local_addr=(source, 0)
        )
        self._writers.append(writer)
        writer.write(data)
        return reader, writer

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await self.listener.stop()


def on_loopback(
    test: Callable[[Station], Coroutine[Any, Any, None]],
    limits: Limits | None = None,
    *,
    proxy: bool = False,
) -> Station:
    async def run() -> Station:
        station = Station(limits, proxy=proxy)
        await station.listener.start()
        try:
            await test(station)
        finally:
            await station.close()
        return station

    return asyncio.run(run())


def kinds(outputs: list[Output]) -> list[type[Output]]:
    return [type(output) for output in outputs]


async def is_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def until(holds: Callable[[], bool]) -> None:
    """For what the listener tells nobody of."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


def test_a_session() -> None:
    peer = Peer()

    async def test(station: Station) -> None:
        heard = station.heard
        batches = [make.route_monitoring(peer)] * 500
        _, writer = await station.connect(make.initiation() + make.peer_up(peer))
        writer.write(b"".join(batches))
        writer.write_eof()
        await heard.until(lambda: kinds(heard.of(0))[-1:] == [Ended])
        told = heard.of(0)
        assert kinds(told)[:2] == [Initiation, PeerUp]
        batched = [len(o.updates) for o in told if isinstance(o, RouteMonitoring)]
        assert sum(batched) == 500
        assert told[-1] == Ended("the router closed the connection")
        assert heard.sessions[0].address == "127.0.0.1"
        assert station.listener.counters()["sessions"] == 0
        assert station.listener.counters()["ended"] == 1

    on_loopback(test)


def test_a_second_session_replaces_the_first() -> None:
    async def test(station: Station) -> None:
        heard = station.heard
        reader, _ = await station.connect(make.initiation())
        await heard.until(lambda: kinds(heard.of(0)) == [Initiation])
        await station.connect(make.initiation())
        await heard.until(lambda: kinds(heard.of(1)) == [Initiation])
        assert heard.of(0)[-1] == Ended("the router connected again")
        await is_closed(reader)
        await station.connect(make.initiation(), "127.0.0.2")
        await heard.until(lambda: kinds(heard.of(2)) == [Initiation])
        assert kinds(heard.of(1)) == [Initiation]
        assert station.listener.counters()["sessions"] == 2

    station = on_loopback(test)
    assert station.heard.of(2)[-1] == Ended("the collector stops")
    assert station.listener.counters()["replaced"] == 1


def test_sessions_that_may_coexist() -> None:
    async def test(station: Station) -> None:
        heard = station.heard
        for n in range(3):
            await station.connect(make.initiation())
            await heard.until(lambda n=n: kinds(heard.of(n)) == [Initiation])  # type: ignore[misc]
        assert kinds(heard.of(0)) == [Initiation, Ended]
        assert kinds(heard.of(1)) == [Initiation]

    on_loopback(test, Limits(max_per_address=2))


def test_who_may_connect() -> None:
    async def test(station: Station) -> None:
        heard = station.heard
        reader, _ = await station.connect(make.initiation(), "127.0.0.9")
        await is_closed(reader)
        await until(lambda: station.listener.counts["refused_not_allowed"] == 1)
        assert heard.refusals == []
        await station.connect(make.initiation(), "127.0.0.1")
        await heard.until(lambda: kinds(heard.of(0)) == [Initiation])
        reader, _ = await station.connect(make.initiation(), "127.0.0.2")
        await is_closed(reader)
        assert heard.refusals[-1] == ("127.0.0.2", Refusal.TOO_MANY)
        assert len(heard.sessions) == 1

    on_loopback(test, Limits(allow=("127.0.0.0/30",), max_peers=1))


def test_a_router_that_comes_and_goes() -> None:
    async def test(station: Station) -> None:
        heard = station.heard
        for n in range(3):
            reader, _ = await station.connect(b"GET / HTTP/1.1\r\n\r\n")
            await is_closed(reader)
            await heard.until(lambda n=n: kinds(heard.of(n)) == [Ended])  # type: ignore[misc]
        reader, _ = await station.connect(make.initiation())
        await is_closed(reader)
        assert heard.refusals == [("127.0.0.1", Refusal.BACKING_OFF)]

    on_loopback(test, Limits(failures=3))


def test_a_router_that_says_nothing() -> None:
    async def test(station: Station) -> None:
        heard = station.heard
        reader, _ = await station.connect()
        await heard.until(lambda: len(heard.sessions) == 1)
        station.listener.tick()
        assert heard.outputs == []
        station.clock.now_ns += 60_000_000_000
        station.listener.tick()
        assert heard.of(0) == [Ended("no message within 60 s")]
        await is_closed(reader)

    on_loopback(test)


def test_routers_behind_a_proxy() -> None:
    async def test(station: Station) -> None:
        heard = station.heard
        for n in (1, 2):
            _, writer = await station.connect()
            for octet in f"PROXY TCP4 192.0.2.{n} 198.51.100.1 4000{n} 1790\r\n".encode():
                writer.write(bytes((octet,)))
                await writer.drain()
            writer.write(make.initiation())
            await heard.until(lambda n=n: kinds(heard.of(n - 1)) == [Initiation])  # type: ignore[misc]
        await station.connect(b"PROXY TCP4 192.0.2.1 198.51.100.1 40003 1790\r\n")
        await heard.until(lambda: len(heard.sessions) == 3)
        assert [(s.address, s.port) for s in heard.sessions] == [
            ("192.0.2.1", 40001),
            ("192.0.2.2", 40002),
            ("192.0.2.1", 40003),
        ]
        assert heard.of(0)[-1] == Ended("the router connected again")
        await station.connect(b"PROXY UNKNOWN\r\n" + make.initiation())
        await heard.until(lambda: kinds(heard.of(3)) == [Initiation])
        assert heard.sessions[3].address == "127.0.0.1"

    on_loopback(test, proxy=True)


def test_a_proxy_that_says_nothing_or_something_else() -> None:
    async def test(station: Station) -> None:
        reader, _ = await station.connect(make.initiation())
        await is_closed(reader)
        read = station.listener.counts["octets_received"]
        silent, _ = await station.connect(b"PROXY")
        await until(lambda: station.listener.counts["octets_received"] == read + 5)
        station.listener.tick()
        assert len(station.listener.connections) == 1
        station.clock.now_ns += 60_000_000_000
        station.listener.tick()
        assert not station.listener.connections
        await is_closed(silent)
        assert station.listener.counters()["refused_proxy"] == 2
        assert station.heard.sessions == []

    on_loopback(test, proxy=True)


def test_a_port_that_is_taken() -> None:
    async def test(station: Station) -> None:
        settings = BmpListenSettings("127.0.0.1", station.listener.port)
        second = BmpListener(settings, BmpSessionSettings(), station.heard)
        with pytest.raises(ListenError, match="cannot listen on 127"):
            await second.start()

    on_loopback(test)
