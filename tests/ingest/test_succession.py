"""Shards that are killed, and their successors: no record is missing, none comes twice."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from flowray.generate.encode import TemplateSpec, ipfix_message, ipfix_template_set
from flowray.generate.numbered import TEMPLATE
from flowray.generate.send import Sender
from flowray.ingest.shard import Shard
from flowray.ingest.warm import warm
from tests.ingest.live_rig import Rig, generated, port_of, scaled, send, wait_for

Make: TypeAlias = Callable[..., Rig]

VIEWS = [
    {"name": "hosts", "keys": ["peer_src_ip", "src_host", "in_iface_name"], "window": "2s"},
    {"name": "parts", "keys": ["src_host", "dst_host"], "window": "1s", "partitions": 3},
    {"name": "raw", "keys": ["src_host", "dst_host"]},
]
NAMES = [view["name"] for view in VIEWS]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[Rig] = []
    # Once is enough: all shards are in this process.
    monkeypatch.setattr("flowray.ingest.shard.warm", lambda program: None)

    def make(views: Sequence[dict[str, Any]] = VIEWS, **settings: Any) -> Rig:
        made.append(Rig(tmp_path, views, **settings))
        warm(made[-1].program)
        return made[-1]

    yield make
    for one in made:
        one.close()


def arrived(shard: Shard, n: int) -> None:
    wait_for(lambda: shard.status()["datagrams"] == n, "arrival")


def dies_in(shard: Shard, owner: Any, method: str) -> Callable[[], bool]:
    """Have the receive thread end when it calls a method; whether it did."""
    died: list[str] = []

    def end(*_: Any, **__: Any) -> None:
        died.append(method)
        shard._stop.set()
        raise SystemExit

    setattr(owner, method, end)
    return lambda: bool(died)


MOMENTS: dict[str, Callable[[Shard], tuple[Any, str]]] = {
    "received, not decoded": lambda s: (s._collector, "feed"),
    "numbered, not committed": lambda s: (s._cuts, "commit"),
    "stored, not committed": lambda s: (s._ring, "commit"),
    "committed, not sent": lambda s: (s._delivery, "offer"),
    "sent, not answered": lambda s: (s._delivery, "poll"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_shard_killed_at_any_moment_loses_nothing(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(2)
    shard, sent = r.start("s0", ring=True), 0
    port, first = port_of(shard), shard.status()["incarnation"]
    edges = [len(batches) * i // (len(MOMENTS) + 1) for i in range(len(MOMENTS) + 2)]
    parts = [batches[a:b] for a, b in pairwise(edges)]
    for part, moment in zip(parts, MOMENTS.values(), strict=False):
        sent += send(port, specs, part[: len(part) // 2])
        died = dies_in(shard, *moment(shard))
        sent += send(port, specs, part[len(part) // 2 :])
        wait_for(died, "death")
        # What the kernel had for it would be lost with its sockets: that is not what is tested.
        shard._receiver.take()
        r.kill(shard)
        shard = r.start("s0", port, ring=True)
    sent += send(port, specs, parts[-1])
    arrived(shard, sent)
    status = shard.status()
    assert status["resumed"] == len(MOMENTS)
    assert status["recovered"] > 0
    assert status["incarnation"] == first
    assert status["errors"] == 0
    r.finish()
    for view in NAMES:
        assert r.sums(view) == scaled(truth)
    assert not (r.path / "ring" / "s0").exists()


def test_killed_again_and_again_while_exporters_send(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(3, seed=2)
    rng = random.Random(3)
    shard, sent = r.start("s0", ring=True), 0
    port = port_of(shard)
    for at in range(0, len(batches), 12):
        sent += send(port, specs, batches[at : at + 12])
        if rng.random() < 0.7:
            arrived(shard, sent)
            time.sleep(rng.random() * 0.02)  # wherever it is in its turn by then
            r.kill(shard)
            shard = r.start("s0", port, ring=True)
    arrived(shard, sent)
    assert shard.status()["resumed"] > 3
    ledger = r.finish()
    gaps = sum(row.get("sequence_gap", 0) for row in ledger["exporters"].values())
    assert gaps == 0
    for view in NAMES:
        assert r.sums(view) == scaled(truth)


def test_shard_and_aggregators_lost_together(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(3)
    third = len(batches) // 3
    shard = r.start("s0", ring=True)
    port = port_of(shard)
    sent = send(port, specs, batches[:third])
    arrived(shard, sent)
    wait_for(lambda: shard.status()["delivered"] > 5, "delivery")
    for aggregation in r.transport.aggregations.values():
        aggregation.settle("s0", shard.status()["incarnation"])
    sent += send(port, specs, batches[third : 2 * third])
    arrived(shard, sent)
    wait_for(lambda: shard.status()["pending_rows"] == 0, "hand-over")
    r.kill(shard)
    r.bring_up()
    shard = r.start("s0", port, ring=True)
    assert shard.figures()["unacknowledged"] > 0
    send(port, specs, batches[2 * third :])
    r.finish()
    for view in NAMES:
        assert r.sums(view) == scaled(truth)


def test_data_held_for_a_template_outlives_the_shard(rig: Make) -> None:
    r = rig()
    specs, batches, truth = generated(1)
    seen: set[int] = set()
    first = [b for b in batches if not (b[1] in seen or seen.add(b[1]))]
    rest = [b for b in batches if b not in first]
    shard = r.start("s0", ring=True)
    port = port_of(shard)
    sent = send(port, specs, rest)
    arrived(shard, sent)
    held = wait_for(lambda: shard.figures()["sets_held"], "held data")
    for _ in range(2):
        r.kill(shard)
        shard = r.start("s0", port, ring=True)
        assert shard.figures()["sets_held"] == held
    send(port, specs, first)
    wait_for(lambda: shard.figures()["sets_held"] == 0, "template")
    r.finish()
    # Their sampling rates came after them, so packets and bytes are not scaled by all of them.
    assert r.sums("raw")["flows"] == len(truth)


def test_a_template_that_changed_after_the_cut_is_not_used_before(rig: Make) -> None:
    """The store knows the new one already; what came before it is decoded with the old one."""
    r = rig(VIEWS[2:], hand_over="1h")
    shard = r.start("s0", ring=True)
    port = port_of(shard)
    swapped = TemplateSpec(256, (TEMPLATE.fields[1], TEMPLATE.fields[0], *TEMPLATE.fields[2:]))
    now = time.time_ns() // 1_000_000
    body = bytes([10, 0, 0, 1, 192, 0, 2, 1]) + (5).to_bytes(8) + (700).to_bytes(8)
    record = body + now.to_bytes(8) * 2

    def message(*sets: bytes, sequence: int) -> bytes:
        return ipfix_message(list(sets), export_time=now // 1000, sequence=sequence, domain=1)

    data = (256).to_bytes(2) + (4 + len(record)).to_bytes(2) + record
    with Sender("127.0.0.1", port, ["127.0.3.1"]) as sender:
        sender.send([message(ipfix_template_set(TEMPLATE), sequence=0)], rate=1000)
        arrived(shard, 1)
        shard._ask(lambda: shard._cut(shard._clock()))
        sender.send([message(data, sequence=0)], rate=1000)
        arrived(shard, 2)
        sender.send([message(ipfix_template_set(swapped), data, sequence=1)], rate=1000)
        arrived(shard, 3)
    wait_for(lambda: len(r.store) == 1 and r.store.generation == 2, "news")
    r.kill(shard)
    shard = r.start("s0", port, ring=True)
    assert shard.status()["recovered"] == 2
    r.finish()
    rows = [row for table in r.sinks["raw"].tables.values() for row in table.to_pylist()]
    here, there = bytes([10, 0, 0, 1]), bytes([192, 0, 2, 1])
    found = sorted((row["src_host"][-4:], row["dst_host"][-4:]) for row in rows)
    assert found == [(here, there), (there, here)]


def test_a_full_ring_is_handed_over_though_aggregators_lag(rig: Make) -> None:
    r = rig(VIEWS[:1], hand_over="1h")
    specs, batches, _ = generated(1)
    shard = r.start("s0", ring=True)
    wait_for(lambda: shard.status()["delivered"], "first hand-over")
    transport = shard._delivery._transport
    answer, transport.receipts = transport.receipts, list
    sent = 0
    while sent < 2 * shard._ring.slots.n:
        sent += send(port_of(shard), specs, batches, rate=8000)
        arrived(shard, sent)
    status = shard.figures()
    assert status["unacknowledged"] >= 2
    assert status["full_seconds"] == 0
    assert status["kernel_drops"] == 0
    transport.receipts = answer
    r.finish()


def test_partials_of_a_view_that_changed_are_given_up(rig: Make) -> None:
    r = rig()
    specs, batches, _ = generated(1)
    shard = r.start("s0", ring=True)
    port = port_of(shard)
    half = len(batches) // 2
    sent = send(port, specs, batches[:half])
    wait_for(lambda: shard.figures()["unacknowledged"], "partials")
    shard._ask(lambda: setattr(shard, "_cut_if_due", lambda _: None))
    sent += send(port, specs, batches[half:])
    arrived(shard, sent)
    r.kill(shard)
    other = rig([{"name": "raw", "keys": ["src_host"]}])
    shard = other.start("s0", port, ring=True)
    assert shard.status()["recovered"] > 0
    assert shard.status()["datagrams"] == sent
    figures = other.drain(shard)
    assert figures["unacknowledged"] == 0
    assert other.sums("raw")["flows"] > 0
