"""The join of flows with routes against a naive one, field by field."""

from __future__ import annotations

import tempfile
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.addresses import prefix
from flowray.columns import Columns, Layout
from flowray.hashing import Interner
from flowray.ingest.join import FILLS, NEEDS, RouteJoin
from flowray.ingest.join_plan import Follow, JoinPlan
from flowray.ingest.ladder import GLOBAL_TABLE
from flowray.ingest.route_texts import CommunityAs, Shape, patterns
from flowray.intervals import AddressSet
from flowray.maps import MapRow, compile_agents
from flowray.networks import load_networks
from flowray.rib.peers import Peer, PolicyView
from flowray.rib.rib import Rib
from flowray.rib.roa import RoaSet
from flowray.rib.snapshot import DEFAULT_VIEWS, Publisher, Snapshot
from flowray.wire.bgp.events import Action, RouteEvents
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.packets import Exporters, address_text, address_words
from tests.ingest.join_twin import (
    CONFED_SEQUENCE,
    OWN_AS,
    SEQUENCE,
    SET,
    Attrs,
    Flow,
    Network,
    Plan,
    Roa,
    Route,
    Row,
    Twin,
    TwinPeer,
)

ROUTERS = ("192.0.2.1", "192.0.2.2", "2001:db8::3")
IDS = {f"10.0.0.{i}": router for i, router in enumerate(ROUTERS)}
RD_TEXTS = ("0:0:0", "0:64496:1", "0:64496:2", "vrfid:5")
RD = 64496 << 32 | 1

NETWORKS: list[Network] = [
    ip_network(text)
    for text in (
        *("0.0.0.0/0", "198.51.100.0/24", "198.51.100.0/25", "198.51.100.0/26", "198.51.0.0/16"),
        *("198.51.100.7/32", "2001:db8:5::/48", "2001:db8:5::/64", "2001:db8::/32", "::/0"),
    )
]
ADDRESSES = (
    *("198.51.100.7", "198.51.100.8", "198.51.100.200", "198.51.3.4", "203.0.113.9"),
    *("2001:db8:5::1", "2001:db8:5:1::1", "2001:db8:7::1", "2001:dead::1"),
)
HOPS = (*ROUTERS, "192.0.2.77", "203.0.113.1", "2001:db8:ffff::1")

attributes = st.builds(
    Attrs,
    next_hop=st.sampled_from(HOPS),
    path=st.lists(
        st.one_of(
            st.tuples(
                st.just(SEQUENCE), st.lists(st.integers(64500, 64503), min_size=1, max_size=3)
            ),
            st.tuples(
                st.just(CONFED_SEQUENCE),
                st.lists(st.integers(65001, 65003), min_size=1, max_size=2),
            ),
            st.tuples(st.just(SET), st.just([64510, 64511])),
        ).map(lambda s: (s[0], tuple(s[1]))),
        max_size=3,
    )
    # Adjacent sequences are one.
    .filter(lambda p: all(a[0] != SEQUENCE or b[0] != SEQUENCE for a, b in pairwise(p)))
    .map(tuple),
    local_pref=st.none() | st.integers(0, 3),
    med=st.none() | st.integers(0, 3),
    communities=st.sets(
        st.tuples(st.sampled_from((64496, 65064)), st.sampled_from((1, 123, 299))), max_size=3
    ).map(tuple),
    targets=st.sets(st.tuples(st.just(64496), st.integers(1, 12)), max_size=2).map(tuple),
    large=st.sets(st.tuples(st.just(64496), st.integers(1, 2), st.integers(1, 2)), max_size=2).map(
        tuple
    ),
)
routes = st.builds(
    Route,
    rd=st.sampled_from((0, 0, RD)),
    network=st.sampled_from(NETWORKS),
    path_id=st.integers(0, 2),
    attrs=attributes,
)


@st.composite
def peers(draw: st.DrawFn) -> list[TwinPeer]:
    """Most preferred first."""
    pool = draw(st.lists(attributes, min_size=1, max_size=4))
    found = []
    for router in draw(st.lists(st.sampled_from(ROUTERS), max_size=4)):
        add_path = draw(st.booleans())
        told: dict[tuple[int, Network, int], Route] = {}
        for route in draw(st.lists(routes, max_size=10)):
            path_id = route.path_id if add_path else 0
            attrs = draw(st.sampled_from(pool))
            told[route.rd, route.network, path_id] = Route(route.rd, route.network, path_id, attrs)
        view = draw(st.sampled_from(DEFAULT_VIEWS))
        found.append(TwinPeer(router, view, add_path, told, stale=draw(st.booleans())))
    return sorted(found, key=lambda p: DEFAULT_VIEWS.index(p.view))


