"""The state of a collector as of a cut, and how a successor goes on from it.

At a cut no partial is open, so what is left is who the exporters are, their accounts and sequence
numbers, and the data that waits for templates or options. Templates and facts are in the journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from flowray.errors import FlowrayError
from flowray.ingest.collector import Collector
from flowray.ingest.knowledge import Entry, from_entry
from flowray.settings.compile import Program
from flowray.views.checkpoint import State
from flowray.views.view import ViewPlan

HOLDS = ("hold", "settling")
"""What waits for a template, and what waits for options."""


class ResumeError(FlowrayError):
    """A state that this configuration cannot go on from."""


def state_of(collector: Collector) -> State:
    """All but what is held. No partial may be open."""
    c = collector
    exporters = pa.table({"hi": c.exporters.hi.copy(), "lo": c.exporters.lo.copy()})
    description = {
        "incarnation": c.incarnation,
        "archive": c.position,
        "sequence": [[*place, n] for place, n in c.sequence.items()],
        "views": c.ledger.views(),
        "closed": c.closed,
        "overflowed": c.exporters.overflowed,
        "waits": c.decoder.settling.waits_told(),
        "watermark": c.watermark,
    }
    tables = {
        "exporters": exporters,
        "accounts": c.ledger.table(),
        "sequences": c.decoder.sequences.table(),
        "samples": c.samples.sequences.table(),
        "settling": c.decoder.settling.table(),
    }
    return description, tables


def held_changes(collector: Collector) -> tuple[int, int]:
    """Counts that differ after what is held has changed."""
    return collector.decoder.hold.changes, collector.decoder.settling.hold.changes


def held_of(collector: Collector) -> pa.Table:
    """What is held, with a column that says for what."""
    tables = (collector.decoder.hold.table(), collector.decoder.settling.hold.table())
    return pa.concat_tables(
        table.append_column("of", pa.array([name] * table.num_rows, pa.string()))
        for name, table in zip(HOLDS, tables, strict=True)
    )


def resume(collector: Collector, state: State, known: Iterable[Entry], now_ns: int) -> None:
    """Go on from a state with a collector that is new. Raises ResumeError, KeyError, ValueError or
    TypeError for a state that `state_of` did not make.
    """
    description, tables = state
    c = collector
    c.adopt(description.get("archive"))
    exporters = tables["exporters"]
    if exporters.num_rows > c.exporters.limit + 1:
        raise ResumeError(f"{exporters.num_rows - 1} exporters, allowed {c.exporters.limit}")
    c.incarnation = description["incarnation"]
    c.watermark = description["watermark"]
    sequence = {(view, partition): n for view, partition, n in description["sequence"]}
    # Those of views that are no more, too: were they to come back, they would go on with these.
    c.sequence.update(sequence)
    hi, lo = (exporters[name].to_numpy() for name in ("hi", "lo"))
    c.exporters.restore(hi, lo, description["overflowed"])
    for entry in known:
        address, learned = from_entry(entry)
        c.install(address, learned, now_ns)
    c.decoder.sequences.restore(tables["sequences"])
    c.samples.sequences.restore(tables["samples"])
    c.decoder.settling.restore(tables["settling"], description["waits"])
    held = tables.get("held")
    if held is not None:
        of = np.array(held["of"].to_pylist())
        for name, hold in zip(HOLDS, (c.decoder.hold, c.decoder.settling.hold), strict=True):
            hold.restore(held.filter(pa.array(of == name)))
    # Last, for what was installed above is in these accounts already.
    c.ledger.restore(tables["accounts"], description["views"])
    c.closed = description["closed"]


def shapes(program: Program) -> dict[str, list[Any]]:
    """What must be the same for a kept partial of a view to be of use."""
    return {plan.name: _shape(plan) for plan in program.views}


def _shape(plan: ViewPlan) -> list[Any]:
    w = plan.windows
    windows = [w.width, w.offset, w.lateness] if w else None
    return [plan.partitions, [f.name for f in plan.fields], windows]
