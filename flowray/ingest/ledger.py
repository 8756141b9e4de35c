"""The ledger: every datagram, set and record ends in exactly one account, per exporter.

Three balances hold at any time, and `problems` checks them: datagrams  received = decoded +
malformed + refused sets       held = decoded later + expired + evicted + still held records
offered to a view = filtered + sampled out + aggregated; aggregated = committed + still open
A view of counters is offered counter blocks, every other one records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.ingest.kernels import count_each
from flowray.ingest.sequence_runs import Told, join_told, with_gaps
from flowray.wire.packets import Exporters

Counts: TypeAlias = npt.NDArray[np.int64]
Snapshot: TypeAlias = dict[str, Any]


class Account(IntEnum):
    """Per exporter. Order is that of the rows of the counter table."""

    DATAGRAMS = 0
    DECODED = 1
    SHORT_HEADER = 2
    UNKNOWN_VERSION = 3
    BAD_COUNT = 4
    BAD_LENGTH = 5
    BAD_SET_LENGTH = 6
    BAD_TEMPLATE = 7
    BAD_SAMPLE = 8
    REFUSED = 9
    RECORDS = 10
    OPTION_RECORDS = 11
    SETS_HELD = 12
    SETS_HELD_DECODED = 13
    SETS_EXPIRED = 14
    SETS_EVICTED = 15
    SKEWED = 16
    TEMPLATES = 17
    TEMPLATES_REFUSED = 18
    COUNTER_SAMPLES = 19
    DISCARD_SAMPLES = 20
    SKIPPED_SAMPLES = 21
    COUNTER_BLOCKS = 22
    SETS_UNSETTLED = 23
    TEMPLATES_EXPIRED = 24
    BAD_ENVELOPE = 25
    UNARCHIVED = 26

    @property
    def label(self) -> str:
        """Name in snapshots and metrics."""
        return self.name.lower()


MALFORMED = (
    Account.SHORT_HEADER,
    Account.UNKNOWN_VERSION,
    Account.BAD_COUNT,
    Account.BAD_LENGTH,
    Account.BAD_SET_LENGTH,
    Account.BAD_TEMPLATE,
    Account.BAD_SAMPLE,
    Account.BAD_ENVELOPE,
)


class ViewAccount(IntEnum):
    """Per view."""

    OFFERED = 0
    FILTERED = 1
    SAMPLED_OUT = 2
    AGGREGATED = 3
    LATE = 4
    OTHERS = 5
    COMMITTED = 6
    RESTORED = 7
    ABSENT = 8

    @property
    def label(self) -> str:
        """Name in snapshots and metrics."""
        return self.name.lower()


class Ledger:
    """Counters of one shard or aggregator, by exporter and by view.

    `counter_views` are the views that are offered counter blocks in place of records.
    """

    def __init__(self, exporters: Exporters, counter_views: Iterable[str] = ()) -> None:
        self._exporters = exporters
        self._counter_views = sorted(counter_views)
        self._counts: Counts = np.zeros((len(Account), 64), np.int64)
        self._views: dict[str, Counts] = {}

    def add(
        self, account: Account, exporter: npt.NDArray[np.integer], n: Counts | None = None
    ) -> None:
        """Add n[i] (default 1) to an account of exporter[i]."""
        if exporter.size:
            self._widen(int(exporter.max()))
            if n is None:
                count_each(exporter, self._counts[account])
            else:
                np.add.at(self._counts[account], exporter, n)

    def add_one(self, account: Account, exporter: int, n: int = 1) -> None:
        """Add to an account of one exporter."""
        self._widen(exporter)
        self._counts[account, exporter] += n

    def _widen(self, exporter: int) -> None:
        """Have a column for an exporter."""
        if exporter < self._counts.shape[1]:
            return
        grown = np.zeros((len(Account), 1 << (exporter + 1).bit_length()), np.int64)
        grown[:, : self._counts.shape[1]] = self._counts
        self._counts = grown

    def add_view(self, view: str, account: ViewAccount, n: int) -> None:
        """Add to an account of a view."""
        if view not in self._views:
            self._views[view] = np.zeros(len(ViewAccount), np.int64)
        self._views[view][account] += n

    def total(self, account: Account) -> int:
        """An account summed over exporters."""
        return int(self._counts[account].sum())

    def table(self) -> pa.Table:
        """The counters of all exporters by their numbers, a column per account."""
        n = min(len(self._exporters), self._counts.shape[1])
        return pa.table({a.label: self._counts[a, :n] for a in Account})

    def views(self) -> dict[str, dict[str, int]]:
        """The accounts of all views: {view: {account: n}}."""
        return {
            name: {a.label: int(row[a]) for a in ViewAccount} for name, row in self._views.items()
        }

    def restore(self, table: pa.Table, views: Mapping[str, Mapping[str, int]]) -> None:
        """Go on from the accounts that another ledger told, in place of its own."""
        width = max(64, 1 << table.num_rows.bit_length())
        self._counts = np.zeros((len(Account), width), np.int64)
        for account in Account:
            if account.label in table.column_names:
                self._counts[account, : table.num_rows] = table[account.label].to_numpy()
        self._views = {
            name: np.array([row.get(a.label, 0) for a in ViewAccount], np.int64)
            for name, row in views.items()
        }

    def reset(self) -> None:
        """Begin anew."""
        self._counts[:] = 0
        self._views.clear()

    def counts(self) -> Counts:
        """A copy of the accounts (Account, exporter)."""
        return self._counts.copy()

    def view_counts(self) -> dict[str, Counts]:
        """A copy of the accounts of views (ViewAccount,)."""
        return {view: row.copy() for view, row in self._views.items()}

    def snapshot(self) -> Snapshot:
        """{"exporters": {address: {account: n}}, "views": {view: {account: n}}}; accounts that are
        zero are left out. "counter_views": [view, ...] is there if there are any; "held", the sets
        that are held now, if a collector adds it.
        """
        exporters = {}
        for i in np.flatnonzero(self._counts.any(axis=0)):
            row = self._counts[:, i]
            exporters[self._exporters.address(int(i))] = {
                a.label: int(row[a]) for a in Account if row[a]
            }
        views = {
            name: {a.label: int(row[a]) for a in ViewAccount if row[a]}
            for name, row in self._views.items()
        }
        return {"exporters": exporters, "views": views} | _counter_views(self._counter_views)


def _counter_views(names: list[str]) -> Snapshot:
    return {"counter_views": names} if names else {}


def merge_snapshots(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of several ledgers; their sequence accounts as one, if they have any. What one
    decoded while it had no account of a view that another has is `absent` from that view: it was
    not there yet, or no more.
    """
    total: Snapshot = {"exporters": {}, "views": {}}
    counter_views: set[str] = set()
    told: list[Told] = []
    snapshots = list(snapshots)
    for snapshot in snapshots:
        counter_views.update(snapshot.get("counter_views", ()))
        for part in ("exporters", "views"):
            for name, accounts in snapshot[part].items():
                into = total[part].setdefault(name, {})
                for account, n in accounts.items():
                    into[account] = into.get(account, 0) + n
        if "held" in snapshot:
            total["held"] = total.get("held", 0) + snapshot["held"]
        if "sequences" in snapshot:
            told.append(snapshot["sequences"])
    for snapshot in snapshots:
        decoded = totals(snapshot)
        for view in total["views"].keys() - snapshot["views"].keys():
            unit = Account.COUNTER_BLOCKS if view in counter_views else Account.RECORDS
            if n := decoded.get(unit.label, 0):
                into = total["views"][view]
                into["absent"] = into.get("absent", 0) + n
    if told:
        total["sequences"] = join_told(told)
    return with_gaps(total) | _counter_views(sorted(counter_views))


