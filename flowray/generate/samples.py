"""An sFlow agent: sampled frames with switch, router and gateway data, and counters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowray.generate import frames, sflow
from flowray.generate.elements import Sight, next_hop_v4, next_hop_v6
from flowray.generate.exporters import MAX_PAYLOAD, NS_PER_MS, Exporter, ExporterSpec
from flowray.generate.population import LOCAL_AS, Flows, Population
from flowray.generate.rows import I64, U64, Bytes, address4, pack
from flowray.generate.truth import Truth

COUNTER_PERIOD_MS = 20_000
TRANSIT_AS = 65_000
VLAN_BASE = 100
PAYLOAD_BYTES = 8
SPEED = 10_000_000_000
ROUTER_MAC, PEER_MAC = 0x02_00_5E_00_00_01, 0x02_00_5E_10_00_00
_MASK32 = np.uint64(0xFFFFFFFF)
_L4_BYTES = {frames.TCP: 20, frames.UDP: 8}


class SflowExporter(Exporter):
    """sFlow v5; `expanded` agents use the expanded sample forms."""

    def __init__(
        self, spec: ExporterSpec, population: Population, start_ns: int, *, expanded: bool = False
    ) -> None:
        super().__init__(spec, population, start_ns)
        self.expanded = expanded
        self.sequence = 0
        top = spec.first_iface + spec.customers + spec.uplinks
        self._samples = np.zeros(top, np.uint64)
        self._counter_samples = np.zeros(top, np.uint64)
        self._traffic = np.zeros((4, top), np.uint64)  # octets in and out, packets in and out
        self._counted_ms: int | None = None

    def export(self, now_ns: int, flows: Flows) -> tuple[list[bytes], Truth]:
        """One flow sample per flow, of its mean packet size; counter samples every 20 s."""
        sight = self.sight(flows)
        index = self.numbered(sight)
        samples = [b""] * len(flows)
        parts: list[Truth] = []
        for rows in self._shapes(sight):
            matrix, truth = self.samples(sight.take(rows), index[rows])
            # Back to the order of the flows, which is that of the sequence numbers.
            for place, row in zip(np.flatnonzero(rows).tolist(), matrix, strict=True):
                samples[place] = row.tobytes()
            parts.append(truth)
        now_ms = now_ns // NS_PER_MS
        if self._counted_ms is None or now_ms - self._counted_ms >= COUNTER_PERIOD_MS:
            self._counted_ms = now_ms
            samples.extend(row.tobytes() for row in self._counters())
        return [*self._datagrams(samples, now_ms)], Truth.joined(parts)

    def numbered(self, sight: Sight) -> U64:
        """Running number of each sample within its data source, the ingress interface."""
        number = np.zeros(len(sight.flows), np.uint64)
        for iface in np.unique(sight.in_iface).tolist():
            rows = np.flatnonzero(sight.in_iface == iface)
            number[rows] = self._samples[iface] + np.arange(1, len(rows) + 1, dtype=np.uint64)
            self._samples[iface] += np.uint64(len(rows))
        return number

    @staticmethod
    def _shapes(sight: Sight) -> Iterator[np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Masks of flows whose samples have the same layout: family, transport, tag, direction."""
        flows = sight.flows
        transport = np.where(np.isin(flows.proto, list(_L4_BYTES)), flows.proto, np.uint64(0))
        code = (
            flows.v6.astype(np.int64) << 10
            | (sight.customer % np.uint64(2)).astype(np.int64) << 9
            | flows.outbound.astype(np.int64) << 8
            | transport.astype(np.int64)
        )
        for value in np.unique(code).tolist():
            yield code == value

    def samples(self, sight: Sight, number: U64) -> tuple[Bytes, Truth]:
        """Flow samples (n, bytes) of flows of one shape, and their truth."""
        flows, count = sight.flows, len(sight.flows)
        tagged = bool(sight.customer[0] % np.uint64(2))
        header, frame_bytes = frame(sight, tagged)
        vlan = np.uint64(VLAN_BASE) + sight.customer if tagged else np.zeros(count, np.uint64)
        prefixes = sight.prefixes
        next_hop = next_hop_v6(sight) if flows.v6[0] else pack(count, (4, next_hop_v4(sight)))
        records = [
            sflow.raw_header(header, frame_bytes),
            sflow.extended_switch(count, vlan, vlan),
            sflow.extended_router(
                count,
                next_hop,
                prefixes.length[flows.src_prefix],
                prefixes.length[flows.dst_prefix],
            ),
            self._gateway(sight, next_hop),
        ]
        rate = np.uint64(self.spec.sampling)
        rows = sflow.flow_samples(
            records,
            sequence=number & _MASK32,
            source_index=sight.in_iface,
            rate=self.spec.sampling,
            pool=number * rate & _MASK32,
            input_if=sight.in_iface,
            output_if=sight.out_iface,
            expanded=self.expanded,
        )
        octets = frame_bytes.astype(np.uint64)
        for direction, iface in enumerate((sight.in_iface, sight.out_iface)):
            np.add.at(self._traffic[direction], iface.astype(np.int64), octets * rate)
            np.add.at(self._traffic[2 + direction], iface.astype(np.int64), rate)
        return rows, self._frame_truth(sight, octets)

    def _frame_truth(self, sight: Sight, octets: U64) -> Truth:
        known = self.truth(sight)
        columns = {name: getattr(known, name) for name in known.__slots__}
        return Truth.of(
            len(known), **{**columns, "packets": 1, "octets": octets, "start_ms": 0, "end_ms": 0}
        )

    @staticmethod
    def _gateway(sight: Sight, next_hop: Bytes) -> Bytes:
        """BGP data: a path of transit and origin to the internet, none to a customer."""
        outbound = bool(sight.flows.outbound[0])
        transit = np.uint64(TRANSIT_AS) + np.where(outbound, sight.out_iface, sight.in_iface)
        return sflow.extended_gateway(
            len(sight.flows),
            next_hop,
            own_as=LOCAL_AS,
            src_as=sight.src_as,
            src_peer_as=0 if outbound else transit,
            as_path=(transit, sight.dst_as) if outbound else (),
            communities=(LOCAL_AS << 16 | 100, LOCAL_AS << 16 | 200),
        )

    def _counters(self) -> Bytes:
        """Counter samples of all interfaces."""
        iface = np.array([*self.spec.interfaces], np.int64)
        self._counter_samples[iface] += np.uint64(1)
        octets_in, octets_out, packets_in, packets_out = self._traffic[:, iface]
        records = [
            sflow.generic_counters(
                len(iface),
                index=iface,
                type=6,
                speed=SPEED,
                direction=1,
                status=3,
                in_octets=octets_in,
                in_unicast=packets_in & _MASK32,
                out_octets=octets_out,
                out_unicast=packets_out & _MASK32,
            ),
            sflow.ethernet_counters(len(iface), fcs_errors=iface % 3),
        ]
        return sflow.counter_samples(
            records,
            sequence=self._counter_samples[iface],
            source_index=iface,
            expanded=self.expanded,
        )

    def _datagrams(self, samples: list[bytes], now_ms: int) -> Iterator[bytes]:
        """As many samples as fit to a datagram."""
        room = MAX_PAYLOAD - 24 - len(self.address)
        batch: list[bytes] = []
        size = 0
        for sample in [*samples, b""]:
            if batch and (not sample or size + len(sample) > room):
                self.sequence += 1
                yield sflow.datagram(
                    self.address, batch, sequence=self.sequence, uptime_ms=now_ms - self.boot_ms
                )
                batch, size = [], 0
            batch.append(sample)
            size += len(sample)


