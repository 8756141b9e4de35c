"""Exporters of NetFlow v5, v9 and IPFIX: templates, options data, sequences, packing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import ClassVar

import numpy as np

from flowray.generate import encode
from flowray.generate.elements import OPTIONS, Node, Sight, columns, next_hop_v4
from flowray.generate.encode import TemplateSpec
from flowray.generate.population import Flows, Population
from flowray.generate.rows import I64, U64, Bytes, Records, address4
from flowray.generate.truth import Truth

MAX_PAYLOAD = 1400
REFRESH_MS = 60_000
UPTIME_MS = 3 * 86_400_000
NS_PER_MS, NS_PER_S = 1_000_000, 1_000_000_000
AS_TRANS = 23456


@dataclass(frozen=True, slots=True)
class ExporterSpec:
    """One exporter.

    `address` is its true source address, `sampling` the 1:N rate that it announces, `weight` its
    share of the traffic, `domain` its observation domain, source id or engine id. `first_iface` is
    the ifIndex of its first customer port; uplinks follow the `customers` ports.
    """

    kind: str
    address: str
    name: str = "router"
    domain: int = 0
    sampling: int = 1000
    weight: float = 1.0
    first_iface: int = 1
    customers: int = 8
    uplinks: int = 4

    @property
    def interfaces(self) -> dict[int, tuple[bytes, bytes]]:
        """Interface index -> (name, description)."""
        customers = {
            self.first_iface + i: (b"xe-0/0/%d" % i, b"customer port %d" % i)
            for i in range(self.customers)
        }
        first = self.first_iface + self.customers
        uplinks = {first + i: (b"et-1/0/%d" % i, b"transit %d" % i) for i in range(self.uplinks)}
        return {**customers, **uplinks}


class Exporter(ABC):
    """A stateful exporter: flows in, datagrams and the truth about them out."""

    v6_share = 0.3

    def __init__(self, spec: ExporterSpec, population: Population, start_ns: int) -> None:
        self.spec = spec
        self.population = population
        self.boot_ms = start_ns // NS_PER_MS - UPTIME_MS
        self.address = ip_address(spec.address).packed
        mapped = int.from_bytes(self.address, "big")
        mapped |= 0xFFFF_0000_0000 if len(self.address) == 4 else 0
        self._words = mapped >> 64, mapped & (1 << 64) - 1

    @abstractmethod
    def export(self, now_ns: int, flows: Flows) -> tuple[list[bytes], Truth]:
        """The datagrams of a tick, and one row of truth per data record in them."""

    def uptime_ms(self, time_ns: I64) -> I64:
        """Uptime at the full second of each time: headers tell no more, so flow times are exact."""
        return time_ns // NS_PER_S * 1000 - self.boot_ms

    def sight(self, flows: Flows) -> Sight:
        """Interfaces by customer prefix and by AS on the other side: networks keep their links."""
        spec, prefixes = self.spec, self.population.prefixes
        first = np.uint64(spec.first_iface)
        inside = np.where(flows.outbound, flows.src_prefix, flows.dst_prefix).astype(np.uint64)
        outside = prefixes.asn[np.where(flows.outbound, flows.dst_prefix, flows.src_prefix)]
        port = first + inside % np.uint64(spec.customers)
        uplink = first + np.uint64(spec.customers) + outside % np.uint64(spec.uplinks)
        return Sight(
            flows,
            prefixes,
            np.where(flows.outbound, port, uplink),
            np.where(flows.outbound, uplink, port),
            self.boot_ms,
        )

    def truth(self, sight: Sight) -> Truth:
        """The rows of truth of flows that are exported as they are."""
        flows = sight.flows
        return Truth.of(
            len(flows),
            exporter_hi=self._words[0],
            exporter_lo=self._words[1],
            in_iface=sight.in_iface,
            out_iface=sight.out_iface,
            sampling=self.spec.sampling,
            **{
                name: getattr(flows, name)
                for name in (
                    *("src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port"),
                    *("proto", "packets", "octets", "start_ms", "end_ms"),
                )
            },
        )


@dataclass(slots=True)
class Message:
    """Sets collected for one datagram; `templates` and `data` count the records in them."""

    sets: list[bytes] = field(default_factory=list)
    size: int = 0
    templates: int = 0
    data: int = 0

    def add(self, flow_set: bytes, templates: int, data: int) -> None:
        """Append a set of so many template and data records."""
        self.sets.append(flow_set)
        self.size += len(flow_set)
        self.templates += templates
        self.data += data


def fill(
    announced: Iterable[tuple[bytes, int]],
    batches: Iterable[tuple[TemplateSpec, Records]],
    room: int,
) -> Iterator[Message]:
    """Pack sets of templates, then records, into messages of at most `room` bytes of sets."""
    message = Message()
    for flow_set, templates in announced:
        if message.sets and message.size + len(flow_set) > room:
            yield message
            message = Message()
        message.add(flow_set, templates, 0)
    for template, records in batches:
        first = 0
        while first < len(records):
            # The header of the set and up to 3 bytes of padding come on top of the records.
            fitting = records.fitting(first, room - message.size - encode.SET_HEADER - 3)
            if not fitting and message.sets:
                yield message
                message = Message()
                continue
            stop = first + max(1, fitting)
            message.add(encode.flow_set(template.id, records.slice(first, stop)), 0, stop - first)
            first = stop
    if message.sets:
        yield message


@dataclass(frozen=True, slots=True)
class Style:
    """Templates of a kind of router: data templates by address family, options templates."""

    v4: tuple[TemplateSpec, ...]
    v6: tuple[TemplateSpec, ...]
    options: tuple[TemplateSpec, ...]


class TemplateExporter(Exporter):
    """What NetFlow v9 and IPFIX share: flows to templates, templates again every minute."""

    header_bytes: ClassVar[int]
    encode_templates: ClassVar[Callable[..., bytes]]
    encode_options: ClassVar[Callable[..., bytes]]

    def __init__(
        self, spec: ExporterSpec, population: Population, start_ns: int, style: Style
    ) -> None:
        super().__init__(spec, population, start_ns)
        self.style = style
        self.v6_share = self.v6_share if style.v6 else 0.0
        self.sequence = 0
        self._node = Node(self.address[-4:], spec.domain, spec.sampling, spec.interfaces)
        self._announced_ms: int | None = None

    def export(self, now_ns: int, flows: Flows) -> tuple[list[bytes], Truth]:
        """Templates and options data when they are due, then the flows, by template."""
        sights = [(t, s) for t, s in self._routed(self.sight(flows)) if len(s.flows)]
        batches = [(t, encode.encode_records(t, columns(t, s))) for t, s in sights]
        announced: Sequence[tuple[bytes, int]] = ()
        now_ms = now_ns // NS_PER_MS
        if self._announced_ms is None or now_ms - self._announced_ms >= REFRESH_MS:
            self._announced_ms = now_ms
            announced = self.template_sets()
            batches = self.options() + batches
        messages = fill(announced, batches, MAX_PAYLOAD - self.header_bytes)
        return [self.datagram(m, now_ns) for m in messages], Truth.joined(
            self.truth(s) for _, s in sights
        )

    def _routed(self, sight: Sight) -> Iterator[tuple[TemplateSpec, Sight]]:
        """Each flow to one template of its family, always the same for a pair of networks."""
        flows = sight.flows
        pair = flows.src_prefix + flows.dst_prefix
        for v6, templates in ((False, self.style.v4), (True, self.style.v6)):
            for i, template in enumerate(templates):
                yield template, sight.take((flows.v6 == v6) & (pair % len(templates) == i))

    def options(self) -> list[tuple[TemplateSpec, Records]]:
        """The options data of this exporter."""
        return [(t, encode.encode_records(t, OPTIONS[t](self._node))) for t in self.style.options]

    def template_sets(self) -> list[tuple[bytes, int]]:
        """The sets that announce all templates, with the number of templates in each."""
        data = self.style.v4 + self.style.v6
        # One set for each: nfacctd gives up on a datagram with several options templates in a set.
        return [
            (self.encode_templates(*data), len(data)),
            *((self.encode_options(template), 1) for template in self.style.options),
        ]

    def datagram(self, message: Message, now_ns: int) -> bytes:
        """Finish a message: header and sequence number."""
        header = self.headers(
            np.array([now_ns]),
            np.array([self.sequence]),
            message.templates + message.data,
            message.size,
        )
        self.sequence += self.step(message.data)
        return header.tobytes() + b"".join(message.sets)

    @staticmethod
    @abstractmethod
    def step(data: int) -> int:
        """By how much a datagram with `data` data records advances the sequence."""

    @abstractmethod
    def headers(self, time_ns: I64, sequence: I64, records: int, body_bytes: int) -> Bytes:
        """Message headers (n, bytes) for bodies of one size, by time and full sequence (n,)."""


class IpfixExporter(TemplateExporter):
    """IPFIX (RFC 7011): the sequence counts data records, options data included."""

    header_bytes = encode.IPFIX_HEADER
    encode_templates = staticmethod(encode.ipfix_template_set)
    encode_options = staticmethod(encode.ipfix_options_template_set)

    @staticmethod
    def step(data: int) -> int:
        """By the data records."""
        return data

    def headers(
        self,
        time_ns: I64,
        sequence: I64,
        records: int,  # noqa: ARG002 (only v9 tells)
        body_bytes: int,
    ) -> Bytes:
        """As RFC 7011 section 3.1."""
        return encode.ipfix_headers(
            len(time_ns), body_bytes, time_ns // NS_PER_S, sequence & 0xFFFFFFFF, self.spec.domain
        )


class Netflow9Exporter(TemplateExporter):
    """NetFlow v9 (RFC 3954): the sequence counts packets; times are milliseconds of uptime."""

    header_bytes = encode.V9_HEADER
    encode_templates = staticmethod(encode.v9_template_set)
    encode_options = staticmethod(encode.v9_options_template_set)

    @staticmethod
    def step(data: int) -> int:  # noqa: ARG004 (only IPFIX counts it)
        """By one packet."""
        return 1

    def headers(
        self,
        time_ns: I64,
        sequence: I64,
        records: int,
        body_bytes: int,  # noqa: ARG002 (only IPFIX tells)
    ) -> Bytes:
        """As RFC 3954 section 5.1."""
        return encode.v9_headers(
            len(time_ns),
            records,
            self.uptime_ms(time_ns),
            time_ns // NS_PER_S,
            sequence & 0xFFFFFFFF,
            self.spec.domain,
        )


class Netflow5Exporter(Exporter):
    """NetFlow v5: IPv4 only; the sequence counts flows; AS numbers above 16 bits are AS_TRANS."""

    v6_share = 0.0

    def __init__(self, spec: ExporterSpec, population: Population, start_ns: int) -> None:
        super().__init__(spec, population, start_ns)
        self.sequence = 0

    def export(self, now_ns: int, flows: Flows) -> tuple[list[bytes], Truth]:
        """Datagrams of up to 28 records: 30 are allowed, 28 stay below the usual payload."""
        sight = self.sight(flows.take(~flows.v6))
        rows = self.records(sight)
        most = (MAX_PAYLOAD - encode.V5_HEADER) // encode.V5_RECORD
        datagrams = []
        for first in range(0, len(rows), most):
            part = rows[first : first + most]
            header = self.headers(np.array([now_ns]), np.array([self.sequence]), len(part))
            self.sequence += len(part)
            datagrams.append(encode.v5_packets(header, part).tobytes())
        return datagrams, self.truth(sight)

    def headers(self, time_ns: I64, sequence: I64, records: int) -> Bytes:
        """Headers (n, 24) of packets of `records` records, by time and sequence (n,)."""
        return encode.v5_headers(
            len(time_ns),
            records,
            uptime_ms=self.uptime_ms(time_ns),
            unix_secs=time_ns // NS_PER_S,
            sequence=sequence & 0xFFFFFFFF,
            engine_id=self.spec.domain & 0xFF,
            sampling_mode=1,
            sampling_interval=self.spec.sampling,
        )

    def records(self, sight: Sight) -> Bytes:
        """Records (n, 48)."""
        flows, prefixes = sight.flows, sight.prefixes
        return encode.v5_records(
            len(flows),
            src=address4(flows.src_lo),
            dst=address4(flows.dst_lo),
            next_hop=next_hop_v4(sight),
            in_iface=sight.in_iface,
            out_iface=sight.out_iface,
            packets=flows.packets,
            octets=flows.octets,
            first_ms=flows.start_ms - sight.boot_ms,
            last_ms=flows.end_ms - sight.boot_ms,
            src_port=flows.src_port,
            dst_port=flows.dst_port,
            tcpflags=flows.tcpflags,
            proto=flows.proto,
            tos=flows.tos,
            src_as=_as16(sight.src_as),
            dst_as=_as16(sight.dst_as),
            src_mask=prefixes.length[flows.src_prefix],
            dst_mask=prefixes.length[flows.dst_prefix],
        )


def _as16(asn: U64) -> U64:
    return np.where(asn < 1 << 16, asn, np.uint64(AS_TRANS))
