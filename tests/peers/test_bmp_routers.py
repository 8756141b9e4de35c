"""GoBGP and FRR as BMP exporters: their tables, as we have them, after churn of their peer's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flowray.rib.peers import PolicyView
from tests.ingest.live_rig import wait_for
from tests.peers.exabgp import ExaBgp, Session
from tests.peers.frr import Frr, table
from tests.peers.gobgp import GoBgp, Neighbor, Settings
from tests.peers.routes import Route, held
from tests.peers.speaker import PATIENCE_S, wait_equal
from tests.rib.service_rig import Group, group, program

pytestmark = pytest.mark.peers

Peer = Callable[[str], Path]

ROUTER, FEEDER = "127.0.0.2", "127.0.0.3"
HOP = "192.0.2.9"

ROUTES = [
    *(
        f"route 10.1.{i}.0/24 next-hop {HOP} as-path [ 65010 {65011 + i} ] med {i}"
        for i in range(9)
    ),
    f"route 10.2.0.0/16 next-hop {HOP} as-path [ 4200000001 ( 65011 65012 ) ] origin egp"
    " community [ 65000:1 no-export ] large-community [ 65000:1:2 ]"
    " extended-community [ target:65000:1 ] local-preference 300",
    "route 2001:db8:1::/48 next-hop 2001:db8::9 as-path [ 65010 ]",
    "route 2001:db8:2::/48 next-hop 2001:db8::9 as-path [ 65010 65011 ] community [ 65000:7 ]",
]
CHANGES = [
    *(f"withdraw route 10.1.{i}.0/24 next-hop {HOP}" for i in range(3)),
    f"announce route 10.1.3.0/24 next-hop {HOP} as-path [ 65020 ] community [ 65000:3 ]",
    f"announce route 10.3.0.0/16 next-hop {HOP} as-path [ 65021 ]",
    "withdraw route 2001:db8:1::/48 next-hop 2001:db8::9",
]
FIRST, THEN = len(ROUTES), len(ROUTES) - 3


def of_view(g: Group, view: PolicyView, peer: str | None = None) -> Counter[Route]:
    return held(g, "bmp", view, peer)


def test_gobgp(peer: Peer, tmp_path: Path) -> None:
    families = "ipv4", "ipv6"
    neighbor = Neighbor(FEEDER, None, ROUTER, families, 65001)
    with group(program(tmp_path)) as g:
        settings = Settings(neighbors=[neighbor], bmp_port=g.port("bmp"), listen=ROUTER)
        with GoBgp(peer("gobgpd"), peer("gobgp"), tmp_path, settings) as router:

            def told(routes: int, own: int) -> None:
                for view in (PolicyView.ADJ_RIB_IN_PRE, PolicyView.ADJ_RIB_IN_POST):
                    wait_equal(
                        partial(of_view, g, view, FEEDER),
                        lambda: router.received(FEEDER, families),
                        routes,
                    )
                wait_equal(
                    lambda: of_view(g, PolicyView.LOC_RIB), lambda: router.table(families), own
                )

            session = Session(ROUTER, router.port, FEEDER)
            with ExaBgp(peer("exabgp"), tmp_path, session) as feeder:
                feeder.say(f"announce {route}" for route in ROUTES)
                told(FIRST, FIRST)
                feeder.say(CHANGES)
                told(THEN, THEN)
                router.add("ipv4", "10.9.0.0/16 nexthop 192.0.2.7 aspath 65030")
                router.add("ipv4", "10.10.0.0/16")
                told(THEN, THEN + 2)
            # Its peer is down: it keeps its own routes.
            wait_equal(lambda: of_view(g, PolicyView.ADJ_RIB_IN_PRE), Counter, 0)
            wait_equal(lambda: of_view(g, PolicyView.ADJ_RIB_IN_POST), Counter, 0)
            wait_equal(lambda: of_view(g, PolicyView.LOC_RIB), lambda: router.table(families), 2)
        wait_equal(lambda: of_view(g, PolicyView.LOC_RIB), Counter, 0)


HIDDEN = ("10.1.0.0/24", "10.1.4.0/24")
"""What FRR's policy hides: it then tells that they are gone from before the policy, too."""

