"""The rows that a shard hands over, as a table: the narrowest columns that hold them.

Windows, revisions and marks of others rows are run-end encoded: nearly all rows share theirs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.arrow import from_arrow, to_narrow
from flowray.columns import Columns, Layout, Room, Words
from flowray.hashing import Interner
from flowray.views.window import OTHERS, REVISION, WINDOW, Windows, is_others, revision


class Runs(NamedTuple):
    """Runs of rows that share a window: rows in each (k,), start of the window (ns), revision, and
    whether they are others rows.
    """

    rows: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    revision: npt.NDArray[np.uint32]
    others: npt.NDArray[np.bool_]


def pack(columns: Columns, window: Words, windows: Windows, texts: Interner) -> pa.Table:
    """A table of all fields of a batch and its window words (n,); n is not 0."""
    last = np.append(np.flatnonzero(window[1:] != window[:-1]), window.size - 1)
    ends, words = pa.array((last + 1).astype(np.int32), pa.int32()), window[last]
    table = to_narrow(columns, texts)
    for name, values in (
        (WINDOW, windows.start(words)),
        (REVISION, revision(words)),
        (OTHERS, is_others(words)),
    ):
        runs: pa.Array[Any] = pa.RunEndEncodedArray.from_arrays(ends, pa.array(values))
        table = table.append_column(name, runs)
    return table


def unpack(
    table: pa.Table, layout: Layout, texts: Interner, room: Room | None = None
) -> tuple[Columns, Runs]:
    """What `pack` made a table of; in `room`, if there is one."""
    start, marks, others = (_one(table[name]) for name in (WINDOW, REVISION, OTHERS))
    ends = start.run_ends.to_numpy().astype(np.int64)
    runs = Runs(
        np.diff(ends, prepend=0),
        start.values.to_numpy(),
        marks.values.to_numpy(),
        others.values.to_numpy(zero_copy_only=False),
    )
    return from_arrow(table, layout, texts, room), runs


def _one(column: Any) -> Any:
    """The only chunk of a column."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
