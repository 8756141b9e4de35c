"""The supervisor's view of actors, and probes of them with a time limit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    RayError,
)

from actors.plan import Plan

HEARD = ("datagrams", "pending_rows", "unacknowledged")
"""Of a shard's accounts as last heard, for status: what would be lost with its node."""


@dataclass(slots=True)
class Member:
    """An actor that should run.

    `leaving`: to be replaced; `draining`: on its way out; `moving`: ends here to start on another
    node; `lost_since`: its node is gone since then; `waits_for`: what no node is; `accounts`: its
    figures as last heard.
    """

    name: str
    handle: Any
    node: str = ""
    node_id: str = ""
    leaving: bool = False
    draining: bool = False
    moving: bool = False
    failures: int = 0
    restarts: int = 0
    since: float = field(default_factory=time.monotonic)
    started: bool = False
    error: str = ""
    waits_for: str = ""
    lost_since: float | None = None
    accounts: dict[str, Any] | None = None
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Answered the last probe."""
        return self.started and not self.failures

    def report(self) -> dict[str, Any]:
        """For `flowray status`."""
        return {
            **self.status,
            "state": self._state(),
            "node": self.node,
            "restarts": self.restarts,
            "heard": {name: (self.accounts or {}).get(name, 0) for name in HEARD},
            "error": f"waiting for {self.waits_for}" if self.waits_for else self.error,
        }

    def _state(self) -> str:
        marks = {
            "waiting": self.waits_for,
            "lost": self.lost_since is not None,
            "moving": self.moving,
            "draining": self.draining,
            "leaving": self.leaving,
            "healthy": self.healthy,
            "unhealthy": self.started,
        }
        return next((state for state, holds in marks.items() if holds), "starting")


def end(member: Member) -> None:
    """End an actor for good."""
    if member.handle is not None:
        with suppress(RayError):
            ray.kill(member.handle)


def probe(members: Sequence[Member], plan: Plan) -> list[tuple[Member, str]]:
    """Ask all for their status at once; replace who hangs; what was noteworthy."""
    calls = {m.handle.status.remote(): m for m in members if m.handle is not None}
    if not calls:
        return []
    done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=plan.probe_timeout)
    notes: list[tuple[Member, str]] = []
    for call, member in calls.items():
        try:
            # What is not done is late already: it gets no further time.
            member.status = ray.get(call, timeout=None if call in done else 0)
            member.failures, member.error, member.started = 0, "", True
        except (ActorDiedError, ActorUnschedulableError) as error:
            # Its start failed or it was killed for good: the next step makes it anew.
            member.error = _last_line(error)
            member.handle, member.started = None, False
            member.restarts += not member.moving
            member.moving, member.status = False, {}
            member.since = time.monotonic()
            notes.append((member, f"died: {member.error}"))
        except (RayError, TimeoutError) as error:
            if (note := _missed(member, error, plan)) is not None:
                notes.append((member, note))
    return notes


def hear(members: Iterable[Member], plan: Plan) -> None:
    """Ask shards for their accounts, for they may go with their node."""
    calls = {m.handle.figures.remote(): m for m in members if m.healthy and not m.draining}
    if not calls:
        return
    done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=plan.probe_timeout)
    for call in done:
        with suppress(RayError):
            calls[call].accounts = ray.get(call)


def _missed(member: Member, error: Exception, plan: Plan) -> str | None:
    """Count a probe without an answer; kill who missed too many, so that Ray starts it again."""
    member.error = _last_line(error)
    if isinstance(error, ActorUnavailableError) and member.started:
        # It crashed, and Ray is starting it again: that takes its time.
        member.started, member.failures = False, 0
        member.restarts += 1
        member.since = time.monotonic()
        return "starts again"
    waiting = time.monotonic() - member.since
    if not member.started and waiting < plan.start_seconds:
        return None
    member.failures += 1
    if member.failures < plan.probe_failures or member.draining or member.moving:
        return None
    ray.kill(member.handle, no_restart=False)
    member.failures, member.started = 0, False
    member.restarts += 1
    member.since = time.monotonic()
    return f"replaced: {member.error}"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
