"""The supervisor's look at the ledger of all, again and again, and what it says of members."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from actors.fleet import Member
from actors.metrics import SUPERVISOR, Meter
from flowray.ingest.balance import Balance, Look
from flowray.ingest.ledger import Snapshot, merge_snapshots
from flowray.ingest.movements import REST

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
ANSWER_SECONDS = 10.0

Members = Callable[[], Iterable[Member]]


class Audit:
    """A thread of its own, so that a member that does not answer delays no probe."""

    def __init__(
        self,
        shards: Members,
        aggregators: Members,
        services: Members,
        retired: Callable[[], Snapshot],
        finished: Callable[[], list[Snapshot]],
        event: Callable[[str], None],
        stop: threading.Event,
        exporters: int,
    ) -> None:
        self._shards, self._aggregators = shards, aggregators
        self._services = services
        self._retired = retired
        self._finished = finished
        self._event = event
        self._stop = stop
        self._balance = Balance()
        self._told_apart = exporters
        self._missing: dict[str, int] = {}
        self._meter = Meter(SUPERVISOR, {}, self.figures)
        threading.Thread(target=self._run, name="audit", daemon=True).start()

    @property
    def problems(self) -> list[str]:
        """What did not balance at the last two looks."""
        return self._balance.problems

    def figures(self) -> dict[str, Any]:
        """For metrics."""
        members = [*self._services(), *self._shards()]
        return {
            "balanced": int(self._balance.holds),
            "problems": len(self._balance.problems),
            "members": _NO_STATE | Counter(member.report()["state"] for member in members),
            "missing": self._missing,
            "restarts": {member.name: member.restarts for member in members},
        }

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._look()
            except (RayError, TimeoutError) as error:
                log.info("no look at the ledger: %s", type(error).__name__)
            except Exception:  # the thread must never die
                log.exception("look at the ledger failed")

    def _look(self) -> None:
        retired = self._retired()
        shards = [m for m in self._shards() if m.handle is not None]
        aggregators = [m for m in self._aggregators() if m.handle is not None]
        if not all(m.healthy for m in (*shards, *aggregators)):
            return
        finished = self._finished()
        before = finished + _ledgers(aggregators)
        opened = ray.get([m.handle.status.remote() for m in aggregators], timeout=ANSWER_SECONDS)
        after = finished + _ledgers(aggregators)
        still_open: Counter[str] = Counter()
        for status in opened:
            still_open[status["view"]] += status["open_records"]
        told = merge_snapshots([retired, *_ledgers(shards)])
        if retired != self._retired():  # a shard was drained meanwhile, and counts twice or never
            return
        self._note_missing(told)
        lagging = any(m.status.get("lag_seconds", 0) > LOOK_SECONDS / 2 for m in shards)
        least, most = _held_by(before, still_open), _held_by(after, still_open)
        for line in self._balance.look(Look(told, least, most, lagging)):
            log.warning("the ledger does not balance: %s", line)
            self._event(f"the ledger does not balance: {line}")

    def _note_missing(self, told: Snapshot) -> None:
        """Missing units of as many exporters as are told apart, and of the others."""
        missing = {x: row.get("sequence_gap", 0) for x, row in told["exporters"].items()}
        named = [x for x in self._missing if x != REST]
        named += [x for x in missing if x not in self._missing]
        told_apart = {x: missing.get(x, 0) for x in named[: self._told_apart]}
        rest = sum(missing.values()) - sum(told_apart.values())
        self._missing = told_apart | ({REST: rest} if rest else {})


_STATES = ["starting", "healthy", "unhealthy", "leaving", "draining", "moving", "waiting", "lost"]
_NO_STATE = dict.fromkeys(_STATES, 0)
"""States that are told even of nobody, so that a gauge goes back."""


def _ledgers(members: Iterable[Member]) -> list[Snapshot]:
    calls = [m.handle.ledger.remote() for m in members]
    return list(ray.get(calls, timeout=ANSWER_SECONDS))


def _held_by(ledgers: Iterable[Snapshot], still_open: Mapping[str, int]) -> dict[str, int]:
    """Committed and open records by view."""
    views = merge_snapshots(ledgers)["views"]
    names = views.keys() | still_open.keys()
    return {v: views.get(v, {}).get("committed", 0) + still_open.get(v, 0) for v in names}
