"""Rows of every tool in one form, and their comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from flowray import protocols

KEY = ("src", "dst", "src_port", "dst_port", "proto")
COUNTERS = ("packets", "bytes")

EMPTY = pa.table(
    {
        **dict.fromkeys(KEY[:2], pa.array([], pa.string())),
        **dict.fromkeys((*KEY[2:], *COUNTERS), pa.array([], pa.int64())),
    }
)

NFACCTD = ("SRC_IP", "DST_IP", "SRC_PORT", "DST_PORT", "PROTOCOL", "PACKETS", "BYTES")
FLOWRAY = ("ip_src", "ip_dst", "port_src", "port_dst", "ip_proto", "packets", "bytes")


def read_nfacctd(path: Path) -> pa.Table:
    """Rows that nfacctd's print plug-in wrote as CSV."""
    return _sums(csv.read_csv(path).select(NFACCTD))


def read_flowray(path: Path) -> pa.Table:
    """Rows that flowray wrote as CSV."""
    return _sums(csv.read_csv(path).select(FLOWRAY))


def read_nfdump(path: Path) -> pa.Table:
    """Rows that nfdump wrote in `peers.NFDUMP_FORMAT`; its columns are padded."""
    names = [*KEY, *COUNTERS]
    options = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    table = csv.read_csv(path, csv.ReadOptions(column_names=names), convert_options=options)
    return _sums(pa.table([pc.utf8_trim_whitespace(column) for column in table.columns], names))


def _sums(table: pa.Table) -> pa.Table:
    """Sums by key, sorted; windows are summed over."""
    source, target, *numbers = (c.combine_chunks() for c in table.columns)
    numbers[2] = _protocol(numbers[2])
    columns = [source, target, *(n.cast(pa.int64()) for n in numbers)]
    rows = pa.table(columns, [*KEY, *COUNTERS])
    totals = rows.group_by(list(KEY)).aggregate([(name, "sum") for name in COUNTERS])
    totals = totals.select([*KEY, *(f"{name}_sum" for name in COUNTERS)])
    return totals.rename_columns([*KEY, *COUNTERS]).sort_by([(k, "ascending") for k in KEY])


def _protocol(column: Any) -> Any:
    if pa.types.is_integer(column.type):
        return column
    coded = column.dictionary_encode()
    texts = coded.dictionary.to_pylist()
    numbers = [int(t) if t.isdigit() else protocols.number(t) for t in texts]
    return pa.array(numbers, pa.int64()).take(coded.indices)


def difference(one: pa.Table, other: pa.Table) -> str:
    """ "" if both have the same sums of all keys, else the first difference."""
    if one.equals(other):
        return ""
    joined = one.join(other, list(KEY), join_type="full outer", right_suffix="_other")
    joined = joined.sort_by([(k, "ascending") for k in KEY])
    for row in joined.to_pylist():
        have = tuple(row[name] for name in COUNTERS)
        want = tuple(row[f"{name}_other"] for name in COUNTERS)
        if have != want:
            key = " ".join(str(row[name]) for name in KEY)
            return f"{key}: packets, bytes {have} and {want}; {len(one)} and {len(other)} keys"
    return f"{len(one)} and {len(other)} keys"


def totals(table: pa.Table) -> tuple[int, int]:
    """Packets and bytes in all."""
    packets, octets = (pc.sum(table[name]).as_py() or 0 for name in COUNTERS)
    return packets, octets


def joined(tables: list[pa.Table]) -> pa.Table:
    """The sums over several outputs of one tool."""
    if len(tables) == 1:
        return tables[0]
    return _sums(pa.concat_tables(tables)) if tables else EMPTY
