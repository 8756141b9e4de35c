"""Routes out of MRT files: a RIB is seeded with a dumped table, or follows recorded sessions."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeAlias

import numpy as np

from flowray.rib.journal import Journal
from flowray.rib.peers import Peer
from flowray.rib.rib import Rib
from flowray.wire.bgp.events import Updates
from flowray.wire.bgp.mrt import CONTEXTS, MrtEvent, MrtReader, MrtStateChange, MrtUpdates
from flowray.wire.bgp.update import parse_updates
from flowray.wire.packets import address_text

ESTABLISHED = 6
"""State of a session (RFC 6396 section 4.4.1)."""


Numbers: TypeAlias = dict[tuple[str, int], int]
"""Peers of files in the RIB, by address and AS number: forms of record tell different facts of one
peer besides.
"""


class MrtFiles:
    """Files on their way into a RIB, in the order of their times. What one tells of a peer goes on
    where another ended: a table, and the sessions after it.
    """

    def __init__(self, rib: Rib, journal: Journal) -> None:
        self._rib, self._journal = rib, journal
        self._numbers: Numbers = {}
        self._files: list[MrtRoutes] = []

    def add(self, path: Path) -> MrtRoutes:
        """One more file. Raises CaptureError for one that cannot be read."""
        self._files.append(MrtRoutes(path, self._rib, self._journal, self._numbers))
        return self._files[-1]

    @property
    def next_ns(self) -> int | None:
        """Time of what comes next; None when all files have ended."""
        return min((f.next_ns for f in self._files if f.next_ns is not None), default=None)

    def until(self, time_ns: int) -> None:
        """Apply everything up to this time."""
        while waiting := [f for f in self._files if f.next_ns is not None and f.next_ns <= time_ns]:
            first, *others = sorted(waiting, key=lambda f: f.next_ns or 0)
            first.until(min([time_ns, *(f.next_ns or 0 for f in others)]))


class MrtRoutes:
    """One file on its way into a RIB."""

    def __init__(self, path: Path, rib: Rib, journal: Journal, numbers: Numbers) -> None:
        """`numbers` are those of all files. Raises CaptureError for a file that cannot be read."""
        self.reader = MrtReader(path)
        self._rib, self._journal, self._numbers = rib, journal, numbers
        self._events: Iterator[MrtEvent] = iter(self.reader)
        self._next = next(self._events, None)

    @property
    def next_ns(self) -> int | None:
        """Time of what comes next; None at the end of the file."""
        if self._next is None or isinstance(self._next, MrtStateChange):
            return None if self._next is None else self._next.time_ns
        return int(self._next.updates.time_ns[0])

    def until(self, time_ns: int) -> None:
        """Apply everything up to this time, and so what stands before it in the file."""
        while self._next is not None:
            event = self._next
            if isinstance(event, MrtStateChange):
                if event.time_ns > time_ns:
                    return
                self._state_change(event)
            elif not self._applied(event, time_ns):
                return
            self._next = next(self._events, None)

    def _applied(self, event: MrtUpdates, time_ns: int) -> bool:
        """Apply a batch up to a time; whether that was all of it."""
        later = np.flatnonzero(event.updates.time_ns > time_ns)
        count = int(later[0]) if later.size else len(event.updates)
        if count:
            self._apply(_some(event, slice(0, count)))
        if not later.size:
            return True
        self._next = _some(event, slice(count, None))
        return False

    def _apply(self, event: MrtUpdates) -> None:
        received = np.flatnonzero(event.sent == 0)
        event = _some(event, received)
        if not received.size:
            return
        self._rib.compact()
        parsed = parse_updates(event.updates, CONTEXTS, self._rib.store)
        numbers = np.array([self._number(i) for i in range(len(self.reader.peers))], np.int64)
        add_path = CONTEXTS.add_path[event.updates.context]
        peers = numbers[event.peer]
        changes = self._rib.apply(peers, parsed.events, event.updates.buf, add_path)
        if not event.table:
            self._journal.changed(parsed.events, changes, event.updates)

    def _number(self, index: int) -> int:
        told = self.reader.peers[index]
        address = address_text(told.hi, told.lo)
        number = self._numbers.get((address, told.asn))
        if number is None:
            bgp_id = str(IPv4Address(told.bgp_id))
            number = self._rib.open(Peer("bgp", address, 0, address, bgp_id, told.asn))
            self._numbers[address, told.asn] = number
        return number

    def _state_change(self, event: MrtStateChange) -> None:
        told = self.reader.peers[event.peer]
        key = address_text(told.hi, told.lo), told.asn
        if event.old == ESTABLISHED and event.new != ESTABLISHED and key in self._numbers:
            gone = self._rib.drop(self._numbers.pop(key))
            self._journal.removed(gone, event.time_ns)


def _some(
    event: MrtUpdates, rows: slice | np.ndarray[tuple[int], np.dtype[np.int64]]
) -> MrtUpdates:
    u = event.updates
    updates = Updates(u.buf, u.offset[rows], u.length[rows], u.context[rows], u.time_ns[rows])
    return MrtUpdates(updates, event.peer[rows], event.sent[rows], event.table)
