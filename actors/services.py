"""The supervisor's actors that are no shards: template store, RIB groups and aggregators, each on
a node that fits, elsewhere when that node dies or is to be emptied.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ray

from actors.aggregate import AggregateActor
from actors.fleet import Member, end
from actors.gateway import GatewayActor
from actors.naming import GATEWAY, NAMESPACE, TEMPLATES, aggregate_name, named, rib_name
from actors.nodes import ON_HEAD, Survey, on
from actors.plan import Plan
from actors.rib import RibActor
from actors.templates import TemplatesActor
from flowray.fleet.placement import choose, told


class Services:
    """For the reconcile thread alone."""

    def __init__(self, plan: Plan, event: Callable[[str], None]) -> None:
        self._plan = plan
        self._event = event
        self.templates = Member(TEMPLATES, None)
        self.gateway = Member(GATEWAY, None)
        self.aggregators = {
            place: Member(aggregate_name(*place), None) for place in plan.aggregators
        }
        self.outgoing: dict[tuple[str, int], Member] = {}
        groups = plan.settings.route_groups
        self.ribs = {group.name: Member(rib_name(group.name), None) for group in groups}

    @property
    def members(self) -> list[Member]:
        """All of them."""
        return [self.templates, self.gateway, *self.ribs.values(), *self.all_aggregators]

    @property
    def all_aggregators(self) -> list[Member]:
        """Those of the plan, and those that are to finish."""
        return [*self.aggregators.values(), *self.outgoing.values()]

    def follow(self, plan: Plan) -> None:
        """Go on with another plan. Aggregators that it has not are left to finish."""
        self._plan = plan
        for place in set(self.aggregators) - set(plan.aggregators):
            self.outgoing[place] = self.aggregators.pop(place)
        for place in plan.aggregators:
            # One that is to finish and is wanted again is told apart by its form.
            old = self.outgoing.pop(place, None) or Member(aggregate_name(*place), None)
            self.aggregators.setdefault(place, old)

    def adopt(self) -> None:
        """Find aggregators of an earlier configuration."""
        for entry in ray.util.list_named_actors(all_namespaces=False):
            kind, *place = (entry if isinstance(entry, str) else entry["name"]).split("/")
            if kind != "aggregate" or (place[0], int(place[1])) in self.aggregators:
                continue
            name = aggregate_name(place[0], int(place[1]))
            with suppress(ValueError):
                member = Member(name, ray.get_actor(name, NAMESPACE))
                self.outgoing[place[0], int(place[1])] = member

    def gone(self, member: Member) -> None:
        """An aggregator has finished: it starts anew if it is in the plan."""
        member.handle, member.started, member.status = None, False, {}
        self.outgoing = {p: m for p, m in self.outgoing.items() if m is not member}

    def restart(self, member: Member) -> None:
        """Have an aggregator store what it has and start anew with what the plan says now."""
        if not member.moving:
            member.moving, member.since = True, time.monotonic()
            member.handle.__ray_terminate__.remote()

    def ensure(self, survey: Survey) -> None:
        """Start what does not run, and move what is where it must not be."""
        settings, file = self._plan.settings, self._plan.file
        if self.templates.handle is None:
            actor = TemplatesActor.options(**named(TEMPLATES), **ON_HEAD)
            self.templates.handle = actor.remote(settings.state.path)
        if self.gateway.handle is None and (settings.gateway.http or settings.gateway.grpc):
            actor = GatewayActor.options(**named(GATEWAY), **ON_HEAD)
            self.gateway.handle = actor.remote(settings, self._plan.answers)
        for group in settings.route_groups:
            member = self.ribs[group.name]
            self._ensure(member, RibActor, (settings, file, group.name), group.labels, survey)
        for place, member in self.aggregators.items():
            labels = settings.cluster.aggregators
            self._ensure(member, AggregateActor, (settings, file, *place), labels, survey)

    def _ensure(
        self,
        member: Member,
        actor: Any,
        arguments: tuple[Any, ...],
        labels: Mapping[str, str],
        survey: Survey,
    ) -> None:
        if member.handle is not None:
            self._relocate(member, labels, survey)
        if member.handle is not None:
            return
        node = choose(list(survey.nodes.values()), labels, self._load(), survey.leaving)
        if node is None:
            member.waits_for = told(labels)
            return
        member.waits_for, member.node_id, member.node = "", node.id, node.name
        options = actor.options(**named(member.name), scheduling_strategy=on(node.id))
        member.handle = options.remote(*arguments)

    def _relocate(self, member: Member, labels: Mapping[str, str], survey: Survey) -> None:
        """Give up an actor whose node is gone; end one in order whose node is to be emptied."""
        member.node_id = member.status.get("node_id", member.node_id)
        node = survey.nodes.get(member.node_id)
        if node is None:
            self._event(f"{member.name}: its node is gone")
            end(member)
            member.handle, member.started, member.moving = None, False, False
            member.status, member.since = {}, time.monotonic()
            return
        member.node = node.name
        if member.moving and time.monotonic() - member.since > self._plan.drain_seconds:
            end(member)  # its checkpoint is not the newest: what that lacks is sent again
        if node.id not in survey.leaving or member.moving:
            return
        if choose(list(survey.nodes.values()), labels, {}, survey.leaving) is not None:
            # It stores what it has; its death is seen by the next probe, and it starts elsewhere.
            self._event(f"{member.name}: leaves {node.name}")
            self.restart(member)

    def _load(self) -> Counter[str]:
        """Actors by node id."""
        return Counter(m.node_id for m in self.members if m.handle is not None)
