"""`flowray demo`: generated exporters in a process of their own, everything else as in `up`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from cluster.accounts import live_problems
from cluster.live import Live
from cluster.look import rows_table
from cluster.up import report, started
from flowray.errors import ConfigError
from flowray.generate.population import LOCAL_AS
from flowray.ingest.ledger import totals
from flowray.live.newest import NewestRows
from flowray.settings.compile import Program, compile_settings
from flowray.settings.defaults import DEFAULT
from flowray.settings.load import parse_settings
from flowray.settings.quantities import duration_ns

VIEW, ROWS, BY = "talkers", 10, "bytes"
TERMINAL_SECONDS, PIPE_SECONDS = 1.0, 5.0
PIPE_WIDTH = 120
EXPORTERS = 7
ROUTES = {"some": 10_000, "full": 1_000_000}
"""Routes of IPv4 that each exporter announces by BGP."""
TALKERS = ["src_host", "dst_host", "proto", "dst_port", "src_as", "dst_as", "peer_dst_ip"]
"""Keys of the demo's table: as many as a terminal has room for, those of routes among them."""
END_SECONDS = 20.0


def run(duration: str, rate: int, routes: str = "some", *, as_json: bool) -> None:
    """Everything on free loopback ports. Ends after `duration`, or at Ctrl-C; exit code 1 if the
    ledger does not balance or what was sent is not what was committed.
    """
    seconds = _seconds(duration)
    if routes not in ROUTES:
        raise ConfigError("demo", "--routes", routes, " or ".join(ROUTES))
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="flowray-demo-") as state:
        program = _program(Path(state))
        with started(program, "demo", None, stop) as live:
            with _exporters(live, rate, ROUTES[routes]) as exporters:
                _watch(live, program, stop, seconds, quiet=as_json)
                sent = _end(exporters)
            end = live.drain()
    end["sent"] = sent
    _compare(sent, end)
    report(end, as_json=as_json)
    if end["problems"]:
        sys.exit(1)


def _seconds(duration: str) -> float:
    if not duration:
        return float("inf")
    try:
        return duration_ns(duration) / 1e9
    except ValueError as error:
        raise ConfigError("demo", "--for", duration, str(error)) from None


def _program(state: Path) -> Program:
    content = {
        **DEFAULT,
        "views": [_with_routes(view) for view in DEFAULT["views"]],
        "listen": {
            "flows": ["udp://127.0.0.1:0", "udp://127.0.0.1:0"],
            # In a container /dev/shm often has 64 MiB.
            "ring": "16MiB",
            "bgp": {"address": "127.0.0.1:0", "local_as": LOCAL_AS},
        },
        "state": {"path": str(state)},
    }
    return compile_settings(parse_settings(content, "demo"), "demo")


def _with_routes(view: dict[str, Any]) -> dict[str, Any]:
    return view if view["name"] != VIEW else {**view, "keys": TALKERS}


# -- the exporters ---------------------------------------------------------------------------------


@contextmanager
def _exporters(live: Live, rate: int, routes: int) -> Iterator[subprocess.Popen[str]]:
    listen = live.plan.settings.listen
    assert listen.bgp is not None
    flows, sflow = (url.removeprefix("udp://") for url in listen.flows)
    command = [
        *(sys.executable, "-m", "flowray.generate.live", "--to", flows, "--sflow-to", sflow),
        *("--rate", str(rate), "--exporters", str(EXPORTERS)),
        *("--bgp-to", listen.bgp.address, "--routes", str(routes)),
    ]
    # In a session of its own: Ctrl-C is for us, and we end it in order.
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _end(process: subprocess.Popen[str]) -> dict[str, int]:
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=END_SECONDS)
    sent: dict[str, int] = json.loads(output.splitlines()[-1])
    return sent


def _compare(sent: dict[str, int], end: dict[str, Any]) -> None:
    """What was sent must be there: all of it, but what the kernel says it dropped."""
    lost = sent["datagrams"] - end["datagrams"] - end["kernel_drops"]
    if lost:
        end["problems"].append(f"{lost} datagrams sent are neither received nor dropped")
    if not end["kernel_drops"]:
        got = {"records": end["records"], **{n: end["committed"][VIEW][n] for n in ("packets", BY)}}
        end["problems"] += [
            f"{sent[name]} {name} sent, {n} committed" for name, n in got.items() if sent[name] != n
        ]
    end["balanced"] = not end["problems"]


# -- the screen ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Pulse:
    """Rates between two looks."""

    at: float = field(default_factory=time.monotonic)
    seen: dict[str, int] = field(default_factory=dict)

    def rates(self, now: dict[str, int]) -> dict[str, float]:
        """Per second since the last call."""
        moment = time.monotonic()
        passed = moment - self.at
        rates = {k: (n - self.seen.get(k, 0)) / passed for k, n in now.items()}
        self.at, self.seen = moment, now
        return rates


def _watch(
    live: Live, program: Program, stop: threading.Event, seconds: float, *, quiet: bool
) -> None:
    """Show what comes in until the time is over or `stop` is set."""
    deadline = time.monotonic() + seconds
    console = Console(stderr=True)
    full = console.is_terminal and not quiet
    if not console.is_terminal:
        console = Console(stderr=True, width=PIPE_WIDTH)
    screen = Screen(console=console, screen=True, auto_refresh=False) if full else None
    pulse = Pulse()
    with screen or nullcontext():
        while not _over(stop, deadline, TERMINAL_SECONDS if full else PIPE_SECONDS):
            if quiet:
                continue
            page = _page(live, program, pulse)
            if screen is not None:
                screen.update(page, refresh=True)
            else:
                console.print(page)


def _over(stop: threading.Event, deadline: float, pause: float) -> bool:
    """Wait for the next look; whether it is time to end."""
    left = deadline - time.monotonic()
    return stop.wait(max(0.0, min(pause, left))) or time.monotonic() >= deadline


def _page(live: Live, program: Program, pulse: Pulse) -> Group:
    import ray

    from actors.newest import ask_aggregators

    ledger = ray.get(live.supervisor.ledger.remote(), timeout=30)
    status = live.status()
    sums = totals(ledger)
    drops = sum(s.get("kernel_drops", 0) for s in status["shards"].values())
    rates = pulse.rates({name: sums.get(name, 0) for name in ("datagrams", "records")})
    wrong = live_problems(ledger)
    found = NewestRows(program, ask_aggregators)(VIEW, ROWS, BY)
    line = Text(
        f"{sums.get('datagrams', 0):,} datagrams ({rates['datagrams']:,.0f}/s),"
        f" {sums.get('records', 0):,} records ({rates['records']:,.0f}/s) of"
        f" {len(ledger['exporters'])} exporters, {drops} dropped by the kernel"
    )
    balance = Text("; ".join(wrong) or "ledger balances", style="red" if wrong else "green")
    table = rows_table(VIEW, found) if found else Table(title="waiting for the first flows")
    return Group(table, line, balance, *_dashboard(live))


def _dashboard(live: Live) -> list[Text]:
    return [Text(f"Ray dashboard: {live.dashboard}", style="dim")] if live.dashboard else []
