"""Aggregators in this process with made-up traffic in them, and publishers of their live views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowray.generate.bench import MIX, bench_traffic
from flowray.ingest.collector import Collector
from flowray.live.newest import NewestRows
from flowray.live.publish import LivePublisher
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.views.aggregation import Aggregation
from flowray.views.leading import Leading
from flowray.views.view import Partial, ViewPlan
from flowray.wire.packets import PacketBatch

KEYS = ["src_host", "dst_host", "proto", "dst_port", "tcpflags"]


class Live:
    """A view `talkers` in some partitions."""

    def __init__(self, redis: str, partitions: int = 1, **live: Any) -> None:
        content = {
            "views": [
                {"name": "talkers", "keys": KEYS, "window": "1h", "partitions": partitions},
                {"name": "raw", "keys": ["src_host"]},
            ],
            "redis": redis,
            # Long: what was written does not grow old on a busy machine.
            "live": {"interval": "1m", "expire": "1h", **live},
        }
        self.program: Program = compile_settings(parse_settings(content, "test"), "test")
        self.plan: ViewPlan = self.program.views[0]
        self.sinks = [MemorySink() for _ in range(partitions)]
        self.aggregations = [Aggregation(self.plan, [sink], p) for p, sink in enumerate(self.sinks)]
        self.publishers = [
            LivePublisher(self.program, "talkers", p, aggregation)
            for p, aggregation in enumerate(self.aggregations)
        ]
        self.newest = NewestRows(self.program, self.ask)
        self.asked = 0
        self._collector = Collector(self.program, "test")
        self._sequence = 0

    def ask(self, plan: ViewPlan, n: int) -> Sequence[Leading]:
        """As the aggregators' actors answer."""
        assert plan is self.plan
        self.asked += 1
        return [one for a in self.aggregations for one in a.leading(n, windows=1)]

    def offer(self, records: int = 600, distinct: int = 200, seed: int = 1) -> None:
        """Merge some traffic."""
        made = bench_traffic(records, distinct=distinct, mix=MIX, seed=seed)
        exporters = np.full(len(made), self._collector.exporters.intern_one("192.0.2.1"), np.uint32)
        self._collector.feed(
            PacketBatch(made.buffer, made.offset, made.length, exporters, made.time_ns)
        )
        for partial in self._collector.hand_over(int(made.time_ns[-1])):
            if partial.view == "talkers":
                self.deliver(partial)

    def deliver(self, partial: Partial) -> None:
        """Give a partial to its partition."""
        aggregation = self.aggregations[partial.partition]
        assert aggregation.deliver(partial, aggregation.incarnation).merged

    def write(self) -> None:
        """Write all partitions."""
        for publisher in self.publishers:
            assert publisher.write(), publisher.error

    def close(self) -> None:
        """End the threads."""
        for publisher in self.publishers:
            publisher.stop()
