"""The supervisor: makes what runs equal to the plan, and keeps it so.

Ray starts a crashed actor again, but it never sees one that hangs, and it knows nothing of which
shards hold windows open. A loop here looks after both, once a second.
"""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.aggregate import AggregateActor
from actors.fleet import Member, collector_nodes, probe
from actors.ingest import IngestActor
from actors.naming import NAMESPACE, TEMPLATES, aggregate_name, as_actor, ingest_name, named
from actors.plan import Plan
from actors.templates import TemplatesActor
from flowray.ingest.ledger import Snapshot, merge_snapshots
from flowray.views.checkpoint import replace_file

log = logging.getLogger(__name__)

EMPTY: Snapshot = {"exporters": {}, "views": {}}
KEPT_EVENTS = 100


class Supervisor:
    """Desired topology, health, and the accounts of shards that are gone."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._want = plan.shards
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._nudge = threading.Event()
        self._pool = ThreadPoolExecutor(4, "drain")
        self._templates = Member(TEMPLATES, None)
        self._aggregators = {
            place: Member(aggregate_name(*place), None) for place in plan.aggregators
        }
        self._shards: dict[str, Member] = {}
        self._nodes: dict[str, str] = {}
        self._draining = threading.Lock()
        self._end: dict[str, Any] | None = None
        self._retired_path = plan.settings.state.path / "retired.json"
        self._retired = self._read_retired()
        self._events: list[str] = []
        self._adopt()
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
        self._ensure_shards()
        members = [self._templates, *self._aggregators.values(), *self._shards.values()]
        for member, what in probe(members, self._plan):
            self._event(f"{member.name}: {what}")
        self._tell_expected()

    def _adopt(self) -> None:
        """Find the shards of an earlier incarnation of this supervisor."""
        for entry in ray.util.list_named_actors(all_namespaces=False):
            name = entry if isinstance(entry, str) else entry["name"]
            if name.startswith("ingest/"):
                with suppress(ValueError):
                    handle = ray.get_actor(name, NAMESPACE)
                    self._shards[name] = Member(name, handle, node=name.split("/")[1])

    def _ensure_services(self) -> None:
        p = self._plan
        if self._templates.handle is None:
            options = named(TEMPLATES)
            self._templates.handle = TemplatesActor.options(**options).remote(p.settings.state.path)
        for place, member in self._aggregators.items():
            if member.handle is None:
                actor = AggregateActor.options(**named(member.name))
                member.handle = actor.remote(p.settings, p.file, *place)

    def _ensure_shards(self) -> None:
        """Add what is missing, drain what is too much, forget what is on a node that is gone."""
        nodes = collector_nodes(self._nodes)
        for member in list(self._shards.values()):
            member.node_id = member.node_id or nodes.get(member.node, "gone")
            if member.node_id not in self._nodes and not member.draining:
                self._event(f"{member.name}: its node is gone")
                self._shards.pop(member.name)
                with suppress(RayError):
                    ray.kill(member.handle)
        for node, node_id in nodes.items():
            mine = [m for m in self._shards.values() if m.node == node and not m.draining]
            for member in mine:
                if member.handle is None and not self._add(node, node_id, member):
                    return
            staying = [m for m in mine if not m.leaving]
            for _ in range(self._want - len(staying)):
                if not self._add(node, node_id):
                    return
            surplus = staying[self._want :]
            # A shard that is replaced goes when its successors receive, not before.
            ready = all(m.healthy for m in staying)
            for member in surplus + [m for m in mine if m.leaving and ready]:
                member.draining = True
                self._pool.submit(self._drain, member)

    def _add(self, node: str, node_id: str, member: Member | None = None) -> bool:
        """Start a shard, once all aggregators expect it: before, its windows might close early."""
        if member is None:
            taken = {m.name for m in self._shards.values()}
            number = next(n for n in range(1 << 30) if ingest_name(node, n) not in taken)
            member = Member(ingest_name(node, number), None, node, node_id)
            self._shards[member.name] = member
        if not self._tell_expected():
            return False
        actor = IngestActor.options(
            **named(member.name),
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        member.handle = actor.remote(self._plan.settings, self._plan.file, member.name)
        self._event(f"{member.name}: started")
        return True

    def _tell_expected(self) -> bool:
        """Tell the aggregators whose watermarks count; whether all heard it."""
        names = list(self._shards)
        members = [m for m in self._aggregators.values() if m.handle is not None]
        told = [(m, m.handle.expect.remote(names)) for m in members]
        # One that is starting closes nothing before it is told, and this is what it hears first.
        calls = [call for member, call in told if member.started]
        if not calls:
            return True
        done, _ = ray.wait(calls, num_returns=len(calls), timeout=self._plan.probe_timeout)
        with suppress(RayError):
            ray.get(done)
            return len(done) == len(calls)
        return False

    def _drain(self, member: Member, *, final: bool = False) -> dict[str, Any] | None:
        """End a shard and keep its accounts."""
        seconds = self._plan.drain_seconds
        figures: dict[str, Any] | None = None
        try:
            call = member.handle.drain.remote(seconds, final)
            figures = ray.get(call, timeout=2 * seconds)
            self._event(f"{member.name}: drained, {figures['unacknowledged']} left")
        except (RayError, TimeoutError) as error:
            self._event(f"{member.name}: not drained: {error}")
        if figures is not None:
            self._retire(figures)
        self._shards.pop(member.name, None)
        with suppress(RayError):
            ray.kill(member.handle)
        if not final:
            self._tell_expected()
        return figures

    # -- shards that are gone ----------------------------------------------------------------------

    def _read_retired(self) -> dict[str, Any]:
        with suppress(FileNotFoundError, ValueError):
            retired: dict[str, Any] = json.loads(self._retired_path.read_bytes())
            return retired
        return {"ledger": EMPTY, "sets_held": 0, "kernel_drops": 0, "cpu_seconds": 0.0}

    def _retire(self, figures: dict[str, Any]) -> None:
        with self._lock:
            self._retired["ledger"] = merge_snapshots([self._retired["ledger"], figures["ledger"]])
            for name in ("sets_held", "kernel_drops", "cpu_seconds"):
                self._retired[name] += figures[name]
            replace_file(self._retired_path, json.dumps(self._retired).encode())

    def _event(self, text: str) -> None:
        log.info("%s", text)
        self._events = [*self._events[1 - KEPT_EVENTS :], text]

    # -- control -----------------------------------------------------------------------------------

    @ray.method(concurrency_group="control")
    def set_shards(self, n: int) -> None:
        """Have n shards on each node; those too many are drained."""
        self._want = n
        self._nudge.set()

    @ray.method(concurrency_group="control")
    def restart_shard(self, name: str) -> None:
        """Replace a shard by another: the new one receives before the old one is drained."""
        self._shards[name].leaving = True
        self._nudge.set()

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """What runs and how it is."""
        shards = list(self._shards.values())
        return {
            "shards": {m.name: m.report() for m in shards},
            "aggregators": {m.name: m.report() for m in self._aggregators.values()},
            "templates": self._templates.report(),
            "wanted_shards": self._want,
            "listen": list(self._plan.settings.listen.flows),
            "kernel_drops_of_retired": self._retired["kernel_drops"],
            "events": self._events[-20:],
            "stopping": self._stop.is_set(),
        }

    @ray.method(concurrency_group="control")
    def ledger(self) -> dict[str, Any]:
        """The accounts of all shards, those gone included, and of all aggregators."""
        members = [*self._shards.values(), *self._aggregators.values()]
        calls = [m.handle.ledger.remote() for m in members if m.handle is not None]
        return merge_snapshots([self._retired["ledger"], *ray.get(calls, timeout=30)])

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
        with self._draining:
            if self._end is None:
                self._end = self._drain_all()
            return self._end

    def _drain_all(self) -> dict[str, Any]:
        self._stop.set()
        self._nudge.set()
        self._thread.join(self._plan.probe_timeout + 5)
        members = [m for m in self._shards.values() if m.handle is not None]
        for member in members:
            member.draining = True
        ends = list(self._pool.map(lambda m: self._drain(m, final=True), members))
        calls = [m.handle.finish.remote() for m in self._aggregators.values()]
        finished = ray.get(calls, timeout=self._plan.drain_seconds)
        ledgers = [self._retired["ledger"], *(f["ledger"] for f in finished)]
        if all(f["outstanding"] == 0 for f in finished):
            ray.get([m.handle.close_accounts.remote() for m in self._aggregators.values()])
            self._retired_path.unlink(missing_ok=True)
        return {
            "ledger": merge_snapshots(ledgers),
            "sets_held": self._retired["sets_held"],
            "kernel_drops": self._retired["kernel_drops"],
            "shard_cpu_seconds": self._retired["cpu_seconds"],
            "not_drained": sum(end is None or end["unacknowledged"] > 0 for end in ends),
            "aggregators": finished,
        }


SupervisorActor = as_actor(Supervisor)
