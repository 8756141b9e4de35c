"""Records of our own in the MRT files of an archive: what MRT has no record for.

They have type 60, which is assigned to nobody (RFC 6396 section 4 leaves 50 to 63 free), the common
header with the time in seconds, and begin with that time in ns (uint64) and the number of a session
(uint32; 0: none), both big-endian. Readers of MRT pass over them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["TYPE", "RecordType", "RouteRecord", "read_record"]

TYPE: Final = 60
_HEADER = struct.Struct(">IHHI")
_HEAD = struct.Struct(">QI")
_SECOND = 1_000_000_000


class RecordType(IntEnum):
    """Subtypes, and what the body is after the head."""

    BEGIN = 1
    """The file begins: JSON (`group`, `life`, `number`, `table`: the file of the tables that were
    there when the group started, if it had any).
    """
    PUBLISHED = 2
    """A snapshot: its generation (uint64), then its epoch as text."""
    BGP_OPENED = 3
    """A BGP session is up: JSON, fields of `flowray.rib.peers.Peer`."""
    BGP_REFRESH = 4
    """The marks of RFC 7313: 1 (begin) or 2 (end), then AFI (uint16) and SAFI (uint8)."""
    BGP_ENDED = 5
    """A BGP session is over."""
    BMP_OPENED = 6
    """A router connected: JSON (`address`, `port`)."""
    BMP_MESSAGES = 7
    """Whole BMP messages, as they came."""
    BMP_ENDED = 8
    """The connection of a router is over."""
    EXPIRED = 9
    """Routes from before a restart were given up: the identity of their peer, JSON."""
    PAYLOADS = 10
    """Routes are validated by other payloads from here on: an Arrow stream of their columns."""


@dataclass(frozen=True, slots=True)
class RouteRecord:
    """One record."""

    kind: RecordType
    time_ns: int
    session: int
    body: bytes

    def encode(self) -> bytes:
        """Its octets, header included."""
        seconds = self.time_ns // _SECOND & 0xFFFFFFFF
        head = _HEAD.pack(self.time_ns, self.session)
        length = len(head) + len(self.body)
        return _HEADER.pack(seconds, TYPE, self.kind, length) + head + self.body


def read_record(subtype: int, octets: bytes) -> RouteRecord:
    """A record by its subtype and what follows the header. Raises ValueError."""
    if len(octets) < _HEAD.size:
        raise ValueError(f"a record of {len(octets)} octets")
    time_ns, session = _HEAD.unpack_from(octets)
    return RouteRecord(RecordType(subtype), time_ns, session, octets[_HEAD.size :])
