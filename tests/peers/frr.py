"""FRR's bgpd alone, without zebra, as a router; its tables as `Route`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.peers.routes import Route, key_of
from tests.peers.speaker import Speaker, free_port, output

FAMILIES = {
    "ipv4 unicast": "ipv4 unicast",
    "ipv6 unicast": "ipv6 unicast",
    "ipv4 vpn": "vpnv4",
    "ipv6 vpn": "vpnv6",
    "l2vpn evpn": "evpn",
}
"""Names of the command line -> our name."""


class Frr(Speaker):
    """bgpd, with vtysh to command it. It listens on a free port of `address`."""

    def __init__(
        self, daemon: Path, client: Path, folder: Path, configuration: str, address: str
    ) -> None:
        super().__init__(folder, "bgpd")
        self.port = free_port()
        self._daemon, self._client, self._address = daemon, client, address
        self._file = folder / "bgpd.conf"
        self._file.write_text(configuration)

    def command(self) -> Sequence[str | Path]:
        # Without zebra and its privileges (-Z, -S), it neither reads nor writes outside the folder.
        return (
            self._daemon, "-Z", "-n", "-S", "-f", self._file, "-i", self.folder / "bgpd.pid",
            "-z", self.folder / "zserv", "-p", str(self.port), "-l", self._address, "-P", "0",
            "--vty_socket", self.folder, "--log", "stdout", "-M", "bmp",
        )  # fmt: skip

    def ready(self) -> bool:
        return "router-id" in self("show running-config", status=(0, 1))

    def __call__(self, *lines: str, status: Sequence[int] = (0,)) -> str:
        words = [word for line in lines for word in ("-c", line)]
        folder = ("--vty_socket", self.folder, "--config_dir", self.folder)
        return output(self._client, *folder, "-d", "bgpd", *words, status=status)

    def configure(self, *lines: str) -> None:
        """Enter lines of configuration."""
        said = self("configure terminal", *lines)
        assert "%" not in said, said

    def json(self, question: str) -> Any:
        return json.loads(self(question) or "{}")

    def paths(self, family: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """RD (empty outside VPNs), prefix and path of each route of a table."""
        if family == "l2vpn evpn":
            yield from _evpn_paths(self.json("show bgp l2vpn evpn route detail json"))
            return
        if "unicast" in family:
            for prefix, told in self.json(f"show bgp {family} json detail")["routes"].items():
                yield from (("", prefix, path) for path in told if "aspath" in path)
            return
        listed = self.json(f"show bgp {family} json").get("routes", {})
        for rd, prefixes in listed.get("routeDistinguishers", {}).items():
            for prefix in prefixes:
                shown = self.json(f"show bgp {family} {prefix} json")
                yield from ((rd, prefix, path) for path in shown[rd]["paths"])


def _evpn_paths(shown: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for rd, of_rd in shown.items():
        if not isinstance(of_rd, dict):
            continue
        for nlri, told in of_rd.items():
            if not isinstance(told, dict):
                continue
            paths = [path for listed in told["paths"] for path in listed]
            yield from ((rd, nlri, path | {"of": told}) for path in paths)


def table(router: Frr, self_hops: Mapping[str, str], *, identified: bool) -> Counter[Route]:
    """Its tables as told to a neighbor of its own AS: `self_hops` are its own addresses as a next
    hop, by family; with `identified`, paths of unicast families have their identifiers.
    """
    found: Counter[Route] = Counter()
    # Labels of its own routes are shown nowhere else.
    lines = re.findall(_LABELED, router("show running-config"))
    labels = {(prefix, rd): int(label) for prefix, rd, label in lines}
    for family, name in FAMILIES.items():
        for rd, nlri, path in router.paths(family):
            route = _route(name, rd, nlri, path, self_hops, identified=identified)
            if "vpn" in family and (label := labels.get((nlri, rd))):
                route = replace(route, labels=(label,))
            found[route] += 1
    return found


_LABELED = r"network (\S+) rd (\S+) label (\d+)"


def _route(
    family: str,
    rd: str,
    nlri: str,
    path: Mapping[str, Any],
    self_hops: Mapping[str, str],
    *,
    identified: bool,
) -> Route:
    hop = path["nexthops"][0]["ip"]
    is_evpn = family == "evpn"
    more = {"atomic_aggregate": "True" if path.get("atomicAggregate") else None}
    if "aggregatorAs" in path:
        more["aggregator"] = f"{path['aggregatorAs']}:{path['aggregatorId']}"
    return Route(
        family,
        key_of(_evpn(path)) if is_evpn else nlri,
        f"{0 if rd.partition(':')[0].isdecimal() else 1}:{rd}" if rd else "",
        path["addpathTxIdAll"] if identified and not rd else 0,
        next_hop=self_hops[family] if hop in ("0.0.0.0", "::") else hop,
        origin={"IGP": "i", "EGP": "e", "incomplete": "u"}[path["origin"]],
        as_path=path["aspath"]["string"].replace("Local", ""),
        med=path.get("metric"),
        local_pref=path.get("locPrf", 100),
        communities=_words(path, "community"),
        extended=tuple(
            sorted(w.replace("Rmac:", "router-MAC:") for w in _words(path, "extendedCommunity"))
        ),
        large=_words(path, "largeCommunity"),
        more=tuple((name, value) for name, value in more.items() if value),
    )


def _words(path: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(sorted(path.get(name, {"string": ""})["string"].split()))


def _evpn(path: Mapping[str, Any]) -> dict[str, object]:
    told = path["of"]
    vni = int(path["vni"])
    return {
        "route_type": "ip-prefix",
        "esi": ":".join(["00"] * 10),
        "gateway": "::" if ":" in told["ip"] else "0.0.0.0",
        "ethernet_tag": told["ethTag"],
        "prefix": f"{told['ip']}/{told['ipLen']}",
        "labels": [vni >> 4],
        "vnis": [vni],
    }
