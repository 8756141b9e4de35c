"""A view's partition, on the side of the aggregator: merge partials, close windows by watermark,
commit, checkpoint.

Exactly once: a partial is known by (shard, incarnation, sequence) and a repeat is dropped; what is
acknowledged is what the last checkpoint holds; commits are idempotent under their id, so a restored
aggregator may repeat them. Rows for a window that is committed already (from a shard that was given
up and came back) go to its next revision.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flowray.arrow import from_arrow, to_arrow
from flowray.columns import Columns, Room, Words
from flowray.field import Merge
from flowray.hashing import Interner
from flowray.ingest.ledger import ViewAccount
from flowray.sinks.base import Commit, Sink
from flowray.state.outbox import OUTBOX_LIMIT, Entry, Outbox
from flowray.state.store import Store
from flowray.views.fold import RECORDS, Fold, partial_layout
from flowray.views.leading import Leading, Totals, leading, totals
from flowray.views.view import Partial, ViewPlan
from flowray.views.window import OTHERS, REVISION, WINDOW, is_others, window_word

END_OF_INPUT = (1 << 63) - 1
"""Watermark of a shard that will send no more."""

MAX_WINDOWS = 1 << 15
"""Windows and revisions open at a time; rows of further ones go to an others row of the newest."""

TEXTS_KEPT = 1 << 16
"""Texts at which those of closed windows are forgotten for the first time."""

CLOSED_KEPT = 1024
"""Closed windows whose totals are kept until somebody takes them."""

REMEMBERED_SHARDS = 1024
"""Incarnations of shards whose sequences are known; the oldest is forgotten for a new one."""


@dataclass(slots=True)
class Received:
    """How far a shard's partials have come: the last one merged, the last one in a checkpoint, its
    watermark.
    """

    sequence: int = 0
    acknowledged: int = 0
    watermark: int = 0


class Aggregator:
    """Open windows of one view and partition. Not thread-safe."""

    def __init__(
        self,
        plan: ViewPlan,
        sinks: Sequence[Sink] | Mapping[str, Sink],
        partition: int = 0,
        shards: Iterable[str] = (),
        *,
        store: Store | None = None,
        outbox_limit: int = OUTBOX_LIMIT,
    ) -> None:
        """`store` has what sinks do not take, of which there are `outbox_limit` octets at most for
        each sink.
        """
        self.plan = plan
        self.partition = partition
        if not isinstance(sinks, Mapping):
            sinks = {str(n): sink for n, sink in enumerate(sinks)}
        self.outbox = Outbox(
            plan.name, partition, sinks, taken=self._taken, store=store, limit=outbox_limit
        )
        self._texts = Interner()
        self._room = Room()
        self._renew_at = TEXTS_KEPT
        self._layout = partial_layout(plan.keys, plan.values)
        self._open: dict[tuple[int, int], Fold] = {}
        self._received: dict[tuple[str, str], Received] = {}
        self._newest: dict[str, str] = {}
        self._expected = set(shards)
        self._rows_committed = 0
        self._closed_until = 0
        self._closed_early: set[tuple[int, int]] = set()
        self._closed: deque[Totals] = deque(maxlen=CLOSED_KEPT)
        self.committed = {f.name: 0 for f in plan.values if f.merge is Merge.SUM}
        self.accounts = np.zeros(len(ViewAccount), np.int64)

    # -- partials ----------------------------------------------------------------------------------

    def expect(self, shards: Iterable[str]) -> None:
        """The shards whose watermarks hold windows open. One must be in it before it sends."""
        self._expected = set(shards)

    def merge(self, partial: Partial) -> int:
        """Take a partial; returns the sequence up to which this shard's partials are in a
        checkpoint.

        Repeats are recognised and dropped. Incarnations of a shard are ordered as text: a partial
        of an earlier one may still be on its way when the next one sends.
        """
        received = self._received_of(partial.shard, partial.incarnation)
        if partial.sequence > received.sequence:
            received.sequence = partial.sequence
            if partial.table is not None:
                self._take(partial, partial.table)
        received.watermark = max(received.watermark, partial.watermark)
        return received.acknowledged

    def _received_of(self, shard: str, incarnation: str) -> Received:
        place = shard, incarnation
        if place not in self._received:
            if len(self._received) >= REMEMBERED_SHARDS:
                del self._received[next(iter(self._received))]
            self._received[place] = Received()
            self._newest[shard] = max(self._newest.get(shard, ""), incarnation)
        return self._received[place]

    def acknowledged(self, shard: str, incarnation: str) -> int:
        """The sequence up to which a shard's partials are in a checkpoint."""
        received = self._received.get((shard, incarnation))
        return received.acknowledged if received else 0

    def unacknowledged(self, shard: str, incarnation: str) -> bool:
        """Whether a partial of this shard was merged since the last checkpoint."""
        received = self._received.get((shard, incarnation))
        return received is not None and received.acknowledged < received.sequence

    def _take(self, partial: Partial, table: pa.Table) -> None:
        if self.plan.windows is None:
            commit = Commit(
                self.plan.name, partition=self.partition, sequence=self._row_sequence(partial)
            )
            self._commit(commit, table, table.num_rows)
            return
        if not table.num_rows:
            return
        columns, others = self._native(table, self._room)
        start, revision = table[WINDOW].to_numpy(), table[REVISION].to_numpy()
        if (start == start[0]).all() and (revision == revision[0]).all():  # as nearly always
            if not others.any():
                others = others[:1]
            self._fold_late(int(start[0]), int(revision[0]), columns, others)
            return
        order = np.lexsort((revision, start))
        start, revision = start[order], revision[order]
        edges = np.flatnonzero((start[1:] != start[:-1]) | (revision[1:] != revision[:-1])) + 1
        for rows in np.split(np.arange(order.size), edges):
            chosen, first = order[rows], rows[0]
            self._fold_late(
                int(start[first]), int(revision[first]), columns.take(chosen), others[chosen]
            )

    def _native(self, table: pa.Table, room: Room | None = None) -> tuple[Columns, Words]:
        """Rows of a partial, and for each whether it is an others row (0 or 1)."""
        columns = from_arrow(table, self._layout, self._texts, room)
        return columns, table[OTHERS].to_numpy().astype(np.uint64)

    def _fold_late(self, start: int, revision: int, columns: Columns, others: Words) -> None:
        """Fold in, as a later revision if this one was committed already. `others` (n,) or, the
        same for all, (1,).
        """
        windows = self.plan.windows
        assert windows is not None
        told = revision
        over = self._closed_until - windows.deadline(start, revision)
        if over >= 0:
            revision += 1 + over // windows.width
        while (start, revision) in self._closed_early:
            revision += 1
        if revision != told:
            self.accounts[ViewAccount.LATE] += columns.n
        self._fold_in(start, revision, columns, others)

    def _row_sequence(self, partial: Partial) -> int:
        """Number of a commit without window: unique per shard, incarnation and sequence, the same
        at a repeat.
        """
        origin = zlib.crc32(f"{partial.shard}/{partial.incarnation}".encode())
        return origin << 32 | partial.sequence

    def _fold_in(self, start: int, revision: int, columns: Columns, others: Words) -> None:
        windows = self.plan.windows
        assert windows is not None
        fold = self._open.get((start, revision))
        if fold is None and len(self._open) >= MAX_WINDOWS:
            # Times made up by a sender: totals stay right, memory stays bounded.
            start, revision = max(self._open)
            fold, others = self._open[start, revision], np.ones_like(others)
            for f in self.plan.keys:
                columns[f.name][...] = 0
            self.accounts[ViewAccount.OTHERS] += columns.n
        if fold is None:
            fold = Fold(self._layout, self.plan.keys, self.plan.values, self.plan.max_keys)
            fold.reserve(columns.n)
            self._open[start, revision] = fold
        word = np.uint64(window_word(start, revision, windows, others=False))
        before = fold.others
        fold.add(columns.words, columns.n, word | others << np.uint64(63))
        self.accounts[ViewAccount.OTHERS] += fold.others - before

    # -- windows -----------------------------------------------------------------------------------

    @property
    def watermark(self) -> int:
        """Least watermark of the expected shards (ns); 0 while one of them has not reported."""
        return min(self.watermarks.values(), default=0)

    @property
    def watermarks(self) -> dict[str, int]:
        """Watermark by expected shard (ns): the least one holds windows open."""
        return {shard: self._watermark_of(shard) for shard in self._expected or self._newest}

    def _watermark_of(self, shard: str) -> int:
        received = self._received.get((shard, self._newest.get(shard, "")))
        return received.watermark if received else 0

    def advance(self, watermark: int | None = None) -> int:
        """Commit the windows that are complete, by the shards' watermark if none is given; returns
        how many. With an outbox that is full none, unless a watermark is given. Commits that a sink
        refused are tried again.
        """
        self.outbox.push()
        if self.plan.windows is None or (self.outbox.full and watermark is None):
            return 0
        watermark = self.watermark if watermark is None else watermark
        ripe = sorted(
            (start, revision)
            for start, revision in self._open
            if self.plan.windows.deadline(start, revision) <= watermark
        )
        for start, revision in ripe:
            self._close(start, revision)
        self._note_closed(watermark, ripe)
        if len(self._texts) >= self._renew_at or self._texts.crowded:
            self._renew_texts()
        return len(ripe)

    def _renew_texts(self) -> None:
        """Forget the texts that no open window holds."""
        old = {place: self._state_table(fold) for place, fold in self._open.items()}
        others = self.accounts[ViewAccount.OTHERS]
        self._texts = Interner()
        self._open.clear()
        for (start, revision), table in old.items():
            self._fold_in(start, revision, *self._native(table))
        self.accounts[ViewAccount.OTHERS] = others
        self._renew_at = max(TEXTS_KEPT, 2 * len(self._texts))

    def _note_closed(self, watermark: int, closed: list[tuple[int, int]]) -> None:
        """Remember what is closed: all up to a watermark, and what the end of input closed before
        its time.
        """
        windows = self.plan.windows
        assert windows is not None
        if watermark == END_OF_INPUT:
            self._closed_early.update(closed)
            return
        self._closed_until = max(self._closed_until, watermark)
        self._closed_early = {
            place for place in self._closed_early if windows.deadline(*place) > self._closed_until
        }

    def _close(self, start: int, revision: int) -> None:
        assert self.plan.windows is not None
        fold = self._open.pop((start, revision))
        self._closed.append(totals(self.plan, fold, start, revision))
        table, records = self._rows(fold, start, revision)
        commit = Commit(
            self.plan.name, start, start + self.plan.windows.width, self.partition, revision
        )
        self._commit(commit, table, records)

    def _rows(self, fold: Fold, start: int, revision: int) -> tuple[pa.Table, int]:
        """Native rows of a window and the records merged in them."""
        columns, window = fold.export(self._room)
        table = to_arrow(columns, [f.name for f in self.plan.fields], self._texts)
        n = table.num_rows
        table = table.append_column(WINDOW, pa.array(np.full(n, start, np.int64)))
        table = table.append_column(REVISION, pa.array(np.full(n, revision, np.uint32)))
        table = table.append_column(OTHERS, pa.array(is_others(window)))
        return table, int(columns[RECORDS].sum())

    # -- sinks -------------------------------------------------------------------------------------

    def _commit(self, commit: Commit, table: pa.Table, records: int) -> None:
        self.outbox.put(commit, table, records, self.committed)
        self.outbox.push()

    def _taken(self, entry: Entry) -> None:
        """All sinks have a commit."""
        self.accounts[ViewAccount.COMMITTED] += entry.records
        self._rows_committed += entry.rows
        for name in self.committed:
            self.committed[name] += entry.sums[name]

    def close_accounts(self) -> None:
        """Begin the accounts anew: a run has ended and all of its records are committed."""
        with self.outbox.lock:
            self.accounts[:] = 0
            self._rows_committed = 0
            self.committed = dict.fromkeys(self.committed, 0)

    def close(self) -> None:
        """Close the sinks."""
        self.outbox.close()

    # -- looking at it -----------------------------------------------------------------------------

    @property
    def rows_committed(self) -> int:
        """Rows that all sinks have taken."""
        return self._rows_committed

    @property
    def open_records(self) -> int:
        """Records in open windows and in commits that a sink has not taken yet."""
        return self.outbox.records + sum(fold.merged for fold in tuple(self._open.values()))

    @property
    def open_windows(self) -> int:
        """Windows and revisions of windows that are not closed."""
        return len(self._open)

    @property
    def outstanding(self) -> int:
        """Commits that a sink has not taken yet."""
        return self.outbox.outstanding

    @property
    def last_sink_error(self) -> str:
        """What a sink said that refused a commit."""
        return self.outbox.last_error

    def leading(self, n: int, windows: int) -> list[Leading]:
        """The n first rows by each counter of so many open windows, the newest first. A window that
        is open in several revisions is told in the lowest.
        """
        least: dict[int, int] = {}
        for start, revision in self._open:
            least[start] = min(revision, least.get(start, revision))
        return [
            leading(self.plan, self._open[place], *place, n, self._texts)
            for place in sorted(least.items(), reverse=True)[:windows]
        ]

    def take_closed(self) -> list[Totals]:
        """The totals of windows closed since the last call, the last `CLOSED_KEPT` of them."""
        closed = list(self._closed)
        self._closed.clear()
        return closed

    # -- checkpoints -------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, pa.Table], list[Entry]]:
        """Everything a successor needs: a JSON-able description, the tables it names, and what it
        lists of the outbox.
        """
        tables = {}
        for (start, revision), fold in self._open.items():
            tables[f"window-{start}-{revision}"] = self._state_table(fold)
        with self.outbox.lock:
            listed = self.outbox.entries()
            description = {
                "received": [
                    [shard, incarnation, r.sequence, r.watermark]
                    for (shard, incarnation), r in self._received.items()
                ],
                "open": [[start, revision] for start, revision in self._open],
                "outbox": [entry.describe() for entry in listed],
                "accounts": self.accounts.tolist(),
                "rows": self._rows_committed,
                "committed": dict(self.committed),
                "closed_until": self._closed_until,
                "closed_early": [list(place) for place in self._closed_early],
            }
        return description, tables, listed

    def _state_table(self, fold: Fold) -> pa.Table:
        columns, window = fold.export(self._room)
        table = to_arrow(columns, columns.layout.names, self._texts)
        return table.append_column(OTHERS, pa.array(is_others(window)))

    def adopt(
        self,
        description: dict[str, Any],
        tables: dict[str, pa.Table],
        outbox: Mapping[int, pa.Table],
    ) -> None:
        """Go on from the state of another run: with accounts of our own, in which what is open
        there is `restored`.
        """
        self.restore(description, tables, outbox)
        self.close_accounts()
        self.accounts[ViewAccount.RESTORED] = self.open_records

    def acknowledge(self, description: dict[str, Any]) -> None:
        """Note that a state was stored: what it holds may be forgotten by the shards."""
        for shard, incarnation, sequence, _ in description["received"]:
            received = self._received.get((shard, incarnation))
            if received is not None:
                received.acknowledged = max(received.acknowledged, sequence)

    def restore(
        self,
        description: dict[str, Any],
        tables: dict[str, pa.Table],
        outbox: Mapping[int, pa.Table] | None = None,
    ) -> None:
        """Go on from a stored state. The rows of its outbox are in the store, or in `outbox`."""
        self.succeed(description)
        for start, revision in description["open"]:
            table = tables[f"window-{start}-{revision}"]
            self._fold_in(start, revision, *self._native(table))
        told = description["accounts"]
        self.accounts[: len(told)] = told
        self._rows_committed = description["rows"]
        self.committed.update(description["committed"])
        self.outbox.restore(description["outbox"], outbox)

    def succeed(self, description: dict[str, Any]) -> None:
        """Follow on a stored state, maybe of another form of the view: what was received there is
        known, what was closed there is not committed again.
        """
        for shard, incarnation, sequence, watermark in description["received"]:
            received = self._received_of(shard, incarnation)
            received.sequence = received.acknowledged = sequence
            # That a shard ended belongs to the run before: its successor says how far it is.
            received.watermark = 0 if watermark == END_OF_INPUT else watermark
        self._closed_until = description["closed_until"]
        self._closed_early = {(start, revision) for start, revision in description["closed_early"]}
