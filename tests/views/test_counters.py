"""Views of sFlow counters: generated counter samples to rows through an in-process replay."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.parquet as pq
import pytest

from flowray.counters import BLOCKS, COUNTERS, block_names
from flowray.generate import sflow
from flowray.ingest.ledger import merge_snapshots, problems, totals
from flowray.replay import Replay, Summary
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.sinks.files import FileKind
from flowray.sinks.opening import one_file
from flowray.sinks.render import render
from flowray.views.aggregate import Aggregator
from flowray.views.view import Partial
from flowray.wire.flow import sflow_kernels
from flowray.wire.flow.sflow import CounterType
from flowray.wire.packets import PacketBatch

Row: TypeAlias = dict[str, Any]

T0 = 1_700_000_000 * 10**9
EXPORTER = "198.51.100.9"
AGENT = bytes([192, 0, 2, 1])
AGENT_V6 = bytes.fromhex("20010db8000000000000000000000007")
FLOWS = {"name": "flows", "keys": ["peer_src_ip"], "window": "1m"}
COUNTED = {"name": "counted", "of": "counters"}

GENERIC = {name: i + (2**40 if size == 8 else 2**31)
           for i, (name, size) in enumerate(sflow.GENERIC_FIELDS)}  # fmt: skip
ETHERNET = {name: 100 + i for i, name in enumerate(sflow.ETHERNET_FIELDS)}


def counter_sample(sequence: int, index: int, *, expanded: bool = False) -> bytes:
    records = [sflow.generic_counters(1, **GENERIC), sflow.ethernet_counters(1, **ETHERNET)]
    return sflow.counter_samples(
        records, sequence=sequence, source_index=index, expanded=expanded
    ).tobytes()


def flow_sample() -> bytes:
    header = sflow.raw_header(np.zeros((1, 64), np.uint8), 64)
    return sflow.flow_samples(
        [header], sequence=1, source_index=3, rate=10, pool=10, input_if=3, output_if=4
    ).tobytes()


DATAGRAMS = (
    sflow.datagram(AGENT, [flow_sample(), counter_sample(11, 3)], sequence=7, uptime_ms=1),
    sflow.datagram(AGENT, [flow_sample()], sequence=8, uptime_ms=2),
    sflow.datagram(AGENT_V6, [counter_sample(21, 5, expanded=True)], sequence=1, uptime_ms=3),
)


def expected() -> list[Row]:
    """The rows of DATAGRAMS with every field."""
    return [
        {
            **{field.key: 0 for block in BLOCKS.values() for field in block},
            "timestamp": f"2023-11-14T22:13:{20 + packet}.000000Z",
            "peer_ip_src": agent,
            "source_id_index": index,
            "sflow_seq": datagram,
            "sflow_cnt_seq": sample,
            "sf_cnt_type": kind.name.lower(),
            **dict(zip([f.key for f in BLOCKS[kind]], values.values(), strict=True)),
        }
        for packet, agent, index, datagram, sample in (
            (0, "192.0.2.1", 3, 7, 11),
            (2, "2001:db8::7", 5, 1, 21),
        )
        for kind, values in (
            (CounterType.SFLOW_CNT_GENERIC, GENERIC),
            (CounterType.SFLOW_CNT_ETHERNET, ETHERNET),
        )
    ]


def batch_of(replay: Replay, payloads: Sequence[bytes]) -> PacketBatch:
    length = np.array([len(p) for p in payloads], np.int64)
    exporter = replay.collector.exporters.intern_one(EXPORTER)
    return PacketBatch(
        np.frombuffer(b"".join(payloads), np.uint8).copy(),
        np.cumsum(length) - length,
        length,
        np.full(len(payloads), exporter, np.uint32),
        T0 + np.arange(len(payloads)) * 10**9,
    )


def compiled(*views: Row) -> Program:
    return compile_settings(parse_settings({"views": list(views)}, "test"), "test")


def replayed(
    program: Program, payloads: Sequence[bytes] = DATAGRAMS
) -> tuple[dict[str, list[Row]], Summary]:
    """Rows by view, and the summary."""
    sinks = {plan.name: MemorySink() for plan in program.views}
    replay = Replay(program, lambda view, _partition: [sinks[view]])
    replay.feed(batch_of(replay, payloads))
    summary = replay.finish()
    return {name: rendered(program, name, sink) for name, sink in sinks.items()}, summary


def rendered(program: Program, view: str, sink: MemorySink) -> list[Row]:
    fields, encoding = program.output_fields(view), program.encoding(view)
    return [r for t in sink.tables.values() for r in render(t, fields, encoding).to_pylist()]


def test_rows_equal_what_was_sent() -> None:
    rows, summary = replayed(compiled(FLOWS, COUNTED))
    assert rows["counted"] == expected()
    assert [list(row) for row in rows["counted"]] == [[f.key for f in COUNTERS.public()]] * 4
    assert [row["flows"] for row in rows["flows"]] == [2]
    assert summary.problems == []
    assert (summary.records, summary.rows) == (2, 5)
    assert {a: r.get("counter_blocks", 0) for a, r in summary.ledger["exporters"].items()} == {
        "192.0.2.1": 2,
        "2001:db8::7": 2,
    }
    accounts = {"offered": 4, "aggregated": 4, "committed": 4}
    assert summary.ledger["views"]["counted"] == accounts


def test_chosen_keys_are_in_the_order_of_the_table() -> None:
    view = {**COUNTED, "keys": ["vlan", "ifSpeed", "sf_cnt_type", "peer_ip_src", "vlan"]}
    rows, _ = replayed(compiled(view))
    order = ("peer_ip_src", "sf_cnt_type", "ifSpeed", "vlan")
    assert rows["counted"] == [{key: row[key] for key in order} for row in expected()]
    assert tuple(rows["counted"][0]) == order


def test_a_view_of_counters_alone() -> None:
    rows, summary = replayed(compiled(COUNTED))
    assert rows["counted"] == expected()
    assert (summary.problems, summary.records) == ([], 2)


@pytest.mark.parametrize("payloads", [DATAGRAMS[1:2], ()])
def test_nothing_to_count(payloads: Sequence[bytes]) -> None:
    rows, summary = replayed(compiled(FLOWS, COUNTED), payloads)
    assert (rows["counted"], summary.problems) == ([], [])


def test_not_read_when_no_view_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples are walked to find malformed ones, with no room for what is in them."""
    room = []

    def noted(buf: Any, samples: Any, causes: Any, counters: Any) -> int:
        room.append(counters.shape[1])
        return sflow_kernels.decode_counters(buf, samples, causes, counters)

    monkeypatch.setattr("flowray.wire.flow.sflow.decode_counters", noted)
    _, summary = replayed(compiled(FLOWS))
    assert room == [0]
    assert summary.problems == []
    sums = totals(summary.ledger)
    assert (sums["counter_samples"], "counter_blocks" in sums) == (2, False)
    assert "counter_views" not in summary.ledger
    replayed(compiled(COUNTED))
    assert room == [0, 0, 4]


