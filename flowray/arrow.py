"""Native batches as Arrow tables and back: what shards, aggregators and sinks hand each other.

A column per field, named by primitive: numbers in the smallest unsigned type that holds their bits,
addresses as fixed_size_binary(16) in network order, prefixes as fixed_size_binary(18), MAC
addresses as uint64, times as int64 nanoseconds, interned values as dictionaries of binary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.columns import Columns, Layout, Room, Words
from flowray.field import Field, Kind
from flowray.hashing import Interner

V4_MAPPED = np.uint64(0xFFFF)
"""Upper half of the low word of an IPv4 address, whose high word is 0."""

_NUMBER = ((8, pa.uint8()), (16, pa.uint16()), (32, pa.uint32()), (64, pa.uint64()))


def arrow_type(field: Field) -> pa.DataType:
    """Type of a field's column."""
    if field.kind is Kind.ADDRESS:
        return pa.binary(16)
    if field.kind is Kind.PREFIX:
        return pa.binary(18)
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


def to_narrow(columns: Columns, texts: Interner) -> pa.Table:
    """All fields of a batch in the narrowest types that hold these values: what goes to another
    process and is read there by `from_arrow`.

    Numbers and times in the smallest unsigned type for the largest of them, addresses that are all
    IPv4 as uint32, indices of dictionaries likewise.
    """
    names = columns.layout.fields
    return pa.table({f.name: _to_narrow(f, columns[f.name], texts) for f in names})


def _to_narrow(field: Field, words: Words, texts: Interner) -> pa.Array[Any]:
    if field.kind is Kind.ADDRESS:
        high, low = words
        if not high.any() and (low >> np.uint64(32) == V4_MAPPED).all():
            addresses: pa.Array[Any] = pa.array(low.astype(np.uint32))
            return addresses
        return _addresses(words)
    if field.kind.interned:
        ids, index = _dense(words, len(texts))
        values = pa.array(texts.values(ids), pa.binary())
        return pa.DictionaryArray.from_arrays(narrow(index), values)
    return narrow(_within(field, words))


def narrow(numbers: npt.NDArray[Any]) -> pa.Array[Any]:
    """Numbers (n,), none negative, in the smallest unsigned type that holds them all."""
    most = int(numbers.max(initial=0))
    kinds = (np.uint8, np.uint16, np.uint32, np.uint64)
    kind = next(kind for kind in kinds if most <= np.iinfo(kind).max)
    array: pa.Array[Any] = pa.array(numbers.astype(kind))
    return array


def _within(field: Field, words: Words) -> Words:
    """A number field's words, none more than its bits hold: a counter field of an exporter may be
    wider than the registry's row says, and is never wrapped.
    """
    most = np.uint64((1 << field.bits) - 1)
    if field.bits < 64 and field.kind is not Kind.TIME and words.max(initial=0) > most:
        return np.minimum(words, most)
    return words


def _to_array(field: Field, words: Words, texts: Interner) -> pa.Array[Any]:
    if field.kind is Kind.ADDRESS:
        return _addresses(words)
    if field.kind.interned:
        ids, index = _dense(words, len(texts))
        return pa.DictionaryArray.from_arrays(
            pa.array(index, pa.int32()), pa.array(texts.values(ids), pa.binary())
        )
    kind = arrow_type(field)
    return pa.array(_within(field, words).astype(kind.to_pandas_dtype()), kind)


def _addresses(words: Words) -> pa.Array[Any]:
    """Addresses from their words (2, n)."""
    n = words.shape[1]
    raw = np.empty((n, 2), ">u8")
    raw[:, 0], raw[:, 1] = words
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(raw)])


def _dense(words: Words, known: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Ids below `known` that occur in words (n,), ascending, and for each word its index there."""
    if known > len(words):
        ids, index = np.unique(words, return_inverse=True)
        return ids.astype(np.intp), index.astype(np.int32)
    seen = np.zeros(known, np.bool_)
    seen[words] = True
    return np.flatnonzero(seen), (np.cumsum(seen, dtype=np.int32) - np.int32(1))[words]


def from_arrow(
    table: pa.Table, layout: Layout, texts: Interner, room: Room | None = None
) -> Columns:
    """The fields of a layout from a table that holds them; text is interned in `texts`. With `room`
    the batch is made there.
    """
    columns = (room or Room()).columns(layout, table.num_rows)
    for field in layout.fields:
        array = table[field.name].combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
        words = columns[field.name]
        if field.kind is Kind.ADDRESS and pa.types.is_uint32(array.type):
            words[0] = 0
            words[1] = array.to_numpy()
            words[1] |= V4_MAPPED << np.uint64(32)
            continue
        np.copyto(words, _to_words(field, array, texts), casting="unsafe")
    return columns


def _to_words(field: Field, array: Any, texts: Interner) -> npt.NDArray[Any]:
    """Numbers that become words, (n,), or (2, n) for addresses."""
    if field.kind is Kind.ADDRESS:
        raw = np.frombuffer(array.buffers()[1], ">u8")[2 * array.offset :][: 2 * len(array)]
        return raw.reshape(-1, 2).T
    if field.kind.interned:
        ids = texts.add_all(array.dictionary.to_pylist())
        index: npt.NDArray[np.integer] = array.indices.to_numpy(zero_copy_only=False)
        return ids[index] if len(ids) else np.zeros(len(array), np.uint64)
    numbers: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return numbers
