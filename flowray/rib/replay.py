"""Routes of a replay: TCP segments of captures to sessions, and MRT files, on capture time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowray.rib.admission import Refusal
from flowray.rib.bgp_routes import BgpRoutes
from flowray.rib.bgp_session import BgpSession, Ended, Opened, Output, UpdatesReceived
from flowray.rib.bmp_routes import BmpRoutes
from flowray.rib.bmp_session import BmpSession
from flowray.rib.collector import RouteCollector, bgp_settings, bmp_settings
from flowray.rib.mrt_routes import MrtFiles, MrtRoutes
from flowray.rib.recordings import RecordedEncoding, Search
from flowray.rib.snapshot import Snapshot
from flowray.route_fields import Protocol
from flowray.settings.model import Settings
from flowray.wire.bgp.messages import EXTENDED_LIMIT, MessageType
from flowray.wire.packets import PacketBatch, address_text
from flowray.wire.segments import SegmentBatch
from flowray.wire.tcp import Event, Received, Streams

log = logging.getLogger(__name__)

_TYPE = 18
"""Where the type of a BGP message stands."""

BURST_NS = 1_000_000
"""Within it octets of a stream count as having come at once, with the first of them."""

BGP_PORT, BMP_PORT = 179, 11019
"""Well-known ports, beside those that the configuration listens on (BMP: the registered one)."""


def route_ports(settings: Settings) -> dict[int, Protocol]:
    """Destination ports of the sessions that a capture may hold."""
    ports: dict[int, Protocol] = {}
    if (bgp := settings.listen.bgp) is not None:
        ports[BGP_PORT] = ports[_port(bgp.address)] = "bgp"
    if (bmp := settings.listen.bmp) is not None:
        ports[BMP_PORT] = ports[_port(bmp.address)] = "bmp"
    return ports


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


END_OF_TIME = (1 << 63) - 1
MINUTE = 60_000_000_000


def together(events: Iterable[Event]) -> Iterator[Event]:
    """Octets that a stream gave within `BURST_NS`, no other stream between them, as one: a batch of
    messages costs little more than one of them.
    """
    run: list[Received] = []
    for event in events:
        if run and isinstance(event, Received) and _of_burst(run[0], event):
            run.append(event)
            continue
        yield from _joined(run)
        run = [event] if isinstance(event, Received) else []
        if not run:
            yield event
    yield from _joined(run)


def _of_burst(first: Received, event: Received) -> bool:
    return event.stream == first.stream and event.time_ns - first.time_ns < BURST_NS


def _joined(run: Sequence[Received]) -> Iterator[Received]:
    if len(run) > 1:
        yield replace(run[0], data=b"".join(event.data for event in run))
    else:
        yield from run


class RouteReplay:
    """Feeds a collector from captures, where nobody answers and no timer ends a session, and from
    MRT files, and publishes what flows are joined with.
    """

    def __init__(self, settings: Settings, collector: RouteCollector) -> None:
        self.collector = collector
        self._ports = route_ports(settings)
        self._settings = settings
        self._streams = Streams()
        self._bgp: dict[tuple[str, int], BgpRoutes] = {}
        self._bmp: dict[tuple[str, int], BmpRoutes] = {}
        self._refused: set[tuple[str, int]] = set()
        self._searches: dict[tuple[Protocol, str, int], Search] = {}
        self._encodings: dict[tuple[str, int], RecordedEncoding] = {}
        self._publisher = collector.publisher("replay")
        self._published = -1
        self._mrt = MrtFiles(collector.rib, collector.journal)

    def add_mrt(self, path: Path) -> MrtRoutes:
        """Have the routes of an MRT file come in as capture time goes on. Raises CaptureError."""
        return self._mrt.add(path)

    def feed(self, batch: SegmentBatch) -> None:
        """Take segments in capture order."""
        for event in together(self._streams.feed(batch)):
            stream = event.stream
            protocol = self._ports[stream.port]
            address = address_text(stream.source_hi, stream.source_lo)
            self._advance(event.time_ns)
            if isinstance(event, Received):
                self._received(protocol, address, event)
            else:
                self.close(protocol, address, stream.source_port, event.time_ns)
        self.collector.store()

    def _received(self, protocol: Protocol, address: str, event: Received) -> None:
        """Take octets of a stream; of one whose beginning was not captured those from the first
        message on.
        """
        port, data = event.stream.source_port, event.data
        known = self._bgp if protocol == "bgp" else self._bmp
        begun = (address, port) in known or (address, port) in self._refused
        if event.begun_late and not begun:
            search = self._searches.setdefault((protocol, address, port), self._search(protocol))
            found = search.feed(data)
            if found is None:
                return
            del self._searches[protocol, address, port]
            data = found
            log.warning(
                "%s router %s: the capture begins within the session, %d octets skipped",
                protocol, address, search.skipped,
            )  # fmt: skip
            if protocol == "bgp" and data[_TYPE] != MessageType.OPEN:
                self._resume(address, port, event.time_ns)
        self.receive(protocol, address, port, data, event.time_ns)

    def _search(self, protocol: Protocol) -> Search:
        if protocol == "bgp":
            return Search(protocol, EXTENDED_LIMIT)
        return Search(protocol, bmp_settings(self._settings).max_message)

    def _resume(self, address: str, port: int, now_ns: int) -> None:
        if (bgp := self._of_bgp(address, port, now_ns)) is not None:
            self._take(bgp, bgp.session.resume(now_ns), now_ns)

    def parts(self, batch: PacketBatch) -> Iterator[tuple[PacketBatch, Snapshot | None]]:
        """A batch of flows in parts between which routes may change, and before each the snapshot
        to join it with, if there is a new one.
        """
        begin = 0
        while begin < len(batch):
            now_ns = int(batch.arrival[begin])
            snapshot = self.news(now_ns)
            end = int(np.searchsorted(batch.arrival, self._until(now_ns)))
            end = max(end, begin + 1)
            yield (batch if end - begin == len(batch) else batch.slice(begin, end)), snapshot
            begin = end

    def _until(self, now_ns: int) -> int:
        """When flows must look again: files are followed as often as live shards are told, and
        dumps are due at whole minutes at most.
        """
        until = END_OF_TIME
        if (next_ns := self._mrt.next_ns) is not None:
            every = self._settings.routes.snapshot
            until = -(-next_ns // every) * every
        if self.collector.dumps:
            until = min(until, (now_ns // MINUTE + 1) * MINUTE)
        return until

    def _advance(self, now_ns: int) -> None:
        self._mrt.until(now_ns)
        self.collector.advance(now_ns)

    def receive(
        self, protocol: Protocol, address: str, port: int, data: bytes, now_ns: int
    ) -> None:
        """Take octets of a router's stream, whose session begins with the first. What we would
        answer goes nowhere.
        """
        if protocol == "bmp":
            self._take_bmp(self._of_bmp(address, port, now_ns), data, now_ns)
        elif (bgp := self._of_bgp(address, port, now_ns)) is not None:
            self._take(bgp, bgp.session.receive(data, now_ns), now_ns)

    def _take(self, routes: BgpRoutes, outputs: list[Output], now_ns: int) -> None:
        """Act on outputs in order. What the feed says to one goes before those after it, and if
        that ends the session, they are void.
        """
        for output in outputs:
            if isinstance(output, Opened):
                offered = output.negotiated.contexts()
                self._encodings[routes.router] = RecordedEncoding(offered)
            elif isinstance(output, UpdatesReceived):
                routes.encoded(self._encodings[routes.router].contexts(output.updates))
            answer = routes.take(output, now_ns)
            self._take(routes, answer, now_ns)
            if any(isinstance(said, Ended) for said in answer):
                return

    def _take_bmp(self, routes: BmpRoutes, data: bytes, now_ns: int) -> None:
        for output in routes.session.receive(data, now_ns):
            routes.take(output, now_ns)

    def _of_bgp(self, address: str, port: int, now_ns: int) -> BgpRoutes | None:
        """The session of a stream; None for one that is refused."""
        if (known := self._bgp.get((address, port))) is not None:
            return known
        if (address, port) in self._refused:
            return None
        if (refusal := self._refusal(address)) is not None:
            self._refused.add((address, port))
            self.collector.refuse("bgp", address, port, refusal.value, now_ns)
            return None
        session = BgpSession(bgp_settings(self._settings, recorded=True), address, port, now_ns)
        routes = self._bgp[address, port] = self.collector.accept_bgp(session, now_ns)
        return routes

    def _refusal(self, address: str) -> Refusal | None:
        """As the listener refused, or would have."""
        listen = self._settings.listen.bgp
        assert listen is not None
        there = [routes.router[0] for routes in self._bgp.values() if routes.alive]
        if address in there:
            return Refusal.DUPLICATE
        return Refusal.TOO_MANY if len(there) >= listen.max_peers else None

    def _of_bmp(self, address: str, port: int, now_ns: int) -> BmpRoutes:
        if (known := self._bmp.get((address, port))) is not None:
            return known
        session = BmpSession(bmp_settings(self._settings), address, port, now_ns)
        routes = self._bmp[address, port] = self.collector.accept_bmp(session, now_ns)
        return routes

    def close(self, protocol: Protocol, address: str, port: int, now_ns: int) -> None:
        """A connection is gone."""
        self._searches.pop((protocol, address, port), None)
        if protocol == "bmp":
            if (bmp := self._bmp.pop((address, port), None)) is not None:
                for output in bmp.session.closed(now_ns):
                    bmp.take(output, now_ns)
            return
        self._refused.discard((address, port))
        if (bgp := self._bgp.pop((address, port), None)) is not None:
            self._take(bgp, bgp.session.closed(now_ns), now_ns)
            self._encodings.pop((address, port), None)

    def news(self, now_ns: int) -> Snapshot | None:
        """A snapshot of the routes as of now if they have changed since the last one."""
        self._advance(now_ns)
        if self.collector.rib.generation == self._published:
            return None
        return self.publish(now_ns)

    def publish(self, now_ns: int) -> Snapshot:
        """A snapshot of the routes."""
        self._published = self.collector.rib.generation
        return self._publisher.publish(now_ns)

    def end(self, now_ns: int) -> None:
        """There is no more: what MRT files have left is applied, and message logs are written."""
        self._advance(now_ns)
        self._mrt.until(END_OF_TIME)
        self.collector.flush(now_ns)
        self.collector.store()
