"""Capabilities of an OPEN (RFC 5492): one row of `LAYOUTS` per capability that is understood.

A value is read as records of one kind, named tuples, so that a log line or a decision takes them
by name. A capability without a row, or of another length than its row says, is noted and means
nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias


class CapabilityCode(IntEnum):
    """Capabilities that decide something here (IANA: Capability Codes)."""

    MULTIPROTOCOL = 1
    ROUTE_REFRESH = 2
    EXTENDED_NEXT_HOP = 5
    EXTENDED_MESSAGE = 6
    ROLE = 9
    GRACEFUL_RESTART = 64
    FOUR_OCTET_AS = 65
    ADD_PATH = 69
    ENHANCED_ROUTE_REFRESH = 70
    LONG_LIVED_GRACEFUL_RESTART = 71
    HOSTNAME = 73
    SOFTWARE_VERSION = 75


class Multiprotocol(NamedTuple):
    """A family that the sender handles (RFC 4760 section 8)."""

    afi: int
    safi: int


class ExtendedNextHop(NamedTuple):
    """A family whose next hops may be of another address family (RFC 8950 section 4)."""

    afi: int
    safi: int
    nexthop_afi: int


class Role(NamedTuple):
    """The sender's role: 0 provider, 1 RS, 2 RS-client, 3 customer, 4 peer (RFC 9234)."""

    role: int


class FourOctetAs(NamedTuple):
    """The sender's AS number (RFC 6793 section 3)."""

    asn: int


class AddPath(NamedTuple):
    """What the sender can do with path identifiers of a family (RFC 7911 section 4)."""

    afi: int
    safi: int
    mode: int
    """1 receive, 2 send, 3 both."""

    @property
    def sends(self) -> bool:
        """Whether the sender will send path identifiers."""
        return self.mode in (2, 3)


class RestartFamily(NamedTuple):
    """A family of a graceful restart, and whether forwarding went on meanwhile."""

    afi: int
    safi: int
    preserved: bool


class GracefulRestart(NamedTuple):
    """RFC 4724 section 3; `notification` is the N bit of RFC 8538."""

    restarted: bool
    notification: bool
    restart_time_s: int
    families: tuple[RestartFamily, ...]


class LongLived(NamedTuple):
    """A family whose stale routes may be kept for long (RFC 9494 section 3.1)."""

    afi: int
    safi: int
    preserved: bool
    stale_time_s: int


class Hostname(NamedTuple):
    """Names of the sender (draft-walton-bgp-hostname-capability)."""

    host: str
    domain: str


class SoftwareVersion(NamedTuple):
    """What the sender runs (draft-abraitis-bgp-version-capability)."""

    version: str


Record: TypeAlias = (
    Multiprotocol
    | ExtendedNextHop
    | Role
    | FourOctetAs
    | AddPath
    | GracefulRestart
    | LongLived
    | Hostname
    | SoftwareVersion
)


Decode: TypeAlias = Callable[[bytes], tuple[Record, ...]]
"""From the octets of a value; raises ValueError."""


def _text(octets: bytes) -> str:
    """Text of a peer on one line: what is no UTF-8 or not printable shows as U+FFFD."""
    text = octets.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _records(layout: str, make: Callable[..., Record], *, single: bool = False) -> Decode:
    """Decoder of a value that is records of one layout, one after another, or a single one."""
    unit = struct.Struct(layout)

    def decode(value: bytes) -> tuple[Record, ...]:
        if single and len(value) != unit.size:
            raise ValueError(f"{len(value)} octets instead of {unit.size}")
        if len(value) % unit.size:
            raise ValueError(f"{len(value)} octets, no multiple of {unit.size}")
        return tuple(make(*fields) for fields in unit.iter_unpack(value))

    return decode


def _empty(value: bytes) -> tuple[Record, ...]:
    if value:
        raise ValueError(f"{len(value)} octets instead of none")
    return ()


def _long_lived(afi: int, safi: int, word: int) -> LongLived:
    return LongLived(afi, safi, bool(word >> 31), word & 0xFF_FFFF)


