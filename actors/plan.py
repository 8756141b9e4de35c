"""What should run: the supervisor makes it so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flowray.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """A topology. `aggregators` are (view, partition); `shards` is what `auto` is on a
    node whose cores Ray does not count; `answers` (actors.gateway.Answers) is what the gateway has
    to say.
    """

    settings: Settings
    file: str
    aggregators: tuple[tuple[str, int], ...]
    shards: int
    answers: Any = None
    probe_seconds: float = 1.0
    probe_timeout: float = 2.0
    probe_failures: int = 3
    start_seconds: float = 180.0
    drain_seconds: float = 30.0
    number: int = 0

    def following(self, settings: Settings, file: str, number: int) -> Plan:
        """The same with another configuration, the number-th of the run."""
        places = tuple((v.name, p) for v in settings.views for p in range(v.partitions))
        return replace(self, settings=settings, file=file, aggregators=places, number=number)
