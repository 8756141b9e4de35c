"""Runs of sequence numbers, and how those of several shards are one account.

An exporter numbers what it sends: NetFlow v9 and sFlow datagrams, v5 and IPFIX records. A run is
what was received of it from one start of its numbers on; each shard has runs of its own, as it gets
some of the datagrams. Put together they tell exactly what nobody received: what was numbered
between the first and the last, less what all shards received.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

NUMBERS = 1 << 32

IN_LINE = 1 << 30
"""How far ahead a number may be and still belong to the same run."""

LATE = 4096
"""Units by which a message may be overtaken on its way."""

TOGETHER = 1 << 20
"""Units that a shard may be ahead of another: what arrives within one batch has one time."""

LATE_NS = 2_000_000_000
"""Time by which messages are overtaken, and shards tell times apart, at most."""

SPARE = 64
"""Units received twice (a network that doubles datagrams) that a run is forgiven, and 1/64 of it.
"""

MOST_RUNS = 16
"""Of an exporter's domain; what older ones lack is summed up."""

SETTLED = -1
"""`lo` of the sum of older runs: its span is what they lacked."""


class Run(NamedTuple):
    """`lo`: first number, of 32 bits; span: units from it to the end of the last message;
    skipped: units among them of which is not known whether they came; first, last: arrival (ns).
    """

    lo: int
    span: int
    received: int
    skipped: int
    first: int
    last: int

    @property
    def missing(self) -> int:
        """Units that were numbered and not received."""
        return max(self.span - self.received - self.skipped, 0)


Told: TypeAlias = dict[str, dict[str, list[list[int]]]]
"""{exporter: {place: [run, ...]}}, as JSON has it."""


def join_runs(runs: Iterable[Run]) -> list[Run]:
    """The runs of all shards as if one had received all, in order of time."""
    joined: list[Run] = []
    for run in sorted(runs, key=lambda run: (run.first, run.last)):
        for i in reversed(range(len(joined))):
            if (both := _join(joined[i], run)) is not None:
                joined[i] = both
                break
        else:
            joined.append(run)
    return bounded(joined)


def bounded(runs: Sequence[Run]) -> list[Run]:
    """At most `MOST_RUNS`: the oldest are settled."""
    if len(runs) <= MOST_RUNS:
        return list(runs)
    cut = len(runs) - MOST_RUNS + 1
    lacked = sum(run.missing for run in runs[:cut])
    return [Run(SETTLED, lacked, 0, 0, 0, 0), *runs[cut:]]


def _join(a: Run, b: Run) -> Run | None:
    """Both as one, None if they are of different starts of the exporter. a began before b."""
    if SETTLED in (a.lo, b.lo):
        return Run(SETTLED, a.span + b.span, 0, 0, 0, 0) if a.lo == b.lo else None
    # Numbers wrap: of the places where b may begin, it is the one nearest to where a was then.
    elapsed, lasted = b.first - a.first, a.last - a.first
    there = a.span if elapsed >= lasted else a.span * elapsed // lasted
    begin = (b.lo - a.lo) % NUMBERS
    begin += (there - begin + NUMBERS // 2) // NUMBERS * NUMBERS
    later = b.first > a.last + LATE_NS
    least = a.span - LATE if later else -TOGETHER
    if not least <= begin < a.span + IN_LINE:
        return None
    before = max(-begin, 0)
    span = max(a.span, begin + b.span) + before
    received = a.received + b.received
    if received > span + SPARE + span // 64:
        return None  # numbers that came twice: the exporter began anew in between
    return Run(
        (a.lo - before) % NUMBERS,
        span,
        received,
        a.skipped + b.skipped,
        a.first,
        max(a.last, b.last),
    )


def join_told(told: Iterable[Told]) -> Told:
    """The accounts of several shards as one."""
    collected: dict[str, dict[str, list[list[int]]]] = {}
    for one in told:
        for exporter, places in one.items():
            into = collected.setdefault(exporter, {})
            for place, runs in places.items():
                into[place] = into.get(place, []) + runs
    return {
        exporter: {
            place: [list(run) for run in join_runs(Run(*run) for run in runs)]
            for place, runs in places.items()
        }
        for exporter, places in collected.items()
    }


def gaps(told: Told) -> dict[str, tuple[int, int]]:
    """{exporter: (units missing, times that its numbers began anew)}."""
    return {
        exporter: (
            sum(Run(*run).missing for runs in places.values() for run in runs),
            sum(len(runs) - 1 for runs in places.values()),
        )
        for exporter, places in told.items()
    }


def without_sequences(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger for people and programs: its rows say what the sequence accounts come to."""
    return {name: part for name, part in snapshot.items() if name != "sequences"}


def with_gaps(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger with what its sequence accounts say in each exporter's row."""
    exporters = dict(snapshot["exporters"])
    for exporter, (missing, restarts) in gaps(snapshot.get("sequences", {})).items():
        row = dict(exporters.get(exporter, {}))
        for account, n in (("sequence_gap", missing), ("restarts", restarts)):
            row.pop(account, None)
            if n:
                row[account] = n
        if row:
            exporters[exporter] = row
    return {**snapshot, "exporters": exporters}
