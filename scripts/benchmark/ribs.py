"""Collectors of routes under measurement: how each is started, and what a session costs it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.processes import (
    PYTHON,
    TICK,
    Cost,
    FailedError,
    Server,
    free_port,
    free_tcp_port,
    tcp_sockets,
)
from benchmark.router import Announced, Routers
from benchmark.tools import RECEIVE_BUFFER, VIEWS, peer

LOOK_SECONDS = 0.1
IDLE_SHARE = 0.1
QUIET_SECONDS = 2.5
"""For so long a collector does nothing before it counts as done: longer than snapshots are apart.
"""
SETTLE_SECONDS = 300.0
ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RouteCollector:
    """A collector of routes: its command on a port of loopback, and what it says of itself."""

    name: str
    command: Callable[[Path, int], list[Any]]
    figures: Callable[[Server], dict[str, Any]] = field(default=lambda _: {})

    def serve(self, folder: Path) -> Server:
        """Start it. Raises MissingError, FailedError."""
        port = free_tcp_port()
        return Server(self.command(folder, port), port, folder, look=tcp_sockets)


@dataclass(frozen=True, slots=True)
class Load:
    """What it cost to take tables: `octets` of memory more than before, `peak` at most in all,
    `figures` of its own.
    """

    cost: Cost
    octets: int
    peak: int
    announced: Announced
    figures: dict[str, Any]


def settle(server: Server) -> tuple[float, float]:
    """Wait until everything received is worked off: CPU seconds so far, and the time (monotonic) of
    the last work.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    used, at = server.cpu(), time.monotonic()
    worked = at
    while worked + QUIET_SECONDS > at < deadline:
        time.sleep(LOOK_SECONDS)
        now_used, now = server.cpu(), time.monotonic()
        busy = now_used - used > IDLE_SHARE * (now - at) + TICK
        if busy or tcp_sockets(server.port).queued:
            worked = now
        used, at = now_used, now
    return used, worked


def load(collector: RouteCollector, folder: Path, routers: Routers, peers: int = 1) -> Load:
    """Have it take the tables of so many routers. What it loads at its first routes, and keeps,
    is left out. Raises MissingError, FailedError.
    """
    with collector.serve(folder) as server:
        done = loaded(collector, server, routers, peers)
        routers.leave()
        server.kill()
    return done


def loaded(collector: RouteCollector, server: Server, routers: Routers, peers: int) -> Load:
    """As `load`, of a collector that runs on, sessions up."""
    warm(server, routers)
    start, resident, begun = server.cpu(), server.resident(), time.monotonic()
    routers.connect(server.port, peers)
    announced = routers.announce()
    used, worked = settle(server)
    cost = Cost(used - start, worked - begun, server.resident())
    more = cost.rss - resident
    return Load(cost, more, server.peak(), announced, collector.figures(server))


def warm(server: Server, routers: Routers) -> None:
    """A few routes come and go."""
    routers.connect(server.port)
    routers.announce(few=True)
    settle(server)
    routers.leave()
    settle(server)


# -- ours ------------------------------------------------------------------------------------------


def _flowray(snapshot: str) -> Callable[[Path, int], list[Any]]:
    def command(folder: Path, port: int) -> list[Any]:
        settings = {
            "listen": {"bgp": {"address": f"127.0.0.1:{port}"}},
            "views": [VIEWS["grouped"]],
            "state": {"path": f"{folder}/state"},
            "routes": {"snapshot": snapshot},
        }
        path = folder / "flowray.yaml"
        path.write_text(json.dumps(settings, indent=1))  # JSON is YAML
        return [PYTHON, "-m", "benchmark.rib", path]

    return command


def figures(server: Server) -> dict[str, Any]:
    """What our group says of itself. Raises FailedError."""
    before = len(server.text().splitlines())
    server.signal(signal.SIGUSR1)
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        lines = server.text()
        if lines.endswith("\n") and len(lines.splitlines()) > before:
            found: dict[str, Any] = json.loads(lines.splitlines()[-1])
            return found
        time.sleep(LOOK_SECONDS)
    raise FailedError(f"no figures:\n{server.text()[-2000:]}")


# -- nfacctd ---------------------------------------------------------------------------------------


def nfacctd_bgp(port: int, peers: int) -> str:
    """Lines of nfacctd's configuration for its BGP daemon."""
    return f"""\
bgp_daemon: true
bgp_daemon_ip: 127.0.0.1
bgp_daemon_port: {port}
bgp_daemon_max_peers: {peers}
bgp_daemon_pipe_size: {RECEIVE_BUFFER}
"""


def _nfacctd(folder: Path, port: int) -> list[Any]:
    text = f"""\
daemonize: false
nfacctd_ip: 127.0.0.1
nfacctd_port: {free_port()}
plugins: print
aggregate: src_as, dst_as
print_refresh_time: 3600
print_output_file: {folder}/rows-%s.csv
{nfacctd_bgp(port, 10)}"""
    (folder / "nfacctd.conf").write_text(text)
    return [peer("nfacctd", "pmacct"), "-f", f"{folder}/nfacctd.conf"]


FLOWRAY = RouteCollector("flowray, a RIB group in-process", _flowray("1h"), figures)
FLOWRAY_PUBLISHING = RouteCollector("flowray, with a snapshot every 2 s", _flowray("2s"), figures)
NFACCTD = RouteCollector("nfacctd, bgp_daemon", _nfacctd)
