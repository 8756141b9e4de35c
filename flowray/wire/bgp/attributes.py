"""Path attributes of a canonical set as Python values and texts.

Tolerant: what cannot be read is absent. Sets come from the UPDATE parser, which has applied
RFC 7606, but also from archives and dumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from socket import AF_INET, AF_INET6, inet_ntoa, inet_ntop
from typing import Any, Final, TypeAlias

from flowray.wire.bgp.as_path import Segment, as_path_text, merge_as4, read_as_path
from flowray.wire.bgp.communities import (
    Large,
    communities,
    community_text,
    extended_communities,
    extended_community_text,
    large_communities,
    large_community_text,
)
from flowray.wire.bgp.prefix_sid import PrefixSid, read_prefix_sid

__all__ = ["AttributeType", "Attributes", "PmsiTunnel", "decode_attributes", "next_hop_text"]

_FOUR_OCTETS: Final = 1
_EXTENDED_LENGTH: Final = 0x10
_AS_TRANS: Final = 23456


class AttributeType(IntEnum):
    """BGP Path Attributes (IANA), those that are read."""

    ORIGIN = 1
    AS_PATH = 2
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    PMSI_TUNNEL = 22
    AIGP = 26
    LINK_STATE = 29
    LARGE_COMMUNITY = 32
    ONLY_TO_CUSTOMER = 35
    PREFIX_SID = 40


_ORIGINS: Final = {0: "i", 1: "e", 2: "u"}

_PMSI_TUNNELS: Final = {
    0: "none",
    1: "RSVP-TE P2MP",
    2: "mLDP P2MP",
    3: "PIM-SSM",
    4: "PIM-SM",
    5: "BIDIR-PIM",
    6: "ingress replication",
    7: "mLDP MP2MP",
    11: "BIER",
}
"""P-Multicast Service Interface Tunnel Types (IANA)."""


@dataclass(frozen=True, slots=True)
class PmsiTunnel:
    """PMSI_TUNNEL (RFC 6514 section 5): `label` of 20 bits; `identifier` as it stood."""

    flags: int
    kind: int
    label: int
    identifier: bytes

    @property
    def text(self) -> str:
        """Type, label, and the identifier: an address if it is one, else hexadecimal."""
        kind = _PMSI_TUNNELS.get(self.kind, str(self.kind))
        return f"{kind} {self.label} {_address(self.identifier) or self.identifier.hex()}".rstrip()


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a route says of its path; None or empty where the set says nothing.

    - `next_hop`: 0, 4, 16 or 32 octets (global and link-local address)
    - `as_path`: segments, merged with AS4_PATH; None without the attribute
    - `origin`: `i`, `e` or `u` (incomplete), as pmacct writes it
    - `aggregator`: AS number and address
    - `communities`, `extended_communities` (eight octets each), `large_communities`: ascending
    - `aigp`: metric (RFC 7311); `only_to_customer`: AS number (RFC 9234)
    - `link_state`: value of the BGP-LS attribute (RFC 9552 section 5.3)
    - `unknown`: type and value in hexadecimal of each attribute of another type
    """

    next_hop: bytes = b""
    origin: str | None = None
    as_path: tuple[Segment, ...] | None = None
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: tuple[int, str] | None = None
    communities: tuple[int, ...] | None = None
    extended_communities: tuple[bytes, ...] | None = None
    large_communities: tuple[Large, ...] | None = None
    originator_id: str | None = None
    cluster_list: tuple[str, ...] = ()
    aigp: int | None = None
    pmsi_tunnel: PmsiTunnel | None = None
    prefix_sid: PrefixSid | None = None
    only_to_customer: int | None = None
    link_state: bytes = b""
    unknown: tuple[tuple[int, str], ...] = field(default=())

    @property
    def next_hop_text(self) -> str | None:
        """The global address; None without one."""
        return next_hop_text(self.next_hop)

    @property
    def as_path_text(self) -> str | None:
        """As pmacct writes it, numbers and sets separated by blanks; empty for the own AS."""
        return None if self.as_path is None else as_path_text(self.as_path)

    @property
    def communities_text(self) -> str | None:
        """Texts of standard communities separated by blanks."""
        if self.communities is None:
            return None
        return " ".join(map(community_text, self.communities))

    @property
    def extended_communities_text(self) -> str | None:
        """Texts of extended communities separated by blanks."""
        if self.extended_communities is None:
            return None
        return " ".join(map(extended_community_text, self.extended_communities))

    @property
    def large_communities_text(self) -> str | None:
        """Texts of large communities separated by blanks."""
        if self.large_communities is None:
            return None
        return " ".join(map(large_community_text, self.large_communities))

    @property
    def label_index(self) -> int | None:
        """Label index of the Prefix-SID attribute."""
        return None if self.prefix_sid is None else self.prefix_sid.label_index


def _address(raw: bytes) -> str | None:
    """Text of an address by its length, None if it is none. IPv4-mapped ones keep their form."""
    if len(raw) == 4:
        return inet_ntoa(raw)
    return inet_ntop(AF_INET6, raw) if len(raw) == 16 else None


def next_hop_text(raw: bytes) -> str | None:
    """Text of a next hop of 4, 16 or 32 octets: the global address (RFC 2545); else None.

    An IPv4-mapped address keeps its form `::ffff:192.0.2.1`: the sender chose it.
    """
    if len(raw) == 4:
        return inet_ntop(AF_INET, raw)
    return inet_ntop(AF_INET6, raw[:16]) if len(raw) in (16, 32) else None


