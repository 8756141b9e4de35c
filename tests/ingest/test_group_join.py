"""Flows of several RIB groups, and routes that nobody keeps true."""

import threading

import numpy as np
import pytest

from flowray.columns import Columns, Layout
from flowray.hashing import Interner
from flowray.ingest.following import MISSED, Follower
from flowray.ingest.group_join import GroupJoin
from flowray.ingest.join import NEEDS, JoinPlan
from flowray.rib.peers import Peer
from flowray.rib.rib import Rib
from flowray.rib.snapshot import Publisher, Snapshot
from flowray.wire.bgp.events import Contexts
from flowray.wire.bgp.update import parse_updates
from flowray.wire.packets import Exporters, address_words
from tests.wire.bgp import encode as enc
from tests.wire.bgp.updates import batch

LAYOUT = Layout([*NEEDS, "dst_as", "as_path", "dst_rung"])
FOUR_OCTETS = Contexts(np.array([True]), np.zeros(1, np.uint64))


def snapshot(router: str, origin: int, epoch: str) -> Snapshot:
    """Of one router with a route to 203.0.113.0/24."""
    rib = Rib()
    number = rib.open(Peer("bgp", router, 50000, router, router, 65001))
    said = enc.update(attributes=enc.usual(65001, origin), nlri=enc.prefix("203.0.113.0/24"))
    updates = batch([said])
    events = parse_updates(updates, FOUR_OCTETS, rib.store).events
    rib.apply(np.array([number]), events, updates.buf, FOUR_OCTETS.add_path[updates.context])
    return Publisher(rib, epoch).publish(1)


class Shard:
    """Records of exporters, and what the join says of each."""

    def __init__(self) -> None:
        self.join = GroupJoin(JoinPlan())
        self.exporters = Exporters(100)
        self.texts = Interner(1 << 16)

    def __call__(self, *exporters: str) -> list[tuple[int, str, str]]:
        """AS, AS path and rung of a destination in 203.0.113.0/24 for records of exporters."""
        c = Columns.empty(LAYOUT, len(exporters))
        c.n = len(exporters)
        c["_exporter"][:] = [self.exporters.intern_one(e) for e in exporters]
        c["dst_host"][0], c["dst_host"][1] = address_words("203.0.113.9")
        c["mpls_vpn_rd"][:] = self.texts.add_all([b"0:0:0"])[0]
        self.join.fill(c, self.exporters, self.texts)
        path, rung = (self.texts.values(c[n].astype(np.uint32)) for n in ("as_path", "dst_rung"))
        return [
            (int(a), p.decode(), r.decode())
            for a, p, r in zip(c["dst_as"], path, rung, strict=True)
        ]


def test_each_exporter_has_the_routes_of_its_group() -> None:
    shard = Shard()
    assert shard("192.0.2.1") == [(0, "", "no-snapshot")]
    shard.join.install(snapshot("192.0.2.1", 64501, "e"), "east")
    assert shard("192.0.2.1", "192.0.2.2") == [
        (64501, "65001 64501", "global"),
        (0, "", "no-router"),
    ]
    shard.join.install(snapshot("192.0.2.2", 64502, "w"), "west")
    assert shard("192.0.2.2", "192.0.2.1", "192.0.2.3", "192.0.2.2") == [
        (64502, "65001 64502", "global"),
        (64501, "65001 64501", "global"),
        (0, "", "no-router"),
        (64502, "65001 64502", "global"),
    ]


def test_routes_of_a_lost_group_are_stale() -> None:
    shard = Shard()
    shard.join.lose("east")
    assert shard("192.0.2.1") == [(0, "", "no-snapshot")]
    shard.join.install(snapshot("192.0.2.1", 64501, "e"), "east")
    shard.join.install(snapshot("192.0.2.2", 64502, "w"), "west")
    shard.join.lose("east")
    assert shard.join.lost == ["east"]
    assert shard("192.0.2.1", "192.0.2.2") == [
        (64501, "65001 64501", "global, stale"),
        (64502, "65001 64502", "global"),
    ]
    shard.join.install(snapshot("192.0.2.1", 64503, "f"), "east")
    assert shard("192.0.2.1") == [(64503, "65001 64503", "global")]
    assert shard.join.lost == []


class Groups:
    """RIB groups that a test starts and ends."""

    def __init__(self, **up: Snapshot) -> None:
        self.up = up
        self.asked: list[tuple[str, str, int]] = []

    def newest(self, group: str, epoch: str, generation: int) -> Snapshot | None:
        self.asked.append((group, epoch, generation))
        found = self.up.get(group)
        if found is None:
            raise ConnectionError("away")
        return None if (found.epoch, found.generation) == (epoch, generation) else found


def test_snapshots_are_followed_through_an_outage() -> None:
    first = snapshot("192.0.2.1", 64501, "e")
    groups = Groups(east=first)
    shard = Shard()
    follower = Follower(groups, ["east"])
    for _ in range(3):
        follower.pull()
        follower.install(shard.join)
    assert (follower.pulls, follower.failures) == (1, 0)
    assert groups.asked[1:] == [("east", first.epoch, 1)] * 2
    groups.up.clear()
    for n in range(MISSED):
        assert shard("192.0.2.1") == [(64501, "65001 64501", "global")], n
        follower.pull()
        follower.install(shard.join)
    assert shard("192.0.2.1") == [(64501, "65001 64501", "global, stale")]
    assert follower.failures == MISSED
    assert follower.last_failure == "east: ConnectionError: away"
    groups.up["east"] = first  # it was only out of reach
    follower.pull()
    follower.install(shard.join)
    assert shard("192.0.2.1") == [(64501, "65001 64501", "global")]


def test_following_ends_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowray.ingest.following.PULL_SECONDS", 0.001)
    groups = Groups(east=snapshot("192.0.2.1", 64501, "e"))
    stop = threading.Event()
    thread = threading.Thread(target=Follower(groups, ["east"]).run, args=(stop,))
    thread.start()
    while not groups.asked:
        thread.join(0.001)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
