"""A shard that goes on with another configuration while exporters send."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowray.fleet.changes import folded
from flowray.ingest.ledger import totals
from flowray.ingest.shard import Shard
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from tests.ingest.live_rig import Rig, generated, port_of, scaled, send, wait_for

WINDOW = {"window": "1m", "time": "start", "lateness": "10000d"}
HOSTS = {"name": "hosts", "keys": ["peer_src_ip", "src_host", "in_iface_name"], **WINDOW}
RAW = {"name": "raw", "keys": ["src_host", "dst_host"]}
PORTS = {"name": "ports", "keys": ["dst_port"], **WINDOW}
CHANGED = {"name": "ports", "keys": ["dst_port", "proto"], **WINDOW, "partitions": 2}
NETS = {"name": "nets", "keys": ["src_host"], **WINDOW}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    one = Rig(tmp_path, [HOSTS, RAW, PORTS])
    yield one
    one.close()


def reload(rig: Rig, shards: Sequence[Shard], views: Sequence[dict[str, Any]]) -> list[Any]:
    """What the supervisor does; the ledgers of the aggregators that went."""
    before, settings = (
        rig.program,
        parse_settings(
            {
                "listen": {"flows": ["udp://127.0.0.1:0"]},
                "views": list(views),
                "cluster": {"hand_over": "50ms"},
            },
            "test",
        ),
    )
    rig.program = compile_settings(settings, "test")
    then, now = folded(before.settings), folded(settings)
    gone = [view for view in then if then[view] != now.get(view)]
    old = {p: a for p, a in rig.transport.aggregations.items() if p[0] in gone}
    for plan in rig.program.views:
        if plan.name not in then:
            rig.sinks[plan.name] = MemorySink()
            rig.bring_up(plan)
    for shard in shards:
        shard.reload(rig.program)
    wait_for(lambda: not any(s.status()["outgoing"] for s in shards), "end of the old views")
    ledgers = []
    for place, aggregation in old.items():
        aggregation.finish()
        ledgers.append(aggregation.ledger())
        aggregation.close_accounts()
        del rig.transport.aggregations[place]
    for plan in rig.program.views:
        if plan.name in gone:
            rig.bring_up(plan)
    for shard in shards:
        shard.release(shard.status()["gated"])
    return ledgers


@pytest.mark.parametrize("ring", [False, True])
def test_views_come_go_and_change_while_exporters_send(rig: Rig, *, ring: bool) -> None:
    specs, batches, truth = generated(4)
    shard = rig.start("s0", ring=ring)
    port, sent = port_of(shard), 0
    sent += send(port, specs, batches[: len(batches) // 3])
    rest = threading.Thread(
        target=lambda: counts.append(send(port, specs, batches[len(batches) // 3 :], rate=300))
    )
    counts: list[int] = []
    rest.start()
    gone = reload(rig, [shard], [HOSTS, CHANGED, NETS])
    status = shard.status()
    assert (status["outgoing"], status["gated"]) == ([], [])
    rest.join()
    sent += counts[0]
    ledger = rig.finish(gone)
    sums = totals(ledger)
    assert sums["datagrams"] == sent
    assert not sums.get("sequence_gap")
    assert not sums.get("restarts")
    for view in ("hosts", "ports"):
        assert rig.sums(view) == scaled(truth)
        assert ledger["views"][view]["committed"] == len(truth)
    for view in ("raw", "nets"):
        row = ledger["views"][view]
        assert 0 < row["committed"] < len(truth)
        assert row["offered"] + row["absent"] == len(truth)
    assert "proto" in list(rig.sinks["ports"].tables.values())[-1].column_names


def test_a_killed_shard_goes_on_with_the_new_views(rig: Rig) -> None:
    specs, batches, truth = generated(3)
    third = len(batches) // 3
    shard = rig.start("s0", ring=True)
    port = port_of(shard)
    sent = send(port, specs, batches[:third])
    gone = reload(rig, [shard], [HOSTS, NETS])
    sent += send(port, specs, batches[third : 2 * third])
    wait_for(lambda: shard.status()["datagrams"] == sent, "datagrams")
    rig.kill(shard)
    shard = rig.start("s0", port, ring=True)
    sent += send(port, specs, batches[2 * third :])
    wait_for(lambda: shard.status()["datagrams"] == sent, "datagrams")
    ledger = rig.finish(gone)
    assert totals(ledger)["datagrams"] == sent
    assert rig.sums("hosts") == scaled(truth)
    row = ledger["views"]["nets"]
    assert row["offered"] + row["absent"] == len(truth)


def test_a_view_that_comes_back_counts_on(rig: Rig) -> None:
    specs, batches, truth = generated(3)
    third = len(batches) // 3
    shard = rig.start("s0")
    port = port_of(shard)
    sent = send(port, specs, batches[:third])
    gone = reload(rig, [shard], [HOSTS, RAW])
    sent += send(port, specs, batches[third : 2 * third])
    wait_for(lambda: shard.status()["datagrams"] == sent, "datagrams")
    # Its aggregator finds the checkpoint of its predecessor: windows closed there stay closed.
    gone += reload(rig, [shard], [HOSTS, RAW, PORTS])
    sent += send(port, specs, batches[2 * third :])
    wait_for(lambda: shard.status()["datagrams"] == sent, "datagrams")
    ledger = rig.finish(gone)
    row = ledger["views"]["ports"]
    assert row["committed"] == row["offered"] == len(truth) - row["absent"]
    assert rig.sums("hosts") == rig.sums("raw") == scaled(truth)
