"""Snapshots can be read on their own, and a new cluster begins with one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flowray.ingest.ledger import ViewAccount
from flowray.sinks.base import MemorySink
from flowray.state.snapshots import Shelf, SnapshotError, Snapshots, find_snapshot
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation
from tests.state.test_outbox import Reluctant, window
from tests.views.rig import SECOND, START, Rig, plan, rows

EVERY = 60 * SECOND


def snapshots(path: Path, keep: int = 3, places: int = 1) -> Snapshots:
    about = {"version": "test", "config": "", "places": [["v", p] for p in range(places)]}
    return Snapshots(Shelf(open_store(path)), EVERY, keep, about)


def pass_time(rig: Rig, seconds: int) -> None:
    rig.now += seconds * SECOND
    rig.aggregation.tick()


def test_a_new_cluster_goes_on_from_a_snapshot(tmp_path: Path) -> None:
    shelf = Shelf(open_store(tmp_path / "shelf"))
    down = Reluctant()
    rig = Rig(tmp_path / "old", sinks={"down": down}, snapshots=snapshots(tmp_path / "shelf"))
    rig.aggregation.tick()  # the period that runs is sat out
    assert shelf.names() == []
    window(rig, 0, 1, 2)
    rig.send(
        3, rows(3, 4, window=START + 10 * SECOND, label=b"open"), watermark=START + 11 * SECOND
    )
    rig.send(4, rows(3, window=START + 20 * SECOND, revision=2), watermark=START + 11 * SECOND)
    pass_time(rig, 61)
    (name,) = shelf.names()
    assert shelf.complete(name)
    found = shelf.windows(name, "v-0")
    assert sorted(found["src_port"].to_pylist()) == [3, 3, 4]
    assert set(found["_window"].to_pylist()) == {START + 10 * SECOND, START + 20 * SECOND}
    manifest = shelf.manifests(name)["v-0"]
    assert manifest["sinks"]["down"]["commits"] == 1
    assert manifest["ledger"] == {}
    assert [row[:3] for row in manifest["aggregator"]["received"]] == [["s", "i1", 4]]

    sink = MemorySink()
    new = Rig(tmp_path / "new", sinks={"down": sink}, start_from=lambda: shelf.part(name, "v", 0))
    new.sink = sink
    assert new.aggregation.status()["open_records"] == 5
    assert new.aggregation.ledger()["views"]["v"] == {"restored": 5}
    new.send(1, rows(3, window=START + 10 * SECOND, label=b"open"), shard="another")
    new.aggregation.settle("another", "i1")
    new.start()  # its own checkpoint counts from now on
    assert new.aggregation.restored
    assert new.aggregation.status()["open_records"] == 6
    new.aggregation.finish()
    assert new.counts() == {(0, 0, 1): 1, (0, 0, 2): 1, (10, 0, 3): 2, (10, 0, 4): 1, (20, 2, 3): 1}
    accounts = new.aggregation._aggregator.accounts
    assert accounts[ViewAccount.COMMITTED] == 6
    assert accounts[ViewAccount.RESTORED] == 5


def test_anything_that_reads_parquet_reads_a_snapshot(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "old", snapshots=snapshots(tmp_path / "shelf"))
    rig.aggregation.tick()
    rig.send(1, rows(1, 2, 3))
    pass_time(rig, 61)
    (file,) = (tmp_path / "shelf").rglob("windows.parquet")
    found = pq.read_table(file)
    assert found["flows"].to_pylist() == [1, 1, 1]
    assert found["label"].to_pylist() == [b"a"] * 3


def test_the_newest_are_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "old", snapshots=snapshots(tmp_path / "shelf"))
    shelf = Shelf(open_store(tmp_path / "shelf"))
    rig.aggregation.tick()
    seen = []
    for _ in range(6):
        pass_time(rig, 60)
        seen.append(shelf.names()[-1])
    assert shelf.names() == sorted(seen)[-3:]
    assert shelf.resolve("latest") == seen[-1]
    assert rig.aggregation.status()["snapshots"] == 6


def test_one_that_lacks_parts_is_not_the_latest(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "old", snapshots=snapshots(tmp_path / "shelf", keep=1, places=2))
    shelf = Shelf(open_store(tmp_path / "shelf"))
    rig.aggregation.tick()
    for _ in range(3):
        pass_time(rig, 60)
    (name, *_) = shelf.names()
    assert not shelf.complete(name)
    with pytest.raises(SnapshotError, match="no complete snapshot in "):
        shelf.resolve("latest")
    with pytest.raises(SnapshotError, match="lacks parts"):
        shelf.resolve(name)
    other = replace_partition(rig, 1)
    other.tick()
    rig.aggregation.tick()
    rig.now += 60 * SECOND
    other.tick()
    rig.aggregation.tick()
    assert shelf.resolve("latest") == shelf.names()[-1]
    assert shelf.names() == [shelf.names()[-1]]


def replace_partition(rig: Rig, partition: int) -> Aggregation:
    """The aggregation of another part of the same view."""
    kept: dict[str, Any] = {**rig.options}
    kept["snapshots"] = replace(kept["snapshots"], _period=-1)
    return Aggregation(rig.view, [MemorySink()], partition, clock=lambda: rig.now, **kept)


def test_where_a_snapshot_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "old", snapshots=snapshots(tmp_path / "shelf"))
    rig.aggregation.tick()
    pass_time(rig, 60)
    shelf = str(tmp_path / "shelf")
    (name,) = Shelf(open_store(shelf)).names()
    assert find_snapshot("latest", shelf) == (shelf, name)
    assert find_snapshot(name, shelf) == (shelf, name)
    assert find_snapshot(f"{shelf}/latest", "/nowhere") == (shelf, name)
    for told in ("20200101T000000Z", "nonsense"):
        with pytest.raises(SnapshotError, match=f"no snapshot {told} in {shelf}; the newest"):
            find_snapshot(told, shelf)


def test_a_snapshot_of_another_form_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "old", snapshots=snapshots(tmp_path / "shelf"))
    rig.aggregation.tick()
    pass_time(rig, 60)
    shelf = Shelf(open_store(tmp_path / "shelf"))
    (name,) = shelf.names()
    with pytest.raises(SnapshotError, match="view v: the snapshot is of another form"):
        Rig(tmp_path / "new", plan(("src_port",)), start_from=lambda: shelf.part(name, "v", 0))
    assert json.loads((tmp_path / "shelf" / name / "v-0" / "manifest.json").read_text())
