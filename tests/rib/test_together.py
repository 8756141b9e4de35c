"""Octets of a capture that came at once go to their session as one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.replay import BURST_NS, together
from flowray.wire.tcp import Cause, Closed, Event, Received, Stream

STREAMS = [Stream(0, 0xFFFF00000000 | host, 40_000, 179) for host in (1, 2)]


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    now, found = 0, list[Event]()
    for stream, gap, data in draw(
        st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(0, BURST_NS), st.binary()))
    ):
        now += gap
        if data:
            found.append(Received(stream, now, data, begun_late=False))
        else:
            found.append(Closed(stream, now, Cause.FIN))
    return found


def told(found: list[Event]) -> list[tuple[Stream, bytes | None]]:
    """Octets one by one, and ends of streams, in order."""
    return [
        (event.stream, piece)
        for event in found
        for piece in (
            [bytes((octet,)) for octet in event.data] if isinstance(event, Received) else [None]
        )
    ]


@given(events())
def test_octets_and_their_order_stay(given_events: list[Event]) -> None:
    joined = list(together(given_events))
    assert told(joined) == told(given_events)
    assert len(joined) <= len(given_events)
    assert {e.time_ns for e in joined} <= {e.time_ns for e in given_events}


def test_only_what_came_at_once_is_joined() -> None:
    first, other = STREAMS
    given_events: list[Event] = [
        Received(first, 0, b"a", begun_late=True),
        Received(first, BURST_NS - 1, b"b", begun_late=True),
        Received(first, BURST_NS, b"c", begun_late=True),
        Received(other, BURST_NS, b"d", begun_late=False),
        Closed(other, BURST_NS, Cause.FIN),
    ]
    assert list(together(given_events)) == [
        Received(first, 0, b"ab", begun_late=True),
        *given_events[2:],
    ]
