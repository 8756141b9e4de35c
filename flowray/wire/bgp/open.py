"""The OPEN message (RFC 4271 section 4.2), its parameters in both forms (RFC 5492, RFC 9072)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeVar

from flowray.wire.bgp.capabilities import (
    AddPath,
    Capability,
    CapabilityCode,
    ExtendedNextHop,
    FourOctetAs,
    GracefulRestart,
    LongLived,
    Multiprotocol,
)
from flowray.wire.bgp.messages import ErrorCode, MessageError, MessageType, encode

AS_TRANS: Final = 23456
"""Stands for an AS number that does not fit in two octets (RFC 6793)."""

VERSION: Final = 4
_FIXED = struct.Struct(">BHH4sB")
_CAPABILITIES = 2
_EXTENDED = 255

_UNSPECIFIC, _VERSION, _PEER_AS, _IDENTIFIER, _PARAMETER, _HOLD_TIME = 0, 1, 2, 3, 4, 6
"""Subcodes of OPEN Message Error."""

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Open:
    """An OPEN: `my_as` is the field of two octets, `hold_time_s` 0 or at least 3."""

    my_as: int
    hold_time_s: int
    bgp_id: IPv4Address
    capabilities: tuple[Capability, ...]

    @staticmethod
    def decode(body: bytes) -> Open:
        """From what follows the header, at least ten octets: the framing saw to that.

        Raises MessageError with the subcode of RFC 4271 section 6.2.
        """
        version, my_as, hold_time, identifier, parameters = _FIXED.unpack_from(body)
        if version != VERSION:
            raise _error(_VERSION, f"version {version} instead of 4", VERSION.to_bytes(2))
        if hold_time in (1, 2):
            raise _error(_HOLD_TIME, f"a hold time of {hold_time} s")
        if not any(identifier):
            raise _error(_IDENTIFIER, "0.0.0.0 as BGP identifier")
        rest = body[_FIXED.size :]
        opened = Open(
            my_as, hold_time, IPv4Address(identifier), tuple(_capabilities(rest, parameters))
        )
        if opened.peer_as == 0:  # RFC 7607
            raise _error(_PEER_AS, "AS 0")
        return opened

    def encode(self) -> bytes:
        """The whole message; its parameters take the form of RFC 9072 if they need more than 255
        octets.
        """
        value = b"".join(bytes((c.code, len(c.octets))) + c.octets for c in self.capabilities)
        if not value:
            length, parameters = 0, b""
        elif len(value) + 2 < _EXTENDED:
            length, parameters = len(value) + 2, bytes((_CAPABILITIES, len(value))) + value
        else:
            one = struct.pack(">BH", _CAPABILITIES, len(value)) + value
            length, parameters = _EXTENDED, struct.pack(">BH", _EXTENDED, len(one)) + one
        fixed = _FIXED.pack(VERSION, self.my_as, self.hold_time_s, self.bgp_id.packed, length)
        return encode(MessageType.OPEN, fixed + parameters)

    @property
    def peer_as(self) -> int:
        """The sender's AS number: of four octets if it told that, else `my_as`."""
        told = self._records(FourOctetAs)
        return told[-1].asn if told else self.my_as

    @property
    def four_octets(self) -> bool:
        """Whether the sender's AS numbers take four octets (RFC 6793)."""
        return bool(self._records(FourOctetAs))

    @property
    def families(self) -> tuple[Multiprotocol, ...]:
        """Families the sender handles: without a word of it IPv4 unicast (RFC 4760)."""
        return self._records(Multiprotocol) or (Multiprotocol(1, 1),)

    @property
    def add_path(self) -> tuple[AddPath, ...]:
        """What the sender does with path identifiers (RFC 7911)."""
        return self._records(AddPath)

    @property
    def extended_next_hop(self) -> tuple[ExtendedNextHop, ...]:
        """IPv4 families whose next hops may be IPv6 (RFC 8950)."""
        return self._records(ExtendedNextHop)

    @property
    def graceful_restart(self) -> GracefulRestart | None:
        """RFC 4724: of several the last counts."""
        told = self._records(GracefulRestart)
        return told[-1] if told else None

    @property
    def long_lived(self) -> tuple[LongLived, ...]:
        """RFC 9494."""
        return self._records(LongLived)

    def has(self, code: CapabilityCode) -> bool:
        """Whether a capability is there and as it should be."""
        return any(c.code == code and c.understood for c in self.capabilities)

    def _records(self, kind: type[_Record]) -> tuple[_Record, ...]:
        return tuple(r for c in self.capabilities for r in c.records if isinstance(r, kind))


def _error(subcode: int, reason: str, data: bytes = b"") -> MessageError:
    return MessageError(ErrorCode.OPEN_MESSAGE, subcode, data, f"an OPEN with {reason}")


def _capabilities(rest: bytes, length: int) -> Iterator[Capability]:
    """Capabilities of all parameters; `length` is the octet before them."""
    for kind, value in _parameters(rest, length):
        if kind != _CAPABILITIES:
            raise _error(_PARAMETER, f"an optional parameter of type {kind}")
        yield from (Capability(*item) for item in _items(value, ">BB", "a capability"))


def _parameters(rest: bytes, length: int) -> Iterator[tuple[int, bytes]]:
    if length and rest[:1] == bytes((_EXTENDED,)):
        if len(rest) < 3:
            raise _error(_UNSPECIFIC, "no length of its extended parameters")
        length, rest = int.from_bytes(rest[1:3]), rest[3:]
        layout = ">BH"
    else:
        layout = ">BB"
    if length != len(rest):
        raise _error(_UNSPECIFIC, f"{len(rest)} octets of parameters, {length} by their length")
    return _items(rest, layout, "a parameter")


def _items(octets: bytes, layout: str, what: str) -> Iterator[tuple[int, bytes]]:
    """Type, length, value, one after another."""
    head = struct.Struct(layout)
    at = 0
    while at < len(octets):
        if at + head.size > len(octets):
            raise _error(_UNSPECIFIC, f"{what} cut off")
        kind, length = head.unpack_from(octets, at)
        at += head.size
        if at + length > len(octets):
            raise _error(_UNSPECIFIC, f"{what} that is longer than the message")
        yield kind, octets[at : at + length]
        at += length


def two_octet_as(asn: int) -> int:
    """What stands in the field of two octets (RFC 6793 section 4.2.2)."""
    return asn if asn <= 0xFFFF else AS_TRANS
