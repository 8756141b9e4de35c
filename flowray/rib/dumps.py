"""When tables are dumped: at whole multiples of a period, or spread over slots of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Due:
    """A dump of the routers whose address falls in slot `slot` of `slots`."""

    time_ns: int
    slot: int
    slots: int

    def takes(self, router: str) -> bool:
        """Whether the router's tables are dumped now."""
        return zlib.crc32(router.encode()) % self.slots == self.slot


class DumpSchedule:
    """Slots follow each other evenly within a period; the first is at its beginning."""

    def __init__(self, every: int, slots: int) -> None:
        """`every` in nanoseconds."""
        self.every, self.slots = every, slots
        self._last: int | None = None

    def due(self, now_ns: int) -> Iterator[Due]:
        """Dumps due since the last call; the first call only begins to count."""
        period, rest = divmod(now_ns, self.every)
        at = period * self.slots + (rest * self.slots + self.slots - 1) // self.every
        if self._last is None:
            self._last = at
        for step in range(max(self._last + 1, at - self.slots + 1), at + 1):
            yield Due(self._begin(step), step % self.slots, self.slots)
        self._last = max(self._last, at)

    def _begin(self, step: int) -> int:
        """When the slot begins: periods are whole multiples, though slots may be no whole part."""
        period, slot = divmod(step, self.slots)
        return period * self.every + slot * self.every // self.slots
