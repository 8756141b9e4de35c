"""BGP messages: the framing of a stream, and all types but OPEN and UPDATE (RFC 4271 section 4)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final

import numpy as np

from flowray.errors import FlowrayError
from flowray.wire.bgp.events import I64, U8
from flowray.wire.bgp.message_kernels import (
    BAD_LENGTH,
    BAD_MARKER,
    BAD_TYPE,
    HEADER,
    MESSAGE,
    PLAIN_LIMIT,
    walk,
)

MARKER: Final = b"\xff" * 16
EXTENDED_LIMIT: Final = 65535
"""Octets of the longest message with the extended message capability (RFC 8654)."""

_HEADER = struct.Struct(">16sHB")
_SHORTEST_UPDATE = 23
_HEADER_ERRORS: Final = (BAD_MARKER, BAD_LENGTH, BAD_TYPE)


class MessageType(IntEnum):
    """Octet 19 of a message (RFC 4271 section 4.1, RFC 2918)."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


class ErrorCode(IntEnum):
    """What a NOTIFICATION is about (IANA: BGP Error Codes)."""

    MESSAGE_HEADER = 1
    OPEN_MESSAGE = 2
    UPDATE_MESSAGE = 3
    HOLD_TIMER_EXPIRED = 4
    FINITE_STATE_MACHINE = 5
    CEASE = 6
    ROUTE_REFRESH_MESSAGE = 7
    SEND_HOLD_TIMER_EXPIRED = 8


class Cease(IntEnum):
    """Subcodes of Cease (RFC 4486, RFC 8538)."""

    MAXIMUM_PREFIXES = 1
    ADMINISTRATIVE_SHUTDOWN = 2
    PEER_DECONFIGURED = 3
    ADMINISTRATIVE_RESET = 4
    CONNECTION_REJECTED = 5
    CONFIGURATION_CHANGE = 6
    COLLISION_RESOLUTION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9


class Refresh(IntEnum):
    """Message subtypes of ROUTE-REFRESH (RFC 7313 section 3.2)."""

    REQUEST = 0
    BEGIN = 1
    END = 2


_CODE_NAMES: Final[Mapping[int, str]] = {
    1: "Message Header Error",
    2: "OPEN Message Error",
    3: "UPDATE Message Error",
    4: "Hold Timer Expired",
    5: "Finite State Machine Error",
    6: "Cease",
    7: "ROUTE-REFRESH Message Error",
    8: "Send Hold Timer Expired",
}

_SUBCODE_NAMES: Final[Mapping[tuple[int, int], str]] = {
    (1, 1): "Connection Not Synchronized",
    (1, 2): "Bad Message Length",
    (1, 3): "Bad Message Type",
    (2, 1): "Unsupported Version Number",
    (2, 2): "Bad Peer AS",
    (2, 3): "Bad BGP Identifier",
    (2, 4): "Unsupported Optional Parameter",
    (2, 6): "Unacceptable Hold Time",
    (2, 7): "Unsupported Capability",
    (2, 11): "Role Mismatch",
    (3, 1): "Malformed Attribute List",
    (3, 2): "Unrecognized Well-known Attribute",
    (3, 3): "Missing Well-known Attribute",
    (3, 4): "Attribute Flags Error",
    (3, 5): "Attribute Length Error",
    (3, 6): "Invalid ORIGIN Attribute",
    (3, 8): "Invalid NEXT_HOP Attribute",
    (3, 9): "Optional Attribute Error",
    (3, 10): "Invalid Network Field",
    (3, 11): "Malformed AS_PATH",
    (5, 1): "Receive Unexpected Message in OpenSent State",
    (5, 2): "Receive Unexpected Message in OpenConfirm State",
    (5, 3): "Receive Unexpected Message in Established State",
    (6, 1): "Maximum Number of Prefixes Reached",
    (6, 2): "Administrative Shutdown",
    (6, 3): "Peer De-configured",
    (6, 4): "Administrative Reset",
    (6, 5): "Connection Rejected",
    (6, 6): "Other Configuration Change",
    (6, 7): "Connection Collision Resolution",
    (6, 8): "Out of Resources",
    (6, 9): "Hard Reset",
    (6, 10): "BFD Down",
    (7, 1): "Invalid Message Length",
}
_WITH_COMMUNICATION: Final = frozenset({Cease.ADMINISTRATIVE_SHUTDOWN, Cease.ADMINISTRATIVE_RESET})


class MessageError(FlowrayError):
    """A message that ends the session: what its NOTIFICATION says, and why in one line."""

    def __init__(self, code: int, subcode: int, data: bytes, reason: str) -> None:
        super().__init__(code, subcode, data, reason)
        self.code = int(code)
        self.subcode = int(subcode)
        self.data = data
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Notification:
    """The content of a NOTIFICATION (RFC 4271 section 4.5)."""

    code: int
    subcode: int
    data: bytes = b""

    @staticmethod
    def decode(body: bytes) -> Notification:
        """From what follows the header, at least two octets: the framing saw to that."""
        return Notification(body[0], body[1], body[2:])

    def encode(self) -> bytes:
        """The whole message. Data beyond 4096 octets of message is cut off."""
        room = PLAIN_LIMIT - HEADER - 2
        return encode(MessageType.NOTIFICATION, bytes((self.code, self.subcode)) + self.data[:room])

    @property
    def communication(self) -> str:
        """The shutdown communication (RFC 9003) on one line, "" without one; octets that are no
        UTF-8 and characters that a terminal would not print show as U+FFFD.
        """
        if self.code != ErrorCode.CEASE or self.subcode not in _WITH_COMMUNICATION or not self.data:
            return ""
        text = self.data[1 : 1 + self.data[0]].decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "\ufffd" for c in text)

    def __str__(self) -> str:
        """Its names by IANA and what its data tells, on one line."""
        name = _CODE_NAMES.get(self.code, f"error {self.code}")
        if self.subcode:
            subcode = _SUBCODE_NAMES.get((self.code, self.subcode), f"subcode {self.subcode}")
            name = f"{name}: {subcode}"
        if (self.code, self.subcode) == (ErrorCode.CEASE, Cease.HARD_RESET) and len(self.data) >= 2:
            inner = Notification.decode(self.data)
            # One level: a reset within a reset is shown by its name alone.
            return f"{name} ({Notification(inner.code, inner.subcode, _unnested(inner))})"
        said = self.communication
        return f'{name} ("{said}")' if said else name


