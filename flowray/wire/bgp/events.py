"""What passes between sessions, the UPDATE parser and route tables: columns, one row per message
or per route.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


class Action(IntEnum):
    """What an UPDATE says of a route, or of a family."""

    ANNOUNCE = 0
    WITHDRAW = 1
    END_OF_RIB = 2


class Verdict(IntEnum):
    """What RFC 7606 asks for a message."""

    WELL_FORMED = 0
    ATTRIBUTE_DISCARD = 1
    TREAT_AS_WITHDRAW = 2
    SESSION_RESET = 3


@dataclass(slots=True)
class Updates:
    """BGP UPDATE messages in one buffer; message *i* is ``buf[offset[i] : offset[i] + length[i]]``,
    from its marker on.

    `context` (n,) indexes `Contexts`: how the sender encodes. `time_ns` (n,) is when the message
    was sent as the per-peer header of BMP tells, else when it came.
    """

    buf: U8
    offset: I64
    length: I64
    context: I64
    time_ns: I64

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(slots=True)
class Contexts:
    """How senders encode, by context: `four_octets` (c,) bool, AS numbers take four octets
    (RFC 6793); `add_path` (c,) uint64, bit *f* set if NLRI of family *f* begin with a path
    identifier (RFC 7911).
    """

    four_octets: npt.NDArray[np.bool_]
    add_path: U64


@dataclass(slots=True)
class RouteEvents:
    """One row per route announced or withdrawn, or per End-of-RIB, in the order of the messages;
    within a message withdrawn routes first (RFC 4271 section 4.3).

    - `message` (m,) int64: row of `Updates`
    - `action` (m,) uint8: `Action`
    - `family` (m,) uint8: index in `FAMILIES`
    - `rd` (m,) uint64: the eight octets of the route distinguisher, big-endian; 0 without one
    - `path_id` (m,) uint32: path identifier, 0 without one
    - `hi`, `lo` (m,) uint64: prefix, IPv4 as v4-mapped (as in `flowray.wire.packets`), host bits
      zero; 0 for families that are not of prefixes
    - `plen` (m,) uint8: prefix length in bits of the address (0 to 32, 0 to 128)
    - `labels` (m,) uint64: count << 60 | up to three labels of 20 bits, the top one lowest
    - `nlri_offset`, `nlri_length` (m,) int64: where in the buffer the NLRI stands, path identifier
      excluded; what identifies a route in families that are not of prefixes
    - `attributes` (m,) uint32: id in the `AttributeStore`; 0 for withdrawals and End-of-RIB
    """

    message: I64
    action: U8
    family: U8
    rd: U64
    path_id: U32
    hi: U64
    lo: U64
    plen: U8
    labels: U64
    nlri_offset: I64
    nlri_length: I64
    attributes: U32

    def __len__(self) -> int:
        return len(self.message)

    def take(self, rows: npt.NDArray[Any]) -> RouteEvents:
        """The rows at these positions."""
        return RouteEvents(*(getattr(self, column.name)[rows] for column in fields(self)))


@dataclass(slots=True)
class Parsed:
    """The result of parsing `Updates`: the routes, and per message (n,) uint8 the `Verdict` and the
    cause of it (an index of `update.CAUSES`; 0 none).

    `subcode` (n,) uint8 and `data_offset`, `data_length` (n,) int64 are what a NOTIFICATION
    "UPDATE Message Error" would carry for a session reset.
    """

    events: RouteEvents
    verdict: U8
    cause: U8
    subcode: U8
    data_offset: I64
    data_length: I64
