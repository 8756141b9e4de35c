"""FRR as a BGP speaker: after churn our tables are what its have, route by route."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ingest.live_rig import wait_for
from tests.peers.frr import Frr, table
from tests.peers.routes import held
from tests.peers.speaker import PATIENCE_S, wait_equal
from tests.rib.service_rig import group, program

pytestmark = pytest.mark.peers

US, ROUTER = "127.0.0.1", "127.0.0.2"

POLICY = """
route-map RICH permit 10
 set as-path prepend 65010 4200000011
 set community 65000:1 65000:2 no-export
 set large-community 65000:1:2 4200000000:3:4
 set extcommunity rt 65000:9 198.51.100.7:3
 set extcommunity soo 65000:8
 set metric 7
 set local-preference 200
 set origin egp
 set aggregator as 65009 192.0.2.7
 set ip next-hop 192.0.2.9
route-map RICH6 permit 10
 set as-path prepend 65010
 set community 65000:1
 set metric 8
 set origin incomplete
"""

CONFIGURATION = """hostname frr
{policy}
router bgp 65001
 bgp router-id 198.51.100.3
 no bgp network import-check
 no bgp default ipv4-unicast
 neighbor {us} remote-as 65001
 neighbor {us} port {port}
 neighbor {us} update-source {router}
 neighbor {us} timers connect 1
 neighbor {us} advertisement-interval 0
 address-family ipv4 unicast
  neighbor {us} activate
  neighbor {us} addpath-tx-all-paths
  network 10.1.0.0/24 route-map RICH
  network 10.1.1.0/24
  network 10.1.2.128/25
 exit-address-family
 address-family ipv6 unicast
  neighbor {us} activate
  neighbor {us} addpath-tx-all-paths
  network 2001:db8:1::/48 route-map RICH6
  network 2001:db8:2::/64 route-map RICH6
 exit-address-family
 address-family ipv4 vpn
  neighbor {us} activate
  network 10.2.0.0/24 rd 65001:1 label 1000
  network 10.2.0.0/24 rd 198.51.100.7:1 label 1001
  network 10.2.1.0/24 rd 65001:1 label 1002 route-map RICH
 exit-address-family
 address-family ipv6 vpn
  neighbor {us} activate
  network 2001:db8:3::/48 rd 65001:1 label 1003
 exit-address-family
 address-family l2vpn evpn
  neighbor {us} activate
  network 10.3.0.0/24 {evpn}
  network 2001:db8:4::/48 {evpn6}
 exit-address-family
line vty
"""

EVPN = "rd 65001:1 ethtag 5 label 1002 esi 00:00:00:00:00:00:00:00:00:00 gwip {}"
MAC = " routermac 00:11:22:33:44:55"
SELF = {
    "ipv4 unicast": ROUTER,
    "ipv6 unicast": "::ffff:127.0.0.2",
    "vpnv4": ROUTER,
    "vpnv6": "::ffff:127.0.0.2",
    "evpn": "::ffff:127.0.0.2",
}


def test_churn_and_soft_clear(peer: Callable[[str], Path], tmp_path: Path) -> None:
    with group(program(tmp_path)) as g:
        text = CONFIGURATION.format(
            policy=POLICY, us=US, router=ROUTER, port=g.port("bgp"),
            evpn=EVPN.format("0.0.0.0") + MAC, evpn6=EVPN.format("::") + MAC,
        )  # fmt: skip

        def octets() -> int:
            return int(g.service.status()["listeners"]["bgp"]["octets_received"])

        with Frr(peer("bgpd"), peer("vtysh"), tmp_path, text, ROUTER) as router:

            def told(routes: int) -> None:
                wait_equal(lambda: held(g), lambda: table(router, SELF, identified=True), routes)

            wait_for(lambda: octets() > 0, "session", PATIENCE_S)
            told(11)
            router.configure(
                "router bgp 65001",
                "address-family ipv4 unicast",
                "no network 10.1.0.0/24 route-map RICH",
                "network 10.1.1.0/24 route-map RICH",
                *(f"network 10.4.{i}.0/24" for i in range(20)),
                "exit-address-family",
                "address-family ipv6 unicast",
                "no network 2001:db8:1::/48",
                "exit-address-family",
                "address-family ipv4 vpn",
                "no network 10.2.0.0/24 rd 65001:1 label 1000",
                "exit-address-family",
                "address-family l2vpn evpn",
                # Withdrawn with another label than it was announced with.
                f"no network 10.3.0.0/24 {EVPN.format('0.0.0.0')}",
            )
            told(27)
            before = octets()
            router("clear bgp * soft out")
            wait_for(lambda: octets() > before, "all routes again")
            told(27)
    assert g.service.status()["malformed"] == {}
