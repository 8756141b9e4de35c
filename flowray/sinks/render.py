"""From native tables to what users read: JSON keys, texts for numbers, one fixed order of keys.

Nothing here looks at one row in Python: columns of few values are rendered once per distinct value
and kept as dictionary columns, the others are written by the kernels of `text_kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray import protocols
from flowray.counters import COUNTERS
from flowray.field import Field, Kind, Role, Source
from flowray.fields import REGISTRY
from flowray.route_fields import (
    EXTENDED,
    OPAQUE,
    ROUTE_FIELDS,
    ROW_KIND,
    ROW_KINDS,
    RowKind,
)
from flowray.sinks import names, text_kernels, words
from flowray.sinks.buffers import (
    Array,
    Mask,
    dense,
    from_numpy,
    frozen,
    masked,
    null_mask,
    text_array,
)
from flowray.sinks.encoding import Encoding

__all__ = [
    "MEMBERS",
    "OMIT",
    "OMIT_NULL",
    "Encoding",
    "flat",
    "of_streams",
    "ordered",
    "render",
    "render_batches",
]

Window: TypeAlias = tuple[int, int]
"""Start and end of a window, nanoseconds since the epoch."""

Build: TypeAlias = Callable[[int, int], Array]
"""Gives the rows begin..end of a rendered column."""

OMIT: Final = b"flowray.omit"
"""Metadata of a column whose key is left out of JSON objects in which it is false."""

OMIT_NULL: Final = b"flowray.omit_null"
"""Metadata of a column whose key is left out of JSON objects in which it is null."""

MEMBERS: Final = b"flowray.members"
"""Metadata of a column of JSON objects whose members are those of the row's object."""

_STREAM_FIELDS: Final = frozenset(ROUTE_FIELDS.values())
_COUNTERS: Final = ("packets", "flows", "bytes")
_RANK: Final = {
    f: rank
    for rank, f in enumerate((*REGISTRY.values(), *COUNTERS.values(), *ROUTE_FIELDS.values()))
}
_BATCH_ROWS: Final = 1 << 20


_STYLES: Final = {
    "epoch": text_kernels.EPOCH,
    "text": text_kernels.PLAIN,
    "rfc3339": text_kernels.RFC3339,
}
_TICK: Final = {"ms": 1_000_000, "us": 1_000, "ns": 1}
_DECIMALS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def ordered(fields: Sequence[Field]) -> list[Field]:
    """Public fields in key order: of the registry, declared ones, then packets, flows, bytes."""
    public = [f for f in fields if f.role is not Role.WORKING and f.name not in _COUNTERS]
    public.sort(key=lambda f: _RANK.get(f, len(_RANK)))
    by_name = {f.name: f for f in fields}
    return [*public, *(by_name[name] for name in _COUNTERS if name in by_name)]


def render(
    table: pa.Table,
    fields: Sequence[Field],
    encoding: Encoding,
    window: Window | None = None,
) -> pa.Table:
    """The native `table` with JSON keys as column names and values as `encoding` says.

    Columns are strings, unsigned integers, lists and maps, dictionary-encoded where values repeat.
    A field whose native column is missing has its empty value in each row. Of rows marked in
    `_others` the keys are null and the column `others` is true. `window` stands in for missing
    `stamp_inserted` and `stamp_updated` columns.
    """
    batches = list(render_batches(table, fields, encoding, window, _BATCH_ROWS))
    return pa.Table.from_batches(batches)


def render_batches(
    table: pa.Table,
    fields: Sequence[Field],
    encoding: Encoding,
    window: Window | None = None,
    rows: int = 1 << 16,
) -> Iterator[pa.RecordBatch]:
    """As `render`, `rows` rows at a time and at least one batch, so that memory stays bounded.

    Rows of route streams come in batches of one kind each, with the keys of that kind alone, unless
    `encoding.records` is `rows`.
    """
    if ROW_KIND not in table.column_names or encoding.records == "rows" or table.num_rows == 0:
        yield from _batches(table, fields, encoding, window, rows)
        return
    for kind, part in _runs(table):
        of_kind = [f for f in fields if f.name in ROW_KINDS[kind]]
        yield from _batches(part, of_kind, encoding, window, rows)


