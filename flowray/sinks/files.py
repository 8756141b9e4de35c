"""Files of rows: one per commit (and value of a key field in the name), or one that grows.

A file appears complete or not at all. Its name comes from the identity of the commit, so that a
repeated commit writes the same file again; where names do not tell commits apart, lines are
appended, each commit once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import fs

from flowray.errors import ConfigError
from flowray.field import Field
from flowray.filesystems import aside_name, filesystem_of, put_object, sync_directory
from flowray.sinks.append import append_once
from flowray.sinks.base import Commit, SinkError
from flowray.sinks.buffers import dense, from_numpy, null_mask
from flowray.sinks.encoding import Encoding
from flowray.sinks.formats import EXTENSIONS, FileKind, RowWriter, csv_header, open_writer
from flowray.sinks.paths import DEFAULT_SEQUENCED, DEFAULT_WINDOWED, PathTemplate, safe_part
from flowray.sinks.render import of_streams, render, render_batches
from flowray.sinks.warmup import made_up_row

__all__ = ["FileKind", "FileSink", "OneFileSink"]

Part = tuple[dict[str, str], Iterable[pa.RecordBatch]]
"""Safe values of the split fields by name in the template, and the rows that have them."""


def _for_kind(encoding: Encoding, kind: FileKind, fields: Sequence[Field]) -> Encoding:
    """Parquet has timestamps of its own; text is what the other formats have.

    Rows of route streams have the keys of their kind in JSON lines, and all columns in tables.
    """
    if of_streams(fields):
        tables = kind != "jsonl"
        if tables or encoding.records == "rows":
            encoding = replace(encoding, records="rows" if tables else "plain")
    if kind == "parquet" and encoding.timestamps == "rfc3339":
        return replace(encoding, timestamps="typed")
    return encoding


class FileSink:
    """Writes each commit of one view to files named by a template."""

    def __init__(
        self,
        kind: FileKind,
        path: str,
        fields: Sequence[Field],
        encoding: Encoding | None = None,
        *,
        window_ns: int | None,
        views: int = 1,
        partitions: int = 1,
        filesystem: fs.FileSystem | None = None,
        latest: bool = False,
        append: bool = False,
    ) -> None:
        """Check that the names will do.

        `path` is a directory, which gets names of the default form, or a template (it has braces or
        the extension of `kind`); on the local disk, by URI (`s3://`, `gs://`, `hdfs://`) or inside
        `filesystem`. `fields` are those of the view, `window_ns` its window or None; `views` and
        `partitions` say how many use this path. `latest` keeps a link to the newest file. `append`
        adds to local JSON lines or CSV even where names would differ.

        Raises ConfigError for a template that cannot be used, and for one by which commits would
        overwrite each other where lines cannot be appended instead.
        """
        self._kind = kind
        self._fields = list(fields)
        self._encoding = _for_kind(encoding or Encoding(), kind, self._fields)
        self._fs, template = _locate(path, kind, window_ns, filesystem)
        self._template = PathTemplate(template, self._fields)
        self._partitions = partitions
        self._latest = latest
        self._newest: dict[str, tuple[int, int]] = {}
        lacking = self._template.missing(window_ns=window_ns, views=views, partitions=partitions)
        local = isinstance(self._fs, fs.LocalFileSystem)
        self._append = append or bool(lacking)
        if self._append and not (local and kind != "parquet"):
            raise _cannot_append(path, lacking)
        if latest and not local:
            raise _bad("latest: true", "latest: false, for links exist on local disks only")

    def rehearse(self) -> None:
        """Write a made-up row to nowhere: for what that loads, the first commit need not wait."""
        row = made_up_row(self._fields)
        writer = open_writer(self._kind, pa.BufferOutputStream())
        _write_all(writer, render_batches(row, self._fields, self._encoding))

    def commit(self, commit: Commit, table: pa.Table) -> None:
        """Write the rows of a commit; see `Sink`. A commit without rows leaves no file."""
        if commit.partition >= self._partitions:
            raise SinkError(f"partition {commit.partition} of {commit.view} was not announced")
        try:
            for values, batches in self._parts(commit, table):
                self._store(commit, values, batches)
        except (OSError, pa.ArrowException) as error:
            raise SinkError(f"cannot write {commit.id}: {error}") from error

    def close(self) -> None:
        """Nothing is held open between commits."""

    def _parts(self, commit: Commit, table: pa.Table) -> Iterator[Part]:
        window = _window(commit)
        if table.num_rows == 0:
            return
        if not self._template.split:
            yield {}, render_batches(table, self._fields, self._encoding, window)
            return
        split = self._template.split
        plain = replace(self._encoding, records="rows", labels="text", writer_id="")
        keys = render(table, list(split.values()), plain, window)
        groups, values = _group([keys.column(field.key) for field in split.values()])
        order = np.argsort(groups, kind="stable")
        ends = np.cumsum(np.bincount(groups))
        begins = [0, *ends[:-1]]
        if of_streams(self._fields):
            # Their kinds have different keys: each file is rendered by itself.
            native = table.take(from_numpy(order))
            for begin, end, parts in zip(begins, ends, values, strict=True):
                part = native.slice(int(begin), int(end - begin))
                batches = render_batches(part, self._fields, self._encoding, window)
                yield dict(zip(split, parts, strict=True)), batches
            return
        rows = render(table, self._fields, self._encoding, window).take(from_numpy(order))
        for begin, end, parts in zip(begins, ends, values, strict=True):
            whole = rows.slice(int(begin), int(end - begin)).to_batches()
            yield dict(zip(split, parts, strict=True)), whole

    def _store(
        self, commit: Commit, values: dict[str, str], batches: Iterable[pa.RecordBatch]
    ) -> None:
        path = self._template.name(commit, values)
        if self._append:
            append_once(Path(path), commit.id, lambda file, size: self._add(file, size, batches))
        else:
            self._put(path, lambda stream: self._write(stream, commit, batches))
        if self._latest:
            link = self._template.latest(commit, values, EXTENSIONS[self._kind])
            age = (commit.window_ns or 0, commit.sequence)
            if age >= self._newest.get(link, age):
                self._newest[link] = age
                _link(Path(link), Path(path))

    def _write(self, stream: Any, commit: Commit, batches: Iterable[pa.RecordBatch]) -> None:
        _write_all(open_writer(self._kind, stream, metadata={"flowray.commit": commit.id}), batches)

    def _add(self, file: BinaryIO, size: int, batches: Iterable[pa.RecordBatch]) -> None:
        remaining = iter(batches)
        first = next(remaining)
        if size and self._kind == "csv":
            with Path(file.name).open("rb") as written:
                if written.readline() != csv_header(first):
                    raise SinkError(f"{file.name} has other columns; move it away or name another")
        writer = open_writer(self._kind, file, header=size == 0)
        writer.write(first)
        _write_all(writer, remaining)

    def _put(self, path: str, write: Callable[[Any], None]) -> None:
        if isinstance(self._fs, fs.LocalFileSystem):
            _put_local(Path(path), write)
            return
        # In memory first: a stream that fails half-way would publish what it has when it is closed.
        content = pa.BufferOutputStream()
        write(content)
        put_object(self._fs, path, content.getvalue())


class OneFileSink:
    """All rows of a view in one local file, which appears when the sink is closed."""

    def __init__(
        self,
        path: Path,
        kind: FileKind,
        fields: Sequence[Field],
        encoding: Encoding | None = None,
    ) -> None:
        """Begin a file beside `path`. Raises SinkError if it cannot be made."""
        self._path = path
        self._fields = list(fields)
        self._encoding = _for_kind(encoding or Encoding(), kind, self._fields)
        self._aside = path.with_name(aside_name(path.name))
        self._done: set[str] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO | None = self._aside.open("wb")
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error}") from error
        self._writer = open_writer(kind, self._file)

    def commit(self, commit: Commit, table: pa.Table) -> None:
        """Add the rows, unless they were; see `Sink`. They are kept once the sink is closed.

        A failure ends the file: part of the rows may be in it, so they could not be added again.
        """
        if commit.id in self._done:
            return
        if self._file is None:
            raise SinkError(f"cannot write {self._path}: it is closed")
        try:
            for batch in render_batches(table, self._fields, self._encoding, _window(commit)):
                self._writer.write(batch)
        except (OSError, pa.ArrowException) as error:
            self.discard()
            raise SinkError(f"cannot write {self._path}: {error}") from error
        self._done.add(commit.id)

    def close(self) -> None:
        """Give the file its name; without rows it has its header or schema. Raises SinkError."""
        if self._file is None:
            return
        try:
            if not self._done:
                empty = pa.table({"packets": pa.array([], pa.uint64())})
                for batch in render_batches(empty, self._fields, self._encoding):
                    self._writer.write(batch)
            self._writer.finish()
            self._file.close()
            self._aside.replace(self._path)
        except (OSError, pa.ArrowException) as error:
            raise SinkError(f"cannot write {self._path}: {error}") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop what was written, if the sink is not closed."""
        if self._file is not None:
            self._writer.abandon()
            with contextlib.suppress(OSError):  # closing flushes, which may fail once more
                self._file.close()
            self._file = None
            self._aside.unlink(missing_ok=True)


