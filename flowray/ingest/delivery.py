"""A shard's side of the exactly-once protocol: partials on their way to aggregators.

Each place (view, partition) is a lane with one partial on its way at a time, so that partials
arrive in order. While a lane is busy the shard folds on into the next partials as long as it can:
back-pressure nearly without a queue. An aggregator that came back after a crash has a new
incarnation; it refuses the first partial that does not know it, and all that it has not
acknowledged goes out again, oldest first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from flowray.views.aggregation import Aggregation, Receipt
from flowray.views.view import Partial

Place: TypeAlias = tuple[str, int]
"""View and partition."""

RETRY_SECONDS = 0.5
END = (1 << 63) - 1
"""After all numbers."""


class Transport(Protocol):
    """Carries partials to aggregators. Not thread-safe. No call blocks, none raises."""

    def send(self, partial: Partial, incarnation: str) -> None:
        """Begin to deliver to the aggregator of the partial's place, known by this incarnation."""

    def settle(self, place: Place, shard: str, incarnation: str) -> None:
        """Ask for a checkpoint, so that what the shard's incarnation sent is acknowledged."""

    def receipts(self) -> list[Receipt]:
        """The answers that came in since the last call, one for each `send` and `settle`."""


class Acknowledged(Protocol):
    """What keeps partials until they are acknowledged (`Collector`)."""

    def acknowledge(self, view: str, partition: int, sequence: int) -> None:
        """Forget partials up to a sequence."""

    def unacknowledged(self, view: str, partition: int) -> list[Partial]:
        """The partials kept, oldest first."""


@dataclass(slots=True)
class Lane:
    """The way to one aggregator. Partials with numbers after `gate` are for another one, which is
    not there yet.
    """

    incarnation: str = ""
    queue: deque[Partial] = field(default_factory=deque)
    moving: Partial | None = None
    settling: bool = False
    since: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    gate: int | None = None

    @property
    def busy(self) -> bool:
        """Whether it takes no partial now."""
        return self.moving is not None or self.settling or bool(self.queue)