def _runs(table: pa.Table) -> Iterator[tuple[RowKind, pa.Table]]:
    """The rows of a route stream cut where their kind changes."""
    kinds = dense(_one_chunk(table.column(ROW_KIND)))
    cuts = np.flatnonzero(np.diff(kinds)) + 1
    for begin, end in pairwise((0, *cuts.tolist(), len(kinds))):
        yield RowKind(kinds[begin]), table.slice(begin, end - begin)


def of_streams(fields: Sequence[Field]) -> bool:
    """Whether these are fields of route streams, whose rows say themselves what they are."""
    return any(f.name == "event_type" for f in fields)


def _batches(
    table: pa.Table,
    fields: Sequence[Field],
    encoding: Encoding,
    window: Window | None,
    rows: int,
) -> Iterator[pa.RecordBatch]:
    source = _Source(table, window)
    columns = _columns(source, ordered(fields), encoding)
    schema = pa.schema([field for field, _ in columns])
    step = min(rows, _BATCH_ROWS)
    for begin in range(0, max(source.rows, 1), step):
        end = min(begin + step, source.rows)
        arrays = [build(begin, end) for _, build in columns]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A rendered batch for Parquet, which has no dictionaries of lists and maps.

    Dictionaries of text remain, without values that no row has where those would be many: when rows
    are split over files.
    """
    arrays = [_flat_column(c) if isinstance(c, pa.DictionaryArray) else c for c in batch.columns]
    named = zip(batch.schema, arrays, strict=True)
    schema = pa.schema([field.with_type(array.type) for field, array in named])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _flat_column(column: pa.DictionaryArray[Any, Any]) -> Array:
    if pa.types.is_nested(column.type.value_type):
        return column.dictionary.take(column.indices)
    if len(column.dictionary) > len(column):
        return column.dictionary_decode().dictionary_encode()
    return column


class _Source:
    """Native columns of a table, and what the rendering of one needs to know of the others."""

    def __init__(self, table: pa.Table, window: Window | None) -> None:
        self.rows = table.num_rows
        self._table = table
        self._window = window
        self._whole: dict[str, Array] = {}
        self._family: npt.NDArray[np.uint8] | None = None
        others = self._column("_others")
        self.has_others = others is not None
        mask = None if others is None else dense(others)
        self.others: Mask | None = mask if mask is not None and mask.any() else None

    def _column(self, name: str) -> Array | None:
        """The column as one chunk."""
        if name not in self._whole:
            if name not in self._table.column_names:
                return None
            self._whole[name] = _one_chunk(self._table.column(name))
        return self._whole[name]

    def column(self, field: Field) -> Array | None:
        """The native column of a field, or None if the table lacks it."""
        column = self._column(field.name)
        if column is not None or field.source is not Source.WINDOW:
            return column
        if field.name == "stamp_inserted" and "_window" in self._table.column_names:
            return self._column("_window")
        if self._window is None:
            return None
        return from_numpy(np.full(self.rows, self._window[field.name == "stamp_updated"], np.int64))

    def words(self, field: Field) -> npt.NDArray[np.uint64]:
        """(n,) uint64 values of a field that takes one word; empty ones if the table lacks it."""
        column = self.column(field)
        if column is None:
            empty = names.UNKNOWN_DIRECTION if field.kind is Kind.DIRECTION else 0
            return np.full(self.rows, empty, np.uint64)
        return dense(column).astype(np.uint64, copy=False)

    def addresses(self, name: str) -> npt.NDArray[np.uint8] | None:
        """(n, 16) bytes of an address field, or None if the table lacks it."""
        column = self._column(name)
        return None if column is None else dense(column)

    def nulls(self, field: Field) -> Mask | None:
        """Rows without a value: null in the native table, or others rows if the field is a key."""
        column = self.column(field)
        mask = None if column is None else null_mask(column)
        keyed = field.role is Role.KEY and field.source is not Source.WINDOW
        if not keyed or self.others is None:
            return mask
        return self.others if mask is None else mask | self.others

    def family(self) -> npt.NDArray[np.uint8]:
        """(n,) 6 for rows of which any address or network is IPv6, else 4."""
        if self._family is None:
            self._family = np.full(self.rows, 4, np.uint8)
            for name in _FAMILIAL:
                raw = self.addresses(name)
                if raw is not None:
                    text_kernels.mark_ipv6(raw, self._family)
        return self._family


def _one_chunk(chunked: pa.ChunkedArray[Any]) -> Array:
    if chunked.num_chunks == 0:
        empty: Array = pa.array([], chunked.type)
        return empty
    chunks: list[Array] = chunked.unify_dictionaries().chunks
    whole: Array = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    return whole


_FAMILIAL: Final = ("src_host", "dst_host", "src_net", "dst_net")
"""Addresses that, unset, are the zero of the row's family; others are nothing."""


