"""ExaBGP as a BGP speaker: odd attributes, and malformed ones, which cost a route, no session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ingest.live_rig import wait_for
from tests.peers.exabgp import ExaBgp, Session
from tests.peers.routes import Route, held, key_of
from tests.peers.speaker import wait_equal
from tests.rib.service_rig import Group, group, program

pytestmark = pytest.mark.peers

US, ROUTER = "127.0.0.1", "127.0.0.2"
HOP = "192.0.2.9"
PLAIN = Route("ipv4 unicast", "", next_hop=HOP, origin="i", local_pref=100)

TOLD = {
    # An attribute that nobody knows, and AIGP (RFC 7311).
    f"route 10.1.0.0/24 next-hop {HOP} aigp 77 attribute [ 0x99 0xc0 0x01020304 ]": replace(
        PLAIN, key="10.1.0.0/24", more=(("aigp", "77"), ("unknown", "153:01020304"))
    ),
    # Sets, and AS numbers of four octets.
    f"route 10.1.1.0/24 next-hop {HOP} as-path [ 4200000001 65010 ( 65012 65011 ) ]"
    " origin incomplete med 5 local-preference 300": replace(
        PLAIN, key="10.1.1.0/24", as_path="4200000001 65010 {65011,65012}", origin="u", med=5,
        local_pref=300,
    ),
    # Extended communities of several types (RFC 4360, RFC 5668), one of a type that has no text.
    f"route 10.1.2.0/24 next-hop {HOP} extended-community [ target:65000:1 origin:65000:2"
    " 0x0102c63364070003 target:4200000001:4 0x7777000000000001 bandwidth:65001:1000 ]"
    " community [ 65000:1 no-export 65535:666 ] large-community [ 4200000000:1:2 65000:3:4 ]":
    replace(
        PLAIN, key="10.1.2.0/24",
        extended=(
            "0x7777000000000001", "RT:198.51.100.7:3", "RT:4200000001:4", "RT:65000:1",
            "SoO:65000:2", "bandwidth:65001:1000",
        ),
        communities=("65000:1", "65535:666", "no-export"),
        large=("4200000000:1:2", "65000:3:4"),
    ),
    f"route 10.1.3.0/24 next-hop {HOP} aggregator ( 4200000001:198.51.100.8 ) atomic-aggregate"
    " originator-id 198.51.100.9 cluster-list [ 198.51.100.10 198.51.100.11 ]": replace(
        PLAIN, key="10.1.3.0/24",
        more=(
            ("aggregator", "4200000001:198.51.100.8"), ("atomic_aggregate", "True"),
            ("originator_id", "198.51.100.9"), ("cluster_list", "198.51.100.10 198.51.100.11"),
        ),
    ),
    "route 2001:db8:1::/48 next-hop 2001:db8::9 as-path [ 65010 ]": Route(
        "ipv6 unicast", "2001:db8:1::/48", next_hop="2001:db8::9", origin="i", local_pref=100,
        as_path="65010",
    ),
    f"route 10.2.0.0/24 rd 65000:1 label 1000 next-hop {HOP}"
    " extended-community [ target:65000:1 ]": replace(
        PLAIN, family="vpnv4", key="10.2.0.0/24", rd="0:65000:1", labels=(1000,),
        extended=("RT:65000:1",),
    ),
    "flow route { match { destination 10.3.0.0/24; protocol tcp; destination-port =80; }"
    " then { discard; } }": Route(
        "ipv4 flowspec",
        key_of({"destination": "10.3.0.0/24", "protocol": "=6", "dst_port": "=80"}),
        origin="i", local_pref=100, extended=("flowspec-rate:0:0",),
    ),
}  # fmt: skip
"""Commands after `announce` -> the route that they make."""

MALFORMED = {
    "COMMUNITIES of 5 octets": "[ 0x08 0xc0 0x0102030405 ]",
    "extended communities of 7 octets": "[ 0x10 0xc0 0x01020304050607 ]",
    "large communities of 11 octets": "[ 0x20 0xc0 0x0102030405060708090a0b ]",
    "MULTI_EXIT_DISC of 3 octets": "[ 0x04 0x80 0x010203 ]",
    "CLUSTER_LIST of 3 octets": "[ 0x0a 0x80 0x010203 ]",
    "ORIGINATOR_ID of 3 octets": "[ 0x09 0x80 0x010203 ]",
}
"""Attributes for which RFC 7606 section 7 asks to take the route as withdrawn."""

DISCARDED = {
    "AGGREGATOR of 5 octets": "[ 0x07 0xc0 0x0102030405 ]",
    "ATOMIC_AGGREGATE of 1 octet": "[ 0x06 0x40 0x01 ]",
}
"""Attributes for which it asks to go on without them."""


def counted(g: Group) -> int:
    return sum(g.service.status()["malformed"].values())


def sessions(g: Group) -> tuple[int, int]:
    """Sessions accepted, sessions established now."""
    status = g.service.status()["listeners"]["bgp"]
    return status["accepted"], status["established"]


def holds(g: Group, *routes: Route) -> None:
    wait_equal(lambda: held(g), lambda: Counter(routes), len(routes))


def test_odd_attributes(peer: Callable[[str], Path], tmp_path: Path) -> None:
    with group(program(tmp_path)) as g:
        with ExaBgp(peer("exabgp"), tmp_path, Session(US, g.port("bgp"), ROUTER)) as router:
            router.say(f"announce {route}" for route in TOLD)
            holds(g, *TOLD.values())
            first, *others = TOLD
            router.say([f"withdraw {first}"])
            holds(g, *(TOLD[route] for route in others))
        holds(g)
    assert g.service.status()["malformed"] == {}


def test_malformed_attributes_cost_a_route_alone(
    peer: Callable[[str], Path], tmp_path: Path
) -> None:
    names = MALFORMED | DISCARDED
    routes = {name: f"10.1.{i}.0/24" for i, name in enumerate(names)}
    kept = {name: replace(PLAIN, key=prefix) for name, prefix in routes.items()}
    with (
        group(program(tmp_path)) as g,
        ExaBgp(peer("exabgp"), tmp_path, Session(US, g.port("bgp"), ROUTER)) as router,
    ):
        router.say(f"announce route {prefix} next-hop {HOP}" for prefix in routes.values())
        holds(g, *kept.values())
        for name, prefix in routes.items():
            router.say([f"announce route {prefix} next-hop {HOP} attribute {names[name]}"])
        holds(g, *(kept[name] for name in DISCARDED))
        router.say([f"announce route 10.9.0.0/24 next-hop {HOP}"])
        holds(g, *(kept[n] for n in DISCARDED), replace(PLAIN, key="10.9.0.0/24"))
        wait_for(lambda: sessions(g) == (1, 1), "session, the first one")
        wait_for(lambda: counted(g) == len(names), "count")
