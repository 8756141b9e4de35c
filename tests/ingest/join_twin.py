"""A naive join, a record and a route at a time, and what it is made of: routers with routes,
records, plans.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from struct import pack
from typing import Any

from flowray.rib.peers import PolicyView
from flowray.wire.bgp.attributes import AttributeType as T
from tests.wire.bgp.sets import attribute, attribute_set, segment

Network = IPv4Network | IPv6Network

SET, SEQUENCE, CONFED_SEQUENCE = 1, 2, 3
OWN_AS = 64999


@dataclass(frozen=True)
class Attrs:
    """Attributes of a route; `path` are segments (kind, numbers)."""

    next_hop: str
    path: tuple[tuple[int, tuple[int, ...]], ...] = ()
    local_pref: int | None = None
    med: int | None = None
    communities: tuple[tuple[int, int], ...] = ()
    targets: tuple[tuple[int, int], ...] = ()
    large: tuple[tuple[int, int, int], ...] = ()

    def octets(self) -> bytes:
        """The canonical set."""
        listed = [attribute(T.AS_PATH, b"".join(segment(kind, *n) for kind, n in self.path))]
        if self.med is not None:
            listed.append(attribute(T.MULTI_EXIT_DISC, pack("!I", self.med)))
        if self.local_pref is not None:
            listed.append(attribute(T.LOCAL_PREF, pack("!I", self.local_pref)))
        if self.communities:
            value = b"".join(pack("!HH", *c) for c in self.communities)
            listed.append(attribute(T.COMMUNITIES, value))
        if self.targets:
            value = b"".join(pack("!BBHI", 0, 2, *t) for t in self.targets)
            listed.append(attribute(T.EXTENDED_COMMUNITIES, value))
        if self.large:
            value = b"".join(pack("!III", *c) for c in self.large)
            listed.append(attribute(T.LARGE_COMMUNITY, value))
        return attribute_set(*listed, next_hop=ip_address(self.next_hop).packed)

    def first_as(self, *, skip: bool) -> int:
        for kind, numbers in self.path:
            if kind == CONFED_SEQUENCE and skip:
                continue
            return 0 if kind == SET else numbers[0]
        return 0

    @property
    def origin_as(self) -> int:
        path = [s for s in self.path if s[0] != CONFED_SEQUENCE]
        return 0 if not path or path[-1][0] == SET else path[-1][1][-1]

    @property
    def validated_as(self) -> int:
        return self.origin_as if self.path else OWN_AS

    def texts(self) -> dict[str, list[str]]:
        """Texts of communities by field."""
        return {
            "std_comm": [f"{a}:{b}" for a, b in sorted(self.communities)],
            "ext_comm": [f"RT:{a}:{b}" for a, b in sorted(self.targets)],
            "lrg_comm": [f"{a}:{b}:{c}" for a, b, c in sorted(self.large)],
        }

    def path_text(self, hops: int) -> str:
        """The AS path, cut at so many hops."""
        texts, left = [], hops or 1 << 30
        for kind, numbers in self.path:
            if left <= 0:
                break
            shown = numbers if kind == SET else numbers[:left]
            left -= 1 if kind == SET else len(numbers)
            between = "," if kind == SET else " "
            before, after = {SET: "{}", CONFED_SEQUENCE: "()"}.get(kind, ("", ""))
            texts.append(before + between.join(map(str, shown)) + after)
        return " ".join(texts)


@dataclass(frozen=True)
class Route:
    """A route that a peer tells."""

    rd: int
    network: Network
    path_id: int
    attrs: Attrs


@dataclass
class TwinPeer:
    """A session or monitored view of a router."""

    router: str
    view: PolicyView
    add_path: bool
    routes: dict[tuple[int, Network, int], Route]
    stale: bool = False


@dataclass(frozen=True)
class Roa:
    """A validated payload."""

    network: Network
    longest: int
    asn: int


@dataclass(frozen=True)
class Row:
    """A row of a networks file."""

    network: Network
    next_hop: str = ""
    peer_as: int = 0
    origin_as: int = 0


@dataclass
class Plan:
    """Options of the join."""

    as_numbers: str = "longest"
    networks: str = "longest"
    peer_source_as: bool = False
    skip_confederations: bool = False
    fall_back: tuple[str, ...] = ()
    agents: tuple[dict[str, str], ...] = ()
    file: tuple[Row, ...] | None = None
    follow: tuple[str, ...] = ()
    hops: int = 20
    external: bool = False
    patterns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    most: int = 0
    radius: int = 0
    community_as: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


@dataclass(frozen=True)
class Flow:
    """A record."""

    exporter: str
    rd: str
    src: str
    dst: str
    src_mask: int
    dst_mask: int
    src_as: int
    dst_as: int
    next_hop: str
    in_iface: int
    out_iface: int


@dataclass(frozen=True)
class Match:
    """What an address was found to have."""

    attrs: Attrs
    network: Network
    state: str


def contains(network: Network, other: Network) -> bool:
    return network.version == other.version and other.subnet_of(network)  # type: ignore[arg-type]


def fits(pattern: str, text: str) -> bool:
    if "." not in pattern:
        return pattern in text
    return re.fullmatch(re.escape(pattern).replace(r"\.", "."), text) is not None


class Twin:
    """Joins records with the routes of peers, most preferred first."""

    def __init__(
        self, plan: Plan, peers: list[TwinPeer], ids: dict[str, str], roas: list[Roa] | None
    ) -> None:
        """`ids`: router by other address of it."""
        self.plan, self.ids, self.roas = plan, ids, roas
        self.peers = peers
        self.routers = {p.router for p in peers}
        self.tables: dict[tuple[str, int], dict[Network, list[Attrs]]] = {}
        lists = {
            (p.router, r.rd, r.network.version)
            for p in peers
            if p.add_path
            for r in p.routes.values()
        }
        # All paths of a prefix are of the first peer that has it.
        owner: dict[tuple[str, int, Network], int] = {}
        for number, peer in enumerate(peers):
            for route in sorted(peer.routes.values(), key=lambda r: r.path_id):
                table = self.tables.setdefault((peer.router, route.rd), {})
                paths = table.setdefault(route.network, [])
                if owner.setdefault((peer.router, route.rd, route.network), number) != number:
                    continue
                if not paths or (peer.router, route.rd, route.network.version) in lists:
                    paths.append(route.attrs)

    # -- tables

    def known(self, address: str) -> str | None:
        router = self.ids.get(address, address)
        return router if router in self.routers else None

    def longest(self, table: dict[Network, Any], address: str) -> Network | None:
        found = [n for n in table if ip_address(address) in n]
        return max(found, key=lambda n: n.prefixlen, default=None)

    def state(self, table: dict[Network, list[Attrs]], network: Network, path: int) -> str:
        if self.roas is None:
            return ""
        state = self.origin_state(network, table[network][path])
        if state != "i":
            return state
        around = [n for n in table if contains(n, network) and n != network]
        for other in sorted(around, key=lambda n: -n.prefixlen):
            states = [self.origin_state(other, a) for a in table[other]]
            good = [s for s in states if s != "i"]
            if good:
                return good[-1].upper()
        return state

    def origin_state(self, network: Network, attrs: Attrs) -> str:
        assert self.roas is not None
        covering = [r for r in self.roas if contains(r.network, network)]
        if not covering:
            return "u"
        origin = attrs.validated_as
        matching = (r.asn == origin != 0 and network.prefixlen <= r.longest for r in covering)
        return "v" if any(matching) else "i"

    # -- one address

    def ladder(self, flow: Flow) -> tuple[list[tuple[str, int] | None], str]:
        """Where it is looked up, and what rung 0 is."""
        address = flow.exporter
        for row in self.plan.agents:
            if self.agent_fits(row, flow):
                address = row.get("bgp_ip") or row["bmp_ip"]
                break
        router = self.known(address)
        number = {"0:0:0": 0, "0:64496:1": 64496 << 32 | 1}.get(flow.rd)
        steps: list[tuple[str, int] | None] = [(router, number)]  # type: ignore[list-item]
        for name in self.plan.fall_back:
            if name == "global":
                steps.append((router, 0) if router and number != 0 else None)
            else:
                other = self.known(name)
                steps.append((other, number) if other and number is not None else None)
        if router is None:
            return [None, *steps[1:]], "no-router"
        if number is None or (router, number) not in self.tables:
            return [None, *steps[1:]], "no-table"
        return steps, "instance" if number else "global"

    def agent_fits(self, row: dict[str, str], flow: Flow) -> bool:
        six = ":" in flow.dst
        return (
            ip_address(flow.exporter) in ip_network(row.get("ip", flow.exporter))
            and int(row.get("in", flow.in_iface)) == flow.in_iface
            and int(row.get("out", flow.out_iface)) == flow.out_iface
            and row.get("filter", "ip6" if six else "ip") == ("ip6" if six else "ip")
        )

    def match(self, flow: Flow, address: str, hop: str | None) -> tuple[Match | None, str, bool]:
        """The route, its rung, and whether that is of a global table."""
        steps, reason = self.ladder(flow)
        for rung, step in enumerate(steps):
            table = self.tables.get(step) if step else None
            network = self.longest(table, address) if table else None
            if table is None or network is None or step is None:
                continue
            paths = table[network]
            chosen = 0
            if len(paths) > 1 and hop:
                agreeing = [i for i, a in enumerate(paths) if a.next_hop == hop]
                if not agreeing:
                    break
                chosen = agreeing[0]
            name = reason if rung == 0 else f"fall-back {self.plan.fall_back[rung - 1]}"
            state = self.state(table, network, chosen)
            found = Match(paths[chosen], network, state)
            return found, name + self.staleness(step[0]), step[1] == 0
        own = self.known_router(flow)
        missing = "no-route" if reason in ("instance", "global") else reason
        return None, missing + (self.staleness(own) if own else ""), False

    def known_router(self, flow: Flow) -> str | None:
        for row in self.plan.agents:
            if self.agent_fits(row, flow):
                return self.known(row.get("bgp_ip") or row["bmp_ip"])
        return self.known(flow.exporter)

    def staleness(self, router: str) -> str:
        return ", stale" if any(p.stale for p in self.peers if p.router == router) else ""

    def followed(self, attrs: Attrs, address: str) -> str:
        told = attrs
        for _ in range(self.plan.hops):
            if not self.inside(attrs.next_hop):
                return attrs.next_hop if self.plan.external else told.next_hop
            told = attrs
            router = self.known(attrs.next_hop)
            table = self.tables.get((router, 0), {}) if router else {}
            network = self.longest(table, address)
            if network is None or table[network][0] == attrs:
                return told.next_hop
            attrs = table[network][0]
        if self.plan.external and not self.inside(attrs.next_hop):
            return attrs.next_hop
        return told.next_hop

    def inside(self, hop: str) -> bool:
        return any(ip_address(hop) in ip_network(p) for p in self.plan.follow)

    # -- one record

    def numbers(self, attrs: Attrs) -> tuple[int, int]:
        """Peer and origin AS."""
        peer, origin = attrs.first_as(skip=self.plan.skip_confederations), attrs.origin_as
        told = (0, 0)
        kinds = ("std_comm", "lrg_comm")
        for kind, patterns in zip(kinds, self.plan.community_as, strict=True):
            hits = [t for p in patterns for t in attrs.texts()[kind] if fits(p, t)]
            if hits and told == (0, 0):
                told = int(hits[0].split(":")[0]), int(hits[0].split(":")[1])
        return peer or told[0], origin or told[1]

    def texts(self, attrs: Attrs) -> dict[str, str]:
        shown = {"as_path": attrs.path_text(self.plan.radius)}
        for kind, told in attrs.texts().items():
            patterns = self.plan.patterns.get(kind, ())
            hits = list(dict.fromkeys(t for p in patterns for t in told if fits(p, t)))
            listed = hits if patterns else told
            shown[kind] = " ".join(listed[: self.plan.most or None])
        return shown

    def row(self, address: str, *, with_as: bool) -> Row | None:
        if self.plan.file is None:
            return None
        rows = [r for r in self.plan.file if r.origin_as or r.peer_as or not with_as]
        first = {}
        for row in rows:
            first.setdefault(row.network, row)
        network = self.longest(first, address)
        return first[network] if network is not None else None

    def winner(self, match: Match | None, mask: int, row: Row | None) -> Match | Row | None:
        """Route, record (None) or row of the file."""
        route = match if match is not None and match.network.prefixlen >= mask else None
        if row is None:
            return route
        if route is not None:
            return row if row.network.prefixlen > route.network.prefixlen else route
        return row if mask == 0 or row.network.prefixlen > mask else None

    def join(self, flow: Flow) -> dict[str, Any]:
        """All fields that the join fills."""
        out: dict[str, Any] = {}
        for prefix, address, mask in (
            ("dst", flow.dst, flow.dst_mask),
            ("src", flow.src, flow.src_mask),
        ):
            out |= self.side(flow, prefix, address, mask)
        return out

    def side(self, flow: Flow, prefix: str, address: str, mask: int) -> dict[str, Any]:
        dst = prefix == "dst"
        match, rung, is_global = self.match(flow, address, flow.next_hop if dst else None)
        before = "" if dst else "src_"
        out: dict[str, Any] = {
            f"{prefix}_rung": rung,
            f"{prefix}_roa": match.state if match else "",
        }
        attrs = match.attrs if match else None
        empty = dict.fromkeys(("std_comm", "ext_comm", "lrg_comm", "as_path"), "")
        for kind, text in (self.texts(attrs) if attrs else empty).items():
            out[before + kind] = text
        out[f"{before}local_pref"] = (attrs.local_pref or 0) if attrs else 0
        out[f"{before}med"] = (attrs.med or 0) if attrs else 0
        out |= self.as_numbers(flow, prefix, match, mask, self.row(address, with_as=True))
        return out | self.nets(flow, dst, match, mask, is_global, address)

    def as_numbers(
        self, flow: Flow, prefix: str, match: Match | None, mask: int, row: Row | None
    ) -> dict[str, int]:
        own = flow.dst_as if prefix == "dst" else flow.src_as
        if self.plan.as_numbers == "flows":
            told = (own, own)
        elif self.plan.as_numbers == "routes":
            told = self.numbers(match.attrs) if match else (0, 0)
        else:
            winner = self.winner(match, mask, row)
            told = (own, own)
            if isinstance(winner, Match):
                told = self.numbers(winner.attrs)
            elif isinstance(winner, Row):
                told = winner.peer_as, winner.origin_as
        peer = told[0]
        if prefix == "src" and not self.plan.peer_source_as:
            peer = own
        return {f"{prefix}_as": told[1], f"peer_{prefix}_as": peer}

    def nets(
        self, flow: Flow, dst: bool, match: Match | None, mask: int, is_global: bool, address: str
    ) -> dict[str, Any]:
        name = "dst_mask" if dst else "src_mask"
        hop = flow.next_hop
        method = self.plan.networks
        if method == "flows":
            return {name: mask} | ({"peer_dst_ip": hop} if dst else {})
        winner = (
            match
            if method == "routes"
            else self.winner(match, mask, self.row(address, with_as=False))
        )
        if winner is None:
            mask, hop = (0, "") if method == "routes" else (mask, hop)
        else:
            mask = winner.network.prefixlen
        if isinstance(winner, Match):
            hop = winner.attrs.next_hop
            if self.plan.follow and is_global:
                hop = self.followed(winner.attrs, address)
        elif isinstance(winner, Row):
            hop = winner.next_hop or hop
        return {name: mask} | ({"peer_dst_ip": hop} if dst else {})
