from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowray.wire.segments import FIN, RST, SYN, SegmentBatch
from flowray.wire.tcp import Cause, Closed, Event, Received, Stream, Streams

ACK = 0x10
SECOND = 10**9
ISN = 2**32 - 20  # so that sequence numbers wrap in most tests


@dataclass(frozen=True)
class Made:
    start: int  # of the stream, 0 is its first octet
    data: bytes
    flags: int = ACK
    port: int = 4000
    time_ns: int = 0
    isn: int = ISN


def batch(made: Iterable[Made]) -> SegmentBatch:
    rows = list(made)
    count = len(rows)
    length = np.array([len(one.data) for one in rows], np.int64)
    return SegmentBatch(
        np.frombuffer(b"".join(one.data for one in rows), np.uint8),
        np.cumsum(length) - length,
        length,
        np.zeros(count, np.uint64),
        np.full(count, 0xFFFFC0000201, np.uint64),
        np.array([one.port for one in rows], np.uint16),
        np.full(count, 179, np.uint16),
        np.array([(one.isn + 1 + one.start) % 2**32 for one in rows], np.uint32),
        np.array([one.flags for one in rows], np.uint8),
        np.array([one.time_ns for one in rows], np.int64),
    )


def stream(port: int = 4000) -> Stream:
    return Stream(0, 0xFFFFC0000201, port, 179)


def syn(data: bytes = b"", isn: int = ISN, port: int = 4000) -> Made:
    return Made(-1, data, SYN, isn=isn, port=port)


def run(made: Iterable[Made], streams: Streams | None = None) -> list[Event]:
    return list((Streams() if streams is None else streams).feed(batch(made)))


def octets(events: Iterable[Event], port: int = 4000) -> bytes:
    return b"".join(e.data for e in events if isinstance(e, Received) and e.stream == stream(port))


def causes(events: Iterable[Event]) -> list[Cause]:
    return [e.cause for e in events if isinstance(e, Closed)]


# ------------------------------------------------------------------------------------- order
@st.composite
def arrivals(draw: st.DrawFn) -> tuple[bytes, list[Made]]:
    """A stream, and segments that cover it: cut anyhow, overlapping, repeated, out of order."""
    rng = draw(st.randoms(use_true_random=False))
    data = rng.randbytes(draw(st.integers(1, 120)))
    made = []
    at = 0
    while at < len(data):
        size = rng.randrange(1, 20)
        start = max(at - rng.choice([0, 0, 0, 3, 11]), 0)
        made.append(Made(start, data[start : at + size]))
        at += size
    made += [rng.choice(made) for _ in range(rng.randrange(4))]
    for _ in range(rng.randrange(3)):
        start = rng.randrange(len(data))
        made.append(Made(start, data[start : start + rng.randrange(1, 40)]))
    rng.shuffle(made)
    return data, made


@given(arrivals(), st.booleans(), st.booleans())
@settings(max_examples=500, deadline=None)
def test_octets_come_once_and_in_order(
    arrived: tuple[bytes, list[Made]], on_syn: bool, fin_early: bool
) -> None:
    data, made = arrived
    if on_syn:  # one octet again right after that is taken for a SYN that was not counted
        made = [m for m in made if m.start != min(7, len(data)) - 1] + [Made(0, data)]
    streams = Streams()
    fin = Made(len(data), b"", FIN)
    middle = [fin, *made] if fin_early else [*made, fin]
    events = run([syn(data[:7] if on_syn else b""), *middle], streams)
    assert octets(events) == data
    assert causes(events) == [Cause.FIN]
    assert isinstance(events[-1], Closed)
    assert not any(e.begun_late for e in events if isinstance(e, Received))
    assert all(e.data for e in events if isinstance(e, Received))
    assert (streams.gaps, streams.begun_late, streams.finish()) == (0, 0, 0)


@given(arrivals(), st.integers(0, 119), st.integers(1, 30))
@settings(max_examples=300, deadline=None)
def test_nothing_comes_from_beyond_a_gap(
    arrived: tuple[bytes, list[Made]], at: int, size: int
) -> None:
    data, made = arrived
    lost = range(at, at + size)
    kept = [m for m in made if not any(m.start <= i < m.start + len(m.data) for i in lost)]
    covered = {i for m in kept for i in range(m.start, m.start + len(m.data))}
    whole = next((i for i in range(len(data)) if i not in covered), len(data))
    streams = Streams()
    events = run([syn(), *kept], streams)
    assert octets(events) == data[:whole]
    beyond = any(m.start + len(m.data) > whole for m in kept)
    assert causes(events) == []
    assert streams.finish() == beyond


