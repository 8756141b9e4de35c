"""Rendering one row at a time in plain Python, and native tables from plain rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pyarrow as pa

from flowray.arrow import arrow_type
from flowray.field import Field, Kind, Source
from flowray.fields import REGISTRY
from flowray.protocols import NAMES
from flowray.sinks.encoding import Encoding

Row = Mapping[str, Any]
"""Native values by primitive name: bytes for addresses and interned kinds, else int."""

MAPPED = bytes(10) + b"\xff\xff"
COUNTERS = ("packets", "flows", "bytes")
RANK = {name: i for i, name in enumerate(REGISTRY)}
DECIMALS = {"s": 0, "ms": 3, "us": 6, "ns": 9}

FORWARDING = {
    0: "UNKNOWN Unclassified",
    64: "FORWARDED Unknown",
    66: "FORWARDED Not Fragmented",
    67: "FORWARDED Unclassified",
    129: "DROPPED ACL deny",
    137: "DROPPED bad TTL",
    143: "DROPPED Hardware",
    144: "DROPPED Unclassified",
    195: "CONSUMED For us",
    255: "CONSUMED Unclassified",
}


def native(rows: Sequence[Row], fields: Sequence[Field], chunk: int = 1000) -> pa.Table:
    """The native table of rows, in chunks that have their own dictionaries."""
    marked = any("_others" in row for row in rows)
    parts = []
    for begin in range(0, max(len(rows), 1), chunk):
        some = rows[begin : begin + chunk]
        columns = {}
        for field in fields:
            kind, values = arrow_type(field), [row[field.name] for row in some]
            if pa.types.is_dictionary(kind):
                columns[field.name] = pa.array(values, pa.binary()).dictionary_encode()
            else:
                columns[field.name] = pa.array(values, kind)
        if marked:
            columns["_others"] = pa.array([row.get("_others", False) for row in some], pa.bool_())
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def rendered(
    rows: Sequence[Row],
    fields: Sequence[Field],
    encoding: Encoding,
    window: tuple[int, int] | None = None,
) -> list[dict[str, Any]]:
    """The objects that rows become, keys in order."""
    return [_object(row, fields, encoding, window) for row in rows]


def _object(
    row: Row, fields: Sequence[Field], encoding: Encoding, window: tuple[int, int] | None
) -> dict[str, Any]:
    keys = sorted(
        (f for f in fields if f.name not in COUNTERS and not f.name.startswith("_")),
        key=lambda f: RANK.get(f.name, 1000),
    )
    others = row.get("_others", False)
    values: dict[str, Any] = {}
    if encoding.records == "plain":
        values["event_type"] = "purge"
    nested: dict[str, Any] = {}
    for field in keys:
        value = None if others and _keyed(field) else _value(row, field, encoding, window)
        if field.custom and encoding.records == "null-filled":
            nested[field.key] = value
        else:
            values[field.key] = value
    if nested:
        values["custom_primitives"] = None if others else nested
    asked = {f.name for f in fields}
    for name in COUNTERS:
        if name in asked:
            values[name] = row[name]
        elif encoding.records == "null-filled":
            values[name] = None
    if others:
        values["others"] = True
    if encoding.writer_id:
        values["writer_id"] = encoding.writer_id
    return values


def _keyed(field: Field) -> bool:
    not_keys = ("tcpflags", "tunnel_tcpflags", "timestamp_min", "timestamp_max")
    return field.source is not Source.WINDOW and field.name not in not_keys


def _value(
    row: Row, field: Field, encoding: Encoding, window: tuple[int, int] | None
) -> str | int | list[str] | dict[str, str]:
    if field.source is Source.WINDOW:
        edge = 0 if window is None else window[field.name == "stamp_updated"]
        return time(edge, encoding.timestamps, 0)
    value = row[field.name]
    match field.kind:
        case Kind.UINT:
            if field.name in ("tos", "tunnel_tos") and encoding.tos == "dscp":
                value >>= 2
            return str(value) if field.custom else value
        case Kind.FLAGS:
            return flags(value) if encoding.tcp_flags == "list" else value
        case Kind.PROTOCOL:
            return NAMES[value] if encoding.protocols == "name" else str(value)
        case Kind.FORWARDING:
            return FORWARDING[value] if encoding.forwarding_status == "text" else str(value)
        case Kind.DIRECTION:
            return {0: "i", 1: "e"}.get(value, "u")
        case Kind.HEX:
            return f"{value:x}"
        case Kind.ADDRESS:
            return address(value, _unset(row, field))
        case Kind.MAC:
            return value.to_bytes(6, "big").hex(":")
        case Kind.TIME:
            return time(value, encoding.timestamps, DECIMALS[encoding.precision])
        case Kind.BYTES:
            return "-".join(f"{byte:02X}" for byte in value)
        case Kind.LABELS:
            stack = [
                (value[i], int.from_bytes(value[i + 1 : i + 4])) for i in range(0, len(value), 4)
            ]
            if encoding.mpls_label_stack == "list":
                return [f"{position}-{label}" for position, label in stack]
            return ",".join(str(label) for _, label in stack)
        case Kind.SEGMENTS:
            return [
                f"{i}-{address(value[16 * i : 16 * i + 16], '::')}" for i in range(len(value) // 16)
            ]
    text: str = value.decode("utf-8", "replace")
    return label(text) if field.name == "label" and encoding.labels == "map" else text


def label(text: str) -> dict[str, str]:
    items = [item.split("%", 1) for item in text.split(",") if item]
    return {item[0]: item[1] if len(item) == 2 else "" for item in items}


def flags(bits: int) -> list[str]:
    named = {256: "NS", 128: "CWR", 64: "ECE", 32: "URG", 16: "ACK", 8: "PSH", 4: "RST"}
    return [name for bit, name in {**named, 2: "SYN", 1: "FIN"}.items() if bits & bit]


def _unset(row: Row, field: Field) -> str:
    ends = ("src_host", "dst_host", "src_net", "dst_net")
    if field.custom:
        return "0.0.0.0"
    if field.name not in ends:
        return ""
    six = any(row[n] != bytes(16) and row[n][:12] != MAPPED for n in ends if n in row)
    return "::" if six else "0.0.0.0"


def address(raw: bytes, unset: str) -> str:
    if raw == bytes(16):
        return unset
    if raw[:12] == MAPPED:
        return str(IPv4Address(raw[12:]))
    return str(IPv6Address(raw))


def time(ns: int, style: str, digits: int) -> str:
    seconds, rest = divmod(ns, 10**9)
    fraction = f".{rest:09d}"[: digits + 1] if digits else ""
    if style == "epoch":
        return f"{seconds}{fraction}"
    if ns == 0:
        whole = "0000-00-00 00:00:00"
    else:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        whole = moment.strftime("%Y-%m-%d %H:%M:%S")
    if style == "text":
        return whole + fraction
    return f"{whole.replace(' ', 'T')}{fraction}Z"
