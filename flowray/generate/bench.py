"""Traffic for measuring: millions of records in seconds, equal packets, a known number of keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.generate import elements as e
from flowray.generate import encode, sflow
from flowray.generate.elements import columns
from flowray.generate.encode import TemplateSpec
from flowray.generate.exporters import (
    NS_PER_MS,
    NS_PER_S,
    ExporterSpec,
    IpfixExporter,
    Netflow5Exporter,
    Netflow9Exporter,
    Style,
    TemplateExporter,
    fill,
)
from flowray.generate.population import Flows, Population
from flowray.generate.rows import I64, Bytes, Datagrams, Records
from flowray.generate.samples import SflowExporter
from flowray.generate.traffic import START_NS
from flowray.generate.truth import Truth

BENCH_TEMPLATE = e.template(256, 8, 12, 7, 11, 4, 5, 6, 10, 14, 9, 13, 16, 17, 15, 1, 2, 152, 153)
"""The 18 fields that figures are quoted for: 69 bytes a record, 1400 bytes a packet of 20."""

Mask: TypeAlias = npt.NDArray[np.bool_]

MAX_PAYLOAD = 1472
ZIPF = 0.8
CHUNK_RECORDS = 400_000
MAX_FLOW_SECONDS = 30

MIX: dict[str, float] = {
    "ipfix": 0.40,
    "ipfix-v6": 0.15,
    "ipfix-mpls": 0.10,
    "ipfix-text": 0.02,
    "v9": 0.15,
    "v9-v6": 0.05,
    "v5": 0.05,
    "sflow": 0.08,
}
"""A mixture of everything, for `bench_traffic(mix=MIX)`."""

_IPFIX_OPTIONS = (e.OPTIONS_SELECTOR, e.OPTIONS_INTERFACES)
_PE_OPTIONS = (e.OPTIONS_DOMAIN, e.OPTIONS_INTERFACES, e.OPTIONS_VRFS)
_V9_OPTIONS = (e.V9_OPTIONS_SAMPLER, e.V9_OPTIONS_INTERFACES)


@dataclass(frozen=True, slots=True)
class Stream:
    """One exporter's part: which key each record has, and when its packets are sent."""

    keys: Flows
    index: I64
    per_packet: int
    template_every: int
    start_ns: int
    span_ns: int
    rng: np.random.Generator
    truth: list[Truth] | None = None

    def note(self, known: Truth) -> None:
        """Keep the truth if it is wanted."""
        if self.truth is not None:
            self.truth.append(known)

    def times(self, packets: int) -> I64:
        """Sending times of `packets` packets, evenly spread: (packets,) ns."""
        place = (np.arange(packets) + 0.5) / packets
        return self.start_ns + (place * self.span_ns).astype(np.int64)

    def flows(self, first: int, stop: int, time_ns: I64) -> Flows:
        """Records first..stop-1 with their own counters and times; sent at `time_ns` (n,)."""
        rng, count = self.rng, stop - first
        keys = self.keys.take(self.index[first:stop])
        packets = rng.geometric(0.1, count).astype(np.uint64)
        end = time_ns // NS_PER_S * 1000 - rng.integers(0, 1000, count)
        return replace(
            keys,
            packets=packets,
            octets=packets * (keys.octets // keys.packets),
            start_ms=end - rng.integers(0, MAX_FLOW_SECONDS * 1000, count),
            end_ms=end,
        )

    def chunks(self, per_packet: int, times: I64) -> Iterator[tuple[int, int, Flows, I64]]:
        """Runs of equal packets: (first packet, records a packet, flows, sending times)."""
        full, rest = divmod(len(self.index), per_packet)
        step = max(1, CHUNK_RECORDS // per_packet)
        runs = [(p, min(p + step, full), per_packet) for p in range(0, full, step)]
        for first, stop, size in [*runs, *([(full, full + 1, rest)] if rest else [])]:
            begin = first * per_packet
            sent = times[first:stop]
            flows = self.flows(begin, begin + (stop - first) * size, np.repeat(sent, size))
            yield first, size, flows, sent


def bench_traffic(
    records: int = 4_000_000,
    records_per_packet: int = 20,
    distinct: int = 63_000,
    seed: int = 1,
    *,
    mix: Mapping[str, float] | None = None,
    exporters: int = 1,
    first_address: str = "192.0.2.1",
    template_every: int = 1000,
    start_ns: int = START_NS,
    span_s: float = 60.0,
    truth: list[Truth] | None = None,
) -> Datagrams:
    """`records` data records over `distinct` flow keys (5-tuples), in order of time, over `span_s`.

    Without `mix`: IPFIX with `BENCH_TEMPLATE` only, unsampled. With it: shares of `SHAPES` (as in
    `MIX`), each from exporters of its own that announce sampling and interface names in options
    data; keys are shared out in proportion. `exporters` is per shape. Templates go first and again
    every `template_every` packets of an exporter. Packets that would pass 1472 bytes have fewer
    records. Truth is appended to `truth` if given (128 bytes a record).

    Raises ValueError for a shape that is not known.
    """
    weights = {"bench": 1.0} if mix is None else dict(mix)
    if unknown := weights.keys() - SHAPES.keys():
        raise ValueError(f"shapes: found {sorted(unknown)}, allowed {sorted(SHAPES)}")
    people = Population(seed)
    share = np.array([*weights.values()]) / sum(weights.values())
    bounds = np.round(np.cumsum([0.0, *share]) * records).astype(int).tolist()
    key_bounds = np.round(np.cumsum([0.0, *share]) * distinct).astype(int).tolist()
    parts: list[Datagrams] = []
    addresses: list[str] = []
    for number, name in enumerate(weights):
        shape = SHAPES[name]
        rng = np.random.default_rng([seed, number, 2])
        keys = _keys(people, rng, max(1, key_bounds[number + 1] - key_bounds[number]), shape)
        index = _drawn(rng, len(keys), bounds[number + 1] - bounds[number])
        for i in range(exporters):
            address = str(ip_address(first_address) + len(addresses))
            spec = ExporterSpec(name, address, domain=number, sampling=shape.sampling)
            stream = Stream(
                keys,
                index[i::exporters],
                records_per_packet,
                template_every,
                start_ns,
                int(span_s * NS_PER_S),
                rng,
                truth,
            )
            made = shape.encode(shape.build(spec, people, start_ns), stream)
            parts.extend(_marked(part, len(addresses)) for part in made)
            addresses.append(address)
    joined = Datagrams.joined(parts, tuple(addresses))
    return joined.take(np.argsort(joined.time_ns, kind="stable"))


def _marked(part: Datagrams, exporter: int) -> Datagrams:
    return replace(part, exporter=np.full(len(part), exporter, np.uint32))


def _keys(people: Population, rng: np.random.Generator, count: int, shape: Shape) -> Flows:
    """`count` flows with different 5-tuples that fit the shape."""
    flows = people.draw(rng, 0, 0)
    while len(flows) < count:
        more = people.draw(rng, 2 * count + 100, 0, v6_share=float(shape.v6))
        flows = Flows.joined(flows, more.take(shape.fits(more)))
        columns = (flows.src_hi, flows.src_lo, flows.dst_hi, flows.dst_lo)
        ports = flows.src_port << np.uint64(24) | flows.dst_port << np.uint64(8) | flows.proto
        order = np.unique(np.stack([*columns, ports], axis=1), axis=0, return_index=True)[1]
        flows = flows.take(np.sort(order))
    return flows.take(slice(0, count))


def _drawn(rng: np.random.Generator, keys: int, count: int) -> I64:
    """Key of each of `count` records: every key once if there is room, the rest by popularity."""
    every = rng.permutation(keys)[:count]
    weight = np.cumsum(np.arange(1, keys + 1, dtype=np.float64) ** -ZIPF)
    rest = np.searchsorted(weight / weight[-1], rng.random(count - len(every)))
    return np.concatenate([every, np.minimum(rest, keys - 1)])


def _equal(matrix: Bytes, time_ns: I64) -> Datagrams:
    """Datagrams of one size from a matrix (n, size)."""
    count, size = matrix.shape
    offset = np.arange(count, dtype=np.int64) * size
    length = np.full(count, size, np.int64)
    return Datagrams(matrix.reshape(-1), offset, length, np.zeros(count, np.uint32), time_ns)


def _listed(payloads: list[bytes], time_ns: list[int]) -> Datagrams:
    return replace(Datagrams.of(payloads), time_ns=np.array(time_ns, np.int64))


# One encoder for each way of making datagrams


def _template_stream(exporter: TemplateExporter, stream: Stream) -> Iterator[Datagrams]:
    """v9 or IPFIX of one template whose records have one size: whole chunks at a time."""
    (template,) = exporter.style.v4 + exporter.style.v6
    room = MAX_PAYLOAD - exporter.header_bytes
    size = min(stream.per_packet, (room - encode.SET_HEADER - 3) // template.record_bytes)
    packets = -(-len(stream.index) // size)
    times, every = stream.times(packets), stream.template_every
    announced = [*fill(exporter.template_sets(), exporter.options(), room)]
    per_round = sum(exporter.step(message.data) for message in announced)
    payloads, sent = [], []
    for first in range(0, packets, every):
        exporter.sequence = first * exporter.step(size) + per_round * (first // every)
        payloads += [exporter.datagram(message, int(times[first])) for message in announced]
        sent += [int(times[first])] * len(announced)
    yield _listed(payloads, sent)
    for first, count, flows, at in stream.chunks(size, times):
        sight = exporter.sight(flows)
        rows = encode.encode_records(template, columns(template, sight)).data
        number = first + np.arange(len(at))
        sequence = number * exporter.step(size) + per_round * (1 + number // every)
        body = count * template.record_bytes
        body += encode.SET_HEADER + len(encode.padding(body))
        headers = exporter.headers(at, sequence, count, body)
        stream.note(exporter.truth(sight))
        yield _equal(encode.set_packets(headers, template.id, rows), at)


def _text_stream(exporter: TemplateExporter, stream: Stream) -> Iterator[Datagrams]:
    """Records of varying size, packet by packet; long ones make a few packets more."""
    (template,) = exporter.style.v4 + exporter.style.v6
    room = MAX_PAYLOAD - exporter.header_bytes
    size = min(stream.per_packet, 12)
    times = stream.times(-(-len(stream.index) // size))
    for first, count, flows, at in stream.chunks(size, times):
        sight = exporter.sight(flows)
        records = encode.encode_records(template, columns(template, sight))
        payloads, sent = [], []
        for i, now_ns in enumerate(at.tolist()):
            own = Records(records.data, records.offset[i * count : (i + 1) * count + 1])
            due = (first + i) % stream.template_every == 0
            announced = fill(exporter.template_sets(), exporter.options(), room) if due else ()
            for message in (*announced, *fill((), [(template, own)], room)):
                payloads.append(exporter.datagram(message, now_ns))
                sent.append(now_ns)
        stream.note(exporter.truth(sight))
        yield _listed(payloads, sent)


def _v5_stream(exporter: Netflow5Exporter, stream: Stream) -> Iterator[Datagrams]:
    """NetFlow v5."""
    size = min(stream.per_packet, encode.V5_MAX_RECORDS)
    times = stream.times(-(-len(stream.index) // size))
    for first, count, flows, at in stream.chunks(size, times):
        sight = exporter.sight(flows)
        headers = exporter.headers(at, (first + np.arange(len(at))) * size, count)
        stream.note(exporter.truth(sight))
        yield _equal(encode.v5_packets(headers, exporter.records(sight)), at)


def _sflow_stream(exporter: SflowExporter, stream: Stream) -> Iterator[Datagrams]:
    """sFlow, five flow samples of one layout to a datagram."""
    size = min(stream.per_packet, 5)
    times = stream.times(-(-len(stream.index) // size))
    for first, count, flows, at in stream.chunks(size, times):
        sight = exporter.sight(flows)
        rows, known = exporter.samples(sight, exporter.numbered(sight))
        headers = sflow.datagram_headers(
            len(at),
            exporter.address,
            sequence=first + 1 + np.arange(len(at)),
            uptime_ms=at // NS_PER_MS - exporter.boot_ms,
            samples=count,
        )
        stream.note(known)
        yield _equal(np.concatenate([headers, rows.reshape(len(at), -1)], axis=1), at)


# The shapes


def _all(flows: Flows) -> Mask:
    return np.ones(len(flows), np.bool_)


def _plain_tcp(flows: Flows) -> Mask:
    """Flows whose sFlow samples have one layout: TCP from a customer on an untagged port."""
    fits: Mask = (flows.proto == 6) & flows.outbound & (flows.src_prefix % 2 == 0)
    return fits


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of exporter for measuring, and how its datagrams are made."""

    build: Callable[[ExporterSpec, Population, int], Any]
    encode: Callable[[Any, Stream], Iterator[Datagrams]] = _template_stream
    v6: bool = False
    sampling: int = 1000
    fits: Callable[[Flows], Mask] = _all


def _ipfix(template: TemplateSpec, *options: TemplateSpec) -> Callable[..., IpfixExporter]:
    return partial(IpfixExporter, style=Style(v4=(template,), v6=(), options=options))


def _v9(template: TemplateSpec, *options: TemplateSpec) -> Callable[..., Netflow9Exporter]:
    return partial(Netflow9Exporter, style=Style(v4=(template,), v6=(), options=options))


SHAPES: dict[str, Shape] = {
    "bench": Shape(_ipfix(BENCH_TEMPLATE), sampling=1),
    "ipfix": Shape(_ipfix(e.IPFIX_V4, *_IPFIX_OPTIONS)),
    "ipfix-v6": Shape(_ipfix(e.IPFIX_V6, *_IPFIX_OPTIONS), v6=True),
    "ipfix-mpls": Shape(_ipfix(e.IPFIX_MPLS, *_PE_OPTIONS)),
    "ipfix-text": Shape(_ipfix(e.IPFIX_TEXT, *_IPFIX_OPTIONS), encode=_text_stream),
    "v9": Shape(_v9(e.V9_V4, *_V9_OPTIONS)),
    "v9-v6": Shape(_v9(e.V9_V6, *_V9_OPTIONS), v6=True),
    "v5": Shape(Netflow5Exporter, encode=_v5_stream),
    "sflow": Shape(SflowExporter, encode=_sflow_stream, fits=_plain_tcp),
}
"""Shapes of datagrams by name."""
