"""Words for numbers: forwarding states, TCP flags, directions."""

from __future__ import annotations

from typing import Final

__all__ = ["UNKNOWN_DIRECTION", "direction", "flags", "forwarding"]

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

_DIRECTIONS: Final = ("i", "e")

UNKNOWN_DIRECTION: Final = 255
"""A direction that the record does not tell."""


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
    """Letter of a sampling direction: 0 ingress, 1 egress (IPFIX element 61), else unknown."""
    return _DIRECTIONS[value] if value < len(_DIRECTIONS) else "u"
