"""A view on the side of a shard, against counting records one by one."""

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.field import Merge
from flowray.fields import REGISTRY
from flowray.views.filter import compile_filter
from flowray.views.window import Windows
from tests.views.records import (
    NOW,
    PLANS,
    VALUES,
    Record,
    S,
    Shard,
    column,
    plain,
    plan,
    records,
    rows_of,
)
from tests.views.view_twin import WRAP, merge, window_of

WINDOW = Windows(60 * S, 7 * S, 20 * S)


def table_of(shard: Shard) -> pa.Table | None:
    handed = [p.table for p in shard.hand_over(NOW) if p.table is not None]
    tables = [plain(table, shard.plan) for table in handed]
    return pa.concat_tables(tables) if tables else None


def place(x: Record, by_start: bool) -> tuple[int, int]:
    """Start and revision of a record's window."""
    time = x.start if by_start else x.arrival
    return window_of(time, x.arrival, WINDOW.width, WINDOW.offset, WINDOW.lateness)


def naive(rows: list[Record], *, by_start: bool, renormalise: bool) -> dict[Any, list[int]]:
    """Values by (host, label, proto, interface, window start, revision)."""
    found: dict[Any, list[int]] = defaultdict(lambda: [0] * len(VALUES))
    for x in rows:
        row = found[x.host, x.label, x.proto, x.iface, *place(x, by_start)]
        scale = max(x.rate, 1) if renormalise else 1
        values = (x.packets * scale, x.octets * scale, 1, x.flags, x.start, x.start + x.duration)
        for i, (name, value) in enumerate(zip(VALUES, values, strict=True)):
            row[i] = merge(REGISTRY[name].merge, row[i], value % WRAP)
    return dict(found)


@given(records(), st.booleans(), st.booleans(), st.integers(1, 3))
def test_reduction(rows: list[Record], by_start: bool, renormalise: bool, partitions: int) -> None:
    shard = Shard(
        plan(windows=WINDOW, by_start=by_start, renormalise=renormalise, partitions=partitions)
    )
    for at in range(0, len(rows), 7):
        shard.offer(rows[at : at + 7])
    table = table_of(shard)
    found = {
        (r["src_host"][-1], r["label"], r["proto"], r["in_iface"], r["_window"], r["_revision"]): [
            r[name] for name in VALUES
        ]
        for r in (table.to_pylist() if table else [])
    }
    expected = naive(rows, by_start=by_start, renormalise=renormalise)
    assert found == expected
    assert shard.accounts().get("aggregated", 0) == len(rows)
    late = sum(place(x, by_start)[1] > 0 for x in rows)
    assert shard.accounts().get("late", 0) == late
    assert table_of(shard) is None


@given(records(), st.sampled_from(PLANS), st.sampled_from([1, 2, 5]), st.booleans())
def test_accounts(rows: list[Record], kind: dict[str, Any], sample: int, filtered: bool) -> None:
    """Each record ends as filtered, sampled out or aggregated, and those in rows are the last."""
    expression = (
        compile_filter("src_host = 0.0.0.1 or label = 'bb'", REGISTRY) if filtered else None
    )
    shard = Shard(plan(**{**kind, "sample": sample, "filter": expression}))
    shard.offer(rows)
    accounts = shard.accounts()
    kept = [x for x in rows if not filtered or x.host == 1 or x.label == b"bb"]
    assert accounts.get("offered", 0) == len(rows)
    assert accounts.get("filtered", 0) == len(rows) - len(kept)
    assert accounts.get("sampled_out", 0) + accounts.get("aggregated", 0) == len(kept)
    if sample == 1:
        assert accounts.get("sampled_out", 0) == 0
    table = table_of(shard)
    merged = 0 if table is None else (
        table.num_rows if kind.get("windows", 1) is None else sum(column(table, "_records"))
    )  # fmt: skip
    assert merged == accounts.get("aggregated", 0)


