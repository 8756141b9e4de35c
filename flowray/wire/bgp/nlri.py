"""NLRI of families that are not of prefixes, as text and fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowray.wire.bgp.communities import extended_community_text
from flowray.wire.bgp.evpn import read_evpn
from flowray.wire.bgp.families import Family, Shape
from flowray.wire.bgp.flowspec import read_flowspec
from flowray.wire.bgp.link_state import read_link_state

__all__ = ["Nlri", "read_nlri"]


@dataclass(frozen=True, slots=True)
class Nlri:
    """What an NLRI identifies: one text within a route distinguisher (`rd`, the eight octets
    big-endian; 0 without one), and its fields by JSON key.
    """

    text: str
    rd: int
    fields: Mapping[str, object]


def read_nlri(family: Family, raw: bytes) -> Nlri:
    """An NLRI of a family that is not of prefixes, path identifier excluded.

    Never raises: of what cannot be read the text is its octets in hexadecimal, without fields.
    """
    try:
        text, rd, fields = _read(family, raw)
    except (ValueError, IndexError):
        return Nlri(raw.hex(), 0, {})
    return Nlri(text, rd, fields)


def _read(family: Family, raw: bytes) -> tuple[str, int, Mapping[str, object]]:
    match family.shape:
        case Shape.EVPN:
            return read_evpn(raw)
        case Shape.FLOWSPEC | Shape.FLOWSPEC_VPN:
            vpn = family.shape is Shape.FLOWSPEC_VPN
            return read_flowspec(raw, family.address_octets, vpn=vpn)
        case Shape.LINK_STATE | Shape.LINK_STATE_VPN:
            return read_link_state(raw, vpn=family.shape is Shape.LINK_STATE_VPN)
        case Shape.TARGET:
            return _target(raw)
        case _:
            raise ValueError("of prefixes")


def _target(raw: bytes) -> tuple[str, int, Mapping[str, object]]:
    """Interest in a route target (RFC 4684 section 4): all of them (`default`), those of an AS, or
    those that begin with some bits.
    """
    bits = raw[0]
    if not bits:
        return "default", 0, {}
    if not 32 <= bits <= 96 or len(raw) != 1 + (bits + 7) // 8:
        raise ValueError("no route target")
    asn = int.from_bytes(raw[1:5], "big")
    target = raw[5:].ljust(8, b"\x00")
    text = extended_community_text(target) if bits == 96 else f"0x{target.hex()}/{bits - 32}"
    return f"{asn}:{text}", 0, {"origin_as": asn, "route_target": text}
