"""BIRD as a BGP speaker: after churn our tables are what its have, route by route."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ingest.live_rig import wait_for
from tests.peers.bird import Bird
from tests.peers.routes import Route, held
from tests.peers.speaker import PATIENCE_S, wait_equal
from tests.rib.service_rig import Group, group, program

pytestmark = pytest.mark.peers

RICH = (
    "{ bgp_origin = ORIGIN_EGP; bgp_path.prepend(65011); bgp_path.prepend(4200000010);"
    " bgp_community.add((65000,1)); bgp_community.add((65000,2)); bgp_med = 7;"
    " bgp_large_community.add((65000,1,2)); bgp_large_community.add((4200000000,3,4));"
    " bgp_ext_community.add((rt,65000,9)); bgp_ext_community.add((ro,65000,8));"
    " bgp_local_pref = 300; bgp_next_hop = 192.0.2.9; }"
)
ROUTES = {
    ("master4", 1): [f"10.1.0.0/24 blackhole {RICH}", "10.1.1.0/24 blackhole"],
    ("master4", 2): [
        "10.1.0.0/24 blackhole { bgp_med = 9; }",
        "10.1.2.128/25 blackhole { bgp_origin = ORIGIN_INCOMPLETE; }",
        "0.0.0.0/0 blackhole",
    ],
    ("master6", 1): [
        "2001:db8:1::/48 blackhole { bgp_path.prepend(65010); bgp_med = 1; }",
        "::/0 blackhole",
    ],
    ("vpns4", 1): [
        '65000:1 10.2.0.0/24 via "lo" mpls 100 { bgp_ext_community.add((rt,65000,9)); }',
        '198.51.100.7:1 10.2.0.0/24 via "lo" mpls 100 { bgp_med = 5; }',
    ],
    ("vpns6", 1): ['65000:1 2001:db8:2::/48 via "lo" mpls 100'],
}
OTHERS = ROUTES | {
    ("master4", 1): ["10.1.0.0/24 blackhole { bgp_next_hop = 192.0.2.8; }"],
    ("master4", 3): ["10.1.0.0/24 blackhole { bgp_med = 11; }", "10.9.0.0/16 blackhole"],
    ("master6", 1): [f"2001:db8:1:{i:x}::/64 blackhole" for i in range(50)],
    ("vpns4", 1): ROUTES["vpns4", 1][:1],
    ("vpns6", 1): ['65000:2 2001:db8:2::/48 via "lo" mpls 100'],
}


def ours(g: Group) -> Counter[Route]:
    """What we hold, path identifiers left out, which BIRD does not show: they only differ."""
    routes = held(g)
    identified = Counter((r.family, r.rd, r.key, r.path_id) for r in routes.elements())
    assert set(identified.values()) <= {1}
    plain: Counter[Route] = Counter()
    for route, count in routes.items():
        plain[replace(route, path_id=0)] += count
    return plain


def test_churn_and_reload(peer: Callable[[str], Path], tmp_path: Path) -> None:
    with group(program(tmp_path)) as g:
        bird = Bird(peer("bird"), peer("birdc"), tmp_path, g.port("bgp"), ROUTES)
        with bird as router:

            def octets() -> int:
                return int(g.service.status()["listeners"]["bgp"]["octets_received"])

            def told(routes: int) -> None:
                wait_equal(lambda: ours(g), router.told, routes)

            wait_for(lambda: octets() > 0, "session", PATIENCE_S)
            told(10)
            router.change(OTHERS)
            told(58)
            # All of it again between a begin and an end of refresh (RFC 7313).
            before = octets()
            assert "collector: reloading" in router("reload out collector")
            wait_for(lambda: octets() > before, "all routes again")
            told(58)
            router.change(ROUTES)
            told(10)
    assert g.service.status()["malformed"] == {}
