"""How a shard goes on from the ring of its predecessor, and leaves one to its successor."""

from __future__ import annotations

import json
import logging
from typing import Any

from flowray.errors import FlowrayError
from flowray.ingest.collector import Collector, MakeCollector
from flowray.ingest.knowledge import Outbox
from flowray.ingest.receive import Receiver
from flowray.ingest.resume import held_changes, held_of, resume, shapes, state_of
from flowray.ingest.ring import Ring
from flowray.settings.compile import Program

log = logging.getLogger(__name__)


def collector_of(
    program: Program, make: MakeCollector, ring: Ring | None, now_ns: int
) -> Collector:
    """The collector of a shard: that of its predecessor as of the last cut, if it left one that can
    be used, else a new one as it was made.
    """
    if ring is None:
        return make(None)
    collector = make(ring.partials)
    if ring.predecessor is None:
        return collector
    try:
        resume(collector, ring.predecessor, ring.journal.entries(), now_ns)
        if ring.predecessor[0]["shapes"].keys() != shapes(program).keys():
            collector.close_accounts()
        _restore_partials(collector, program, ring)
    except (FlowrayError, KeyError, ValueError, TypeError, IndexError, OSError) as error:
        ring.start_over(f"{type(error).__name__}: {error}")
        return make(ring.partials)
    return collector


def _restore_partials(collector: Collector, program: Program, ring: Ring) -> None:
    assert ring.predecessor is not None
    sequences = {(view, p): n for view, p, n in ring.predecessor[0]["sequence"]}
    kept = ring.partials.restore(collector.shard, collector.incarnation, sequences)
    then, now = ring.predecessor[0]["shapes"], json.loads(json.dumps(shapes(program)))
    good = [p for p in kept if then.get(p.view) == now.get(p.view)]
    for partial in kept:
        if partial not in good:
            log.error("%s: a partial of view %s as it was before", ring.directory, partial.view)
            ring.partials.forget(partial)
    collector.go_on_with(good)


class Cuts:
    """What a shard commits at each cut. Not thread-safe."""

    def __init__(
        self, ring: Ring, program: Program, collector: Collector, receiver: Receiver, news: Outbox
    ) -> None:
        self._ring = ring
        self._receiver = receiver
        self._news = news
        self._held = (0, 0)
        self.follow(program, collector)
        self.resumed = 0
        self.recovered = 0
        if ring.predecessor is not None:
            before: dict[str, Any] = ring.predecessor[0]
            receiver.go_on_from(before["receiver"])
            news.put(before["unpublished"])
            self.resumed = before["resumed"] + 1
            self.recovered = before["recovered"] + ring.found

    def follow(self, program: Program, collector: Collector) -> None:
        """Commit this collector from now on."""
        self._collector = collector
        self._shapes = shapes(program)

    def commit(self) -> None:
        """Make this moment the one that a successor goes on from. Raises OSError."""
        description, tables = state_of(self._collector)
        description |= {
            "shapes": self._shapes,
            "receiver": self._receiver.figures(),
            "unpublished": self._news.entries(),
            "resumed": self.resumed,
            "recovered": self.recovered,
        }
        changes = held_changes(self._collector)
        held = None if changes == self._held else held_of(self._collector)
        self._ring.commit((description, tables), held)
        self._held = changes
