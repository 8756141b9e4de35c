"""Options of the join by hand-made routers: followed next hops, the agent map, fall-backs; and what
a configuration may say.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowray.errors import ConfigError
from flowray.hashing import Interner
from flowray.ingest.group_join import GroupJoin
from flowray.ingest.join import RouteJoin
from flowray.ingest.join_plan import JoinPlan
from flowray.ingest.route_texts import CommunityAs, Shape, patterns
from flowray.maps import load_agents
from flowray.networks import find, load_networks
from flowray.rib.peers import PolicyView
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.wire.packets import Exporters, address_words
from tests.ingest.join_twin import SEQUENCE, Attrs, Flow, Route, TwinPeer
from tests.ingest.test_join import batch, record, snapshot

EDGE, CORE, BORDER = "192.0.2.1", "192.0.2.2", "2001:db8::3"
NET = ip_network("198.51.100.0/24")
RD = 64496 << 32 | 1


def router(address: str, next_hop: str, origin: int, rd: int = 0) -> TwinPeer:
    """A router with one route."""
    attrs = Attrs(next_hop, ((SEQUENCE, (origin,)),))
    route = Route(rd, NET, 0, attrs)
    return TwinPeer(address, PolicyView.ADJ_RIB_IN_PRE, False, {(rd, NET, 0): route})


def flow(exporter: str = EDGE, rd: str = "0:0:0", in_iface: int = 1) -> Flow:
    return Flow(exporter, rd, "203.0.113.1", "198.51.100.7", 0, 0, 0, 0, "", in_iface, 1)


def plan(**join: Any) -> JoinPlan:
    settings = {
        "listen": {"bgp": {}},
        "views": [{"name": "a", "keys": ["src_host"]}],
        "routes": {"join": join},
    }
    compiled = compile_settings(parse_settings(settings, "f"), "f").join
    assert compiled is not None
    return compiled


def joined(found: JoinPlan, routers: list[TwinPeer], *flows: Flow) -> list[dict[str, Any]]:
    join = RouteJoin(found)
    join.install(snapshot(routers, None))
    return filled(join, *flows)


def filled(join: RouteJoin | GroupJoin, *flows: Flow) -> list[dict[str, Any]]:
    exporters, texts = Exporters(), Interner()
    c = batch(list(flows), exporters, texts)
    join.fill(c, exporters, texts)
    return [record(c, i, texts) for i in range(len(flows))]


@pytest.mark.parametrize(
    ("follow", "hop"),
    [
        ({}, CORE),
        ({"prefixes": ["192.0.2.0/24"]}, CORE),
        ({"prefixes": ["192.0.2.0/24"], "external": True}, BORDER),
        ({"prefixes": ["192.0.2.0/24", "2001:db8::/32"]}, BORDER),
        ({"prefixes": ["192.0.2.0/24", "2001:db8::/32"], "external": True}, "203.0.113.9"),
        ({"prefixes": ["192.0.2.0/24", "2001:db8::/32"], "hops": 1}, CORE),
        ({"prefixes": ["2001:db8::/32"]}, CORE),
    ],
)
def test_next_hops_are_followed_to_the_edge(follow: dict[str, Any], hop: str) -> None:
    routers = [
        router(EDGE, CORE, 64501),
        router(CORE, BORDER, 64501),
        router(BORDER, "203.0.113.9", 64501),
    ]
    (found,) = joined(plan(follow_next_hops=follow), routers, flow())
    assert found["peer_dst_ip"] == hop


@pytest.mark.parametrize("external", [False, True])
def test_next_hops_in_a_circle_end(external: bool) -> None:
    routers = [router(EDGE, CORE, 64501), router(CORE, EDGE, 64501)]
    follow = {"prefixes": ["192.0.2.0/24"], "hops": 255, "external": external}
    (found,) = joined(plan(follow_next_hops=follow), routers, flow())
    assert found["peer_dst_ip"] in (EDGE, CORE)


def test_next_hops_of_vrfs_are_not_followed() -> None:
    routers = [router(EDGE, CORE, 64501, RD), router(CORE, BORDER, 64501)]
    follow = {"prefixes": ["192.0.2.0/24", "2001:db8::/32"]}
    (found,) = joined(plan(follow_next_hops=follow), routers, flow(rd="0:64496:1"))
    assert found["peer_dst_ip"] == CORE


def test_fall_backs_are_taken_in_order() -> None:
    routers = [router(EDGE, CORE, 64501), router(CORE, CORE, 64502, RD)]
    vrf = flow(rd="0:64496:1")
    for fall_back, origin, rung in (
        ([], 0, "no-table"),
        (["global", CORE], 64501, "fall-back global"),
        ([BORDER, CORE, "global"], 64502, f"fall-back {CORE}"),
    ):
        (found,) = joined(plan(fall_back=fall_back), routers, vrf)
        assert (found["dst_as"], found["dst_rung"]) == (origin, rung)


def test_the_agent_map_names_the_router(tmp_path: Path) -> None:
    path = tmp_path / "agents.map"
    path.write_text(
        f"bgp_ip={CORE} ip=192.0.2.50 in=2\nbgp_ip=10.0.0.0 ip=192.0.2.48/30 filter=ip\n"
    )
    found = plan(agents=str(path))
    routers = [router(EDGE, EDGE, 64501), router(CORE, CORE, 64502)]
    flows = [flow("192.0.2.50", in_iface=2), flow("192.0.2.50"), flow(CORE), flow("192.0.2.99")]
    origins = [row["dst_as"] for row in joined(found, routers, *flows)]
    assert origins == [64502, 64501, 64502, 0]
    groups = GroupJoin(found)
    for name, peer in (("east", routers[0]), ("west", routers[1])):
        groups.install(snapshot([peer], None), name)
    assert [row["dst_as"] for row in filled(groups, *flows)] == origins


def test_a_shard_decodes_the_interfaces_that_the_agent_map_looks_at(tmp_path: Path) -> None:
    path = tmp_path / "agents.map"
    path.write_text("bgp_ip=192.0.2.1 in=1\n")
    assert plan(agents=str(path)).needs == {"in_iface"}
    assert plan().needs == set()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bgp_ip=x", ":1: bgp_ip: found 'x', allowed the address of a router"),
        ("ip=192.0.2.1", ":1: row: found no result, allowed one of bgp_ip, bmp_ip"),
        ("bgp_ip=192.0.2.1 in=x", ":1: in: found 'x', allowed an interface index"),
        ("bgp_ip=192.0.2.1 filter=tcp", ":1: filter: found 'tcp', allowed ip or ip6"),
    ],
)
def test_mistakes_in_agent_maps(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "agents.map"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_agents(path)
    assert str(caught.value) == f"{path}{message}"


def test_networks_files(tmp_path: Path) -> None:
    path = tmp_path / "networks.lst"
    path.write_text(
        "! networks\n192.0.2.9,64500,64496,198.51.100.0/24\n64501_64497,2001:db8::/32 # two\n"
        "64498,198.51.100.0/25\n\n198.51.100.128/25\n64499,198.51.100.0/24\n"
    )
    networks = load_networks(path)
    texts = ("198.51.100.1", "198.51.100.200", "2001:db8::1", "203.0.113.1")
    words = np.array([address_words(a) for a in texts], np.uint64).T
    rows, plen = find(networks.every, words)
    assert rows[:3].tolist() == [2, 3, 1]
    assert plen.tolist() == [25, 25, 32, 0]
    rows, plen = find(networks.with_as, words)
    assert rows[:3].tolist() == [2, 0, 1]
    assert plen.tolist() == [25, 24, 32, 0]
    assert networks.columns.origin_as.tolist() == [64496, 64497, 64498, 0, 64499]
    assert networks.columns.peer_as.tolist() == [64500, 64501, 0, 0, 0]
    hops = zip(networks.columns.next_hop_hi, networks.columns.next_hop_lo, strict=True)
    assert next(hops) == address_words("192.0.2.9")


@pytest.mark.parametrize(
    "row", ["64496", "x,192.0.2.0/24", "1,2,3,192.0.2.0/24", "4294967296,192.0.2.0/24", ",,::/0"]
)
def test_mistakes_in_networks_files(tmp_path: Path, row: str) -> None:
    path = tmp_path / "networks.lst"
    path.write_text(f"\n{row}\n")
    with pytest.raises(ConfigError) as caught:
        load_networks(path)
    allowed = "[NEXTHOP,][[PEER_AS,]ORIGIN_AS,]PREFIX"
    assert str(caught.value) == f"{path}:2: row: found {row!r}, allowed {allowed}"


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ({"fall_back": ["vrf"]}, "fall_back[0]: found 'vrf', allowed global, or the address"),
        ({"follow_next_hops": {"hops": 0}}, "follow_next_hops.hops: found 0, allowed"),
        ({"communities": {"standard": [""]}}, "communities.standard[0]: found '', allowed a comm"),
        (
            {"networks_file": "x", "as_numbers": "flows", "networks": "routes"},
            "networks_file: found x, allowed a file only with as_numbers or networks: longest",
        ),
    ],
)
def test_mistakes_in_the_configuration(join: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(**join)
    assert str(caught.value).startswith(f"f: routes.join.{message}")
    assert "\n" not in str(caught.value)


def test_texts_are_shaped() -> None:
    attrs = Attrs(
        CORE,
        ((SEQUENCE, (64501, 64501, 64502)),),
        communities=((64496, 1), (64496, 299), (65064, 1)),
        large=((64496, 5, 6),),
    )
    peer = router(EDGE, CORE, 1)
    peer.routes = {(0, NET, 0): Route(0, NET, 0, attrs)}
    shape = Shape(standard=patterns("64:1", "64496:..."), most_communities=1, hops=2)
    (found,) = joined(JoinPlan(shape=shape), [peer], flow())
    # The whole community, though the pattern is but a part of it.
    assert found["std_comm"] == "65064:1"
    assert (found["as_path"], found["lrg_comm"]) == ("64501 64501", "64496:5:6")


def test_communities_tell_the_as_numbers_of_routes_of_the_own_as() -> None:
    peer = router(EDGE, CORE, 1)
    attrs = Attrs(CORE, (), communities=((64496, 1),), large=((64496, 64510, 6),))
    peer.routes = {(0, NET, 0): Route(0, NET, 0, attrs)}
    told = CommunityAs(standard=patterns("9:9"), large=patterns("64496:"))
    (found,) = joined(JoinPlan(community_as=told), [peer], flow())
    assert (found["peer_dst_as"], found["dst_as"]) == (64496, 64510)
