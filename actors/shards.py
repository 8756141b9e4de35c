"""The supervisor's shards: as many as wanted on each node, none lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.fleet import Member, collector_nodes, end
from actors.ingest import IngestActor
from actors.naming import NAMESPACE, ingest_name, named
from actors.plan import Plan
from actors.retired import Retired


class Shards:
    """`ensure` and `tell_expected` are the reconcile thread's; `drain` runs in pool threads."""

    def __init__(
        self,
        plan: Plan,
        aggregators: Mapping[tuple[str, int], Member],
        retired: Retired,
        event: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._aggregators = aggregators
        self._retired = retired
        self._event = event
        self._pool = ThreadPoolExecutor(4, "drain")
        self._nodes: dict[str, str] = {}
        self.members: dict[str, Member] = {}

    def adopt(self) -> None:
        """Find the shards of an earlier incarnation of the supervisor."""
        for entry in ray.util.list_named_actors(all_namespaces=False):
            name = entry if isinstance(entry, str) else entry["name"]
            if name.startswith("ingest/"):
                with suppress(ValueError):
                    handle = ray.get_actor(name, NAMESPACE)
                    self.members[name] = Member(name, handle, node=name.split("/")[1])

    # -- as many as wanted -------------------------------------------------------------------------

    def ensure(self) -> None:
        """Add what is missing, drain what is too much, forget what is on a node that is gone."""
        nodes = collector_nodes(self._nodes)
        for member in list(self.members.values()):
            member.node_id = member.node_id or nodes.get(member.node, "gone")
            if member.node_id not in self._nodes and not member.draining:
                self._event(f"{member.name}: its node is gone")
                self.members.pop(member.name)
                end(member)
        for node, node_id in nodes.items():
            self._ensure_on(node, node_id)

    def _ensure_on(self, node: str, node_id: str) -> None:
        want = self._retired.shards
        mine = [m for m in self.members.values() if m.node == node and not m.draining]
        for member in mine:
            if member.handle is None:
                self._start(member)
        staying = [m for m in mine if not m.leaving]
        for _ in range(want - len(staying)):
            self._start(self._new(node, node_id))
        # One that is replaced goes when its successors receive, not before.
        ready = len(staying) >= want and all(m.healthy for m in staying)
        leaving = [m for m in mine if m.leaving] if ready else []
        for member in staying[want:] + leaving:
            member.draining = True
            self._pool.submit(self.drain, member)

    def _new(self, node: str, node_id: str) -> Member:
        number = next(n for n in range(1 << 30) if ingest_name(node, n) not in self.members)
        member = Member(ingest_name(node, number), None, node, node_id)
        self.members[member.name] = member
        return member

    def _start(self, member: Member) -> None:
        """Start a shard once all aggregators expect it: before, its windows might close early. If
        one did not hear of it, the next step tries again.
        """
        if not self.tell_expected():
            return
        affinity = NodeAffinitySchedulingStrategy(member.node_id, soft=False)
        actor = IngestActor.options(**named(member.name), scheduling_strategy=affinity)
        member.handle = actor.remote(self._plan.settings, self._plan.file, member.name)
        self._event(f"{member.name}: started")

    def tell_expected(self) -> bool:
        """Tell the aggregators whose watermarks count; whether all heard it."""
        names = list(self.members)
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

    # -- ending them -------------------------------------------------------------------------------

    def drain(self, member: Member, *, final: bool = False) -> bool:
        """End a shard and keep its accounts; whether it left nothing behind."""
        seconds = self._plan.drain_seconds
        clean = False
        try:
            call = member.handle.drain.remote(seconds, final)
            figures: dict[str, Any] = ray.get(call, timeout=2 * seconds)
            self._retired.add(figures)
            clean = figures["unacknowledged"] == 0
            self._event(f"{member.name}: drained, {figures['unacknowledged']} left")
        except (RayError, TimeoutError) as error:
            self._event(f"{member.name}: not drained: {error}")
        self.members.pop(member.name, None)
        end(member)
        if not final:
            self.tell_expected()
        return clean

    def drain_all(self) -> int:
        """End all shards: no more will come. How many left something behind."""
        members = [m for m in self.members.values() if m.handle is not None]
        for member in members:
            member.draining = True
        return list(self._pool.map(lambda m: self.drain(m, final=True), members)).count(False)
