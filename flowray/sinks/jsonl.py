"""JSON lines of rendered tables: an object a row, keys in column order, UTF-8, by kernels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.sinks import jsonl_kernels as kernels
from flowray.sinks.buffers import Array, Mask, dense, frozen, null_mask, text, text_array
from flowray.sinks.render import MEMBERS, OMIT, OMIT_NULL

__all__ = ["JsonLines", "fragments", "to_jsonl"]

_BLOCK_ROWS = 4096
"""Rows that all columns are written into before the next: their text should stay in the cache."""

_EVERY: Mask = frozen(np.zeros(0, np.bool_))

Measure: TypeAlias = Callable[[npt.NDArray[np.int64]], None]
Write: TypeAlias = Callable[[npt.NDArray[np.int64], npt.NDArray[np.uint8], int, int], None]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A key with its value, or anything else between the braces, of those rows that have it."""

    measure: Measure
    write: Write


def to_jsonl(table: pa.Table) -> pa.Buffer:
    """JSON lines of a rendered table, each ended by a newline.

    The result is as large as the text; `JsonLines` takes a table in parts. Raises TypeError for a
    column type that rendering never gives (floats, plain lists).
    """
    lines = JsonLines()
    parts = [lines.batch(batch) for batch in table.to_batches()]
    return parts[0] if len(parts) == 1 else pa.py_buffer(b"".join(parts))


class JsonLines:
    """Turns batches of one schema into JSON lines; keeps escaped dictionaries between batches."""

    def __init__(self) -> None:
        self._fragments: dict[str, tuple[Array, Array]] = {}

    def batch(self, batch: pa.RecordBatch) -> pa.Buffer:
        """The lines of a batch. Raises TypeError as `to_jsonl`."""
        if batch.num_rows == 0 or batch.num_columns == 0:
            return pa.py_buffer(b"{}\n" * batch.num_rows)
        pieces = self._members(batch.schema, batch.columns, "", None)
        pieces.append(_constant("}\n", None))
        at = np.zeros(batch.num_rows + 1, np.int64)
        for piece in pieces:
            piece.measure(at[1:])
        np.cumsum(at, out=at)
        out = np.empty(at[-1], np.uint8)
        blocks = (*range(0, batch.num_rows, _BLOCK_ROWS), batch.num_rows)
        for begin, end in pairwise(blocks):
            for piece in pieces:
                piece.write(at, out, begin, end)
        return pa.py_buffer(out)

    def _members(
        self, schema: Any, columns: list[Array], path: str, present: Mask | None
    ) -> list[_Piece]:
        """Pieces of an object, all but its closing brace."""
        pieces: list[_Piece] = []
        for i, (field, column) in enumerate(zip(schema, columns, strict=True)):
            key = ("," if i else "{") + _quoted(field.name) + ":"
            metadata = field.metadata or {}
            if i and MEMBERS in metadata:
                pieces.append(self._spliced(column, f"{path}/{field.name}", present))
            elif i and OMIT_NULL in metadata:
                shown = _shown(column, present)
                pieces += self._member(key, column, f"{path}/{field.name}", shown)
            elif i and OMIT in metadata:
                true = dense(column)
                shown = true if present is None else true & present
                pieces.append(_constant(key + "true", shown))
            else:
                pieces += self._member(key, column, f"{path}/{field.name}", present)
        return pieces

    def _member(self, key: str, column: Array, path: str, present: Mask | None) -> list[_Piece]:
        null = null_mask(column)
        kind = column.type
        if pa.types.is_null(kind):
            return [_constant(key + "null", present)]
        if pa.types.is_dictionary(kind):
            return [self._indexed(key, column, path, present)]
        if null is not None:
            absent = null if present is None else null & present
            shown = ~null if present is None else ~null & present
            return [_constant(key + "null", absent), *self._value(key, column, path, shown)]
        return self._value(key, column, path, present)

    def _value(self, key: str, column: Array, path: str, present: Mask | None) -> list[_Piece]:
        """Pieces of a column where it is not null."""
        kind = column.type
        if isinstance(column, pa.StructArray):
            fields = [kind.field(i) for i in range(kind.num_fields)]
            members = [column.field(i) for i in range(kind.num_fields)]
            inner = self._members(fields, members, path, present)
            return [_constant(key, present), *inner, _constant("}", present)]
        if pa.types.is_unsigned_integer(kind):
            return [_numbers(key, dense(column).astype(np.uint64, copy=False), present)]
        if pa.types.is_boolean(kind):
            words = pa.array(["false", "true"])
            return [_fragments(key, words, dense(column).astype(np.int32), present)]
        if pa.types.is_signed_integer(kind):
            digits = column.cast(pa.string())
            return [_fragments(key, digits, np.arange(len(column), dtype=np.int32), present)]
        if pa.types.is_string(kind):
            return [_strings(key, column, present)]
        raise TypeError(f"column {path[1:]} of type {kind} has no JSON lines form; render it first")

    def _indexed(self, key: str, column: Array, path: str, present: Mask | None) -> _Piece:
        assert isinstance(column, pa.DictionaryArray)
        dictionary = column.dictionary
        known = self._fragments.get(path)
        if known is None or not _same(known[0], dictionary):
            # Keeping the dictionary keeps its buffers, so that no other one can take their
            # addresses.
            nulled = pa.concat_arrays([fragments(dictionary), pa.array(["null"])])
            known = self._fragments[path] = (dictionary, nulled)
        indices = dense(column.indices)
        null = null_mask(column)
        if null is not None:
            indices = np.where(null, len(dictionary), indices).astype(np.int32)
        return _fragments(key, known[1], indices.astype(np.int32, copy=False), present)

    def _spliced(self, column: Array, path: str, present: Mask | None) -> _Piece:
        """The members of JSON objects, without their braces, where there are any."""
        assert isinstance(column, pa.DictionaryArray)
        known = self._fragments.get(path)
        if known is None or not _same(known[0], column.dictionary):
            inner = [str(v)[1:-1] for v in column.dictionary.to_pylist()]
            texts = pa.array(["," + v if v else "" for v in inner], pa.string())
            known = self._fragments[path] = (column.dictionary, texts)
        index = dense(column.indices).astype(np.int32, copy=False)
        return _fragments("", known[1], index, _shown(column, present))


