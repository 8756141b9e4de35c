"""The engine of a RIB group: sessions in, tables, streams and snapshots out. Knows no sockets, no
clock, no Ray.

Sessions are driven from outside: by a listener with what their outputs are, or, of a recording,
with the octets of its stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from flowray.rib import bgp_session, bmp_events
from flowray.rib.bgp_negotiation import BgpSettings
from flowray.rib.bgp_routes import BgpRoutes, PrefixLimit
from flowray.rib.bgp_session import BgpSession
from flowray.rib.bmp_routes import BmpRoutes
from flowray.rib.bmp_session import BmpSession, BmpSessionSettings
from flowray.rib.dumps import DumpSchedule
from flowray.rib.journal import Journal, Labels
from flowray.rib.rib import Rib
from flowray.rib.streams import Stream
from flowray.route_fields import Protocol
from flowray.settings.model import Settings
from flowray.wire.bgp.messages import Cease, ErrorCode

SECOND = 1_000_000_000

Session = tuple[Protocol, str, int]
"""Protocol, address and port of a router's session."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a session was not taken."""

    session: Session
    reason: str


class RouteCollector:
    """Takes what routers tell. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        streams: Mapping[str, Stream],
        labels: Labels,
        *,
        recorded: bool = False,
    ) -> None:
        """`recorded`: sessions come from captures, where nobody answers and no timer ends them."""
        self.rib = Rib()
        self.refused: Counter[str] = Counter()
        self._settings = settings
        self._recorded = recorded
        self._streams = streams
        shared = settings.routes.next_hops == "shared"
        self._journal = Journal(streams, labels, share_next_hops=shared)
        self._bgp: dict[tuple[str, int], BgpRoutes] = {}
        self._bmp: dict[tuple[str, int], BmpRoutes] = {}
        self._dumps: dict[Protocol, DumpSchedule] = {}
        if (dump := settings.routes.streams.bgp_dump) is not None:
            self._dumps["bgp"] = DumpSchedule(dump.every, dump.slots)
        if (dump := settings.routes.streams.bmp_dump) is not None:
            self._dumps["bmp"] = DumpSchedule(dump.every, dump.slots)

    # -- sessions ----------------------------------------------------------------------------------

    def receive(
        self, protocol: Protocol, address: str, port: int, data: bytes, now_ns: int
    ) -> bytes:
        """Take octets of a router's stream, whose session begins with the first; what to send."""
        if protocol == "bgp":
            return self._receive_bgp(address, port, data, now_ns)
        routes = self._bmp.get((address, port))
        if routes is None:
            routes = self.open_bmp(address, port, now_ns)
        for output in routes.session.receive(data, now_ns):
            self.on_bmp(address, port, output, now_ns)
        return b""

    def _receive_bgp(self, address: str, port: int, data: bytes, now_ns: int) -> bytes:
        routes = self._bgp.get((address, port))
        if routes is None:
            routes = self.open_bgp(address, port, now_ns)
        return self._act(address, port, routes, routes.session.receive(data, now_ns), now_ns)

    def _act(
        self, address: str, port: int, routes: BgpRoutes, outputs: list[bgp_session.Output],
        now_ns: int,
    ) -> bytes:  # fmt: skip
        sent = b""
        for output in outputs:
            if isinstance(output, bgp_session.Send):
                sent += output.octets
            more = self.on_bgp(address, port, output, now_ns)
            if more:
                sent += self._act(address, port, routes, more, now_ns)
        return sent

    def open_bgp(self, address: str, port: int, now_ns: int) -> BgpRoutes:
        """A router connected. A second session of one address is refused while the first is up."""
        self._journal.opened("bgp", address, port, now_ns)
        listen = self._settings.listen.bgp
        assert listen is not None, "sessions are taken where there is a listener"
        session = BgpSession(bgp_settings(self._settings, self._recorded), address, port, now_ns)
        limit = PrefixLimit(listen.max_prefixes, listen.warn_prefixes)
        routes = BgpRoutes(self.rib, session, self._journal, limit)
        there = [peer for (peer, _), other in self._bgp.items() if other.alive]
        if address in there:
            self._refuse(routes, "a session of this address is up", now_ns)
        elif len(there) >= listen.max_peers:
            self._refuse(routes, f"{listen.max_peers} peers are there", now_ns)
        self._bgp[address, port] = routes
        return routes

    def _refuse(self, routes: BgpRoutes, reason: str, now_ns: int) -> None:
        self.refused[reason] += 1
        routes.session.reset(ErrorCode.CEASE, Cease.CONNECTION_REJECTED, b"", now_ns, reason)

    def open_bmp(self, address: str, port: int, now_ns: int) -> BmpRoutes:
        """A router connected."""
        self._journal.opened("bmp", address, port, now_ns)
        session = BmpSession(bmp_settings(self._settings), address, port, now_ns)
        routes = self._bmp[address, port] = BmpRoutes(self.rib, session, self._journal)
        return routes

    def on_bgp(
        self, address: str, port: int, output: bgp_session.Output, now_ns: int
    ) -> list[bgp_session.Output]:
        """Act on an output of a session; what the session says to that."""
        return self._bgp[address, port].take(output, now_ns)

    def on_bmp(self, address: str, port: int, output: bmp_events.Output, now_ns: int) -> None:
        """Act on an output of a session."""
        self._bmp[address, port].take(output, now_ns)

    def close(self, protocol: Protocol, address: str, port: int, now_ns: int) -> None:
        """A connection is gone."""
        if protocol == "bgp":
            bgp = self._bgp.get((address, port))
            if bgp is not None:
                self._act(address, port, bgp, bgp.session.closed(now_ns), now_ns)
                del self._bgp[address, port]
            return
        bmp = self._bmp.get((address, port))
        if bmp is not None:
            for output in bmp.session.closed(now_ns):
                self.on_bmp(address, port, output, now_ns)
            del self._bmp[address, port]

    # -- time --------------------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:
        """Where what happens is written."""
        return self._journal

    def advance(self, now_ns: int) -> None:
        """Let time pass: dumps that are due are written."""
        for protocol, schedule in self._dumps.items():
            for due in schedule.due(now_ns):
                routers = [router for router in self._routers(protocol) if due.takes(router[0])]
                self._journal.dump(protocol, self.rib, routers, due.time_ns, schedule.every)
                window = due.time_ns, due.time_ns + schedule.every
                self._streams[f"{protocol}_dump"].flush(now_ns, window)

    def _routers(self, protocol: Protocol) -> list[tuple[str, int]]:
        if protocol == "bmp":
            return list(self._bmp)
        return [router for router, routes in self._bgp.items() if routes.alive]

    def flush(self, now_ns: int) -> None:
        """Commit the rows of message logs."""
        for name, stream in self._streams.items():
            if name.endswith("_log"):
                stream.flush(now_ns)

    def close_streams(self) -> None:
        """Close the sinks of all streams."""
        for stream in self._streams.values():
            stream.close()

    # -- looking at it -----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Figures that cost nothing."""
        return {
            "bgp_sessions": len(self._bgp),
            "bmp_sessions": len(self._bmp),
            "peers": sum(1 for _ in self.rib.peers()),
            "routes": sum(tables.routes for tables in self.rib.peers()),
            "table_octets": sum(tables.nbytes for tables in self.rib.peers()),
            "attribute_sets": len(self.rib.store),
            "attribute_octets": self.rib.store.nbytes,
            "refused": dict(self.refused),
            "malformed": dict(self._causes()),
            "streams": {
                name: {"rows": s.rows, "waiting": s.waiting, "lost": s.lost}
                for name, s in self._streams.items()
            },
        }

    def _causes(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for bgp in self._bgp.values():
            total += bgp.causes
        for bmp in self._bmp.values():
            total += bmp.causes
        return total


def bgp_settings(settings: Settings, recorded: bool = False) -> BgpSettings:
    """How we speak BGP."""
    listen = settings.listen.bgp
    assert listen is not None
    return BgpSettings(
        router_id=IPv4Address(listen.router_id),
        local_as=listen.local_as,
        hold_time_s=listen.hold_time // SECOND,
        add_path=listen.add_path,
        expect_answers=not recorded,
    )


def bmp_settings(settings: Settings) -> BmpSessionSettings:
    """What a BMP session may take."""
    listen = settings.listen.bmp
    assert listen is not None
    return BmpSessionSettings(max_message=listen.max_message)
