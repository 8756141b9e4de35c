"""From a configuration to the actors that it asks for."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from actors.plan import Plan
from cluster.api import Api
from flowray.filesystems import is_uri
from flowray.settings.cluster import PLACEHOLDER
from flowray.settings.compile import Program
from flowray.settings.model import FileSink, Settings, State


def plan_of(program: Program, file: str, cores: int | None = None) -> Plan:
    """The plan of a configuration."""
    settings = absolute(program.settings)
    shards = max((cores or os.cpu_count() or 1) - 1, 1)
    places = tuple((plan.name, p) for plan in program.views for p in range(plan.partitions))
    return Plan(settings, file, places, shards, Api(settings, file))


def absolute(settings: Settings) -> Settings:
    """The same with every local path absolute: actors have working directories of their own."""
    listen = settings.listen
    if listen.bgp is not None and listen.bgp.passwords is not None:
        passwords = {"passwords": listen.bgp.passwords.absolute()}
        listen = listen.model_copy(update={"bgp": listen.bgp.model_copy(update=passwords)})
    join = settings.routes.join
    files = {name: path.absolute() for name, path in join if isinstance(path, Path)}
    rpki, archive = settings.routes.rpki, settings.routes.archive
    if rpki.roas is not None:
        rpki = rpki.model_copy(update={"roas": rpki.roas.absolute()})
    if archive is not None:
        archive = archive.model_copy(update={"path": archive.path.absolute()})
    told = {"join": join.model_copy(update=files), "rpki": rpki, "archive": archive}
    routes = settings.routes.model_copy(update=told)
    redis = settings.redis
    if redis is not None:
        files = {name: path.absolute() for name, path in redis if isinstance(path, Path)}
        redis = redis.model_copy(update=files)
    kept = settings.archive
    if kept is not None:
        places = {"path": _absolute_location(kept.path), "spool": kept.spool.absolute()}
        kept = kept.model_copy(update=places)
    maps = {name: path.absolute() for name, path in settings.maps if isinstance(path, Path)}
    return settings.model_copy(
        update={
            "listen": listen,
            "routes": routes,
            "redis": redis,
            "state": _absolute_state(settings.state),
            "archive": kept,
            "maps": settings.maps.model_copy(update=maps),
            "sinks": {name: _absolute_sink(sink) for name, sink in settings.sinks.items()},
        }
    )


def _absolute_state(state: State) -> State:
    update: dict[str, Any] = {"path": _absolute_location(state.path)}
    if state.ring is not None:
        update["ring"] = state.ring.expanduser().absolute()
    if state.snapshots is not None and state.snapshots.path is not None:
        path = {"path": _absolute_location(state.snapshots.path)}
        update["snapshots"] = state.snapshots.model_copy(update=path)
    if state.start_from is not None and "/" in state.start_from:
        update["start_from"] = _absolute_location(state.start_from)
    return state.model_copy(update=update)


def _absolute_sink(sink: FileSink) -> FileSink:
    return sink.model_copy(update={"path": _absolute_location(sink.path)})


def _absolute_location(location: str) -> str:
    if is_uri(location):
        return location
    return str(Path(location).expanduser().absolute())


_ROUTE_PORTS = ("bgp", "bmp", "looking_glass")
"""Options of a group of routes that are addresses to listen on."""


def with_ports(settings: Settings) -> Settings:
    """The same with a free port in place of each port 0: all shards must share one, and who starts
    again wants the same.
    """
    listen = settings.listen
    update: dict[str, Any] = {"flows": [_with_port(url) for url in listen.flows]}
    for protocol in ("bgp", "bmp"):
        if (one := getattr(listen, protocol)) is not None:
            address = _with_tcp_port(one.address)
            update[protocol] = one.model_copy(update={"address": address})
    groups = [
        group.model_copy(
            update={p: _with_tcp_port(a) for p in _ROUTE_PORTS if (a := getattr(group, p))}
        )
        for group in settings.routes.groups
    ]
    glass = settings.routes.looking_glass
    gateway = {name: _with_tcp_port(a) for name, a in settings.gateway if a}
    changed = {"groups": groups, "looking_glass": glass and _with_tcp_port(glass)}
    routes = settings.routes.model_copy(update=changed)
    rules = [
        rule.model_copy(update={"listen": [_with_port(url) for url in rule.listen]})
        for rule in settings.cluster.nodes
    ]
    return settings.model_copy(
        update={
            "listen": listen.model_copy(update=update),
            "routes": routes,
            "gateway": settings.gateway.model_copy(update=gateway),
            "cluster": settings.cluster.model_copy(update={"nodes": rules}),
        }
    )


def with_ports_of(settings: Settings, running: Settings) -> Settings:
    """The same with the ports of what runs in place of each port 0 of an address that it has."""
    listen, before = settings.listen, running.listen
    update: dict[str, Any] = {"flows": _ports_of(listen.flows, before.flows)}
    for protocol in ("bgp", "bmp"):
        one, other = getattr(listen, protocol), getattr(before, protocol)
        if one is not None and other is not None:
            (address,) = _ports_of([one.address], [other.address])
            update[protocol] = one.model_copy(update={"address": address})
    rules = settings.cluster.nodes
    if len(rules) == len(running.cluster.nodes):
        rules = [
            rule.model_copy(update={"listen": _ports_of(rule.listen, other.listen)})
            for rule, other in zip(rules, running.cluster.nodes, strict=True)
        ]
    return settings.model_copy(
        update={
            "listen": listen.model_copy(update=update),
            "cluster": settings.cluster.model_copy(update={"nodes": rules}),
        }
    )


def _ports_of(urls: list[str], running: list[str]) -> list[str]:
    """Addresses, with the running one's port where the same place has port 0."""
    if len(urls) != len(running):
        return urls
    return [
        other if url.endswith(":0") and other.startswith(url.removesuffix("0")) else url
        for url, other in zip(urls, running, strict=True)
    ]


def _with_tcp_port(address: str) -> str:
    return _with_port(f"tcp://{address}", socket.SOCK_STREAM).removeprefix("tcp://")


def _with_port(url: str, kind: int = socket.SOCK_DGRAM) -> str:
    parts = urlsplit(url)
    if parts.port:
        return url
    host = parts.hostname or "::"
    if PLACEHOLDER.search(host):
        # Which address that will be is known on the node alone: free on all here is a good guess.
        return url[: -len(":0")] + f":{_free_port('::', kind)}"
    port = _free_port(host, kind)
    return f"{parts.scheme}://[{host}]:{port}" if ":" in host else f"{parts.scheme}://{host}:{port}"


def _free_port(host: str, kind: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port
