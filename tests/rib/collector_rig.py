"""A collector with streams in memory, and sessions whose octets a test writes."""

from __future__ import annotations

from typing import Any

from flowray.rib.bgp_routes import BgpRoutes
from flowray.rib.bgp_session import BgpSession, Ended, Output, Send
from flowray.rib.bmp_routes import BmpRoutes
from flowray.rib.bmp_session import BmpSession
from flowray.rib.collector import RouteCollector, bgp_settings, bmp_settings
from flowray.rib.journal import Labels
from flowray.settings.load import parse_settings
from flowray.settings.model import Settings
from flowray.wire.bgp.messages import KEEPALIVE
from tests.rib.bgp_peer import CAPABILITIES, SECOND, START, peer_open
from tests.rib.stream_rig import KeptStreams

ROUTER, PORT = "198.51.100.7", 50000


def settings_of(listen: dict[str, Any] | None = None, **routes: Any) -> Settings:
    streams = {name: {} for name in ("bgp_log", "bmp_log")}
    dump = {"every": "60s"}
    return parse_settings(
        {
            "listen": {"bgp": listen or {}, "bmp": {}},
            "views": [{"name": "all", "keys": ["src_host"]}],
            "routes": {
                "streams": {
                    **streams,
                    "bgp_dump": dump,
                    "bmp_dump": dump,
                    **routes.pop("streams", {}),
                },
                **routes,
            },
        },
        "test",
    )


class Rig:
    """A collector on a clock of its own."""

    def __init__(self, listen: dict[str, Any] | None = None, **routes: Any) -> None:
        self.settings = settings_of(listen, **routes)
        self.kept = KeptStreams()
        self.collector = RouteCollector(self.settings, self.kept.streams, Labels())
        self.now_ns = START

    def bgp(
        self, router: str = ROUTER, *, bgp_id: str | None = None, opened: bytes | None = None
    ) -> BgpLink:
        """An established session."""
        session = BgpSession(bgp_settings(self.settings), router, PORT, self.now_ns)
        link = BgpLink(self, self.collector.accept_bgp(session, self.now_ns))
        link.send((opened or peer_open(bgp_id=bgp_id or router)) + KEEPALIVE)
        link.sent.clear()
        return link

    def bmp(self, router: str = ROUTER) -> BmpLink:
        session = BmpSession(bmp_settings(self.settings), router, PORT, self.now_ns)
        return BmpLink(self, self.collector.accept_bmp(session, self.now_ns))

    def pass_time(self, seconds: int) -> None:
        """The clock goes on, a second at a time."""
        for _ in range(seconds):
            self.now_ns += SECOND
            self.collector.advance(self.now_ns)

    def rows(self, name: str = "bgp_log") -> list[dict[str, Any]]:
        self.collector.flush(self.now_ns)
        self.collector.store()
        return self.kept.rows(name)

    def log(self, name: str = "bgp_log") -> list[tuple[str, str]]:
        """Type and prefix of the rows of routes."""
        return [(r["log_type"], r["ip_prefix"]) for r in self.rows(name) if r.get("log_type")]

    def routes(self) -> dict[str, int]:
        """Routes of each peer."""
        return {tables.peer.address: tables.routes for tables in self.collector.rib.peers()}


class BgpLink:
    """The router's end of a session; `sent` is what it was answered."""

    def __init__(self, rig: Rig, routes: BgpRoutes) -> None:
        self.rig, self.routes = rig, routes
        self.sent: list[bytes] = []

    def send(self, octets: bytes) -> None:
        self._take(self.routes.session.receive(octets, self.rig.now_ns))

    def close(self) -> None:
        self._take(self.routes.session.closed(self.rig.now_ns))

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.sent.append(output.octets)
            answer = self.routes.take(output, self.rig.now_ns)
            self._take(answer)
            if any(isinstance(said, Ended) for said in answer):
                return

    @property
    def notification(self) -> tuple[int, int, bytes]:
        """Code, subcode and data of the one NOTIFICATION that was sent."""
        (octets,) = (octets for octets in self.sent if octets[18] == 3)
        return octets[19], octets[20], octets[21:]


class BmpLink:
    """The router's end of a BMP session."""

    def __init__(self, rig: Rig, routes: BmpRoutes) -> None:
        self.rig, self.routes = rig, routes

    def send(self, *octets: bytes) -> None:
        for output in self.routes.session.receive(b"".join(octets), self.rig.now_ns):
            self.routes.take(output, self.rig.now_ns)

    def close(self) -> None:
        for output in self.routes.session.closed(self.rig.now_ns):
            self.routes.take(output, self.rig.now_ns)


__all__ = ["CAPABILITIES", "PORT", "ROUTER", "BgpLink", "BmpLink", "Rig", "settings_of"]
