"""Layers of sampled packets, from Ethernet to TCP, UDP and VXLAN, all rows at once.

Each function returns a matrix (n, header bytes) uint8; a frame is the layers joined by `stack`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowray.generate.rows import Bytes, Value, pack

ETHERTYPE_V4, ETHERTYPE_V6 = 0x0800, 0x86DD
ETHERTYPE_VLAN, ETHERTYPE_QINQ, ETHERTYPE_MPLS = 0x8100, 0x88A8, 0x8847
TCP, UDP = 6, 17


def stack(*layers: Bytes) -> Bytes:
    """Join layers of the same number of rows."""
    return np.concatenate(layers, axis=1)


def ethernet(count: int, dst_mac: Value, src_mac: Value, ethertype: Value) -> Bytes:
    """Ethernet II header; MACs are 48-bit integers."""
    return pack(count, (6, dst_mac), (6, src_mac), (2, ethertype))


def vlan_tag(count: int, vlan: Value, ethertype: Value, priority: int = 0) -> Bytes:
    """The 4 bytes behind an 802.1Q ethertype: tag control and the next ethertype."""
    tag = (np.zeros(count, np.int64) + np.asarray(vlan)) | priority << 13
    return pack(count, (2, tag), (2, ethertype))


def mpls(count: int, *labels: Value, ttl: int = 64) -> Bytes:
    """A label stack, top first (RFC 3032); the last has the bottom-of-stack bit."""
    last = len(labels) - 1
    entries = [
        (np.zeros(count, np.int64) + np.asarray(label)) << 12 | (i == last) << 8 | ttl
        for i, label in enumerate(labels)
    ]
    return pack(count, *((4, entry) for entry in entries))


def checksum(rows: Bytes) -> npt.NDArray[np.uint16]:
    """The Internet checksum (RFC 1071) of each row: (n,) uint16."""
    even = np.concatenate([rows, np.zeros((len(rows), rows.shape[1] % 2), np.uint8)], axis=1)
    total = np.ascontiguousarray(even).view(">u2").astype(np.uint64).sum(axis=1)
    for _ in range(2):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    total = ~total & np.uint64(0xFFFF)
    return np.asarray(total, np.uint16)


def ipv4(
    count: int,
    *,
    src: Value,
    dst: Value,
    proto: Value,
    total_length: Value,
    tos: Value = 0,
    ttl: Value = 61,
    identification: Value = 0,
    fragment: Value = 0x4000,
) -> Bytes:
    """IPv4 header with its checksum; addresses are 32-bit integers, `fragment` flags and offset."""
    rows = pack(
        count,
        *((1, 0x45), (1, tos), (2, total_length), (2, identification), (2, fragment), (1, ttl)),
        *((1, proto), (2, 0), (4, src), (4, dst)),
    )
    rows[:, 10:12] = pack(count, (2, checksum(rows)))
    return rows


def ipv6(
    count: int,
    *,
    src: Bytes,
    dst: Bytes,
    next_header: Value,
    payload_length: Value,
    traffic_class: Value = 0,
    flow_label: Value = 0,
    hop_limit: Value = 61,
) -> Bytes:
    """IPv6 header (RFC 8200); addresses (n, 16) uint8."""
    first = np.zeros(count, np.int64) + 6 << 28
    first |= np.asarray(traffic_class).astype(np.int64) << 20
    first |= np.asarray(flow_label).astype(np.int64)
    return pack(
        count,
        *((4, first), (2, payload_length), (1, next_header), (1, hop_limit), (16, src), (16, dst)),
    )


def tcp(
    count: int, *, src_port: Value, dst_port: Value, flags: Value = 0x10, sequence: Value = 1
) -> Bytes:
    """TCP header of 20 bytes. Its checksum covers what sampling cuts off, so it is left 0."""
    return pack(
        count,
        *((2, src_port), (2, dst_port), (4, sequence), (4, 1), (1, 0x50), (1, flags)),
        *((2, 65535), (2, 0), (2, 0)),
    )


def udp(count: int, *, src_port: Value, dst_port: Value, length: Value) -> Bytes:
    """UDP header; `length` counts header and payload. The checksum is left 0 as for `tcp`."""
    return pack(count, (2, src_port), (2, dst_port), (2, length), (2, 0))


def vxlan(count: int, vni: Value) -> Bytes:
    """VXLAN header (RFC 7348)."""
    return pack(count, (4, 0x08000000), (3, vni), (1, 0))


def filler(count: int, size: int) -> Bytes:
    """Payload bytes that stand for what the packet carried."""
    return np.broadcast_to(np.arange(size, dtype=np.uint8), (count, size))
