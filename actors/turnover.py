"""From one configuration to the next while everything runs: shards take it over one by one, then
aggregators of views that went or changed finish, and their successors begin.

It looks at what the actors tell, and remembers nothing: another supervisor goes on anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from actors.configuration import Configuration
from actors.fleet import Member, end
from actors.retired import Retired
from actors.services import Services
from flowray.fleet.changes import folded, written


class Turnover:
    """For the reconcile thread."""

    def __init__(self, services: Services, retired: Retired, event: Callable[[str], None]) -> None:
        self._services = services
        self._retired = retired
        self._event = event
        self._calls: dict[tuple[str, str], ray.ObjectRef[Any]] = {}
        self.agreed = True

    def step(self, configuration: Configuration, shards: Mapping[str, Member]) -> None:
        """Do what can be done now."""
        members = list(shards.values())
        behind = [m for m in members if m.status.get("reload") != configuration.number]
        for member in behind:
            if member.healthy and not member.draining:
                self._call(member, "reload")
        if behind:
            self.agreed = False  # those that start tell it soon, those that drain are gone soon
            return
        services = self._services
        owed = {view for m in members for view in m.status["outgoing"]}
        for (view, _), member in list(services.outgoing.items()):
            if view not in owed:
                self._finish(member)
        now, where = folded(configuration.settings), written(configuration.settings)
        for (view, _), member in services.aggregators.items():
            if not member.healthy or "folded" not in member.status:
                continue
            if member.status["folded"] != now[view]:
                if view not in owed:
                    self._finish(member)
            elif member.status["written"] != where[view]:
                services.restart(member)
        released = self._release(members, now)
        self.agreed = released and all(
            m.status.get("written") == where[view] for (view, _), m in services.aggregators.items()
        )

    def _release(self, members: list[Member], now: Mapping[str, str]) -> bool:
        """Open the way to aggregators that are there now; whether that is over for all."""
        there = dict.fromkeys(now, True)
        for (view, _), member in self._services.aggregators.items():
            there[view] &= member.started and member.status.get("folded") == now[view]
        for member in members:
            if ready := [view for view in member.status["gated"] if there.get(view, True)]:
                self._call(member, "release", ready)
        gated = any(m.status["gated"] for m in members)
        return not self._services.outgoing and all(there.values()) and not gated

    def _finish(self, member: Member) -> None:
        """Have an aggregator close its windows, keep its accounts, and end it."""
        if member.handle is None:
            self._services.gone(member)
            return
        figures = self._call(member, "finish")
        if figures is None:
            return
        if figures["outstanding"]:
            self._event(f"{member.name}: waits for its sinks")
            return
        self._retired.finished(f"{member.name} {figures['incarnation']}", figures)
        with suppress(RayError):
            ray.get(member.handle.close_accounts.remote(), timeout=10)
        end(member)
        self._event(f"{member.name}: finished")
        self._services.gone(member)

    def _call(self, member: Member, method: str, *arguments: Any) -> Any:
        """The answer of a call, None while there is none: it is asked once until then."""
        key = member.name, method
        if key not in self._calls:
            self._calls[key] = getattr(member.handle, method).remote(*arguments)
        ref = self._calls[key]
        if not ray.wait([ref], timeout=0)[0]:
            return None
        del self._calls[key]
        try:
            return ray.get(ref)
        except RayError as error:
            self._event(f"{member.name}: {method}: {error}")
            return None