_Values: TypeAlias = dict[str, Any]
_Read: TypeAlias = Callable[[bytes], Any]


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _four(raw: bytes) -> int | None:
    return _number(raw) if len(raw) == 4 else None


def _aggregator(value: bytes) -> tuple[int, str] | None:
    """AS number of two or four octets, then an address: the length tells which."""
    if len(value) not in (6, 8):
        return None
    return _number(value[:-4]), inet_ntoa(value[-4:])


def _cluster_list(value: bytes) -> tuple[str, ...]:
    if len(value) % 4:
        return ()
    return tuple(inet_ntoa(value[i : i + 4]) for i in range(0, len(value), 4))


def _aigp(value: bytes) -> int | None:
    """The first TLV of type 1; the length counts the header (RFC 7311 section 3)."""
    at = 0
    while at + 3 <= len(value):
        length = _number(value[at + 1 : at + 3])
        if length < 3 or at + length > len(value):
            return None
        if value[at] == 1:
            return _number(value[at + 3 : at + length]) if length == 11 else None
        at += length
    return None


def _pmsi_tunnel(value: bytes) -> PmsiTunnel | None:
    if len(value) < 5:
        return None
    return PmsiTunnel(value[0], value[1], _number(value[2:5]) >> 4, value[5:])


_READERS: Final[dict[int, tuple[str, _Read]]] = {
    AttributeType.ORIGIN: ("origin", lambda v: _ORIGINS.get(v[0]) if len(v) == 1 else None),
    AttributeType.AS_PATH: ("as_path", lambda v: read_as_path(v, four_octets=True)),
    AttributeType.MULTI_EXIT_DISC: ("med", _four),
    AttributeType.LOCAL_PREF: ("local_pref", _four),
    AttributeType.ATOMIC_AGGREGATE: ("atomic_aggregate", lambda v: not v or None),
    AttributeType.AGGREGATOR: ("aggregator", _aggregator),
    AttributeType.COMMUNITIES: ("communities", communities),
    AttributeType.ORIGINATOR_ID: ("originator_id", lambda v: _address(v[:4])),
    AttributeType.CLUSTER_LIST: ("cluster_list", _cluster_list),
    AttributeType.EXTENDED_COMMUNITIES: ("extended_communities", extended_communities),
    AttributeType.PMSI_TUNNEL: ("pmsi_tunnel", _pmsi_tunnel),
    AttributeType.AIGP: ("aigp", _aigp),
    AttributeType.LINK_STATE: ("link_state", bytes),
    AttributeType.LARGE_COMMUNITY: ("large_communities", large_communities),
    AttributeType.ONLY_TO_CUSTOMER: ("only_to_customer", _four),
    AttributeType.PREFIX_SID: ("prefix_sid", read_prefix_sid),
}
"""Name in `Attributes` and reader by type; a reader gives None for what it cannot read."""


def _wire(canonical: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute (RFC 4271 section 4.3); ends at one that overruns."""
    while at + 3 <= len(canonical):
        flags, kind = canonical[at], canonical[at + 1]
        head = 4 if flags & _EXTENDED_LENGTH else 3
        if at + head > len(canonical):
            return
        end = at + head + _number(canonical[at + 2 : at + head])
        if end > len(canonical):
            return
        yield kind, canonical[at + head : end]
        at = end


def decode_attributes(canonical: bytes) -> Attributes:
    """The attributes of a canonical set: one octet of flags (bit 0: AS numbers take four octets),
    length and octets of the next hop, then the attributes as they stood on the wire.

    Never raises: an attribute that cannot be read is absent, and so is all behind a length that
    overruns the set. Of attributes that stand twice the first counts (RFC 7606 section 3 g).
    """
    if len(canonical) < 2:
        return Attributes()
    start = 2 + canonical[1]
    values: _Values = {"next_hop": canonical[2:start]} if start <= len(canonical) else {}
    unknown: list[tuple[int, str]] = []
    raw: dict[int, bytes] = {}
    for kind, value in _wire(canonical, start):
        raw.setdefault(kind, value)
    for kind, value in raw.items():
        known = _READERS.get(kind)
        if known is not None:
            name, read = known
            content = read(value)
            if content is not None:
                values[name] = content
        elif kind not in _AS4:
            unknown.append((kind, value.hex()))
    if not canonical[0] & _FOUR_OCTETS:
        _complete(values, raw)
    return Attributes(**values, unknown=tuple(unknown))


_AS4: Final = frozenset({AttributeType.AS4_PATH, AttributeType.AS4_AGGREGATOR})


def _complete(values: _Values, raw: dict[int, bytes]) -> None:
    """AS numbers of two octets, completed by those of four (RFC 6793 section 4.2.3)."""
    path = read_as_path(raw.get(AttributeType.AS_PATH, b""), four_octets=False)
    values["as_path"] = path if AttributeType.AS_PATH in raw else None
    aggregator = values.get("aggregator")
    if aggregator is not None and aggregator[0] != _AS_TRANS:
        # The aggregating router knew no AS numbers of four octets: what others say is stale.
        return
    if aggregator is not None and AttributeType.AS4_AGGREGATOR in raw:
        values["aggregator"] = _aggregator(raw[AttributeType.AS4_AGGREGATOR]) or aggregator
    as4 = read_as_path(raw.get(AttributeType.AS4_PATH, b""), four_octets=True)
    if values["as_path"] is not None and as4 is not None:
        values["as_path"] = merge_as4(values["as_path"], as4)
