"""TLVs beside the UPDATE in Route Monitoring of BMP version 4 (draft-ietf-grow-bmp-tlv), and the
path status they give to routes (draft-ietf-grow-bmp-path-marking-tlv).

Revisions of the draft gave the types different numbers. The type of the TLV that holds the UPDATE,
which its marker betrays, tells which revision a router speaks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from flowray.wire.bgp.bmp import Tlv
from flowray.wire.bgp.capabilities import Capability

GROUP_BIT = 0x8000
"""First bit of an index: it is that of a group of NLRI, not of one."""


class RouteTlv(Enum):
    """What a TLV beside an UPDATE says."""

    GROUP = auto()
    VRF_TABLE_NAME = auto()
    STATELESS_PARSING = auto()
    PATH_MARKING = auto()
    SEQUENCE_NUMBER = auto()
    EXTENDED_FLAGS = auto()
    TIMESTAMP = auto()


_UP_TO_19 = MappingProxyType(
    {
        2: RouteTlv.GROUP,
        3: RouteTlv.VRF_TABLE_NAME,
        4: RouteTlv.STATELESS_PARSING,
        5: RouteTlv.PATH_MARKING,
    }
)
_REVISION_20 = MappingProxyType(
    {
        1: RouteTlv.SEQUENCE_NUMBER,
        2: RouteTlv.EXTENDED_FLAGS,
        3: RouteTlv.TIMESTAMP,
        4: RouteTlv.GROUP,
        5: RouteTlv.VRF_TABLE_NAME,
        6: RouteTlv.STATELESS_PARSING,
    }
)
_REVISION_21 = MappingProxyType(
    {
        1: RouteTlv.GROUP,
        2: RouteTlv.VRF_TABLE_NAME,
        3: RouteTlv.STATELESS_PARSING,
        5: RouteTlv.SEQUENCE_NUMBER,
        6: RouteTlv.EXTENDED_FLAGS,
        7: RouteTlv.TIMESTAMP,
    }
)

REVISIONS: Mapping[int, Mapping[int, RouteTlv]] = MappingProxyType(
    {1: _UP_TO_19, 7: _REVISION_20, 4: _REVISION_21}
)
"""Meaning of types, by the type of the TLV that holds the UPDATE."""


def meaning(tlv: Tlv, update_type: int, path_marking: int | None = None) -> RouteTlv | None:
    """What a TLV beside an UPDATE says, None if unknown.

    `path_marking` is a type configured for Path Marking. The draft of it takes 5, which revision 20
    gave to names: a value of four or six octets that begins with zero is no name.
    """
    if tlv.pen:
        return None
    if tlv.type == path_marking:
        return RouteTlv.PATH_MARKING
    found = REVISIONS.get(update_type, {}).get(tlv.type)
    if found is RouteTlv.VRF_TABLE_NAME and tlv.type == 5:
        marks = len(tlv.value) in (4, 6) and tlv.value[0] == 0
        return RouteTlv.PATH_MARKING if marks else found
    return found


@dataclass(frozen=True, slots=True)
class PathMark:
    """Path Marking: `status` are bits of `PATH_STATUS`, `reason` a key of `REASONS` or None.

    `index` is the ordinal of the NLRI in its UPDATE, from 1; 0 for all.
    """

    index: int
    status: int
    reason: int | None


PATH_STATUS: Mapping[int, str] = MappingProxyType(
    {
        0x001: "Invalid",
        0x002: "Best",
        0x004: "Non-selected",
        0x008: "Primary",
        0x010: "Backup",
        0x020: "Non-installed",
        0x040: "Best-external",
        0x080: "Add-Path",
        0x100: "Filtered in inbound policy",
        0x200: "Filtered in outbound policy",
        0x400: "Stale",
        0x800: "Suppressed",
    }
)

REASONS: Mapping[int, str] = MappingProxyType(
    {
        0x1: "Invalid due to AS loop",
        0x2: "Invalid due to unresolvable nexthop",
        0x3: "Not preferred for Local preference",
        0x4: "Not preferred for AS Path Length",
        0x5: "Not preferred for origin",
        0x6: "Not preferred for MED",
        0x7: "Not preferred for peer type",
        0x8: "Not preferred for IGP cost",
        0x9: "Not preferred for router ID",
        0xA: "Not preferred for peer address",
        0xB: "Not preferred for AIGP",
    }
)


def status_names(status: int) -> list[str]:
    """Names of the bits of a path status; "Unknown" for none; bits without name in hexadecimal."""
    if not status:
        return ["Unknown"]
    names = [name for bit, name in PATH_STATUS.items() if status & bit]
    rest = status & ~sum(PATH_STATUS)
    return [*names, f"0x{rest:08x}"] if rest else names


@dataclass(frozen=True, slots=True)
class RouteTlvs:
    """What the TLVs beside an UPDATE say: marks of paths, capabilities by which the UPDATE is
    encoded (as in an OPEN), and all that means nothing here, in order.
    """

    marks: tuple[PathMark, ...]
    capabilities: tuple[Capability, ...]
    others: tuple[Tlv, ...]


def read_route_tlvs(
    tlvs: Sequence[Tlv], update_type: int, path_marking: int | None = None
) -> RouteTlvs:
    """Sort out the TLVs of a Route Monitoring message; see `meaning` for the arguments.

    A group is marked once: the first TLV counts. A mark for a group that no TLV describes and a
    value of another length than its meaning asks for are left out or among the others.
    """
    meanings = [meaning(tlv, update_type, path_marking) for tlv in tlvs]
    groups = {
        tlv.index: _members(tlv)
        for tlv, means in zip(tlvs, meanings, strict=True)
        if means is RouteTlv.GROUP and tlv.index
    }
    marks: list[PathMark] = []
    capabilities: list[Capability] = []
    others: list[Tlv] = []
    for tlv, means in zip(tlvs, meanings, strict=True):
        if means is RouteTlv.PATH_MARKING and len(tlv.value) in (4, 6):
            marks.extend(_marks(tlv, groups))
        elif means is RouteTlv.STATELESS_PARSING and _is_capability(tlv.value):
            capabilities.append(Capability(tlv.value[0], tlv.value[2:]))
        elif means is not RouteTlv.GROUP:
            others.append(tlv)
    return RouteTlvs(tuple(marks), tuple(capabilities), tuple(others))


def _members(tlv: Tlv) -> tuple[int, ...]:
    """Indices of NLRI that a Group TLV puts together."""
    return tuple(number for (number,) in struct.iter_unpack(">H", tlv.value[: len(tlv.value) & ~1]))


def _is_capability(value: bytes) -> bool:
    return len(value) >= 2 and len(value) == 2 + value[1]


def _marks(tlv: Tlv, groups: dict[int, tuple[int, ...]]) -> Iterator[PathMark]:
    """A row per NLRI. A group is used up, so that rows stay below the octets of the message."""
    status = int.from_bytes(tlv.value[:4])
    reason = int.from_bytes(tlv.value[4:]) if len(tlv.value) == 6 else None
    index = tlv.index or 0
    members = groups.pop(index, ()) if index & GROUP_BIT else (index,)
    return (PathMark(member, status, reason) for member in members)
