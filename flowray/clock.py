"""Time as the engine sees it: a callable that says how late it is. Tests pass their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Nanoseconds since the epoch."""

wall_clock: Clock = time.time_ns


class Rising:
    """A clock that never runs backwards, whatever is done to the one beneath it."""

    def __init__(self, clock: Clock = wall_clock) -> None:
        self._clock = clock
        self._last = 0

    def __call__(self) -> int:
        """The time, or the latest time told so far if that is later."""
        self._last = max(self._last, self._clock())
        return self._last

    def go_on_from(self, at_ns: int) -> None:
        """Tell no time before this one."""
        self._last = max(self._last, at_ns)
