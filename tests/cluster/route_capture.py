"""Captures of flows and of the BGP and BMP sessions of their routers, as they were on the wire."""

from __future__ import annotations

from pathlib import Path

from flowray.wire.bgp.capabilities import four_octet_as, multiprotocol
from flowray.wire.bgp.messages import KEEPALIVE
from tests.ingest.decoding import T0, Datum, Ipfix, template
from tests.rib.bgp_peer import peer_open
from tests.wire import pcap_twin as p
from tests.wire.bgp import encode as e
from tests.wire.bgp import encode_bmp as b

NS = 1_000_000_000
SYN, FIN, ACK = 0x02, 0x01, 0x10
PORTS = {"bgp": 179, "bmp": 11019}
SEGMENT = 1400

ROUTED = template(256, (8, 4), (12, 4), (9, 1), (13, 1), (16, 4), (17, 4), (18, 4), (4, 1),
                  (2, 4), (1, 4))  # fmt: skip
"""Addresses, prefix lengths, AS numbers, BGP next hop, protocol, packets, octets."""


def flow(
    src: str, dst: str, *, masks: tuple[int, int] = (0, 0), numbers: tuple[int, int] = (0, 0),
    hop: str = "0.0.0.0",
) -> tuple[Datum, ...]:  # fmt: skip
    """A record of ROUTED: one packet of 100 octets."""
    wide = [n.to_bytes(4) for n in numbers]
    return src, dst, *masks, *wide, hop, 6, (1).to_bytes(4), (100).to_bytes(4)


class RouteCapture:
    """What routers send to the collector; times are seconds after T0."""

    def __init__(self) -> None:
        self._records: list[p.Record] = []
        self._sequence: dict[tuple[str, str], int] = {}
        self._exporters: dict[str, Ipfix] = {}

    def _add(self, packet: bytes, seconds: float) -> None:
        time_ns = int((T0 + seconds) * NS)
        self._records.append(p.Record(p.frame(packet, p.ETHERNET), time_ns))

    def flows(self, seconds: float, router: str, *records: tuple[Datum, ...]) -> None:
        """A datagram of a router."""
        exporter = self._exporters.setdefault(router, Ipfix())
        exporter.time = T0 + int(seconds)
        self._add(p.ipv4(p.udp(exporter.send(ROUTED, *records)), router), seconds)

    def session(self, seconds: float, protocol: str, router: str, *octets: bytes) -> None:
        """Octets of a router's session, which begins with the first."""
        place = protocol, router
        if place not in self._sequence:
            self._sequence[place] = 1000
            self._segment(seconds, place, b"", SYN)
            self._sequence[place] += 1
        told = b"".join(octets)
        for at in range(0, len(told), SEGMENT):
            self._segment(seconds, place, told[at : at + SEGMENT], ACK)

    def close(self, seconds: float, protocol: str, router: str) -> None:
        """The router ends its session."""
        self._segment(seconds, (protocol, router), b"", FIN | ACK)
        del self._sequence[protocol, router]

    def _segment(self, seconds: float, place: tuple[str, str], octets: bytes, flags: int) -> None:
        protocol, router = place
        sequence = self._sequence[place]
        segment = p.tcp(octets, PORTS[protocol], sequence=sequence, flags=flags)
        self._sequence[place] = sequence + len(octets)
        self._add(p.ipv4(segment, router, protocol=6), seconds)

    def write(self, path: Path) -> Path:
        """Write the capture in order of time."""
        path.write_bytes(p.pcap(sorted(self._records, key=lambda r: r.time_ns)))
        return path


def opened(router: str, asn: int = 65001) -> bytes:
    """OPEN and KEEPALIVE of a router of IPv4 alone."""
    capabilities = (multiprotocol(1, 1), four_octet_as(asn))
    return peer_open(asn, capabilities=capabilities, bgp_id=router) + KEEPALIVE


def announced(prefix: str, *path: int, hop: str = "198.51.100.1", more: bytes = b"") -> bytes:
    """An UPDATE of one route."""
    return e.update(attributes=e.usual(*path, hop=hop) + more, nlri=e.prefix(prefix))


def withdrawn(prefix: str) -> bytes:
    return e.update(withdrawn=e.prefix(prefix))


def monitored(peer: b.Peer, *updates: bytes) -> bytes:
    """BMP of a peer that is up, and its routes."""
    up = b.peer_up(peer, b.bgp_open(65000, b.four_octet_as(65000)),
                   b.bgp_open(peer.asn, b.four_octet_as(peer.asn)))  # fmt: skip
    return up + b"".join(b.route_monitoring(peer, update) for update in updates)


BGP, BMP, NONE, SEED = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"
"""Routers: one with BGP, one with BMP, one without routes, one whose table is in an MRT file."""

COMMUNITY = e.communities((65001, 1), (65001, 2))


def usual_capture() -> RouteCapture:
    """Routes that come, change and go, and flows in between."""
    c = RouteCapture()
    c.session(
        *(0, "bgp", BGP, opened(BGP)),
        announced("10.0.0.0/8", 65001, 64500, hop="198.51.100.1"),
        announced("203.0.113.0/24", 65001, 64501, more=e.med(7) + e.local_pref(90) + COMMUNITY),
    )
    peer = b.Peer(address="198.51.100.9", asn=65009)
    c.session(0.1, "bmp", BMP, b.initiation(b.tlv(2, b"r2")))
    c.session(0.2, "bmp", BMP, monitored(peer, announced("203.0.113.0/24", 65009, 64509)))
    usual = flow("10.1.1.1", "203.0.113.200")
    for router in (BGP, BMP, NONE, SEED):
        c.flows(1, router, usual)
    c.session(
        *(2, "bgp", BGP, withdrawn("10.0.0.0/8")),
        announced("203.0.113.128/25", 65001, 64502, hop="198.51.100.2"),
    )
    c.flows(3, BGP, usual, flow("10.1.1.1", "203.0.113.9"))
    c.close(4, "bgp", BGP)
    c.flows(5, BGP, usual)
    c.flows(5, BMP, usual)
    return c
