"""Native columns of `flowray.route_fields`: out of values, and out of few values by index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.arrow import arrow_type
from flowray.route_fields import ROUTE_FIELDS

__all__ = ["Column", "column", "distinct", "indexed", "numbers", "taken"]

Column: TypeAlias = "pa.Array[Any]"


def column(name: str, values: Sequence[object]) -> Column:
    """A native column of values."""
    field = ROUTE_FIELDS[name]
    if field.kind.interned:
        return indexed(np.arange(len(values), dtype=np.int32), values)
    array: Column = pa.array(values, arrow_type(field))
    return array


def _raw(value: object) -> bytes | None:
    """A text, or a list of texts, as its native bytes."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)).encode()
    return str(value).encode()


def indexed(index: npt.NDArray[np.int32], values: Sequence[object]) -> Column:
    """A dictionary column: row *i* is ``values[index[i]]``; None is null."""
    texts = [_raw(v) for v in values]
    known = np.array([t is not None for t in texts], np.bool_)
    mask = None if known.all() else ~known[index]
    dictionary = pa.array([t or b"" for t in texts], pa.binary())
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32(), mask=mask), dictionary)


def taken(name: str, index: npt.NDArray[Any], values: Sequence[object]) -> Column:
    """A column of which row *i* is ``values[index[i]]``."""
    if ROUTE_FIELDS[name].kind.interned:
        return indexed(index.astype(np.int32), values)
    kind = arrow_type(ROUTE_FIELDS[name])
    known = np.array([v is not None for v in values], np.bool_)
    numbers = np.array([v or 0 for v in values], kind.to_pandas_dtype())
    mask = None if known.all() else ~known[index]
    array: Column = pa.array(numbers[index], kind, mask=mask)
    return array


def numbers(name: str, values: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None) -> Column:
    """A column of numbers, null where the mask is true."""
    kind = arrow_type(ROUTE_FIELDS[name])
    array: Column = pa.array(values.astype(kind.to_pandas_dtype(), copy=False), kind, mask=mask)
    return array


def distinct(
    values: npt.NDArray[np.uint64], absent: npt.NDArray[np.bool_], text: Callable[[int], str]
) -> Column:
    """A dictionary column of the texts of numbers, each made once."""
    known, index = np.unique(values, return_inverse=True)
    dictionary = pa.array([text(v).encode() for v in known.tolist()], pa.binary())
    indices = pa.array(index.astype(np.int32), pa.int32(), mask=absent)
    return pa.DictionaryArray.from_arrays(indices, dictionary)
