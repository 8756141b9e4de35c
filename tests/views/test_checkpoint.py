from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from flowray.ingest.ledger import ViewAccount
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import Commit, MemorySink, SinkError
from flowray.state.store import open_store
from flowray.views.aggregate import END_OF_INPUT
from flowray.views.aggregation import Aggregation
from flowray.views.checkpoint import Checkpoint, CheckpointError, decode, encode
from flowray.views.view import Partial
from tests.views.rig import SECOND, START, Rig, plan, rows


def test_a_state_comes_back_as_it_was() -> None:
    description = {"open": [[START, 0]], "accounts": [1, 2]}
    tables = {"window": rows(1, 2, 3), "empty": rows()}
    back, again = decode(encode((description, tables)))
    assert back == description
    assert again["window"].equals(tables["window"])
    assert again["empty"].num_rows == 0


@pytest.mark.parametrize("damage", [b"", b"flowray\x01", lambda c: c[:-1], lambda c: c[:40]])
def test_a_damaged_checkpoint_is_told(damage: bytes | Callable[[bytes], bytes]) -> None:
    content = encode(({"open": []}, {"window": rows(1)}))
    with pytest.raises(CheckpointError):
        decode(damage(content) if callable(damage) else damage)


def test_one_flipped_bit_is_told() -> None:
    content = bytearray(encode(({"open": []}, {"window": rows(1)})))
    content[len(content) // 2] ^= 4
    with pytest.raises(CheckpointError):
        decode(bytes(content))


def test_a_checkpoint_is_replaced_as_a_whole(tmp_path: Path) -> None:
    checkpoint = Checkpoint(open_store(tmp_path), "deep/c")
    assert checkpoint.load() is None
    checkpoint.store(({"n": 1}, {}))
    checkpoint.store(({"n": 2}, {"t": rows(1)}))
    stored = checkpoint.load()
    assert stored is not None
    description, tables = stored
    assert description == {"n": 2}
    assert tables["t"].num_rows == 1
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["c"]


def test_a_lost_aggregator_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send(1, rows(1, 2, label=b"one"))
    assert rig.aggregation.settle("s", "i1").acknowledged == 1
    rig.send(2, rows(2, 3, label=b"two"))
    rig.start()
    assert rig.aggregation.restored
    receipt = rig.aggregation.deliver(Partial("v", 0, "s", "i1", 2, START, rows(2)), "stranger")
    assert not receipt.merged
    assert receipt.acknowledged == 1
    rig.send(1, rows(1, 2, label=b"one"))  # a repeat
    rig.send(2, rows(2, 3, label=b"two"))
    rig.send(3, watermark=START + 10 * SECOND)
    rig.aggregation.tick()
    assert rig.counts() == {(0, 0, 1): 1, (0, 0, 2): 2, (0, 0, 3): 1}
    assert rig.aggregation.status()["committed"] == {"packets": 40, "bytes": 400, "flows": 4}


def test_acknowledged_is_only_what_a_checkpoint_holds(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert rig.send(1, rows(1)).acknowledged == 0
    rig.now += 4 * SECOND
    rig.aggregation.tick()
    assert rig.send(2, rows(1)).acknowledged == 0
    rig.now += 2 * SECOND
    rig.aggregation.tick()
    assert rig.send(3, rows(1)).acknowledged == 2


def test_nothing_is_closed_before_it_is_told_whom_to_expect(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.aggregation = Aggregation(rig.view, [rig.sink], clock=lambda: rig.now)
    rig.send(1, rows(1), watermark=START + 60 * SECOND)
    rig.aggregation.tick()
    assert rig.counts() == {}
    rig.aggregation.expect(["s", "other"])
    rig.aggregation.tick()
    assert rig.counts() == {}
    assert rig.aggregation.status()["waits_for"] == ["other"]
    rig.aggregation.expect(["s"])
    rig.aggregation.tick()
    assert rig.counts() == {(0, 0, 1): 1}


def test_rows_for_a_committed_window_are_its_next_revision(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send(1, rows(1), watermark=START + 25 * SECOND)
    rig.aggregation.tick()
    rig.send(1, rows(1, 2), shard="given up")
    rig.send(2, watermark=START + 60 * SECOND)
    rig.aggregation.tick()
    assert rig.counts() == {(0, 0, 1): 1, (0, 2, 1): 1, (0, 2, 2): 1}
    assert rig.aggregation._aggregator.accounts[ViewAccount.LATE] == 2


def test_a_partial_of_an_earlier_incarnation_counts_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send(1, rows(1), incarnation="i1")
    rig.send(1, rows(1), incarnation="i2")
    rig.send(2, rows(1), incarnation="i1")
    rig.send(1, rows(1), incarnation="i2")
    rig.send(2, incarnation="i2", watermark=START + 10 * SECOND)
    rig.aggregation.tick()
    assert rig.counts() == {(0, 0, 1): 3}


def test_a_window_closed_by_the_end_of_a_run_goes_on_as_a_revision(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send(1, rows(1), watermark=END_OF_INPUT)
    rig.aggregation.finish()
    assert rig.counts() == {(0, 0, 1): 1}
    rig.aggregation.close_accounts()
    rig.start()
    rig.send(1, rows(1, 2), incarnation="i2", watermark=START + SECOND)
    rig.aggregation.tick()
    assert rig.counts() == {(0, 0, 1): 1}
    rig.send(2, incarnation="i2", watermark=START + 20 * SECOND)
    rig.aggregation.tick()
    assert rig.counts() == {(0, 0, 1): 1, (0, 1, 1): 1, (0, 1, 2): 1}
    assert rig.aggregation.status()["committed"]["flows"] == 2


class Refusing(MemorySink):
    """A sink that is down until told otherwise."""

    down = True

    def commit(self, commit: Commit, table: pa.Table) -> None:
        if self.down:
            raise SinkError("down")
        super().commit(commit, table)


def test_what_a_sink_refuses_is_kept_over_a_crash(tmp_path: Path) -> None:
    sink = Refusing()
    rig = Rig(tmp_path, sink=sink)
    rig.send(1, rows(1), watermark=START + 10 * SECOND)
    rig.aggregation.tick()
    rig.aggregation.settle("s", "i1")
    rig.start()
    rig.aggregation.tick()
    status = rig.aggregation.status()
    assert (status["outstanding"], status["open_records"]) == (1, 1)
    assert status["last_sink_error"] == "down"
    sink.down = False
    rig.aggregation.tick()
    assert rig.counts() == {(0, 0, 1): 1}
    assert rig.aggregation.status()["outstanding"] == 0


def test_a_checkpoint_of_another_view_is_set_aside(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send(1, rows(1))
    rig.aggregation.settle("s", "i1")
    rig.view = plan(keys=("src_port",))
    rig.start()
    assert not rig.aggregation.restored
    assert "another form" in rig.aggregation.last_error
    assert (tmp_path / "c.unusable").exists()


def test_views_without_a_window_commit_each_partial_once(tmp_path: Path) -> None:
    view = compile_settings(
        parse_settings({"views": [{"name": "v", "keys": ["src_port", "label"]}]}, "test"), "test"
    ).views[0]
    rig = Rig(tmp_path, view=view)
    rig.send(1, rows(1, 2).drop_columns(["_records", "_window", "_revision", "_others"]))
    rig.start()
    rig.send(1, rows(1, 2).drop_columns(["_records", "_window", "_revision", "_others"]))
    assert sum(t.num_rows for t in rig.sink.tables.values()) == 2
    assert rig.aggregation.status()["rows_committed"] == 2
