"""Sockets to `PacketBatch`es: datagrams land in slots, senders are numbered, those not allowed are
counted and left out.

A call for each few datagrams would cost more than the datagrams. So when traffic is thin the
receiver lets the sockets' buffers fill for some tens of milliseconds, watching how full they are,
and takes all at once.
"""

from __future__ import annotations

import ipaddress
import select
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowray.clock import Clock, Rising, wall_clock
from flowray.ingest.ledger import Account, Ledger
from flowray.ingest.listen import Listener, listen
from flowray.ingest.slots import Slots
from flowray.intervals import AddressSet
from flowray.wire.packets import OVERFLOW_EXPORTER, Exporters, PacketBatch, address_words

BATCH = 4096
"""Datagrams of a batch at most."""

FULL_ENOUGH = 0.25
"""Share of a receive buffer in use at which it is emptied at once."""

LONGEST_WAIT = 0.050
"""Seconds that datagrams wait for company at most."""

SHORTEST_NAP, LONGEST_NAP = 0.0005, 0.010
"""Seconds between looks at the buffers; short while they fill fast. A look costs some 50 us, most
of it for waking up. In the longest nap a burst of a million datagrams a second fills twice the
default buffer, one of 300,000 does not fill it.
"""

REFUSED_TOLD_APART = 1024
"""Addresses of refused senders that get an account of their own; the others share one, so that a
flood of spoofed addresses does not use up the numbers of real exporters.
"""


