"""The looking glass against a naive model: routes in a list, looked through one by one."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib import looking_glass as glass
from flowray.rib.peers import Peer
from flowray.rib.rib import Rib
from flowray.rib.route_query import QueryError, RouteQuery, lookup_query, read_query
from flowray.route_fields import ROUTE_FIELDS
from flowray.sinks.encoding import Encoding
from flowray.sinks.render import render
from flowray.wire.bgp.distinguisher import rd_number
from tests.rib.tables import bgp_peer, bmp_peer, feed
from tests.wire.bgp import encode as e

RD = rd_number("0:64496:7")
assert RD is not None
PEERS = [
    bgp_peer("192.0.2.1"),
    bgp_peer("192.0.2.2"),
    bmp_peer("192.0.2.1"),
    bmp_peer("192.0.2.9", rd=RD),
]
PATHS = [(), (64496,), (64496, 64497), (64511, 64496), (644961, 64497)]
COMMUNITIES = [(), ((64496, 1),), ((64496, 1), (64496, 2)), ((65535, 65281),)]
PREFIXES = {
    4: ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "172.16.0.0/12"],
    6: ["::/0", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::1/128"],
}
PLACES = [*PREFIXES[4], *PREFIXES[6], "10.1.2.3", "10.1.2.128/25", "2001:db8:2::/48"]
PATTERNS = ["", "^$", "_64496_", "^64496", "64497$", "6449[67] 64497", "^64511_"]
ASKED = ["64496:1", "64496:2", "no-export", "64496:3"]
RDS = [None, "0:64496:7", "65551:1"]


@dataclass(frozen=True)
class Route:
    peer: int
    vpn: str | None
    path_id: int
    prefix: str
    path: tuple[int, ...]
    communities: tuple[tuple[int, int], ...]

    @property
    def version(self) -> int:
        return ipaddress.ip_network(self.prefix).version

    @property
    def key(self) -> tuple[Any, ...]:
        return self.peer, self.vpn, self.path_id, self.prefix

    @property
    def rd(self) -> str | None:
        """As its row shows it."""
        if self.vpn is not None:
            return {"0:64496:7": "0:64496:7", "65551:1": "2:65551:1"}[self.vpn]
        return "0:64496:7" if PEERS[self.peer].instance_rd else None

    def message(self) -> bytes:
        attributes = e.usual(*self.path, hop=None)
        if self.communities:
            attributes += e.communities(*self.communities)
        if self.vpn is None:
            nlri, safi = e.prefix(self.prefix, self.path_id), e.UNICAST
        else:
            rd = e.rd_as(*map(int, self.vpn.split(":")[-2:]))
            nlri = e.labeled(self.prefix, e.label_stack([16]), rd, self.path_id)
            safi = e.VPN
        afi = 1 if self.version == 4 else 2
        hop = bytes(8 if self.vpn else 0) + e.address("192.0.2.1" if afi == 1 else "2001:db8::1")
        return e.update(attributes=attributes + e.mp_reach(afi, safi, hop, nlri))


@st.composite
def tables(draw: st.DrawFn) -> list[Route]:
    """Routes, none twice."""
    route = st.builds(
        Route,
        st.integers(0, len(PEERS) - 1),
        st.sampled_from(RDS),
        st.integers(1, 2),
        st.sampled_from(PREFIXES[4] + PREFIXES[6]),
        st.sampled_from(PATHS),
        st.sampled_from(COMMUNITIES),
    )
    return draw(st.lists(route, max_size=40, unique_by=lambda r: r.key))


def rib_of(routes: list[Route]) -> Rib:
    rib = Rib()
    numbers = [rib.open(peer) for peer in PEERS]
    for route in routes:
        feed(rib, numbers[route.peer], route.message(), add_path=True)
    return rib


def found(rib: Rib, query: RouteQuery) -> list[dict[str, Any]]:
    rows = []
    for routes in glass.answer(glass.asking(rib), query):
        table = render(glass.rows_of(routes), list(ROUTE_FIELDS.public()), Encoding())
        rows += table.to_pylist()
    return rows


def row_key(row: dict[str, Any]) -> tuple[Any, ...]:
    peer = row["peer_ip_src"] or (row["bmp_router"], row["peer_ip"])
    return peer, row["rd"], row["safi"], row["as_path_id"], row["ip_prefix"]


def route_key(route: Route) -> tuple[Any, ...]:
    peer: Any = PEERS[route.peer].address
    if PEERS[route.peer].protocol == "bmp":
        peer = PEERS[route.peer].router, peer
    return peer, route.rd, 128 if route.vpn else 1, route.path_id, route.prefix


def is_peer(peer: Peer, text: str) -> bool:
    return not text or text in (peer.address, peer.router)


def relation(route: Route, place: str, scope: str) -> bool:
    network, other = ipaddress.ip_network(route.prefix), ipaddress.ip_network(place)
    if network.version != other.version:
        return False
    if scope == "covering":
        return other.subnet_of(network)  # type: ignore[arg-type]
    return network == other or (scope == "longer" and network.subnet_of(other))  # type: ignore[arg-type]


@given(
    tables(),
    st.sampled_from(PLACES),
    st.sampled_from(["", "192.0.2.1", "203.0.113.1"]),
    st.sampled_from(["", "64496:7", "0:64496:7", "global", "2:65551:1"]),
    st.booleans(),
)
def test_lookup_is_the_longest_match_of_each_table(
    routes: list[Route], address: str, peer: str, rd: str, everything: bool
) -> None:
    wanted = {"64496:7": "0:64496:7", "global": None}.get(rd, rd)
    there = [
        r
        for r in routes
        if is_peer(PEERS[r.peer], peer)
        and (not rd or r.rd == wanted)
        and relation(r, address, "covering")
    ]
    if not everything:
        longest: dict[Any, int] = {}
        for r in there:
            table = (*route_key(r)[:3],)
            bits = ipaddress.ip_network(r.prefix).prefixlen
            longest[table] = max(longest.get(table, 0), bits)
        there = [
            r
            for r in there
            if ipaddress.ip_network(r.prefix).prefixlen == longest[(*route_key(r)[:3],)]
        ]
    query = lookup_query(address, peer=peer, rd=rd, everything=everything)
    assert sorted(map(row_key, found(rib_of(routes), query)), key=repr) == sorted(
        map(route_key, there), key=repr
    )


def naive_pattern(pattern: str) -> str:
    return pattern.replace("_", r"(^|$|[ ,{}()\[\]])")


@given(
    tables(),
    st.sampled_from(["", *PLACES]),
    st.booleans(),
    st.sampled_from(PATTERNS),
    st.lists(st.sampled_from(ASKED), max_size=2),
    st.sampled_from(["", "vpnv4", "ipv6-unicast", "1/1"]),
    st.sampled_from([0, 0, 1, 3]),
)
def test_routes_meet_every_condition(
    routes: list[Route],
    prefix: str,
    longer: bool,
    pattern: str,
    communities: list[str],
    family: str,
    limit: int,
) -> None:
    longer = longer and prefix != ""
    families = {"vpnv4": (4, True), "ipv6-unicast": (6, False), "1/1": (4, False)}

    def meets(route: Route) -> bool:
        path = " ".join(map(str, route.path))
        own = {
            "no-export" if c == (65535, 65281) else "{}:{}".format(*c) for c in route.communities
        }
        return (
            (not prefix or relation(route, prefix, "longer" if longer else "exact"))
            and re.search(naive_pattern(pattern), path) is not None
            and own.issuperset(communities)
            and (not family or families[family] == (route.version, route.vpn is not None))
        )

    query = read_query(
        prefix=prefix,
        longer=longer,
        as_path=pattern,
        communities=communities,
        family=family,
        limit=limit,
    )
    rows = found(rib_of(routes), query)
    there = {route_key(r): r for r in routes if meets(r)}
    keys = [row_key(row) for row in rows]
    assert len(set(keys)) == len(keys)
    if not limit:
        assert set(keys) == set(there)
    assert there.keys() >= set(keys)
    assert len(keys) == min(limit or len(there), len(there))
    for row in rows:
        assert row["as_path"] == " ".join(map(str, there[row_key(row)].path))
        assert row["event_type"] == "lglass"


def evpn_rib() -> Rib:
    rib = Rib()
    number = rib.open(bgp_peer())
    for rd in (1, 2):
        value = e.rd_as(64496, rd) + bytes(4) + bytes([32]) + e.address("192.0.2.77")
        reach = e.mp_reach(25, 70, e.address("192.0.2.1"), e.evpn(3, value))
        feed(rib, number, e.update(attributes=e.usual(64496, hop=None) + reach))
    return rib


def test_routes_that_are_not_of_prefixes_have_their_rd_in_the_nlri() -> None:
    everything = found(evpn_rib(), read_query(family="evpn"))
    assert [row["rd"] for row in everything] == ["0:64496:1", "0:64496:2"]
    (row,) = found(evpn_rib(), read_query(rd="64496:2"))
    assert row["rd"] == "0:64496:2"
    assert row["nlri"] in {r["nlri"] for r in everything}
    assert found(evpn_rib(), lookup_query("192.0.2.77")) == []


@pytest.mark.parametrize(
    ("wanted", "is_there"),
    [
        ("64496:1:2", True),
        ("64496:1:3", False),
        ("RT:64497:1", True),
        ("SoO:64497:1", False),
        ("color:100", True),
        ("0x030b000000000064", False),
    ],
)
def test_communities_of_all_kinds(wanted: str, is_there: bool) -> None:
    rib = Rib()
    extended = bytes.fromhex("0002fbf100000001"), bytes.fromhex("030b000000000064")
    lists = e.large_communities((64496, 1, 2)) + e.extended_communities(*extended)
    message = e.update(attributes=e.usual(64496) + lists, nlri=e.prefix("10.0.0.0/8"))
    feed(rib, rib.open(bgp_peer()), message)
    assert len(found(rib, read_query(communities=[wanted]))) == is_there


def test_paths_of_two_octets_are_completed() -> None:
    rib = Rib()
    number = rib.open(bgp_peer())
    path = e.as_path(23456, 64497, four=False) + e.as4_path([(e.AS_SEQUENCE, (65551, 64497))])
    attributes = bytes([0, 4]) + e.address("192.0.2.1") + e.origin() + path
    (index,) = rib.store.intern(
        np.frombuffer(attributes, np.uint8), np.zeros(1, np.int64), np.array([len(attributes)])
    )
    feed(rib, number, e.update(attributes=e.usual(1), nlri=e.prefix("10.0.0.0/8")))
    remap = np.full(len(rib.store), index, np.uint32)
    rib.peer(number).tables[0].remap(remap)
    assert len(found(rib, read_query(as_path="^65551 64497$"))) == 1
    assert found(rib, read_query(as_path="23456")) == []


def test_what_was_taken_stays_while_the_rib_goes_on() -> None:
    rib = rib_of([Route(0, None, 1, "10.0.0.0/8", (64496,), ())])
    query = read_query()
    (target,) = glass.targets(query, rib)
    taken = glass.take(query, target, rib)
    assert taken is not None
    before = taken.sets.decode(int(taken.rows.attributes[0]))
    rib.drop(target.number)
    number = rib.open(PEERS[1])
    for i in range(300):
        route = Route(1, None, 1, f"10.{i % 256}.0.0/16", (64500 + i,), ())
        feed(rib, number, route.message(), add_path=True)
    rib.store.compact(np.arange(len(rib.store)) % 2 == 0)
    assert taken.sets.decode(int(taken.rows.attributes[0])) == before
    assert glass.take(query, target, rib) is None, "another peer has that number now"
    assert number == target.number


def test_long_answers_are_taken_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glass, "SLICE_ROUTES", 2)
    rib = rib_of([Route(p, None, 1, x, (), ()) for p in range(4) for x in PREFIXES[4][:3]])
    questions = 0

    def ask(question: Any) -> Any:
        nonlocal questions
        questions += 1
        return question(rib)

    assert sum(map(len, glass.answer(ask, read_query()))) == 12
    assert questions == 5, "the tables, then one at a time"


def test_peers() -> None:
    rib = rib_of([Route(0, None, 1, "10.0.0.0/8", (), ()), Route(0, None, 1, "::/0", (), ())])
    feed(rib, 0, e.end_of_rib(1, 1), e.end_of_rib(1, 128))
    first, *others = glass.peer_statuses(rib)
    assert (first.peer, first.up, first.stale) == (PEERS[0], True, False)
    assert [(t.family.name, t.routes, t.end_of_rib, t.add_path) for t in first.tables] == [
        ("ipv4 unicast", 1, True, True),
        ("ipv6 unicast", 1, False, True),
        ("vpnv4", 0, True, False),
    ]
    assert first.tables[0].octets > 0
    assert [status.tables for status in others] == [(), (), ()]


@pytest.mark.parametrize(
    ("conditions", "line"),
    [
        ({"peer": "router1"}, "peer: found 'router1', allowed an address"),
        ({"peer": "192.0.2.77"}, "peer: found 192.0.2.77, of which there are no routes here"),
        ({"prefix": "10.0.0.0/33"}, "prefix: found '10.0.0.0/33', allowed an address or a prefix"),
        ({"longer": True}, "longer: found no prefix beside it"),
        ({"rd": "x:1"}, "route distinguisher: found 'x:1', allowed global, 64496:1"),
        ({"rd": "0:1:2:3"}, "route distinguisher: found '0:1:2:3'"),
        ({"family": "ipx"}, "family: found 'ipx', allowed AFI/SAFI or ipv4 unicast, "),
        ({"family": "1/99"}, "family: found '1/99'"),
        ({"as_path": "(1"}, r"AS path: found '\(1', no regular expression: 'missing \): "),
        ({"as_path": "(\n" * 5000}, r"no regular expression"),
        ({"prefix": "1" * 5000}, r"prefix: found '1{100}\.\.\.', allowed"),
        ({"as_path": r"(1)\1"}, "no regular expression"),
        ({"communities": ["1:70000"]}, "community: found '1:70000', allowed 64496:1"),
        ({"communities": ["blue"]}, "community: found 'blue'"),
    ],
)
def test_questions_without_sense(conditions: dict[str, Any], line: str) -> None:
    with pytest.raises(QueryError, match=line) as refused:
        found(rib_of([]), read_query(**conditions))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_lookup_wants_an_address() -> None:
    with pytest.raises(QueryError, match="found no address"):
        lookup_query("")
