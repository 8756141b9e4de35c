"""The supervisor: makes what runs equal to the plan, and keeps it so.

Ray starts a crashed actor again, but it never sees one that hangs, and it knows nothing of which
shards hold windows open. A loop here looks after both, once a second.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import ray
from ray.exceptions import RayError

from actors.aggregate import AggregateActor
from actors.fleet import Member, probe
from actors.naming import TEMPLATES, aggregate_name, as_actor, named, rib_name
from actors.plan import Plan
from actors.retired import Retired
from actors.rib import RibActor
from actors.shards import Shards
from actors.templates import TemplatesActor
from flowray.ingest.ledger import merge_snapshots
from flowray.state.store import open_store

log = logging.getLogger(__name__)

KEPT_EVENTS, SHOWN_EVENTS = 100, 20
LEDGER_SECONDS = 30


class Supervisor:
    """Desired topology, health, and the accounts of all."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._events: list[str] = []
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._templates = Member(TEMPLATES, None)
        self._aggregators = {
            place: Member(aggregate_name(*place), None) for place in plan.aggregators
        }
        self._ribs = {
            group.name: Member(rib_name(group.name), None) for group in plan.settings.route_groups
        }
        self._retired = Retired(open_store(plan.settings.state.path), plan.shards)
        self._shards = Shards(plan, self._aggregators, self._retired, self._event)
        self._shards.adopt()
        self._ending = threading.Lock()
        self._end: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Supervisor({self._plan.shards} shards, {len(self._plan.aggregators)} aggregators)"

    # -- the loop ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._step()
            except Exception as error:  # the loop must never die
                self._event(f"step failed: {type(error).__name__}: {error}")
                log.exception("reconcile step failed")
            self._nudge.wait(self._plan.probe_seconds)
            self._nudge.clear()

    def _step(self) -> None:
        self._ensure_services()
        self._shards.ensure()
        shards = self._shards.members.values()
        services = [self._templates, *self._ribs.values(), *self._aggregators.values()]
        for member, what in probe([*services, *shards], self._plan):
            self._event(f"{member.name}: {what}")
        self._shards.tell_expected()
        self._retired.retry()

    def _ensure_services(self) -> None:
        settings, file = self._plan.settings, self._plan.file
        if self._templates.handle is None:
            templates = TemplatesActor.options(**named(TEMPLATES))
            self._templates.handle = templates.remote(settings.state.path)
        for group, member in self._ribs.items():
            if member.handle is None:
                member.handle = RibActor.options(**named(member.name)).remote(settings, file, group)
        for place, member in self._aggregators.items():
            if member.handle is None:
                actor = AggregateActor.options(**named(member.name))
                member.handle = actor.remote(settings, file, *place)

    def _event(self, text: str) -> None:
        log.info("%s", text)
        self._events = [*self._events[1 - KEPT_EVENTS :], text]

    # -- control -----------------------------------------------------------------------------------

    @ray.method(concurrency_group="control")
    def set_shards(self, n: int) -> None:
        """Have n shards on each node; those too many are drained."""
        self._retired.want(n)
        self._nudge.set()

    @ray.method(concurrency_group="control")
    def restart_shard(self, name: str) -> None:
        """Replace a shard by another: the new one receives before the old one is drained. Raises
        KeyError for a name that is not there.
        """
        self._shards.members[name].leaving = True
        self._nudge.set()

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """What runs and how it is."""
        return {
            "shards": {m.name: m.report() for m in list(self._shards.members.values())},
            "aggregators": {m.name: m.report() for m in self._aggregators.values()},
            "ribs": {m.name: m.report() for m in self._ribs.values()},
            "templates": self._templates.report(),
            "wanted_shards": self._retired.shards,
            "listen": list(self._plan.settings.listen.flows),
            "kernel_drops_of_retired": self._retired.sums["kernel_drops"],
            "events": self._events[-SHOWN_EVENTS:],
            "stopping": self._stop.is_set(),
        }

    @ray.method(concurrency_group="control")
    def ledger(self) -> dict[str, Any]:
        """The accounts of all shards, those gone included, and of all aggregators."""
        members = [*self._shards.members.values(), *self._aggregators.values()]
        calls = [m.handle.ledger.remote() for m in members if m.handle is not None]
        return merge_snapshots([self._retired.ledger, *ray.get(calls, timeout=LEDGER_SECONDS)])

    @ray.method(concurrency_group="control")
    def request_stop(self) -> None:
        """Have whoever brought this up drain and end it."""
        self._stop.set()

    @ray.method(concurrency_group="control")
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    @ray.method(concurrency_group="control")
    def drain(self) -> dict[str, Any]:
        """Drain all shards, close all windows; the accounts and figures of the whole run."""
        with self._ending:
            if self._end is None:
                self._end = self._drain_all()
            return self._end

    def _drain_all(self) -> dict[str, Any]:
        self._stop.set()
        self._nudge.set()
        self._thread.join(2 * self._plan.probe_timeout + self._plan.probe_seconds)
        not_drained = self._shards.drain_all()
        handles = [m.handle for m in self._aggregators.values()]
        calls = [handle.finish.remote() for handle in handles]
        finished = ray.get(calls, timeout=self._plan.drain_seconds)
        if all(f["outstanding"] == 0 for f in finished):
            ray.get([handle.close_accounts.remote() for handle in handles])
            self._retired.forget()
        return {
            "ribs": self._stop_ribs(),
            "ledger": merge_snapshots([self._retired.ledger, *(f["ledger"] for f in finished)]),
            "sets_held": self._retired.sums["sets_held"],
            "kernel_drops": self._retired.sums["kernel_drops"],
            "shard_cpu_seconds": self._retired.sums["cpu_seconds"],
            "not_drained": not_drained,
            "aggregators": finished,
        }

    def _stop_ribs(self) -> dict[str, Any]:
        """End the sessions of all RIB groups, whose routes no flow needs any more."""
        calls = {m.name: m.handle.stop.remote() for m in self._ribs.values() if m.handle}
        figures: dict[str, Any] = {}
        for name, call in calls.items():
            try:
                figures[name] = ray.get(call, timeout=self._plan.drain_seconds)
            except (RayError, TimeoutError) as error:
                self._event(f"{name}: not stopped: {error}")
        return figures


SupervisorActor = as_actor(Supervisor)
