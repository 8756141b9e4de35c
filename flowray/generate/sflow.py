"""Encoder of sFlow version 5 (sflow_version_5.txt, July 2004).

Records and samples are matrices (n, bytes) uint8, one row per sample; all rows of a call have the
same shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowray.generate.rows import Bytes, Value, pack

FLOW_SAMPLE, COUNTER_SAMPLE, EXPANDED_FLOW_SAMPLE, EXPANDED_COUNTER_SAMPLE = 1, 2, 3, 4
RAW_HEADER, EXTENDED_SWITCH, EXTENDED_ROUTER, EXTENDED_GATEWAY = 1, 1001, 1002, 1003
GENERIC_COUNTERS, ETHERNET_COUNTERS = 1, 2
HEADER_ETHERNET, HEADER_IPV4, HEADER_IPV6 = 1, 11, 12
AS_SET, AS_SEQUENCE = 1, 2
FCS_BYTES = 4

GENERIC_FIELDS: tuple[tuple[str, int], ...] = (
    *(("index", 4), ("type", 4), ("speed", 8), ("direction", 4), ("status", 4)),
    *(("in_octets", 8), ("in_unicast", 4), ("in_multicast", 4), ("in_broadcast", 4)),
    *(("in_discards", 4), ("in_errors", 4), ("in_unknown", 4)),
    *(("out_octets", 8), ("out_unicast", 4), ("out_multicast", 4), ("out_broadcast", 4)),
    *(("out_discards", 4), ("out_errors", 4), ("promiscuous", 4)),
)
"""Name and width of the members of if_counters, in wire order."""

ETHERNET_FIELDS: tuple[str, ...] = (
    *("alignment_errors", "fcs_errors", "single_collisions", "multiple_collisions"),
    *("sqe_test_errors", "deferred", "late_collisions", "excessive_collisions"),
    *("mac_transmit_errors", "carrier_sense_errors", "too_longs", "mac_receive_errors"),
    "symbol_errors",
)
"""Members of ethernet_counters, 32 bits each, in wire order."""


def record(record_format: int, body: Bytes) -> Bytes:
    """A flow or counter record: format (enterprise << 12 | number), length, padded body."""
    count, size = body.shape
    pad = np.zeros((count, -size % 4), np.uint8)
    header = pack(count, (4, record_format), (4, size + pad.shape[1]))
    return np.concatenate([header, body, pad], axis=1)


def raw_header(
    header: Bytes, frame_length: Value, *, stripped: int = FCS_BYTES, protocol: int = 1
) -> Bytes:
    """Sampled header record: `header` (n, bytes), `frame_length` of the whole frame with FCS."""
    count, size = header.shape
    head = pack(count, (4, protocol), (4, frame_length), (4, stripped), (4, size))
    return record(RAW_HEADER, np.concatenate([head, header, _pad(count, size)], axis=1))


def _pad(count: int, size: int) -> Bytes:
    return np.zeros((count, -size % 4), np.uint8)


def _address(count: int, address: Bytes) -> Bytes:
    """XDR address from (n, 4) or (n, 16): type 1 or 2, then the bytes."""
    size = address.shape[1]
    return pack(count, (4, {4: 1, 16: 2}[size]), (size, address))


def extended_switch(
    count: int, src_vlan: Value, dst_vlan: Value, src_priority: int = 0, dst_priority: int = 0
) -> Bytes:
    """802.1Q ids and priorities, ingress and egress."""
    body = pack(count, (4, src_vlan), (4, src_priority), (4, dst_vlan), (4, dst_priority))
    return record(EXTENDED_SWITCH, body)


def extended_router(count: int, next_hop: Bytes, src_mask: Value, dst_mask: Value) -> Bytes:
    """Next hop (n, 4) or (n, 16) and prefix lengths."""
    masks = pack(count, (4, src_mask), (4, dst_mask))
    return record(EXTENDED_ROUTER, np.concatenate([_address(count, next_hop), masks], axis=1))


def extended_gateway(
    count: int,
    next_hop: Bytes,
    *,
    own_as: Value,
    src_as: Value,
    src_peer_as: Value,
    as_path: Sequence[Value],
    communities: Sequence[Value] = (),
    local_pref: Value = 100,
) -> Bytes:
    """BGP data; `as_path` is one AS_SEQUENCE, next AS first, origin last, or empty."""
    head = pack(count, (4, own_as), (4, src_as), (4, src_peer_as), (4, 1 if as_path else 0))
    segment = (
        pack(count, (4, AS_SEQUENCE), (4, len(as_path)), *((4, hop) for hop in as_path))
        if as_path
        else np.zeros((count, 0), np.uint8)
    )
    tail = pack(
        count, (4, len(communities)), *((4, value) for value in communities), (4, local_pref)
    )
    body = np.concatenate([_address(count, next_hop), head, segment, tail], axis=1)
    return record(EXTENDED_GATEWAY, body)


def _sample(sample_format: int, head: Bytes, records: Sequence[Bytes]) -> Bytes:
    count = len(head)
    body = np.concatenate([head, pack(count, (4, len(records))), *records], axis=1)
    return np.concatenate([pack(count, (4, sample_format), (4, body.shape[1])), body], axis=1)


def flow_samples(
    records: Sequence[Bytes],
    *,
    sequence: Value,
    source_index: Value,
    rate: Value,
    pool: Value,
    input_if: Value,
    output_if: Value,
    drops: Value = 0,
    expanded: bool = False,
) -> Bytes:
    """Flow samples with these records; interfaces are ifIndexes (format 0).

    `sequence` counts the samples of the data source, `pool` the packets it could have sampled, both
    running.
    """
    count = len(records[0])
    common = ((4, rate), (4, pool), (4, drops))
    if expanded:
        head = pack(
            count,
            *((4, sequence), (4, 0), (4, source_index), *common),
            *((4, 0), (4, input_if), (4, 0), (4, output_if)),
        )
        return _sample(EXPANDED_FLOW_SAMPLE, head, records)
    head = pack(
        count,
        *((4, sequence), (1, 0), (3, source_index), *common, (4, input_if), (4, output_if)),
    )
    return _sample(FLOW_SAMPLE, head, records)


def generic_counters(count: int, **values: Value) -> Bytes:
    """Interface counters record; members not given are 0. Raises KeyError for an unknown member."""
    known = {name for name, _ in GENERIC_FIELDS}
    if not values.keys() <= known:
        raise KeyError(f"unknown interface counters: {sorted(values.keys() - known)}")
    fields = [(width, values.get(name, 0)) for name, width in GENERIC_FIELDS]
    return record(GENERIC_COUNTERS, pack(count, *fields))


def ethernet_counters(count: int, **values: Value) -> Bytes:
    """Ethernet counters record; members not given are 0. Raises KeyError for an unknown member."""
    if not values.keys() <= set(ETHERNET_FIELDS):
        raise KeyError(f"unknown Ethernet counters: {sorted(values.keys() - set(ETHERNET_FIELDS))}")
    fields = [(4, values.get(name, 0)) for name in ETHERNET_FIELDS]
    return record(ETHERNET_COUNTERS, pack(count, *fields))


def counter_samples(
    records: Sequence[Bytes], *, sequence: Value, source_index: Value, expanded: bool = False
) -> Bytes:
    """Counter samples with these records."""
    count = len(records[0])
    if expanded:
        head = pack(count, (4, sequence), (4, 0), (4, source_index))
        return _sample(EXPANDED_COUNTER_SAMPLE, head, records)
    head = pack(count, (4, sequence), (1, 0), (3, source_index))
    return _sample(COUNTER_SAMPLE, head, records)


def datagram_headers(
    count: int, agent: bytes, *, sequence: Value, uptime_ms: Value, samples: int, sub_agent: int = 0
) -> Bytes:
    """Datagram headers announcing `samples` samples each; `agent` is 4 or 16 address bytes."""
    address = np.broadcast_to(np.frombuffer(agent, np.uint8), (count, len(agent)))
    head = _address(count, address)
    tail = pack(count, (4, sub_agent), (4, sequence), (4, uptime_ms), (4, samples))
    return np.concatenate([pack(count, (4, 5)), head, tail], axis=1)


def datagram(
    agent: bytes, samples: Sequence[bytes], *, sequence: int, uptime_ms: int, sub_agent: int = 0
) -> bytes:
    """One datagram of any mixture of samples."""
    header = datagram_headers(
        1,
        agent,
        sequence=sequence & 0xFFFFFFFF,
        uptime_ms=uptime_ms & 0xFFFFFFFF,
        samples=len(samples),
        sub_agent=sub_agent,
    )
    return header.tobytes() + b"".join(samples)
