"""Communities, extended and large communities as values and as text.

A list of communities is a set (RFC 1997, RFC 4360 section 2, RFC 8092 section 3): values come in
ascending order, each once. Texts are pmacct's; of what it has no text for they give the value in
hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import inet_ntoa
from struct import iter_unpack
from typing import Final, TypeAlias

__all__ = [
    "EXTENDED_OCTETS",
    "WELL_KNOWN",
    "Large",
    "communities",
    "community_text",
    "extended_communities",
    "extended_community_text",
    "large_communities",
    "large_community_text",
]

Large: TypeAlias = tuple[int, int, int]
"""A large community: global administrator and two numbers of its own (RFC 8092)."""

EXTENDED_OCTETS: Final = 8

WELL_KNOWN: Final = {
    0: "internet",
    0xFFFFFF01: "no-export",
    0xFFFFFF02: "no-advertise",
    0xFFFFFF03: "local-AS",
}
"""Communities that have a name in texts."""


def communities(value: bytes) -> tuple[int, ...] | None:
    """The value of a COMMUNITIES attribute (RFC 1997), or None if it is no list of them."""
    if len(value) % 4:
        return None
    return tuple(sorted({c for (c,) in iter_unpack("!I", value)}))


def community_text(community: int) -> str:
    """`64496:299`, or the name of those that pmacct names."""
    known = WELL_KNOWN.get(community)
    return f"{community >> 16}:{community & 0xFFFF}" if known is None else known


def large_communities(value: bytes) -> tuple[Large, ...] | None:
    """The value of a LARGE_COMMUNITY attribute (RFC 8092), or None if it is no list of them."""
    if len(value) % 12:
        return None
    return tuple(sorted(set(iter_unpack("!III", value))))


def large_community_text(community: Large) -> str:
    """`64496:1:2`."""
    return "{}:{}:{}".format(*community)


def extended_communities(value: bytes) -> tuple[bytes, ...] | None:
    """The value of an EXTENDED COMMUNITIES attribute (RFC 4360): items of eight octets, or None if
    it is no list of them.
    """
    if len(value) % EXTENDED_OCTETS:
        return None
    places = range(0, len(value), EXTENDED_OCTETS)
    return tuple(sorted({value[i : i + EXTENDED_OCTETS] for i in places}))


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _two_octet_as(value: bytes) -> str:
    return f"{_number(value[:2])}:{_number(value[2:])}"


def _address(value: bytes) -> str:
    return f"{inet_ntoa(value[:4])}:{_number(value[4:])}"


def _four_octet_as(value: bytes) -> str:
    return f"{_number(value[:4])}:{_number(value[4:])}"


def _mac(value: bytes) -> str:
    return value.hex(":")


def _octets(value: bytes) -> str:
    return f"0x{value.hex()}"


_ADMINISTRATORS: Final[dict[int, Callable[[bytes], str]]] = {
    0: _two_octet_as,
    1: _address,
    2: _four_octet_as,
}
"""How the value begins, by type (RFC 4360 section 3, RFC 5668)."""

_TARGETS: Final = {2: "RT", 3: "SoO"}
"""Route target and route origin (RFC 4360 sections 4 and 5), by sub-type."""

_TUNNELS: Final = {
    1: "L2TPv3",
    2: "GRE",
    7: "IP-in-IP",
    8: "VXLAN",
    9: "NVGRE",
    10: "MPLS",
    11: "MPLS-in-GRE",
    12: "VXLAN-GPE",
    13: "MPLS-in-UDP",
    19: "Geneve",
}
"""BGP Tunnel Encapsulation Attribute Tunnel Types (IANA)."""


def _encapsulation(value: bytes) -> str:
    kind = _number(value[4:])
    return _TUNNELS.get(kind, str(kind))


def _color(value: bytes) -> str:
    """RFC 9012 section 4.3: two octets of flags before the colour."""
    return str(_number(value[2:]))


def _mobility(value: bytes) -> str:
    """RFC 7432 section 7.7: bit 0 of the flags says that the address does not move."""
    return f"{_number(value[2:])}{':sticky' if value[0] & 1 else ''}"


def _segment_label(value: bytes) -> str:
    """RFC 7432 section 7.5: flags, two reserved octets, label."""
    mode = "single-active" if value[0] & 1 else "all-active"
    return f"{_number(value[3:]) >> 4}:{mode}"


def _rate(value: bytes) -> str:
    """RFC 8955 section 7.1: octets a second as a float of 32 bits."""
    return f"{_number(value[:2])}:{_float(value[2:]):g}"


def _float(raw: bytes) -> float:
    ((number,),) = iter_unpack("!f", raw)
    return float(number)


def _ospf_route(value: bytes) -> str:
    """RFC 4577 section 4.2.6: area, route type, options."""
    return f"{inet_ntoa(value[:4])}:{value[4]}:{value[5]}"


def _router_id(value: bytes) -> str:
    return inet_ntoa(value[:4])


_OTHERS: Final[dict[int, tuple[str, Callable[[bytes], str]]]] = {
    0x0005: ("OSPF-domain", _two_octet_as),
    0x0105: ("OSPF-domain", _address),
    0x0205: ("OSPF-domain", _four_octet_as),
    0x0306: ("OSPF-RT", _ospf_route),
    0x8000: ("OSPF-RT", _ospf_route),
    0x0107: ("OSPF-RID", _router_id),
    0x8001: ("OSPF-RID", _router_id),
    0x030B: ("color", _color),
    0x030C: ("encapsulation", _encapsulation),
    0x4004: ("bandwidth", _rate),
    0x0600: ("MAC-mobility", _mobility),
    0x0601: ("ESI-label", _segment_label),
    0x0602: ("ES-import", _mac),
    0x0603: ("router-MAC", _mac),
    0x0606: ("DF-election", _octets),
    0x8006: ("flowspec-rate", _rate),
    0x8007: ("flowspec-action", _octets),
    0x8008: ("flowspec-redirect", _two_octet_as),
    0x8108: ("flowspec-redirect", _address),
    0x8208: ("flowspec-redirect", _four_octet_as),
    0x8009: ("flowspec-mark", lambda value: str(value[5] & 0x3F)),
}
"""Name and reading of the value, by type and sub-type (IANA BGP Extended Communities)."""


def extended_community_text(community: bytes) -> str:
    """`RT:64497:1` or `SoO:64497:1` (also with an address in front); of others a name and value, or
    all eight octets as `0x…`.

    The texts of others begin with neither `RT:` nor `SoO:`; pmacct shows a question mark for them.
    """
    kind, subtype = community[0], community[1]
    value = community[2:]
    administrator = _ADMINISTRATORS.get(kind)
    target = _TARGETS.get(subtype)
    if administrator is not None and target is not None:
        return f"{target}:{administrator(value)}"
    known = _OTHERS.get(kind << 8 | subtype)
    if known is None:
        return f"0x{community.hex()}"
    name, read = known
    return f"{name}:{read(value)}"
