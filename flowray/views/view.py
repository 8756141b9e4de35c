"""A view of the traffic, on the side of a shard: filter, sample, fold; and the partials it hands
over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.arrow import to_arrow
from flowray.columns import Columns, Layout, Room, Words
from flowray.field import Field
from flowray.hashing import Interner
from flowray.ingest.ledger import Ledger, ViewAccount
from flowray.views import kernels as k
from flowray.views.filter import Filter
from flowray.views.fold import NO_SCALE, RECORDS, Fold
from flowray.views.packed import pack
from flowray.views.window import Windows, revision

MAX_PARTS = 1440
"""Windows that one flow is spread over at most."""

_ALIASES = {"timestamp_min": "timestamp_start", "timestamp_max": "timestamp_end"}
"""Fields of merged records, and what they are made from."""

_SHARED = ("packets", "bytes")
"""Counters that a long flow spreads over windows."""


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """What a view does. Without `windows` it reduces nothing: one row a record.

    `of` says what it is offered: flow records, or counter blocks (`flowray.counters`).
    `by_start`: windows by the start of the flow instead of the arrival of its datagram; `split`:
    spread long flows over the windows they touch; `sample`: keep one record in so many and multiply
    its counters.
    """

    name: str
    keys: tuple[Field, ...]
    values: tuple[Field, ...]
    windows: Windows | None = None
    of: Literal["flows", "counters"] = "flows"
    by_start: bool = False
    split: bool = False
    filter: Filter | None = None
    sample: int = 1
    renormalise: bool = True
    max_keys: int = 1_000_000
    partitions: int = 1

    @property
    def fields(self) -> tuple[Field, ...]:
        """Fields of a row: keys, then values."""
        return (*self.keys, *self.values)

    @property
    def needs(self) -> set[str]:
        """Fields that batches offered to the view must hold."""
        names = {f.name for f in self.fields} - {"timestamp_min", "timestamp_max"}
        names |= {"timestamp_arrival", "packets", "bytes", "flows"}
        if self.filter is not None:
            names |= self.filter.fields
        if self.by_start or any(f.name in ("timestamp_min", "timestamp_max") for f in self.values):
            names |= {"timestamp_start", "timestamp_end"}
        if self.renormalise:
            names.add("sampling_rate")
        if self.split:
            names.add(RECORDS)
        return names


@dataclass(slots=True)
class Partial:
    """What a shard hands to the aggregator of a view's partition.

    A shard numbers its partials per view and partition (shard, incarnation, sequence), and keeps
    each until the aggregator has acknowledged it. `watermark` (ns): every record that arrived
    before is in this or an earlier partial.
    """

    view: str
    partition: int
    shard: str
    incarnation: str
    sequence: int
    watermark: int
    table: pa.Table | None = None


@dataclass(slots=True)
class View:
    """A view's state in one shard."""

    plan: ViewPlan
    layout: Layout
    ledger: Ledger
    _fold: Fold | None = None
    _rows: list[pa.Table] = field(default_factory=list)
    _room: Room = field(default_factory=Room)
    _sampled: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        plan = self.plan
        if plan.windows is not None:
            self._fold = Fold(self._fold_layout(), plan.keys, plan.values, plan.max_keys)
        self._sampled = tuple(
            self.layout.index(f.name) + w
            for f in self.layout.fields
            if not f.kind.interned and f.name not in ("_packet", "_exporter", "_frame")
            for w in range(f.kind.words)
        )

    def _fold_layout(self) -> Layout:
        """The batch layout with the earliest start and latest end as aliases of the flow's own
        times.
        """
        return _Aliased(self.layout, _ALIASES)

    @property
    def pending(self) -> int:
        """Rows to hand over."""
        return len(self._fold) if self._fold is not None else sum(t.num_rows for t in self._rows)

    @property
    def nbytes(self) -> int:
        """Octets of memory of the open partial."""
        if self._fold is not None:
            return self._fold.nbytes + self._room.nbytes
        return sum(t.nbytes for t in self._rows)

    def offer(self, columns: Columns, texts: Interner) -> None:
        """Take what the view wants of a batch. The batch is not kept."""
        plan = self.plan
        self._count(ViewAccount.OFFERED, columns.n)
        if plan.filter is not None:
            mask = plan.filter.mask(columns, texts)
            kept = int(mask.sum())
            self._count(ViewAccount.FILTERED, columns.n - kept)
            columns = columns if kept == columns.n else columns.take(mask)
        if plan.sample > 1:
            columns = self._sample(columns)
        if not columns.n:
            return
        self._count(ViewAccount.AGGREGATED, columns.n)
        scale = self._scale(columns)
        if self._fold is None:
            self._pass_on(columns, scale, texts)
            return
        self._fold_in(columns, scale)

    def _count(self, account: ViewAccount, n: int) -> None:
        self.ledger.add_view(self.plan.name, account, n)

    def _sample(self, columns: Columns) -> Columns:
        """Keep one record in `sample`, picked by a hash of its values: the same ones whichever
        shard sees them.
        """
        h = np.full(columns.n, 0x9E3779B97F4A7C15, np.uint64)
        for row in self._sampled:
            h = (h ^ columns.words[row, : columns.n]) * np.uint64(0xFF51AFD7ED558CCD)
            h ^= h >> np.uint64(32)
        kept = columns.take(h % np.uint64(self.plan.sample) == 0)
        self._count(ViewAccount.SAMPLED_OUT, columns.n - kept.n)
        return kept

    def _scale(self, columns: Columns) -> Words:
        """What packets and bytes are multiplied with: (n,), (1,) if it is the same for all records,
        (0,) if it is 1.
        """
        scale = np.ones(1, np.uint64)
        if self.plan.renormalise:
            rate = columns["sampling_rate"]
            least, most = columns.bounds("sampling_rate")
            scale = np.maximum(rate[:1] if least == most else rate, 1)
        if self.plan.sample > 1:
            scale = scale * np.uint64(self.plan.sample)
        return NO_SCALE if scale.size == 1 and scale[0] == 1 else scale

    def _pass_on(self, columns: Columns, scale: Words, texts: Interner) -> None:
        names = [f.name for f in self.plan.fields]
        # One record's earliest start is its start.
        sources = [_ALIASES.get(name, name) for name in names]
        table = to_arrow(columns, dict.fromkeys(sources), texts)
        for name in _SHARED if scale.size else ():
            if name in sources:
                scaled = pa.array(columns[name] * scale)
                table = table.set_column(table.column_names.index(name), name, scaled)
        self._rows.append(table.select(sources).rename_columns(names))

    def _fold_in(self, columns: Columns, scale: Words) -> None:
        plan = self.plan
        assert plan.windows is not None
        assert self._fold is not None
        arrival = columns["timestamp_arrival"].view(np.int64)
        time = columns["timestamp_start"].view(np.int64) if plan.by_start else arrival
        if columns.since:
            # Held data: its window may be committed already, so it counts as late by the time it
            # was held.
            arrival = np.maximum(arrival, columns.since)
        words, n = columns.words, columns.n
        if plan.split:
            words, source, time = self._split(columns, time)
            arrival, n = arrival[source], source.size
            scale = scale[source] if scale.size > 1 else scale
        if time is arrival:
            known = None if columns.since else columns.bounds("timestamp_arrival")
            window = plan.windows.words_of_arrival(arrival, known)
        else:
            window = plan.windows.words(time, arrival)
            self._count(ViewAccount.LATE, int((revision(window) > 0).sum()))
        self._fold.add(words, n, window, scale)

    def _split(
        self, columns: Columns, start: npt.NDArray[np.int64]
    ) -> tuple[Words, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows for each window that a flow touches: words, source row, a moment inside the window.

        Counters are shared out exactly. The record itself is counted once, in its first window.
        """
        windows = self.plan.windows
        assert windows is not None
        arrival = columns["timestamp_arrival"].astype(np.int64)
        start = windows.within(start, arrival)
        end = np.clip(columns["timestamp_end"].astype(np.int64), start, arrival)
        parts = np.empty(columns.n, np.int64)
        total = int(k.count_parts(start, end, windows.width, windows.offset, MAX_PARTS, parts))
        source, begins = np.empty(total, np.int64), np.empty(total, np.int64)
        index = columns.layout.index
        totals = np.ascontiguousarray(columns.words[[index(n) for n in _SHARED], : columns.n])
        shares = np.empty((len(_SHARED), total), np.uint64)
        k.split(start, end, windows.width, windows.offset, parts, totals, source, begins, shares)
        words = np.ascontiguousarray(columns.words[:, source])
        for i, name in enumerate(_SHARED):
            words[index(name)] = shares[i]
        first = np.concatenate(([True], source[1:] != source[:-1]))
        words[index("flows")] = np.where(first, words[index("flows")], 0)
        words[index(RECORDS)] = first
        return words, source, begins

    def hand_over(self, texts: Interner) -> list[tuple[int, pa.Table]]:
        """The open partial as (partition, table) pairs, and begin a new one."""
        if self._fold is None:
            return self._hand_over_rows()
        fold = self._fold
        if not len(fold):
            return []
        columns, window = fold.export(self._room)
        windows = self.plan.windows
        assert windows is not None
        self._count(ViewAccount.OTHERS, fold.others)
        fold.clear()
        if self.plan.partitions == 1:
            return [(0, pack(columns, window, windows, texts))]
        h = hash_keys(columns, self.plan.keys, texts)
        partition = (h % np.uint64(self.plan.partitions)).astype(np.int64)
        chosen = ((p, partition == p) for p in np.unique(partition).tolist())
        return [(p, pack(columns.take(rows), window[rows], windows, texts)) for p, rows in chosen]

    def _hand_over_rows(self) -> list[tuple[int, pa.Table]]:
        if not self._rows:
            return []
        table = pa.concat_tables(self._rows).unify_dictionaries()
        self._rows.clear()
        return [(0, table)]


def hash_keys(columns: Columns, keys: Sequence[Field], texts: Interner) -> Words:
    """Hashes (n,) of the rows' keys: the same in every process."""
    h = np.zeros(columns.n, np.uint64)
    for f in keys:
        words = columns[f.name].reshape(-1, columns.n)
        for row in words:
            value = texts.hashes(row) if f.kind.interned else row
            h = (h ^ value) * np.uint64(0xFF51AFD7ED558CCD)
            h ^= h >> np.uint64(33)
    return h


class _Aliased(Layout):
    """A layout in which some names stand for others' words."""

    __slots__ = ("_alias",)

    def __init__(self, of: Layout, alias: dict[str, str]) -> None:
        super().__init__(of.names, {f.name: f for f in of.fields})
        self._alias = alias

    def index(self, name: str) -> int:
        return super().index(self._alias.get(name, name))
