"""GoBGP as a router, and its tables as `Route`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tests.peers.routes import Route, key_of
from tests.peers.speaker import Speaker, free_port, output

FAMILIES = {
    "ipv4": ("ipv4-unicast", "ipv4 unicast"),
    "ipv6": ("ipv6-unicast", "ipv6 unicast"),
    "vpnv4": ("l3vpn-ipv4-unicast", "vpnv4"),
    "vpnv6": ("l3vpn-ipv6-unicast", "vpnv6"),
    "evpn": ("l2vpn-evpn", "evpn"),
    "ipv4-flowspec": ("ipv4-flowspec", "ipv4 flowspec"),
    "rtc": ("rtc", "route target"),
}
"""Names of the command line -> name in the configuration, our name."""


@dataclass(frozen=True)
class Neighbor:
    """A session that GoBGP opens from `local` to a port of `address`, or waits for without one."""

    address: str
    port: int | None
    local: str
    families: Sequence[str]
    remote_as: int
    send_paths: int = 0
    """Most paths of a prefix that are sent with identifiers (RFC 7911), 0 for none."""

    def text(self) -> str:
        transport = f'local-address = "{self.local}"\n'
        if self.port is None:
            transport += "passive-mode = true\n"
        else:
            transport += f"remote-port = {self.port}\n"
        families = "".join(_family(name, self.send_paths) for name in self.families)
        return f"""