def _unnested(inner: Notification) -> bytes:
    return b"" if inner.subcode == Cease.HARD_RESET else inner.data


def shutdown_communication(text: str) -> bytes:
    """Data of an Administrative Shutdown or Reset: at most 255 octets of UTF-8 (RFC 9003)."""
    octets = text.encode()[:255].decode("utf-8", "ignore").encode()
    return bytes((len(octets),)) + octets


@dataclass(frozen=True, slots=True)
class RouteRefresh:
    """The content of a ROUTE-REFRESH (RFC 2918 section 3, RFC 7313 section 3.2)."""

    afi: int
    safi: int
    subtype: int

    @staticmethod
    def decode(message: bytes) -> RouteRefresh:
        """From a whole message, at least 23 octets.

        Raises MessageError if one of RFC 7313 has another length (its section 5). What may follow
        in a request are the outbound route filters of RFC 5291, which are of no use here.
        """
        afi, subtype, safi = struct.unpack_from(">HBB", message, HEADER)
        if subtype in (Refresh.BEGIN, Refresh.END) and len(message) != HEADER + 4:
            raise MessageError(
                ErrorCode.ROUTE_REFRESH_MESSAGE,
                1,
                message,
                f"ROUTE-REFRESH of subtype {subtype} with {len(message)} octets instead of 23",
            )
        return RouteRefresh(afi, safi, subtype)

    def encode(self) -> bytes:
        """The whole message."""
        body = struct.pack(">HBB", self.afi, self.subtype, self.safi)
        return encode(MessageType.ROUTE_REFRESH, body)


def encode(kind: MessageType, body: bytes = b"") -> bytes:
    """A whole message: header and body, together at most EXTENDED_LIMIT octets."""
    return _HEADER.pack(MARKER, HEADER + len(body), kind) + body


KEEPALIVE: Final = encode(MessageType.KEEPALIVE)


def encode_end_of_rib(afi: int, safi: int) -> bytes:
    """An UPDATE that says that all routes of a family have been sent (RFC 4724 section 2)."""
    if (afi, safi) == (1, 1):
        return encode(MessageType.UPDATE, bytes(4))
    unreach = struct.pack(">BBBHB", 0x80, 15, 3, afi, safi)
    return encode(MessageType.UPDATE, struct.pack(">HH", 0, len(unreach)) + unreach)


def encode_every_route_target(next_hop: IPv4Address, path: bytes, *, internal: bool) -> bytes:
    """An UPDATE that asks for the routes of all route targets, which is a prefix of length 0 (RFC
    4684 section 4). `path`: value of AS_PATH.
    """
    reach = struct.pack(">HBB4sBB", 1, 132, 4, next_hop.packed, 0, 0)
    attributes = bytes((0x40, 1, 1, 0, 0x40, 2, len(path))) + path
    if internal:
        attributes += struct.pack(">BBBI", 0x40, 5, 4, 100)  # LOCAL_PREF
    attributes += bytes((0x80, 14, len(reach))) + reach
    return encode(MessageType.UPDATE, struct.pack(">HH", 0, len(attributes)) + attributes)


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk passed: the UPDATEs, (n,) int64 each, and the octet where it stopped.

    There stands a `complete` message, or a header with an `error` (RFC 4271 section 6.1), or the
    first part of a message, which may be empty.
    """

    offset: I64
    length: I64
    next: int
    complete: bool
    error: MessageError | None


class MessageWalk:
    """Walks over the messages of a stream, `buf` (n,) uint8."""

    def __init__(self, buf: U8) -> None:
        self._buf = buf
        room = buf.size // _SHORTEST_UPDATE
        self._offset, self._length = np.empty(room, np.int64), np.empty(room, np.int64)

    def walk(self, begin: int, limit: int, *, listing: bool) -> Walked:
        """As `message_kernels.walk` does; `limit` is PLAIN_LIMIT or EXTENDED_LIMIT."""
        n, at, why = walk(self._buf, begin, limit, listing, self._offset, self._length)
        offset, length = self._offset[:n].copy(), self._length[:n].copy()
        error = _header_error(self._buf, at, why) if why in _HEADER_ERRORS else None
        return Walked(offset, length, at, why == MESSAGE, error)


def _header_error(buf: U8, at: int, why: int) -> MessageError:
    length = buf[at + 16 : at + 18].tobytes()
    kind = int(buf[at + 18])
    subcode, data, reason = {
        BAD_MARKER: (1, b"", "a message does not begin with the marker"),
        BAD_LENGTH: (
            2,
            length,
            f"a message of type {kind} claims {int.from_bytes(length)} octets",
        ),
        BAD_TYPE: (3, bytes((kind,)), f"a message has type {kind}"),
    }[why]
    return MessageError(ErrorCode.MESSAGE_HEADER, subcode, data, reason)
