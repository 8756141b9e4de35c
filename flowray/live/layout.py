"""Names of keys and channels in Redis: docs/redis.md has them for other programs."""

from __future__ import annotations

from dataclasses import dataclass

NS_PER_MS = 1_000_000
NEWEST, WINDOWS, GENERATION, PARTITIONS = "newest", "windows", "generation", "partitions"
"""Fields of the hash that a partition's head is."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Keys of a view's partition."""

    prefix: str
    view: str
    partition: int

    @property
    def views(self) -> str:
        """Sorted set of the views that are written, by the time of the last write (s)."""
        return f"{self.prefix}:views"

    @property
    def changes(self) -> str:
        """Channel that tells of each write of the view."""
        return f"{self.prefix}:{self.view}:changes"

    @property
    def head(self) -> str:
        """Hash that names the keys of the windows of the last write."""
        return f"{self.prefix}:{self.view}:{self.partition}"

    @property
    def totals(self) -> str:
        """Sorted set of the totals of windows, by their start (s)."""
        return f"{self.head}:totals"

    def window(self, generation: int, start: int) -> str:
        """Hash about a window (ns) in a write, and what the names of its other keys begin with."""
        return f"{self.head}:{generation}:{start // NS_PER_MS}"


def rows_key(window: str) -> str:
    """Hash of the rows of a window: id to JSON."""
    return f"{window}:rows"


def order_key(window: str, counter: str) -> str:
    """Sorted set of a window's rows: ids by a counter."""
    return f"{window}:{counter}"


def row_id(number: int) -> str:
    """Sixteen hexadecimal digits, or `others`; ids sort as their numbers do."""
    return "others" if number == (1 << 64) - 1 else f"{number:016x}"
