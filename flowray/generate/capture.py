"""Generated traffic to and from captures, with the exporters' true addresses as IP sources."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

from flowray.generate.exporters import ExporterSpec
from flowray.generate.rows import Datagrams
from flowray.wire.packets import Exporters, PacketBatch, address_text
from flowray.wire.pcap import CaptureReader, PcapWriter

FLOW_PORT, SFLOW_PORT = 2055, 6343
SOURCE_PORT = 50_000
COLLECTOR = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}
WRITE_STEP = 16_384
_SFLOW_VERSION = b"\x00\x00\x00\x05"


def write_capture(path: str | os.PathLike[str], datagrams: Datagrams) -> int:
    """Write datagrams that carry times and addresses (as of `bench_traffic`); returns their number.

    NetFlow and IPFIX go to port 2055, sFlow to 6343, each exporter from a source port of its own.
    Raises ValueError if times or addresses are missing.
    """
    if len(datagrams.time_ns) != len(datagrams) or not datagrams.addresses:
        raise ValueError("datagrams: found no times or no addresses, a capture needs both")
    targets = [COLLECTOR[6 if ":" in address else 4] for address in datagrams.addresses]
    with PcapWriter(path) as writer:
        for first in range(0, len(datagrams), WRITE_STEP):
            part = datagrams.take(slice(first, first + WRITE_STEP))
            payloads = list(part)
            exporter = part.exporter.tolist()
            writer.write_udp(
                [datagrams.addresses[i] for i in exporter],
                SOURCE_PORT + part.exporter.astype(np.int64) % 10_000,
                [targets[i] for i in exporter],
                [_port(payload) for payload in payloads],
                payloads,
                part.time_ns,
            )
    return len(datagrams)


def _port(payload: bytes) -> int:
    """NetFlow and IPFIX begin with a 16-bit version, sFlow with one of 32 bits."""
    return SFLOW_PORT if payload.startswith(_SFLOW_VERSION) else FLOW_PORT


def write_traffic(
    path: str | os.PathLike[str],
    batches: Iterable[tuple[int, int, list[bytes]]],
    exporters: Sequence[ExporterSpec],
) -> int:
    """Write what `traffic(seed, exporters)` yields; returns the number of datagrams."""
    addresses = tuple(spec.address for spec in exporters)
    parts = [
        Datagrams.of(payloads, exporter, time_ns=time_ns) for time_ns, exporter, payloads in batches
    ]
    return write_capture(path, Datagrams.joined(parts, addresses)) if parts else 0


def read_capture(path: str | os.PathLike[str], ports: Sequence[int] | None = None) -> Datagrams:
    """All UDP payloads of a capture (to `ports`, if given) in memory, numbered by IP source."""
    exporters = Exporters()
    wanted = frozenset(ports) if ports else None
    with CaptureReader(path, exporters, wanted) as reader:
        parts = list(reader)
    count = sum(map(len, parts))
    if not count:
        return Datagrams.of(())
    batch = PacketBatch.gather(parts, np.arange(count))
    known = zip(exporters.hi[1:].tolist(), exporters.lo[1:].tolist(), strict=True)
    addresses = tuple(address_text(hi, lo) for hi, lo in known)
    # Exporters counts from 1; its 0 (too many exporters to tell apart) joins the first.
    index = np.maximum(batch.exporter, 1) - np.uint32(1)
    return Datagrams(batch.buf, batch.offset, batch.length, index, batch.arrival, addresses)