def _graceful_restart(value: bytes) -> tuple[Record, ...]:
    if len(value) % 4 != 2:
        raise ValueError(f"{len(value)} octets, not 2 and a multiple of 4")
    word = int.from_bytes(value[:2])
    families = tuple(
        RestartFamily(afi, safi, bool(flags & 0x80))
        for afi, safi, flags in struct.iter_unpack(">HBB", value[2:])
    )
    return (GracefulRestart(bool(word & 0x8000), bool(word & 0x4000), word & 0xFFF, families),)


def _strings(value: bytes, count: int) -> list[str]:
    """So many texts, each after an octet with its length."""
    texts = []
    for _ in range(count):
        if not value or len(value) <= value[0]:
            raise ValueError("a text is longer than the value")
        texts.append(_text(value[1 : 1 + value[0]]))
        value = value[1 + value[0] :]
    return texts


def _hostname(value: bytes) -> tuple[Record, ...]:
    return (Hostname(*_strings(value, 2)),)


def _software_version(value: bytes) -> tuple[Record, ...]:
    return (SoftwareVersion(*_strings(value, 1)),)


@dataclass(frozen=True, slots=True)
class Layout:
    """A row of `LAYOUTS`."""

    name: str
    decode: Decode


LAYOUTS: Final[Mapping[int, Layout]] = {
    1: Layout("multiprotocol", _records(">HxB", Multiprotocol, single=True)),
    2: Layout("route refresh", _empty),
    5: Layout("extended next hop", _records(">HHH", ExtendedNextHop)),
    6: Layout("extended message", _empty),
    9: Layout("role", _records(">B", Role, single=True)),
    64: Layout("graceful restart", _graceful_restart),
    65: Layout("four-octet AS", _records(">I", FourOctetAs, single=True)),
    69: Layout("ADD-PATH", _records(">HBB", AddPath)),
    70: Layout("enhanced route refresh", _empty),
    71: Layout("long-lived graceful restart", _records(">HBI", _long_lived)),
    73: Layout("hostname", _hostname),
    75: Layout("software version", _software_version),
    128: Layout("route refresh before its RFC", _empty),
}


@dataclass(frozen=True, slots=True)
class Capability:
    """One capability as it stood in an OPEN."""

    code: int
    octets: bytes

    @property
    def name(self) -> str:
        """Its name; "capability 123" if there is no row for it."""
        layout = LAYOUTS.get(self.code)
        return layout.name if layout else f"capability {self.code}"

    @property
    def understood(self) -> bool:
        """Whether there is a row for it and its value is as the row says."""
        return self._decoded() is not None

    @property
    def records(self) -> tuple[Record, ...]:
        """What it says; () if nothing more than that it is there, or if it is not understood."""
        return self._decoded() or ()

    def facts(self) -> list[dict[str, Any]]:
        """Its code with each of its records, by name, as a log tells them."""
        return [{"code": self.code, **record._asdict()} for record in self.records] or [
            {"code": self.code}
        ]

    def _decoded(self) -> tuple[Record, ...] | None:
        layout = LAYOUTS.get(self.code)
        if layout is None:
            return None
        try:
            return layout.decode(self.octets)
        except ValueError:
            return None


# -- encoding


def multiprotocol(afi: int, safi: int) -> Capability:
    """RFC 4760 section 8."""
    return Capability(CapabilityCode.MULTIPROTOCOL, struct.pack(">HxB", afi, safi))


def four_octet_as(asn: int) -> Capability:
    """RFC 6793 section 3."""
    return Capability(CapabilityCode.FOUR_OCTET_AS, asn.to_bytes(4))


def extended_next_hop(rows: Iterable[ExtendedNextHop]) -> Capability:
    """RFC 8950 section 4."""
    value = b"".join(struct.pack(">HHH", *row) for row in rows)
    return Capability(CapabilityCode.EXTENDED_NEXT_HOP, value)


def add_path(rows: Iterable[AddPath]) -> Capability:
    """RFC 7911 section 4."""
    return Capability(CapabilityCode.ADD_PATH, b"".join(struct.pack(">HBB", *row) for row in rows))


def flag(code: CapabilityCode) -> Capability:
    """A capability that says enough by being there."""
    return Capability(code, b"")


def graceful_restart_helper() -> Capability:
    """That of a speaker which never restarts forwarding and keeps the routes of peers that do:
    no families, restart time 0 (RFC 4724 section 3).
    """
    return Capability(CapabilityCode.GRACEFUL_RESTART, bytes(2))
