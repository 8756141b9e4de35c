"""Rows that a shard hands over, packed and unpacked."""

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.arrow import from_arrow
from flowray.columns import Columns, Layout, Room
from flowray.field import Kind
from flowray.hashing import Interner
from flowray.views.packed import pack
from flowray.views.window import OTHERS, REVISION, WINDOW, Windows, window_word

LAYOUT = Layout(["src_host", "label", "src_port", "proto", "bytes", "timestamp_min", "_records"])
WINDOWS = Windows(60 * 10**9)
V4 = 0xFFFF << 32

Row = tuple[int, bytes, int, int, int, int, int]
Place = tuple[int, int, bool]

SIZES = st.sampled_from([8, 16, 32, 63]).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
HOSTS = st.integers(0, (1 << 32) - 1).map(lambda host: V4 | host)
PLACES: st.SearchStrategy[Place] = st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans())


def rows(hosts: st.SearchStrategy[int]) -> st.SearchStrategy[list[tuple[Row, Place]]]:
    row = st.tuples(
        hosts, st.sampled_from([b"", b"a", b"bb"]), st.integers(0, 65535), st.integers(0, 255),
        SIZES, SIZES, SIZES,
    )  # fmt: skip
    return st.lists(st.tuples(row, PLACES), min_size=1, max_size=20)


def columns_of(found: list[Row], texts: Interner) -> Columns:
    columns = Room().columns(LAYOUT, len(found))
    for r, row in enumerate(found):
        for f, value in zip(LAYOUT.fields, row, strict=True):
            first = LAYOUT.index(f.name)
            if isinstance(value, bytes):
                columns.words[first, r] = texts.add(value)
            elif f.kind is Kind.ADDRESS:
                columns.words[first, r] = value >> 64
                columns.words[first + 1, r] = value & ((1 << 64) - 1)
            else:
                columns.words[first, r] = value
    return columns


def rows_of(columns: Columns, texts: Interner) -> list[Any]:
    return [
        tuple(
            texts[int(word)] if f.kind.interned
            else int(word) if word.ndim == 0
            else int(word[0]) << 64 | int(word[1])
            for f in LAYOUT.fields
            for word in (columns[f.name][..., r],)
        )
        for r in range(columns.n)
    ]  # fmt: skip


def packed(given_rows: list[tuple[Row, Place]]) -> pa.Table:
    texts = Interner()
    texts.add(b"of the shard alone")
    words = [
        window_word(start * WINDOWS.width, revision, WINDOWS, others=others)
        for _, (start, revision, others) in given_rows
    ]
    columns = columns_of([row for row, _ in given_rows], texts)
    return pack(columns, np.array(words, np.uint64), WINDOWS, texts)


@given(rows(HOSTS) | rows(HOSTS | st.integers(0, (1 << 128) - 1)))
def test_round_trip(given_rows: list[tuple[Row, Place]]) -> None:
    """What comes back is what was given, through another process and in memory used before."""
    table = pickle.loads(pickle.dumps(packed(given_rows)))
    texts, room = Interner(), Room()
    texts.add_all([b"of", b"another"])
    room.columns(LAYOUT, 30).words[:] = 99
    columns = from_arrow(table, LAYOUT, texts, room)
    assert rows_of(columns, texts) == [row for row, _ in given_rows]
    marks = (table[name].to_numpy() for name in (WINDOW, REVISION, OTHERS))
    places = [(start // WINDOWS.width, *rest) for start, *rest in zip(*marks, strict=True)]
    assert places == [place for _, place in given_rows]


@pytest.mark.parametrize("n", [1, 1000])
def test_narrow(n: int) -> None:
    """Types are as narrow as the values allow; a window takes an octet."""
    row = (V4 | 7, b"a", 80, 6, 300, 70_000, 255)
    table = packed([(row, (1, 0, False))] * n)
    assert table.schema.types[:7] == [
        pa.uint32(), pa.dictionary(pa.uint8(), pa.binary()), pa.uint8(), pa.uint8(), pa.uint16(),
        pa.uint32(), pa.uint8(),
    ]  # fmt: skip
    assert table[REVISION].type == pa.uint8()
    assert table.nbytes <= 17 * n + 64