class Delivery:
    """All lanes of a shard."""

    def __init__(
        self,
        kept: Acknowledged,
        transport: Transport,
        places: Iterable[Place],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept = kept
        self._transport = transport
        self._lanes = {place: Lane() for place in places}
        self._clock = clock
        self.delivered = 0
        self.resent = 0
        self.last_failure = ""

    def offer(self, partials: Iterable[Partial]) -> None:
        """Send partials, numbered in order per place."""
        for partial in partials:
            lane = self._lanes[partial.view, partial.partition]
            if lane.queue and lane.queue[-1].table is None:
                lane.queue.pop()  # it says no more than this one
            lane.queue.append(partial)
            self._move(lane)

    def poll(self) -> None:
        """Take answers and send what they allow."""
        for receipt in self._transport.receipts():
            lane = self._lanes.get((receipt.view, receipt.partition))
            if lane is not None:
                self._answer(lane, receipt)
        for lane in self._lanes.values():
            if lane.queue:
                self._move(lane)

    def settle(self, shard: str, incarnation: str) -> None:
        """Ask all idle aggregators for a checkpoint."""
        for place, lane in self._lanes.items():
            if not lane.busy and self._clock() >= lane.retry_at:
                self._settle(place, lane, shard, incarnation)

    def _settle(self, place: Place, lane: Lane, shard: str, incarnation: str) -> None:
        lane.settling = True
        lane.since = self._clock()
        self._transport.settle(place, shard, incarnation)

    def _move(self, lane: Lane) -> None:
        if lane.gate is not None and lane.queue[0].sequence > lane.gate:
            return
        if lane.moving is None and not lane.settling and self._clock() >= lane.retry_at:
            lane.moving = lane.queue.popleft()
            lane.since = self._clock()
            self._transport.send(lane.moving, lane.incarnation)

    def _answer(self, lane: Lane, receipt: Receipt) -> None:
        partial, lane.moving, lane.settling = lane.moving, None, False
        if receipt.failure:
            lane.failures += 1
            self.last_failure = receipt.failure
            lane.retry_at = self._clock() + RETRY_SECONDS
            # Whether it was merged nobody knows: the next partial asks for what is missing.
            lane.incarnation = ""
            if partial is not None:
                lane.queue.appendleft(partial)
            return
        self._kept.acknowledge(receipt.view, receipt.partition, receipt.acknowledged)
        if partial is None:
            if receipt.incarnation != lane.incarnation:
                lane.incarnation = ""
                self._send_again(lane, receipt, None)
            return
        if receipt.merged:
            self.delivered += 1
            return
        lane.incarnation = receipt.incarnation
        self._send_again(lane, receipt, partial)

    def _send_again(self, lane: Lane, receipt: Receipt, partial: Partial | None) -> None:
        again = self._kept.unacknowledged(receipt.view, receipt.partition)
        self.resent += len(again)
        lane.queue = deque(again)
        if partial is not None and partial.table is None:
            # It carries nothing but a watermark, so nobody kept it; its number is the highest.
            lane.queue.append(partial)

    # -- other aggregators -------------------------------------------------------------------------

    def follow(
        self, kept: Acknowledged, places: Iterable[Place], gates: Mapping[Place, int]
    ) -> None:
        """Go on with partials of another keeper, for these places. `gates`: the last number for the
        aggregator that is there now.
        """
        self._kept = kept
        for place in places:
            self._lanes.setdefault(place, Lane())
        for place, gate in gates.items():
            # After another change that follows at once the first gate still tells what is whose.
            lane = self._lanes[place]
            lane.gate = gate if lane.gate is None else lane.gate

    def left(self, place: Place, shard: str, incarnation: str) -> bool:
        """Whether the aggregator of a place has in a checkpoint all that is for it; asks for one if
        that is all that is missing.
        """
        lane = self._lanes.get(place)
        if lane is None:
            return True
        last = END if lane.gate is None else lane.gate
        if lane.moving is not None or lane.settling or _any(lane.queue, last):
            return False
        if not _any(self._kept.unacknowledged(*place), last):
            return True
        if self._clock() >= lane.retry_at:
            self._settle(place, lane, shard, incarnation)
        return False

    def drop(self, places: Iterable[Place]) -> None:
        """Forget places to which nothing will go."""
        for place in places:
            self._lanes.pop(place, None)

    def open(self, views: Collection[str]) -> None:
        """The aggregators of these views are there now."""
        for place, lane in self._lanes.items():
            if place[0] in views:
                lane.gate = None

    # -- looking at it -----------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether any place takes no partial now."""
        return any(lane.busy for lane in self._lanes.values())

    @property
    def failures(self) -> int:
        """Partials that did not arrive at the first try."""
        return sum(lane.failures for lane in self._lanes.values())

    @property
    def lag_seconds(self) -> float:
        """How long the oldest partial has been on its way."""
        now = self._clock()
        waiting = (now - lane.since for lane in self._lanes.values() if lane.busy)
        return max(waiting, default=0.0)


def _any(partials: Iterable[Partial], last: int) -> bool:
    """Whether one that carries rows is numbered up to the last."""
    return any(p.sequence <= last for p in partials if p.table is not None)


class LocalTransport:
    """Aggregators in the same process: for tests and for running without Ray."""

    def __init__(self, aggregations: Iterable[Aggregation]) -> None:
        self.aggregations = {(a.plan.name, a.partition): a for a in aggregations}
        self._answers: list[Receipt] = []

    def send(self, partial: Partial, incarnation: str) -> None:
        """Deliver at once."""
        place = partial.view, partial.partition
        self._answers.append(self.aggregations[place].deliver(partial, incarnation))

    def settle(self, place: Place, shard: str, incarnation: str) -> None:
        """Settle at once."""
        self._answers.append(self.aggregations[place].settle(shard, incarnation))

    def receipts(self) -> list[Receipt]:
        """The answers since the last call."""
        answers, self._answers = self._answers, []
        return answers