def totals(snapshot: Snapshot) -> dict[str, int]:
    """Accounts summed over exporters."""
    out: dict[str, int] = {}
    for accounts in snapshot["exporters"].values():
        for account, n in accounts.items():
            out[account] = out.get(account, 0) + n
    return out


def problems(
    snapshot: Snapshot, *, held: int = 0, open_records: Mapping[str, int] | None = None
) -> list[str]:
    """What does not balance, one line each.

    held: sets held at this moment; open_records: records in open windows and unacknowledged
    partials, by view.
    """
    found = []
    for address, row in snapshot["exporters"].items():
        received = row.get("datagrams", 0)
        ended = sum(row.get(a.label, 0) for a in (Account.DECODED, Account.REFUSED, *MALFORMED))
        if received != ended:
            found.append(
                f"exporter {address}: {received} datagrams received, {ended} accounted for"
            )
    sums = totals(snapshot)
    ended = sum(sums.get(a, 0) for a in ("sets_held_decoded", "sets_expired", "sets_evicted"))
    if sums.get("sets_held", 0) != ended + held:
        found.append(f"{sums.get('sets_held', 0)} sets held, {ended + held} accounted for")
    for view, row in snapshot["views"].items():
        of_counters = view in snapshot.get("counter_views", ())
        unit = Account.COUNTER_BLOCKS if of_counters else Account.RECORDS
        still_open = (open_records or {}).get(view, 0)
        found.extend(_view_problems(view, row, unit, sums.get(unit.label, 0), still_open))
    return found


def _view_problems(
    view: str, row: Mapping[str, int], unit: Account, decoded: int, still_open: int
) -> list[str]:
    found = []
    units = unit.label.replace("_", " ")
    offered, absent = row.get("offered", 0), row.get("absent", 0)
    if offered + absent != decoded:
        found.append(
            f"view {view}: {decoded} {units} decoded, {offered} offered"
            + (f", {absent} while it was not there" if absent else "")
        )
    ended = sum(row.get(a, 0) for a in ("filtered", "sampled_out", "aggregated"))
    if offered != ended:
        found.append(f"view {view}: {offered} {units} offered, {ended} accounted for")
    committed = row.get("committed", 0)
    # Those that a snapshot of another run had open were aggregated there.
    aggregated = row.get("aggregated", 0) + row.get("restored", 0)
    if aggregated != committed + still_open:
        found.append(
            f"view {view}: {aggregated} {units} aggregated, {committed} committed and"
            f" {still_open} open"
        )
    return found
