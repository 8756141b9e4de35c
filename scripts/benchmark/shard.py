"""One shard and its aggregator in a process, without Ray: `shard CONFIG`, until INT or TERM."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from benchmark.counted import COUNTED, LOOK_SECONDS
from cluster.replay import load_program
from flowray.garbage import rarely_searched
from flowray.ingest.delivery import Place
from flowray.ingest.knowledge import KnowledgeStore
from flowray.ingest.shard import Shard
from flowray.sinks.opening import open_sinks
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation, Receipt
from flowray.views.view import Partial

TICK_SECONDS = 0.5


class Background:
    """A transport to aggregators in this process that does not make the shard wait for them."""

    def __init__(self, aggregations: Iterable[Aggregation]) -> None:
        self._aggregations = {(a.plan.name, a.partition): a for a in aggregations}
        self._worker = ThreadPoolExecutor(1)
        self._moving: dict[Place, Future[Receipt]] = {}

    def send(self, partial: Partial, incarnation: str) -> None:
        place = partial.view, partial.partition
        deliver = self._aggregations[place].deliver
        self._moving[place] = self._worker.submit(deliver, partial, incarnation)

    def settle(self, place: Place, shard: str, incarnation: str) -> None:
        settle = self._aggregations[place].settle
        self._moving[place] = self._worker.submit(settle, shard, incarnation)

    def receipts(self) -> list[Receipt]:
        done = [place for place, answer in self._moving.items() if answer.done()]
        return [self._moving.pop(place).result() for place in done]


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    program = load_program(Path(sys.argv[1]))
    aggregations = [
        Aggregation(plan, open_sinks(program, plan.name), partition)
        for plan in program.views
        for partition in range(plan.partitions)
    ]
    for aggregation in aggregations:
        aggregation.expect(["bench"])
    store = KnowledgeStore(open_store(program.settings.state.path))
    shard = Shard(program, "bench", Background(aggregations), store)
    shard.start()
    while not stop.wait(LOOK_SECONDS):
        if shard.status()["datagrams"] and shard.ledger()["views"]:
            print(COUNTED, flush=True)
            break
    while not stop.wait(TICK_SECONDS):
        for aggregation in aggregations:
            aggregation.tick()
    figures = shard.drain(final=True)
    for aggregation in aggregations:
        aggregation.finish()
        aggregation.close()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    with rarely_searched():
        main()
