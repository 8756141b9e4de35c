"""Movements of a ledger since they were last taken: what metrics are told. As many exporters as
allowed have a name of their own; the others share one.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from flowray.ingest.ledger import Account, Counts, Ledger, ViewAccount
from flowray.wire.packets import Exporters

REST = "others"

Movement: TypeAlias = tuple[str, str, int]
Movements: TypeAlias = tuple[list[Movement], list[Movement]]
"""Of exporters (address, account, n) and of views (view, account, n)."""


class LedgerMovements:
    """Of one ledger. `limit` bounds the exporters that are told apart: the first ones of which a
    datagram was decoded, so that spoofed senders of rubbish use up no place.
    """

    def __init__(self, ledger: Ledger, exporters: Exporters, limit: int) -> None:
        self._ledger = ledger
        self._exporters = exporters
        self._limit = limit
        self._names: dict[int, str] = {}
        self._told: Counts = np.zeros((len(Account), 0), np.int64)
        self._views_told: dict[str, Counts] = {}

    def follow(self, ledger: Ledger, exporters: Exporters) -> None:
        """Go on with a ledger that begins anew: what is not told yet stays to be told."""
        counts = self._ledger.counts()
        self._told = self._told_of(counts)[:, : counts.shape[1]] - counts
        views = self._ledger.view_counts()
        self._views_told = {v: self._views_told.get(v, 0) - n for v, n in views.items()}
        self._ledger, self._exporters = ledger, exporters

    def take(self) -> Movements:
        """What moved since the last call. Call it where the ledger is not written meanwhile."""
        return self._of_exporters(), self._of_views()

    def _of_exporters(self) -> list[Movement]:
        counts = self._ledger.counts()
        told = self._told_of(counts)
        counts = np.pad(counts, ((0, 0), (0, told.shape[1] - counts.shape[1])))
        # Counters of metrics never fall.
        delta = np.maximum(counts - told, 0)
        self._told = np.maximum(counts, told)
        self._admit(counts)
        rest: Counts = np.zeros(len(Account), np.int64)
        moved: list[Movement] = []
        for exporter in np.flatnonzero(delta.any(axis=0)).tolist():
            column = delta[:, exporter]
            if exporter in self._names:
                moved += _nonzero(self._names[exporter], Account, column)
            else:
                rest += column
        return moved + _nonzero(REST, Account, rest)

    def _told_of(self, counts: Counts) -> Counts:
        """What was told of these accounts, of the width of both."""
        told: Counts = np.zeros(
            (counts.shape[0], max(counts.shape[1], self._told.shape[1])), np.int64
        )
        told[:, : self._told.shape[1]] = self._told
        return told

    def _admit(self, counts: Counts) -> None:
        if len(self._names) >= self._limit:
            return
        for exporter in np.flatnonzero(counts[Account.DECODED]).tolist():
            if exporter not in self._names and len(self._names) < self._limit:
                self._names[exporter] = self._exporters.address(exporter)

    def _of_views(self) -> list[Movement]:
        moved: list[Movement] = []
        for view, counts in self._ledger.view_counts().items():
            moved += _nonzero(view, ViewAccount, counts - self._views_told.get(view, 0))
            self._views_told[view] = counts
        return moved


def _nonzero(name: str, accounts: type[Account | ViewAccount], column: Counts) -> list[Movement]:
    """Accounts that grew."""
    return [(name, a.label, int(column[a])) for a in accounts if column[a] > 0]
