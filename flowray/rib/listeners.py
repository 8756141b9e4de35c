"""The listeners of a RIB group, and how its collector hears of their sessions."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from flowray.clock import Clock
from flowray.rib.admission import Limits, Refusal
from flowray.rib.bgp_listener import BgpListener, ListenSettings
from flowray.rib.bgp_routes import BgpRoutes
from flowray.rib.bgp_session import BgpSession
from flowray.rib.bmp_listener import BmpListener, BmpListenSettings
from flowray.rib.bmp_routes import BmpRoutes
from flowray.rib.bmp_session import BmpSession
from flowray.rib.collector import RouteCollector, bgp_settings, bmp_settings
from flowray.rib.tcp_md5 import load_passwords
from flowray.settings.model import Settings


@dataclass(frozen=True, slots=True)
class BgpOwner:
    """Passes BGP sessions on."""

    collector: RouteCollector

    def accepted(self, session: BgpSession, now_ns: int) -> BgpRoutes:
        """A peer has connected."""
        return self.collector.accept_bgp(session, now_ns)

    def refused(self, peer: str, port: int, refusal: Refusal, now_ns: int) -> None:
        """A connection was refused."""
        self.collector.refuse("bgp", peer, port, refusal.value, now_ns)


@dataclass(frozen=True, slots=True)
class BmpOwner:
    """Passes BMP sessions on."""

    collector: RouteCollector

    def accepted(self, session: BmpSession, now_ns: int) -> BmpRoutes:
        """A router has connected."""
        return self.collector.accept_bmp(session, now_ns)

    def refused(self, router: str, port: int, refusal: Refusal, now_ns: int) -> None:
        """A connection was refused."""
        self.collector.refuse("bmp", router, port, refusal.value, now_ns)


def bgp_listener(
    settings: Settings, address: str, collector: RouteCollector, clock: Clock
) -> BgpListener:
    """The BGP speaker on an address. Raises ConfigError for a file of passwords that cannot be
    read.
    """
    listen = settings.listen.bgp
    assert listen is not None, "groups listen where the configuration says how"
    host, port = host_port(address)
    where = ListenSettings(
        host,
        port,
        Limits(allow=tuple(listen.allow), max_peers=listen.max_peers),
        passwords=load_passwords(listen.passwords) if listen.passwords else {},
        receive_buffer=listen.receive_buffer,
    )
    return BgpListener(where, bgp_settings(settings), BgpOwner(collector), clock=clock)


def bmp_listener(
    settings: Settings, address: str, collector: RouteCollector, clock: Clock
) -> BmpListener:
    """The BMP station on an address."""
    listen = settings.listen.bmp
    assert listen is not None, "groups listen where the configuration says how"
    host, port = host_port(address)
    where = BmpListenSettings(
        host,
        port,
        Limits(allow=tuple(listen.allow), max_peers=listen.max_peers),
        proxy=listen.proxy_protocol,
        receive_buffer=listen.receive_buffer,
    )
    return BmpListener(where, bmp_settings(settings), BmpOwner(collector), clock=clock)


def host_port(address: str) -> tuple[str, int]:
    """Host and port of ADDRESS:PORT."""
    parts = urlsplit(f"tcp://{address}")
    return parts.hostname or "", parts.port or 0
