"""Whether the ledger balances while records move.

A shard's accounts agree with each other between two batches, so datagrams and offered records
balance at any look. What it aggregated and what aggregators have are read at different moments, so
they are bounded instead: aggregators cannot have more than the shards aggregated by a later look,
nor less than they had aggregated by the look before, which has been handed over since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flowray.ingest.ledger import Snapshot, problems

_NUMBER = re.compile(r"(?<![\w.:])\d+(?![\w.:])")
"""A number that is not part of a name or an address."""


@dataclass(frozen=True, slots=True)
class Look:
    """The accounts at one look.

    shards: merged ledgers of all shards, retired ones included; least, most: committed and open
    records of each view's aggregators, read before the shards', least and most that they can have
    been; lagging: shards were behind with what they hand over, so it may be anywhere.
    """

    shards: Snapshot
    least: Mapping[str, int]
    most: Mapping[str, int]
    lagging: bool = False


class Balance:
    """Compares looks some seconds apart: what is wrong twice in a row is wrong."""

    def __init__(self) -> None:
        self._before: Mapping[str, int] | None = None
        self._suspected: set[str] = set()
        self.problems: list[str] = []

    @property
    def holds(self) -> bool:
        """Whether nothing was wrong at the last two looks."""
        return not self.problems

    def look(self, look: Look) -> list[str]:
        """Note a look; the problems that this one confirmed and that were not known before."""
        found = self._found(look)
        known = {_kind(line) for line in self.problems}
        confirmed = [line for kind, line in found.items() if kind in self._suspected]
        self.problems = confirmed
        self._suspected = set(found)
        self._before = None if look.lagging else _aggregated(look.shards)
        return [line for line in confirmed if _kind(line) not in known]

    def _found(self, look: Look) -> dict[str, str]:
        aggregated = _aggregated(look.shards)
        lines = problems(look.shards, held=look.shards.get("held", 0), open_records=aggregated)
        found = {_kind(line): line for line in lines}
        for view, n in aggregated.items():
            before = min((self._before or {}).get(view, 0), n)  # less: a shard began anew
            least, most = look.least.get(view, 0), look.most.get(view, 0)
            if least > n:
                found[f"view {view}: more"] = (
                    f"view {view}: more records committed and open than aggregated, {least} and {n}"
                )
            elif most < before and not look.lagging:
                found[f"view {view}: less"] = (
                    f"view {view}: fewer records committed and open than aggregated,"
                    f" {most} and {before}"
                )
        return found


def _aggregated(shards: Snapshot) -> dict[str, int]:
    return {view: row.get("aggregated", 0) for view, row in shards["views"].items()}


def _kind(line: str) -> str:
    """What a problem is about: without its numbers, which change from look to look."""
    return _NUMBER.sub("", line)