@given(records(), st.booleans())
def test_without_windows(rows: list[Record], renormalise: bool) -> None:
    """A row a record, with the names that were asked for."""
    shard = Shard(plan(windows=None, renormalise=renormalise))
    shard.offer(rows[:5])
    shard.offer(rows[5:])
    assert shard.view.pending == len(rows)
    table = table_of(shard)
    scale = [max(x.rate, 1) if renormalise else 1 for x in rows]
    expected = [
        (
            (0xFFFF << 32 | x.host).to_bytes(16), x.label, x.proto, x.iface, x.packets * n % WRAP,
            x.octets * n, 1, x.flags, x.start, x.start + x.duration,
        )
        for x, n in zip(rows, scale, strict=True)
    ]  # fmt: skip
    assert ([] if table is None else rows_of(table)) == sorted(expected)


@given(records(), st.integers(2, 4))
def test_sampling_picks_the_same_rows_whichever_shard_sees_them(
    rows: list[Record], sample: int
) -> None:
    view = plan(windows=None, sample=sample)
    one = Shard(view)
    one.offer(rows)
    several = [Shard(view, str(n)) for n in range(3)]
    for x in rows:
        several[x.shard].offer([x])
    whole = table_of(one)
    parts = [t for t in map(table_of, several) if t is not None]
    assert (rows_of(whole) if whole else []) == sorted(r for t in parts for r in rows_of(t))


@pytest.mark.parametrize("sample", [2, 10, 100])
def test_sampling_is_compensated(sample: int) -> None:
    """What is left, multiplied, is near to the whole: within five standard deviations."""
    shard = Shard(plan(sample=sample))
    rng = np.random.default_rng(sample)
    rows = [
        Record(0, NOW + n, packets=int(p), octets=int(p) * 100)
        for n, p in enumerate(rng.integers(1, 20, 20_000))
    ]
    shard.offer(rows)
    table = table_of(shard)
    assert table is not None
    whole = sum(x.packets for x in rows)
    deviation = (sum(x.packets**2 for x in rows) * (sample - 1)) ** 0.5
    found = sum(column(table, "packets"))
    assert abs(found - whole) < 5 * deviation
    assert sum(column(table, "bytes")) == 100 * found
    # Flow records are not packets: their number is not multiplied.
    assert sum(column(table, "flows")) == shard.accounts()["aggregated"]


@given(records(), st.integers(1, 4))
def test_max_keys_keeps_totals(rows: list[Record], max_keys: int) -> None:
    shard = Shard(plan(max_keys=max_keys, by_start=True))
    shard.offer(rows)
    table = table_of(shard)
    for name, values in (
        ("packets", [x.packets for x in rows]),
        ("bytes", [x.octets for x in rows]),
    ):
        found = [] if table is None else column(table, name)
        assert sum(found) % WRAP == sum(values) % WRAP
    if table is not None:
        assert table.num_rows <= 2 * max_keys + 1
        others = column(table, "_others")
        assert others.count(False) <= max_keys
        assert shard.accounts().get("others", 0) >= sum(others)


@given(records())
def test_splitting_keeps_totals_and_counts_a_record_once(rows: list[Record]) -> None:
    shard = Shard(plan(by_start=True, split=True, renormalise=True))
    shard.offer(rows)
    table = table_of(shard)
    scaled = [(x.packets * max(x.rate, 1), x.octets * max(x.rate, 1), 1) for x in rows]
    for i, name in enumerate(("packets", "bytes", "flows")):
        found = [] if table is None else column(table, name)
        assert sum(found) % WRAP == sum(s[i] for s in scaled) % WRAP
    assert (0 if table is None else sum(column(table, "_records"))) == len(rows)


def test_every_merge_rule_is_of_some_value() -> None:
    assert {REGISTRY[name].merge for name in VALUES} == set(Merge) - {Merge.KEY}
