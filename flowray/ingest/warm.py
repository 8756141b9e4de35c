"""Loads the compiled kernels that a configuration uses: the first datagram must not wait."""

from __future__ import annotations

import numpy as np

from flowray.ingest.collector import Collector
from flowray.ingest.sender_kernels import domains
from flowray.settings.compile import Program
from flowray.views.aggregate import END_OF_INPUT, Aggregator
from flowray.views.view import Partial
from flowray.wire.envelope_kernels import open_envelopes
from flowray.wire.packets import PacketBatch

RECORDS, KEYS = 64, 16


def warm(program: Program) -> None:
    """Run a few made-up records of every protocol through a collector that is thrown away."""
    _partials(program)
    _load_senders()


def _load_senders() -> None:
    octets, none, words = np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.uint64)
    domains(octets, none, none, words)
    open_envelopes(octets, none, none, none, words, words, np.empty(0, np.int8))


def warm_aggregator(program: Program, view: str) -> None:
    """Merge their partial of a view into an aggregator that is thrown away."""
    plan = next(plan for plan in program.views if plan.name == view)
    aggregator = Aggregator(plan, ())
    for partial in _partials(program):
        if partial.view == view:
            aggregator.merge(partial)
    aggregator.state()
    aggregator.advance(END_OF_INPUT)


def _partials(program: Program) -> list[Partial]:
    from flowray.generate.bench import MIX, bench_traffic
    from flowray.rib.warm import ROUTER, snapshot_of

    collector = Collector(program, "warm")
    if collector.join is not None:
        collector.join.install(snapshot_of(program))
    made = bench_traffic(RECORDS, distinct=KEYS, mix=MIX)
    exporter = np.full(len(made), collector.exporters.intern_one(ROUTER), np.uint32)
    batch = PacketBatch(made.buffer, made.offset, made.length, exporter, made.time_ns)
    # Held data is rare, and found records after it: nothing else compiles what accounts them.
    nothing = np.empty(0, np.int64)
    collector.decoder.sequences.found(nothing, nothing, nothing, nothing)
    collector.feed(batch)
    none = np.empty(0, np.int64)
    collector.decoder.sequences.found(none, none, none, none)
    collector.snapshot()
    return collector.hand_over(int(made.time_ns[-1]))
