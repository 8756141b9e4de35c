"""Rendered rows into a stream, by file format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.csv as pa_csv

from flowray.sinks.buffers import Array
from flowray.sinks.jsonl import JsonLines, fragments
from flowray.sinks.render import flat

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

__all__ = ["EXTENSIONS", "FileKind", "RowWriter", "csv_header", "open_writer"]

FileKind: TypeAlias = Literal["jsonl", "csv", "parquet"]

EXTENSIONS: Final[dict[FileKind, str]] = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}

_GROUP_ROWS: Final = 1 << 18
"""Rows of a Parquet row group: enough for its dictionaries to pay, few enough to hold."""


class RowWriter(Protocol):
    """Writes rendered batches of one schema to a stream that the caller opened and closes."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""

    def finish(self) -> None:
        """Write what is held back and what the format ends with."""

    def abandon(self) -> None:
        """Write nothing more, not even when this is garbage collected."""


class _JsonlWriter:
    def __init__(self, stream: Any, header: bool, metadata: dict[str, str]) -> None:
        del header, metadata
        self._stream = stream
        self._lines = JsonLines()

    def write(self, batch: pa.RecordBatch) -> None:
        self._stream.write(self._lines.batch(batch))

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _CsvWriter:
    def __init__(self, stream: Any, header: bool, metadata: dict[str, str]) -> None:
        del metadata
        self._stream = stream
        self._header = header

    def write(self, batch: pa.RecordBatch) -> None:
        rows = _tabular(batch)
        if self._header:
            self._stream.write(csv_header(batch))
            self._header = False
        pa_csv.write_csv(rows, self._stream, pa_csv.WriteOptions(include_header=False))

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _ParquetWriter:
    def __init__(self, stream: Any, header: bool, metadata: dict[str, str]) -> None:
        del header
        self._stream = stream
        self._metadata = metadata
        self._writer: ParquetWriter | None = None
        self._held: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        rows = flat(batch)
        if self._writer is None:
            from pyarrow.parquet import ParquetWriter  # slow to import, and others do without

            schema = rows.schema.with_metadata(self._metadata)
            self._writer = ParquetWriter(self._stream, schema, compression="zstd")
        self._held.append(rows)
        self._rows += rows.num_rows
        if self._rows >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        assert self._writer is not None
        if self._rows:
            table = pa.Table.from_batches(self._held).unify_dictionaries()
            self._writer.write_table(table.replace_schema_metadata(self._metadata))
        self._held, self._rows = [], 0

    def finish(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()

    def abandon(self) -> None:
        if self._writer is not None:
            # An open one writes its footer when collected, to a stream that is closed by then.
            self._writer.is_open = False


_WRITERS: Final[dict[FileKind, Callable[[Any, bool, dict[str, str]], RowWriter]]] = {
    "jsonl": _JsonlWriter,
    "csv": _CsvWriter,
    "parquet": _ParquetWriter,
}


def open_writer(
    kind: FileKind, stream: Any, *, header: bool = True, metadata: dict[str, str] | None = None
) -> RowWriter:
    """A writer of rendered rows to a binary stream (Python or Arrow).

    `header`: whether CSV begins with the names of its columns. `metadata`: kept in the footer of
    Parquet.
    """
    return _WRITERS[kind](stream, header, metadata or {})


def csv_header(batch: pa.RecordBatch) -> bytes:
    """The first line of a CSV file of such rendered rows."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(_tabular(batch.slice(0, 0)), sink)
    return sink.getvalue().to_pybytes()


def _tabular(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of plain values: members of objects get own columns, lists and maps their JSON."""
    columns: dict[str, Array] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if isinstance(column, pa.StructArray):
            members = [column.type.field(i).name for i in range(column.type.num_fields)]
            columns.update(zip(members, map(_plain, column.flatten()), strict=True))
        else:
            columns[field.name] = _plain(column)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _plain(column: Array) -> Array:
    if not isinstance(column, pa.DictionaryArray):
        return column
    if pa.types.is_nested(column.type.value_type):
        return fragments(column.dictionary).take(column.indices)
    return column.dictionary_decode()
