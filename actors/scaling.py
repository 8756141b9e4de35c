"""Load of shards to numbers of shards, within the bounds of each node; and Ray's autoscaler asked
for nodes when those that are there are full, or when none fits a rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ray.autoscaler.sdk import request_resources

from actors.fleet import Member
from actors.nodes import INGEST_RESOURCE, Survey
from actors.plan import Plan
from actors.retired import Retired
from flowray.fleet.placement import room
from flowray.fleet.scaling import Load, Scale, no_room, scaled

Seen = tuple[float, float, int]
"""Time of a look, CPU seconds of the receive thread, datagrams that the kernel dropped."""


class Scaling:
    """For the reconcile thread."""

    def __init__(self, retired: Retired, event: Callable[[str], None]) -> None:
        self._retired = retired
        self._event = event
        self._seen: dict[str, tuple[str, Seen]] = {}
        self._scales: dict[str, Scale] = {}
        self._asked: list[dict[str, str]] = []

    def step(self, plan: Plan, survey: Survey, shards: Mapping[str, Member]) -> None:
        """Look at all nodes that collect, and change what is wanted."""
        now = time.monotonic()
        full = []
        for name, site in survey.sites.items():
            load = self._load([m for m in shards.values() if m.node == name and m.healthy], now)
            wanted = self._retired.wanted(site)
            scale = scaled(self._scales.get(name, Scale(wanted)), load, now, site.least, site.most)
            self._scales[name] = scale
            if scale.shards != wanted and not self._retired.fixed:
                self._event(f"node {name}: {scale.shards} shards instead of {wanted}")
                self._retired.want_on(name, scale.shards)
            full.append(no_room(scale, load, now, site.most))
        self._ask(room(plan.settings.cluster, survey.nodes.values(), survey.sites, full))

    def _load(self, members: list[Member], now: float) -> Load:
        busy: list[float] = []
        drops = 0
        for member in members:
            status = member.status
            seen = now, float(status["thread_seconds"]), int(status["kernel_drops"])
            incarnation, before = self._seen.get(member.name, ("", seen))
            self._seen[member.name] = status["incarnation"], seen
            if incarnation == status["incarnation"] and now > before[0]:
                busy.append((seen[1] - before[1]) / (now - before[0]))
                drops += max(seen[2] - before[2], 0)
        full = max((float(m.status["buffer_full"]) for m in members), default=0.0)
        return Load(tuple(busy), full, drops)

    def _ask(self, wanted: list[dict[str, str]]) -> None:
        """Have room for so many nodes, each with these labels; what was asked for before is void.
        Where there is no autoscaler nothing comes of it.
        """
        if wanted == self._asked:
            return
        self._asked = wanted
        bundles = [{INGEST_RESOURCE: 1}] * len(wanted)
        request_resources(bundles=bundles, bundle_label_selectors=wanted)
        self._event(f"asked Ray's autoscaler for {len(wanted)} nodes that collect")
