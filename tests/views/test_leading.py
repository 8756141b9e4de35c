"""The rows that lead are those of a naive sort."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.views.aggregate import END_OF_INPUT, Aggregator
from flowray.views.leading import OTHERS_ID, Leading
from tests.views.records import NOW, PLANS, VALUES, Record, S, Shard, column, plan, records

WINDOWED = tuple(kind for kind in PLANS if kind.get("windows", 1) is not None)
COUNTERS = ("packets", "bytes", "flows")


def merged(rows: list[Record], **kind: Any) -> Aggregator:
    view = plan(**{**kind, "partitions": 1})
    shard, aggregator = Shard(view), Aggregator(view, ())
    shard.offer(rows)
    for partial in shard.hand_over(0):
        aggregator.merge(partial)
    return aggregator


def naive(aggregator: Aggregator, place: tuple[int, int]) -> list[dict[str, Any]]:
    table, _ = aggregator._rows(aggregator._open[place], *place)
    return table.to_pylist()


@given(records(), st.sampled_from(WINDOWED), st.integers(1, 6), st.integers(1, 3))
def test_first_rows_of_the_newest_windows(
    rows: list[Record], kind: dict[str, Any], n: int, windows: int
) -> None:
    aggregator = merged(rows, **kind)
    starts = sorted({start for start, _ in aggregator._open}, reverse=True)[:windows]
    found = aggregator.leading(n, windows)
    assert [one.totals.start for one in found] == starts
    for one in found:
        place = one.totals.start, one.totals.revision
        assert place == min(p for p in aggregator._open if p[0] == place[0])
        check(one, naive(aggregator, place), n)


def check(one: Leading, rows: list[dict[str, Any]], n: int) -> None:
    known = {str(row) for row in rows}
    given = one.table.to_pylist()
    assert {str(row) for row in given} <= known
    assert len({str(row) for row in given}) == len(given) == len(set(one.ids.tolist()))
    assert one.totals.rows == len(rows)
    for name in COUNTERS:
        values = sorted((row[name] for row in rows), reverse=True)
        order = one.order[name]
        assert [given[i][name] for i in order] == values[:n]
        pairs = [(given[i][name], int(one.ids[i])) for i in order]
        assert pairs == sorted(pairs, reverse=True)
        assert one.totals.sums[name] == sum(values) % 2**64
    assert set(np.concatenate(list(one.order.values())).tolist()) == set(range(len(given)))


def test_ids_do_not_depend_on_who_counts() -> None:
    rows = [Record(0, NOW, host=h, label=b"l%d" % h) for h in range(1, 5)]
    (a,), (b,) = merged(rows).leading(9, 1), merged(rows[::-1]).leading(9, 1)

    def ids(one: Leading) -> dict[bytes, int]:
        return dict(zip(column(one.table, "label"), one.ids.tolist(), strict=True))

    assert ids(a) == ids(b)


def test_keys_past_the_bound_have_an_id_of_their_own() -> None:
    rows = [Record(0, NOW, host=h % 3 + 1, iface=h) for h in range(9)]
    (one,) = merged(rows, max_keys=4).leading(9, 1)
    others = dict(zip(one.ids.tolist(), column(one.table, "_others"), strict=True))
    assert [i for i, other in others.items() if other] == [OTHERS_ID]
    assert one.totals.sums["flows"] == 9


def test_totals_of_closed_windows_are_told_once() -> None:
    aggregator = merged([Record(0, NOW, octets=7), Record(0, NOW + 100 * S, octets=8)])
    assert aggregator.take_closed() == []
    aggregator.advance(END_OF_INPUT)
    closed = aggregator.take_closed()
    assert [t.sums["bytes"] for t in closed] == [7, 8]
    assert aggregator.take_closed() == []
    assert set(VALUES) > set(closed[0].sums)
