"""Encoders of NetFlow v5, NetFlow v9 (RFC 3954) and IPFIX (RFC 7011); sFlow v5 is in `sflow.py`.

They share nothing with the decoders, so that tests can set one against the other. Records are built
a template at a time (one structured array for all of them), messages either one by one from sets or
as a matrix of equal packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.generate.rows import Bytes, Records, Value, pack

VARIABLE = 65535
"""Field length that announces a variable-length element (RFC 7011 section 7)."""

FieldSpec: TypeAlias = tuple[int, int, int]
"""(element id, length in bytes, PEN or 0)."""

Strings: TypeAlias = Sequence[bytes]
Column: TypeAlias = Value | Strings
"""Values of one field: as for `pack`; for a variable-length field one byte string per record."""

V9_TEMPLATES, V9_OPTIONS = 0, 1
IPFIX_TEMPLATES, IPFIX_OPTIONS = 2, 3
V5_HEADER, V5_RECORD, V5_MAX_RECORDS = 24, 48, 30
V9_HEADER, IPFIX_HEADER, SET_HEADER = 20, 16, 4


@dataclass(frozen=True, slots=True)
class TemplateSpec:
    """A template: fields in wire order; an options template if `scope_count`, its scopes first.

    In a v9 options template the scope fields' elements are scope types (1 system ... 5 template,
    RFC 3954 section 6.1).
    """

    id: int
    fields: tuple[FieldSpec, ...]
    scope_count: int = 0

    @property
    def variable(self) -> bool:
        """Whether records differ in size."""
        return any(length == VARIABLE for _, length, _ in self.fields)

    @property
    def record_bytes(self) -> int:
        """Size of a record. Raises ValueError if it varies."""
        if self.variable:
            raise ValueError(f"template {self.id} has variable-length fields")
        return sum(length for _, length, _ in self.fields)


def padding(size: int, boundary: int = 4) -> bytes:
    """Zero bytes up to the next multiple of `boundary`."""
    return bytes(-size % boundary)


# Sets


def flow_set(set_id: int, body: bytes, boundary: int = 4) -> bytes:
    """A set (FlowSet in v9) with its header, padded to `boundary` bytes; 1 = no padding."""
    body += padding(len(body), boundary)
    return pack(1, (2, set_id), (2, SET_HEADER + len(body))).tobytes() + body


def data_set(template: TemplateSpec, records: Records, boundary: int = 4) -> bytes:
    """All records in one data set."""
    return flow_set(template.id, records.data.tobytes(), boundary)


def _field_specs(fields: Sequence[FieldSpec]) -> bytes:
    out = bytearray()
    for element, length, pen in fields:
        out += pack(1, (2, element | (0x8000 if pen else 0)), (2, length)).tobytes()
        out += pen.to_bytes(4, "big") if pen else b""
    return bytes(out)


def ipfix_template_set(*templates: TemplateSpec) -> bytes:
    """Template set (RFC 7011 section 3.4.1)."""
    return flow_set(
        IPFIX_TEMPLATES,
        b"".join(
            pack(1, (2, t.id), (2, len(t.fields))).tobytes() + _field_specs(t.fields)
            for t in templates
        ),
    )


def ipfix_options_template_set(*templates: TemplateSpec) -> bytes:
    """Options template set with scope counts (RFC 7011 section 3.4.2)."""
    return flow_set(
        IPFIX_OPTIONS,
        b"".join(
            pack(1, (2, t.id), (2, len(t.fields)), (2, t.scope_count)).tobytes()
            + _field_specs(t.fields)
            for t in templates
        ),
    )


def ipfix_withdrawal_set(*template_ids: int, options: bool = False) -> bytes:
    """Withdrawal of templates (RFC 7011 section 8.1); without ids, of all templates of the kind."""
    set_id = IPFIX_OPTIONS if options else IPFIX_TEMPLATES
    ids = template_ids or (set_id,)
    return flow_set(set_id, b"".join(pack(1, (2, i), (2, 0)).tobytes() for i in ids))


def v9_template_set(*templates: TemplateSpec) -> bytes:
    """Template FlowSet (RFC 3954 section 5.2)."""
    return flow_set(
        V9_TEMPLATES,
        b"".join(
            pack(1, (2, t.id), (2, len(t.fields))).tobytes() + _field_specs(t.fields)
            for t in templates
        ),
    )


def v9_options_template_set(*templates: TemplateSpec) -> bytes:
    """Options template FlowSet: scope and option lengths are in bytes (RFC 3954 section 6.1)."""
    return flow_set(
        V9_OPTIONS,
        b"".join(
            pack(
                1,
                (2, t.id),
                (2, 4 * t.scope_count),
                (2, 4 * (len(t.fields) - t.scope_count)),
            ).tobytes()
            + _field_specs(t.fields)
            for t in templates
        ),
    )


# Records


def encode_records(
    template: TemplateSpec, columns: Sequence[Column], *, long_lengths: bool = False
) -> Records:
    """Encode n records, `columns[i]` holding the n values of `template.fields[i]`.

    Integers are written in the length of the field, so a shorter length is RFC 7011's reduced-size
    encoding. `long_lengths` writes variable lengths below 255 in the 3-byte form too. Raises
    ValueError if a value does not fit, or if no column tells the number of records.
    """
    count = _count(columns)
    sizes = [length for _, length, _ in template.fields]
    if not template.variable:
        fixed: list[tuple[int, Any]] = list(zip(sizes, columns, strict=True))
        return Records.of(pack(count, *fixed))
    parts: list[Bytes] = []
    masks: list[npt.NDArray[np.bool_]] = []
    for size, column in zip(sizes, columns, strict=True):
        if size == VARIABLE:
            matrix, mask = _variable(column, long_lengths)
        else:
            matrix = pack(count, (size, column))  # type: ignore[arg-type]
            mask = np.ones(matrix.shape, np.bool_)
        parts.append(matrix)
        masks.append(mask)
    matrix, mask = np.concatenate(parts, axis=1), np.concatenate(masks, axis=1)
    offset = np.zeros(count + 1, np.int64)
    np.cumsum(mask.sum(axis=1), out=offset[1:])
    return Records(matrix[mask], offset)


def _count(columns: Sequence[Column]) -> int:
    for column in columns:
        if not isinstance(column, int | bytes):
            return len(column)
    raise ValueError("all columns are scalars: give at least one as an array")


def _variable(column: Column, long_lengths: bool) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Length prefix and bytes of a variable-length column, and which cells are on the wire."""
    if isinstance(column, int | bytes):
        raise TypeError("a variable-length field takes one byte string per record")
    values = [bytes(value) for value in column]
    count = len(values)
    length = np.fromiter(map(len, values), np.int64, count)
    width = max(int(length.max(initial=0)), 1)
    text = np.array(values, dtype=f"S{width}").view(np.uint8).reshape(count, width)
    long = (length >= 255) | long_lengths
    prefix = pack(count, (1, np.where(long, 255, length)), (2, length))
    matrix = np.concatenate([prefix, text], axis=1)
    on_wire = np.arange(width) < length[:, None]
    shown = np.stack([np.ones(count, np.bool_), long, long], axis=1)
    return matrix, np.concatenate([shown, on_wire], axis=1)


