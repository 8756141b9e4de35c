"""The supervisor: makes what runs equal to the plan, and keeps it so.

Ray starts a crashed actor again, but it never sees one that hangs, and it knows nothing of which
shards hold windows open. A loop here looks after both, once a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Any

import ray
from ray.exceptions import RayError

from actors.audit import Audit
from actors.configuration import Configuration, current, publish
from actors.fleet import hear, probe
from actors.naming import SUPERVISOR, as_actor
from actors.nodes import Nodes
from actors.plan import Plan
from actors.retired import Retired
from actors.scaling import Scaling
from actors.services import Services
from actors.shards import Shards
from actors.turnover import Turnover
from flowray.fleet.changes import changes
from flowray.ingest.ledger import merge_snapshots
from flowray.ingest.sequence_runs import without_sequences
from flowray.logs import configure
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings
from flowray.state.store import open_store

log = logging.getLogger(__name__)

KEPT_EVENTS, SHOWN_EVENTS = 100, 20
LEDGER_SECONDS = 30
SHORT_SECONDS = 0.1
HEAR_SECONDS = 2.0
"""How often shards on several nodes are asked for their accounts."""


class Supervisor:
    """Desired topology, health, and the accounts of all."""

    def __init__(self, plan: Plan) -> None:
        configure(SUPERVISOR, plan.settings.logs)
        self._plan = plan = _agreed(plan)
        self._next: Plan | None = None
        self._events: list[str] = []
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._nodes = Nodes()
        self._services = Services(plan, self._event)
        self._retired = Retired(open_store(plan.settings.state.path))
        self._shards = Shards(plan, self._services.aggregators, self._retired, self._event)
        self._shards.adopt()
        self._services.adopt()
        self._turnover = Turnover(self._services, self._retired, self._event)
        self._scaling = Scaling(self._retired, self._event)
        self._survey = self._nodes.survey(plan, self._retired.empty_nodes)
        self._hear_at = 0.0
        self._ending = threading.Lock()
        self._end: dict[str, Any] | None = None
        self._audit = Audit(
            lambda: list(self._shards.members.values()),
            lambda: self._services.all_aggregators,
            lambda: [m for m in self._services.members if m.handle is not None],
            lambda: self._retired.ledger,
            lambda: [figures["ledger"] for figures in self._retired.aggregators],
            *(self._event, self._stop, plan.settings.metrics.exporters),
        )
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
        if self._next is not None:
            self._turnover.agreed = False
            self._plan, self._next = self._next, None
            self._services.follow(self._plan)
            self._shards.follow(self._plan)
        self._survey = self._nodes.survey(self._plan, self._retired.empty_nodes)
        self._services.ensure(self._survey)
        self._shards.ensure(self._survey)
        shards = self._shards.members.values()
        for member, what in probe([*self._services.members, *shards], self._plan):
            self._event(f"{member.name}: {what}")
        if len(self._survey.nodes) > 1 and time.monotonic() >= self._hear_at:
            self._hear_at = time.monotonic() + HEAR_SECONDS
            hear(list(self._shards.members.values()), self._plan)
        plan, members = self._plan, self._shards.members
        self._turnover.step(Configuration(plan.settings, plan.file, plan.number), members)
        self._scaling.step(plan, self._survey, members)
        self._shards.tell_expected()
        self._retired.retry()

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
    def drain_node(self, name: str) -> str:
        """Empty a node: its shards go once those of other nodes receive, its aggregators and RIB
        groups move. Why that cannot be, else nothing.
        """
        survey = self._nodes.survey(self._plan, self._retired.empty_nodes)
        node = survey.named(name)
        if node is None:
            return f"no node {name}; there are {', '.join(n.name for n in survey.nodes.values())}"
        if name in survey.sites and not any(
            s.node.id not in survey.leaving | {node.id} for s in survey.sites.values()
        ):
            return f"no node but {name} collects"
        self._retired.empty(node.id)
        self._event(f"node {name}: to be emptied")
        self._nudge.set()
        return ""

    @ray.method(concurrency_group="control")
    def settings(self) -> tuple[Settings, str]:
        """What runs, or is about to, and the file that it is from."""
        plan = self._next or self._plan
        return plan.settings, plan.file

    @ray.method(concurrency_group="control")
    def reload(self, settings: Settings, file: str) -> list[str]:
        """Go on with other settings. What of them cannot be taken over, a line each: then nothing
        is changed. Raises ConfigError.
        """
        plan = self._next or self._plan
        compile_settings(settings, file)
        if refused := changes(plan.settings, settings).refused:
            return refused
        plan = plan.following(settings, file, plan.number + 1)
        publish(Configuration(settings, file, plan.number))
        self._next = plan
        self._event(f"configuration {plan.number} of this run")
        self._nudge.set()
        return []

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """What runs and how it is."""
        survey = self._survey
        running = [*self._shards.members.values(), *self._services.members]
        nodes = survey.reports(
            Counter(m.node_id for m in running if m.handle is not None), self._retired.wanted
        )
        return {
            "shards": {m.name: m.report() for m in list(self._shards.members.values())},
            "aggregators": {m.name: m.report() for m in self._services.all_aggregators},
            "ribs": {m.name: m.report() for m in self._services.ribs.values()},
            "templates": self._services.templates.report(),
            "gateway": self._services.gateway.report(),
            "ledger_problems": self._audit.problems,
            "wanted_shards": sum(node["wanted_shards"] for node in nodes.values()),
            "nodes": nodes,
            "configuration": {
                "file": self._plan.file,
                "number": (self._next or self._plan).number,
                "agreed": self._next is None and self._turnover.agreed,
            },
            "waiting": list(survey.missing),
            "given_up": self._retired.given_up,
            "listen": list(self._plan.settings.listen.flows),
            "kernel_drops_of_retired": self._retired.sums["kernel_drops"],
            "events": self._events[-SHOWN_EVENTS:],
            "stopping": self._stop.is_set(),
        }

    @ray.method(concurrency_group="control")
    def ledger(self) -> dict[str, Any]:
        """The accounts of all shards, those gone included, and of all aggregators."""
        members = [*self._shards.members.values(), *self._services.all_aggregators]
        calls = [m.handle.ledger.remote() for m in members if m.handle is not None]
        gone = [self._retired.ledger, *(a["ledger"] for a in self._retired.aggregators)]
        found = merge_snapshots([*gone, *ray.get(calls, timeout=LEDGER_SECONDS)])
        return without_sequences(found)

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
        deadline = time.monotonic() + self._plan.start_seconds
        while not (self._next is None and self._turnover.agreed) and time.monotonic() < deadline:
            time.sleep(SHORT_SECONDS)  # what waits for other aggregators has to get to them first
        self._stop.set()
        self._nudge.set()
        self._thread.join(2 * self._plan.probe_timeout + self._plan.probe_seconds)
        not_drained = self._shards.drain_all()
        handles = [m.handle for m in self._services.all_aggregators if m.handle is not None]
        calls = [handle.finish.remote() for handle in handles]
        finished = ray.get(calls, timeout=self._plan.drain_seconds) + self._retired.aggregators
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
        calls = {m.name: m.handle.stop.remote() for m in self._services.ribs.values() if m.handle}
        figures: dict[str, Any] = {}
        for name, call in calls.items():
            try:
                figures[name] = ray.get(call, timeout=self._plan.drain_seconds)
            except (RayError, TimeoutError) as error:
                self._event(f"{name}: not stopped: {error}")
        return figures


def _agreed(plan: Plan) -> Plan:
    """The plan, or if this supervisor takes over from one that died what that had made of it."""
    known = current()
    if known is not None and ray.get_runtime_context().was_current_actor_reconstructed:
        return plan.following(known.settings, known.file, known.number)
    publish(Configuration(plan.settings, plan.file, plan.number))
    return plan


SupervisorActor = as_actor(Supervisor)
