"""Sequence accounts by exporter and place."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.ledger import Account, Ledger
from flowray.ingest.sequences import Sequences
from flowray.wire.packets import Exporters
from tests.wire.flow.test_kernels import naive_gaps

MESSAGE = st.tuples(
    st.integers(1, 3),
    st.sampled_from([0, 1, (1 << 36) - 1]),
    st.integers(0, 99),
    st.integers(-1, 9),
)


def accounts(limit: int) -> tuple[Sequences, Ledger]:
    known = Exporters(16)
    for i in range(1, 9):
        known.intern_one(f"192.0.2.{i}")
    ledger = Ledger(known)
    return Sequences(ledger, limit), ledger


@given(st.lists(st.lists(MESSAGE, max_size=20), max_size=3), st.sampled_from([2, 1000]))
def test_accounts(batches: list[list[tuple[int, int, int, int]]], limit: int) -> None:
    sequences, ledger = accounts(limit)
    seen: dict[tuple[int, int], None] = {}
    for batch in batches:
        exporter, place, number, step = np.array(batch, np.int64).reshape(-1, 4).T.copy()
        sequences.account(exporter, place, number, step)
        # New places of a batch take their accounts in order of exporter and place.
        seen.update(dict.fromkeys(sorted({(x, p) for x, p, _, _ in batch} - seen.keys())))
    slots = {owner: i for i, owner in enumerate(list(seen)[:limit])}
    assert len(sequences) == len(slots)
    messages = [
        (slots[x, p], number, step)
        for batch in batches
        for x, p, number, step in batch
        if (x, p) in slots
    ]
    gaps, restarts, _ = naive_gaps(messages)
    assert ledger.total(Account.SEQUENCE_GAP) == sum(gaps)
    rows = ledger.snapshot()["exporters"]
    for owner in (1, 2, 3):
        expected = sum(restarts.get(s, 0) for (x, _), s in slots.items() if x == owner)
        assert rows.get(f"192.0.2.{owner}", {}).get("restarts", 0) == expected


def test_growth_keeps_accounts() -> None:
    sequences, ledger = accounts(1000)
    place = np.arange(500, dtype=np.int64)
    for number in (10, 15, 1 << 31):
        numbers = np.full(500, number, np.int64)
        sequences.account(np.ones(500, np.int64), place, numbers, np.ones(500, np.int64))
    assert ledger.total(Account.SEQUENCE_GAP) == 500 * 4
    assert ledger.total(Account.RESTARTS) == 500


def test_places_past_the_limit_disturb_no_one() -> None:
    sequences, ledger = accounts(1)
    one, many = np.ones(1, np.int64), np.arange(50, dtype=np.int64)
    sequences.account(one, one, one, one)
    sequences.account(np.full(50, 2), many, many * 1000, np.ones(50, np.int64))
    sequences.account(one, one, one + 1, one)
    assert ledger.total(Account.SEQUENCE_GAP) == ledger.total(Account.RESTARTS) == 0