# Messages


def ipfix_message(sets: Sequence[bytes], *, export_time: int, sequence: int, domain: int) -> bytes:
    """An IPFIX message. `sequence`: data records sent before in the domain; time in seconds."""
    body = b"".join(sets)
    header = ipfix_headers(1, len(body), export_time, sequence & 0xFFFFFFFF, domain)
    return header.tobytes() + body


def ipfix_headers(
    count: int, body_bytes: int, export_time: Value, sequence: Value, domain: int
) -> Bytes:
    """`count` message headers (RFC 7011 section 3.1), (count, 16)."""
    size = IPFIX_HEADER + body_bytes
    return pack(count, (2, 10), (2, size), (4, export_time), (4, sequence), (4, domain))


def v9_message(
    sets: Sequence[bytes],
    *,
    count: int,
    uptime_ms: int,
    unix_secs: int,
    sequence: int,
    source_id: int,
) -> bytes:
    """A NetFlow v9 packet. `count`: all records, templates too; `sequence`: packets before."""
    header = v9_headers(1, count, uptime_ms, unix_secs, sequence & 0xFFFFFFFF, source_id)
    return header.tobytes() + b"".join(sets)


def v9_headers(
    count: int, records: int, uptime_ms: Value, unix_secs: Value, sequence: Value, source_id: int
) -> Bytes:
    """`count` packet headers (RFC 3954 section 5.1), (count, 20)."""
    return pack(
        count,
        (2, 9),
        (2, records),
        (4, uptime_ms),
        (4, unix_secs),
        (4, sequence),
        (4, source_id),
    )


