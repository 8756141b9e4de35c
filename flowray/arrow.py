"""Native batches as Arrow tables and back: what shards, aggregators and sinks hand each other.

A column per field, named by primitive: numbers in the smallest unsigned type that holds their bits,
addresses as fixed_size_binary(16) in network order, MAC addresses as uint64, times as int64
nanoseconds, interned values as dictionaries of binary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.columns import Columns, Layout, Words
from flowray.field import Field, Kind
from flowray.hashing import Interner

_NUMBER = ((8, pa.uint8()), (16, pa.uint16()), (32, pa.uint32()), (64, pa.uint64()))


def arrow_type(field: Field) -> pa.DataType:
    """Type of a field's column."""
    if field.kind is Kind.ADDRESS:
        return pa.binary(16)
    if field.kind is Kind.TIME:
        return pa.int64()
    if field.kind.interned:
        return pa.dictionary(pa.int32(), pa.binary())
    return next(t for bits, t in _NUMBER if field.bits <= bits)


def to_arrow(columns: Columns, names: Iterable[str], texts: Interner) -> pa.Table:
    """The named fields of a batch as a table."""
    by_name = {f.name: f for f in columns.layout.fields}
    arrays = {name: _to_array(by_name[name], columns[name], texts) for name in names}
    return pa.table(arrays)


def _to_array(field: Field, words: Words, texts: Interner) -> pa.Array[Any]:
    if field.kind is Kind.ADDRESS:
        raw = np.ascontiguousarray(words.T).astype(">u8").tobytes()
        return pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), words.shape[1], [None, pa.py_buffer(raw)]
        )
    if field.kind.interned:
        ids, index = np.unique(words, return_inverse=True)
        return pa.DictionaryArray.from_arrays(
            pa.array(index.astype(np.int32), pa.int32()), pa.array(texts.values(ids), pa.binary())
        )
    kind = arrow_type(field)
    if field.bits < 64 and field.kind is not Kind.TIME:
        # A counter field of an exporter may be wider than the registry's row says: never wrap it.
        words = np.minimum(words, np.uint64((1 << field.bits) - 1))
    return pa.array(words.astype(kind.to_pandas_dtype()), kind)


def from_arrow(table: pa.Table, layout: Layout, texts: Interner) -> Columns:
    """The fields of a layout from a table that holds them; text is interned in `texts`."""
    columns = Columns.empty(layout, table.num_rows)
    columns.n = table.num_rows
    for field in layout.fields:
        array = table[field.name].combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
        columns[field.name][...] = _to_words(field, array, texts)
    return columns


def _to_words(field: Field, array: Any, texts: Interner) -> Words:
    if field.kind is Kind.ADDRESS:
        raw = np.frombuffer(array.buffers()[1], ">u8")[2 * array.offset :][: 2 * len(array)]
        return raw.reshape(-1, 2).T.astype(np.uint64)
    if field.kind.interned:
        ids = texts.add_all(array.dictionary.to_pylist())
        index: npt.NDArray[np.int32] = array.indices.to_numpy(zero_copy_only=False)
        return ids[index] if len(ids) else np.zeros(len(array), np.uint64)
    words: Words = array.to_numpy(zero_copy_only=False).astype(np.uint64)
    return words
