"""From a configuration to the actors that it asks for."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from actors.plan import Plan
from flowray.settings.compile import Program
from flowray.settings.model import FileSink, Settings


def plan_of(program: Program, file: str, cores: int | None = None) -> Plan:
    """The plan of a configuration; `shards: auto` is one a core less one, at least one."""
    settings = absolute(program.settings)
    wanted = settings.cluster.shards
    shards = max((cores or os.cpu_count() or 1) - 1, 1) if wanted == "auto" else wanted
    places = tuple((plan.name, p) for plan in program.views for p in range(plan.partitions))
    return Plan(settings, file, places, shards)


def absolute(settings: Settings) -> Settings:
    """The same with every local path absolute: actors have working directories of their own."""
    maps = {name: path.absolute() for name, path in settings.maps if isinstance(path, Path)}
    return settings.model_copy(
        update={
            "state": settings.state.model_copy(update={"path": settings.state.path.absolute()}),
            "maps": settings.maps.model_copy(update=maps),
            "sinks": {name: _absolute_sink(sink) for name, sink in settings.sinks.items()},
        }
    )


def _absolute_sink(sink: FileSink) -> FileSink:
    if "://" in sink.path:
        return sink
    return sink.model_copy(update={"path": str(Path(sink.path).expanduser().absolute())})


def with_ports(settings: Settings) -> Settings:
    """The same with a free port in place of each port 0: all shards must share one."""
    flows = [_with_port(url) for url in settings.listen.flows]
    listen: dict[str, Any] = {"listen": settings.listen.model_copy(update={"flows": flows})}
    return settings.model_copy(update=listen)


def _with_port(url: str) -> str:
    parts = urlsplit(url)
    if parts.port:
        return url
    host = parts.hostname or "::"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    return f"udp://[{host}]:{port}" if ":" in host else f"udp://{host}:{port}"