FRR = """hostname frr
ip prefix-list HIDDEN seq 5 permit 10.1.4.0/24
ip prefix-list HIDDEN seq 6 permit 10.1.0.0/24
route-map IN deny 10
 match ip address prefix-list HIDDEN
route-map IN permit 20
 set community 65001:99 additive
router bgp 65001
 bgp router-id 198.51.100.3
 no bgp network import-check
 no bgp default ipv4-unicast
 neighbor {feeder} remote-as 65001
 neighbor {feeder} passive
 neighbor {feeder} update-source {router}
 address-family ipv4 unicast
  neighbor {feeder} activate
  neighbor {feeder} soft-reconfiguration inbound
  neighbor {feeder} route-map IN in
 exit-address-family
 address-family ipv6 unicast
  neighbor {feeder} activate
  neighbor {feeder} soft-reconfiguration inbound
 exit-address-family
 bmp targets collector
  bmp monitor ipv4 unicast pre-policy
  bmp monitor ipv4 unicast post-policy
  bmp monitor ipv6 unicast pre-policy
  bmp monitor ipv6 unicast post-policy
  bmp stats interval 1000
  bmp connect 127.0.0.1 port {port} min-retry 100 max-retry 1000
 exit
line vty
"""


def test_frr(peer: Peer, tmp_path: Path) -> None:
    with group(program(tmp_path)) as g:
        text = FRR.format(feeder=FEEDER, router=ROUTER, port=g.port("bmp"))
        with Frr(peer("bgpd"), peer("vtysh"), tmp_path, text, ROUTER) as router:

            def told(before: int, after: int, hidden: Sequence[str] = HIDDEN) -> None:
                wait_equal(
                    lambda: of_view(g, PolicyView.ADJ_RIB_IN_POST, FEEDER),
                    lambda: reflected(table(router, {}, identified=False)),
                    after,
                )
                wait_equal(
                    lambda: bare(of_view(g, PolicyView.ADJ_RIB_IN_PRE, FEEDER)),
                    lambda: received(router, hidden),
                    before,
                )

            session = Session(ROUTER, router.port, FEEDER)
            with ExaBgp(peer("exabgp"), tmp_path, session) as feeder:
                feeder.say(f"announce {route}" for route in ROUTES)
                told(FIRST - 2, FIRST - 2)
                feeder.say(CHANGES)
                told(THEN - 1, THEN - 1)
                # A policy that hides no route any more.
                router.configure("no route-map IN deny 10")
                told(THEN, THEN, ())
                wait_for(
                    lambda: any(row["bmp_msg_type"] == b"stats" for row in g.rows("bmp_log")),
                    "statistics",
                    PATIENCE_S,
                )
            wait_equal(lambda: held(g, "bmp"), Counter, 0)


def reflected(routes: Counter[Route]) -> Counter[Route]:
    """FRR encodes a route for BMP as it would reflect it (RFC 4456 section 8)."""
    more = (("originator_id", "198.51.100.4"), ("cluster_list", "198.51.100.3"))
    return Counter({replace(r, more=(*r.more, *more)): n for r, n in routes.items()})


def bare(routes: Counter[Route]) -> Counter[Route]:
    """Routes with what FRR shows of those that no policy has seen."""
    shown: Counter[Route] = Counter()
    for r, count in routes.items():
        shown[
            Route(
                r.family, r.key, next_hop=r.next_hop, origin=r.origin, as_path=r.as_path,
                med=r.med, local_pref=r.local_pref,
            )
        ] += count  # fmt: skip
    return shown


def received(router: Frr, hidden: Sequence[str]) -> Counter[Route]:
    """What FRR's neighbor has told it, before policy, but for some prefixes."""
    found: Counter[Route] = Counter()
    for family in ("ipv4 unicast", "ipv6 unicast"):
        shown = router.json(f"show bgp {family} neighbors {FEEDER} received-routes json")
        paths = shown["receivedRoutes"].values()
        found.update(_received(family, (p for p in paths if p["network"] not in hidden)))
    return found


def _received(family: str, paths: Iterable[dict[str, Any]]) -> Iterable[Route]:
    for path in paths:
        yield Route(
            family,
            str(path["network"]),
            next_hop=str(path.get("nextHop", path.get("nextHopGlobal"))),
            origin=str(path["bgpOriginCode"]).replace("?", "u"),
            as_path=str(path["path"]),
            med=path.get("metric"),
            local_pref=path.get("locPrf"),
        )