class Receiver:
    """The UDP sockets of a shard. Not thread-safe."""

    def __init__(
        self,
        urls: Sequence[str],
        exporters: Exporters,
        ledger: Ledger,
        *,
        allow: Sequence[str] = (),
        buffer_octets: int = 4 << 20,
        slots: Slots | None = None,
        clock: Clock = wall_clock,
    ) -> None:
        """Open the sockets. `allow`: addresses and prefixes that may send; empty allows all.
        `slots`: where datagrams stay until their owner restarts them; without, each batch is void
        at the next.

        Raises ListenError.
        """
        self._exporters = exporters
        self._ledger = ledger
        self._allowed = _address_set(allow) if allow else None
        self._clock = Rising(clock)
        self._slots = Slots(BATCH) if slots is None else slots
        self._void = slots is None
        self._refused_known = 0
        self._drops_before: dict[str, int] = {}
        self._nap = LONGEST_NAP
        self.datagrams = 0
        self.octets = 0
        self.refused = 0
        self.full = 0.0
        self.listeners: list[Listener] = []
        self._open: list[Listener] = []
        self._poll = select.poll()
        try:
            for url in urls:
                listener = listen(url, buffer_octets)
                self.listeners.append(listener)
                self._open.append(listener)
                self._poll.register(listener.socket, select.POLLIN)
        except BaseException:
            self.close()
            raise

    # -- datagrams ---------------------------------------------------------------------------------

    def receive(self, timeout: float) -> PacketBatch | None:
        """What came in, None if nothing did for `timeout` seconds.

        The batch points into slots; see there how long. Raises OSError for a broken socket.
        """
        if not self._poll.poll(timeout * 1000):
            return None
        self._let_fill()
        return self.take()

    def take(self) -> PacketBatch | None:
        """What waits at the sockets now, None if nothing does or no slot is free."""
        if not self._open:
            return None
        slots = self._slots
        if self._void:
            slots.restart()
        now = self._clock()
        slots.begin(now)
        first = slots.used
        for listener in self._open:
            before = slots.used
            try:
                slots.receive(listener.socket.fileno(), BATCH - (slots.used - first))
            except OSError:
                if slots.used == first:
                    raise
                break  # what the others gave comes first; it will be broken the next time, too
            slots.stamp(before, now, listener.port)
        # A full batch must not always be the first socket's.
        self._open.append(self._open.pop(0))
        if slots.used == first:
            return None
        return self._batch(first, np.full(slots.used - first, now, np.int64))

    @property
    def room(self) -> bool:
        """Whether another datagram can be taken."""
        return self._void or self._slots.used < self._slots.n

    def adopted(self, least_ns: int) -> Iterator[PacketBatch]:
        """What the slots hold that a predecessor received, as batches; arrival is not before
        `least_ns` and not after now.
        """
        now, end = self._clock(), self._slots.used
        for begin in range(0, end, BATCH):
            stop = min(begin + BATCH, end)
            yield self._batch(begin, self._slots.arrivals(begin, stop, least_ns, now))

    def _let_fill(self) -> None:
        deadline = time.monotonic() + LONGEST_WAIT
        full = self.watch()
        while full < FULL_ENOUGH and time.monotonic() < deadline:
            time.sleep(self._nap)
            before, full = full, self.watch()
            if full - before > FULL_ENOUGH / 2:
                self._nap = max(self._nap / 2, SHORTEST_NAP)
            elif full - before < FULL_ENOUGH / 8:
                self._nap = min(self._nap * 2, LONGEST_NAP)

    def _batch(self, first: int, arrival: npt.NDArray[np.int64]) -> PacketBatch:
        stop = first + arrival.size
        offset, length = self._slots.payloads(first, stop)
        hi, lo = self._slots.addresses(first, stop)
        port = self._slots.ports(first, stop)
        self.datagrams += arrival.size
        self.octets += int(length.sum())
        if self._allowed is None:
            exporter = self._exporters.intern(hi, lo)
            return PacketBatch(self._slots.buf, offset, length, exporter, arrival, port)
        good = self._allowed.contains(hi, lo)
        if not good.all():
            self._refuse(hi[~good], lo[~good])
        exporter = self._exporters.intern(hi[good], lo[good])
        return PacketBatch(
            self._slots.buf, offset[good], length[good], exporter, arrival[good], port[good]
        )

    def _refuse(self, hi: npt.NDArray[np.uint64], lo: npt.NDArray[np.uint64]) -> None:
        self.refused += hi.size
        if self._refused_known < REFUSED_TOLD_APART:
            before = len(self._exporters)
            exporter = self._exporters.intern(hi, lo).astype(np.int64)
            self._refused_known += len(self._exporters) - before
        else:
            exporter = np.full(hi.size, OVERFLOW_EXPORTER, np.int64)
        self._ledger.add(Account.DATAGRAMS, exporter)
        self._ledger.add(Account.REFUSED, exporter)

    def follow(self, exporters: Exporters, ledger: Ledger) -> None:
        """Number and account senders here from now on: the same numbers, a new ledger."""
        self._exporters, self._ledger = exporters, ledger

    # -- sockets -----------------------------------------------------------------------------------

    def watch(self) -> float:
        """The share in use of the fullest receive buffer, 0 to 1; counts the kernel's drops."""
        self.full = max((listener.watch() for listener in self._open), default=0.0)
        return self.full

    @property
    def kernel_drops(self) -> dict[str, int]:
        """Datagrams that the kernel dropped by address listened on, as of the last `watch`."""
        drops = dict(self._drops_before)
        for listener in self.listeners:
            drops[listener.address] = drops.get(listener.address, 0) + listener.drops
        return drops

    def figures(self) -> dict[str, Any]:
        """The counts, JSON-able, for a successor."""
        counts = {"datagrams": self.datagrams, "octets": self.octets, "refused": self.refused}
        return {**counts, "kernel_drops": self.kernel_drops}

    def go_on_from(self, figures: dict[str, Any]) -> None:
        """Count on from a predecessor's figures."""
        self.datagrams += figures["datagrams"]
        self.octets += figures["octets"]
        self.refused += figures["refused"]
        self._drops_before = dict(figures["kernel_drops"])

    @property
    def addresses(self) -> list[str]:
        """What is listened on."""
        return sorted(listener.address for listener in self.listeners)

    def turn_away(self) -> None:
        """Get no new datagrams; those queued can still be taken."""
        for listener in self._open:
            listener.turn_away()

    def close(self) -> None:
        """Close the sockets; what is queued is lost. The figures stay."""
        for listener in self._open:
            listener.close()
        self._open = []


def _address_set(prefixes: Sequence[str]) -> AddressSet:
    """Addresses of prefixes, IPv4 as v4-mapped."""
    intervals = []
    for prefix in prefixes:
        network = ipaddress.ip_network(prefix, strict=False)
        ends = (network.network_address, network.broadcast_address)
        low, high = (hi << 64 | lo for hi, lo in (address_words(str(end)) for end in ends))
        intervals.append((low, high))
    return AddressSet.of(intervals)
