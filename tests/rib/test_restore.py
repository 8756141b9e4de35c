"""Routes on disk: what comes back is what was there, and it goes when it is not told again."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.peers import Peer, PolicyView
from flowray.rib.restore import restore, saved
from flowray.rib.rib import Rib
from flowray.views.checkpoint import CheckpointError, decode, encode
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.bgp.update import parse_updates
from tests.ingest.live_rig import wait_for
from tests.rib.service_rig import Router, group, program
from tests.rib.test_service import joins, newest
from tests.wire.bgp.updates import ALL_PATHS, batch, contexts, messages

PEERS = (
    Peer("bgp", "192.0.2.1", 50000, "192.0.2.1", "192.0.2.101", 65001),
    Peer(
        "bmp", "192.0.2.2", 50001, "2001:db8::9", "192.0.2.102", 65002,
        PolicyView.LOC_RIB, 3, 7, is_filtered=True,
    ),
)  # fmt: skip


def told(rib: Rib, told_by: list[list[bytes]], paths: int) -> None:
    """Have each peer announce."""
    how = contexts((True, paths))
    for peer, said in zip(PEERS, told_by, strict=True):
        number = rib.open(peer)
        if said:
            updates = batch(said)
            parsed = parse_updates(updates, how, rib.store)
            numbers = np.full(len(said), number, np.int64)
            rib.apply(numbers, parsed.events, updates.buf, how.add_path[updates.context])


def contents(rib: Rib) -> set[tuple[object, ...]]:
    """All routes with the octets of their attributes."""
    found: set[tuple[object, ...]] = set()
    for tables in rib.peers():
        for family, table in tables.tables.items():
            rows = table.rows()
            prefixes = FAMILIES[family].of_prefixes
            nlri = [b""] * len(rows) if prefixes else table.nlri(rows.nlri)
            columns = (rows.rd, rows.path_id, rows.hi, rows.lo, rows.plen, rows.labels)
            for i in range(len(rows)):
                route = tuple(int(column[i]) for column in columns)
                attributes = rib.store[int(rows.attributes[i])]
                found.add((tables.peer, family, table.add_path, route, nlri[i], attributes))
    return found


@given(
    st.sampled_from([0, ALL_PATHS]).flatmap(
        lambda paths: st.tuples(
            st.just(paths),
            *[st.lists(messages(four=True, paths=paths), max_size=8) for _ in PEERS],
        )
    )
)
def test_what_was_saved_comes_back(case: tuple[int, list[bytes], list[bytes]]) -> None:
    paths, *told_by = case
    before, after = Rib(), Rib()
    told(before, told_by, paths)
    restore(after, decode(encode(saved(before))))
    assert contents(after) == contents(before)
    assert all(t.stale and not t.session for t in after.peers())


def test_another_form_is_refused() -> None:
    with pytest.raises(CheckpointError, match="form 99"):
        restore(Rib(), ({"form": 99}, {}))


def test_a_group_comes_back_with_its_routes(tmp_path: Path) -> None:
    configured = program(tmp_path)
    with group(configured) as g, Router(g.port("bgp")) as router:
        router.establish()
        router.announce(["203.0.113.0/24", "198.51.100.0/24"], 65551, 64500)
        wait_for(lambda: joins(g, "203.0.113.9", 64500), "route")
        g.service.stop()
    with group(configured) as g:
        snapshot = newest(g)
        assert snapshot is not None
        assert joins(g, "203.0.113.9", 64500)
        assert snapshot.stale.all()
        status = g.service.status()
        assert (status["restored"], status["stale_peers"], status["routes"]) == (2, 1, 2)
        with Router(g.port("bgp")) as router:
            router.establish()
            router.announce(["203.0.113.0/24"], 65551, 64501)
            wait_for(lambda: joins(g, "203.0.113.9", 64501), "fresh route")
            snapshot = newest(g)
            assert snapshot is not None
            assert snapshot.stale.all()
            assert joins(g, "198.51.100.9", 64500)
            router.announce(["192.0.2.0/24"], 65551, end=True)
            wait_for(lambda: joins(g, "198.51.100.9", None), "end of the old route")
            snapshot = newest(g)
            assert snapshot is not None
            assert not snapshot.stale.any()
            assert joins(g, "203.0.113.9", 64501)


def test_routes_that_nobody_tells_again_end(tmp_path: Path) -> None:
    with group(program(tmp_path)) as g, Router(g.port("bgp")) as router:
        router.establish()
        router.announce(["203.0.113.0/24"], 65551)
        wait_for(lambda: joins(g, "203.0.113.9", 65551), "route")
        g.service.stop()
    with group(program(tmp_path, stale_for="1s")) as g:
        wait_for(lambda: joins(g, "203.0.113.9", None), "end of the stale route")
        wait_for(lambda: g.service.status()["peers"] == 0, "end of the peer")
    assert len(g.rows("bgp_log")) == 1  # of the deletion


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "rib" / "default.bin"
    path.parent.mkdir()
    path.write_bytes(b"flowray\x01 and nothing that belongs there")
    with group(program(tmp_path)) as g:
        assert g.service.status()["restored"] == 0
        assert "damaged" in g.service.status()["last_error"]
    assert path.with_suffix(".unusable").exists()
