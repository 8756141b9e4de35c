from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from flowray.wire.packets import PacketBatch
from tests.ingest.live_rig import Batches, Rig, generated, port_of, scaled, send, wait_for

Make: TypeAlias = Callable[..., Rig]

VIEWS = [
    {"name": "hosts", "keys": ["peer_src_ip", "src_host", "in_iface_name"], "window": "2s"},
    {"name": "parts", "keys": ["src_host", "dst_host"], "window": "1s", "partitions": 3},
    {"name": "raw", "keys": ["src_host", "dst_host"]},
]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Make]:
    made: list[Rig] = []

    def make(views: Sequence[dict[str, Any]] = VIEWS, **settings: Any) -> Rig:
        made.append(Rig(tmp_path, views, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_what_exporters_send_is_committed(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(2)
    shard = r.start("s0")
    sent = send(port_of(shard), specs, batches)
    figures = r.drain(shard)
    assert figures["datagrams"] == sent
    assert figures["kernel_drops"] == 0
    ledger = r.finish()
    assert len(ledger["exporters"]) == len(specs)
    for view in ("hosts", "parts", "raw"):
        assert r.sums(view) == scaled(truth)


def split(batches: Batches) -> tuple[Batches, Batches]:
    """The first round of each exporter, which has its templates and options; and the rest."""
    seen: set[int] = set()
    first, rest = [], []
    for batch in batches:
        (rest if batch[1] in seen else first).append(batch)
        seen.add(batch[1])
    return first, rest


def test_a_new_shard_knows_all_templates_before_it_receives(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(2)
    first, rest = split(batches)
    one = r.start("s0")
    send(port_of(one), specs, first)
    wait_for(lambda: one.status()["datagrams"] == sum(len(p) for _, _, p in first), "arrival")
    r.drain(one, final=False)
    two = r.start("s1")
    assert two.status()["templates"] >= 8
    send(port_of(two), specs, rest)
    wait_for(lambda: two.status()["datagrams"] == sum(len(p) for _, _, p in rest), "arrival")
    assert two._ask(two._collector.waiting) == []
    r.finish()
    assert r.sums("raw") == scaled(truth)


def test_data_waits_for_a_template_that_another_shard_learns(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(1)
    first, rest = split(batches)
    one, two = r.start("s0"), r.start("s1")
    send(port_of(two), specs, rest)
    wait_for(lambda: two.figures()["sets_held"] > 0, "held data")
    send(port_of(one), specs, first)
    wait_for(lambda: two.figures()["sets_held"] == 0, "template")
    ledger = r.finish()
    totals = [row.get("sets_held_decoded", 0) for row in ledger["exporters"].values()]
    assert sum(totals) > 0
    assert r.sums("raw") == scaled(truth)
    assert r.sums("hosts") == scaled(truth)


def test_restart_and_growth_while_exporters_send_lose_nothing(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(4, rate=3000)
    one = r.start("s0")
    port = port_of(one)
    parts = [batches[len(batches) * i // 4 : len(batches) * (i + 1) // 4] for i in range(4)]
    sent = send(port, specs, parts[0])
    two = r.start("s1", port)  # a second shard on the port: the kernel moves exporters
    sent += send(port, specs, parts[1])
    three = r.start("s2", port)
    r.drain(one, final=False)  # the first is replaced
    sent += send(port, specs, parts[2])
    r.drain(two, final=False)
    sent += send(port, specs, parts[3])
    assert three.status()["state"] == "running"
    ledger = r.finish()
    drops = sum(f["kernel_drops"] for f in r.drained)
    assert sum(row["datagrams"] for row in ledger["exporters"].values()) + drops == sent
    assert drops == 0
    assert r.sums("raw") == scaled(truth)
    assert r.sums("hosts") == scaled(truth)


def test_a_lost_aggregator_changes_no_total(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(3)
    third = len(batches) // 3
    shard = r.start("s0")
    port = port_of(shard)
    send(port, specs, batches[:third])
    wait_for(lambda: shard.status()["delivered"] > 5, "delivery")
    for aggregation in r.transport.aggregations.values():
        aggregation.settle("s0", shard.status()["incarnation"])
    send(port, specs, batches[third : 2 * third])
    wait_for(lambda: shard.status()["pending_rows"] == 0, "hand-over")
    r.bring_up()  # from the checkpoints; what was merged since is gone
    send(port, specs, batches[2 * third :])
    figures = r.drain(shard)
    assert figures["resent"] > 0
    r.finish()
    for view in ("hosts", "parts", "raw"):
        assert r.sums(view) == scaled(truth)


def test_while_aggregators_are_away_partials_do_not_pile_up(rig: Make) -> None:
    r = rig(VIEWS[:1])
    specs, batches, truth = generated(2)
    shard = r.start("s0")
    shard._delivery._transport.aggregations = {}
    send_failed = shard._delivery._transport.send
    shard._delivery._transport.send = lambda partial, incarnation: None
    sent = send(port_of(shard), specs, batches)
    wait_for(lambda: shard.status()["datagrams"] == sent, "arrival")
    assert shard._ask(lambda: shard._collector.unacknowledged_count) <= 1
    wait_for(lambda: shard.status()["lag_seconds"] > 0, "lag")
    shard._delivery._transport.aggregations = r.transport.aggregations
    shard._delivery._transport.send = send_failed
    shard._ask(lambda: send_failed(shard._delivery._lanes["hosts", 0].moving, ""))
    r.finish()
    assert r.sums("hosts") == scaled(truth)


def test_a_failing_batch_does_not_end_the_shard(rig: Make) -> None:
    r = rig(VIEWS[:1])
    specs, batches, _ = generated(1)
    shard = r.start("s0")
    feed, failures = shard._collector.feed, iter([True, True])

    def faulty(batch: PacketBatch) -> None:
        if next(failures, False):
            raise ValueError("made up")
        feed(batch)

    shard._collector.feed = faulty
    sent = 0
    while shard.status()["errors"] < 2:
        sent += send(port_of(shard), specs, batches[:3])
        wait_for(lambda n=sent: shard.status()["datagrams"] == n, "arrival")
    shard.check()
    assert shard.status()["last_error"] == "ValueError: made up"
    send(port_of(shard), specs, batches)
    wait_for(lambda: shard.figures()["ledger"]["views"].get("hosts"), "records")


def test_a_dead_thread_is_told(rig: Make) -> None:
    shard = rig(VIEWS[:1]).start("s0")
    shard.check()
    shard._run = None
    shard._stop.set()
    for thread in shard._threads:
        thread.join()
    shard._stop.clear()
    with pytest.raises(RuntimeError, match=r"s0-receive.* died"):
        shard.check()
    shard._stop.set()


def test_full_memory_stops_receiving_until_there_is_room(rig: Make) -> None:
    r = rig(VIEWS[2:], shard_memory="1KiB")
    specs, batches, truth = generated(1)
    shard = r.start("s0")
    sent = send(port_of(shard), specs, batches)
    wait_for(lambda: shard.status()["full_seconds"] > 0, "full memory")
    for aggregation in r.transport.aggregations.values():
        aggregation._pause_ns = 0  # a checkpoint at each tick

    def arrived() -> bool:
        for aggregation in r.transport.aggregations.values():
            aggregation.tick()
        return shard.status()["datagrams"] == sent

    wait_for(arrived, "arrival")
    r.finish()
    assert r.sums("raw") == scaled(truth)
