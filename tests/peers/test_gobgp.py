"""GoBGP as a BGP speaker: after churn our tables are what it has told us, route by route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.ingest.live_rig import wait_for
from tests.peers.gobgp import GoBgp, Neighbor, Settings
from tests.peers.routes import held
from tests.peers.speaker import PATIENCE_S, wait_equal
from tests.rib.service_rig import Group, group, program

pytestmark = pytest.mark.peers

Peer = Callable[[str], Path]

US, ROUTER = "127.0.0.1", "127.0.0.2"

ROUTES = {
    "ipv4": [
        "10.1.0.0/24 nexthop 192.0.2.9 aspath 65010,65011 med 10 community 65000:1,no-export"
        " large-community 65000:1:2,4200000000:3:4 origin igp local-pref 200",
        "10.1.1.0/24 nexthop 192.0.2.8 aspath 65010,{65011,65012} origin egp rt 65000:9",
        "10.1.2.0/25 nexthop 192.0.2.8 aspath 4200000001 aigp metric 77"
        " aggregator 65009:192.0.2.77",
        "0.0.0.0/0",
    ],
    "ipv6": [
        "2001:db8:1::/48 nexthop 2001:db8::1 med 4 rt 65000:10",
        "2001:db8:1:2::/64 nexthop 2001:db8::2 aspath 65010 community 65000:7",
        "::/0 nexthop 2001:db8::1",
    ],
    "vpnv4": [
        "10.2.0.0/24 label 1000 rd 65000:100 rt 65000:200 nexthop 192.0.2.9",
        "10.2.0.0/24 label 1001 rd 198.51.100.7:100 rt 198.51.100.7:200 nexthop 192.0.2.9",
        "10.2.1.0/24 label 1002 rd 65000:100 rt 65000:200 rt 65000:201 nexthop 192.0.2.8 med 1",
    ],
    "vpnv6": [
        "2001:db8:2::/48 label 1003 rd 198.51.100.7:100 rt 65000:200 nexthop 2001:db8::2",
        "2001:db8:3::/48 label 1004 rd 65000:100 rt 65000:200 nexthop 2001:db8::2",
    ],
    "evpn": [
        "macadv aa:bb:cc:dd:ee:01 10.3.0.1 esi 0 etag 1 label 100 rd 65000:1 rt 65000:1",
        "macadv aa:bb:cc:dd:ee:02 2001:db8::3 esi LACP aa:bb:cc:dd:ee:ff 100 etag 1 label 100"
        " rd 65000:1 rt 65000:1",
        "multicast 10.3.0.1 etag 1 rd 65000:1 rt 65000:1 pmsi ingress-repl 100 192.0.2.1",
        "prefix 10.3.1.0/24 gw 10.3.0.9 etag 1 label 200 rd 65000:1 rt 65000:1",
        "prefix 2001:db8:4::/48 gw 2001:db8::9 etag 1 label 200 rd 65000:1 rt 65000:1",
        "a-d esi LACP aa:bb:cc:dd:ee:ff 100 etag 2 label 300 rd 65000:1 rt 65000:1",
        "esi 10.3.0.1 esi LACP aa:bb:cc:dd:ee:ff 100 rd 65000:1 rt 65000:1",
    ],
    "ipv4-flowspec": [
        "match destination 10.4.0.0/24 protocol tcp destination-port ==80 >=8000&<=8080"
        " then discard",
        "match source 10.4.1.0/24 protocol udp source-port ==53 then rate-limit 1000",
    ],
}


def speaker(peer: Peer, folder: Path, neighbors: Sequence[Neighbor], **more: object) -> GoBgp:
    settings = Settings(neighbors=list(neighbors), **more)  # type: ignore[arg-type]
    return GoBgp(peer("gobgpd"), peer("gobgp"), folder, settings)


def established(g: Group, count: int = 1) -> None:
    def all_up() -> bool:
        return int(g.service.status()["listeners"]["bgp"]["established"]) == count

    wait_for(all_up, f"{count} sessions", PATIENCE_S)


def octets(g: Group) -> int:
    return int(g.service.status()["listeners"]["bgp"]["octets_received"])


def test_all_families(peer: Peer, tmp_path: Path) -> None:
    families = tuple(ROUTES)
    with group(program(tmp_path)) as g:
        neighbor = Neighbor(US, g.port("bgp"), ROUTER, families, 65001)
        with speaker(peer, tmp_path, [neighbor]) as router:
            for family, routes in ROUTES.items():
                for route in routes[:-1]:
                    router.add(family, route)
            established(g)

            def told(rows: int) -> None:
                wait_equal(lambda: held(g), lambda: router.sent(US, families), rows)

            count = sum(map(len, ROUTES.values()))
            told(count - len(ROUTES))
            for family, routes in ROUTES.items():
                router.add(family, routes[-1])
            told(count)
            for family, routes in ROUTES.items():
                router.delete(family, routes[0])
            told(count - len(ROUTES))
            # Other attributes of the same routes, then all of them again.
            router.add("ipv4", "10.1.1.0/24 nexthop 192.0.2.7 aspath 65020 med 3")
            router.add("vpnv4", "10.2.1.0/24 label 1009 rd 65000:100 rt 65000:9 nexthop 192.0.2.1")
            router.add("ipv6", "2001:db8:1:2::/64 nexthop 2001:db8::7")
            told(count - len(ROUTES))
            before = octets(g)
            router("neighbor", US, "softresetout")
            wait_for(lambda: octets(g) > before, "all routes again")
            told(count - len(ROUTES))
    assert g.service.status()["malformed"] == {}


def test_paths_with_identifiers(peer: Peer, tmp_path: Path) -> None:
    families = "ipv4", "ipv6"
    paths = [
        (family, f"{prefix} identifier {i} nexthop {hop}{i} aspath 6501{i}")
        for i in (1, 2, 3)
        for family, prefix, hop in (
            ("ipv4", "10.1.0.0/24", "192.0.2."),
            ("ipv4", "10.1.1.0/24", "192.0.2."),
            ("ipv6", "2001:db8:1::/48", "2001:db8::"),
        )
    ]
    with group(program(tmp_path)) as g:
        neighbor = Neighbor(US, g.port("bgp"), ROUTER, families, 65001, send_paths=8)
        with speaker(peer, tmp_path, [neighbor]) as router:
            for path in paths[:-1]:
                router.add(*path)
            established(g)

            def told(rows: int) -> None:
                wait_equal(lambda: held(g), lambda: router.sent(US, families, paths=True), rows)

            told(8)
            router.add(*paths[-1])
            told(9)
            for path in paths[:4]:
                router.delete(*path)
            told(5)
            before = octets(g)
            router("neighbor", US, "softresetout")
            wait_for(lambda: octets(g) > before, "all paths again")
            told(5)
            assert len({(route.key, route.path_id) for route in held(g)}) == 5


def test_constrained_distribution(peer: Peer, tmp_path: Path) -> None:
    """A router that asks which route targets its peers want (RFC 4684) tells us all of them."""
    families = "rtc", "vpnv4", "evpn"
    with group(program(tmp_path)) as g:
        neighbor = Neighbor(US, g.port("bgp"), ROUTER, families, 65001)
        with speaker(peer, tmp_path, [neighbor]) as router:
            for family in families[1:]:
                router.add(family, ROUTES[family][0])
            router("vrf", "add", "red", "id", 1, "rd", "65000:7", "rt", "both", "65000:77")
            established(g)
            wait_equal(lambda: held(g), lambda: router.sent(US, families), 3)
            router.add("vpnv4", ROUTES["vpnv4"][1])
            wait_equal(lambda: held(g), lambda: router.sent(US, families), 4)
