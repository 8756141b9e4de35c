"""The keyed reduction against a dictionary."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.columns import Columns, Layout
from flowray.field import Field, Kind
from flowray.fields import REGISTRY
from flowray.views.fold import SCALED, Fold, KeyShape, partial_layout
from flowray.views.kernels import BLOCK
from flowray.views.window import is_others
from tests.views.view_twin import Table, merge

KEYS = [
    REGISTRY[name]
    for name in (
        *("src_host", "peer_src_ip", "proto", "src_port", "in_iface", "timestamp_start", "src_mac"),
        *("label", "vlan", "_has_vrf", "_mpls_1", "tag"),
    )
]
VALUES = [
    REGISTRY[name]
    for name in ("packets", "bytes", "flows", "tcpflags", "timestamp_min", "timestamp_max")
]
OTHERS = 1 << 63
SMALL = st.integers(0, 3)


def value_of(field: Field) -> st.SearchStrategy[int]:
    top = (1 << (128 if field.kind is Kind.ADDRESS else 64)) - 1
    edge = st.sampled_from([top, (1 << field.bits) - 1, 1 << field.bits & top])
    if field.kind is Kind.ADDRESS:
        v4 = SMALL.map(lambda host: 0xFFFF << 32 | host)
        return st.one_of(v4, v4, v4, SMALL, edge)
    return st.one_of(SMALL, SMALL, SMALL, edge)


def shapes() -> st.SearchStrategy[tuple[list[Field], list[Field]]]:
    return st.tuples(
        st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True),
        st.lists(st.sampled_from(VALUES), max_size=4, unique=True),
    )


Place = tuple[int, tuple[int, ...] | None]

Row = tuple[int, list[int], list[int], int]
"""(window word, key, values, scale)"""


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[Field], list[Field], list[Row]]:
    keys, values = draw(shapes())
    row = st.tuples(
        st.integers(0, 2),
        st.tuples(*map(value_of, keys)).map(list),
        st.tuples(*(st.one_of(SMALL, st.integers(0, (1 << 64) - 1)) for _ in values)).map(list),
        st.integers(1, 3),
    )
    return keys, values, draw(st.lists(row, max_size=60))


def columns_of(layout: Layout, fields: Iterable[Field], rows: Iterable[list[int]]) -> Columns:
    fields, rows = list(fields), list(rows)
    columns = Columns.empty(layout, len(rows))
    columns.n = len(rows)
    for r, row in enumerate(rows):
        for f, v in zip(fields, row, strict=True):
            first = layout.index(f.name)
            if f.kind is Kind.ADDRESS:
                columns.words[first, r], columns.words[first + 1, r] = v >> 64, v % (1 << 64)
            else:
                columns.words[first, r] = v
    return columns


def contents(fold: Fold) -> dict[Place, list[int]]:
    """Exported rows as the twin has them."""
    columns, window = fold.export()
    found = {}
    for r, word in enumerate(window.tolist()):
        cells = []
        for f in fold.keys:
            value = columns[f.name][..., r]
            cells.append(int(value) if value.ndim == 0 else int(value[0]) << 64 | int(value[1]))
        others = bool(is_others(window[r : r + 1])[0])
        if others:
            assert not any(cells)
        place = word % OTHERS, None if others else tuple(cells)
        assert place not in found
        found[place] = [int(columns[f.name][r]) for f in fold.values]
    return found


def is_v4(keys: list[Field], key: list[int]) -> bool:
    hosts = [v for f, v in zip(keys, key, strict=True) if f.kind is Kind.ADDRESS]
    return bool(hosts) and all(host >> 32 == 0xFFFF for host in hosts)


def totals(values: list[Field], rows: dict[Place, list[int]]) -> list[int]:
    """All rows merged to one: no bound on keys may change it."""
    merged = [0] * len(values)
    for row in rows.values():
        merged = [merge(f.merge, a, b) for f, a, b in zip(values, merged, row, strict=True)]
    return merged


@given(traffic(), st.integers(1, 8) | st.just(1000), st.booleans(), st.integers(0, 60))
def test_like_a_dictionary(
    case: tuple[list[Field], list[Field], list[Row]],
    max_keys: int,
    scaled: bool,
    at: int,
) -> None:
    keys, values, rows = case
    names = [f.name for f in (*values, *keys)]
    layout = Layout(["timestamp_end", *names])
    fold, twin = Fold(layout, keys, values, max_keys), Table(keys, values, max_keys)
    for part in (rows[:at], rows[at:]):
        columns = columns_of(layout, [*keys, *values], [k + v for _, k, v, _ in part])
        window = np.array([w for w, *_ in part], np.uint64)
        scale = np.array([s for *_, s in part] if scaled else [], np.uint64)
        fold.add(columns.words, columns.n, window, scale)
        for w, key, cells, s in part:
            factors = [s if scaled and f.name in SCALED else 1 for f in values]
            twin.add(w, key, [v * x % (1 << 64) for v, x in zip(cells, factors, strict=True)])
    # Of a batch the rows of IPv4 go first: past max_keys that decides who is among the others.
    in_order = not twin.others or len({is_v4(keys, key) for _, key, _, _ in rows}) < 2
    if in_order and len(twin.rows) < 2 * max_keys:
        assert contents(fold) == twin.rows
    if in_order:
        assert fold.others == twin.others
    assert totals(values, contents(fold)) == totals(values, twin.rows)
    assert fold.records == fold.merged == len(rows)
    assert len(fold) <= 2 * max_keys + 1


@given(traffic(), st.permutations(list(range(4))))
def test_packing_is_independent_of_the_layout(
    case: tuple[list[Field], list[Field], list[Row]], order: list[int]
) -> None:
    keys, _, rows = case
    names = [f.name for f in keys]
    turned = [*names[order[0] :], "bytes", *names[: order[0]]]
    packed = []
    for layout in (Layout(names), Layout(["packets", *turned, "tag2"])):
        columns = columns_of(layout, keys, [k for _, k, _, _ in rows])
        fold = Fold(layout, keys, [], 1000)
        fold.add(columns.words, columns.n, np.zeros(columns.n, np.uint64))
        packed.append([t.rows[: len(t), : t.shape.words].tolist() for t in fold._tables])
        assert KeyShape(layout, keys).words == fold._any.shape.words
    assert packed[0] == packed[1]


@given(traffic(), st.integers(0, 60))
def test_partials_merge_to_the_same(
    case: tuple[list[Field], list[Field], list[Row]], at: int
) -> None:
    """Tables exported and folded again give what one table gives, counts of records included."""
    keys, values, rows = case
    layout = Layout([f.name for f in (*keys, *values)])
    whole = Fold(layout, keys, values, 1000)
    merged = Fold(partial_layout(keys, values), keys, values, 1000)
    for part in (rows[:at], rows[at:]):
        columns = columns_of(layout, [*keys, *values], [k + v for _, k, v, _ in part])
        window = np.array([w for w, *_ in part], np.uint64)
        whole.add(columns.words, columns.n, window)
        shard = Fold(layout, keys, values, 1000)
        shard.add(columns.words, columns.n, window)
        exported, windows = shard.export()
        merged.add(exported.words, exported.n, windows)
    assert contents(merged) == contents(whole)
    assert merged.merged == whole.merged == len(rows)


@given(
    st.lists(st.integers(0, 3 * BLOCK + 1), min_size=1, max_size=3),
    st.sampled_from([1, BLOCK - 1, 5 * BLOCK]),
    st.sampled_from([BLOCK // 2, 1 << 20]),
    st.integers(0, 1 << 32),
)
def test_blocks_like_a_dictionary(sizes: list[int], keys: int, max_keys: int, seed: int) -> None:
    """Batches of more than a block, into a table that grows or is full in the middle of one."""
    layout = Layout(["src_port", "packets"])
    fold = Fold(layout, [REGISTRY["src_port"]], [REGISTRY["packets"]], max_keys)
    twin = Table(fold.keys, fold.values, max_keys)
    random = np.random.default_rng(seed)
    for n in sizes:
        columns = Columns(layout, random.integers(0, keys, (layout.words, n), np.uint64), n)
        fold.add(columns.words, n, np.zeros(1, np.uint64))
        for port, packets in columns.words.T.tolist():
            twin.add(0, [port], [packets])
    assert contents(fold) == twin.rows
    assert (fold.others, fold.records) == (twin.others, sum(sizes))


def test_growth_and_clearing() -> None:
    layout = Layout(["src_port", "src_host", "packets"])
    fold = Fold(layout, [REGISTRY["src_host"]], [REGISTRY["packets"]], 1 << 20)
    columns = Columns.empty(layout, 200_000)
    columns.words[2] = np.arange(200_000)
    columns.words[3] = 1
    zero = np.zeros(200_000, np.uint64)
    fold.add(columns.words, 200_000, zero)
    fold.add(columns.words, 200_000, zero)
    exported, _ = fold.export()
    assert sorted(exported["src_host"][1].tolist()) == list(range(200_000))
    assert (exported["packets"] == 2).all()
    grown = fold.nbytes
    fold.clear()
    assert (len(fold), fold.records, fold.merged) == (0, 0, 0)
    assert fold.nbytes == grown
    for _ in range(20):
        fold.add(columns.words, 10, zero)
        assert len(fold) == 10
        fold.clear()
    assert fold.nbytes < grown / 100


@pytest.mark.parametrize("max_keys", [1, 100])
def test_windows_without_end_stay_bounded(max_keys: int) -> None:
    """Each record a key and a window of its own: others rows do not escape the bound."""
    layout = Layout(["src_port", "packets"])
    fold = Fold(layout, [REGISTRY["src_port"]], [REGISTRY["packets"]], max_keys)
    columns = Columns.empty(layout, 5000)
    columns.words[:] = np.arange(5000) % 60_000
    fold.add(columns.words, 5000, np.arange(5000, dtype=np.uint64))
    exported, window = fold.export()
    assert len(window) <= 2 * max_keys + 1
    assert exported["packets"].sum() == sum(range(5000))
    assert fold.others == 5000 - max_keys
