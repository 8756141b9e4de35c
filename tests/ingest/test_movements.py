"""Movements of a ledger: what was counted is told once, by a bounded number of names."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.ledger import Account, Ledger, ViewAccount
from flowray.ingest.movements import REST, LedgerMovements
from flowray.wire.packets import Exporters

ACCOUNTS = (Account.DATAGRAMS, Account.DECODED, Account.SHORT_HEADER)
ADDED = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(ACCOUNTS), st.integers(1, 9)), max_size=20
)


@given(st.lists(ADDED, max_size=6), st.integers(0, 4))
def test_movements_add_up_to_the_ledger(rounds: list[list[tuple]], limit: int) -> None:
    exporters = Exporters(64)
    numbers = [exporters.intern_one(f"192.0.2.{i}") for i in range(6)]
    ledger = Ledger(exporters)
    movements = LedgerMovements(ledger, exporters, limit)
    sums: dict[str, int] = {}
    names = set()
    for added in rounds:
        for i, account, n in added:
            ledger.add_one(account, numbers[i], n)
        for name, account, n in movements.take()[0]:
            assert n > 0
            names.add(name)
            sums[account] = sums.get(account, 0) + n
    assert sums == {a.label: ledger.total(a) for a in ACCOUNTS if ledger.total(a)}
    assert len(names - {REST}) <= limit


def test_what_shrinks_is_not_told_twice() -> None:
    exporters = Exporters(64)
    one = np.array([exporters.intern_one("192.0.2.1")])
    ledger = Ledger(exporters)
    movements = LedgerMovements(ledger, exporters, 1)
    told = []
    for n in (5, -3, 2, 4):
        ledger.add(Account.SKEWED, one, np.array([n]))
        told += [m[2] for m in movements.take()[0]]
    assert told == [5, 3]


def test_views_move_too() -> None:
    exporters = Exporters(64)
    ledger = Ledger(exporters)
    movements = LedgerMovements(ledger, exporters, 1)
    ledger.add_view("a", ViewAccount.OFFERED, 3)
    assert movements.take() == ([], [("a", "offered", 3)])
    ledger.add_view("a", ViewAccount.OFFERED, 2)
    assert movements.take() == ([], [("a", "offered", 2)])
    assert movements.take() == ([], [])
