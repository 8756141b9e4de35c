"""A shard under ten million distinct keys: memory bounded by max_keys, totals right."""

import resource

import numpy as np
import pyarrow.compute as pc

from flowray.ingest.ledger import problems
from flowray.replay import Replay
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.wire.packets import PacketBatch

PER_DATAGRAM = 30
SIZE = 24 + 48 * PER_DATAGRAM
DATAGRAMS = 4096
START_NS = 1_700_000_000_000_000_000


def _batch(first: int, exporter: int) -> PacketBatch:
    """NetFlow v5 datagrams whose records have source addresses first, first + 1, ..."""
    raw = np.zeros((DATAGRAMS, SIZE), np.uint8)
    raw[:, 1], raw[:, 3] = 5, PER_DATAGRAM
    raw[:, 8:12] = np.frombuffer(np.array([START_NS // 10**9], ">u4").tobytes(), np.uint8)
    sequence = (first + PER_DATAGRAM * np.arange(DATAGRAMS)).astype(">u4")
    raw[:, 16:20] = sequence.view(np.uint8).reshape(-1, 4)
    records = np.zeros((DATAGRAMS * PER_DATAGRAM, 48), np.uint8)
    address = (first + np.arange(len(records))).astype(">u4")
    records[:, 0:4] = address.view(np.uint8).reshape(-1, 4)
    records[:, 19], records[:, 23] = 2, 100
    raw[:, 24:] = records.reshape(DATAGRAMS, -1)
    return PacketBatch(
        raw.reshape(-1),
        np.arange(DATAGRAMS, dtype=np.int64) * SIZE,
        np.full(DATAGRAMS, SIZE, np.int64),
        np.full(DATAGRAMS, exporter, np.uint32),
        np.full(DATAGRAMS, START_NS, np.int64),
    )


def _peak_octets() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _run(records: int, max_keys: int) -> tuple[MemorySink, Replay]:
    view = {"name": "hosts", "keys": ["src_host"], "window": "1h", "max_keys": max_keys}
    program = compile_settings(parse_settings({"views": [view]}, "test"), "test")
    sink = MemorySink()
    run = Replay(program, lambda _view, _partition: [sink])
    exporter = run.collector.exporters.intern_one("192.0.2.1")
    for first in range(0, records, DATAGRAMS * PER_DATAGRAM):
        run.feed(_batch(first, exporter))
    return sink, run


def test_ten_million_keys_stay_within_max_keys() -> None:
    records = -(-10_000_000 // (DATAGRAMS * PER_DATAGRAM)) * DATAGRAMS * PER_DATAGRAM
    _run(2 * DATAGRAMS * PER_DATAGRAM, 1_000_000)
    before = _peak_octets()
    sink, run = _run(records, 1_000_000)
    # A row takes 8 words and two slots; tables double, and a hand-over copies a few times.
    assert _peak_octets() - before < 1 << 30
    _check(sink, run, records, 1_000_000)


def test_totals_are_right_past_max_keys() -> None:
    records = 2 * DATAGRAMS * PER_DATAGRAM
    sink, run = _run(records, 1000)
    _check(sink, run, records, 1000)


def _check(sink: MemorySink, run: Replay, records: int, max_keys: int) -> None:
    summary = run.finish()
    assert summary.problems == problems(summary.ledger) == []
    (table,) = sink.tables.values()
    assert table.num_rows == max_keys + 1
    assert pc.sum(table["packets"]).as_py() == 2 * records
    assert pc.sum(table["bytes"]).as_py() == 100 * records
    others = table.filter(table["_others"])
    assert others["flows"].to_pylist() == [records - max_keys]
