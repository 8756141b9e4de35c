"""Exporters that are new to a shard: what they told another shard may still be on its way.

The kernel may move an exporter between two shards at any moment. The new one then lacks what the
exporter told the old one just before: a template, which shows, or a sampling rate, which does not.
A shard publishes what it is told within `NEWS_NS`. So whatever an exporter told elsewhere before
its first datagram arrived here is in any pull from the store that begins `NEWS_NS` later; once such
a pull is installed the exporter is settled here, and its data sets need wait no longer.

Two kinds of exporters are settled at once. One whose first message here has sequence number 0
begins now and tells everything here (RFC 3954 section 9, RFC 7011 section 8). One that the store
has known for twice `NEWS_NS` told its options long ago: so adding a shard delays nothing of what is
known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.hashing import MISSING, Index
from flowray.ingest.hold import HeldSet, Hold
from flowray.ingest.remembered import Place
from flowray.ingest.templates import TemplateKey
from flowray.wire.flow import kernels as k

I64 = npt.NDArray[np.int64]
Exporter = npt.NDArray[np.uint32]

NEWS_NS = 1_000_000_000
"""How soon after its arrival news has to be in the template store: some hundred milliseconds are
usual (the receiver's longest wait, a batch, the exchange thread's pause).
"""

PATIENCE_NS = 5 * NEWS_NS
"""How long data waits if the store does not answer."""

SETTLED, SETTLING = 0, 1


class Settling:
    """Places (exporter, domain, version) that a shard has met, and the data of those that settle.

    At most `limit` places are known: further ones count as settled. Data waits for `PATIENCE_NS` at
    most, so a flood of news cannot hold it, or a window, any longer.
    """

    def __init__(self, hold: Hold, limit: int) -> None:
        self.hold = hold
        self._limit = limit
        self._state = Index(256)
        # Places that settle, in the order of time: what a pull has to follow, and when it began.
        self._since: dict[Place, int] = {}
        self._began: dict[Place, int] = {}
        self._told: dict[Place, int] = {}
        self._known_until = 0
        self._ripe: deque[tuple[TemplateKey, bool]] = deque()

    @property
    def active(self) -> bool:
        """Whether any place settles at the moment."""
        return bool(self._since)

    # -- places ------------------------------------------------------------------------------------

    def meet(self, exporter: Exporter, header: I64, arrival: I64) -> None:
        """Take note of the places of messages: exporter (n,), header (n, HEADER_COLUMNS), arrival
        (n,), ns. Those known are passed over without a look at each.
        """
        if len(self._state) >= self._limit:
            return
        new = np.flatnonzero(self._look_up(exporter, header) == MISSING)
        version = header[new, k.H_VERSION]
        templated = (version == k.V9) | (version == k.IPFIX)
        for i in new[templated & (header[new, k.H_CAUSE] == k.OK)].tolist():
            place = int(exporter[i]), int(header[i, k.H_DOMAIN]), int(header[i, k.H_VERSION])
            if self._get(place) is not None or len(self._state) >= self._limit:
                continue
            begins = header[i, k.H_SEQUENCE] == 0
            told = self._told.pop(place, None)
            if begins or (told is not None and told + NEWS_NS <= self._known_until):
                self._put(place, SETTLED)
            else:
                self._start(place, int(arrival[i]))

    def _look_up(self, exporter: Exporter, header: I64) -> npt.NDArray[np.uint64]:
        domain = header[:, k.H_DOMAIN].astype(np.uint64)
        base = exporter.astype(np.uint64) << np.uint64(32)
        return self._state.get_many(base | domain, header[:, k.H_VERSION].astype(np.uint64))

    def _get(self, place: Place) -> int | None:
        exporter, domain, version = place
        return self._state.get(exporter << 32 | domain, version)

    def _put(self, place: Place, state: int) -> None:
        exporter, domain, version = place
        self._state.put(exporter << 32 | domain, version, state)

    def _start(self, place: Place, since_ns: int) -> None:
        self._since.pop(place, None)
        self._since[place] = since_ns
        self._began.setdefault(place, since_ns)
        self._put(place, SETTLING)

    def told(self, place: Place, at_ns: int) -> None:
        """The store knows of a place since then."""
        if place in self._told:
            self._told[place] = min(self._told[place], at_ns)
        elif len(self._told) < self._limit and self._get(place) is None:
            self._told[place] = at_ns

    def restart(self, place: Place, now_ns: int) -> None:
        """Data was held here for a template that now came from another shard: more may follow."""
        # While ripe data is decoded bit by bit, none may join it that is not ripe.
        if not self._ripe and len(self._state) < self._limit:
            self._start(place, now_ns)

    def settles(self, place: Place) -> bool:
        """Whether data of this place waits."""
        return place in self._since

    def waits(self, exporter: Exporter, header: I64) -> npt.NDArray[np.bool_]:
        """Whether data of messages waits (n,)."""
        waits: npt.NDArray[np.bool_] = self._look_up(exporter, header) == SETTLING
        return waits

    # -- the end of the wait -----------------------------------------------------------------------

    def wants_pull(self, now_ns: int) -> bool:
        """Whether a pull that begins now would settle anything."""
        return next(iter(self._since.values()), now_ns) + NEWS_NS <= now_ns

    def pulled(self, began_ns: int) -> None:
        """All that the store told to a pull that began then is installed."""
        self._known_until = max(self._known_until, began_ns - NEWS_NS)
        self.settle(_until(self._since, self._known_until), known=True)

    def give_up(self, now_ns: int) -> None:
        """Settle places that the store did not tell of in time: their data is decoded as it is."""
        self.settle(_until(self._began, now_ns - PATIENCE_NS), known=False)

    def settle(self, places: Collection[Place], *, known: bool) -> None:
        """End the wait of places. `known`: all is known that they told before they came here."""
        if not places:
            return
        for place in places:
            del self._since[place], self._began[place]
            self._put(place, SETTLED)
        for key in self.hold.waiting:
            if (key.exporter, key.domain, key.version) in places:
                self._ripe.append((key, known))

    def settle_all(self) -> None:
        """End every wait: nothing more will be pulled here."""
        self.settle(set(self._since), known=False)

    def take_ripe(self, octets: int) -> Iterator[tuple[TemplateKey, list[HeldSet], bool]]:
        """Data whose wait is over, by template, and whether all was known: about `octets` of it."""
        while self._ripe and octets > 0:
            key, known = self._ripe.popleft()
            held = self.hold.take(key)
            octets -= sum(len(h.raw) for h in held)
            yield key, held, known

    def horizon(self, watermark: int) -> int:
        """The watermark (ns), or where data still waits if that is earlier: its rows belong to the
        window of their arrival, which must not close before.
        """
        return min(watermark, self.hold.oldest)

    # -- for a successor ---------------------------------------------------------------------------

    def table(self) -> pa.Table:
        """All places that were met, and whether they settle."""
        keys, state = self._state.items()
        place, version = np.ascontiguousarray(keys[:, 0]), np.ascontiguousarray(keys[:, 1])
        return pa.table({"place": place, "version": version, "state": state})

    def waits_told(self) -> dict[str, Any]:
        """What is waited for, JSON-able."""
        return {
            "since": [[*place, at] for place, at in self._since.items()],
            "began": [[*place, at] for place, at in self._began.items()],
            "known_until": self._known_until,
            "ripe": [[k.exporter, k.domain, k.version, k.id, known] for k, known in self._ripe],
        }

    def restore(self, table: pa.Table, waits: dict[str, Any]) -> None:
        """Go on from what another had met; its held sets are restored apart."""
        for row in table.to_pylist():
            self._state.put(row["place"], row["version"], row["state"])
            place = row["place"] >> 32, row["place"] & 0xFFFFFFFF, row["version"]
            self._told.pop(place, None)
        self._since = {(e, d, v): at for e, d, v, at in waits["since"]}
        self._began = {(e, d, v): at for e, d, v, at in waits["began"]}
        self._known_until = waits["known_until"]
        self._ripe = deque((TemplateKey(*key), known) for *key, known in waits["ripe"])


def _until(times: dict[Place, int], end_ns: int) -> set[Place]:
    """The places of a dict in the order of time whose time is not after the end."""
    return {place for place, _ in takewhile(lambda item: item[1] <= end_ns, times.items())}