def _shown(column: Array, present: Mask | None) -> Mask | None:
    """The rows of `present` in which a column is not null."""
    null = null_mask(column)
    if null is None:
        return present
    return ~null if present is None else ~null & present


def fragments(values: Array) -> Array:
    """JSON text of each value of a string, list or map array, as a string array."""
    if not pa.types.is_string(values.type):
        if not pa.types.is_nested(values.type):
            raise TypeError(f"dictionary of {values.type} has no JSON lines form; render it first")
        as_map = pa.types.is_map(values.type)
        texts = [_dumps(dict(v or ()) if as_map else v) for v in values.to_pylist()]
        return pa.array(texts, pa.string())
    offsets, data = text(values)
    ends = np.zeros(len(values) + 1, np.int64)
    kernels.measure_strings(offsets, data, _EVERY, ends[1:])
    np.cumsum(ends, out=ends)
    out = np.empty(ends[-1], np.uint8)
    kernels.escape_all(offsets, data, ends, out)
    return text_array(ends.astype(np.int32), out)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _quoted(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _same(a: Array, b: Array) -> bool:
    """Whether two arrays are views of the same memory."""
    if len(a) != len(b) or a.offset != b.offset or a.type != b.type:
        return False
    return [x and x.address for x in a.buffers()] == [x and x.address for x in b.buffers()]


def _prefix(key: str) -> npt.NDArray[np.uint8]:
    return frozen(np.frombuffer(key.encode(), np.uint8))


def _mask(present: Mask | None) -> Mask:
    return _EVERY if present is None else frozen(present)


def _constant(content: str, present: Mask | None) -> _Piece:
    prefix, mask = _prefix(content), _mask(present)
    return _Piece(
        partial(kernels.measure_constant, len(prefix), mask),
        partial(kernels.write_constant, prefix, mask),
    )


def _with_prefix(key: str, present: Mask | None, measure: Measure, write: Write) -> _Piece:
    width, mask = len(key.encode()), _mask(present)

    def both(widths: npt.NDArray[np.int64]) -> None:
        kernels.measure_constant(width, mask, widths)
        measure(widths)

    return _Piece(both, write)


def _fragments(
    key: str, texts: Array, index: npt.NDArray[np.int32], present: Mask | None
) -> _Piece:
    (offsets, data), index, mask = text(texts), frozen(index), _mask(present)
    return _with_prefix(
        key,
        present,
        partial(kernels.measure_fragments, offsets, index, mask),
        partial(kernels.write_fragments, _prefix(key), offsets, data, index, mask),
    )


def _numbers(key: str, values: npt.NDArray[np.uint64], present: Mask | None) -> _Piece:
    values, mask = frozen(values), _mask(present)
    return _with_prefix(
        key,
        present,
        partial(kernels.measure_numbers, values, mask),
        partial(kernels.write_numbers, _prefix(key), values, mask),
    )


def _strings(key: str, column: Array, present: Mask | None) -> _Piece:
    (offsets, data), mask = text(column), _mask(present)
    return _with_prefix(
        key,
        present,
        partial(kernels.measure_strings, offsets, data, mask),
        partial(kernels.write_strings, _prefix(key), offsets, data, mask),
    )
