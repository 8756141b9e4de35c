"""Flows join the routes of several RIB groups: a snapshot each, and the group of a record is the
first that knows the router it asks: its exporter, or the one that the agent map names.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flowray.columns import Columns
from flowray.hashing import MISSING, U64, Index, Interner
from flowray.ingest.agents import Agents
from flowray.ingest.join import RouteJoin
from flowray.ingest.join_plan import JoinPlan
from flowray.rib.snapshot import Snapshot
from flowray.wire.packets import Exporters

DEFAULT_GROUP = "default"


class GroupJoin:
    """The joins of one shard, by group. Not thread-safe."""

    def __init__(self, plan: JoinPlan) -> None:
        self._plan = plan
        self._first = RouteJoin(plan)
        self._joins: dict[str, RouteJoin] = {}
        self._lost: set[str] = set()
        self._agents = Agents(plan.agents)
        self._group = Index()

    @property
    def snapshots(self) -> dict[str, Snapshot]:
        """What flows are joined with."""
        found = {group: join.snapshot for group, join in self._joins.items()}
        return {group: s for group, s in found.items() if s is not None}

    def install(self, snapshot: Snapshot, group: str = DEFAULT_GROUP) -> None:
        """Join with this snapshot of a group from now on."""
        if group not in self._joins:
            self._joins[group] = RouteJoin(self._plan) if self._joins else self._first
        self._joins[group].install(snapshot)
        self._lost.discard(group)
        self._group = Index()

    def lose(self, group: str) -> None:
        """Nobody keeps the routes of a group true any more: all of them are stale."""
        snapshot = self.snapshots.get(group)
        if snapshot is None or group in self._lost:
            return
        stale = np.ones(len(snapshot.stale), np.bool_)
        self.install(replace(snapshot, stale=stale), group)
        self._lost.add(group)

    @property
    def lost(self) -> list[str]:
        """Groups that nobody keeps true."""
        return sorted(self._lost)

    def fill(self, c: Columns, exporters: Exporters, texts: Interner) -> None:
        """Fill the fields of the join that the layout of `c` holds."""
        if len(self._joins) < 2:
            self._first.fill(c, exporters, texts)
            return
        joins = list(self._joins.values())
        groups = self._groups_of(self._agents.who(c, exporters), exporters, joins)
        for number in np.unique(groups).tolist():
            rows = np.flatnonzero(groups == number)
            if rows.size == len(c):
                joins[number].fill(c, exporters, texts)
                continue
            part = c.take(rows)
            joins[number].fill(part, exporters, texts)
            c.words[:, rows] = part.words

    def _groups_of(
        self, who: U64, exporters: Exporters, joins: list[RouteJoin]
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The group of each record (n,); the first group for routers that none knows."""
        none = np.zeros_like(who)
        groups = self._group.get_many(who, none)
        for asking in np.unique(who[groups == MISSING]).tolist():
            words = self._agents.router(asking, exporters)
            knowing = (i for i, j in enumerate(joins) if j.snapshot and words in j.snapshot.routers)
            self._group.put(asking, 0, next(knowing, 0))
        return self._group.get_many(who, none).view(np.int64)
