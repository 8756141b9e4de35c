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
from flowray.rib.parts import Passage
from flowray.rib.tcp_md5 import load_passwords
from flowray.settings.model import Settings
from flowray.settings.routes import RouteGroup


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
    settings: Settings, group: RouteGroup, collector: RouteCollector, clock: Clock
) -> BgpListener | None:
    """The BGP speaker of a group, if it has one.

    Raises ConfigError for a file of passwords that cannot be read.
    """
    listen = settings.listen.bgp
    if group.bgp is None:
        return None
    assert listen is not None, "groups listen where the configuration says how"
    host, port = host_port(group.bgp)
    where = ListenSettings(
        host,
        port,
        Limits(allow=tuple(listen.allow), max_peers=listen.max_peers),
        passwords=load_passwords(listen.passwords) if listen.passwords else {},
        receive_buffer=listen.receive_buffer,
    )
    passage = _passage("bgp", group.bgp, group)
    owner = BgpOwner(collector)
    return BgpListener(where, bgp_settings(settings), owner, passage=passage, clock=clock)


def bmp_listener(
    settings: Settings, group: RouteGroup, collector: RouteCollector, clock: Clock
) -> BmpListener | None:
    """The BMP station of a group, if it has one."""
    listen = settings.listen.bmp
    if group.bmp is None:
        return None
    assert listen is not None, "groups listen where the configuration says how"
    host, port = host_port(group.bmp)
    where = BmpListenSettings(
        host,
        port,
        Limits(allow=tuple(listen.allow), max_peers=listen.max_peers),
        proxy=listen.proxy_protocol,
        receive_buffer=listen.receive_buffer,
    )
    passage = _passage("bmp", group.bmp, group)
    owner = BmpOwner(collector)
    return BmpListener(where, bmp_settings(settings), owner, passage=passage, clock=clock)


def _passage(protocol: str, address: str, group: RouteGroup) -> Passage | None:
    """The way to the other parts of a group, if it has some."""
    return Passage(f"{protocol}://{address}", group.part, group.parts) if group.parts > 1 else None


def host_port(address: str) -> tuple[str, int]:
    """Host and port of ADDRESS:PORT."""
    parts = urlsplit(f"tcp://{address}")
    return parts.hostname or "", parts.port or 0
