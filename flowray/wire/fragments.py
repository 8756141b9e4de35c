"""Joining IP fragments into datagrams: rare enough for plain Python, bounded in every direction."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field

__all__ = ["Fragment", "FragmentKey", "Reassembler"]

FragmentKey = tuple[int, int, int, int, int]
"""Source hi and lo, destination hi and lo, identification.

RFC 791 adds the protocol, which of IPv4 stands above the 16 bits of the identification; RFC 8200
leaves it out.
"""

_OVERHEAD = 200  # bytes of Python objects that a waiting fragment costs besides its payload


@dataclass(frozen=True, slots=True)
class Fragment:
    """One fragment: `payload` stands at byte `offset` of the datagram; `more` follow or not."""

    key: FragmentKey
    time_ns: int
    protocol: int
    offset: int
    more: bool
    payload: bytes


@dataclass(slots=True)
class _Partial:
    started_ns: int
    offsets: list[int] = field(default_factory=list)  # ascending, with the pieces beside them
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    total: int | None = None  # known once the last fragment is here
    protocol: int = 0  # of the first fragment, which is the one that counts (RFC 8200)

    @property
    def cost(self) -> int:
        return self.size + _OVERHEAD * len(self.pieces)

    def insert(self, fragment: Fragment) -> bool:
        """Add a fragment; False if it contradicts what is here already."""
        end = fragment.offset + len(fragment.payload)
        at = bisect_left(self.offsets, fragment.offset)
        if at > 0 and self.offsets[at - 1] + len(self.pieces[at - 1]) > fragment.offset:
            return False
        if at < len(self.offsets) and self.offsets[at] < end:
            return False
        if self.total is not None and (end > self.total or not fragment.more):
            return False
        if not fragment.more:
            if self.offsets and self.offsets[-1] + len(self.pieces[-1]) > end:
                return False
            self.total = end
        if fragment.offset == 0:
            self.protocol = fragment.protocol
        self.offsets.insert(at, fragment.offset)
        self.pieces.insert(at, fragment.payload)
        self.size += len(fragment.payload)
        return True

    def holds(self, fragment: Fragment) -> bool:
        """Whether this very fragment is here already: the network may duplicate packets."""
        at = bisect_left(self.offsets, fragment.offset)
        return self.offsets[at : at + 1] == [fragment.offset] and (
            self.pieces[at] == fragment.payload
        )


class Reassembler:
    """Joins the fragments of IPv4 (RFC 815) and IPv6 (RFC 8200 section 4.5) datagrams.

    A datagram that is not complete `timeout_ns` after its first fragment is given up, as are the
    oldest ones when more than `limit_datagrams` or `limit_bytes` wait.  Overlapping fragments
    make the whole datagram void (RFC 5722, applied to IPv4 as well).  Time is capture time.
    `unused` counts the fragments that ended in no datagram; those still waiting are `waiting`.
    """

    def __init__(
        self,
        timeout_ns: int = 30_000_000_000,
        limit_datagrams: int = 4096,
        limit_bytes: int = 64 << 20,
    ) -> None:
        self.timeout_ns = timeout_ns
        self.limit_datagrams = limit_datagrams
        self.limit_bytes = limit_bytes
        self.unused = 0
        self._bytes = 0
        self._partials: OrderedDict[FragmentKey, _Partial] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Fragments held for datagrams that are not complete yet."""
        return sum(len(partial.pieces) for partial in self._partials.values())

    def add(self, fragment: Fragment) -> tuple[int, bytes] | None:
        """Take a fragment; (protocol, payload of IP) if it completes its datagram."""
        self._expire(fragment.time_ns)
        if not _possible(fragment):
            self.unused += 1
            return None
        partial = self._partials.setdefault(fragment.key, _Partial(fragment.time_ns))
        if partial.holds(fragment):
            self.unused += 1
            return None
        before = partial.cost
        if not partial.insert(fragment):
            self.unused += 1
            self._give_up(fragment.key)
            return None
        self._bytes += partial.cost - before
        if partial.size == partial.total:
            self._forget(fragment.key)
            return partial.protocol, b"".join(partial.pieces)
        while len(self._partials) > self.limit_datagrams or self._bytes > self.limit_bytes:
            self._give_up(next(iter(self._partials)))
        return None

    def finish(self) -> None:
        """Give up everything that waits: no more fragments will come."""
        while self._partials:
            self._give_up(next(iter(self._partials)))

    def _expire(self, now_ns: int) -> None:
        while self._partials:
            key, oldest = next(iter(self._partials.items()))
            if now_ns - oldest.started_ns <= self.timeout_ns:
                break
            self._give_up(key)

    def _give_up(self, key: FragmentKey) -> None:
        self.unused += len(self._forget(key).pieces)

    def _forget(self, key: FragmentKey) -> _Partial:
        partial = self._partials.pop(key)
        self._bytes -= partial.cost
        return partial


def _possible(fragment: Fragment) -> bool:
    """Whether such a fragment can be part of any datagram (RFC 791, RFC 8200 section 4.5)."""
    size = len(fragment.payload)
    whole_words = size % 8 == 0 or not fragment.more
    return size > 0 and whole_words and fragment.offset + size <= 65535
