"""A shard goes on with another configuration between two batches: its sockets stay open, and what
it knows of exporters, holds and has not delivered stays its own.

Aggregators of views that went, or that are folded otherwise from now on, get what was folded for
them before. What a view is folded into from now on waits in the shard until the new aggregators are
there: the owner calls `release`.
"""

from __future__ import annotations

from collections.abc import Collection

from flowray.fleet.changes import folded
from flowray.ingest.collector import Collector
from flowray.ingest.delivery import Delivery
from flowray.ingest.knowledge import to_entry
from flowray.ingest.resume import held_of, resume, state_of
from flowray.settings.compile import Program


def successor(old: Collector, program: Program, now_ns: int) -> Collector:
    """A collector for a program that goes on where another one is. No partial may be open there."""
    new = old.made_for(program)
    description, tables = state_of(old)
    held = held_of(old)
    if held.num_rows:
        tables["held"] = held
    known = (to_entry(*told) for told in old.known())
    resume(new, (description, tables), known, now_ns)
    new.close_accounts()
    new.go_on_with(old.kept())
    if old.join is not None and new.join is not None:
        for group, snapshot in old.join.snapshots.items():
            new.join.install(snapshot, group)
        for group in old.join.lost:
            new.join.lose(group)
    return new


class Turnover:
    """Views of a shard between two configurations. `outgoing`: something is left for aggregators
    that will go; `gated`: partials wait for aggregators that are not there yet. For the receive
    thread; any thread may look.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.outgoing: frozenset[str] = frozenset()
        self.gated: frozenset[str] = frozenset()

    def begin(self, old: Program, new: Program, collector: Collector) -> None:
        """Deliver for a new program from now on, with partials from this collector."""
        before, after = folded(old.settings), folded(new.settings)
        changed = {view for view in after if before.get(view, after[view]) != after[view]}
        gone = before.keys() - after.keys()
        places = [(plan.name, p) for plan in new.views for p in range(plan.partitions)]
        # A view that had more partitions before has lanes without new partials.
        gates = {place: n for place, n in collector.sequence.items() if place[0] in changed}
        self._delivery.follow(collector, places, gates)
        self.gated |= changed
        self.outgoing |= changed | gone

    def step(self, collector: Collector) -> None:
        """See what has left, and ask aggregators for the checkpoints that are missing."""
        for view in self.outgoing:
            places = [place for place in collector.sequence if place[0] == view]
            left = [
                self._delivery.left(place, collector.shard, collector.incarnation)
                for place in places
            ]
            if all(left):
                self.outgoing -= {view}
                if view not in self.gated:
                    self._delivery.drop(places)

    def release(self, views: Collection[str]) -> None:
        """The new aggregators of these views are there."""
        self.gated -= set(views)
        self._delivery.open(views)
