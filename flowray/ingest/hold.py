"""Data sets that cannot be decoded yet: bounded by octets per exporter and in all, and by age."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.ingest.templates import TemplateKey


@dataclass(slots=True)
class HeldSet:
    """One data set: its octets, the header row of its message (kernels.HEADER_COLUMNS int64) and
    its arrival (ns). `since` (ns): when its template came, if it was held for that.
    """

    raw: bytes
    header: npt.NDArray[np.int64]
    arrival: int
    since: int = 0


NEVER = (1 << 63) - 1

SET_COST = 256
"""Octets of memory that a held set takes besides its own: a flood of tiny sets must meet the bound.
"""


def _cost(octets: int) -> int:
    return octets + SET_COST


class Hold:
    """Waiting sets, in the order of arrival per template."""

    def __init__(self, per_exporter: int, limit: int, age_ns: int) -> None:
        self._per_exporter = per_exporter
        self._limit = limit
        self._age_ns = age_ns
        self._sets: dict[TemplateKey, list[HeldSet]] = defaultdict(list)
        self._octets: dict[int, int] = defaultdict(int)
        self.octets = 0
        self.changes = 0

    def __len__(self) -> int:
        return sum(len(sets) for sets in self._sets.values())

    @property
    def waiting(self) -> list[TemplateKey]:
        """Templates whose data waits."""
        return list(self._sets)

    @property
    def oldest(self) -> int:
        """When the first of the sets arrived or got its template (ns); NEVER if there is none."""
        return min((max(s[0].arrival, s[0].since) for s in self._sets.values()), default=NEVER)

    def room(self, exporter: int, octets: int) -> bool:
        """Whether a set of that size may still be held."""
        cost = _cost(octets)
        return (
            self._octets.get(exporter, 0) + cost <= self._per_exporter
            and self.octets + cost <= self._limit
        )

    def put(self, key: TemplateKey, held: HeldSet) -> None:
        """Hold a set; the caller has asked for `room`."""
        self._sets[key].append(held)
        cost = _cost(len(held.raw))
        self._octets[key.exporter] += cost
        self.octets += cost
        self.changes += 1

    def holds(self, key: TemplateKey) -> bool:
        """Whether sets of this template wait."""
        return key in self._sets

    def take(self, key: TemplateKey) -> list[HeldSet]:
        """The waiting sets of this template; they are no longer held."""
        sets = self._sets.pop(key, [])
        self._release(key.exporter, sets)
        return sets

    def expire(self, now_ns: int) -> Iterator[tuple[int, int]]:
        """Give up sets older than the age bound: (exporter, sets given up)."""
        for key in list(self._sets):
            sets = self._sets[key]
            kept = [s for s in sets if now_ns - s.arrival <= self._age_ns]
            if len(kept) == len(sets):
                continue
            old = [s for s in sets if now_ns - s.arrival > self._age_ns]
            self._release(key.exporter, old)
            if kept:
                self._sets[key] = kept
            else:
                del self._sets[key]
            yield key.exporter, len(old)

    def _release(self, exporter: int, sets: list[HeldSet]) -> None:
        cost = sum(_cost(len(s.raw)) for s in sets)
        self._octets[exporter] -= cost
        self.octets -= cost
        self.changes += 1
        if not self._octets[exporter]:
            del self._octets[exporter]

    # -- for a successor ---------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """All waiting sets, in the order of arrival per template."""
        sets = [(key, held) for key, waiting in self._sets.items() for held in waiting]
        return pa.table(
            {
                **{
                    name: pa.array([getattr(key, name) for key, _ in sets], pa.int64())
                    for name in ("exporter", "domain", "version", "id")
                },
                "arrival": pa.array([held.arrival for _, held in sets], pa.int64()),
                "since": pa.array([held.since for _, held in sets], pa.int64()),
                "header": pa.array([held.header.tobytes() for _, held in sets], pa.binary()),
                "raw": pa.array([held.raw for _, held in sets], pa.binary()),
            }
        )

    def restore(self, table: pa.Table) -> None:
        """Hold what another held."""
        for row in table.to_pylist():
            key = TemplateKey(row["exporter"], row["domain"], row["version"], row["id"])
            header = np.frombuffer(row["header"], np.int64).copy()
            self.put(key, HeldSet(row["raw"], header, row["arrival"], row["since"]))