def set_packets(headers: Bytes, set_id: int, records: Bytes, boundary: int = 4) -> Bytes:
    """Equal packets of one data set each, (packets, bytes) uint8.

    `headers` is (packets, header bytes), `records` (packets * k, size): k records to a packet.
    """
    packets = len(headers)
    body = records.reshape(packets, -1)
    pad = padding(body.shape[1], boundary)
    set_header = pack(packets, (2, set_id), (2, SET_HEADER + body.shape[1] + len(pad)))
    return np.concatenate(
        [headers, set_header, body, np.zeros((packets, len(pad)), np.uint8)], axis=1
    )


# NetFlow v5


def v5_records(
    count: int,
    *,
    src: Value,
    dst: Value,
    next_hop: Value = 0,
    in_iface: Value = 0,
    out_iface: Value = 0,
    packets: Value = 1,
    octets: Value = 1,
    first_ms: Value = 0,
    last_ms: Value = 0,
    src_port: Value = 0,
    dst_port: Value = 0,
    tcpflags: Value = 0,
    proto: Value = 0,
    tos: Value = 0,
    src_as: Value = 0,
    dst_as: Value = 0,
    src_mask: Value = 0,
    dst_mask: Value = 0,
) -> Bytes:
    """NetFlow v5 records, (count, 48). Addresses are 32-bit integers, times ms of uptime."""
    return pack(
        count,
        *((4, src), (4, dst), (4, next_hop), (2, in_iface), (2, out_iface), (4, packets)),
        *((4, octets), (4, first_ms), (4, last_ms), (2, src_port), (2, dst_port), (1, 0)),
        *((1, tcpflags), (1, proto), (1, tos), (2, src_as), (2, dst_as), (1, src_mask)),
        *((1, dst_mask), (2, 0)),
    )


def v5_headers(
    count: int,
    records: int,
    *,
    uptime_ms: Value,
    unix_secs: Value,
    unix_nsecs: Value = 0,
    sequence: Value = 0,
    engine_type: int = 0,
    engine_id: int = 0,
    sampling_mode: int = 0,
    sampling_interval: int = 0,
) -> Bytes:
    """NetFlow v5 headers, (count, 24). `sequence`: flows sent before.

    Raises ValueError for a number of records or an interval that the format cannot hold.
    """
    if not 0 < records <= V5_MAX_RECORDS:
        raise ValueError(f"a v5 packet has 1 to {V5_MAX_RECORDS} records, not {records}")
    if not 0 <= sampling_interval < 1 << 14:
        raise ValueError(f"a v5 sampling interval has 14 bits, {sampling_interval} does not fit")
    return pack(
        count,
        *((2, 5), (2, records), (4, uptime_ms), (4, unix_secs), (4, unix_nsecs), (4, sequence)),
        *((1, engine_type), (1, engine_id), (2, sampling_mode << 14 | sampling_interval)),
    )


def v5_packets(headers: Bytes, records: Bytes) -> Bytes:
    """Equal packets (packets, bytes): `headers` (packets, 24), `records` (packets * k, 48)."""
    return np.concatenate([headers, records.reshape(len(headers), -1)], axis=1)
