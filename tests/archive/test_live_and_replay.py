"""What a live run commits is what a replay of its archive commits, row by row, while routes
change.
"""

from __future__ import annotations

from pathlib import Path

from cluster.replay_archive import replay_archive_here
from flowray.archive.life import Span
from tests.archive.recorded import VIEWS, Running, archived, program, rows_in, running
from tests.ingest.live_rig import generated, port_of, send, wait_for
from tests.rib.service_rig import Router

ROUTER = "127.0.3.1"
"""An exporter of `generated`, too."""


def follows(run: Running) -> bool:
    """Whether all shards join with the newest snapshot."""
    newest = run.service.newest("", 0)
    assert newest is not None
    joined = [shard.status()["joined"].get("default", {}) for shard in run.shards]
    return all(j.get("generation") == newest.generation for j in joined)


def test_rows_of_a_replay_are_those_of_the_live_run(tmp_path: Path) -> None:
    specs, batches, _ = generated(3, seed=11)
    live = program(tmp_path, "live", **archived(tmp_path, rotate="1s"))
    with running(live, tmp_path) as run:
        shard = run.start("ingest/here/0")
        with Router(run.port("bgp"), ROUTER) as router:
            router.establish()
            for step in range(6):
                made = run.service.status()["snapshots"]
                router.announce(["0.0.0.0/0"], 65551, 64500 + step, end=not step)
                router.announce([f"10.{step}.0.0/16"], 65551, 64600 + step)
                wait_for(lambda n=made: run.service.status()["snapshots"] > n, "a snapshot")
                wait_for(lambda: follows(run), "it in the shard")
                part = batches[step * len(batches) // 6 : (step + 1) * len(batches) // 6]
                sent = shard.status()["datagrams"] + send(port_of(shard), specs, part)
                wait_for(lambda n=sent: shard.status()["datagrams"] == n, "the datagrams")
            ledger = run.finish()
        figures = shard.status()["archive"]
    assert figures["lost"] == 0
    assert figures["datagrams"] == sent
    again = program(tmp_path, "again")
    summary = replay_archive_here(
        again, str(tmp_path / "archive"), Span(), out=None, kind="parquet"
    )
    assert summary.problems == []
    assert (summary.datagrams, summary.missing) == (sent, 0)
    for view in VIEWS:
        name = view["name"]
        expected = rows_in(tmp_path / "live", name)
        assert expected.equals(rows_in(tmp_path / "again", name)), name
        assert summary.ledger["views"][name]["committed"] == ledger["views"][name]["committed"]
    origins = set(rows_in(tmp_path / "live", "by_as")["as_dst"].to_pylist())
    assert {64500 + step for step in range(6)} < origins
