"""Sampled packet headers to fields: sFlow raw header records, IPFIX elements 104, 313 and 315.

Layers: Ethernet II, 802.3 SNAP, 802.1Q/ad tags, PPP, PPPoE, MPLS (label stack, then IP or an
Ethernet pseudowire by guess), IPv4 with options and fragments, IPv6 with extension headers, ports
of TCP, UDP, UDP-Lite, SCTP and DCCP, TCP flags. Ports stay 0 for other protocols and for all
fragments but the first.

Tunnels are looked into by choice. Then the packet inside is the flow: addresses, ports, protocol,
length and EtherType are its own, and the `tunnel_*` fields are those of the outermost packet. MAC
addresses and VLANs of the flow are those of the innermost Ethernet header, which for IP in IP is
the one of the frame itself; a pseudowire's inner MAC header is passed over. `vxlan` also takes the
network identifier of Geneve.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

from flowray.columns import Layout
from flowray.wire.flow.dissect_kernels import PORT_SHIFT, dissect
from flowray.wire.flow.link_kernels import LABELS, LENGTH, SLOTS, TUNNEL

__all__ = [
    "LENGTH",
    "SLOTS",
    "SLOT_FIELDS",
    "Link",
    "Status",
    "Tunnel",
    "destinations",
    "dissect",
    "tunnel_word",
]


class Link(IntEnum):
    """What a sampled frame begins with: header_protocol of sFlow v5."""

    ETHERNET = 1
    PPP = 7
    IPV4 = 11
    IPV6 = 12
    MPLS = 13
    POS = 14


class Status(IntEnum):
    """How far `dissect` came; whatever it read before is stored in any case."""

    OK = 0
    TRUNCATED = 1  # a header that should be read is cut off
    UNSUPPORTED = 2  # not IP, or a link kind that is not known
    MALFORMED = 3  # an IP header that contradicts itself
    TOO_DEEP = 4  # more headers than any real packet has


class Tunnel(IntFlag):
    """Tunnels that `dissect` may look into."""

    GRE = 1  # with NVGRE
    IPIP = 2  # IP protocols 4, 41, 137 (MPLS) and 143 (Ethernet), hence SRv6 as well
    VXLAN = 4
    GTP = 8  # GTP-U, UDP port 2152
    GENEVE = 16  # UDP port 6081


_FLOW = (
    "src_mac",
    "dst_mac",
    "src_host",
    "dst_host",
    "proto",
    "tos",
    "flow_label",
    "src_port",
    "dst_port",
    "tcpflags",
)
assert len(_FLOW) == TUNNEL

SLOT_FIELDS: tuple[str | None, ...] = (
    *_FLOW,
    *(f"tunnel_{name}" for name in _FLOW),
    "vlan",
    "in_vlan",
    "in_cvlan",
    "cos",
    "etype",
    "vxlan",
    "nvgre",
    None,
    *(f"_mpls_{i}" for i in range(1, LABELS + 1)),
)
"""The field of each slot of `dest`; LENGTH, octets of the IP packet, is the caller's to place."""
assert len(SLOT_FIELDS) == SLOTS


def destinations(layout: Layout) -> npt.NDArray[np.int64]:
    """`dest` of `dissect` for a layout: (SLOTS,) int64, word rows, -1 for what it does not hold."""
    rows = [-1 if name is None else layout.get(name) for name in SLOT_FIELDS]
    return np.array(rows, np.int64)


def tunnel_word(tunnels: Tunnel, vxlan_port: int = 4789) -> int:
    """The `tunnels` argument of `dissect`. Raises ValueError for a port out of range."""
    if not 0 < vxlan_port < 1 << 16:
        raise ValueError(f"VXLAN port: found {vxlan_port}, allowed 1 to 65535")
    return int(tunnels) | vxlan_port << PORT_SHIFT
