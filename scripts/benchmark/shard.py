"""One shard and its aggregator in a process, without Ray: `shard CONFIG`, until INT or TERM."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path

from cluster.replay import load_program
from flowray.ingest.delivery import LocalTransport
from flowray.ingest.knowledge import KnowledgeStore
from flowray.ingest.shard import Shard
from flowray.sinks.opening import open_sinks
from flowray.views.aggregation import Aggregation

TICK_SECONDS = 0.5
FIRST_LOOK_SECONDS = 0.005


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    program = load_program(Path(sys.argv[1]))
    folder = program.settings.state.path
    folder.mkdir(parents=True, exist_ok=True)
    aggregations = [
        Aggregation(plan, open_sinks(program, plan.name), partition)
        for plan in program.views
        for partition in range(plan.partitions)
    ]
    for aggregation in aggregations:
        aggregation.expect(["bench"])
    store = KnowledgeStore(folder / "templates.jsonl")
    shard = Shard(program, "bench", LocalTransport(aggregations), store)
    shard.start()
    while not stop.wait(FIRST_LOOK_SECONDS) and not shard.status()["datagrams"]:
        pass
    print("first", flush=True)
    while not stop.wait(TICK_SECONDS):
        for aggregation in aggregations:
            aggregation.tick()
    figures = shard.drain(final=True)
    for aggregation in aggregations:
        aggregation.finish()
        aggregation.close()
    store.close()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
