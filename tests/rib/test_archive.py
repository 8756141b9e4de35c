"""What sessions told is in MRT files, out of which tables come to be again."""

from pathlib import Path

import numpy as np
import pytest

from flowray.rib.archive import MessageArchive
from flowray.rib.collector import RouteCollector
from flowray.rib.journal import Labels
from flowray.rib.mrt_routes import MrtRoutes, Numbers
from flowray.rib.peers import Peer
from flowray.rib.replay import RouteReplay
from flowray.settings.model import Settings
from flowray.wire.bgp.capabilities import AddPath, add_path, four_octet_as
from flowray.wire.bgp.messages import KEEPALIVE
from flowray.wire.bgp.mrt import MrtReader
from tests.ingest.live_rig import wait_for
from tests.rib.bgp_peer import START, peer_open
from tests.rib.service_rig import Router, group, program
from tests.wire.bgp import encode as e
from tests.wire.bgp import updates as u

MINUTE = 60 * 10**9
PEER = Peer("bgp", "192.0.2.1", 1, "192.0.2.1", "192.0.2.1", 65551)


def replay(archive: MessageArchive | None = None) -> RouteReplay:
    configuration = {"views": [{"name": "v", "keys": ["dst_as"]}], "listen": {"bgp": {}}}
    settings = Settings.model_validate(configuration)
    return RouteReplay(settings, RouteCollector(settings, {}, Labels(), archive))


def routes(run: RouteReplay) -> list[tuple[int, ...]]:
    return sorted(
        (family, int(path), int(lo), int(plen))
        for tables in run.collector.rib.peers()
        for family, table in tables.tables.items()
        for path, lo, plen in zip(
            table.rows().path_id, table.rows().lo, table.rows().plen, strict=True
        )
    )


def read(run: RouteReplay, *paths: Path) -> None:
    collector = run.collector
    numbers: Numbers = {}
    for path in paths:
        MrtRoutes(path, collector.rib, collector.journal, numbers).until(1 << 62)


@pytest.mark.parametrize("paths", [True, False])
def test_tables_come_back(tmp_path: Path, paths: bool) -> None:
    archive = MessageArchive(tmp_path, "all", 15 * MINUTE, 65000)
    run = replay(archive)
    offer = [four_octet_as(65551), *([add_path([AddPath(1, 1, 2)])] if paths else [])]
    to = (
        [e.prefix("192.0.2.0/24", n) for n in (1, 2, 3)] if paths else [e.prefix("198.51.100.0/24")]
    )
    told = e.update(attributes=e.usual(65551), nlri=b"".join(to))
    run.receive("bgp", "192.0.2.1", 1, peer_open(capabilities=offer) + KEEPALIVE + told, START)
    hop = e.address("2001:db8::1")
    reach = e.mp_reach(2, 1, hop, e.prefix("2001:db8::/32"))
    more = e.update(attributes=reach + e.usual(65551, hop=None))
    run.receive("bgp", "192.0.2.1", 1, more, START + 20 * MINUTE)
    run.collector.advance(START + 60 * MINUTE)
    files = sorted(tmp_path.iterdir())
    assert [file.suffix for file in files] == [".mrt", ".mrt"]
    again = replay()
    read(again, *files)
    assert routes(again) == routes(run)
    run.close("bgp", "192.0.2.1", 1, START + 61 * MINUTE)
    archive.close()
    ended = replay()
    read(ended, *sorted(tmp_path.iterdir()))
    assert routes(ended) == []
    assert (archive.messages, archive.lost, archive.files) == (2, 0, 3)


def test_what_was_left_is_found_again(tmp_path: Path) -> None:
    left = MessageArchive(tmp_path, "all", MINUTE, 0)
    left.received(PEER, u.batch([e.update()]), u.PLAIN)
    assert left._writer is not None
    left._writer._file.flush()
    MessageArchive(tmp_path, "all", MINUTE, 0)
    left._writer._file.close()
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".mrt"
    assert sum(1 for _ in MrtReader(file)) == 1


def test_what_cannot_be_written_is_counted(tmp_path: Path) -> None:
    archive = MessageArchive(tmp_path / "gone", "all", MINUTE, 0)
    (tmp_path / "gone").rmdir()
    batch = u.batch([e.update()] * 3)
    archive.received(PEER, batch, u.PLAIN)
    archive.received(PEER, batch, u.PLAIN)
    assert (archive.messages, archive.lost) == (0, 6)
    (tmp_path / "gone").mkdir()
    batch.time_ns[:] += np.int64(2 * MINUTE)
    archive.received(PEER, batch, u.PLAIN)
    archive.close()
    assert (archive.messages, archive.lost) == (3, 6)


def test_a_group_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    of = program(tmp_path, archive={"path": str(folder)})
    with group(of) as g, Router(g.port("bgp")) as router:
        router.establish()
        router.announce(["203.0.113.0/24"], 65551, 64500)
        wait_for(lambda: g.service.status()["archived"] == 1, "message")
    again = replay()
    (file,) = folder.iterdir()
    reader = MrtReader(file)
    assert sum(1 for _ in reader) == 3
    assert reader.report.state_changes == 2
    read(again, file)
    assert routes(again) == []
