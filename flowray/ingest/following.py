"""How a shard follows the routes of RIB groups: snapshots are pulled in one thread and installed in
another, between two batches.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Protocol

from flowray.ingest.group_join import GroupJoin
from flowray.rib.snapshot import Snapshot

log = logging.getLogger(__name__)

PULL_SECONDS = 1.0

MISSED = 3
"""Pulls in a row without an answer after which a group's routes count as stale."""


class Routes(Protocol):
    """RIB groups, from a shard's side. Calls may block and may raise; they are repeated."""

    def newest(self, group: str, epoch: str, generation: int) -> Snapshot | None:
        """The newest snapshot of a group, None if it is the one of this epoch and generation, or
        there is none yet.
        """


class Follower:
    """Pulls the snapshots of groups. `pull` is for one thread, `install` for another."""

    def __init__(self, routes: Routes, groups: Sequence[str]) -> None:
        self._routes = routes
        self._known = dict.fromkeys(groups, ("", 0))
        self._missed = dict.fromkeys(groups, 0)
        self._news: SimpleQueue[tuple[str, Snapshot | None]] = SimpleQueue()
        self.pulls = 0
        self.failures = 0
        self.last_failure = ""

    def run(self, stop: threading.Event) -> None:
        """Pull once a second until it is told to stop."""
        while not stop.wait(PULL_SECONDS):
            self.pull()

    def pull(self) -> None:
        """Ask all groups for news."""
        for group in self._known:
            try:
                self._pull(group)
            except Exception as error:  # noqa: BLE001 - the actor is away; the next round repeats it
                self._miss(group, error)

    def _pull(self, group: str) -> None:
        snapshot = self._routes.newest(group, *self._known[group])
        self._missed[group] = 0
        if snapshot is not None:
            self._known[group] = snapshot.epoch, snapshot.generation
            self._news.put((group, snapshot))
            self.pulls += 1

    def _miss(self, group: str, error: Exception) -> None:
        self.failures += 1
        self.last_failure = f"{group}: {type(error).__name__}: {error}"
        self._missed[group] += 1
        if self._missed[group] == MISSED:
            log.warning("routes of group %s: no answer, stale from here on", group)
            self._known[group] = "", 0  # whatever answers, its snapshot is to be installed again
            self._news.put((group, None))

    def install(self, join: GroupJoin) -> None:
        """Install what was pulled."""
        while not self._news.empty():
            group, snapshot = self._news.get()
            if snapshot is None:
                join.lose(group)
            else:
                join.install(snapshot, group)
