"""What a live run commits is what a replay of its archive commits, row by row, while routes
change.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from cluster.replay_archive import replay_archive_here
from flowray.archive.life import Span
from tests.archive.recorded import VIEWS, Running, archived, program, rows_in, running
from tests.ingest.live_rig import generated, port_of, send, wait_for
from tests.rib.service_rig import Router
from tests.wire.bgp import encode as enc
from tests.wire.bgp import encode_bmp as b

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


def heard(run: Running) -> int:
    return sum(shard.status()["datagrams"] for shard in run.shards)


def test_shards_that_share_exporters_and_a_group_that_starts_anew(tmp_path: Path) -> None:
    """BGP and BMP, stale routes while the group is away and when it is back, exporters that move
    between two shards: in all, and for one exporter alone.
    """
    specs, batches, _ = generated(3, seed=12)
    parts = [batches[i * len(batches) // 5 : (i + 1) * len(batches) // 5] for i in range(5)]
    live = program(tmp_path, "live", **archived(tmp_path))
    peer = b.Peer()
    sent = 0
    with running(live, tmp_path) as run:
        port = port_of(run.start("ingest/here/0"))
        run.start("ingest/here/1", port)

        def flows(number: int) -> int:
            total = heard(run) + send(port, specs, parts[number])
            wait_for(lambda: heard(run) == total, "the datagrams")
            return total

        with (
            Router(run.port("bgp"), ROUTER) as bgp,
            Router(run.port("bmp"), "127.0.3.3") as bmp,
        ):
            flows(0)  # without routes
            bgp.establish()
            bgp.announce(["0.0.0.0/0"], 65551, 64500, end=True)
            update = enc.update(attributes=enc.usual(65551, 64700), nlri=enc.prefix("0.0.0.0/0"))
            bmp.socket.sendall(b.initiation() + b.peer_up(peer) + b.route_monitoring(peer, update))
            wait_for(lambda: run.service.status()["routes"] == 2, "routes of both")
            wait_for(lambda: follows(run), "them in the shards")
            flows(1)
            run.stop_routes()
            wait_for(lambda: all(s.status()["joined"]["default"]["stale"] for s in run.shards),
                     "stale routes", 60)  # fmt: skip
            flows(2)
        run.start_routes()
        wait_for(lambda: run.service.status().get("stale_peers") == 2, "restored routes")
        wait_for(lambda: follows(run), "them in the shards")
        flows(3)
        with Router(run.port("bgp"), ROUTER) as bgp:
            bgp.establish()
            bgp.announce(["0.0.0.0/0"], 65551, 64501, end=True)
            wait_for(lambda: run.service.status()["stale_peers"] == 1, "fresh routes")
            wait_for(lambda: follows(run), "them in the shards")
            sent = flows(4)
            run.finish()
    path = str(tmp_path / "archive")
    again = replay_archive_here(program(tmp_path, "again"), path, Span(), None, "parquet")
    assert (again.problems, again.datagrams, again.missing) == ([], sent, 0)
    rows = rows_in(tmp_path / "live", "by_as")
    origins = set(zip(rows["as_dst"].to_pylist(), rows["rung_dst"].to_pylist(), strict=True))
    assert {(64500, "global"), (64500, "global, stale"), (64501, "global")} < origins
    assert {(64700, "global"), (64700, "global, stale")} < origins
    for view in VIEWS:
        name = view["name"]
        assert rows_in(tmp_path / "live", name).equals(rows_in(tmp_path / "again", name)), name
    one = Span(exporters=frozenset([ROUTER]))
    replay_archive_here(program(tmp_path, "one"), path, one, None, "parquet")
    own = pc.equal(rows["peer_ip_src"], ROUTER)
    assert rows.filter(own).equals(rows_in(tmp_path / "one", "by_as"))


def test_a_killed_shard_and_its_successor(tmp_path: Path) -> None:
    """What was received and not handed over is decoded by the successor, with the routes that it
    has, and so it is by the replay; none of it comes twice.
    """
    specs, batches, truth = generated(2, seed=13)
    live = program(tmp_path, "live", **archived(tmp_path), cluster={"hand_over": "300ms"})
    sent = 0
    with running(live, tmp_path) as run, Router(run.port("bgp"), ROUTER) as router:
        shard = run.start("s0", ring=True)
        port = port_of(shard)
        router.establish()
        for step in range(6):
            made = run.service.status()["snapshots"]
            router.announce(["0.0.0.0/0"], 65551, 64500 + step, end=not step)
            wait_for(lambda n=made: run.service.status()["snapshots"] > n, "a snapshot")
            wait_for(lambda: follows(run), "it in the shard")
            part = batches[step * len(batches) // 6 : (step + 1) * len(batches) // 6]
            sent += send(port, specs, part)
            wait_for(lambda n=sent: heard(run) == n, "the datagrams")
            if step in (1, 2, 4):
                shard.close()  # as the kernel does it, but for the spool
                run.shards.remove(shard)
                shard = run.start("s0", port, ring=True)
                assert shard.status()["resumed"]
        assert shard.status()["recovered"]
        run.finish()
    path = str(tmp_path / "archive")
    again = replay_archive_here(program(tmp_path, "again"), path, Span(), None, "parquet")
    assert (again.problems, again.missing) == ([], 0)
    assert (again.datagrams, again.records) == (sent, len(truth))
    for view in VIEWS:
        name = view["name"]
        assert rows_in(tmp_path / "live", name).equals(rows_in(tmp_path / "again", name)), name
