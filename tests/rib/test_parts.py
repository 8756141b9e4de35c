"""A group in parts: actors that share an address, each with the routers that belong to it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from cluster.topology import with_ports
from flowray.errors import ConfigError
from flowray.ingest.listen import ListenError
from flowray.rib.parts import part_of
from flowray.rib.service import RouteService
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from tests.ingest.live_rig import wait_for
from tests.rib.service_rig import Router

PARTS = 3
ROUTERS = [f"127.0.5.{n}" for n in range(1, 13)]


def program(state: Path) -> Program:
    group = {"name": "core", "bgp": "127.0.0.1:0", "bmp": "127.0.0.1:0", "parts": PARTS}
    content = {
        "listen": {"bgp": {}, "bmp": {}},
        "views": [{"name": "all", "keys": ["src_host"]}],
        "state": {"path": str(state)},
        "routes": {"groups": [group]},
    }
    return compile_settings(with_ports(parse_settings(content, "test")), "test")


def port(of: Program) -> int:
    return int((of.settings.routes.groups[0].bgp or "").rpartition(":")[2])


@contextmanager
def part(of: Program, number: int) -> Iterator[RouteService]:
    service = RouteService(of, of.settings.route_groups[number], {})
    service.start()
    try:
        yield service
    finally:
        service.stop()


def peers(service: RouteService) -> set[str]:
    return service.look(lambda collector: {t.peer.router for t in collector.rib.peers()})


def test_routers_come_to_the_part_that_they_belong_to(tmp_path: Path) -> None:
    of = program(tmp_path)
    with ExitStack() as open_parts:
        services = [open_parts.enter_context(part(of, n)) for n in range(PARTS)]
        with ExitStack() as sockets:
            for address in ROUTERS:
                router = Router(port(of), address)
                sockets.enter_context(router.socket)
                router.establish()
                router.announce(["10.0.0.0/8"], 64500, end=True)
            counters: Counter[str] = Counter()
            for number, service in enumerate(services):
                mine = {address for address in ROUTERS if part_of(address, PARTS) == number}
                assert mine
                wait_for(partial(holds, service, mine), "peers of the part")
                counters.update(wait_for(partial(told, service, len(mine)), "figures"))
            assert counters["accepted"] == len(ROUTERS)
            assert counters["not_taken"] == 0


def holds(service: RouteService, expected: set[str]) -> bool:
    return peers(service) == expected


def told(service: RouteService, accepted: int) -> dict[str, int] | None:
    counters: dict[str, int] = service.status()["listeners"]["bgp"]
    return counters if counters["accepted"] >= accepted else None


def test_a_part_that_is_away_takes_its_routers_when_it_is_back(tmp_path: Path) -> None:
    of = program(tmp_path)
    address = next(a for a in ROUTERS if part_of(a, PARTS) == 1)
    with part(of, 0) as first:
        with Router(port(of), address).socket as refused:
            assert refused.recv(1) == b""  # closed: the router tries again later
        wait_for(lambda: first.status()["listeners"]["bgp"]["not_taken"] == 1, "count")
        with part(of, 1) as second:
            router = Router(port(of), address)
            with router.socket:
                router.establish()
                wait_for(lambda: peers(second) == {address}, "peer")
                assert peers(first) == set()
            with pytest.raises(ListenError, match="part 1"), part(of, 1):
                pass


def test_what_cannot_be_divided_is_told() -> None:
    listen = {"bgp": {}, "bmp": {"proxy_protocol": True}}
    views = [{"name": "all", "keys": ["src_host"]}]

    def check(*groups: dict[str, object]) -> None:
        routes = {"groups": list(groups)}
        parse_settings({"listen": listen, "views": views, "routes": routes}, "test")

    core = {"name": "core", "bgp": "127.0.0.1:1179", "parts": 2}
    check(core)
    with pytest.raises(ConfigError, match=r"routes.groups\[0\].parts"):
        check(core | {"bmp": "127.0.0.1:11019"})
    with pytest.raises(ConfigError, match=r"routes.groups\[1\].name"):
        check(core, {"name": "core-1", "bgp": "127.0.0.2:1179"})
    with pytest.raises(ConfigError, match=r"routes.groups\[1\].looking_glass"):
        check(
            core | {"looking_glass": "127.0.0.1:11081"},
            {"name": "other", "bgp": "127.0.0.2:1179", "looking_glass": "127.0.0.1:11082"},
        )
