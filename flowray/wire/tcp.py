"""TCP streams out of captured segments: one direction each, in sequence order (RFC 9293)."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from flowray.wire.segments import FIN, RST, SYN, SegmentBatch

__all__ = ["Cause", "Closed", "Event", "Received", "Stream", "Streams"]

_TURN = 1 << 32
_OVERHEAD = 200  # bytes of Python objects that a held segment costs besides its payload


class Stream(NamedTuple):
    """Which direction of which connection."""

    source_hi: int
    source_lo: int
    source_port: int
    port: int  # of the destination


class Cause(StrEnum):
    """Why a stream ended."""

    FIN = "fin"
    RST = "rst"
    REPLACED = "replaced"  # by a new connection between the same ports
    GAP = "gap"  # octets that the capture lacks, without which nothing after them can be read
    EVICTED = "evicted"  # the longest silent one, where there are too many streams


@dataclass(frozen=True, slots=True)
class Received:
    """Octets of a stream, in order and without repetition, none before them missing.

    `begun_late`: the beginning of the stream was not captured, so that these octets may begin
    anywhere.
    """

    stream: Stream
    time_ns: int
    data: bytes
    begun_late: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of a stream of which something was received."""

    stream: Stream
    time_ns: int
    cause: Cause


Event: TypeAlias = Received | Closed


