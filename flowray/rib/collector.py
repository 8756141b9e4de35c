"""The engine of a RIB group: sessions in, tables, streams and snapshots out. Knows no sockets, no
clock, no Ray.

Sessions are driven from outside, by listeners or from recordings, and what they tell goes to the
feeds that they are accepted with.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any, TypeAlias

from flowray.archive.route_tape import RouteTape
from flowray.rib.archive import MessageArchive
from flowray.rib.bgp_negotiation import BgpSettings
from flowray.rib.bgp_routes import BgpRoutes, PrefixLimit
from flowray.rib.bgp_session import BgpSession
from flowray.rib.bmp_routes import BmpRoutes
from flowray.rib.bmp_session import BmpSession, BmpSessionSettings
from flowray.rib.dumps import DumpSchedule
from flowray.rib.journal import Journal, Labels
from flowray.rib.looking_glass import Payloads
from flowray.rib.rib import Rib
from flowray.rib.roa import RoaSet, load_roas
from flowray.rib.snapshot import Publisher
from flowray.rib.streams import Stream
from flowray.route_fields import Protocol
from flowray.settings.model import Settings
from flowray.wire.bgp.families import FAMILIES

log = logging.getLogger(__name__)

SECOND = 1_000_000_000

Feed: TypeAlias = BgpRoutes | BmpRoutes


class RouteCollector:
    """Takes what routers tell. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        streams: Mapping[str, Stream],
        labels: Labels,
        archive: MessageArchive | None = None,
        tape: RouteTape | None = None,
    ) -> None:
        """`streams` are those of the configuration, or some of them: the others are not written.
        `archive` keeps what BGP sessions tell, `tape` all that tables follow from. Raises
        ConfigError for a file of ROAs that cannot be used.
        """
        self.rib = Rib()
        self.refusals: Counter[str] = Counter()
        """Connections that were refused, by reason."""
        self.malformed: Counter[str] = Counter()
        """Messages that were not taken or that RFC 7606 has a word on, by cause."""
        self._settings, self._archive, self._tape = settings, archive, tape
        self._streams = streams
        shared = settings.routes.next_hops == "shared"
        bgp = settings.listen.bgp
        self._own_as = 0 if bgp is None else bgp.local_as
        self._journal = Journal(
            self.rib, streams, labels, share_next_hops=shared, own_as=self._own_as
        )
        if (roas := settings.routes.rpki.roas) is not None:
            self._journal.roas = load_roas(roas)
        self.rib.before_compaction = self._journal.settle
        self._feeds: dict[Protocol, list[Feed]] = {"bgp": [], "bmp": []}
        self._stale: dict[tuple[int, bool], int] = {}
        self._tidy_ns = 0
        self._dumps: dict[Protocol, DumpSchedule] = {}
        asked = settings.routes.streams
        if asked.bgp_dump is not None and "bgp_dump" in streams:
            self._dumps["bgp"] = DumpSchedule(asked.bgp_dump.every, asked.bgp_dump.slots)
        if asked.bmp_dump is not None and "bmp_dump" in streams:
            self._dumps["bmp"] = DumpSchedule(asked.bmp_dump.every, asked.bmp_dump.slots)

    # -- origin validation -------------------------------------------------------------------------

    def validate_with(self, roas: RoaSet) -> None:
        """Validate the routes of rows by these payloads from now on."""
        self._journal.settle()
        self._journal.roas = roas

    @property
    def payloads(self) -> Payloads:
        """What routes are validated with now. Any thread may ask."""
        return Payloads(self._journal.roas, self._own_as)

    def publisher(self, epoch: str) -> Publisher:
        """Who makes the snapshots of the RIB that flows are joined with."""
        publisher = Publisher(self.rib, epoch, self._settings.routes.join.policy_views)
        if self._journal.roas is not None:
            self.validate_snapshots(publisher)
        return publisher

    def validate_snapshots(self, publisher: Publisher) -> None:
        """Have snapshots tell the validation states by the payloads in force."""
        publisher.validate_with(self._journal.roas, self._own_as)

    # -- sessions ----------------------------------------------------------------------------------

    def accept_bgp(self, session: BgpSession, now_ns: int) -> BgpRoutes:
        """A router connected; who takes what its session tells."""
        self._journal.opened("bgp", session.peer, session.port, now_ns)
        listen = self._settings.listen.bgp
        assert listen is not None, "sessions are taken where there is a listener"
        limit = PrefixLimit(listen.max_prefixes, listen.warn_prefixes)
        routes = BgpRoutes(
            self.rib, session, self._journal, limit, self.malformed, self._archive, self._tape
        )
        self._feeds["bgp"].append(routes)
        return routes

    def accept_bmp(self, session: BmpSession, now_ns: int) -> BmpRoutes:
        """A router connected; who takes what its session tells."""
        self._journal.opened("bmp", session.address, session.port, now_ns)
        routes = BmpRoutes(self.rib, session, self._journal, self.malformed, self._tape)
        self._feeds["bmp"].append(routes)
        return routes

    def refuse(
        self, protocol: Protocol, address: str, port: int, reason: str, now_ns: int
    ) -> None:  # fmt: skip
        """A router connected and was turned away."""
        self._journal.opened(protocol, address, port, now_ns)
        self.refusals[reason] += 1

    # -- time --------------------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:
        """Where what happens is written."""
        return self._journal

    @property
    def dumps(self) -> bool:
        """Whether tables are dumped."""
        return bool(self._dumps)

    def advance(self, now_ns: int) -> None:
        """Let time pass: dumps that are due are written, stale routes end."""
        for protocol, schedule in self._dumps.items():
            for due in schedule.due(now_ns):
                routers = [router for router in self._routers(protocol) if due.takes(router[0])]
                self._journal.dump(protocol, routers, due.time_ns, schedule.every)
                window = due.time_ns, due.time_ns + schedule.every
                self._streams[f"{protocol}_dump"].flush(now_ns, window)
        if self._archive is not None:
            self._archive.advance(now_ns)
        if self._tape is not None:
            self._tape.advance(now_ns)
        if now_ns >= self._tidy_ns:
            self._tidy_ns = now_ns + SECOND
            for feeds in self._feeds.values():
                feeds[:] = [feed for feed in feeds if feed.alive]
            self._expire(now_ns)

    def _routers(self, protocol: Protocol) -> list[tuple[str, int]]:
        """Address and port of those that have a session, or routes from before a restart or out of
        a file.
        """
        connected = [feed.router for feed in self._feeds[protocol] if feed.alive]
        peers = [tables.peer for tables in self.rib.peers()]
        away = [(peer.router, peer.port) for peer in peers if peer.protocol == protocol]
        return list(dict.fromkeys([*connected, *away]))

    def _expire(self, now_ns: int) -> None:
        """End the routes from before a restart that nobody announced again in time, counted from
        the restart, and anew when their peer is back.
        """
        before, self._stale = self._stale, {}
        for tables in list(self.rib.peers()):
            if not tables.stale:
                continue
            place = tables.number, tables.session
            since_ns = before.get(place, now_ns)
            if now_ns - since_ns < self._settings.routes.stale_for:
                self._stale[place] = since_ns
                continue
            log.warning("%s peer %s: stale routes end", tables.peer.protocol, tables.peer.address)
            if self._tape is not None:
                self._tape.expired(tables.peer, now_ns)
            self._journal.removed(self.rib.expire(tables.number), now_ns)

    def flush(self, now_ns: int) -> None:
        """Commit the rows of message logs."""
        self._journal.settle()
        for name, stream in self._streams.items():
            if name.endswith("_log"):
                stream.flush(now_ns)

    def store(self) -> None:
        """Give sinks what is committed. May be called by another thread than the rest."""
        for stream in self._streams.values():
            stream.store()

    def unstored(self) -> list[str]:
        """What sinks have not taken, a line for each stream of which there is any."""
        return [line for stream in self._streams.values() if (line := stream.unstored)]

    def close_streams(self) -> None:
        """Close the sinks of all streams, and the archive."""
        if self._archive is not None:
            self._archive.close()
        if self._tape is not None:
            self._tape.close()
        for stream in self._streams.values():
            stream.close()

    # -- looking at it -----------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Figures that cost nothing."""
        return {
            "bgp_sessions": sum(feed.alive for feed in self._feeds["bgp"]),
            "bmp_sessions": sum(feed.alive for feed in self._feeds["bmp"]),
            "peers": sum(1 for _ in self.rib.peers()),
            "stale_peers": sum(tables.stale for tables in self.rib.peers()),
            "routes": sum(tables.routes for tables in self.rib.peers()),
            "table_octets": sum(tables.nbytes for tables in self.rib.peers()),
            "families": self._families(),
            "attribute_sets": len(self.rib.store),
            "attribute_octets": self.rib.store.nbytes,
            "refused": dict(self.refusals),
            "malformed": dict(self.malformed),
            "streams": {
                name: {"rows": s.rows, "waiting": s.waiting, "lost": s.lost}
                for name, s in self._streams.items()
            },
        }

    def _families(self) -> dict[str, dict[str, int]]:
        """Routes and octets of the tables of each family."""
        found: dict[str, dict[str, int]] = {}
        for tables in self.rib.peers():
            for family, table in tables.tables.items():
                sums = found.setdefault(FAMILIES[family].name, {"routes": 0, "octets": 0})
                sums["routes"] += len(table)
                sums["octets"] += table.nbytes
        return found


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
