"""Address families that are understood: one row per (AFI, SAFI).

A family is known everywhere by its index in `FAMILIES`, so that compiled loops and columns hold one
octet for it. AFI and SAFI numbers are IANA's (Address Family Numbers; SAFI Namespace).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

UNKNOWN_FAMILY = 255
"""Index of every (AFI, SAFI) that has no row: its NLRI are kept out."""


class Shape(IntEnum):
    """How NLRI of a family are laid out."""

    PREFIX = 0
    """Length in bits and prefix (RFC 4271 section 4.3)."""
    LABELED = 1
    """Label stack before the prefix (RFC 8277)."""
    VPN = 2
    """Label stack and route distinguisher before the prefix (RFC 4364)."""
    EVPN = 3
    """Route type, length in octets, value (RFC 7432 section 7)."""
    FLOWSPEC = 4
    """Length in octets (one or two), components (RFC 8955)."""
    FLOWSPEC_VPN = 5
    """As FLOWSPEC, a route distinguisher first (RFC 8955 section 8)."""
    LINK_STATE = 6
    """Type, length of two octets each, descriptors (RFC 9552)."""
    LINK_STATE_VPN = 7
    """As LINK_STATE, a route distinguisher after the length."""
    TARGET = 8
    """Length in bits, origin AS and route target (RFC 4684)."""


@dataclass(frozen=True, slots=True)
class Family:
    """A row of `FAMILIES`."""

    index: int
    afi: int
    safi: int
    name: str
    shape: Shape

    @property
    def of_prefixes(self) -> bool:
        """Whether its routes are IP prefixes, which can be matched against addresses."""
        return self.shape <= Shape.VPN

    @property
    def forwards(self) -> bool:
        """Whether unicast traffic follows its routes: those of multicast (SAFI 2) are for reverse
        path checks.
        """
        return self.of_prefixes and self.safi != 2

    @property
    def address_octets(self) -> int:
        """4 or 16 for families of IP prefixes and flow specifications of IP, else 0."""
        return {1: 4, 2: 16}.get(self.afi, 0)


_ROWS = (
    (1, 1, "ipv4 unicast", Shape.PREFIX),
    (2, 1, "ipv6 unicast", Shape.PREFIX),
    (1, 2, "ipv4 multicast", Shape.PREFIX),
    (2, 2, "ipv6 multicast", Shape.PREFIX),
    (1, 4, "ipv4 labeled unicast", Shape.LABELED),
    (2, 4, "ipv6 labeled unicast", Shape.LABELED),
    (1, 128, "vpnv4", Shape.VPN),
    (2, 128, "vpnv6", Shape.VPN),
    (25, 70, "evpn", Shape.EVPN),
    (1, 133, "ipv4 flowspec", Shape.FLOWSPEC),
    (2, 133, "ipv6 flowspec", Shape.FLOWSPEC),
    (1, 134, "vpnv4 flowspec", Shape.FLOWSPEC_VPN),
    (2, 134, "vpnv6 flowspec", Shape.FLOWSPEC_VPN),
    (16388, 71, "link-state", Shape.LINK_STATE),
    (16388, 72, "link-state vpn", Shape.LINK_STATE_VPN),
    (1, 132, "route target", Shape.TARGET),
)

FAMILIES: tuple[Family, ...] = tuple(Family(i, *row) for i, row in enumerate(_ROWS))

_BY_NUMBERS = {(family.afi, family.safi): family.index for family in FAMILIES}


def family_index(afi: int, safi: int) -> int:
    """Index of a family, or UNKNOWN_FAMILY."""
    return _BY_NUMBERS.get((afi, safi), UNKNOWN_FAMILY)
