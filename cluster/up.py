"""`flowray up`, `down` and `drain`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

from cluster.live import Live, actor_names, running, summary
from cluster.reload import apply, compared
from cluster.replay import load_program
from cluster.runtime import NotRunningError, Running, forget, joined_runtime, own_runtime
from cluster.state import reached, seeded
from cluster.topology import absolute, plan_of, with_ports
from flowray.errors import FlowrayError
from flowray.filesystems import shown
from flowray.settings.compile import Program, compile_settings
from flowray.settings.model import Settings

LOOK_SECONDS = 0.5
DOWN_SECONDS = 120.0


class AlreadyRunningError(FlowrayError):
    """The state path is in use."""


class DrainError(FlowrayError):
    """A node cannot be emptied."""


def up(
    config: Path | None, address: str | None, from_state: str | None = None, *, as_json: bool
) -> None:
    """Start, stay until a signal or `flowray down`, drain, print the summary."""
    program = load_program(config)
    stop, again = threading.Event(), threading.Event()
    signal.signal(signal.SIGHUP, lambda *_: again.set())
    with started(program, str(config or "built-in"), address, stop, from_state) as live:
        if not as_json:
            for line in _lines(live.wait_ready(), live.plan.settings):
                typer.echo(line, err=True)
        while not stop.wait(LOOK_SECONDS) and not live.stopping():
            if again.is_set():
                again.clear()
                _reload(live, config)
        if not as_json:
            typer.echo("draining", err=True)
        end = live.drain()
    report(end, as_json=as_json)


def _reload(live: Live, config: Path | None) -> None:
    """Go on with what the file says now; if that cannot be, as before."""
    try:
        settings, found = compared(live.supervisor, absolute(load_program(config).settings))
        apply(live.supervisor, settings, str(config or "built-in"))
    except FlowrayError as error:
        typer.echo(f"flowray: {error}", err=True)
        return
    for line in found.lines():
        typer.echo(line, err=True)


@contextmanager
def started(
    program: Program,
    file: str,
    address: str | None,
    stop: threading.Event,
    from_state: str | None = None,
) -> Iterator[Live]:
    """A flowray that runs and receives, on a Ray of its own or on the one at `address`.

    SIGINT and SIGTERM set `stop`; a second one interrupts. Raises AlreadyRunningError, StartError.
    """
    settings = with_ports(absolute(program.settings))
    _claim(settings)
    reached(settings)
    settings = seeded(settings, from_state)
    plan = plan_of(compile_settings(settings, file), file)
    where = address or os.environ.get("RAY_ADDRESS") or settings.cluster.address
    runtime = joined_runtime(where) if where else own_runtime(settings)
    with runtime as ray_runtime:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt(stop))
        try:
            with running(plan) as live:
                live.dashboard = ray_runtime.dashboard
                ray_runtime.write(settings)
                live.wait_ready()
                yield live
        finally:
            forget(settings)


def _interrupt(stop: threading.Event) -> Any:
    def handle(number: int, frame: object) -> None:
        del number, frame
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    return handle


def _claim(settings: Settings) -> None:
    try:
        other = Running.read(settings).pid
    except NotRunningError:
        return
    if other != os.getpid() and _alive(other):
        raise AlreadyRunningError(f"process {other} runs with {shown(settings.state.path)} already")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lines(status: dict[str, Any], settings: Settings) -> Iterator[str]:
    for name, node in status["nodes"].items():
        shards = node["wanted_shards"]
        where = f" on {name}" if len(status["nodes"]) > 1 else ""
        for url in node["listen"]:
            yield f"listening on {url}{where}, {shards} shard{'s' if shards > 1 else ''}"
    yield from status["waiting"]
    for group in settings.route_groups:
        for protocol, address in (("bgp", group.bgp), ("bmp", group.bmp)):
            if address is not None:
                yield f"listening on {protocol}://{address}, routes of group {group.name}"
        if group.looking_glass is not None:
            yield f"looking glass of group {group.name} on {group.looking_glass}"
    for protocol, address in settings.gateway:
        if address is not None:
            yield f"gateway on {protocol}://{address}"
    for name in status["aggregators"]:
        yield f"{name} aggregates"
    yield "ready; stop with Ctrl-C or flowray down"


def report(end: dict[str, Any], *, as_json: bool) -> None:
    """The summary of a run: one line for people, one of JSON."""
    for problem in end["problems"]:
        typer.echo(f"flowray: the ledger does not balance: {problem}", err=True)
    if not as_json:
        typer.echo(
            f"{end['datagrams']} datagrams, {end['records']} records, {end['rows']} rows,"
            f" {end['kernel_drops']} dropped by the kernel, in {end['seconds']:.1f} s",
            err=True,
        )
    typer.echo(json.dumps(end))


def down(config: Path | None, *, as_json: bool) -> None:
    """Stop what runs: it drains and ends."""
    settings = absolute(load_program(config).settings)
    where = Running.read(settings)
    if not _alive(where.pid):
        _end_orphan(settings, where, as_json=as_json)
        return
    with joined_runtime(where.address, where.token_path):
        import ray

        from actors.naming import NAMESPACE, SUPERVISOR

        with suppress(ValueError):
            ray.get(ray.get_actor(SUPERVISOR, NAMESPACE).request_stop.remote(), timeout=30)
    deadline = time.monotonic() + DOWN_SECONDS
    while Running.path(settings).exists() and _alive(where.pid):
        if time.monotonic() > deadline:
            typer.echo(f"flowray: process {where.pid} has not ended", err=True)
            sys.exit(1)
        time.sleep(LOOK_SECONDS)
    typer.echo(json.dumps({"stopped": True}) if as_json else "stopped")


def _end_orphan(settings: Settings, where: Running, *, as_json: bool) -> None:
    """Drain and end actors whose `up` is gone; on a Ray of its own they are gone with it."""
    try:
        with joined_runtime(where.address, where.token_path):
            import ray

            from actors.naming import NAMESPACE, SUPERVISOR

            if actor_names():
                supervisor = ray.get_actor(SUPERVISOR, NAMESPACE)
                figures: Any = ray.get(supervisor.drain.remote(), timeout=DOWN_SECONDS)
                Live.end_all()
                report(summary(figures, 0.0), as_json=as_json)
    except FlowrayError:
        typer.echo(json.dumps({"stopped": True}) if as_json else "it was gone already")
    forget(settings)


def drain(config: Path | None, node: str | None, *, as_json: bool) -> None:
    """Stop receiving and commit all; what runs stays until `down`. With a node: empty that."""
    from cluster.runtime import supervisor

    settings = absolute(load_program(config).settings)
    with supervisor(settings) as actor:
        if node is not None:
            _drain_node(actor, node, as_json=as_json)
            return
        import ray

        begun = time.monotonic()
        figures = ray.get(actor.drain.remote(), timeout=DOWN_SECONDS)
        report(summary(figures, time.monotonic() - begun), as_json=as_json)


def _drain_node(supervisor: Any, name: str, *, as_json: bool) -> None:
    """Empty a node; returns when nothing of flowray is on it but what the whole cluster needs."""
    import ray

    if problem := ray.get(supervisor.drain_node.remote(name), timeout=30):
        raise DrainError(problem)
    deadline = time.monotonic() + DOWN_SECONDS
    while (
        report := ray.get(supervisor.status.remote(), timeout=30)["nodes"].get(name)
    ) is not None:
        if report["state"] == "drained":
            break
        if time.monotonic() > deadline:
            raise DrainError(f"{name} still has {report['actors']} actors")
        time.sleep(LOOK_SECONDS)
    typer.echo(json.dumps({"drained": name}) if as_json else f"{name} is empty")
