"""sFlow datagrams (versions 5, 4 and 2) to columns.

One row per flow sample and per discarded-packet notification. `packets` and `flows` are 1, `_rate`
is the sampling rate of the sample, `bytes` the length that the IP header of the sampled packet
states (or that of the frame, if it has none), times are those of the datagram's arrival. A
discarded packet has `fwd_status` 128 (dropped, RFC 7270) and rate 1. A flow sample whose output
says that the packet was discarded has that status as well, and the rate of its sampler.

Interfaces are ifIndex values; 0x3fffffff stands for the device itself. An output of another form
has that form in its two high bits, from expanded samples as well: 0x40000000 | reason of a
discarded packet, 0x80000000 | number of output interfaces.

`sampling_direction` tells which of the interfaces the sampler sits on: 0 ingress, 1 egress,
DIRECTION_UNKNOWN if neither. `peer_dst_ip` is the next hop of the gateway record, else of the
router record, else of the MPLS record; `dst_as` and `peer_dst_as` are the last and the first AS of
the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns, Layout
from flowray.counters import BLOCKS, COUNTER_LAYOUT
from flowray.wire.flow import sflow_kernels as scan_kernels
from flowray.wire.flow import sflow_record_kernels as slots
from flowray.wire.flow.dissect import LENGTH, destinations
from flowray.wire.flow.sflow_flow_kernels import decode_flow_samples
from flowray.wire.flow.sflow_kernels import COUNTER_ROWS, decode_counters, scan
from flowray.wire.flow.sflow_record_kernels import DIRECTION_UNKNOWN, NO_HEADER
from flowray.wire.packets import PacketBatch

__all__ = [
    "COUNTER_KEYS",
    "DIRECTION_UNKNOWN",
    "NO_HEADER",
    "CounterType",
    "Malformed",
    "SflowDecoder",
    "SflowHeaders",
    "SflowResult",
]

Ints: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]


class Malformed(IntEnum):
    """Why a datagram could not be read to its end; samples before the fault are kept."""

    SHORT_HEADER = 1
    BAD_VERSION = 2
    BAD_ADDRESS_TYPE = 3
    SAMPLE_OVERRUN = 4  # a sample reaches past the datagram
    SHORT_SAMPLE = 5  # a sample without room for its fixed part; it is skipped
    BAD_SAMPLE = 6  # of a type that versions 2 and 4 do not have, hence of unknown length
    TRUNCATED = 7  # fewer samples than the header claims
    RECORD_OVERRUN = 8  # a record reaches past its sample, or its content past the record


class CounterType(IntEnum):
    """Blocks of counter samples that are decoded; the name in lower case is the JSON value."""

    SFLOW_CNT_GENERIC = scan_kernels.COUNTER_GENERIC
    SFLOW_CNT_ETHERNET = scan_kernels.COUNTER_ETHERNET
    SFLOW_CNT_VLAN = scan_kernels.COUNTER_VLAN


COUNTER_KEYS: dict[CounterType, tuple[str, ...]] = {
    CounterType(number): tuple(f.name for f in fields) for number, fields in BLOCKS.items()
}
"""JSON keys of the counters of each block, in the order of the wire."""

_SLOT_FIELDS = {
    slots.BYTES: "bytes",
    slots.IN_IFACE: "in_iface",
    slots.OUT_IFACE: "out_iface",
    slots.PACKETS: "packets",
    slots.FLOWS: "flows",
    slots.RATE: "_rate",
    slots.SAMPLING_RATE: "sampling_rate",
    slots.DIRECTION: "sampling_direction",
    slots.FORWARDING: "fwd_status",
    slots.OUT_VLAN: "out_vlan",
    slots.NEXT_HOP: "peer_dst_ip",
    slots.SRC_MASK: "src_mask",
    slots.DST_MASK: "dst_mask",
    slots.SRC_AS: "src_as",
    slots.DST_AS: "dst_as",
    slots.PEER_SRC_AS: "peer_src_as",
    slots.PEER_DST_AS: "peer_dst_as",
    slots.NAT_SRC_HOST: "post_nat_src_host",
    slots.NAT_DST_HOST: "post_nat_dst_host",
    slots.NAT_SRC_PORT: "post_nat_src_port",
    slots.NAT_DST_PORT: "post_nat_dst_port",
}

_HEADER_FIELDS = {
    "export_proto_seqno": scan_kernels.H_SEQUENCE,
    "export_proto_version": scan_kernels.H_VERSION,
    "export_proto_sysid": scan_kernels.H_SUB_AGENT,
    "_domain": scan_kernels.H_SUB_AGENT,
}

_COUNTER_FIELDS = {
    "source_id_index": scan_kernels.C_SOURCE,
    "sflow_cnt_seq": scan_kernels.C_SEQUENCE,
    "sf_cnt_type": scan_kernels.C_TYPE,
    **{
        key: scan_kernels.C_FIRST + i
        for i, key in enumerate(key for block in COUNTER_KEYS.values() for key in block)
    },
}

_ARRIVAL_FIELDS = ("timestamp_arrival", "timestamp_start", "timestamp_end")

_FLOW_KINDS = (
    scan_kernels.FLOW,
    scan_kernels.FLOW_EXPANDED,
    scan_kernels.FLOW_OLD,
    scan_kernels.DROP,
)
_COUNTER_KINDS = (scan_kernels.COUNTER, scan_kernels.COUNTER_EXPANDED)


@dataclass(frozen=True, slots=True)
class SflowHeaders:
    """Datagram headers and sample counts, each (n,), in the order of the datagrams decoded.

    `version` is 0 where the header could not be read; everything else of that datagram is 0, too.
    The datagram `sequence` counts per agent and sub-agent.
    """

    packet: Ints  # index in the batch
    version: Words
    agent: Words  # (2, n): high and low word, IPv4 as v4-mapped
    sub_agent: Words  # always 0 in versions 2 and 4
    sequence: Words
    uptime_ms: Words
    flows: Words  # flow samples, all listed in the columns
    counters: Words  # counter samples; those of versions 2 and 4 are not decoded
    drops: Words  # discarded-packet notifications, all listed in the columns
    unknown: Words  # samples of other enterprises or formats, passed over

    @classmethod
    def of(cls, packet: Ints, matrix: Words) -> SflowHeaders:
        """The rows of a header matrix of `scan` by name."""
        agent = matrix[scan_kernels.H_AGENT : scan_kernels.H_AGENT + 2]
        rest = matrix[scan_kernels.H_SUB_AGENT :]
        return cls(packet, matrix[scan_kernels.H_VERSION], agent, *rest)


@dataclass(frozen=True, slots=True)
class SflowResult:
    """What a batch held.

    `malformed` is (m, 2) int64: index of a datagram in the batch, and `Malformed`.
    `statuses` is (rows,) int8: the dissector's `Status` of each row, NO_HEADER without a header.
    `counters` has a row per counter block, in `COUNTER_LAYOUT`; `sf_cnt_type` is a `CounterType`.
    None if there are no blocks, or if the decoder does not read them.
    """

    columns: Columns
    malformed: Ints
    headers: SflowHeaders
    statuses: npt.NDArray[np.int8]
    counters: Columns | None


class SflowDecoder:
    """Decodes sFlow datagrams of packet batches into the columns of one layout.

    `tunnels` is a `tunnel_word`: which tunnels the dissector looks into. With `frame_bytes`,
    `bytes` is the length of the frame on the link even where the IP header states one, as sfacctd
    counts. Without `counters` counter samples are only checked, not read. Holds no state between
    batches: sFlow has no templates.
    """

    def __init__(
        self,
        layout: Layout,
        tunnels: int = 0,
        *,
        frame_bytes: bool = False,
        counters: bool = True,
    ) -> None:
        self.layout = layout
        self.tunnels = tunnels
        self._reads_counters = counters
        self._dest = np.full(slots.ALL_SLOTS, -1, np.int64)
        frame = destinations(layout)
        self._dest[: len(frame)] = frame
        for slot, name in _SLOT_FIELDS.items():
            self._dest[slot] = layout.get(name)
        self._dest[LENGTH] = -1 if frame_bytes else layout.get("bytes")

    def decode(self, batch: PacketBatch, which: npt.NDArray[np.integer[Any]]) -> SflowResult:
        """Decode the datagrams `which`, (n,) indices into the batch."""
        packet: Ints = np.ascontiguousarray(which, np.int64)
        matrix: Words = np.zeros((scan_kernels.HEADER_ROWS, len(packet)), np.uint64)
        causes: Ints = np.zeros(len(packet), np.int64)
        room = int(batch.length[packet].sum()) // scan_kernels.LEAST_SAMPLE
        samples: Ints = np.empty((scan_kernels.SAMPLE_ROWS, room), np.int64)
        listed = scan(batch.buf, batch.offset, batch.length, packet, matrix, samples, causes)
        kinds = samples[scan_kernels.S_KIND, :listed]
        flows = samples[:, :listed][:, np.isin(kinds, _FLOW_KINDS)]
        polled = samples[:, :listed][:, np.isin(kinds, _COUNTER_KINDS)]
        columns, statuses = self._flows(batch, flows, matrix, causes)
        counters = self._counters(batch, polled, matrix, causes)
        bad = np.flatnonzero(causes)
        malformed = np.stack((packet[bad], causes[bad]), axis=1)
        return SflowResult(columns, malformed, SflowHeaders.of(packet, matrix), statuses, counters)

    def _flows(
        self, batch: PacketBatch, samples: Ints, headers: Words, causes: Ints
    ) -> tuple[Columns, npt.NDArray[np.int8]]:
        """Columns of flow and drop samples, and the dissector's status of each row."""
        n = samples.shape[1]
        columns = Columns.empty(self.layout, n)
        columns.n = n
        statuses = np.empty(n, np.int8)
        decode_flow_samples(
            batch.buf, samples, headers, columns.words, self._dest, self.tunnels, causes, statuses
        )
        packet = samples[scan_kernels.S_PACKET]
        header = samples[scan_kernels.S_HEADER]
        for name, row in _HEADER_FIELDS.items():
            if name in self.layout:
                columns[name][:] = headers[row, header]
        for name in _ARRIVAL_FIELDS:
            if name in self.layout:
                columns[name][:] = batch.arrival[packet].view(np.uint64)
        if "peer_src_ip" in self.layout:
            columns["peer_src_ip"][:] = _agents(headers)[:, header]
        if "_packet" in self.layout:
            columns["_packet"][:] = packet.view(np.uint64)
        if "_exporter" in self.layout:
            columns["_exporter"][:] = batch.exporter[packet]
        return columns, statuses

    def _counters(
        self, batch: PacketBatch, samples: Ints, headers: Words, causes: Ints
    ) -> Columns | None:
        """Counter blocks as columns, see `SflowResult`."""
        none: Words = np.zeros((COUNTER_ROWS, 0), np.uint64)
        # Notes records that overrun, too: what is malformed does not depend on who reads it.
        found = decode_counters(batch.buf, samples, causes, none)
        if found == 0 or not self._reads_counters:
            return None
        matrix: Words = np.zeros((COUNTER_ROWS, found), np.uint64)
        decode_counters(batch.buf, samples, causes, matrix)
        header = matrix[scan_kernels.C_HEADER].astype(np.int64)
        of_header = np.empty(headers.shape[1], np.int64)
        of_header[samples[scan_kernels.S_HEADER]] = samples[scan_kernels.S_PACKET]
        packet = of_header[header]
        columns = Columns.empty(COUNTER_LAYOUT, found)
        columns.n = found
        columns["timestamp"][:] = batch.arrival[packet].view(np.uint64)
        columns["peer_ip_src"][:] = _agents(headers)[:, header]
        columns["sflow_seq"][:] = headers[scan_kernels.H_SEQUENCE, header]
        for name, row in _COUNTER_FIELDS.items():
            columns[name][:] = matrix[row]
        columns["_packet"][:] = packet.view(np.uint64)
        return columns


def _agents(headers: Words) -> Words:
    """(2, n) words of the agent addresses."""
    return headers[scan_kernels.H_AGENT : scan_kernels.H_AGENT + 2]