@pytest.mark.parametrize("views", [(FLOWS,), (FLOWS, COUNTED)])
def test_a_cut_counter_record_is_malformed_whoever_reads_it(views: tuple[Row, ...]) -> None:
    """What the sample holds before the fault is kept."""
    cut = bytearray(DATAGRAMS[2])
    cut[-len(ETHERNET) * 4 - 1] += 4  # the length of the last record
    rows, summary = replayed(compiled(*views), [bytes(cut)])
    assert summary.problems == []
    assert totals(summary.ledger)["bad_sample"] == 1
    assert rows.get("counted", expected()[2:3])[0]["sf_cnt_type"] == "sflow_cnt_generic"


def test_hand_over_is_exactly_once() -> None:
    """A partial sent again, to the same aggregator or to one restored, adds nothing."""
    program = compiled(COUNTED)
    (plan,) = program.views
    replay = Replay(program, lambda _view, _partition: [])
    collector = replay.collector
    collector.feed(batch_of(replay, DATAGRAMS))
    assert collector.pending_rows == 4
    assert problems(collector.snapshot(), open_records={"counted": 4}) == []
    (partial,) = collector.hand_over(T0)
    assert collector.unacknowledged("counted", 0) == [partial]
    sink = MemorySink()
    first, second = (Aggregator(plan, [sink], shards=["0"]) for _ in range(2))
    repeat(first, partial)
    description, tables, _ = first.state()
    second.restore(description, tables)
    repeat(second, partial)
    assert [t.num_rows for t in sink.tables.values()] == [4]
    assert (second.rows_committed, second.open_records) == (4, 0)


def repeat(aggregator: Aggregator, partial: Partial) -> None:
    for _ in range(2):
        aggregator.merge(partial)


def test_lost_blocks_are_noticed() -> None:
    _, summary = replayed(compiled(FLOWS, COUNTED))
    ledger = merge_snapshots([summary.ledger, {"exporters": {}, "views": {}}])
    assert problems(ledger) == []
    ledger["exporters"]["192.0.2.1"]["counter_blocks"] += 1
    assert problems(ledger) == ["view counted: 5 counter blocks decoded, 4 offered"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_files(kind: FileKind, tmp_path: Path) -> None:
    program = compiled(COUNTED)
    replay = Replay(program, lambda view, _partition: [one_file(program, view, tmp_path, kind)])
    replay.feed(batch_of(replay, DATAGRAMS))
    assert replay.finish().problems == []
    path = tmp_path / f"counted.{kind}"
    if kind == "parquet":
        table = pq.read_table(path)
        assert table["ifOutOctets"].to_pylist() == [r["ifOutOctets"] for r in expected()]
        assert table["sf_cnt_type"].to_pylist() == [r["sf_cnt_type"] for r in expected()]
        return
    lines = path.read_text().splitlines()
    if kind == "jsonl":
        assert [json.loads(line) for line in lines] == expected()
    else:
        texts = [{key: str(value) for key, value in row.items()} for row in expected()]
        assert list(csv.DictReader(lines)) == texts


def test_the_table_agrees_with_the_decoder() -> None:
    names = block_names()
    assert {kind: names[kind].decode() for kind in CounterType} == {
        kind: kind.name.lower() for kind in CounterType
    }
    bits = [field.bits for block in BLOCKS.values() for field in block]
    assert bits == [8 * size for size in sflow_kernels._WIDTHS.tolist()]
