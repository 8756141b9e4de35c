"""The ledger: counters by exporter and view, and balances that do not forgive."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.ledger import (
    MALFORMED,
    Account,
    Ledger,
    ViewAccount,
    merge_snapshots,
    problems,
    totals,
)
from flowray.wire.packets import Exporters


def exporters(n: int) -> Exporters:
    known = Exporters(1000)
    known.intern(np.arange(n, dtype=np.uint64), np.ones(n, np.uint64))
    return known


ENTRY = st.tuples(st.sampled_from(Account), st.integers(0, 200), st.integers(-5, 1 << 40))


@given(st.lists(st.lists(ENTRY, max_size=20), max_size=3))
def test_counts_and_merging(shards: list[list[tuple[Account, int, int]]]) -> None:
    known = exporters(201)
    expected: dict[str, dict[str, int]] = {}
    snapshots = []
    for entries in shards:
        ledger = Ledger(known)
        for account, exporter, n in entries:
            ledger.add(account, np.array([exporter, exporter]), np.array([n, 1]))
            row = expected.setdefault(known.address(exporter), {})
            row[account.label] = row.get(account.label, 0) + n + 1
        snapshots.append(ledger.snapshot())
    merged = merge_snapshots(snapshots)["exporters"]
    for address, row in expected.items():
        for label, n in row.items():
            assert merged.get(address, {}).get(label, 0) == n
    assert sum(map(len, merged.values())) <= sum(map(len, expected.values()))
    for account in Account:
        assert totals(merge_snapshots(snapshots)).get(account.label, 0) == sum(
            row.get(account.label, 0) for row in expected.values()
        )


def balanced() -> dict[str, Any]:
    ledger = Ledger(exporters(3))
    for exporter in (1, 2):
        ledger.add_one(Account.DATAGRAMS, exporter, 20 + len(MALFORMED))
        ledger.add_one(Account.DECODED, exporter, 18)
        ledger.add_one(Account.REFUSED, exporter, 2)
        for cause in MALFORMED:
            ledger.add_one(cause, exporter)
        ledger.add_one(Account.RECORDS, exporter, 50)
        ledger.add_one(Account.SETS_HELD, exporter, 9)
        ledger.add_one(Account.SETS_HELD_DECODED, exporter, 4)
        ledger.add_one(Account.SETS_EXPIRED, exporter, 2)
        ledger.add_one(Account.SETS_EVICTED, exporter, 2)
    for view in ("a", "b"):
        for account, n in (("OFFERED", 100), ("FILTERED", 30), ("SAMPLED_OUT", 20),
                           ("AGGREGATED", 50), ("COMMITTED", 45)):  # fmt: skip
            ledger.add_view(view, ViewAccount[account], n)
    return ledger.snapshot()


HELD, OPEN = 2, {"a": 5, "b": 5}


def test_balance() -> None:
    assert problems(balanced(), held=HELD, open_records=OPEN) == []


CHECKED = (
    *("datagrams", "decoded", "refused", *(a.label for a in MALFORMED), "records"),
    *("sets_held", "sets_held_decoded", "sets_expired", "sets_evicted"),
)


@pytest.mark.parametrize("account", CHECKED)
@pytest.mark.parametrize("by", [-1, 1])
def test_an_exporters_count_that_is_off(account: str, by: int) -> None:
    off = deepcopy(balanced())
    first = next(iter(off["exporters"]))
    off["exporters"][first][account] += by
    found = problems(off, held=HELD, open_records=OPEN)
    assert found
    if account in CHECKED[: 3 + len(MALFORMED)]:
        assert first in found[0]


@pytest.mark.parametrize(
    "account", ["offered", "filtered", "sampled_out", "aggregated", "committed"]
)
@pytest.mark.parametrize("by", [-1, 1])
def test_a_views_count_that_is_off(account: str, by: int) -> None:
    off = deepcopy(balanced())
    off["views"]["b"][account] += by
    found = problems(off, held=HELD, open_records=OPEN)
    assert found
    assert all("view b" in line for line in found)


def test_what_is_still_held_or_open_counts() -> None:
    assert problems(balanced(), held=1, open_records=OPEN)
    assert problems(balanced(), held=2, open_records={"a": 5})
    assert problems(balanced(), held=2)
