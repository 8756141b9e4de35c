"""Exporters of which every record carries its own number: what is missing, and what came twice, can
be told record by record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowray.generate.encode import (
    TemplateSpec,
    ipfix_headers,
    ipfix_message,
    ipfix_template_set,
    set_packets,
    v5_headers,
    v5_packets,
    v5_records,
)
from flowray.generate.rows import Bytes, Datagrams, pack

RECORDS = 10
"""Records of a datagram."""

FIRST = 10 << 24
"""The source address of record 0, 10.0.0.0; record n has the n-th after it."""

DESTINATION = 0xC633_6401
"""198.51.100.1 (RFC 5737)."""

TEMPLATE = TemplateSpec(
    256, ((8, 4, 0), (12, 4, 0), (2, 8, 0), (1, 8, 0), (152, 8, 0), (153, 8, 0))
)
"""Source, destination, packets, octets, flow start and end in ms."""

Numbers = npt.NDArray[np.int64]


def packets_of(number: Numbers) -> Numbers:
    """Packets of a record by its number (n,)."""
    return 1 + number % 7


def octets_of(number: Numbers) -> Numbers:
    """Octets of a record by its number (n,)."""
    return 64 + number % 1021


@dataclass(slots=True)
class NumberedExporter:
    """An exporter of IPFIX or NetFlow v5; both protocols count records in their sequence numbers.

    `sent`: records so far; the next one has this number.
    """

    address: str
    protocol: str = "ipfix"
    sent: int = 0

    def datagrams(self, count: int, now_ns: int, exporter: int = 0) -> Datagrams:
        """The next `count` datagrams, all exported now, behind a template where one is needed.

        `exporter` numbers them among those of others (see `Datagrams`).
        """
        number = self.sent + np.arange(count * RECORDS, dtype=np.int64)
        rows = _ENCODERS[self.protocol](number, count, now_ns)
        payloads = [row.tobytes() for row in rows]
        if self.protocol == "ipfix":
            seconds = now_ns // 1_000_000_000
            template = ipfix_template_set(TEMPLATE)
            told = ipfix_message([template], export_time=seconds, sequence=self.sent, domain=1)
            payloads.insert(0, told)
        self.sent += number.size
        return Datagrams.of(payloads, exporter)


def _ipfix(number: Numbers, count: int, now_ns: int) -> Bytes:
    now_ms = now_ns // 1_000_000
    records = pack(
        number.size,
        *((4, FIRST + number), (4, DESTINATION), (8, packets_of(number)), (8, octets_of(number))),
        *((8, now_ms), (8, now_ms)),
    )
    body = 4 + RECORDS * TEMPLATE.record_bytes
    headers = ipfix_headers(count, body, now_ms // 1000, number[::RECORDS] & 0xFFFFFFFF, 1)
    return set_packets(headers, TEMPLATE.id, records)


def _v5(number: Numbers, count: int, now_ns: int) -> Bytes:
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    # The exporter booted a thousand seconds ago, and every flow was just now.
    uptime = 1_000_000
    records = v5_records(
        number.size,
        src=FIRST + number,
        dst=DESTINATION,
        packets=packets_of(number),
        octets=octets_of(number),
        first_ms=uptime,
        last_ms=uptime,
    )
    headers = v5_headers(
        count,
        RECORDS,
        uptime_ms=uptime,
        unix_secs=seconds,
        unix_nsecs=nanoseconds,
        sequence=number[::RECORDS] & 0xFFFFFFFF,
    )
    return v5_packets(headers, records)


_ENCODERS: dict[str, Callable[[Numbers, int, int], Bytes]] = {"ipfix": _ipfix, "v5": _v5}


@dataclass(frozen=True, slots=True)
class Account:
    """What became of an exporter's records: how many are missing, and how many came more than
    once.
    """

    sent: int
    committed: int
    missing: int
    repeated: int
    foreign: int

    @classmethod
    def of(cls, sent: int, sources: Sequence[npt.NDArray[np.uint32]]) -> Account:
        """From the source addresses of committed records; `foreign` are not of those sent."""
        found = np.concatenate(sources) if sources else np.zeros(0, np.uint32)
        number = found.astype(np.int64) - FIRST
        mine = (number >= 0) & (number < sent)
        times = np.bincount(number[mine], minlength=sent)
        return cls(
            sent,
            int(mine.sum()),
            int((times == 0).sum()),
            int((times - 1)[times > 1].sum()),
            int((~mine).sum()),
        )
