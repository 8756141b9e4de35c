"""Made-up records as native batches, for the tests of views and aggregators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pyarrow as pa
from hypothesis import strategies as st

from flowray.arrow import from_arrow, to_arrow
from flowray.columns import Columns, Layout
from flowray.fields import REGISTRY
from flowray.hashing import Interner
from flowray.ingest.ledger import Ledger
from flowray.views.fold import partial_layout
from flowray.views.view import Partial, View, ViewPlan
from flowray.views.window import OTHERS, REVISION, WINDOW, Windows
from flowray.wire.packets import Exporters

S = 10**9
NOW = 1_760_000_000 * S

Row: TypeAlias = tuple[Any, ...]

KEYS = ("src_host", "label", "proto", "in_iface")
VALUES = ("packets", "bytes", "flows", "tcpflags", "timestamp_min", "timestamp_max")
LAYOUT = Layout(
    [
        *("_packet", "_exporter", "_records", *KEYS, "packets", "bytes", "flows", "tcpflags"),
        *("sampling_rate", "timestamp_arrival", "timestamp_start", "timestamp_end"),
    ]
)


@dataclass(frozen=True)
class Record:
    """A flow record; times in ns since the epoch."""

    shard: int
    arrival: int
    age: int = 0
    duration: int = 0
    host: int = 1
    label: bytes = b""
    proto: int = 6
    iface: int = 1
    packets: int = 1
    octets: int = 100
    flags: int = 2
    rate: int = 0

    @property
    def start(self) -> int:
        return self.arrival - self.age


def records(shards: int = 3) -> st.SearchStrategy[list[Record]]:
    """Records in the order of their arrival, over some minutes; a few flows are old or long."""
    one = st.builds(
        Record,
        shard=st.integers(0, shards - 1),
        arrival=st.integers(0, 400).map(lambda s: NOW + s * S),
        age=st.sampled_from([0, 0, S, 30 * S, 95 * S, 1000 * S, -5 * S]),
        duration=st.sampled_from([0, 0, 7 * S, 200 * S]),
        host=st.integers(1, 3),
        label=st.sampled_from([b"", b"a", b"bb"]),
        iface=st.integers(1, 2),
        packets=st.integers(0, 1 << 64).map(lambda n: n % 1000 if n < 1 << 63 else n - 1),
        octets=st.integers(0, 10**6),
        flags=st.integers(0, 255),
        rate=st.sampled_from([0, 1, 10]),
    )
    return st.lists(one, max_size=40).map(lambda found: sorted(found, key=lambda r: r.arrival))


def columns_of(rows: Sequence[Record], texts: Interner) -> Columns:
    columns = Columns.empty(LAYOUT, len(rows))
    columns.n = len(rows)
    for r, x in enumerate(rows):
        for name, value in (
            ("_packet", r), ("_exporter", x.shard), ("_records", 1), ("label", texts.add(x.label)),
            ("proto", x.proto), ("in_iface", x.iface), ("packets", x.packets), ("bytes", x.octets),
            ("flows", 1), ("tcpflags", x.flags), ("sampling_rate", x.rate),
            ("timestamp_arrival", x.arrival), ("timestamp_start", x.start),
            ("timestamp_end", x.start + x.duration),
        ):  # fmt: skip
            columns[name][r] = value
        columns["src_host"][:, r] = 0, 0xFFFF << 32 | x.host
    return columns


def plan(**changes: Any) -> ViewPlan:
    standard = ViewPlan(
        name="v",
        keys=tuple(REGISTRY[n] for n in KEYS),
        values=tuple(REGISTRY[n] for n in VALUES),
        windows=Windows(60 * S),
        renormalise=False,
    )
    return replace(standard, **changes)


PLANS: tuple[dict[str, Any], ...] = (
    {},
    {"by_start": True},
    {"by_start": True, "windows": Windows(60 * S, 7 * S, 20 * S), "partitions": 3},
    {"by_start": True, "split": True, "partitions": 2},
    {"windows": Windows(7 * S), "renormalise": True, "sample": 2},
    {"keys": (REGISTRY["label"],), "partitions": 4},
    {"windows": None},
)
"""Kinds of views; none reaches its `max_keys`, past which it matters who saw a key first."""


class Shard:
    """A view of one shard, with texts and sequences of its own."""

    def __init__(self, view: ViewPlan, name: str = "0", incarnation: str = "a") -> None:
        self.plan, self.name, self.incarnation = view, name, incarnation
        exporters = Exporters(8)
        self.ledger = Ledger(exporters)
        self.texts = Interner()
        self.texts.add_all([b"of", b"its own", name.encode()])
        self.view = View(view, LAYOUT, self.ledger)
        self.sequence = 0

    def offer(self, rows: Sequence[Record]) -> None:
        if rows:
            self.view.offer(columns_of(rows, self.texts), self.texts)

    def hand_over(self, watermark: int) -> list[Partial]:
        """A partial for each partition."""
        self.sequence += 1
        tables = dict(self.view.hand_over(self.texts))
        place = self.name, self.incarnation, self.sequence, watermark
        return [
            Partial(self.plan.name, p, *place, tables.get(p)) for p in range(self.plan.partitions)
        ]

    def accounts(self) -> dict[str, int]:
        return dict(self.ledger.snapshot()["views"].get(self.plan.name, {}))


def plain(table: pa.Table, view: ViewPlan) -> pa.Table:
    """Rows that were handed over, as a table with a column of its own for each field and mark."""
    if view.windows is None:
        return table
    texts = Interner()
    columns = from_arrow(table, partial_layout(view.keys, view.values), texts)
    wide = to_arrow(columns, columns.layout.names, texts)
    for name in (WINDOW, REVISION, OTHERS):
        wide = wide.append_column(name, pa.array(table[name].to_numpy()))
    return wide


def column(table: pa.Table, name: str) -> list[Any]:
    """Values of a column."""
    return table[name].to_pylist()


def rows_of(table: pa.Table) -> list[Row]:
    """Rows of a native table in an order of their own, texts as octets."""
    return sorted(tuple(row.values()) for row in table.to_pylist())
