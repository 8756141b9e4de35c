"""BIRD as a router: static routes that it tells us, and its tables as `Route`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path

from tests.peers.routes import Route
from tests.peers.speaker import Speaker, free_port, output

FAMILIES = {
    "master4": "ipv4 unicast",
    "master6": "ipv6 unicast",
    "vpns4": "vpnv4",
    "vpns6": "vpnv6",
}
"""Tables -> our name of their family."""

_CHANNELS = {"master4": "ipv4", "master6": "ipv6", "vpns4": "vpn4 mpls", "vpns6": "vpn6 mpls"}
_OPTIONS = {
    "master4": "add paths tx; next hop keep;",
    "master6": "add paths tx; next hop keep; next hop address 2001:db8::2;",
    "vpns4": "next hop address 192.0.2.2;",
    "vpns6": "next hop address 2001:db8::2;",
}

SELF = {
    "master4": "127.0.0.2",
    "master6": "2001:db8::2",
    "vpns4": "192.0.2.2",
    "vpns6": "2001:db8::2",
}
"""Next hops of routes that do not give one."""

IMPLICIT_NULL = 3

Static = Mapping[tuple[str, int], Sequence[str]]
"""Routes by table; of one table and number they have different prefixes."""


class Bird(Speaker):
    """bird, with birdc to command it. `asn` is its AS number and ours."""

    def __init__(
        self, daemon: Path, client: Path, folder: Path, port: int, routes: Static
    ) -> None:  # fmt: skip
        super().__init__(folder, "bird")
        self._daemon, self._client, self._port = daemon, client, port
        self._listens = free_port()
        self._control, self._file = folder / "bird.ctl", folder / "bird.conf"
        self._configure(routes)

    def command(self) -> Sequence[str | Path]:
        return self._daemon, "-f", "-c", self._file, "-s", self._control

    def ready(self) -> bool:
        return "is up" in self("show status", status=(0, 1))

    def __call__(self, question: str, status: Sequence[int] = (0,)) -> str:
        return output(self._client, "-s", self._control, question, status=status)

    def change(self, routes: Static) -> None:
        """Have other routes from now on."""
        self._configure(routes)
        said = self("configure")
        assert "Reconfigur" in said, said

    def _configure(self, routes: Static) -> None:
        statics = "".join(
            f"protocol static {table}_{number} {{\n{_CHANNELS[table].split()[0]} "
            f"{{ table {table}; }};\n" + "".join(f"route {r};\n" for r in listed) + "}\n"
            for (table, number), listed in routes.items()
        )
        channels = "".join(
            f"{_CHANNELS[table]} {{ table {table}; import none; export all; {_OPTIONS[table]} }};\n"
            for table in FAMILIES
        )
        self._file.write_text(
            f"""log stderr all;
router id 198.51.100.2;
protocol device {{ }}
ipv4 table master4;
ipv6 table master6;
vpn4 table vpns4;
vpn6 table vpns6;
{statics}
protocol bgp collector {{
local 127.0.0.2 port {self._listens} as 65001;
neighbor 127.0.0.1 port {self._port} as 65001;
multihop;
connect delay time 1;
connect retry time 1;
{channels}}}
"""
        )

    def told(self) -> Counter[Route]:
        """Its tables, as it tells them a neighbor of its own AS."""
        found: Counter[Route] = Counter()
        for table in FAMILIES:
            shown = self(f"show route table {table} all", status=(0, 1))
            found.update(_routes(table, shown.splitlines()))
        return found


_PATH = re.compile(r"(?:(\S+ )?(\S+/\d+)\s+|\s+)(blackhole|unicast) \[")
_ATTRIBUTE = re.compile(r"\t(?:BGP\.)?(\w+): (.*)")


def _routes(table: str, lines: Iterable[str]) -> Iterator[Route]:
    rd = key = ""
    told: dict[str, str] | None = None
    for line in lines:
        if path := _PATH.match(line):
            if told is not None:
                yield _route(table, rd, key, told)
            if path[2]:
                rd, key = (path[1] or "").strip(), path[2]
            told = {}
        elif (attribute := _ATTRIBUTE.match(line)) and told is not None:
            told[attribute[1]] = attribute[2]
    if told is not None:
        yield _route(table, rd, key, told)


def _route(table: str, rd: str, key: str, told: Mapping[str, str]) -> Route:
    more = {"atomic_aggregate": "True" if "atomic_aggr" in told else None}
    if "aggregator" in told:
        address, asn = re.match(r"(\S+) AS(\d+)", told["aggregator"]).groups()  # type: ignore[union-attr]
        more["aggregator"] = f"{asn}:{address}"
    return Route(
        FAMILIES[table],
        str(ip_network(key)),
        f"{0 if rd.partition(':')[0].isdecimal() else 1}:{rd}" if rd else "",
        next_hop=told.get("next_hop", SELF[table]),
        origin={"IGP": "i", "EGP": "e", "Incomplete": "u"}[told.get("origin", "IGP")],
        as_path=_as_path(told.get("as_path", "")),
        med=_number(told.get("med")),
        local_pref=_number(told.get("local_pref", "100")),
        communities=_communities(told.get("community", "")),
        extended=_targets(told.get("ext_community", "")),
        large=_communities(told.get("large_community", "")),
        labels=(IMPLICIT_NULL,) if rd else (),
        more=tuple((name, value) for name, value in sorted(more.items()) if value),
    )


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _as_path(text: str) -> str:
    """Sets are written `{1 2}`."""
    return re.sub(r"\{([^}]*)\}", lambda m: "{" + ",".join(m[1].split()) + "}", text)


def _communities(text: str) -> tuple[str, ...]:
    """`(65000,1) (65000,2)` as texts with colons."""
    listed = re.findall(r"\(([^)]*)\)", text)
    return tuple(sorted(re.sub(r",\s*", ":", one) for one in listed))


def _targets(text: str) -> tuple[str, ...]:
    names = {"rt": "RT", "ro": "SoO"}
    split = (one.partition(":") for one in _communities(text))
    return tuple(sorted(f"{names[name]}:{value}" for name, _, value in split))
