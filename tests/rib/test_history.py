"""Tables of the past: what is kept, and which are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowray.rib.history import TableHistory, read_time
from flowray.rib.looking_glass import answer
from flowray.rib.restore import saved
from flowray.rib.rib import Rib
from flowray.rib.route_query import QueryError, RouteQuery
from flowray.state.store import open_store
from flowray.views.checkpoint import Checkpoint
from tests.rib.tables import bgp_peer, feed
from tests.wire.bgp import encode as e

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
START = 1_700_000_000 // 3600 * HOUR
"""A whole hour: 2023-11-14 22:00 UTC."""


def save(path: Path, *prefixes: str) -> Path:
    rib = Rib()
    nlri = b"".join(map(e.prefix, prefixes))
    feed(rib, rib.open(bgp_peer()), e.update(attributes=e.usual(64496), nlri=nlri))
    Checkpoint(open_store(path.parent), path.name).store(saved(rib))
    return path


def history(folder: Path, keep: int = 3) -> TableHistory:
    store = open_store(folder)
    saved_last = Checkpoint(store, "saved.bin")
    return TableHistory(saved_last, store, "history", HOUR, keep, lambda: START + 10 * HOUR)


def routes_at(kept: TableHistory, time: str) -> int:
    return sum(map(len, answer(kept.at(time).ask, RouteQuery())))


def test_the_first_tables_of_each_period_are_kept(tmp_path: Path) -> None:
    kept = history(tmp_path)
    prefixes = [f"10.{i}.0.0/16" for i in range(12)]
    for i in range(12):  # every half hour
        save(tmp_path / "saved.bin", *prefixes[: i + 1])
        kept.add(START + i * HOUR // 2)
    assert [file.name for file in sorted((tmp_path / "history").iterdir())] == [
        "20231115T010000Z.bin",
        "20231115T020000Z.bin",
        "20231115T030000Z.bin",
    ]
    assert routes_at(kept, "2023-11-15T01:00") == 7
    assert routes_at(kept, "2023-11-15T01:59:59Z") == 7
    assert routes_at(kept, "2023-11-15T03:00+01:00") == 9
    assert routes_at(kept, "5h") == 11
    assert kept.at("5h").time_ns == START + 5 * HOUR
    assert routes_at(kept, "1h") == 12
    assert kept.at("1h").time_ns == START + 11 * HOUR // 2
    with pytest.raises(QueryError, match="the oldest are of 2023-11-15T01:00:00Z"):
        kept.at("2023-11-15T00:59")


def test_what_is_kept_outlives_a_restart(tmp_path: Path) -> None:
    save(tmp_path / "saved.bin", "10.0.0.0/8")
    history(tmp_path).add(START)
    again = history(tmp_path)
    save(tmp_path / "saved.bin", "10.0.0.0/8", "10.0.0.0/9")
    again.add(START + HOUR - SECOND)
    assert routes_at(again, str((START + HOUR) // SECOND - 2)) == 1
    assert routes_at(again, str((START + HOUR) // SECOND)) == 2
    (peer,) = again.at("1h").ask(lambda rib: list(rib.peers()))
    assert (peer.session, peer.stale) == (True, False)


def test_nothing_is_kept(tmp_path: Path) -> None:
    kept = history(tmp_path, keep=0)
    with pytest.raises(QueryError, match="none are kept"):
        kept.at("1h")
    save(tmp_path / "saved.bin", "10.0.0.0/8")
    kept.add(START)
    assert routes_at(kept, "1h") == 1
    assert not (tmp_path / "history").exists()
    with pytest.raises(QueryError, match="the oldest are of 2023-11-14T22:00:00Z"):
        kept.at("11h")


def test_damaged_tables_are_told(tmp_path: Path) -> None:
    kept = history(tmp_path)
    file = save(tmp_path / "saved.bin", "10.0.0.0/8")
    file.write_bytes(file.read_bytes()[:-1])
    kept.add(START)
    with pytest.raises(QueryError, match="tables of 2023-11-14T22:00:00Z cannot be read: "):
        kept.at("1h")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1700000000", 1_700_000_000 * SECOND),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * SECOND),
        ("2023-11-14 23:13:20+01:00", 1_700_000_000 * SECOND),
        ("2023-11-14", 1_699_920_000 * SECOND),
        ("90m", START - 5400 * SECOND),
    ],
)
def test_times(text: str, ns: int) -> None:
    assert read_time(text, START) == ns


def test_no_time() -> None:
    with pytest.raises(QueryError, match="time: found 'yesterday', allowed now, "):
        read_time("yesterday", START)
