"""What a log says again and again is said once a minute, with how often it was so."""

from __future__ import annotations

from collections import Counter

SAY_EVERY_NS = 60_000_000_000


class Complaints:
    """Of one session. As many causes as there are kinds of them; never made of what was sent."""

    def __init__(self) -> None:
        self._untold: Counter[object] = Counter()
        self._told_ns: dict[object, int] = {}

    def due(self, cause: object, count: int, now_ns: int) -> int | None:
        """Note that it was so `count` times: how many to tell of now, None to say nothing."""
        self._untold[cause] += count
        told_ns = self._told_ns.get(cause)
        if told_ns is not None and 0 <= now_ns - told_ns < SAY_EVERY_NS:
            return None
        self._told_ns[cause] = now_ns
        return self._untold.pop(cause)
