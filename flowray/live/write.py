"""Open windows to Redis: one transaction a write, under keys of its own generation, and everything
expires.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

from flowray.live.layout import (
    GENERATION,
    NEWEST,
    NS_PER_MS,
    PARTITIONS,
    WINDOWS,
    Layout,
    order_key,
    row_id,
    rows_key,
)
from flowray.live.rows import RowForm
from flowray.settings.redis import Live
from flowray.views.leading import Leading, Totals

KEPT_GENERATIONS = 2
"""The last one, and the one before it for those who are still reading it."""

NS_PER_S = 1_000_000_000
REVISION_SCORE = 1e-6
"""What a revision adds to the score of its window's totals, which is in seconds."""


class LiveWriter:
    """Writes a view's partition. Not thread-safe."""

    def __init__(self, layout: Layout, partitions: int, form: RowForm, live: Live) -> None:
        self.layout = layout
        self._partitions = partitions
        self._form = form
        self._live = live
        self._expire = live.expire // NS_PER_MS
        self._generation = 0
        self._written: deque[list[str]] = deque()

    def write(
        self, client: redis.Redis, now: int, windows: Sequence[Leading], closed: Sequence[Totals]
    ) -> None:
        """Write windows, the newest first, and the totals of them and of closed ones, at a time
        (ns). Raises RedisError: then all of it was written, or nothing.
        """
        # Ascending also where the clock is set back.
        generation = max(now // NS_PER_MS, self._generation + 1)
        pipe = client.pipeline(transaction=True)
        names = [self.layout.window(generation, w.totals.start) for w in windows]
        keys: list[str] = []
        for name, window in zip(names, windows, strict=True):
            keys += self._add_window(pipe, name, window)
        self._add_head(pipe, generation, names)
        self._add_totals(pipe, [*closed, *(w.totals for w in windows)])
        self._add_view(pipe, now)
        old = [key for keys in list(self._written)[: 1 - KEPT_GENERATIONS] for key in keys]
        if old:
            pipe.unlink(*old)
        told = {"view": self.layout.view, "partition": self.layout.partition}
        pipe.publish(self.layout.changes, _json({**told, GENERATION: generation, WINDOWS: names}))
        pipe.execute()
        self._generation = generation
        self._written.append(keys)
        while len(self._written) > KEPT_GENERATIONS:
            self._written.popleft()

    def _add_window(self, pipe: Any, name: str, window: Leading) -> list[str]:
        """Its keys."""
        about = {"start": window.totals.start // NS_PER_MS, "end": window.totals.end // NS_PER_MS}
        pipe.hset(name, mapping={**about, **_figures(window.totals)})
        keys = [name]
        ids = [row_id(number) for number in window.ids.tolist()]
        if ids:
            lines = self._form.lines(window)
            pipe.hset(rows_key(name), mapping=dict(zip(ids, lines, strict=True)))
            keys.append(rows_key(name))
            for counter, order in window.order.items():
                values = window.table[counter].to_numpy()[order].tolist()
                members = [ids[row] for row in order.tolist()]
                pipe.zadd(order_key(name, counter), dict(zip(members, values, strict=True)))
                keys.append(order_key(name, counter))
        for key in keys:
            pipe.pexpire(key, self._expire)
        return keys

    def _add_head(self, pipe: Any, generation: int, names: Sequence[str]) -> None:
        head = {
            GENERATION: generation,
            PARTITIONS: self._partitions,
            NEWEST: names[0] if names else "",
            WINDOWS: " ".join(names),
        }
        pipe.hset(self.layout.head, mapping=head)
        pipe.pexpire(self.layout.head, self._expire)

    def _add_totals(self, pipe: Any, windows: Sequence[Totals]) -> None:
        key = self.layout.totals
        # One that closed while another write was on its way counts as it was at its end.
        for one in {(w.start, w.revision): w for w in reversed(windows)}.values():
            score = one.start / NS_PER_S + one.revision * REVISION_SCORE
            pipe.zremrangebyscore(key, score, score)
            about = {"start": one.start // NS_PER_MS, "end": one.end // NS_PER_MS}
            pipe.zadd(key, {_json({**about, **_figures(one)}): score})
        pipe.zremrangebyrank(key, 0, -1 - self._live.totals)
        pipe.pexpire(key, self._expire)

    def _add_view(self, pipe: Any, now: int) -> None:
        key = self.layout.views
        pipe.zadd(key, {self.layout.view: now // NS_PER_S})
        pipe.zremrangebyscore(key, "-inf", f"({(now - self._live.expire) // NS_PER_S}")
        pipe.pexpire(key, self._expire)


def _figures(totals: Totals) -> dict[str, int]:
    return {"revision": totals.revision, "rows": totals.rows, **totals.sums}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
