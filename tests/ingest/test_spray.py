"""A front-end without luck: each datagram of an exporter may hit any shard."""

import random
from pathlib import Path

from flowray.generate.send import Sender
from tests.ingest.live_rig import Rig, generated, scaled

VIEWS = [
    {"name": "hosts", "keys": ["peer_src_ip", "src_host", "in_iface_name"], "window": "1h"},
    {"name": "raw", "keys": ["src_host"]},
]


def test_datagrams_sprayed_over_shards_lose_no_row_and_no_rate(tmp_path: Path) -> None:
    specs, batches, truth = generated(4)
    rig = Rig(tmp_path, VIEWS)
    shards = [rig.start(f"s{n}") for n in range(3)]
    ports = [int(shard.addresses[0].rpartition(":")[2]) for shard in shards]
    sources = [spec.address for spec in specs]
    luck = random.Random(1)
    sent = 0
    senders = [Sender("127.0.0.1", port, sources) for port in ports]
    for _, index, payloads in batches:
        for payload in payloads:
            sender = luck.choice(senders)
            sent += sender.send([payload], exporter=index, rate=4000).sent
    for sender in senders:
        sender.close()
    ledger = rig.finish()
    accounts = ledger["exporters"]
    assert sum(row["datagrams"] for row in accounts.values()) == sent
    assert rig.sums("hosts") == rig.sums("raw") == scaled(truth)
    # Each shard has seen gaps everywhere; together they have missed nothing.
    assert sum(row.get("sequence_gap", 0) for row in accounts.values()) == 0
    assert sum(row.get("restarts", 0) for row in accounts.values()) == 0
    heard = [len(shard["ledger"]["exporters"]) for shard in rig.drained]
    assert heard == 3 * [len(specs)]


def test_what_a_front_end_loses_is_told_exactly(tmp_path: Path) -> None:
    specs, batches, _ = generated(3)
    rig = Rig(tmp_path, VIEWS)
    shards = [rig.start(f"s{n}") for n in range(2)]
    ports = [int(shard.addresses[0].rpartition(":")[2]) for shard in shards]
    sources = [spec.address for spec in specs]
    luck = random.Random(2)
    datagrams = [(index, payload) for _, index, payloads in batches for payload in payloads]
    of_v9 = next(i for i, (index, payload) in enumerate(datagrams) if payload[1] == 9)
    chosen = datagrams[of_v9][0]
    mine = [i for i, (index, payload) in enumerate(datagrams) if index == chosen]
    lost = set(luck.sample(mine[20:-20], 30))
    senders = [Sender("127.0.0.1", port, sources) for port in ports]
    for i, (index, payload) in enumerate(datagrams):
        if i not in lost:
            luck.choice(senders).send([payload], exporter=index, rate=4000)
    for sender in senders:
        sender.close()
    accounts = rig.finish()["exporters"]
    gaps = {address: row.get("sequence_gap", 0) for address, row in accounts.items()}
    assert gaps.pop(specs[chosen].address) == 30
    assert set(gaps.values()) == {0}
