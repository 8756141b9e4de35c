"""The first rows of a view's newest open window: from Redis where that has them, else from the
aggregators. Both give the same rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from flowray.errors import FlowrayError
from flowray.live.layout import (
    NEWEST,
    NS_PER_MS,
    WINDOWS,
    Layout,
    order_key,
    row_id,
    rows_key,
)
from flowray.live.rows import RowForm
from flowray.settings.compile import Program
from flowray.views.leading import Leading, counters_of
from flowray.views.view import ViewPlan

Ask: TypeAlias = Callable[[ViewPlan, int], Sequence[Leading]]
"""Asks the aggregators of a view for the n first rows of the newest open window of each."""

STALE_INTERVALS, STALE_MS = 3, 3000
"""Writes that may be missing before the aggregators are asked instead, and for how long at least.
"""

AVOID_SECONDS = 5.0
"""So long is a Redis not asked again that did not answer."""

ATTEMPTS = 3
"""A generation that is gone before it was read is looked for anew so often."""

_Candidate: TypeAlias = tuple[int, str, dict[str, Any]]
"""Counter, id, row: in the order of the first two, the biggest first."""


class ViewError(FlowrayError):
    """A view that cannot be looked at."""


class _NotThereError(Exception):
    """Redis does not have what was asked for."""


@dataclass(frozen=True, slots=True)
class Newest:
    """Rows of the window that begins at `start` (ns), as the JSON objects of sinks."""

    start: int
    rows: list[dict[str, Any]]
    source: Literal["redis", "aggregators"]


class NewestRows:
    """Finds them. Thread-safe."""

    def __init__(self, program: Program, ask: Ask) -> None:
        self._program = program
        self._ask = ask
        self._avoid_until = 0.0
        self._client: Any = None
        if program.settings.redis is not None:
            from flowray.live.connect import connect  # the library is slow to import

            self._client = connect(program.settings.redis)

    def __call__(self, view: str, n: int, by: str) -> Newest | None:
        """The n first rows by a counter; None if no window is open. Raises ViewError."""
        plan = self._plan(view, by)
        if self._client is not None and time.monotonic() >= self._avoid_until:
            from redis import RedisError

            try:
                return self._of_redis(plan, n, by)
            except _NotThereError:
                pass
            except (RedisError, OSError):
                self._avoid_until = time.monotonic() + AVOID_SECONDS
        return self._of_aggregators(plan, n, by)

    def _plan(self, view: str, by: str) -> ViewPlan:
        plan = next((p for p in self._program.views if p.name == view), None)
        if plan is None:
            known = ", ".join(p.name for p in self._program.views)
            raise ViewError(f"no view {view!r}; there are: {known}")
        if plan.windows is None:
            raise ViewError(f"view {view!r} has no window: its rows are in its sinks")
        counters = [f.name for f in counters_of(plan)]
        if by not in counters:
            known = ", ".join(counters) or "nothing"
            raise ViewError(f"view {view!r} does not count {by!r}; it counts: {known}")
        return plan

    def _of_aggregators(self, plan: ViewPlan, n: int, by: str) -> Newest | None:
        # Which of equal rows are among the first is the same if as many are asked for as Redis has.
        found = self._ask(plan, max(n, self._program.settings.live.top))
        if not found:
            return None
        start = max(one.totals.start for one in found)
        form = RowForm.of(self._program, plan.name)
        candidates: list[_Candidate] = []
        for one in found:
            if one.totals.start == start:
                rows, ids = [json.loads(line) for line in form.lines(one)], one.ids.tolist()
                values = one.table[by].to_pylist()
                order = one.order[by][:n].tolist()
                candidates += [(values[i], row_id(ids[i]), rows[i]) for i in order]
        return Newest(start, _first(candidates, n), "aggregators")

    def _of_redis(self, plan: ViewPlan, n: int, by: str) -> Newest | None:
        if n > self._program.settings.live.top:
            raise _NotThereError
        for _ in range(ATTEMPTS):
            heads = self._heads(plan)
            newest = [head[NEWEST] for head in heads if head[NEWEST]]
            if not newest:
                return None
            start = max(map(_start, newest))
            named = [name for head in heads for name in head[WINDOWS].split()]
            windows = [name for name in named if _start(name) == start]
            candidates = self._candidates(windows, n, by)
            if candidates is not None:
                return Newest(start * NS_PER_MS, _first(candidates, n), "redis")
        raise _NotThereError

    def _heads(self, plan: ViewPlan) -> list[dict[str, str]]:
        """Of all partitions. Raises _NotThereError if one is missing or old."""
        live = self._program.settings.live
        pipe = self._client.pipeline(transaction=False)
        for partition in range(plan.partitions):
            head = Layout(live.prefix, plan.name, partition).head
            pipe.hgetall(head)
            pipe.pttl(head)
        answers = pipe.execute()
        # By the clock of Redis, which starts it at each write.
        oldest = max(STALE_INTERVALS * live.interval // NS_PER_MS, STALE_MS)
        least = live.expire // NS_PER_MS - oldest
        heads, left = answers[::2], answers[1::2]
        if not all(heads) or min(left) < least:
            raise _NotThereError
        return list(heads)

    def _candidates(self, windows: Sequence[str], n: int, by: str) -> list[_Candidate] | None:
        """Rows of these windows; None if the generation of one is gone."""
        pipe = self._client.pipeline(transaction=False)
        for window in windows:
            pipe.exists(window)
            pipe.zrevrange(order_key(window, by), 0, n - 1)
        answers = pipe.execute()
        if not all(answers[::2]):
            return None
        pipe = self._client.pipeline(transaction=False)
        found = [(w, ids) for w, ids in zip(windows, answers[1::2], strict=True) if ids]
        for window, ids in found:
            pipe.hmget(rows_key(window), ids)
        candidates: list[_Candidate] = []
        for (_, ids), lines in zip(found, pipe.execute(), strict=True):
            if None in lines:
                return None
            rows = map(json.loads, lines)
            candidates += [(row[by], i, row) for i, row in zip(ids, rows, strict=True)]
        return candidates


def _start(window: str) -> int:
    """Start of a window (ms) by the name of its keys."""
    return int(window.rpartition(":")[2])


def _first(candidates: list[_Candidate], n: int) -> list[dict[str, Any]]:
    candidates.sort(key=lambda c: c[:2], reverse=True)
    return [row for _, _, row in candidates[:n]]
