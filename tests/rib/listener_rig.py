"""A listener on a free port of the loopback, an owner that notes what it is told, and peers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from flowray.rib.admission import Limits, Refusal
from flowray.rib.bgp_listener import BgpListener, ListenSettings
from flowray.rib.bgp_negotiation import BgpSettings
from flowray.rib.bgp_session import BgpSession, Output
from flowray.wire.bgp.messages import KEEPALIVE
from tests.rib.bgp_peer import SETTINGS, START, peer_open

PATIENCE_S = 60
Answer = Callable[[BgpSession, Output, int], list[Output]]


@dataclass
class Clock:
    """Time that passes when a test says so."""

    ns: int

    def __call__(self) -> int:
        return self.ns


@dataclass
class Feed:
    session: BgpSession
    told: asyncio.Queue[Output]
    answer: Answer

    def take(self, output: Output, now_ns: int) -> list[Output]:
        self.told.put_nowait(output)
        return self.answer(self.session, output, now_ns)


@dataclass
class Owner:
    answer: Answer
    feeds: asyncio.Queue[Feed] = field(default_factory=asyncio.Queue)
    refusals: asyncio.Queue[tuple[str, Refusal]] = field(default_factory=asyncio.Queue)

    def accepted(self, session: BgpSession, now_ns: int) -> Feed:
        feed = Feed(session, asyncio.Queue(), self.answer)
        self.feeds.put_nowait(feed)
        return feed

    def refused(self, peer: str, port: int, refusal: Refusal, now_ns: int) -> None:
        self.refusals.put_nowait((peer, refusal))


@dataclass
class Peer:
    """A router's end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def message(self) -> bytes:
        header = await self.reader.readexactly(19)
        return header + await self.reader.readexactly(int.from_bytes(header[16:18]) - 19)

    async def rest(self) -> bytes:
        """Whatever comes until the other end closes."""
        return await self.reader.read()

    async def establish(self, octets: bytes = peer_open() + KEEPALIVE) -> None:
        self.send(octets)
        await self.message()
        await self.message()

    def close(self) -> None:
        self.writer.close()


@dataclass
class Rig:
    listener: BgpListener
    owner: Owner
    wall: Clock
    steady: Clock
    peers: list[Peer] = field(default_factory=list)

    async def connect(self, source: str = "127.0.0.1") -> Peer:
        host = "::1" if ":" in source else "127.0.0.1"
        streams = await asyncio.open_connection(
            host, self.listener.port, local_addr=(source, 0), limit=1 << 24
        )
        self.peers.append(Peer(*streams))
        return self.peers[-1]

    async def session(self, source: str = "127.0.0.1") -> tuple[Peer, Feed]:
        """A peer whose connection was accepted."""
        peer = await self.connect(source)
        return peer, await self.owner.feeds.get()

    def pass_time(self, seconds: int) -> None:
        self.wall.ns += seconds * 1_000_000_000
        self.steady.ns += seconds * 1_000_000_000


def silent(session: BgpSession, output: Output, now_ns: int) -> list[Output]:
    """The answer of a feed that has none."""
    return []


@asynccontextmanager
async def rig(
    *,
    address: str = "127.0.0.1",
    limits: Limits | None = None,
    bgp: BgpSettings = SETTINGS,
    answer: Answer = silent,
    **settings: Any,
) -> AsyncIterator[Rig]:
    owner = Owner(answer)
    wall, steady = Clock(START), Clock(0)
    listener = BgpListener(
        ListenSettings(address, 0, limits or Limits(), **settings),
        bgp,
        owner,
        clock=wall,
        steady=steady,
    )
    async with asyncio.timeout(PATIENCE_S):
        await listener.start()
        made = Rig(listener, owner, wall, steady)
        try:
            yield made
        finally:
            for peer in made.peers:
                peer.close()
            await listener.stop()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