[[neighbors]]
[neighbors.config]
neighbor-address = "{self.address}"
peer-as = {self.remote_as}
[neighbors.transport.config]
{transport}
[neighbors.timers.config]
connect-retry = 1
{families}"""


def _family(name: str, send_paths: int) -> str:
    text = f"""[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "{FAMILIES[name][0]}"
"""
    if send_paths:
        text += f"[neighbors.afi-safis.add-paths.config]\nsend-max = {send_paths}\n"
    return text


@dataclass
class Settings:
    asn: int = 65001
    router_id: str = "198.51.100.1"
    neighbors: list[Neighbor] = field(default_factory=list)
    bmp_port: int | None = None
    listen: str | None = None
    """Address that it listens on, with a free port; it does not listen without."""


class GoBgp(Speaker):
    """gobgpd, with gobgp to command it."""

    def __init__(self, daemon: Path, client: Path, folder: Path, settings: Settings) -> None:
        super().__init__(folder, "gobgpd")
        self._daemon, self._client, self._api = daemon, client, free_port()
        self.port = free_port() if settings.listen else -1
        self._file = folder / "gobgpd.toml"
        self._file.write_text(self._configuration(settings))

    def _configuration(self, s: Settings) -> str:
        listen = f'local-address-list = ["{s.listen}"]\n' if s.listen else ""
        text = f"""[global.config]
as = {s.asn}
router-id = "{s.router_id}"
port = {self.port}
{listen}"""
        text += "".join(neighbor.text() for neighbor in s.neighbors)
        if s.bmp_port is not None:
            text += f"""
[[bmp-servers]]
[bmp-servers.config]
address = "127.0.0.1"
port = {s.bmp_port}
route-monitoring-policy = "all"
"""
        return text

    def command(self) -> Sequence[str | Path]:
        api = f"127.0.0.1:{self._api}"
        return self._daemon, "-f", self._file, "-p", "--api-hosts", api, "--pprof-disable"

    def ready(self) -> bool:
        return "Router-ID" in self("global", status=(0, 1))

    def __call__(self, *words: object, status: Sequence[int] = (0,)) -> str:
        return output(self._client, "-p", self._api, *words, status=status)

    def add(self, family: str, route: str) -> None:
        self("global", "rib", "add", "-a", family, *route.split())

    def delete(self, family: str, route: str) -> None:
        self("global", "rib", "del", "-a", family, *route.split())

    def sent(
        self, neighbor: str, families: Iterable[str], *, paths: bool = False
    ) -> Counter[Route]:
        """What it has told a neighbor; with `paths` their identifiers."""
        found: Counter[Route] = Counter()
        for family in families:
            found.update(self._sent(neighbor, family, paths=paths))
        return found

    def _sent(self, neighbor: str, family: str, *, paths: bool) -> list[Route]:
        told = json.loads(self("neighbor", neighbor, "adj-out", "-a", family, "-j", status=(0, 1)))
        if "error" in told:
            return []
        routes = [_route(family, path) for of_nlri in told.values() for path in of_nlri]
        if not paths:
            return routes
        # Identifiers are in the text alone; paths of a prefix differ in their next hop.
        text = self("neighbor", neighbor, "adj-out", "-a", family)
        rows = re.findall(r"^\s+(\d+)\s+(\S+/\d+)\s+(\S+)", text, re.MULTILINE)
        ids = {(prefix, hop): int(number) for number, prefix, hop in rows}
        return [replace(r, path_id=ids.get((r.key, r.next_hop or ""), -1)) for r in routes]

    def received(self, neighbor: str, families: Iterable[str]) -> Counter[Route]:
        """What a neighbor has told it, before policy."""
        return self._rib(families, "neighbor", neighbor, "adj-in")

    def table(self, families: Iterable[str]) -> Counter[Route]:
        """The best paths of its own table."""
        return self._rib(families, "global", "rib", best=True)

    def _rib(self, families: Iterable[str], *words: str, best: bool = False) -> Counter[Route]:
        found: Counter[Route] = Counter()
        for family in families:
            told = json.loads(self(*words, "-a", family, "-j", status=(0, 1)))
            if "error" in told:
                continue
            paths = [path for of_nlri in told.values() for path in of_nlri]
            found.update(_route(family, path) for path in paths if path["best"] or not best)
        return found


_ORIGINS = ("i", "e", "u")
_SETS = {1: ("{", ",", "}"), 2: ("", " ", ""), 3: ("(", " ", ")"), 4: ("[", ",", "]")}
_WELL_KNOWN = {0xFFFFFF01: "no-export", 0xFFFFFF02: "no-advertise"}


def _route(family: str, path: Mapping[str, Any]) -> Route:
    nlri = path["nlri"]
    attributes = {a["type"]: a for a in path["attrs"]}
    hop = attributes.get(14, attributes.get(3, {})).get("nexthop")
    return Route(
        FAMILIES[family][1],
        *_key(family, nlri),
        next_hop=None if family == "ipv4-flowspec" else hop,
        origin=_ORIGINS[attributes[1]["value"]],
        as_path=_as_path(attributes.get(2, {"as_paths": []})["as_paths"]),
        med=attributes.get(4, {}).get("metric"),
        local_pref=attributes.get(5, {}).get("value"),
        communities=_sorted(map(_community, attributes.get(8, {}).get("communities", ()))),
        extended=_sorted(map(_extended, attributes.get(16, {}).get("value", ()))),
        large=_sorted(
            "{ASN}:{LocalData1}:{LocalData2}".format(**c)
            for c in attributes.get(32, {}).get("value", ())
        ),
        labels=tuple(nlri.get("labels", ())),
        more=tuple(_more(attributes)),
    )


def _sorted(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(words))


def _as_path(segments: list[dict[str, Any]]) -> str:
    texts = []
    for segment in segments:
        begin, between, end = _SETS[segment["segment_type"]]
        texts.append(begin + between.join(map(str, segment["asns"])) + end)
    return " ".join(texts)


def _community(value: int) -> str:
    return _WELL_KNOWN.get(value, f"{value >> 16}:{value & 0xFFFF}")


def _extended(community: Mapping[str, Any]) -> str:
    kind, subtype = community["type"], community["subtype"]
    if (kind, subtype) == (0x80, 6):
        return f"flowspec-rate:{community['as']}:{community['rate']:g}"
    name = "ES-import" if kind == 6 else {2: "RT", 3: "SoO"}[subtype]
    return f"{name}:{community['value']}"


def _more(attributes: Mapping[int, dict[str, Any]]) -> Iterable[tuple[str, str]]:
    if 26 in attributes:
        yield "aigp", str(attributes[26]["value"][0]["metric"])
    if 7 in attributes:
        yield "aggregator", f"{attributes[7]['as']}:{attributes[7]['address']}"
    if 22 in attributes:
        yield "pmsi_tunnel", ip_address(attributes[22]["tunnel-id"]).packed.hex()


def _key(family: str, nlri: Mapping[str, Any]) -> tuple[str, str]:
    """Key and route distinguisher."""
    if family == "evpn":
        value = nlri["value"]
        return key_of(_evpn(nlri["type"], value)), _rd(value["rd"])
    if family == "ipv4-flowspec":
        return key_of(dict(map(_component, nlri["value"]))), ""
    if family == "rtc":
        asn, _, target = nlri["prefix"].partition(":")
        return key_of({"origin_as": int(asn), "route_target": f"RT:{target}"}), ""
    return nlri["prefix"], _rd(nlri["rd"]) if "rd" in nlri else ""


def _rd(rd: Mapping[str, Any]) -> str:
    return "{type}:{admin}:{assigned}".format(**rd)


_EVPN_TYPES = {
    1: "ethernet-auto-discovery",
    2: "mac-ip",
    3: "inclusive-multicast",
    4: "ethernet-segment",
    5: "ip-prefix",
}


def _evpn(kind: int, value: Mapping[str, Any]) -> dict[str, object]:
    fields: dict[str, object] = {"route_type": _EVPN_TYPES[kind]}
    if "esi" in value:
        fields["esi"] = _segment(value["esi"])
    if "etag" in value:
        fields["ethernet_tag"] = value["etag"]
    fields |= {name: value[name] for name in ("mac", "ip", "prefix", "gateway") if name in value}
    vnis = value.get("labels", [value["label"]] if "label" in value else [])
    if vnis:
        fields |= {"labels": [vni >> 4 for vni in vnis], "vnis": vnis}
    return fields


def _segment(text: str) -> str:
    """Ethernet segment identifiers of types 0 (none) and 1 (LACP: RFC 7432 section 5)."""
    if text == "single-homed":
        return ":".join(["00"] * 10)
    found = re.fullmatch(r"ESI_LACP \| system mac (\S+), port key (\d+)", text)
    assert found, text
    return f"01:{found[1]}:{int(found[2]).to_bytes(2, 'big').hex(':')}:00"


_COMPONENTS = {1: "destination", 2: "source", 3: "protocol", 5: "dst_port", 6: "src_port"}
_OPERATORS = ("false", "=", ">", ">=", "<", "<=", "!=", "true")


def _component(component: Mapping[str, Any]) -> tuple[str, str]:
    name, value = _COMPONENTS[component["type"]], component["value"]
    if isinstance(value, dict):
        return name, value["prefix"]
    text = ""
    for item in value:
        joint = ("&" if item["op"] & 0x40 else "|") if text else ""
        text += f"{joint}{_OPERATORS[item['op'] & 7]}{item['value']}"
    return name, text
