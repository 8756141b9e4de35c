"""The rows of an open window that lead by each counter, and the sums of all of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.arrow import to_arrow
from flowray.columns import Columns, Words
from flowray.field import Field, Merge
from flowray.hashing import Interner
from flowray.views.fold import Fold
from flowray.views.view import ViewPlan, hash_keys
from flowray.views.window import OTHERS, REVISION, WINDOW, is_others

Rows: TypeAlias = npt.NDArray[np.intp]

OTHERS_ID = (1 << 64) - 1
"""Id of the row into which keys past a view's bound fold."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What a window holds. Times in nanoseconds; `sums` by counter."""

    start: int
    end: int
    revision: int
    rows: int
    sums: dict[str, int]


@dataclass(frozen=True, slots=True)
class Leading:
    """Native rows of an open window: those that lead by one of its counters.

    `ids` (rows,) uint64 tell keys apart and are the same in every process; `order` has the row
    numbers by counter, the biggest first, equal ones by descending id.
    """

    totals: Totals
    table: pa.Table
    ids: Words
    order: dict[str, Rows]


def counters_of(plan: ViewPlan) -> tuple[Field, ...]:
    """The values of a view that add up, by which rows can lead."""
    return tuple(f for f in plan.values if f.merge is Merge.SUM)


def totals(plan: ViewPlan, fold: Fold, start: int, revision: int) -> Totals:
    """The sums of a window."""
    return _totals(plan, fold.sums(), len(fold), start, revision)


def _totals(
    plan: ViewPlan, values: Mapping[str, Words], rows: int, start: int, revision: int
) -> Totals:
    assert plan.windows is not None
    sums = {name: int(v.sum()) for name, v in values.items()}
    return Totals(start, start + plan.windows.width, revision, rows, sums)


def leading(
    plan: ViewPlan, fold: Fold, start: int, revision: int, n: int, texts: Interner
) -> Leading:
    """The n first rows of a window by each counter. Which of equal rows are last is as it comes."""
    values = fold.sums()
    first = {name: _most(v, n) for name, v in values.items()}
    chosen = np.unique(np.concatenate([*first.values(), np.empty(0, np.intp)]))
    columns, words = fold.export(chosen=chosen)
    others = is_others(words)
    ids = _ids(columns, plan, texts, others)
    table = to_arrow(columns, [f.name for f in plan.fields], texts)
    table = table.append_column(WINDOW, pa.array(np.full(columns.n, start, np.int64)))
    table = table.append_column(REVISION, pa.array(np.full(columns.n, revision, np.uint32)))
    table = table.append_column(OTHERS, pa.array(others))
    order = {}
    for name, rows in first.items():
        at = np.searchsorted(chosen, rows)
        order[name] = at[np.lexsort((ids[at], columns[name][at]))[::-1]]
    return Leading(_totals(plan, values, len(fold), start, revision), table, ids, order)


def _most(values: Words, n: int) -> Rows:
    """Where the n biggest values are, in no order."""
    if values.size <= n:
        return np.arange(values.size)
    return np.argpartition(values, values.size - n)[values.size - n :]


def _ids(columns: Columns, plan: ViewPlan, texts: Interner, others: npt.NDArray[np.bool_]) -> Words:
    ids = hash_keys(columns, plan.keys, texts)
    ids[others] = OTHERS_ID
    return ids
