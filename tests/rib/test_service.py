"""A RIB group on real sockets: sessions, streams, snapshots, figures."""

from pathlib import Path

import numpy as np
import pytest

from flowray.errors import ConfigError
from flowray.rib.lpm import look_up
from flowray.rib.snapshot import Instance, Snapshot
from flowray.settings.load import parse_settings
from flowray.wire.packets import address_words
from tests.ingest.live_rig import wait_for
from tests.rib.service_rig import Group, Router, group, program
from tests.wire.bgp import encode as enc
from tests.wire.bgp import encode_bmp as bmp


def origin_of(snapshot: Snapshot, router: str, address: str) -> int | None:
    """Origin AS of the route of an address, None without one."""
    number = snapshot.routers.get(address_words(router))
    if number is None or Instance(number, 0) not in snapshot.instances:
        return None
    table = np.array([snapshot.instances[Instance(number, 0)]], np.int64)
    hi, lo = (np.array([word], np.uint64) for word in address_words(address))
    payload, _ = look_up(snapshot.forest, table, hi, lo)
    return None if payload[0] == 0xFFFFFFFF else int(snapshot.columns.origin_as[payload[0]])


def newest(g: Group) -> Snapshot | None:
    return g.service.newest("", 0)


def joins(g: Group, address: str, origin: int | None, router: str = "127.0.0.1") -> bool:
    snapshot = newest(g)
    found = None if snapshot is None else origin_of(snapshot, router, address)
    return found == origin


def test_a_session_from_socket_to_snapshot(tmp_path: Path) -> None:
    with group(program(tmp_path)) as g, Router(g.port("bgp")) as router:
        router.establish()
        router.announce(["203.0.113.0/24"], 65551, 64500)
        wait_for(lambda: joins(g, "203.0.113.9", 64500), "route")
        first = newest(g)
        assert first is not None
        assert g.service.newest(first.epoch, first.generation) is None
        router.announce(["203.0.113.0/25"], 65551, 64501)
        wait_for(lambda: joins(g, "203.0.113.9", 64501), "longer route")
        assert joins(g, "203.0.113.200", 64500)
        router.close()
        wait_for(lambda: joins(g, "203.0.113.9", None), "no route")
        g.service.check()
    rows = g.rows("bgp_log")
    assert [row["event_type"] for row in rows] == [b"log_init", *[b"log"] * 4]


def test_the_end_is_told(tmp_path: Path) -> None:
    with group(program(tmp_path)) as g, Router(g.port("bgp")) as router:
        router.establish()
        wait_for(lambda: g.service.status()["listeners"]["bgp"]["established"] == 1, "session")
        end = g.service.stop()
        assert router.message()[18:21] == bytes((3, 6, 2))  # Cease, Administrative Shutdown
    assert (end["state"], end["bgp_sessions"]) == ("stopped", 0)


def test_a_refused_session_is_logged(tmp_path: Path) -> None:
    with group(program(tmp_path)) as g, Router(g.port("bgp")) as router:
        router.establish()
        with Router(g.port("bgp")) as again:
            assert again.message()[18:21] == bytes((3, 6, 5))  # Cease, Connection Rejected
        wait_for(lambda: g.service.status()["refused"] != {}, "refusal")
        status = g.service.status()
        assert status["refused"] == {"it has a session already": 1}
        assert status["listeners"]["bgp"]["refused_duplicate"] == 1
        assert (status["peers"], status["bgp_sessions"]) == (1, 1)
    assert [row["event_type"] for row in g.rows("bgp_log")] == [b"log_init", b"log_init"]


def test_malformed_updates_are_counted_by_cause(tmp_path: Path) -> None:
    with group(program(tmp_path)) as g, Router(g.port("bgp")) as router:
        router.establish()
        bad = enc.update(attributes=enc.attribute(1, b"\x09", 0x40), nlri=enc.prefix("10.0.0.0/8"))
        router.socket.sendall(bad)
        wait_for(lambda: sum(g.service.status()["malformed"].values()) == 1, "count")
        router.announce(["203.0.113.0/24"], 65551)
        wait_for(lambda: joins(g, "203.0.113.1", 65551), "route of the same session")


def test_bmp_routes_of_a_router(tmp_path: Path) -> None:
    with group(program(tmp_path)) as g, Router(g.port("bmp")) as router:
        router.socket.sendall(bmp.initiation())
        wait_for(lambda: g.service.status()["listeners"]["bmp"]["accepted"] == 1, "session")
        assert g.service.look(lambda collector: collector.status())["bmp_sessions"] == 1
        router.close()
        wait_for(lambda: g.service.status()["bmp_sessions"] == 0, "end")


def test_groups_of_a_configuration() -> None:
    def content(*groups: dict[str, str], bmp: bool = True) -> dict[str, object]:
        listen: dict[str, object] = {"bgp": {"address": "127.0.0.1:1179"}}
        if bmp:
            listen["bmp"] = {}
        views = [{"name": "all", "keys": ["src_host"]}]
        return {"listen": listen, "views": views, "routes": {"groups": list(groups)}}

    (default,) = parse_settings(content(), "test").route_groups
    assert (default.name, default.bgp, default.bmp) == (
        "default",
        "127.0.0.1:1179",
        "127.0.0.1:11019",
    )
    east = {"name": "east", "bgp": "127.0.0.2:1179"}
    west = {"name": "west", "bgp": "127.0.0.3:1179", "bmp": "127.0.0.3:11019"}
    assert [g.name for g in parse_settings(content(east, west), "test").route_groups] == [
        "east",
        "west",
    ]
    with pytest.raises(ConfigError, match=r"routes.groups\[1\].name"):
        parse_settings(content(east, east), "test")
    with pytest.raises(ConfigError, match=r"routes.groups\[1\].bgp"):
        parse_settings(content(east, east | {"name": "other"}), "test")
    with pytest.raises(ConfigError, match=r"routes.groups\[0\].bmp"):
        parse_settings(content(west, bmp=False), "test")