def _write_all(writer: RowWriter, batches: Iterable[pa.RecordBatch]) -> None:
    try:
        for batch in batches:
            writer.write(batch)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise


def _window(commit: Commit) -> tuple[int, int] | None:
    if commit.window_ns is None:
        return None
    return commit.window_ns, commit.window_end_ns or commit.window_ns


def _group(
    columns: list[pa.ChunkedArray[Any]],
) -> tuple[npt.NDArray[np.intp], list[tuple[str, ...]]]:
    """Number the distinct combinations of safe values: (n,) per row, and the values by number."""
    groups = np.zeros(len(columns[0]), np.intp)
    values: list[tuple[str, ...]] = [()]
    for column in columns:
        encoded = pa.concat_arrays(column.unify_dictionaries().chunks)
        if not isinstance(encoded, pa.DictionaryArray):
            encoded = encoded.dictionary_encode()
        parts = [safe_part(str(v)) for v in encoded.dictionary.to_pylist()] + [safe_part(None)]
        codes = dense(encoded.indices).astype(np.intp)
        null = null_mask(encoded)
        if null is not None:
            codes[null] = len(parts) - 1
        distinct, groups = np.unique(groups * len(parts) + codes, return_inverse=True)
        values = [(*values[d // len(parts)], parts[d % len(parts)]) for d in distinct.tolist()]
    return groups, values


def _locate(
    path: str, kind: FileKind, window_ns: int | None, filesystem: fs.FileSystem | None
) -> tuple[fs.FileSystem, str]:
    """The file system and the template inside it."""
    path, question, query = path.partition("?") if "://" in path else (path, "", "")
    if "{" not in path and not path.endswith(EXTENSIONS[kind]):
        default = DEFAULT_SEQUENCED if window_ns is None else DEFAULT_WINDOWED
        path = f"{path.rstrip('/')}/{default}{EXTENSIONS[kind]}"
    if filesystem is not None:
        return filesystem, path
    if "://" not in path:
        return fs.LocalFileSystem(), str(Path(path).expanduser().absolute())
    # Braces may not stand in a URI, so only what comes before them is handed over as one.
    root = path.partition("{")[0].rpartition("/")[0]
    try:
        found, base = filesystem_of(f"{root}{question}{query}")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _bad(repr(path), f"a local path or a URI that can be reached ({error})") from error
    return found, base.rstrip("/") + path[len(root) :]


def _put_local(path: Path, write: Callable[[Any], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(aside_name(path.name))
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(path.parent)


def _link(link: Path, target: Path) -> None:
    aside = link.with_name(aside_name(link.name))
    aside.symlink_to(os.path.relpath(target, link.parent))
    aside.replace(link)


def _cannot_append(path: str, lacking: list[str]) -> ConfigError:
    if not lacking:
        return _bad(
            "append: true", "append: false, for only local JSON lines and CSV can be added to"
        )
    return _bad(
        repr(path), f"a name that also has {', '.join(lacking)}, so that no file is overwritten"
    )


def _bad(found: str, allowed: str) -> ConfigError:
    return ConfigError("configuration", "sinks.path", found, allowed)
