"""The exactly-once protocol under every disorder that hypothesis thinks of."""

from collections import defaultdict, deque
from dataclasses import dataclass, field

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flowray.ingest.delivery import RETRY_SECONDS, Delivery, Place
from flowray.views.aggregation import Receipt
from flowray.views.view import Partial

PLACE = ("v", 0)


class Shard:
    """Numbers partials and keeps them, as the collector does."""

    def __init__(self) -> None:
        self.kept: deque[Partial] = deque()
        self.sequence = 0

    def hand_over(self, value: int | None) -> Partial:
        self.sequence += 1
        table = None if value is None else pa.table({"n": [value]})
        partial = Partial(*PLACE, "s", "i", self.sequence, self.sequence, table)
        if table is not None:
            self.kept.append(partial)
        return partial

    def acknowledge(self, view: str, partition: int, sequence: int) -> None:
        while self.kept and self.kept[0].sequence <= sequence:
            self.kept.popleft()

    def unacknowledged(self, view: str, partition: int) -> list[Partial]:
        assert (view, partition) == PLACE
        return list(self.kept)


@dataclass
class Far:
    """An aggregator that adds numbers up, and the disturbed way to it."""

    total: int = 0
    sequence: int = 0
    stored: tuple[int, int] = (0, 0)
    number: int = 1
    faults: deque[str] = field(default_factory=deque)
    answers: list[Receipt] = field(default_factory=list)

    def send(self, partial: Partial, incarnation: str) -> None:
        fault = self.faults.popleft() if self.faults else "none"
        if fault == "lost":
            self.answers.append(Receipt(*PLACE, failure="lost"))
            return
        receipt = self.deliver(partial, incarnation)
        if fault == "answer lost":
            receipt = Receipt(*PLACE, failure="answer lost")
        self.answers.append(receipt)
        if fault == "crash after":
            self.crash()

    def deliver(self, partial: Partial, incarnation: str) -> Receipt:
        name = str(self.number)
        if incarnation == name and partial.sequence > self.sequence:
            self.sequence = partial.sequence
            if partial.table is not None:
                self.total += partial.table["n"][0].as_py()
        return Receipt(*PLACE, name, incarnation == name, self.stored[1])

    def settle(self, place: Place, shard: str, incarnation: str) -> None:
        self.checkpoint()
        self.answers.append(Receipt(*PLACE, str(self.number), True, self.stored[1]))

    def receipts(self) -> list[Receipt]:
        answers, self.answers = self.answers, []
        return answers

    def checkpoint(self) -> None:
        self.stored = self.total, self.sequence

    def crash(self) -> None:
        self.total, self.sequence = self.stored
        self.number += 1


STEPS = st.lists(
    st.one_of(
        st.integers(1, 1 << 20),
        st.sampled_from(
            [None, "poll", "checkpoint", "crash", "lost", "answer lost", "crash after"]
        ),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_number_is_added_exactly_once(steps: list[int | str | None]) -> None:
    now = [0.0]
    shard, far = Shard(), Far()
    delivery = Delivery(shard, far, [PLACE], clock=lambda: now[0])
    expected, pending = 0, 0
    actions = defaultdict(
        lambda: lambda: None, poll=delivery.poll, checkpoint=far.checkpoint, crash=far.crash
    )
    for step in steps:
        now[0] += RETRY_SECONDS / 3
        if step is None or isinstance(step, int):
            expected += step or 0
            pending += step or 0
            if not delivery.busy:  # else the shard folds on
                delivery.offer([shard.hand_over(pending or None)])
                pending = 0
        elif step in ("lost", "answer lost", "crash after"):
            far.faults.append(step)
        actions[step if isinstance(step, str) else ""]()
    far.faults.clear()
    for _ in range(20):
        now[0] += RETRY_SECONDS
        delivery.poll()
        if delivery.busy:
            continue
        if pending:
            delivery.offer([shard.hand_over(pending)])
            pending = 0
        elif shard.kept:
            delivery.settle("s", "i")
    assert not shard.kept
    assert far.total == expected
    assert far.stored[0] == expected


def test_a_busy_lane_does_not_hold_up_the_others() -> None:
    class Slow(Far):
        def send(self, partial: Partial, incarnation: str) -> None:
            if partial.view == "quick":
                self.answers.append(Receipt("quick", 0, "1", True, 0))

    shard = Shard()
    delivery = Delivery(shard, Slow(), [PLACE, ("quick", 0)])
    delivery.offer([shard.hand_over(1), Partial("quick", 0, "s", "i", 1, 1)])
    delivery.poll()
    assert delivery.busy
    assert delivery.lag_seconds > 0
