"""pydantic models of what flowray.yaml says of routes: where sessions are accepted, what becomes of
the tables, and how flows join them.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from flowray.rib.peers import PolicyView
from flowray.settings.base import Model, Name, Prefix, TcpAddress, misplaced
from flowray.settings.quantities import Duration, Octets

SECOND = 1_000_000_000

MOST_FALL_BACKS = 16


def _router_id(value: str) -> str:
    parts = value.split(".")
    if len(parts) != 4 or not all(p.isdecimal() and int(p) < 256 for p in parts):
        raise ValueError("four octets, such as 192.0.2.1")
    return value


def _dump_period(value: int) -> int:
    if not 60 * SECOND <= value <= 86400 * SECOND or (86400 * SECOND) % value:
        raise ValueError("1m to 1d, a part of a day, such as 1h")
    return value


class BgpListen(Model):
    """The BGP speaker that routers connect to. It never announces anything."""

    address: TcpAddress = "127.0.0.1:1179"
    local_as: int = Field(default=0, ge=0, lt=1 << 32)
    router_id: Annotated[str, AfterValidator(_router_id)] = "192.0.2.1"
    allow: list[Prefix] = []
    max_peers: int = Field(default=1000, ge=1)
    max_prefixes: int = Field(default=3_000_000, ge=1)
    warn_prefixes: int = Field(default=80, ge=1, le=100)
    hold_time: Annotated[Duration, Field(ge=3 * SECOND, le=65535 * SECOND)] = 180 * SECOND
    add_path: bool = True
    passwords: Path | None = None
    receive_buffer: Octets = 4 << 20


class BmpListen(Model):
    """The BMP station that routers connect to."""

    address: TcpAddress = "127.0.0.1:11019"
    allow: list[Prefix] = []
    max_peers: int = Field(default=1000, ge=1)
    proxy_protocol: bool = False
    max_message: Octets = 1 << 20
    receive_buffer: Octets = 4 << 20


class RouteEncoding(Model):
    """How rows of routes are written; see `flowray.sinks.encoding.Encoding`."""

    records: Literal["plain", "null-filled"] = "plain"
    labels: Literal["text", "map"] = "text"
    as_path: Literal["text", "list"] = "text"
    communities: Literal["text", "list"] = "text"
    timestamps: Literal["epoch", "rfc3339", "text"] = "epoch"
    precision: Literal["s", "ms", "us", "ns"] = "us"
    writer_id: str = ""


class RouteLog(Model):
    """Every message that changes a table, as it comes."""

    sinks: list[Name] = []
    encoding: RouteEncoding = RouteEncoding()


class RouteDump(RouteLog):
    """Whole tables at intervals, peers spread over `slots` of them."""

    every: Annotated[Duration, AfterValidator(_dump_period)] = 3600 * SECOND
    slots: int = Field(default=1, ge=1, le=3600)


class RouteStreams(Model):
    """Streams of both protocols."""

    bgp_log: RouteLog | None = None
    bmp_log: RouteLog | None = None
    bgp_dump: RouteDump | None = None
    bmp_dump: RouteDump | None = None

    @property
    def configured(self) -> dict[str, RouteLog]:
        """Those that are asked for, by name."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: stream for name, stream in found.items() if stream is not None}


_VIEW_NAMES = {view.label: view for view in PolicyView}


def _policy_view(value: str) -> str:
    if value not in _VIEW_NAMES:
        raise ValueError(", ".join(_VIEW_NAMES))
    return value


def _pattern(value: str) -> str:
    if not value or any(c.isspace() or c == "," for c in value):
        raise ValueError("a community or part of it, . for any character, such as 64496:1..")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]


class CommunityPatterns(Model):
    """Communities that are shown, and how many of each kind at most (0: all)."""

    standard: list[Pattern] = []
    extended: list[Pattern] = []
    large: list[Pattern] = []
    most: int = Field(default=0, ge=0)


class CommunityAs(Model):
    """Communities that tell AS numbers."""

    standard: list[Pattern] = []
    large: list[Pattern] = []


class FollowNextHops(Model):
    """Next hops that are followed."""

    prefixes: list[Prefix] = []
    hops: int = Field(default=20, ge=1, le=255)
    external: bool = False


GLOBAL = "global"


def _fall_back(value: str) -> str:
    if value == GLOBAL:
        return value
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{GLOBAL}, or the address of a router") from None


