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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from flowray.views.aggregation import Aggregation, Receipt
from flowray.views.view import Partial

Place: TypeAlias = tuple[str, int]
"""View and partition."""

RETRY_SECONDS = 0.5


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
    """The way to one aggregator."""

    incarnation: str = ""
    queue: deque[Partial] = field(default_factory=deque)
    moving: Partial | None = None
    settling: bool = False
    since: float = 0.0
    retry_at: float = 0.0
    failures: int = 0

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
            self._answer(self._lanes[receipt.view, receipt.partition], receipt)
        for lane in self._lanes.values():
            if lane.queue and lane.moving is None:
                self._move(lane)

    def settle(self, shard: str, incarnation: str) -> None:
        """Ask all idle aggregators for a checkpoint."""
        for place, lane in self._lanes.items():
            if not lane.busy and self._clock() >= lane.retry_at:
                lane.settling = True
                lane.since = self._clock()
                self._transport.settle(place, shard, incarnation)

    def _move(self, lane: Lane) -> None:
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