def _columns(
    source: _Source, fields: list[Field], encoding: Encoding
) -> list[tuple[pa.Field[Any], Build]]:
    if of_streams(fields):
        return _stream_columns(source, fields, encoding)
    nested = encoding.records == "null-filled"
    columns: list[tuple[pa.Field[Any], Build]] = []
    if encoding.records == "plain":
        columns.append(_named("event_type", _constant("purge")))
    counters = [f for f in fields if f.name in _COUNTERS]
    keys = [f for f in fields if f.name not in _COUNTERS]
    declared = [f for f in keys if f.custom] if nested else []
    columns += [_rendered(source, f, encoding) for f in keys if f not in declared]
    if declared:
        columns.append(_named("custom_primitives", _nested(source, declared, encoding)))
    if nested:
        asked = {f.name: f for f in counters}
        for name in _COUNTERS:
            columns.append(
                _rendered(source, asked[name], encoding)
                if name in asked
                else _named(name, lambda begin, end: pa.nulls(end - begin, pa.uint64()))
            )
    else:
        columns += [_rendered(source, f, encoding) for f in counters]
    if source.has_others:
        field, build = _named("others", _others(source))
        columns.append((field.with_metadata({OMIT: b"false"}), build))
    if encoding.writer_id:
        columns.append(_named("writer_id", _constant(encoding.writer_id)))
    return columns


def _stream_columns(
    source: _Source, fields: list[Field], encoding: Encoding
) -> list[tuple[pa.Field[Any], Build]]:
    """Columns of a route stream: which keys a row without a value lacks depends on the encoding."""
    if encoding.records == "null-filled":
        fields = [f for f in fields if f.name not in EXTENDED]
    columns = []
    for field in fields:
        column, build = _rendered(source, field, encoding)
        if encoding.records == "plain" or field.name in OPAQUE:
            column = column.with_metadata({OMIT_NULL: b"true"})
        if field.kind is Kind.MEMBERS:
            column = column.with_metadata({MEMBERS: b"true"})
        columns.append((column, build))
    if encoding.writer_id:
        columns.append(_named("writer_id", _constant(encoding.writer_id)))
    return columns


def _named(key: str, build: Build) -> tuple[pa.Field[Any], Build]:
    return pa.field(key, build(0, 0).type), build


def _rendered(source: _Source, field: Field, encoding: Encoding) -> tuple[pa.Field[Any], Build]:
    return _named(field.key, _renderer(field)(source, field, encoding))


def _nested(source: _Source, fields: list[Field], encoding: Encoding) -> Build:
    """One object of the operator-declared fields; null in others rows."""
    members = [_rendered(source, f, encoding) for f in fields]

    def build(begin: int, end: int) -> Array:
        mask = None if source.others is None else from_numpy(source.others[begin:end])
        arrays = [member(begin, end) for _, member in members]
        return pa.StructArray.from_arrays(arrays, fields=[f for f, _ in members], mask=mask)

    return build


def _others(source: _Source) -> Build:
    marks = np.zeros(source.rows, np.bool_) if source.others is None else source.others
    return lambda begin, end: from_numpy(marks[begin:end])


def _constant(value: str) -> Build:
    dictionary = pa.array([value])
    return lambda begin, end: pa.DictionaryArray.from_arrays(
        from_numpy(np.zeros(end - begin, np.int32)), dictionary
    )


# ------------------------------------------------------------------------ one column of a kind


def _numbers(source: _Source, field: Field, encoding: Encoding) -> Build:
    column = source.column(field)
    if column is None:
        column = from_numpy(np.zeros(source.rows, np.uint64))
    if encoding.tos == "dscp" and field.name in ("tos", "tunnel_tos"):
        column = from_numpy(dense(column) >> 2)
    whole = masked(column, source.nulls(field))
    return lambda begin, end: whole.slice(begin, end - begin)


