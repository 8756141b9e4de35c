"""What is wrong twice in a row is told, what is on its way is not."""

import copy

from flowray.ingest.balance import Balance, Look

SHARDS = {
    "exporters": {"192.0.2.1": {"datagrams": 7, "decoded": 7, "records": 70}},
    "views": {"v5": {"offered": 70, "filtered": 10, "aggregated": 60}},
}


def look(least: int, most: int | None = None, *, lagging: bool = False, **more: int) -> Look:
    shards = copy.deepcopy(SHARDS) | more
    return Look(shards, {"v5": least}, {"v5": least if most is None else most}, lagging)


def test_records_on_their_way_are_no_problem() -> None:
    balance = Balance()
    for n in (0, 60, 60):
        assert balance.look(look(n)) == []
    assert balance.holds


def test_what_is_missing_twice_is_told_once() -> None:
    balance = Balance()
    assert balance.look(look(60)) == []
    assert balance.look(look(59)) == []
    (line,) = balance.look(look(58))
    assert line == "view v5: fewer records committed and open than aggregated, 58 and 60"
    assert balance.look(look(57)) == []
    assert not balance.holds
    assert balance.look(look(60)) == []
    assert balance.holds


def test_a_shard_that_lags_is_given_time() -> None:
    balance = Balance()
    for n in (60, 10, 10, 10):
        assert balance.look(look(n, lagging=True)) == []


def test_more_than_was_aggregated_is_a_problem() -> None:
    balance = Balance()
    balance.look(look(61))
    assert balance.look(look(61)) == [
        "view v5: more records committed and open than aggregated, 61 and 60"
    ]


def test_a_commit_between_two_reads_is_none() -> None:
    balance = Balance()
    for _ in range(3):
        assert balance.look(look(40, 80)) == []


def test_datagrams_and_held_sets_balance_at_any_look() -> None:
    balance = Balance()
    wrong = copy.deepcopy(SHARDS)
    wrong["exporters"]["192.0.2.1"]["decoded"] = 5
    wrong["exporters"]["192.0.2.1"]["sets_held"] = 3
    for held, n in ((2, 7), (2, 9)):
        wrong["exporters"]["192.0.2.1"]["datagrams"] = n
        told = balance.look(Look(wrong | {"held": held}, {"v5": 60}, {"v5": 60}))
    assert told == [
        "exporter 192.0.2.1: 9 datagrams received, 5 accounted for",
        "3 sets held, 2 accounted for",
    ]
