"""Who may connect: allow-list, number of peers, one session an address, patience with peers that
fail again and again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import Enum

from flowray.addresses import address as number
from flowray.addresses import prefix

_SECOND = 1_000_000_000
_REMEMBERED = 4096
_SAY_EVERY_NS = 60 * _SECOND


class Refusal(Enum):
    """Why a connection is refused."""

    NOT_ALLOWED = "not allowed"
    BACKING_OFF = "its sessions failed again and again"
    DUPLICATE = "it has a session already"
    TOO_MANY = "too many peers"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a listener takes. `allow` are addresses or prefixes, empty for all.

    After `failures` sessions on end that were never established or ended within `quick_s` of it,
    connections of that address are refused for `back_off_s`.
    """

    allow: tuple[str, ...] = ()
    max_peers: int = 1000
    max_per_address: int = 1
    failures: int = 5
    quick_s: int = 10
    back_off_s: int = 60


@dataclass(slots=True)
class _History:
    """What is remembered of an address."""

    failures: int = 0
    refused_until_ns: int = 0
    said: Refusal | None = None
    said_ns: int = 0
    unsaid: int = 0


class Admission:
    """Decides on connections by address text. Time is steady time in ns.

    Of at most some thousand addresses it remembers how they behaved, the latest ones.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._allow = [interval for text in limits.allow for interval in prefix(text)]
        self._sessions: Counter[str] = Counter()
        self._history: OrderedDict[str, _History] = OrderedDict()

    def refusal(self, address: str, now_ns: int) -> Refusal | None:
        """Why a new connection is refused; None if it is taken."""
        limits = self._limits
        if self._allow and not any(a <= number(address) <= b for a, b in self._allow):
            return Refusal.NOT_ALLOWED
        history = self._history.get(address)
        if history is not None and now_ns < history.refused_until_ns:
            return Refusal.BACKING_OFF
        if self._sessions[address] >= limits.max_per_address:
            return Refusal.DUPLICATE
        return Refusal.TOO_MANY if self._sessions.total() >= limits.max_peers else None

    def begun(self, address: str) -> None:
        """A session has begun."""
        self._sessions[address] += 1

    def over(self, address: str, established_ns: int | None, now_ns: int) -> None:
        """A session is over that was established at a time, or never."""
        self._sessions[address] -= 1
        if self._sessions[address] <= 0:
            del self._sessions[address]
        limits = self._limits
        if established_ns is not None and now_ns - established_ns >= limits.quick_s * _SECOND:
            self._remember(address).failures = 0
            return
        history = self._remember(address)
        history.failures += 1
        if history.failures >= limits.failures:
            history.refused_until_ns = now_ns + limits.back_off_s * _SECOND

    def tell(self, address: str, refusal: Refusal, now_ns: int) -> int | None:
        """Whether the log says that a connection was refused: the refusals before this one about
        which it said nothing, or None to say nothing again, as for a cause that it gave within the
        last minute.
        """
        history = self._remember(address)
        if history.said is refusal and now_ns < history.said_ns + _SAY_EVERY_NS:
            history.unsaid += 1
            return None
        unsaid, history.unsaid = history.unsaid, 0
        history.said, history.said_ns = refusal, now_ns
        return unsaid

    def _remember(self, address: str) -> _History:
        history = self._history.setdefault(address, _History())
        self._history.move_to_end(address)
        if len(self._history) > _REMEMBERED:
            self._history.popitem(last=False)
        return history
