"""sFlow datagrams to native columns and accounts. Exporters are known by agent address."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns, Layout
from flowray.ingest.decode import DecodeSettings, Enrich, Messages
from flowray.ingest.ledger import Account, Ledger
from flowray.ingest.sequences import Sequences
from flowray.wire.flow import kernels as k
from flowray.wire.flow.sflow import Malformed, SflowDecoder, SflowHeaders
from flowray.wire.packets import Exporters, PacketBatch

I64 = npt.NDArray[np.int64]

_CAUSES = {
    Malformed.SHORT_HEADER: Account.SHORT_HEADER,
    Malformed.BAD_VERSION: Account.UNKNOWN_VERSION,
}
"""Ledger account of each fault; the others are faults of a sample."""

SEQUENCE_ACCOUNTS = 1 << 16
"""Agents and sub-agents whose datagrams are checked for gaps."""


class SampleDecoder:
    """State of all sFlow agents of a shard: their sequence accounts.

    `take_counters` is given counter blocks (`COUNTER_LAYOUT`); without it they are not read.
    """

    def __init__(
        self,
        layout: Layout,
        settings: DecodeSettings,
        ledger: Ledger,
        exporters: Exporters,
        enrich: Enrich,
        take_counters: Callable[[Columns], None] | None = None,
    ) -> None:
        self._decoder = SflowDecoder(
            layout,
            settings.tunnels,
            frame_bytes=settings.sflow_frame_bytes,
            counters=take_counters is not None,
        )
        self._take_counters = take_counters
        self._layout = layout
        self._ledger = ledger
        self._exporters = exporters
        self._enrich = enrich
        self.sequences = Sequences(SEQUENCE_ACCOUNTS)

    def decode(self, batch: PacketBatch) -> Iterator[Columns]:
        """Native columns of the flow samples of a batch of sFlow datagrams."""
        result = self._decoder.decode(batch, np.arange(len(batch)))
        messages = self._messages(batch, result.headers)
        exporter = messages.exporter.astype(np.int64)
        self._account(messages, result.malformed, result.headers)
        if result.counters is not None and self._take_counters is not None:
            at = exporter[result.counters["_packet"].astype(np.int64)]
            self._ledger.add(Account.COUNTER_BLOCKS, at)
            self._take_counters(result.counters)
        columns = result.columns
        if not columns.n:
            return
        for name in ("flows", "_records"):
            if name in self._layout:
                columns[name][:] = 1
        self._enrich(columns, messages)
        yield columns

    def _messages(self, batch: PacketBatch, headers: SflowHeaders) -> Messages:
        """Header rows by datagram; export times are arrival times, which is all that sFlow has."""
        header = np.zeros((len(batch), k.HEADER_COLUMNS), np.int64)
        header[:, k.H_EXPORT] = batch.arrival
        header[headers.packet, k.H_VERSION] = headers.version
        header[headers.packet, k.H_SEQUENCE] = headers.sequence
        header[headers.packet, k.H_DOMAIN] = headers.sub_agent
        exporter = batch.exporter.copy()
        told = (headers.agent != 0).any(axis=0)
        exporter[headers.packet[told]] = self._exporters.intern(
            np.ascontiguousarray(headers.agent[0, told]),
            np.ascontiguousarray(headers.agent[1, told]),
        )
        return Messages(batch.buf, exporter, batch.arrival, header)

    def _account(self, m: Messages, malformed: I64, headers: SflowHeaders) -> None:
        exporter = m.exporter.astype(np.int64)
        good = np.ones(exporter.size, np.bool_)
        good[malformed[:, 0]] = False
        self._ledger.add(Account.DATAGRAMS, exporter)
        self._ledger.add(Account.DECODED, exporter[good])
        for packet, cause in malformed:
            account = _CAUSES.get(Malformed(int(cause)), Account.BAD_SAMPLE)
            self._ledger.add_one(account, int(exporter[packet]))
        for account, counts in (
            (Account.COUNTER_SAMPLES, headers.counters),
            (Account.DISCARD_SAMPLES, headers.drops),
            (Account.SKIPPED_SAMPLES, headers.unknown),
        ):
            some = counts != 0
            if some.any():
                at = exporter[headers.packet[some]]
                self._ledger.add(account, at, counts[some].astype(np.int64))
        self._account_sequences(m, good, headers)

    def _account_sequences(
        self, m: Messages, good: npt.NDArray[np.bool_], headers: SflowHeaders
    ) -> None:
        """Datagrams are numbered per agent and sub-agent."""
        use = good[headers.packet]
        if not use.any():
            return
        packet = headers.packet[use]
        self.sequences.account(
            m.exporter[packet].astype(np.int64),
            headers.sub_agent[use].astype(np.int64) << 4,
            headers.sequence[use].astype(np.int64),
            np.ones(packet.size, np.int64),
            m.arrival[packet],
        )
