"""The rows that a shard hands over, as a table: the narrowest columns that hold them.

`flowray.arrow.from_arrow` reads them; the marks beside the fields are read as they are. (Run-end
encoding would be narrower still, but Ray's serializer does not know it.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from flowray.arrow import narrow, to_narrow
from flowray.columns import Columns, Words
from flowray.hashing import Interner
from flowray.views.window import OTHERS, REVISION, WINDOW, Windows, is_others, revision


def pack(columns: Columns, window: Words, windows: Windows, texts: Interner) -> pa.Table:
    """A table of all fields of a batch, and what its window words (n,) say: WINDOW as a dictionary,
    REVISION, OTHERS.
    """
    table = to_narrow(columns, texts)
    table = table.append_column(WINDOW, _dictionary(windows.start(window)))
    table = table.append_column(REVISION, narrow(revision(window)))
    return table.append_column(OTHERS, pa.array(is_others(window)))


def _dictionary(values: Any) -> pa.Array[Any]:
    """Numbers (n,) of which there are few."""
    if (values == values[:1]).all():
        distinct, index = values[:1], np.zeros(values.size, np.uint8)
    else:
        distinct, index = np.unique(values, return_inverse=True)
    array: pa.Array[Any] = pa.DictionaryArray.from_arrays(narrow(index), pa.array(distinct))
    return array
