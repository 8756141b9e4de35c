"""Native batches to Arrow and back."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.arrow import arrow_type, from_arrow, to_arrow
from flowray.columns import Columns, Layout
from flowray.field import Field, Kind
from flowray.fields import REGISTRY
from flowray.hashing import Interner

NAMES = ("src_host", "label", "mpls_label_stack", "src_mac", "timestamp_start", "proto", "tcpflags",
         "in_iface", "bytes", "_has_vrf", "fwd_status", "peer_src_ip", "class")  # fmt: skip
LAYOUT = Layout(NAMES)
WORDS = (1 << 64) - 1


def value_of(field: Field) -> st.SearchStrategy[int | bytes]:
    if field.kind.interned:
        return st.one_of(st.sampled_from([b"", b"a", b"bb"]), st.binary(max_size=9))
    bits = {Kind.ADDRESS: 128, Kind.TIME: 63}.get(field.kind, field.bits)
    return st.integers(0, (1 << min(bits, 2)) - 1) | st.integers(0, (1 << bits) - 1)


ROWS = st.lists(st.tuples(*(value_of(f) for f in LAYOUT.fields)), max_size=12)


def columns_of(rows: list[tuple[int | bytes, ...]], texts: Interner) -> Columns:
    columns = Columns.empty(LAYOUT, len(rows) + 3)  # more room than rows
    columns.words[:] = 99
    columns.n = len(rows)
    for r, row in enumerate(rows):
        for f, value in zip(LAYOUT.fields, row, strict=True):
            first = LAYOUT.index(f.name)
            if isinstance(value, bytes):
                columns.words[first, r] = texts.add(value)
            elif f.kind is Kind.ADDRESS:
                columns.words[first, r], columns.words[first + 1, r] = value >> 64, value & WORDS
            else:
                columns.words[first, r] = value
    return columns


def rows_of(columns: Columns, texts: Interner) -> list[tuple[int | bytes, ...]]:
    rows = []
    for r in range(columns.n):
        row: list[int | bytes] = []
        for f in columns.layout.fields:
            word = columns[f.name][..., r]
            if f.kind.interned:
                row.append(texts[int(word)])
            else:
                row.append(int(word[0]) << 64 | int(word[1]) if word.ndim else int(word))
        rows.append(tuple(row))
    return rows


@given(ROWS, ROWS, st.integers(0, 12), st.integers(0, 12))
def test_round_trip(
    first: list[tuple[int | bytes, ...]],
    second: list[tuple[int | bytes, ...]],
    begin: int,
    length: int,
) -> None:
    """Two tables joined and cut, read by a shard with other texts: same rows."""
    texts = Interner()
    tables = [to_arrow(columns_of(rows, texts), NAMES, texts) for rows in (first, second)]
    table = pa.concat_tables(tables).slice(begin, length)
    for f in LAYOUT.fields:
        assert table.schema.field(f.name).type == arrow_type(f)
    others = Interner()
    others.add_all([b"something", b"else"])
    back = from_arrow(table, LAYOUT, others)
    assert rows_of(back, others) == (first + second)[begin : begin + length]


@given(ROWS)
def test_values(rows: list[tuple[int | bytes, ...]]) -> None:
    texts = Interner()
    table = to_arrow(columns_of(rows, texts), NAMES, texts)
    for f, column in zip(LAYOUT.fields, zip(*rows, strict=True), strict=False):
        expected = [
            v.to_bytes(16) if f.kind is Kind.ADDRESS and isinstance(v, int) else v for v in column
        ]
        assert table[f.name].to_pylist() == expected


@given(st.lists(st.sampled_from([b"", b"a", b"bb", b"ccc"]), max_size=8), st.integers(0, 20))
def test_a_dictionary_holds_what_occurs_in_order_of_first_sight(
    values: list[bytes], more: int
) -> None:
    """Whether the shard knows fewer texts than the table has rows, or more."""
    texts = Interner()
    texts.add_all([b"ccc", b"bb", b"a", *(bytes([i, i]) for i in range(more))])
    columns = Columns.empty(Layout(["label"]), len(values))
    columns.n = len(values)
    columns["label"][:] = texts.add_all(values)
    column = to_arrow(columns, ["label"], texts)["label"].combine_chunks()
    assert column.to_pylist() == values
    assert column.dictionary.to_pylist() == [
        v for v in (b"", b"ccc", b"bb", b"a") if v in set(values)
    ]


def test_fields_of_a_subset_in_another_order() -> None:
    texts = Interner()
    rows = [tuple(b"x" if f.kind.interned else i for i, f in enumerate(LAYOUT.fields))]
    table = to_arrow(columns_of(rows, texts), ["bytes", "label", "src_host"], texts)
    assert table.column_names == ["bytes", "label", "src_host"]
    back = from_arrow(table, Layout(["src_host", "bytes"]), Interner())
    assert back["bytes"].tolist() == [NAMES.index("bytes")]
    assert back["src_host"].tolist() == [[0], [NAMES.index("src_host")]]


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_no_rows(chunks: int) -> None:
    texts = Interner()
    empty = to_arrow(Columns.empty(LAYOUT, 0), NAMES, texts)
    table = pa.concat_tables([empty] * chunks) if chunks else empty.schema.empty_table()
    back = from_arrow(table, LAYOUT, texts)
    assert back.n == 0
    assert len(texts) == 1


@given(st.integers(0, WORDS))
def test_a_value_wider_than_its_field_is_the_largest(value: int) -> None:
    columns = Columns.empty(Layout(["src_port", "_has_vrf"]), 1)
    columns.n = 1
    columns.words[:] = np.uint64(value)
    table = to_arrow(columns, ["src_port", "_has_vrf"], Interner())
    assert table["src_port"].to_pylist() == [min(value, 0xFFFF)]
    assert table["_has_vrf"].to_pylist() == [min(value, 1)]


def test_unknown_field() -> None:
    with pytest.raises(KeyError):
        to_arrow(Columns.empty(LAYOUT, 0), ["dst_host"], Interner())
    assert REGISTRY["dst_host"].kind is Kind.ADDRESS
