"""Datagrams as tables: rows as a shard spools them, and the Parquet files that they become."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowray.wire.packets import PacketBatch, address_text
from flowray.wire.packets_kernels import copy_payloads

__all__ = ["KEPT", "SPOOLED", "read_spool", "rows_of", "write_kept"]

ROW_GROUP_OCTETS = 16 << 20
"""Octets of payloads in a row group: what is read at least for one exporter."""

ROW_COST = 48
"""Octets that a row takes beside its payload, in memory and in the spool."""

_SPOOLED: dict[str, pa.DataType] = {
    "sequence": pa.uint64(),
    "arrival": pa.int64(),
    "port": pa.uint16(),
    "hi": pa.uint64(),
    "lo": pa.uint64(),
    "payload": pa.binary(),
}
SPOOLED: Final = pa.schema(_SPOOLED)
"""Rows of the spool, an Arrow stream: addresses as words, port 0 where it is not known."""

_TEXT: Final[pa.DataType] = pa.dictionary(pa.int32(), pa.string())

KEPT: Final = pa.schema(
    {
        "arrival": pa.timestamp("ns", "UTC"),
        "listener": _TEXT,
        "source": _TEXT,
        "exporter": _TEXT,
        "port": pa.uint16(),
        "sequence": pa.uint64(),
        "payload": pa.binary(),
    }
)
"""Columns of a Parquet file. Rows are sorted by exporter, then sequence, so that the statistics of
row groups tell where an exporter is. `sequence` numbers the datagrams of a shard's life: in that
order it took them.
"""


def rows_of(
    batch: PacketBatch, hi: npt.NDArray[np.uint64], lo: npt.NDArray[np.uint64], first: int
) -> pa.RecordBatch:
    """Rows (n,) of the spool with a copy of the payloads; `hi` and `lo` (n,) are the senders'
    addresses, `first` is the number of the first datagram.
    """
    n = len(batch)
    place = np.zeros(n + 1, np.int64)
    np.cumsum(batch.length, out=place[1:])
    payload = np.empty(int(place[-1]), np.uint8)
    copy_payloads(batch.buf, batch.offset, batch.length, place, payload)
    port = np.zeros(n, np.uint16) if batch.port is None else batch.port
    return pa.RecordBatch.from_arrays(
        [
            pa.array(np.arange(first, first + n, dtype=np.uint64)),
            pa.array(batch.arrival),
            pa.array(port),
            pa.array(hi),
            pa.array(lo),
            _binary(payload, place),
        ],
        schema=SPOOLED,
    )


def _binary(octets: npt.NDArray[np.uint8], place: npt.NDArray[np.int64]) -> pa.Array[Any]:
    buffers = [None, pa.py_buffer(place.astype(np.int32)), pa.py_buffer(octets)]
    return pa.Array.from_buffers(pa.binary(), len(place) - 1, buffers)


def read_spool(path: Path) -> pa.Table:
    """The rows of a spool file, those before the place where it is cut off. Raises OSError."""
    batches: list[pa.RecordBatch] = []
    with pa.memory_map(str(path)) as source:
        try:
            with pa.ipc.open_stream(source) as stream:
                batches.extend(stream)
        except (pa.ArrowInvalid, OSError, EOFError):
            pass  # the process was killed while it wrote; what is whole counts
    return pa.Table.from_batches(batches, SPOOLED)


def write_kept(
    spooled: pa.Table, path: Path, listeners: Mapping[int, str], level: int, about: dict[str, str]
) -> None:
    """Write rows of the spool as a Parquet file. `listeners` are URLs by port; `about` goes into
    the file's metadata. Raises OSError.
    """
    from pyarrow.parquet import ParquetWriter  # slow to import

    addresses, which = _addresses(spooled)
    order = np.lexsort((spooled["sequence"].to_numpy(), which))
    table = spooled.take(order)
    texts = pa.array(addresses, pa.string())
    source = pa.DictionaryArray.from_arrays(which[order], texts)
    port = table["port"].combine_chunks()
    known = pc.not_equal(port, pa.scalar(0, pa.uint16()))
    kept = pa.table(
        [
            table["arrival"].cast(KEPT.field("arrival").type),
            _listeners(port, listeners),
            source,
            source,
            pc.if_else(known, port, pa.scalar(None, pa.uint16())),
            table["sequence"],
            table["payload"],
        ],
        schema=KEPT.with_metadata(about),
    )
    octets = max(kept["payload"].nbytes, 1)
    rows = max(kept.num_rows * ROW_GROUP_OCTETS // octets, 1)
    with ParquetWriter(
        path,
        kept.schema,
        compression="zstd",
        compression_level=level,
        use_dictionary=["listener", "source", "exporter"],  # type: ignore[arg-type] # names, too
        column_encoding=dict.fromkeys(("arrival", "sequence", "port"), "DELTA_BINARY_PACKED"),
        write_statistics=[name for name in KEPT.names if name != "payload"],
    ) as writer:
        writer.write_table(kept, row_group_size=min(rows, 1 << 20))


def _addresses(spooled: pa.Table) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The senders' addresses in the order of their texts, and for each row (n,) which of them."""
    words = np.stack([spooled[name].to_numpy() for name in ("hi", "lo")], axis=1)
    distinct, index = np.unique(words, axis=0, return_inverse=True)
    texts = [address_text(int(hi), int(lo)) for hi, lo in distinct]
    rank = np.empty(len(texts), np.int32)
    rank[np.argsort(texts)] = np.arange(len(texts), dtype=np.int32)
    return sorted(texts), rank[index.reshape(-1)]


def _listeners(port: pa.Array[Any], listeners: Mapping[int, str]) -> pa.DictionaryArray[Any, Any]:
    ports = sorted(listeners)
    index = pc.index_in(port, pa.array(ports, pa.uint16()))
    return pa.DictionaryArray.from_arrays(
        index, pa.array([listeners[p] for p in ports], pa.string())
    )