@given(st.lists(arrivals(), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_streams_do_not_mix(streams: list[tuple[bytes, list[Made]]], rng: random.Random) -> None:
    made = []
    for n, (_, segments) in enumerate(streams):
        port = 4000 + n
        mine = [syn(port=port), *(Made(m.start, m.data, port=port) for m in segments)]
        made += [(i + rng.random() * 3 * (i > 0), m) for i, m in enumerate(mine)]
    made.sort(key=lambda row: row[0])
    events = run(m for _, m in made)
    for n, (data, _) in enumerate(streams):
        assert octets(events, 4000 + n) == data


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary(max_size=9)
        ),
        max_size=30,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_segments_stay_within_bounds(rows: list[tuple[int, int, int, bytes]]) -> None:
    streams = Streams(limit_streams=2, limit_held=500)
    made = [Made(0, data, flags, 4000 + p, isn=seq) for p, seq, flags, data in rows]
    closed: set[Stream] = set()
    received = 0
    for event in run(made, streams):
        if isinstance(event, Received):
            closed.discard(event.stream)
            received += len(event.data)
        else:
            assert event.stream not in closed
            closed.add(event.stream)
    assert received <= sum(len(data) for *_, data in rows)
    assert len(streams) <= 2
    assert all(s.held <= 500 + 209 for s in streams._streams.values())


# ------------------------------------------------------------------------------------- ends
def test_times_are_those_of_the_segment_that_completes() -> None:
    made = [syn(), Made(2, b"cd", time_ns=1), Made(0, b"ab", time_ns=5), Made(4, b"e", time_ns=6)]
    assert run(made) == [
        Received(stream(), 5, b"abcd", begun_late=False),
        Received(stream(), 6, b"e", begun_late=False),
    ]


def test_a_stream_whose_beginning_is_missing_says_so() -> None:
    streams = Streams()
    events = run([Made(9, b"", FIN), Made(50, b"ab"), Made(52, b"c"), Made(40, b"old")], streams)
    assert octets(events) == b"abc"
    assert all(e.begun_late for e in events if isinstance(e, Received))
    assert (streams.begun_late, streams.ignored, streams.repeated) == (1, 1, 1)


def test_a_reset_ends_at_once() -> None:
    streams = Streams()
    made = [syn(), Made(0, b"ab"), Made(3, b"d"), Made(2, b"reason", RST | ACK), Made(2, b"cd")]
    events = run(made, streams)
    assert octets(events) == b"ab"
    assert causes(events) == [Cause.RST]
    assert (streams.gaps, streams.ignored) == (1, 1)


def test_a_syn_with_data_may_not_be_counted() -> None:
    made = [syn(b"abc"), syn(b"abc"), Made(2, b"de"), Made(4, b"f"), Made(5, b"", FIN)]
    events = run(made)
    assert octets(events) == b"abcdef"
    assert causes(events) == [Cause.FIN]


def test_a_keepalive_is_not_taken_for_it() -> None:
    assert octets(run([syn(b"abc"), Made(2, b"c"), Made(3, b"de"), Made(4, b"e")])) == b"abcde"


def test_a_stream_without_octets_is_not_told() -> None:
    assert run([syn(), Made(0, b"", RST), syn(isn=7), Made(0, b"", FIN, isn=7)]) == []


def test_a_new_connection_between_the_same_ports() -> None:
    made = [
        syn(),
        Made(0, b"one"),
        syn(),  # repeated
        syn(isn=99),
        Made(0, b"two", isn=99),
        Made(3, b"", FIN, isn=99),
        Made(3, b"late", isn=99),
        syn(isn=500),
        Made(0, b"three", isn=500),
    ]
    events = run(made)
    assert octets(events) == b"onetwothree"
    assert causes(events) == [Cause.REPLACED, Cause.FIN]


def test_a_gap_is_given_up_after_some_octets() -> None:
    streams = Streams(limit_held=1000)
    made = [syn(), Made(0, b"ab"), *(Made(3 + i, b"x" * 50) for i in range(0, 300, 50))]
    events = run([*made, Made(2, b"c")], streams)
    assert octets(events) == b"ab"
    assert causes(events) == [Cause.GAP]
    assert (streams.gaps, streams.finish()) == (1, 0)
    assert streams.ignored > 0


@pytest.mark.parametrize(("seconds", "expected"), [(10, []), (11, [Cause.GAP])])
def test_a_gap_is_given_up_after_some_time(seconds: int, expected: list[Cause]) -> None:
    streams = Streams(gap_ns=10 * SECOND)
    made = [
        syn(),
        Made(0, b"a"),
        Made(3, b"d", time_ns=SECOND),
        Made(1, b"b", time_ns=2 * SECOND),  # the gap that is left counts from here
        Made(4, b"e", time_ns=(2 + seconds) * SECOND),
    ]
    assert causes(run(made, streams)) == expected


def test_the_longest_silent_stream_makes_room() -> None:
    streams = Streams(limit_streams=2)
    made = [Made(0, b"x", port=p) for p in (1, 2)]
    made += [Made(1, b"y", port=1), Made(0, b"x", port=3), Made(2, b"z", port=1)]
    events = run(made, streams)
    assert [e for e in events if isinstance(e, Closed)] == [Closed(stream(2), 0, Cause.EVICTED)]
    assert octets(events, 1) == b"xyz"
    assert len(streams) == 2
