"""The supervisor's shards: as many as wanted on each node, none lost on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError

from actors.fleet import Member, end
from actors.ingest import IngestActor
from actors.naming import NAMESPACE, ingest_name, named
from actors.nodes import Survey, on
from actors.plan import Plan
from actors.retired import Retired
from flowray.fleet.placement import Site

DRAIN_AGAIN_SECONDS = 0.2
"""A successor takes a second or so to start."""


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
        self.members: dict[str, Member] = {}

    def adopt(self) -> None:
        """Find the shards of an earlier incarnation of the supervisor."""
        for entry in ray.util.list_named_actors(all_namespaces=False):
            name = entry if isinstance(entry, str) else entry["name"]
            if name.startswith("ingest/"):
                with suppress(ValueError):
                    handle = ray.get_actor(name, NAMESPACE)
                    self.members[name] = Member(name, handle, node=name.split("/")[1])

    def follow(self, plan: Plan) -> None:
        """Go on with another plan."""
        self._plan = plan

    # -- as many as wanted -------------------------------------------------------------------------

    def ensure(self, survey: Survey) -> None:
        """Add what is missing, drain what is too much, give up what is on a node that is gone."""
        for member in list(self.members.values()):
            self._locate(member, survey)
        for member in self.members.values():
            if self._retired.back(member.name, member.status.get("incarnation", "")):
                self._event(f"{member.name}: back, with what it had received")
        for name, site in survey.sites.items():
            if site.node.id not in survey.leaving:
                self._ensure_on(name, site)
        self._empty(survey)

    def _locate(self, member: Member, survey: Survey) -> None:
        """Note where a shard is. One whose node is gone waits for it to come back, for a while:
        what it had not delivered may still be there.
        """
        node = survey.named(member.node)
        if member.draining or (node is not None and member.node_id == node.id):
            return
        if not member.node_id and node is not None:
            member.node_id = node.id
        elif node is not None:
            self._event(f"{member.name}: its node is back")
            self._forget_handle(member)
            member.node_id, member.lost_since = node.id, None
        elif member.lost_since is None:
            self._event(f"{member.name}: its node is gone")
            self._forget_handle(member)
            member.lost_since = time.monotonic()
        elif time.monotonic() - member.lost_since > self._plan.settings.cluster.node_grace / 1e9:
            self._give_up(member)

    def _forget_handle(self, member: Member) -> None:
        end(member)
        member.handle, member.started = None, False

    def _give_up(self, member: Member) -> None:
        """What it had delivered stays; the windows that it held open need not wait for it."""
        self._event(f"{member.name}: given up")
        self.members.pop(member.name, None)
        self._retired.give_up(member.name, member.accounts)
        end(member)

    def _ensure_on(self, node: str, site: Site) -> None:
        want = self._retired.wanted(site)
        mine = [m for m in self.members.values() if m.node == node and not m.draining]
        for member in mine:
            if member.handle is None:
                self._start(member, site)
        staying = [m for m in mine if not m.leaving]
        for _ in range(want - len(staying)):
            self._start(self._new(node, site.node.id), site)
        # One that is replaced goes when its successors receive, not before.
        ready = len(staying) >= want and all(m.healthy for m in staying)
        leaving = [m for m in mine if m.leaving] if ready else []
        for member in staying[want:] + leaving:
            self._begin_drain(member)

    def _empty(self, survey: Survey) -> None:
        """Drain the shards of nodes that leave or collect no more, once all others receive."""
        stay = {s.node.id for s in survey.sites.values()} - survey.leaving
        here = [m for m in self.members.values() if m.node_id in stay and not m.draining]
        ready = bool(here) and all(m.healthy for m in here)
        for member in list(self.members.values()):
            goes = member.node_id in survey.nodes and member.node_id not in stay
            if goes and ready and not member.draining and member.handle is not None:
                self._begin_drain(member)

    def _begin_drain(self, member: Member) -> None:
        member.draining = True
        self._pool.submit(self.drain, member)

    def _new(self, node: str, node_id: str) -> Member:
        number = next(n for n in range(1 << 30) if ingest_name(node, n) not in self.members)
        member = Member(ingest_name(node, number), None, node, node_id)
        self.members[member.name] = member
        return member

    def _start(self, member: Member, site: Site) -> None:
        """Start a shard once all aggregators expect it: before, its windows might close early. If
        one did not hear of it, the next step tries again.
        """
        if not self.tell_expected():
            return
        actor = IngestActor.options(**named(member.name), scheduling_strategy=on(member.node_id))
        settings, file = self._plan.settings, self._plan.file
        member.handle = actor.remote(settings, file, member.name, site.listen)
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
        try:
            figures = self._figures_of_the_end(member, final=final)
        except (RayError, TimeoutError) as error:
            self._event(f"{member.name}: not drained: {error}")
            self._give_up(member)
            clean = False
        else:
            self._retired.add(figures)
            self.members.pop(member.name, None)
            clean = figures["unacknowledged"] == 0
            self._event(f"{member.name}: drained, {figures['unacknowledged']} left")
            end(member)
        if not final:
            self.tell_expected()
        return clean

    def _figures_of_the_end(self, member: Member, *, final: bool) -> dict[str, Any]:
        """Drain a shard. If it is killed meanwhile its successor drains what it left. Raises
        RayError, TimeoutError.
        """
        seconds = self._plan.drain_seconds
        deadline = time.monotonic() + 2 * seconds
        while True:
            try:
                call = member.handle.drain.remote(seconds, final)
                figures: dict[str, Any] = ray.get(call, timeout=2 * seconds)
            except ActorUnavailableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(DRAIN_AGAIN_SECONDS)
            else:
                return figures

    def drain_all(self) -> int:
        """End all shards: no more will come. How many left something behind."""
        for member in [m for m in self.members.values() if m.handle is None]:
            self._give_up(member)
        members = list(self.members.values())
        for member in members:
            member.draining = True
        return list(self._pool.map(lambda m: self.drain(m, final=True), members)).count(False)
