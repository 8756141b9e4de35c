"""The Prefix-SID attribute: label index and SRv6 services (RFC 8669, RFC 9252)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from socket import AF_INET6, inet_ntop
from typing import Final

__all__ = ["SRV6_BEHAVIORS", "PrefixSid", "Srv6Service", "read_prefix_sid", "tlvs"]

_LABEL_INDEX: Final = 1
_SRV6_L3_SERVICE: Final = 5
_SRV6_L2_SERVICE: Final = 6
_SID_INFORMATION: Final = 1
_SID_STRUCTURE: Final = 1

SRV6_BEHAVIORS: Final = {
    1: "End",
    5: "End.X",
    9: "End.T",
    15: "End.DX6",
    16: "End.DX4",
    17: "End.DT6",
    18: "End.DT4",
    19: "End.DT46",
    20: "End.DX2",
    21: "End.DX2V",
    22: "End.DT2U",
    23: "End.DT2M",
    61: "End.DX6 with NEXT-CSID",
    62: "End.DT6 with NEXT-CSID",
    63: "End.DT4 with NEXT-CSID",
    64: "End.DT46 with NEXT-CSID",
}
"""SRv6 Endpoint Behaviors that services are bound to (IANA), by number."""


@dataclass(frozen=True, slots=True)
class Srv6Service:
    """A SID that carries the traffic of the route (RFC 9252 section 3.1).

    `structure` is None or the lengths in bits of locator block, locator node, function and
    argument, then those of what is transposed into the label and where it stands in the SID
    (section 3.2.1).
    """

    layer: int
    sid: str
    behavior: int
    flags: int
    structure: tuple[int, ...] | None

    @property
    def behavior_text(self) -> str:
        """Its name, or its number as pmacct would have it."""
        return SRV6_BEHAVIORS.get(self.behavior, f"0x{self.behavior:04x}")


@dataclass(frozen=True, slots=True)
class PrefixSid:
    """`label_index` (RFC 8669 section 3.1) or None, and SRv6 SIDs in the order of the wire."""

    label_index: int | None
    services: tuple[Srv6Service, ...]


def tlvs(value: bytes, kind_octets: int = 1) -> Iterator[tuple[int, bytes]]:
    """Type and value of each TLV whose length takes two octets; ends at one that overruns."""
    at, head = 0, kind_octets + 2
    while at + head <= len(value):
        kind = int.from_bytes(value[at : at + kind_octets], "big")
        length = int.from_bytes(value[at + kind_octets : at + head], "big")
        end = at + head + length
        if end > len(value):
            return
        yield kind, value[at + head : end]
        at = end


def read_prefix_sid(value: bytes) -> PrefixSid:
    """The value of the attribute, as far as it can be read."""
    label_index: int | None = None
    services: list[Srv6Service] = []
    for kind, body in tlvs(value):
        if kind == _LABEL_INDEX and len(body) == 7 and label_index is None:
            label_index = int.from_bytes(body[3:], "big")
        elif kind in (_SRV6_L3_SERVICE, _SRV6_L2_SERVICE):
            services += _services(kind, body[1:])
    return PrefixSid(label_index, tuple(services))


def _services(kind: int, body: bytes) -> Iterator[Srv6Service]:
    layer = 3 if kind == _SRV6_L3_SERVICE else 2
    for sub, value in tlvs(body):
        if sub != _SID_INFORMATION or len(value) < 21:
            continue
        structure = next(
            (tuple(v[:6]) for k, v in tlvs(value[21:]) if k == _SID_STRUCTURE and len(v) >= 6), None
        )
        yield Srv6Service(
            layer=layer,
            sid=inet_ntop(AF_INET6, value[1:17]),
            flags=value[17],
            behavior=int.from_bytes(value[18:20], "big"),
            structure=structure,
        )
