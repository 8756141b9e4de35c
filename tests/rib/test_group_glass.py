"""The looking glass of a RIB group that runs, from session to answer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from flowray.pb import rib_pb2 as pb
from flowray.pb.rib_pb2_grpc import RibStub
from flowray.rib.glass_answers import Answers
from flowray.rib.group_glass import GroupGlass
from flowray.rib.looking_glass import asking
from flowray.rib.rib import Rib
from tests.ingest.live_rig import wait_for
from tests.rib.service_rig import Group, Router, group, program

PATIENCE_S = 60
MANY = 2000
ANYWHERE = "127.0.0.1:0"


def glass_port(g: Group) -> int | None:
    port: int | None = g.service.status()["looking_glass"]["port"]
    return port


def connect(g: Group) -> grpc.Channel:
    wait_for(lambda: glass_port(g) is not None, "looking glass")
    return grpc.insecure_channel(f"127.0.0.1:{glass_port(g)}")


def prefixes(stub: Any, **conditions: Any) -> list[str]:
    answers = stub.Routes(pb.RoutesRequest(**conditions), timeout=PATIENCE_S)
    return [route.ip_prefix for answer in answers for route in answer.routes]


def only_peer(stub: Any) -> pb.Peer:
    (peer,) = stub.Peers(pb.PeersRequest(), timeout=PATIENCE_S).peers
    return peer


def test_answers_while_updates_pour_in(tmp_path: Path) -> None:
    """Routes are asked for again and again while a router announces; none that was there is
    missing.
    """

    def announce(router: Router) -> None:
        for i in range(MANY):
            router.announce([f"10.{i >> 8}.{i & 255}.0/24"], 65551)

    with group(program(tmp_path, looking_glass=ANYWHERE)) as g, connect(g) as channel:
        stub = RibStub(channel)
        with Router(g.port("bgp")) as router:
            router.establish()
            router.announce(["203.0.113.0/24"], 65551, 64500, end=True)
            wait_for(lambda: prefixes(stub) == ["203.0.113.0/24"], "route")
            wait_for(lambda: only_peer(stub).tables[0].end_of_rib, "End-of-RIB")
            peer = only_peer(stub)
            assert (peer.state, peer.stale, peer.since_ns > 0) == ("up", False, True)
            pouring = threading.Thread(target=announce, args=(router,))
            pouring.start()
            seen: list[str] = []
            while len(seen) <= MANY:
                now = prefixes(stub, as_path="^65551( 64500)?$")
                assert set(now).issuperset(seen)
                seen = now
            pouring.join()


def test_tables_of_the_past_and_after_a_restart(tmp_path: Path) -> None:
    routes = {"looking_glass": ANYWHERE, "save": "1s"}
    kept = tmp_path / "rib" / "history" / "default"
    with group(program(tmp_path, **routes)) as g, connect(g) as channel:
        stub = RibStub(channel)
        with Router(g.port("bgp")) as router:
            router.establish()
            router.announce(["203.0.113.0/24"], 65551, 64500)
            wait_for(lambda: kept.is_dir() and any(kept.iterdir()), "saved tables")
            router.announce(["198.51.100.0/24"], 65551)
            wait_for(lambda: len(prefixes(stub)) == 2, "second route")
            found, *changes = stub.Diff(pb.DiffRequest(before="0s", after="now"))
            assert found.before_ns > 0
            assert [c.after.ip_prefix for part in changes for c in part.changes][-1:] == [
                "198.51.100.0/24"
            ]
            g.service.stop()
    with group(program(tmp_path, **routes)) as g, connect(g) as channel:
        stub = RibStub(channel)
        peer = only_peer(stub)
        assert (peer.state, peer.stale, peer.routes) == ("down", True, 2)
        answers = stub.Routes(pb.RoutesRequest(), timeout=PATIENCE_S)
        assert [route.stale for answer in answers for route in answer.routes] == [1, 1]


def test_no_looking_glass(tmp_path: Path) -> None:
    with group(program(tmp_path, looking_glass=None)) as g:
        assert g.service.status()["looking_glass"] == {"port": None, "error": ""}


def test_an_address_that_becomes_free(caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers(asking(Rib()))
    first = GroupGlass(ANYWHERE, answers)
    first.open()
    port = first.status()["port"]
    second = GroupGlass(f"127.0.0.1:{port}", answers)
    for _ in range(2):
        second.open()
    taken = f"looking glass: cannot listen on 127.0.0.1:{port}"
    assert second.status() == {"port": None, "error": taken}
    assert caplog.messages == [taken]
    first.close()
    second.open()
    assert second.status() == {"port": port, "error": ""}
    second.close()
    second.open()
    assert first.status()["port"] == port


def test_states_of_validation(tmp_path: Path) -> None:
    file = tmp_path / "roas.json"
    file.write_text('{"roas": [{"asn": 64500, "prefix": "203.0.113.0/24"}]}')
    of = program(tmp_path, looking_glass=ANYWHERE, rpki={"roas": str(file)})
    with group(of) as g, connect(g) as channel, Router(g.port("bgp")) as router:
        router.establish()
        router.announce(["203.0.113.0/24", "198.51.100.0/24"], 65551, 64500)
        router.announce(["203.0.113.0/25"], 65551, 64500)
        router.announce(["203.0.113.0/26"], 65551, 64501)
        stub = RibStub(channel)
        wait_for(lambda: len(prefixes(stub)) == 4, "routes")
        answers = stub.Routes(pb.RoutesRequest(), timeout=PATIENCE_S)
        told = {route.ip_prefix: route.roa for answer in answers for route in answer.routes}
    assert told == {
        "203.0.113.0/24": "v",
        "198.51.100.0/24": "u",
        "203.0.113.0/25": "i",
        "203.0.113.0/26": "i",
    }