rows = st.builds(
    Row,
    network=st.sampled_from(NETWORKS),
    next_hop=st.sampled_from(("", "192.0.2.99", "2001:db8:9::1")),
    peer_as=st.just(0),
    origin_as=st.sampled_from((0, 64520)),
) | st.builds(
    Row, network=st.sampled_from(NETWORKS), peer_as=st.just(64521), origin_as=st.just(64520)
)
agents = st.fixed_dictionaries(
    {"bgp_ip": st.sampled_from((*ROUTERS, *IDS, "192.0.2.50"))},
    optional={
        "ip": st.sampled_from(("192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "192.0.2.50/31")),
        "in": st.sampled_from(("1", "2")),
        "out": st.sampled_from(("1", "2")),
        "filter": st.sampled_from(("ip", "ip6")),
    },
)
methods = st.sampled_from(("flows", "routes", "longest", "longest"))
standard = st.sampled_from(("64496:1", "64:1", "64496:...", ".....:1", "9"))
large = st.sampled_from(("64496:1:", "64496:.:2", "2"))
plans = st.builds(
    Plan,
    as_numbers=methods,
    networks=methods,
    peer_source_as=st.booleans(),
    skip_confederations=st.booleans(),
    fall_back=st.lists(
        st.sampled_from(("global", *ROUTERS, "192.0.2.50")), unique=True, max_size=3
    ).map(tuple),
    agents=st.lists(agents, max_size=3).map(tuple),
    file=st.none() | st.lists(rows, max_size=6).map(tuple),
    follow=st.lists(
        st.sampled_from(("192.0.2.0/24", "2001:db8::/32", "192.0.2.1/32")), max_size=2
    ).map(tuple),
    hops=st.sampled_from((1, 2, 20)),
    external=st.booleans(),
    patterns=st.fixed_dictionaries(
        {},
        optional={
            "std_comm": st.lists(standard, max_size=2).map(tuple),
            "ext_comm": st.lists(st.sampled_from(("RT:", "RT:64496:1.", ":2")), max_size=2).map(
                tuple
            ),
            "lrg_comm": st.lists(large, max_size=2).map(tuple),
        },
    ),
    most=st.integers(0, 2),
    radius=st.integers(0, 3),
    community_as=st.tuples(
        st.lists(standard, max_size=2).map(tuple), st.lists(large, max_size=2).map(tuple)
    ),
)
flows = st.builds(
    Flow,
    exporter=st.sampled_from((*ROUTERS, *IDS, "192.0.2.50")),
    rd=st.sampled_from(RD_TEXTS),
    src=st.sampled_from(ADDRESSES),
    dst=st.sampled_from(ADDRESSES),
    src_mask=st.sampled_from((0, 0, 24, 25, 48, 64)),
    dst_mask=st.sampled_from((0, 0, 24, 25, 48, 64)),
    src_as=st.sampled_from((0, 64530)),
    dst_as=st.sampled_from((0, 64531)),
    next_hop=st.sampled_from(("", *HOPS)),
    in_iface=st.integers(1, 2),
    out_iface=st.integers(1, 2),
)
roas = st.none() | st.lists(
    st.sampled_from(NETWORKS).flatmap(
        lambda n: st.builds(
            Roa,
            network=st.just(n),
            longest=st.integers(n.prefixlen, n.max_prefixlen),
            asn=st.sampled_from((64500, 64501, OWN_AS)),
        )
    ),
    max_size=4,
)


def snapshot(listed: list[TwinPeer], payloads: list[Roa] | None) -> Snapshot:
    """A RIB with these routes, published."""
    rib = Rib()
    for peer in listed:
        protocol = "bgp" if peer.view is PolicyView.ADJ_RIB_IN_PRE else "bmp"
        bgp_id = next(name for name, router in IDS.items() if router == peer.router)
        number = rib.open(
            Peer(protocol, peer.router, 179, peer.router, bgp_id, 64496, peer.view)  # type: ignore[arg-type]
        )
        apply(rib, number, peer)
        rib.peer(number).stale = peer.stale
    publisher = Publisher(rib, "test")
    if payloads is not None:
        publisher.validate_with(roa_set(payloads), OWN_AS)
    return publisher.publish(0)


def apply(rib: Rib, number: int, peer: TwinPeer) -> None:
    listed = list(peer.routes.values())
    n = len(listed)
    sets = [route.attrs.octets() for route in listed]
    length = np.array([len(s) for s in sets], np.int64)
    octets = np.frombuffer(b"".join(sets), np.uint8)
    words = [address_words(str(r.network.network_address)) for r in listed]
    events = RouteEvents(
        message=np.zeros(n, np.int64),
        action=np.full(n, Action.ANNOUNCE, np.uint8),
        family=np.array([family(r) for r in listed], np.uint8),
        rd=np.array([r.rd for r in listed], np.uint64),
        path_id=np.array([r.path_id for r in listed], np.uint32),
        hi=np.array([hi for hi, _ in words], np.uint64),
        lo=np.array([lo for _, lo in words], np.uint64),
        plen=np.array([r.network.prefixlen for r in listed], np.uint8),
        labels=np.zeros(n, np.uint64),
        nlri_offset=np.zeros(n, np.int64),
        nlri_length=np.zeros(n, np.int64),
        attributes=rib.store.intern(octets, np.cumsum(length) - length, length),
    )
    add_path = np.full(1, (1 << 64) - 1 if peer.add_path else 0, np.uint64)
    rib.apply(np.array([number], np.int64), events, octets, add_path)


def family(route: Route) -> int:
    afi, safi = (1 if route.network.version == 4 else 2), (128 if route.rd else 1)
    return next(f.index for f in FAMILIES if (f.afi, f.safi) == (afi, safi))


def roa_set(payloads: list[Roa]) -> RoaSet:
    words = [address_words(str(r.network.network_address)) for r in payloads]
    return RoaSet(
        np.array([r.asn for r in payloads], np.uint32),
        np.array([hi for hi, _ in words], np.uint64),
        np.array([lo for _, lo in words], np.uint64),
        np.array([r.network.prefixlen for r in payloads], np.uint8),
        np.array([r.longest for r in payloads], np.uint8),
    )


def compiled(plan: Plan, directory: Path) -> JoinPlan:
    file = None
    if plan.file is not None:
        path = directory / "networks.lst"
        path.write_text("! a networks file\n" + "".join(map(line, plan.file)), encoding="utf-8")
        file = load_networks(path)
    agent_rows = [MapRow("agents.map", i, row) for i, row in enumerate(plan.agents)]
    within = AddressSet.of(i for p in plan.follow for i in prefix(p))
    return JoinPlan(
        as_numbers=plan.as_numbers,  # type: ignore[arg-type]
        networks=plan.networks,  # type: ignore[arg-type]
        peer_source_as=plan.peer_source_as,
        skip_confederations=plan.skip_confederations,
        fall_backs=tuple(
            GLOBAL_TABLE if f == "global" else address_words(f) for f in plan.fall_back
        ),
        fall_back_names=plan.fall_back,
        agents=compile_agents(agent_rows) if plan.agents else None,
        networks_file=file,
        follow=Follow(within, plan.hops, plan.external) if plan.follow else None,
        shape=Shape(
            patterns(*plan.patterns.get("std_comm", ())),
            patterns(*plan.patterns.get("ext_comm", ())),
            patterns(*plan.patterns.get("lrg_comm", ())),
            plan.most,
            plan.radius,
        ),
        community_as=CommunityAs(patterns(*plan.community_as[0]), patterns(*plan.community_as[1])),
    )


def line(row: Row) -> str:
    numbers = [str(row.origin_as)] if row.origin_as else []
    if row.peer_as:
        numbers = [f"{row.peer_as}_{row.origin_as}"]
    return ",".join(([row.next_hop] if row.next_hop else []) + numbers + [str(row.network)]) + "\n"


LAYOUT = Layout(dict.fromkeys((*NEEDS, *FILLS, "in_iface", "out_iface")))
TEXTS = [f.name for f in LAYOUT.fields if f.name in FILLS and f.kind.name in ("TEXT", "WORDS")]


def batch(records: list[Flow], exporters: Exporters, texts: Interner) -> Columns:
    c = Columns.empty(LAYOUT, max(len(records), 1))
    c.n = len(records)
    for i, record in enumerate(records):
        c["_exporter"][i] = exporters.intern_one(record.exporter)
        c["mpls_vpn_rd"][i] = texts.add(record.rd.encode())
        c["src_host"][:, i], c["dst_host"][:, i] = (
            address_words(record.src),
            address_words(record.dst),
        )
        if record.next_hop:
            c["peer_dst_ip"][:, i] = address_words(record.next_hop)
        for name in ("src_mask", "dst_mask", "src_as", "dst_as", "in_iface", "out_iface"):
            c[name][i] = getattr(record, name)
        c["peer_src_as"][i], c["peer_dst_as"][i] = record.src_as, record.dst_as
    return c


def record(c: Columns, i: int, texts: Interner) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in FILLS:
        if name == "peer_dst_ip":
            hi, lo = c[name][:, i].tolist()
            found[name] = address_text(hi, lo) if hi or lo else ""
        elif name in TEXTS:
            found[name] = texts[int(c[name][i])].decode()
        else:
            found[name] = int(c[name][i])
    return found


@given(peers(), plans, st.lists(flows, min_size=1, max_size=8), roas)
def test_every_field_is_that_of_the_naive_join(
    listed: list[TwinPeer], plan: Plan, records: list[Flow], payloads: list[Roa] | None
) -> None:
    known = {
        name: router
        for name, router in IDS.items()
        if any(p.router == router and p.view != PolicyView.ADJ_RIB_IN_POST for p in listed)
    }
    twin = Twin(plan, listed, known, payloads)
    with tempfile.TemporaryDirectory() as directory:
        join = RouteJoin(compiled(plan, Path(directory)))
    join.install(snapshot(listed, payloads))
    exporters, texts = Exporters(), Interner()
    c = batch(records, exporters, texts)
    join.fill(c, exporters, texts)
    for i, flow in enumerate(records):
        wanted = twin.join(flow)
        assert set(wanted) == set(FILLS)
        assert record(c, i, texts) == wanted, flow


def test_addresses_of_the_twin_are_written_as_ours() -> None:
    for text in (*HOPS, *ADDRESSES):
        assert address_text(*address_words(text)) == text == str(ip_address(text))
