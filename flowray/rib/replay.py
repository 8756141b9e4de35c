"""Routes out of captures: TCP segments to sessions, on capture time."""

from __future__ import annotations

from flowray.rib.collector import RouteCollector
from flowray.rib.roa import load_roas
from flowray.rib.snapshot import Publisher, Snapshot
from flowray.route_fields import Protocol
from flowray.settings.model import Settings
from flowray.wire.packets import address_text
from flowray.wire.segments import SegmentBatch
from flowray.wire.tcp import Received, Streams

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


def validate(publisher: Publisher, settings: Settings) -> None:
    """Have a publisher tell the validation states that the configuration asks for. Raises
    ConfigError.
    """
    if settings.routes.roas is not None:
        bgp = settings.listen.bgp
        publisher.validate_with(load_roas(settings.routes.roas), 0 if bgp is None else bgp.local_as)


class RouteReplay:
    """Feeds a collector from captures, and publishes what flows are joined with."""

    def __init__(self, settings: Settings, collector: RouteCollector) -> None:
        self.collector = collector
        self._ports = route_ports(settings)
        self._streams = Streams()
        self._publisher = Publisher(collector.rib, "replay", settings.routes.join.policy_views)
        validate(self._publisher, settings)
        self._published = -1

    def feed(self, batch: SegmentBatch) -> None:
        """Take segments in capture order."""
        for event in self._streams.feed(batch):
            stream = event.stream
            protocol = self._ports[stream.port]
            address = address_text(stream.source_hi, stream.source_lo)
            self.collector.advance(event.time_ns)
            if isinstance(event, Received):
                self.receive(protocol, address, stream.source_port, event.data, event.time_ns)
            else:
                self.collector.close(protocol, address, stream.source_port, event.time_ns)

    def receive(
        self, protocol: Protocol, address: str, port: int, data: bytes, now_ns: int
    ) -> None:
        """Take octets of a router's stream. What we would answer goes nowhere."""
        self.collector.receive(protocol, address, port, data, now_ns)

    def news(self, now_ns: int) -> Snapshot | None:
        """A snapshot of the routes if they have changed since the last one."""
        rib = self.collector.rib
        if rib.generation == self._published:
            return None
        self._published = rib.generation
        return self._publisher.publish(now_ns)
