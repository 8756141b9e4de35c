"""A RIB group on free ports of the loopback, and routers that connect to it."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from flowray.rib.service import RouteService
from flowray.rib.streams import Stream
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.wire.bgp.capabilities import four_octet_as, multiprotocol
from flowray.wire.bgp.messages import KEEPALIVE
from tests.rib.bgp_peer import peer_open
from tests.wire.bgp import encode as enc

PATIENCE_S = 60
CAPABILITIES = (multiprotocol(1, 1), four_octet_as(65551))


def program(state: Path, **routes: Any) -> Program:
    """A configuration that listens for BGP and BMP on free ports and logs both."""
    streams = {"bgp_log": {"sinks": []}, "bmp_log": {"sinks": []}}
    content = {
        "listen": {"bgp": {"address": "127.0.0.1:0"}, "bmp": {"address": "127.0.0.1:0"}},
        "views": [{"name": "all", "keys": ["src_host"]}],
        "state": {"path": str(state)},
        "routes": {"streams": streams, "snapshot": "100ms", **routes},
    }
    return compile_settings(parse_settings(content, "test"), "test")


@dataclass
class Group:
    """A service and the rows of its streams."""

    service: RouteService
    sinks: dict[str, MemorySink] = field(default_factory=dict)

    def port(self, protocol: str) -> int:
        port: int = self.service.status()["listeners"][protocol]["port"]
        return port

    def rows(self, stream: str) -> list[dict[str, Any]]:
        tables = self.sinks[stream].tables.values()
        return [row for table in tables for row in table.to_pylist()]


@contextmanager
def group(of: Program) -> Iterator[Group]:
    """A running service; it is stopped at the end."""
    sinks = {name: MemorySink() for name in of.streams}
    streams = {name: Stream(name, [sink]) for name, sink in sinks.items()}
    made = RouteService(of, of.settings.route_groups[0], streams)
    made.start()
    try:
        yield Group(made, sinks)
    finally:
        made.stop()


class Router:
    """A router's BGP session, in blocking calls."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S, (source, 0))

    def establish(self, opened: bytes | None = None) -> None:
        self.socket.sendall((opened or peer_open(capabilities=CAPABILITIES)) + KEEPALIVE)
        self.message()
        self.message()

    def announce(self, prefixes: Sequence[str], *path: int, end: bool = False) -> None:
        nlri = b"".join(enc.prefix(prefix) for prefix in prefixes)
        self.socket.sendall(enc.update(attributes=enc.usual(*path), nlri=nlri))
        if end:
            self.socket.sendall(enc.end_of_rib())

    def message(self) -> bytes:
        header = self._exactly(19)
        return header + self._exactly(int.from_bytes(header[16:18]) - 19)

    def _exactly(self, n: int) -> bytes:
        octets = b""
        while len(octets) < n:
            more = self.socket.recv(n - len(octets))
            assert more, "the collector closed the connection"
            octets += more
        return octets

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