@dataclass(slots=True)
class _State:
    """One stream. Positions are sequence numbers that do not wrap."""

    begin: int  # of the first octet
    next: int  # of the octet awaited
    begun_late: bool
    ended: bool = False
    delivered: bool = False
    on_syn: bool = False  # all that was received came with the SYN
    fin: int | None = None  # position after the last octet
    starts: list[int] = field(default_factory=list)  # of held segments, ascending
    pieces: list[bytes] = field(default_factory=list)  # beside them
    held: int = 0  # bytes that they cost
    gap_ns: int = 0  # since when something is held

    def position(self, sequence: int) -> int:
        """The position with this sequence number that is nearest to the octet awaited."""
        ahead = (sequence - self.next) % _TURN
        return self.next + (ahead - _TURN if ahead >= _TURN // 2 else ahead)

    def hold(self, start: int, piece: bytes) -> None:
        at = bisect_left(self.starts, start)
        if self.starts[at : at + 1] == [start]:
            if len(self.pieces[at]) >= len(piece):
                return
            self.held += len(piece) - len(self.pieces[at])
            self.pieces[at] = piece
            return
        self.starts.insert(at, start)
        self.pieces.insert(at, piece)
        self.held += len(piece) + _OVERHEAD

    def release(self) -> bytes:
        """What is held and connects now."""
        count = 0
        parts = []
        for start, piece in zip(self.starts, self.pieces, strict=True):
            if start > self.next:
                break
            count += 1
            self.held -= len(piece) + _OVERHEAD
            fresh = piece[self.next - start :]
            self.next += len(fresh)
            parts.append(fresh)
        del self.starts[:count], self.pieces[:count]
        return b"".join(parts)

    def end(self) -> None:
        self.ended = True
        self.starts, self.pieces, self.held = [], [], 0


class Streams:
    """Puts the segments of many streams in order.

    Retransmitted and overlapping octets are dropped; what comes early is held until the octets
    before it come.  If more than `limit_held` bytes of a stream are held, or for longer than
    `gap_ns` of capture time, these octets are given up and the stream ends.  Of a stream that has
    ended all is ignored until a SYN begins another between the same ports.  At most
    `limit_streams` are known: memory is bounded by the product of both limits.

    A SYN takes a sequence number of its own.  Captures that were written by a program may not count
    it when it carries data: that shows in the segment that follows, and is allowed for.
    """

    def __init__(
        self,
        limit_streams: int = 4096,
        limit_held: int = 4 << 20,
        gap_ns: int = 60_000_000_000,
    ) -> None:
        self.limit_streams = limit_streams
        self.limit_held = limit_held
        self.gap_ns = gap_ns
        self.begun_late = 0  # streams whose beginning was not captured
        self.gaps = 0  # streams ended for octets that the capture lacks
        self.repeated = 0  # segments that had nothing new
        self.ignored = 0  # segments of no stream, or of one that had ended
        self._streams: OrderedDict[Stream, _State] = OrderedDict()

    def __len__(self) -> int:
        """Streams known, those included that ended."""
        return len(self._streams)

    def feed(self, batch: SegmentBatch) -> Iterator[Event]:
        """What the segments of a batch give, in the order of their arrival."""
        rows = zip(
            zip(
                batch.source_hi.tolist(),
                batch.source_lo.tolist(),
                batch.source_port.tolist(),
                batch.port.tolist(),
                strict=True,
            ),
            batch.sequence.tolist(),
            batch.flags.tolist(),
            batch.arrival.tolist(),
            strict=True,
        )
        for i, (key, sequence, flags, time_ns) in enumerate(rows):
            yield from self._segment(Stream(*key), sequence, flags, batch.payload(i), time_ns)

    def finish(self) -> int:
        """End of the capture: how many streams still wait for octets that did not come.

        Nothing is closed: that a capture ends says nothing of its connections.
        """
        waiting = sum(bool(state.starts) for state in self._streams.values())
        self._streams.clear()
        return waiting

    def _segment(
        self, stream: Stream, sequence: int, flags: int, data: bytes, time_ns: int
    ) -> Iterator[Event]:
        state = self._streams.get(stream)
        if flags & SYN:
            sequence = (sequence + 1) % _TURN
            if state is None or state.begin % _TURN != sequence:
                if state is not None:
                    yield from self._close(stream, state, time_ns, Cause.REPLACED)
                state = yield from self._begin(stream, sequence, time_ns, late=False)
        elif state is None:
            if not data or flags & RST:
                self.ignored += 1
                return
            state = yield from self._begin(stream, sequence, time_ns, late=True)
        if state.ended:
            self.ignored += 1
            return
        self._streams.move_to_end(stream)
        if (
            flags & RST
        ):  # its octets, if any, tell why (RFC 9293 section 3.5.3) and are not of the stream
            yield from self._close(stream, state, time_ns, Cause.RST)
            return
        yield from self._take(stream, state, state.position(sequence), data, time_ns)
        if flags & SYN and len(data) > 1:
            state.on_syn = state.next - state.begin == len(data)
        if flags & FIN and state.fin is None:
            state.fin = state.position(sequence) + len(data)
        if state.fin is not None and state.next >= state.fin:
            yield from self._close(stream, state, time_ns, Cause.FIN)
        elif state.starts and (
            state.held > self.limit_held or time_ns - state.gap_ns > self.gap_ns
        ):
            yield from self._close(stream, state, time_ns, Cause.GAP)

    def _begin(
        self, stream: Stream, sequence: int, time_ns: int, *, late: bool
    ) -> Generator[Event, None, _State]:
        self.begun_late += late
        while len(self._streams) >= self.limit_streams and stream not in self._streams:
            oldest, state = next(iter(self._streams.items()))
            yield from self._close(oldest, state, time_ns, Cause.EVICTED)
            del self._streams[oldest]
        state = self._streams[stream] = _State(sequence, sequence, late)
        return state

    def _take(
        self, stream: Stream, state: _State, start: int, data: bytes, time_ns: int
    ) -> Iterator[Event]:
        if not data:
            return
        if state.on_syn and start == state.next - 1 and len(data) > 1:
            state.next -= 1  # the SYN was not counted
        if start + len(data) <= state.next:
            self.repeated += 1
            return
        if start > state.next:
            if not state.starts:
                state.gap_ns = time_ns
            state.hold(start, data)
            return
        state.on_syn = False
        fresh = data[state.next - start :]
        state.next += len(fresh)
        if state.starts:
            fresh += state.release()
            state.gap_ns = time_ns
        state.delivered = True
        yield Received(stream, time_ns, fresh, state.begun_late)

    def _close(self, stream: Stream, state: _State, time_ns: int, cause: Cause) -> Iterator[Event]:
        if state.ended:
            return
        # What is held at the end came after octets that never came.
        self.gaps += bool(state.starts)
        state.end()
        if state.delivered:
            yield Closed(stream, time_ns, cause)
