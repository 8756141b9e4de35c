"""`flowray reload`: another configuration for what runs, without a restart."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import typer

from cluster.replay import load_program
from cluster.runtime import supervisor
from cluster.topology import absolute, with_ports_of
from flowray.errors import FlowrayError
from flowray.fleet.changes import Changes, changes
from flowray.settings.model import Settings

AGREE_SECONDS = 180.0
"""Views that are new may have kernels to compile."""
LOOK_SECONDS = 0.5
ANSWER_SECONDS = 30.0


class ReloadError(FlowrayError):
    """What runs cannot take over a configuration."""


def reload(config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Have what runs go on with this configuration; returns when all of it does. Raises ReloadError
    with what cannot be taken over; then nothing has changed.
    """
    settings = absolute(load_program(config).settings)
    with supervisor(settings) as actor:
        new, found = compared(actor, settings)
        if not as_json:
            for line in found.lines() if found else ["nothing changes"]:
                typer.echo(line)
        if not dry_run:
            if found.refused:
                raise ReloadError(f"nothing is changed. {config}: " + "; ".join(found.refused))
            apply(actor, new, str(config or "built-in"))
            wait_agreed(actor)
        told = {name: getattr(found, name) for name in Changes.__slots__}
        typer.echo(json.dumps({**told, "applied": not dry_run}) if as_json else _end(dry_run))
        if found.refused:
            sys.exit(2)


def _end(dry_run: bool) -> str:
    return "nothing is changed: a dry run" if dry_run else "all run with it"


def compared(actor: Any, settings: Settings) -> tuple[Settings, Changes]:
    """Settings with the ports that those that run have got, and what changes with them."""
    import ray

    old, _ = ray.get(actor.settings.remote(), timeout=ANSWER_SECONDS)
    new = with_ports_of(settings, old)
    return new, changes(old, new)


def apply(actor: Any, settings: Settings, file: str) -> None:
    """Hand settings to the supervisor. Raises ReloadError."""
    import ray

    refused = ray.get(actor.reload.remote(settings, file), timeout=ANSWER_SECONDS)
    if refused:
        raise ReloadError(f"nothing is changed. {file}: " + "; ".join(refused))


def wait_agreed(actor: Any, seconds: float = AGREE_SECONDS) -> None:
    """Wait until all shards and aggregators run with what they were told. Raises ReloadError."""
    import ray

    deadline = time.monotonic() + seconds
    while True:
        status = ray.get(actor.status.remote(), timeout=ANSWER_SECONDS)
        if status["configuration"]["agreed"]:
            return
        if time.monotonic() > deadline:
            last = status["events"][-1] if status["events"] else "no event"
            raise ReloadError(f"not all run with it after {seconds:.0f} s: {last}")
        time.sleep(LOOK_SECONDS)
