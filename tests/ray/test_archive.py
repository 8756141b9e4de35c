"""A live run on Ray with the archive on, replayed in this process and on two workers."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cluster.live import Live, running
from cluster.replay_archive import replay_archive_here, replay_archive_on
from cluster.topology import plan_of, with_ports
from flowray.archive.life import Span
from flowray.settings.compile import compile_settings
from tests.archive.recorded import VIEWS, archived, rows_in
from tests.archive.recorded import program as program_at
from tests.ingest.live_rig import generated, send, wait_for
from tests.rib.service_rig import Router

pytestmark = pytest.mark.ray

ROUTER = "127.0.3.1"
"""An exporter of `generated`, too."""


@pytest.fixture
def live(ray_local: ModuleType, tmp_path: Path) -> Iterator[Live]:
    """Two shards, a RIB group and aggregators, all of it archived."""
    settings = with_ports(
        program_at(
            tmp_path,
            "live",
            **archived(tmp_path, rotate="2s"),
            cluster={"shards": 2, "hand_over": "200ms"},
        ).settings
    )
    with running(plan_of(compile_settings(settings, "test"), "test")) as one:
        one.wait_ready()
        yield one


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def figure(live: Live, name: str) -> int:
    return sum(shard.get(name, 0) for shard in live.status()["shards"].values())


def follow(live: Live, generation: int) -> bool:
    """Whether all shards join with a snapshot that is newer than this one."""
    joined = [s.get("joined", {}).get("default", {}) for s in live.status()["shards"].values()]
    return all(j.get("generation", 0) > generation for j in joined)


def test_both_replays_commit_the_rows_of_the_live_run(live: Live, tmp_path: Path) -> None:
    specs, batches, truth = generated(3, seed=5)
    settings = live.plan.settings
    bgp, sent = settings.listen.bgp, 0
    assert bgp is not None
    with Router(port(bgp.address), ROUTER) as router:
        router.establish()
        for step in range(4):
            generation = live.status()["ribs"]["rib/default"].get("generation", 0)
            router.announce(["0.0.0.0/0"], 65551, 64500 + step, end=not step)
            wait_for(lambda n=generation: follow(live, n), "a snapshot in the shards", 60)
            part = batches[step * len(batches) // 4 : (step + 1) * len(batches) // 4]
            sent += send(port(settings.listen.flows[0]), specs, part)
            wait_for(lambda n=sent: figure(live, "datagrams") == n, "datagrams", 60)
        summary = live.drain()
    assert (summary["problems"], summary["records"]) == ([], len(truth))
    assert "unarchived" not in json.dumps(summary["ledger"])
    again = program_at(tmp_path, "again")
    here = replay_archive_here(again, str(tmp_path / "archive"), Span(), None, "parquet")
    spread = program_at(tmp_path, "spread")
    path = str(tmp_path / "archive")
    workers = replay_archive_on(spread, path, Span(), None, "parquet", 2)
    for replayed in (here, workers):
        assert replayed.problems == []
        assert (replayed.datagrams, replayed.missing) == (sent, 0)
        assert replayed.records == len(truth)
    for name in (view["name"] for view in VIEWS):
        expected = rows_in(tmp_path / "live", name)
        assert expected.equals(rows_in(tmp_path / "again", name)), name
        assert expected.equals(rows_in(tmp_path / "spread", name)), name
    origins = set(rows_in(tmp_path / "live", "by_start")["as_dst"].to_pylist())
    assert {64500, 64503} < origins
