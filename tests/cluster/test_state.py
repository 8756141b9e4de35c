"""`flowray state`, and a state path that cannot serve."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.state import StateError, reached, seeded
from flowray.settings.compile import compile_settings
from flowray.settings.load import load_settings
from flowray.sinks.base import MemorySink
from flowray.state.snapshots import SnapshotError, snapshots_of
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation
from flowray.views.view import Partial
from tests.ingest.live_rig import wait_for
from tests.s3_rig import S3Server
from tests.views.rig import SECOND, START, rows

CONFIG = """
views:
  - {name: v, keys: [src_port, label], window: 10s}
state:
  path: state
  snapshots: {every: 60s}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of whose state there is one snapshot."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "flowray.yaml"
    path.write_text(CONFIG)
    settings = load_settings(path)
    now = START
    view = compile_settings(settings, "test").views[0]
    aggregation = Aggregation(
        view, [MemorySink()], snapshots=snapshots_of(settings), clock=lambda: now
    )
    aggregation.tick()
    partial = Partial("v", 0, "s", "i1", 1, START, rows(53, 443, label=b"blue"))
    aggregation.deliver(partial, aggregation.incarnation)
    now += 60 * SECOND
    aggregation.tick()
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["state", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_what_there_is(config: Path) -> None:
    (row,) = json.loads(run("ls", "-c", str(config), "--json"))
    assert row["name"] == "20231114T221400Z"
    assert (row["state"], row["parts"], row["windows"], row["waiting"]) == ("complete", 1, 1, 0)
    assert "20231114T221400Z" in run("ls", "-c", str(config))


def test_what_is_in_it(config: Path) -> None:
    told = json.loads(run("show", "-c", str(config), "--json"))
    part = told["parts"]["v-0"]
    assert part["places"] == [["v", 0]]
    assert part["aggregator"]["received"] == [["s", "i1", 1, START]]
    assert "v-0" in run("show", "latest", "-c", str(config))
    found = json.loads(run("show", told["name"], "--view", "v", "-c", str(config), "--json"))
    assert [(row["window"], row["port_src"], row["label"]) for row in found] == [
        (START, 53, "blue"),
        (START, 443, "blue"),
    ]
    assert len(json.loads(run("show", "--view", "v", "-n", "1", "-c", str(config), "--json"))) == 1
    assert "blue" in run("show", "--view", "v", "-c", str(config))


def test_what_is_not_there(config: Path) -> None:
    for arguments, told in (
        (("show", "20200101T000000Z"), "no snapshot 20200101T000000Z in "),
        (("show", "--view", "w"), "has no view 'w', but v"),
    ):
        result = CliRunner().invoke(app, ["state", *arguments, "-c", str(config)])
        assert isinstance(result.exception, SnapshotError)
        assert told in str(result.exception)


def test_where_a_start_begins(config: Path) -> None:
    settings = load_settings(config)
    assert seeded(settings, None).state.start_from is None
    found = seeded(settings, "latest").state.start_from
    assert found == "state/snapshots/20231114T221400Z"
    open_store("state").replace("checkpoints/v-0.checkpoint", b"")
    with pytest.raises(StateError, match="--from-state: state has checkpoints already"):
        seeded(settings, "latest")
    told = settings.state.model_copy(update={"start_from": "latest"})
    used = seeded(settings.model_copy(update={"state": told}), None)
    assert used.state.start_from is None  # those that are there count


def test_a_start_waits_for_a_store_that_is_away_and_says_so(
    config: Path, s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    if not s3.durable:
        pytest.skip("moto's server forgets; scripts/services install builds versitygw where Go is")
    settings = load_settings(config)
    state = settings.state.model_copy(update={"path": s3.uri("start")})
    s3.kill()
    start = threading.Thread(target=reached, args=(settings.model_copy(update={"state": state}),))
    start.start()
    said = ""

    def waits() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "flowray: waiting for the state store: " in said

    wait_for(waits, "a line that says so")
    assert start.is_alive()
    s3.start()
    start.join(30)
    assert not start.is_alive()
    assert open_store(s3.uri("start")).names() == []


def test_a_state_path_that_cannot_be_written(config: Path) -> None:
    settings = load_settings(config)
    reached(settings)
    (config.parent / "file").write_text("")
    state = settings.state.model_copy(update={"path": str(config.parent / "file" / "state")})
    with pytest.raises(StateError, match=r"state.path: .*/file/state cannot be written: "):
        reached(settings.model_copy(update={"state": state}))
