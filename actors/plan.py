"""What should run: the supervisor makes it so."""

from __future__ import annotations

from dataclasses import dataclass

from flowray.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """A topology. `aggregators` are (view, partition); `shards` is what `auto` is on a
    node whose cores Ray does not count.
    """

    settings: Settings
    file: str
    aggregators: tuple[tuple[str, int], ...]
    shards: int
    probe_seconds: float = 1.0
    probe_timeout: float = 2.0
    probe_failures: int = 3
    start_seconds: float = 180.0
    drain_seconds: float = 30.0
