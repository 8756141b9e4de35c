"""Who sent a datagram: the exporter itself, the one that an envelope names, or the one that the
operator's map does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowray.hashing import MISSING, Index
from flowray.ingest.ledger import Account, Ledger
from flowray.ingest.sender_kernels import domains
from flowray.intervals import AddressSet
from flowray.maps import Candidates, ExporterMap
from flowray.wire.envelope_kernels import MALFORMED, OPENED, open_envelopes
from flowray.wire.packets import Exporters, PacketBatch

MOST_REMEMBERED = 1 << 20
"""Sources and domains whose exporter is remembered."""


class Senders:
    """Puts the true exporter into batches. Not thread-safe.

    proxies: addresses of those whose envelopes are opened; a datagram of theirs without one is
    their own. exporters: whose addresses are replaced.
    """

    def __init__(
        self,
        known: Exporters,
        ledger: Ledger,
        proxies: AddressSet | None,
        exporters: ExporterMap | None,
    ) -> None:
        self._known = known
        self._ledger = ledger
        self._proxies = proxies
        self._map = exporters
        self._rows = Index()

    def reveal(self, batch: PacketBatch) -> PacketBatch:
        """The batch with the true exporters, without envelopes and without those that are
        malformed, which are counted.
        """
        if self._proxies is not None:
            batch = self._open(self._proxies, batch)
        return batch if self._map is None else self._replace(self._map, batch)

    def _open(self, proxies: AddressSet, batch: PacketBatch) -> PacketBatch:
        hi, lo = self._known.hi[batch.exporter], self._known.lo[batch.exporter]
        chosen = np.flatnonzero(proxies.contains(hi, lo))
        if not chosen.size:
            return batch
        offset, length = batch.offset.copy(), batch.length.copy()
        state = np.zeros(len(batch), np.int8)
        open_envelopes(batch.buf, offset, length, chosen, hi, lo, state)
        exporter = batch.exporter.copy()
        opened, kept = state == OPENED, state != MALFORMED
        exporter[opened] = self._known.intern(hi[opened], lo[opened])
        if not kept.all():
            at = exporter[~kept].astype(np.int64)
            self._ledger.add(Account.DATAGRAMS, at)
            self._ledger.add(Account.BAD_ENVELOPE, at)
        return PacketBatch(
            batch.buf,
            offset[kept],
            length[kept],
            exporter[kept],
            batch.arrival[kept],
            None if batch.port is None else batch.port[kept],
        )

    def _replace(self, exporters: ExporterMap, batch: PacketBatch) -> PacketBatch:
        source = batch.exporter.astype(np.uint64)
        domain = np.zeros(len(batch), np.uint64)
        if exporters.by_domain:
            domains(batch.buf, batch.offset, batch.length, domain)
        found = self._rows.get_many(source, domain)
        missing = found == MISSING
        if missing.any():
            if len(self._rows) > MOST_REMEMBERED:
                self._rows, missing = Index(), np.ones(len(batch), np.bool_)
            self._ask(exporters, source[missing], domain[missing])
            found = self._rows.get_many(source, domain)
        return PacketBatch(
            batch.buf,
            batch.offset,
            batch.length,
            found.astype(np.uint32),
            batch.arrival,
            batch.port,
        )

    def _ask(
        self,
        exporters: ExporterMap,
        source: npt.NDArray[np.uint64],
        domain: npt.NDArray[np.uint64],
    ) -> None:
        source, domain = np.unique(np.stack((source, domain)), axis=1)
        at = source.astype(np.int64)
        told = exporters.addresses(Candidates(self._known.hi[at], self._known.lo[at], domain))
        for a, b, address in zip(source.tolist(), domain.tolist(), told, strict=True):
            number = a
            if address is not None:
                hi, lo = (np.array([word], np.uint64) for word in address)
                number = int(self._known.intern(hi, lo)[0])
            self._rows.put(a, b, number)
