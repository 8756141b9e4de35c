"""Marks of paths become columns of the routes that they are of."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.bmp_events import Marks
from flowray.rib.collector import RouteCollector
from flowray.rib.journal import Labels
from flowray.rib.replay import RouteReplay
from flowray.rib.route_marks import NO_MARK, marks_of
from flowray.rib.streams import Stream
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.sinks.encoding import Encoding
from flowray.sinks.render import render
from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.events import Action
from flowray.wire.bgp.update import parse_updates
from tests.rib.bgp_peer import START
from tests.wire.bgp import encode as e
from tests.wire.bgp import encode_bmp as b
from tests.wire.bgp import updates as u

LOC_RIB = b.Peer("192.0.2.9", peer_type=3)
COUNTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=4)
MARKS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 7), st.integers(-1, 3)),
    max_size=8,
)


def message(announced: int, withdrawn: int) -> bytes:
    gone = b"".join(e.prefix(f"10.{n}.0.0/16") for n in range(withdrawn))
    told = b"".join(e.prefix(f"172.16.{n}.0/24") for n in range(announced))
    return e.update(gone, e.usual(65551) if announced else b"", told)


@given(COUNTS, MARKS)
def test_marks_find_their_routes(
    counts: list[tuple[int, int]], told: list[tuple[int, int, int, int]]
) -> None:
    told = sorted((mark for mark in told if mark[0] < len(counts)), key=lambda mark: mark[0])
    columns: list[Any] = [np.array(c, np.int64) for c in zip(*told, strict=True)]
    message_, index, status, reason = columns or [np.zeros(0, np.int64)] * 4
    marks = Marks(message_, index, status.astype(np.uint32), reason)
    batch = u.batch([message(*count) for count in counts])
    events = parse_updates(batch, u.PLAIN, AttributeStore()).events
    expected = []
    ordinals = [0] * len(counts)
    last = {(m, i): s | (r + 1) << 32 for m, i, s, r in told}
    for row, action in zip(events.message.tolist(), events.action.tolist(), strict=True):
        if action != Action.ANNOUNCE:
            expected.append(NO_MARK)
            continue
        ordinals[row] += 1
        expected.append(last.get((row, ordinals[row]), last.get((row, 0), NO_MARK)))
    if told:
        assert marks_of(marks, events).tolist() == expected


@pytest.mark.parametrize("reason", [None, 1])
def test_rows_of_a_log(reason: int | None) -> None:
    configuration = {
        "listen": {"bmp": {}},
        "views": [{"name": "v", "keys": ["dst_as"]}],
        "routes": {"streams": {"bmp_log": {}}},
    }
    made = compile_settings(parse_settings(configuration, "test"), "test")
    sink = MemorySink()
    collector = RouteCollector(made.settings, {"bmp_log": Stream("bmp_log", [sink])}, Labels())
    value = b"\0\0\1\2" + (b"" if reason is None else reason.to_bytes(2))
    update, mark = b.tlv(1, message(2, 0), index=0), b.tlv(5, value, index=2)
    RouteReplay(made.settings, collector).receive(
        "bmp", "192.0.2.2", 1, b.route_monitoring_v4(LOC_RIB, update, mark), START
    )
    collector.flush(START)
    collector.store()
    (table,) = sink.tables.values()
    _, first, second = render(table, made.stream_fields("bmp_log"), Encoding()).to_pylist()
    assert (first["path_status"], first["reason_code"]) == (None, None)
    assert second["path_status"] == "Best Filtered-in-inbound-policy"
    assert second["reason_code"] == reason