def frame(sight: Sight, tagged: bool) -> tuple[Bytes, I64]:
    """Sampled headers (n, bytes) of flows of one layout, and frame lengths with FCS (n,)."""
    flows, count = sight.flows, len(sight.flows)
    transport = int(flows.proto[0])
    l4_bytes = _L4_BYTES.get(transport, 8)
    v6 = bool(flows.v6[0])
    l3_bytes = 40 if v6 else 20
    mean = (flows.octets // flows.packets).astype(np.int64)
    ip_bytes = np.maximum(mean, l3_bytes + l4_bytes + PAYLOAD_BYTES)
    layers = [
        *_link(sight, tagged, v6),
        _network(flows, ip_bytes, v6),
        _transport(flows, ip_bytes - l3_bytes),
    ]
    header = frames.stack(*layers, frames.filler(count, PAYLOAD_BYTES))
    return header, ip_bytes + (18 if tagged else 14) + sflow.FCS_BYTES


def _link(sight: Sight, tagged: bool, v6: bool) -> list[Bytes]:
    count = len(sight.flows)
    ethertype = frames.ETHERTYPE_V6 if v6 else frames.ETHERTYPE_V4
    source = np.uint64(PEER_MAC) + sight.in_iface
    if not tagged:
        return [frames.ethernet(count, ROUTER_MAC, source, ethertype)]
    vlan = np.uint64(VLAN_BASE) + sight.customer
    return [
        frames.ethernet(count, ROUTER_MAC, source, frames.ETHERTYPE_VLAN),
        frames.vlan_tag(count, vlan.astype(np.int64), ethertype),
    ]


def _network(flows: Flows, ip_bytes: I64, v6: bool) -> Bytes:
    count = len(flows)
    if not v6:
        return frames.ipv4(
            count,
            src=address4(flows.src_lo),
            dst=address4(flows.dst_lo),
            proto=flows.proto,
            total_length=ip_bytes,
            tos=flows.tos,
        )
    return frames.ipv6(
        count,
        src=pack(count, (8, flows.src_hi), (8, flows.src_lo)),
        dst=pack(count, (8, flows.dst_hi), (8, flows.dst_lo)),
        next_header=flows.proto,
        payload_length=ip_bytes - 40,
        traffic_class=flows.tos,
    )


def _transport(flows: Flows, l4_bytes: I64) -> Bytes:
    count = len(flows)
    ports = {"src_port": flows.src_port, "dst_port": flows.dst_port}
    match int(flows.proto[0]):
        case frames.TCP:
            return frames.tcp(count, flags=flows.tcpflags, **ports)
        case frames.UDP:
            return frames.udp(count, length=l4_bytes, **ports)
        case _:
            return np.zeros((count, 8), np.uint8)