def _texts(
    source: _Source,
    field: Field,
    encoding: Encoding,
    *,
    kernel: Callable[..., int],
    width: int,
) -> Build:
    """A column of texts that a kernel writes; `width` is the room a value may need."""
    del encoding
    values, nulls = source.words(field), source.nulls(field)
    return _by_kernel(lambda begin, end: (values[begin:end],), nulls, kernel, width)


def _times(source: _Source, field: Field, encoding: Encoding) -> Build:
    values, nulls = source.words(field), source.nulls(field)
    if encoding.timestamps == "typed":
        return _typed_times(values, nulls, encoding.precision)
    digits = 0 if field.source is Source.WINDOW else _DECIMALS[encoding.precision]
    style = _STYLES[encoding.timestamps]
    return _by_kernel(
        lambda begin, end: (values[begin:end], style, digits),
        nulls,
        text_kernels.times,
        text_kernels.TIME_WIDTH,
    )


def _typed_times(
    values: npt.NDArray[np.uint64], nulls: Mask | None, precision: Literal["s", "ms", "us", "ns"]
) -> Build:
    """Timestamps in UTC; an unknown time is null."""
    unknown = values == 0 if nulls is None else nulls | (values == 0)
    # Parquet has no whole seconds.
    unit: Literal["ms", "us", "ns"] = "ms" if precision == "s" else precision
    ticks: npt.NDArray[np.int64] = (values // np.uint64(_TICK[unit])).astype(np.int64)
    return lambda begin, end: pa.array(
        ticks[begin:end], pa.timestamp(unit, "UTC"), mask=unknown[begin:end]
    )


def _addresses(source: _Source, field: Field, encoding: Encoding) -> Build:
    del encoding
    raw, nulls = source.addresses(field.name), source.nulls(field)
    if raw is None:
        raw = np.zeros((source.rows, 16), np.uint8)
    if field.name in _FAMILIAL:
        unset = source.family()
    else:
        unset = np.full(source.rows, 4 if field.custom else 0, np.uint8)
    return _by_kernel(
        lambda begin, end: (raw[begin:end], unset[begin:end]),
        nulls,
        text_kernels.addresses,
        text_kernels.ADDRESS_WIDTH,
    )


def _by_kernel(
    inputs: Callable[[int, int], tuple[Any, ...]],
    nulls: Mask | None,
    kernel: Callable[..., int],
    width: int,
) -> Build:
    def build(begin: int, end: int) -> Array:
        offsets = np.zeros(end - begin + 1, np.int32)
        out = np.empty((end - begin) * width, np.uint8)
        arguments = (frozen(a) if isinstance(a, np.ndarray) else a for a in inputs(begin, end))
        used = kernel(*arguments, offsets, out)
        # A copy: the room for the longest texts would otherwise stay allocated as long as the
        # column lives.
        mask = None if nulls is None else nulls[begin:end]
        return text_array(offsets, out[:used].copy(), mask)

    return build


def _few(
    source: _Source,
    field: Field,
    encoding: Encoding,
    *,
    word: Callable[[Encoding], Callable[[int], Any] | None],
    kind: pa.DataType,
) -> Build:
    """A column of at most 16 bits, rendered once per value; `word` gives how, None for numbers."""
    render_one = word(encoding)
    if render_one is None:
        return _numbers(source, field, encoding)
    values = (source.words(field) & np.uint64(0xFFFF)).astype(np.uint16)
    present = np.flatnonzero(np.bincount(values, minlength=1))
    index = np.zeros(0x10000, np.int32)
    index[present] = np.arange(len(present))
    dictionary = pa.array([render_one(int(v)) for v in present], kind)
    return _indexed(index[values], dictionary, source.nulls(field))


def _interned(
    source: _Source,
    field: Field,
    encoding: Encoding,
    *,
    put: Callable[[Array, Encoding], Array],
) -> Build:
    """A dictionary column: `put` renders the values that rows use."""
    column = source.column(field)
    if column is None:
        column = pa.array([b""] * min(source.rows, 1)).dictionary_encode()
        indices = np.zeros(source.rows, np.int32)
    else:
        if not isinstance(column, pa.DictionaryArray):
            column = column.dictionary_encode()
        indices = dense(column.indices)
    nulls = source.nulls(field)
    used = indices if nulls is None else indices[~nulls]
    present = np.flatnonzero(np.bincount(used, minlength=1)) if len(used) else used
    index = np.zeros(max(len(column.dictionary), 1), np.int32)
    index[present] = np.arange(len(present))
    if nulls is not None:
        indices = np.where(nulls, 0, indices)
    dictionary = put(column.dictionary.take(from_numpy(present)), encoding)
    return _indexed(index[indices], dictionary, nulls)


def _words(source: _Source, field: Field, encoding: Encoding) -> Build:
    """As `_interned`; lists that a null-filled record lacks are empty."""
    # pmacct has blanks in rows of routes, and underscores in rows of flows.
    joint = " " if field in _STREAM_FIELDS else "_"
    put = partial(words.words, name=field.name, joint=joint)
    column = source.column(field)
    listed = put(pa.array([b""]), encoding).type
    nulls = source.nulls(field)
    empty = encoding.records == "null-filled" and pa.types.is_list(listed)
    if column is None or nulls is None or not empty or source.others is not None:
        return _interned(source, field, encoding, put=put)
    build = _interned(source, field, encoding, put=put)

    def filled(begin: int, end: int) -> Array:
        whole = build(begin, end)
        assert isinstance(whole, pa.DictionaryArray)
        dictionary = pa.concat_arrays([whole.dictionary, pa.array([[]], listed)])
        indices = np.where(nulls[begin:end], len(whole.dictionary), dense(whole.indices))
        return pa.DictionaryArray.from_arrays(
            from_numpy(indices.astype(np.int32, copy=False)), dictionary
        )

    return filled


def _prefixes(source: _Source, field: Field, encoding: Encoding) -> Build:
    del encoding
    column, nulls = source.column(field), source.nulls(field)
    if column is None:
        return lambda begin, end: pa.nulls(end - begin, pa.string())
    raw = dense(column)
    if nulls is not None:
        raw = np.where(nulls[:, None], np.uint8(0), raw)
    return _by_kernel(
        lambda begin, end: (raw[begin:end],),
        nulls,
        text_kernels.prefixes,
        text_kernels.PREFIX_WIDTH,
    )


def _indexed(indices: npt.NDArray[np.int32], dictionary: Array, nulls: Mask | None) -> Build:
    def build(begin: int, end: int) -> Array:
        mask = None if nulls is None else nulls[begin:end]
        return pa.DictionaryArray.from_arrays(from_numpy(indices[begin:end], mask=mask), dictionary)

    return build


Renderer: TypeAlias = Callable[[_Source, Field, Encoding], Build]

_DECIMAL_TEXTS: Final[Renderer] = partial(_texts, kernel=text_kernels.decimals, width=20)

_RENDERERS: Final[dict[Kind, Renderer]] = {
    Kind.UINT: _numbers,
    Kind.FLAGS: partial(
        _few,
        word=lambda e: names.flags if e.tcp_flags == "list" else None,
        kind=pa.list_(pa.string()),
    ),
    Kind.PROTOCOL: partial(
        _few,
        word=lambda e: protocols.name if e.protocols == "name" else str,
        kind=pa.string(),
    ),
    Kind.FORWARDING: partial(
        _few,
        word=lambda e: names.forwarding if e.forwarding_status == "text" else str,
        kind=pa.string(),
    ),
    Kind.DIRECTION: partial(_few, word=lambda _: names.direction, kind=pa.string()),
    Kind.HEX: partial(_texts, kernel=text_kernels.hexadecimals, width=16),
    Kind.ADDRESS: _addresses,
    Kind.MAC: partial(_texts, kernel=text_kernels.macs, width=17),
    Kind.TIME: _times,
    Kind.TEXT: partial(_interned, put=words.texts),
    Kind.WORDS: _words,
    Kind.PREFIX: _prefixes,
    Kind.MEMBERS: partial(_interned, put=words.members),
    Kind.BYTES: partial(_interned, put=words.hyphenated),
    Kind.LABELS: partial(_interned, put=words.stacks),
    Kind.SEGMENTS: partial(_interned, put=words.segments),
}


def _renderer(field: Field) -> Renderer:
    """By kind; declared numbers are texts, as all declared fields are; labels have own forms."""
    if field.name == "label":
        return partial(_interned, put=words.labels)
    if field.custom and field.kind is Kind.UINT:
        return _DECIMAL_TEXTS
    return _RENDERERS[field.kind]
