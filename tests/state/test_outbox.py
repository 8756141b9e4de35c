"""What sinks have not taken waits, in order and within its bound, and is never lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowray.filesystems import filesystem_of
from flowray.sinks.base import Commit, MemorySink, SinkError
from flowray.sinks.files import FileSink
from tests.s3_rig import BUCKET, S3Server
from tests.views.rig import SECOND, START, Rig, plan, rows


class Reluctant(MemorySink):
    """Takes nothing while it is down; `told` has what it was offered."""

    def __init__(self) -> None:
        super().__init__()
        self.down = True
        self.told: list[str] = []

    def commit(self, commit: Commit, table: pa.Table) -> None:
        self.told.append(commit.id)
        if self.down:
            raise SinkError("not now")
        super().commit(commit, table)


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def window(rig: Rig, n: int, *ports: int) -> None:
    """Window n, complete, with a row for each port."""
    rig.send(
        n + 1,
        rows(*ports, window=START + 10 * n * SECOND),
        watermark=START + 10 * (n + 1) * SECOND,
    )
    rig.aggregation.tick()


def test_what_waits_is_stored_once_and_goes_when_it_was_taken(tmp_path: Path) -> None:
    down = Reluctant()
    rig = Rig(tmp_path, sinks={"up": MemorySink(), "down": down})
    for n in range(3):
        window(rig, n, 1, 2)
    rig.aggregation.settle("s", "i1")
    box = tmp_path / "outbox" / "v-0"
    first = {file.name: file.stat().st_mtime_ns for file in box.iterdir()}
    assert sorted(first) == [f"{n:012d}.commit" for n in (1, 2, 3)]
    window(rig, 3, 1)
    rig.aggregation.settle("s", "i1")
    again = {file.name: file.stat().st_mtime_ns for file in box.iterdir()}
    assert again | first == again
    assert len(again) == 4
    report = rig.aggregation.status()["outbox"]
    assert report["down"]["octets"] == sum(file.stat().st_size for file in box.iterdir())
    assert report["up"]["octets"] == 0
    rig.start()
    assert rig.aggregation.status()["outstanding"] == 4
    down.down = False
    rig.aggregation.tick()
    assert list(down.tables) == list(rig.sinks["up"].tables)  # type: ignore[attr-defined]
    rig.send(5, rows(1), watermark=START)
    rig.aggregation.settle("s", "i1")
    assert list(box.iterdir()) == []
    assert rig.aggregation.status()["committed"]["flows"] == 7


def test_no_sink_waits_for_another(tmp_path: Path) -> None:
    release, entered = threading.Event(), threading.Event()

    class Hanging(MemorySink):
        def commit(self, commit: Commit, table: pa.Table) -> None:
            entered.set()
            release.wait()
            super().commit(commit, table)

    up, hanging = MemorySink(), Hanging()
    rig = Rig(tmp_path, sinks={"hanging": hanging, "up": up})
    rig.aggregation.start()
    for n in range(3):
        window(rig, n, 1)
    wait_for(lambda: len(up.tables) == 3)
    assert entered.wait(30)
    rig.aggregation.settle("s", "i1")  # nor does a checkpoint
    assert not hanging.tables
    assert rig.aggregation.status()["outstanding"] == 3
    release.set()
    rig.aggregation.finish()
    assert list(hanging.tables) == list(up.tables)
    assert rig.aggregation.status()["outstanding"] == 0
    rig.aggregation.close()
    assert hanging.closed


def test_a_full_outbox_makes_shards_wait(tmp_path: Path) -> None:
    down = Reluctant()
    rig = Rig(tmp_path, sinks={"down": down}, outbox_limit=1)
    window(rig, 0, 1)
    assert rig.aggregation.status()["outbox_full"] == "down"
    receipt = rig.send(2, rows(2, window=START + 10 * SECOND), watermark=START + 20 * SECOND)
    assert receipt.failure == "the outbox of sink down is full"
    assert not receipt.merged
    rig.aggregation.tick()
    assert rig.aggregation.status()["refused"] == 1
    assert rig.aggregation.status()["open_records"] == 1
    down.down = False
    rig.aggregation.tick()
    receipt = rig.send(2, rows(2, window=START + 10 * SECOND), watermark=START + 20 * SECOND)
    assert receipt.merged
    rig.aggregation.tick()
    assert [t["flows"].to_pylist() for t in down.tables.values()] == [[1], [1]]


def test_the_end_of_a_run_closes_windows_past_the_bound(tmp_path: Path) -> None:
    down = Reluctant()
    rig = Rig(tmp_path, sinks={"down": down}, outbox_limit=1)
    rig.send(1, rows(1), watermark=START)
    rig.send(2, rows(1, window=START + 10 * SECOND), watermark=START + 10 * SECOND)
    rig.aggregation.tick()
    rig.aggregation.finish()
    status = rig.aggregation.status()
    assert (status["open_windows"], status["outstanding"], status["open_records"]) == (0, 2, 2)
    assert len(list((tmp_path / "outbox" / "v-0").iterdir())) == 2


def test_rows_for_a_sink_that_is_gone_go_where_the_sinks_now_are(tmp_path: Path) -> None:
    rig = Rig(tmp_path, sinks={"old": Reluctant()})
    window(rig, 0, 1, 2)
    rig.aggregation.settle("s", "i1")
    new = MemorySink()
    rig.sinks = {"new": new}
    rig.start()
    rig.aggregation.tick()
    assert [table.num_rows for table in new.tables.values()] == [2]


def test_a_lost_commit_is_told_and_stops_nothing(tmp_path: Path) -> None:
    down = Reluctant()
    rig = Rig(tmp_path, sinks={"down": down})
    for n in range(3):
        window(rig, n, n)
    rig.aggregation.settle("s", "i1")
    one, two, _ = sorted((tmp_path / "outbox" / "v-0").iterdir())
    one.unlink()
    two.write_bytes(two.read_bytes()[:-1])
    rig.start()
    down.down = False
    rig.aggregation.tick()
    assert [table["src_port"].to_pylist() for table in down.tables.values()] == [[2]]
    assert rig.aggregation._aggregator.outbox.unreadable == 2
    assert rig.aggregation.status()["committed"]["flows"] == 1  # and so the ledger tells it


def test_what_no_checkpoint_lists_is_removed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, sinks={"down": Reluctant()})
    rig.send(1, rows(1))
    rig.aggregation.settle("s", "i1")
    stray = tmp_path / "outbox" / "v-0" / f"{7:012d}.commit"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"of a checkpoint that failed")
    rig.start()
    assert not stray.exists()
    window(rig, 0, 2)
    rig.aggregation.settle("s", "i1")
    assert [file.name for file in stray.parent.iterdir()] == [f"{8:012d}.commit"]


def test_state_and_sink_on_a_server_that_dies(tmp_path: Path, s3: S3Server) -> None:
    """All of it away at once: nothing is acknowledged, nothing lost; another node goes on."""
    if not s3.durable:
        pytest.skip("moto's server forgets; scripts/services install builds versitygw where Go is")
    view = plan()
    fields = list(view.fields)
    lake = f"{tmp_path.name}/lake"
    far = FileSink("parquet", s3.uri(lake), fields, window_ns=10 * SECOND)
    near = FileSink("jsonl", str(tmp_path / "near"), fields, window_ns=10 * SECOND)
    rig = Rig(s3.uri(f"{tmp_path.name}/state"), view, sinks={"far": far, "near": near})
    rig.aggregation.start()
    window(rig, 0, 1, 2)
    assert rig.aggregation.settle("s", "i1").acknowledged == 1
    s3.kill()
    for n in range(1, 5):
        window(rig, n, n)
    wait_for(lambda: len(list((tmp_path / "near").rglob("*.jsonl"))) == 5)
    assert rig.aggregation.settle("s", "i1").acknowledged == 1
    wait_for(lambda: rig.aggregation.status()["outbox"]["far"]["refusing"])
    assert rig.aggregation.errors > 0
    s3.start()
    # The checkpoint has its own back-off, on the clock of the rig.
    rig.now += 60 * SECOND
    assert rig.aggregation.settle("s", "i1").acknowledged == 5
    rig.now += 60 * SECOND
    wait_for(lambda: rig.aggregation.status()["outstanding"] == 0)
    rig.aggregation.close()
    rig.start()  # on another node, as it were
    assert rig.aggregation.restored
    assert rig.aggregation.status()["committed"]["flows"] == 6
    filesystem, _ = filesystem_of(s3.uri())
    found = pq.read_table(f"{BUCKET}/{lake}", filesystem=filesystem)
    stored = sorted(
        found["SRC_PORT" if "SRC_PORT" in found.column_names else "port_src"].to_pylist()
    )
    assert stored == [1, 1, 2, 2, 3, 4]
    text = "".join(file.read_text() for file in (tmp_path / "near").rglob("*.jsonl"))
    assert sorted(json.loads(line)["port_src"] for line in text.splitlines()) == stored
    rig.aggregation.close()
