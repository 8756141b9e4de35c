"""Messages from our own encoders through an in-process replay: rows by JSON key, and the ledger."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from flowray.generate.encode import (
    VARIABLE,
    FieldSpec,
    TemplateSpec,
    data_set,
    encode_records,
    ipfix_message,
    ipfix_options_template_set,
    ipfix_template_set,
    v9_message,
    v9_options_template_set,
    v9_template_set,
)
from flowray.ingest.ledger import totals
from flowray.replay import Replay
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.sinks.render import render
from flowray.wire.packets import PacketBatch

Datum: TypeAlias = int | str | bytes
"""Value of a field: a number, an address, or octets."""

Row: TypeAlias = dict[str, Any]

T0 = 1_700_000_000
"""Export time, seconds."""

UPTIME = 5_000_000
"""Uptime of NetFlow v9 exporters, ms."""

EXPORTER = "192.0.2.1"
KEYS = ["ip_src", "ip_dst", "port_src", "port_dst", "ip_proto"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One row per record, in the order of arrival, and the accounts of all exporters."""

    rows: list[Row]
    accounts: dict[str, int]

    def column(self, key: str) -> list[Any]:
        return [row[key] for row in self.rows]

    @property
    def only(self) -> Row:
        """The one row there is."""
        (row,) = self.rows
        return row


@dataclass(frozen=True, slots=True)
class Sent:
    """A datagram and who sent it."""

    payload: bytes
    exporter: str = EXPORTER


def decode(
    *datagrams: bytes | Sent,
    keys: Sequence[str] = KEYS,
    maps: dict[str, str] | None = None,
    renormalise: bool = False,
    **settings: Any,
) -> Decoded:
    """Decode datagrams one by one, and all in one batch: the rows must be the same."""
    sent = [d if isinstance(d, Sent) else Sent(d) for d in datagrams]
    configuration = {
        "decode": settings,
        "maps": maps or {},
        "views": [
            {
                "name": "all",
                "keys": list(keys),
                "renormalise": renormalise,
                "encoding": {
                    "protocols": "number",
                    "tcp_flags": "int",
                    "timestamps": "epoch",
                    "precision": "ms",
                },
            }
        ],
    }
    alone = _run(configuration, [[d] for d in sent])
    together = _run(configuration, [sent])
    assert sorted(map(_canonical, alone.rows)) == sorted(map(_canonical, together.rows))
    return alone


def _canonical(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


def _run(configuration: dict[str, Any], batches: Sequence[Sequence[Sent]]) -> Decoded:
    program = compile_settings(parse_settings(configuration, "test"), "test")
    sink = MemorySink()
    replay = Replay(program, lambda _view, _partition: [sink])
    for n, batch in enumerate(batches):
        replay.feed(_packets(replay, batch, n))
    summary = replay.finish()
    assert summary.problems == []
    fields, encoding = program.output_fields("all"), program.encoding("all")
    rows = [r for t in sink.tables.values() for r in render(t, fields, encoding).to_pylist()]
    return Decoded(rows, totals(summary.ledger))


def _packets(replay: Replay, sent: Sequence[Sent], n: int) -> PacketBatch:
    length = np.array([len(d.payload) for d in sent], np.int64)
    exporters = [replay.collector.exporters.intern_one(d.exporter) for d in sent]
    return PacketBatch(
        np.frombuffer(b"".join(d.payload for d in sent), np.uint8).copy(),
        np.cumsum(length) - length,
        length,
        np.array(exporters, np.uint32),
        np.full(len(sent), (T0 + n) * 10**9, np.int64),
    )


# -- shorthand for the encoders


def template(number: int, *fields: FieldSpec | tuple[int, int], scopes: int = 0) -> TemplateSpec:
    """A template of (element, length) or (element, length, PEN) fields."""
    full = [(f[0], f[1], f[2] if len(f) > 2 else 0) for f in fields]
    return TemplateSpec(number, tuple(full), scopes)


def data(spec: TemplateSpec, *records: Sequence[Datum], long_lengths: bool = False) -> bytes:
    """A data set of the records."""
    return data_set(spec, encode(spec, *records, long_lengths=long_lengths))


def encode(spec: TemplateSpec, *records: Sequence[Datum], long_lengths: bool = False) -> Any:
    """The records of a template as the encoder makes them."""
    columns: list[Any] = []
    for (_, length, _), values in zip(spec.fields, zip(*records, strict=True), strict=True):
        if length == VARIABLE:
            columns.append([_octets(v, None) for v in values])
        else:
            raw = b"".join(_octets(v, length) for v in values)
            columns.append(np.frombuffer(raw, np.uint8).reshape(len(values), length))
    return encode_records(spec, columns, long_lengths=long_lengths)


def _octets(value: Datum, length: int | None) -> bytes:
    if isinstance(value, str):
        return ipaddress.ip_address(value).packed
    if isinstance(value, int):
        return value.to_bytes(1 if length is None else length)
    return value if length is None else value.ljust(length, b"\0")


@dataclass(slots=True)
class Ipfix:
    """An IPFIX exporter's domain: numbers its messages by records."""

    domain: int = 0
    sequence: int = 0
    time: int = T0
    known: set[TemplateSpec] = field(default_factory=set)

    def message(self, *sets: bytes, records: int = 0) -> bytes:
        made = ipfix_message(
            sets, export_time=self.time, sequence=self.sequence, domain=self.domain
        )
        self.sequence += records
        return made

    def tell(self, *specs: TemplateSpec) -> bytes:
        """A message with templates."""
        plain = [s for s in specs if not s.scope_count]
        options = [s for s in specs if s.scope_count]
        sets = [ipfix_template_set(*plain)] if plain else []
        return self.message(*sets, *([ipfix_options_template_set(*options)] if options else []))

    def send(self, spec: TemplateSpec, *records: Sequence[Datum], **how: bool) -> bytes:
        """A message with records; the first one also tells the template."""
        sets = [data(spec, *records, **how)]
        if spec not in self.known:
            tell = ipfix_options_template_set if spec.scope_count else ipfix_template_set
            sets.insert(0, tell(spec))
            self.known.add(spec)
        return self.message(*sets, records=len(records))


@dataclass(slots=True)
class V9:
    """A NetFlow v9 exporter's source id: numbers its packets."""

    domain: int = 0
    sequence: int = 0
    uptime: int = UPTIME
    time: int = T0
    known: set[TemplateSpec] = field(default_factory=set)

    def message(self, *sets: bytes, count: int = 1) -> bytes:
        made = v9_message(
            sets,
            count=count,
            uptime_ms=self.uptime,
            unix_secs=self.time,
            sequence=self.sequence,
            source_id=self.domain,
        )
        self.sequence += 1
        return made

    def send(self, spec: TemplateSpec, *records: Sequence[Datum]) -> bytes:
        """A packet with records; the first one also tells the template."""
        sets = [data(spec, *records)]
        if spec not in self.known:
            tell = v9_options_template_set if spec.scope_count else v9_template_set
            sets.insert(0, tell(spec))
            self.known.add(spec)
        return self.message(*sets, count=len(records))


FLOW = template(256, (8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (2, 4), (1, 4))
"""Addresses, ports, protocol, packets, octets."""


def flow(n: int = 1, *, packets: int = 2, octets: int = 100) -> tuple[Datum, ...]:
    """A record of FLOW, told by its source port."""
    return "10.0.0.1", "10.0.0.2", n, 80, 6, packets, octets