class Join(Model):
    """Whose AS numbers and networks flows have, and where their routes are looked up."""

    as_numbers: Literal["flows", "routes", "longest"] = "longest"
    networks: Literal["flows", "routes", "longest"] = "longest"
    networks_file: Path | None = None
    peer_source_as: bool = False
    skip_confederations: bool = False
    fall_back: list[Annotated[str, AfterValidator(_fall_back)]] = Field(
        default=[], max_length=MOST_FALL_BACKS
    )
    follow_next_hops: FollowNextHops = FollowNextHops()
    communities: CommunityPatterns = CommunityPatterns()
    community_as: CommunityAs = CommunityAs()
    as_path_radius: int = Field(default=0, ge=0)
    views: list[Annotated[str, AfterValidator(_policy_view)]] = [
        "adj-rib-in-post",
        "loc-rib",
        "adj-rib-in-pre",
    ]
    agents: Path | None = None

    @model_validator(mode="after")
    def _file_used(self) -> Join:
        if self.networks_file is not None and "longest" not in (self.as_numbers, self.networks):
            allowed = "a file only with as_numbers or networks: longest"
            raise misplaced("networks_file", str(self.networks_file), allowed)
        return self

    @property
    def policy_views(self) -> tuple[PolicyView, ...]:
        """The policy views, most preferred first."""
        return tuple(_VIEW_NAMES[name] for name in self.views)


class RouteGroup(Model):
    """Routers whose routes one actor holds: those that connect to these addresses. All else is as
    in `listen.bgp` and `listen.bmp`.
    """

    name: Name
    bgp: TcpAddress | None = None
    bmp: TcpAddress | None = None
    looking_glass: TcpAddress | None = None
    labels: dict[str, str] = {}
    parts: int = Field(default=1, ge=1, le=64)
    _part: int = PrivateAttr(default=0)

    @property
    def part(self) -> int:
        """Which of its parts this is, from 0 on."""
        return self._part

    def divided(self) -> list[RouteGroup]:
        """What is an actor each: the group itself, or its parts, NAME-0 and so on, which share
        addresses but have looking glasses on ports of their own, one after the other.
        """
        if self.parts == 1:
            return [self]
        return [self._divided(part) for part in range(self.parts)]

    def _divided(self, part: int) -> RouteGroup:
        glass = self.looking_glass
        if glass is not None:
            host, _, port = glass.rpartition(":")
            glass = f"{host}:{int(port) + part}"
        one = self.model_copy(update={"name": f"{self.name}-{part}", "looking_glass": glass})
        one._part = part  # noqa: SLF001 - its own class
        return one


class RouteHistory(Model):
    """Tables that are kept to compare with: the first that are saved in each period."""

    every: Annotated[Duration, Field(ge=60 * SECOND)] = 3600 * SECOND
    keep: int = Field(default=24, ge=0, le=100_000)


def _host_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError("HOST:PORT, such as rpki.example.net:3323")
    return value


HostPort = Annotated[str, AfterValidator(_host_port)]


class Rpki(Model):
    """Where the payloads come from that routes are validated with (RFC 6811): a file as validators
    write it, or a cache that is asked over RTR (RFC 8210), which replays do not ask.
    """

    roas: Path | None = None
    cache: HostPort | None = None

    @model_validator(mode="after")
    def _one(self) -> Rpki:
        if self.roas is not None and self.cache is not None:
            raise misplaced("cache", str(self.cache), "a cache or a file, not both")
        return self

    @property
    def used(self) -> bool:
        """Whether routes are validated."""
        return self.roas is not None or self.cache is not None


class Archive(Model):
    """MRT files of what BGP sessions told, a new one each period."""

    path: Path
    rotate: Annotated[Duration, Field(ge=SECOND)] = 900 * SECOND


class Routes(Model):
    """Tables of routes, their streams, and the join."""

    groups: list[RouteGroup] = []
    streams: RouteStreams = RouteStreams()
    next_hops: Literal["received", "shared"] = "received"
    rpki: Rpki = Rpki()
    archive: Archive | None = None
    join: Join = Join()
    snapshot: Annotated[Duration, Field(ge=100_000_000)] = 2 * SECOND
    stale_for: Duration = 600 * SECOND
    save: Annotated[Duration, Field(ge=SECOND)] = 180 * SECOND
    history: RouteHistory = RouteHistory()
    looking_glass: TcpAddress | None = "127.0.0.1:11080"
