"""Words for numbers: protocols, forwarding states, TCP flags, directions."""

from __future__ import annotations

from typing import Final

__all__ = ["direction", "flags", "forwarding", "protocol"]

_PROTOCOLS: Final[dict[int, str]] = {
    1: "icmp",
    2: "igmp",
    3: "ggp",
    4: "ipencap",
    6: "tcp",
    8: "egp",
    9: "igp",
    17: "udp",
    18: "mux",
    41: "ipv6",
    43: "ipv6-route",
    44: "ipv6-frag",
    46: "rsvp",
    47: "gre",
    50: "esp",
    51: "ah",
    55: "mobile",
    56: "tlsp",
    58: "ipv6-icmp",
    59: "ipv6-nonxt",
    60: "ipv6-opts",
    83: "vines",
    88: "eigrp",
    89: "ospf",
    91: "larp",
    93: "ax.25",
    94: "ipip",
    98: "encap",
    102: "pnni",
    103: "pim",
    108: "IPcomp",
    111: "ipx-in-ip",
    112: "vrrp",
    115: "l2tp",
    124: "isis",
    132: "sctp",
    133: "fc",
}
"""Protocols that pmacct names; it prints the others, and 0, as numbers."""

_STATES: Final = ("UNKNOWN", "FORWARDED", "DROPPED", "CONSUMED")

_REASONS: Final[tuple[tuple[str, ...], ...]] = (
    (),
    ("Unknown", "Fragmented", "Not Fragmented"),
    (
        "Unknown",
        "ACL deny",
        "ACL drop",
        "Unroutable",
        "Adjacency",
        "Fragmentation and DF set",
        "Bad header checksum",
        "Bad total Length",
        "Bad header length",
        "bad TTL",
        "Policer",
        "WRED",
        "RPF",
        "For us",
        "Bad output interface",
        "Hardware",
    ),
    ("Unknown", "Punt Adjacency", "Incomplete Adjacency", "For us"),
)
"""Reason codes by state, RFC 7270 section 4.12."""

_FLAGS: Final = ("NS", "CWR", "ECE", "URG", "ACK", "PSH", "RST", "SYN", "FIN")
"""TCP header flags from bit 8 down to bit 0 (RFC 9293 section 3.1, RFC 3540)."""

_DIRECTIONS: Final = ("u", "i", "e")


def protocol(number: int) -> str:
    """Name of an IP protocol, or its number as text."""
    return _PROTOCOLS.get(number, str(number))


def forwarding(status: int) -> str:
    """State and reason of a forwarding status: two high bits, six low bits (RFC 7270)."""
    state, reason = status >> 6 & 3, status & 63
    reasons = _REASONS[state]
    return f"{_STATES[state]} {reasons[reason] if reason < len(reasons) else 'Unclassified'}"


def flags(bits: int) -> list[str]:
    """Names of the TCP flags set, highest bit first."""
    top = len(_FLAGS) - 1
    return [name for i, name in enumerate(_FLAGS) if bits >> (top - i) & 1]


def direction(value: int) -> str:
    """Letter of a sampling direction: 0 unknown, 1 ingress, 2 egress."""
    return _DIRECTIONS[value] if value < len(_DIRECTIONS) else "u"
