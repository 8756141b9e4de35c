"""What all compiled passes over UPDATE messages share: readers, and the layout of a scan.

A scan has one row per message, filled by `update_kernels.scan_updates`: the verdict, and where the
four places are at which an UPDATE names routes. Everything is addressed by absolute positions in
one buffer.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.wire import octets
from flowray.wire.flow.link_kernels import kernel

__all__ = ["Bytes", "Ints", "Mask", "Words", "Words32", "kernel", "note", "u8", "u16"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.uint64]
Words32: TypeAlias = npt.NDArray[np.uint32]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

# Columns of a scan.
VERDICT = 0
CAUSE = 1
AT = 2  # position and octets of what the cause is about
OCTETS = 3
COUNT = 4  # events
WITHDRAWN = 5  # then, as after each of the next three: end of the NLRI, family; -1 without one
UNREACHABLE = 8
NLRI = 11
REACHABLE = 14
NEXT_HOP = 17  # position and octets of the value of NEXT_HOP
MP_NEXT_HOP = 19  # position and octets of the next hop in MP_REACH_NLRI
RUNS = 21  # rows of `runs`: octets of attributes to keep
NLRI_SET = 22  # ids of the attributes of NLRI and REACHABLE
REACHABLE_SET = 23
END_OF_RIB = 24  # family or -1
SCAN_COLUMNS = 25

END = 1
FAMILY = 2

# Values of `events.Verdict`.
WELL_FORMED = 0
ATTRIBUTE_DISCARD = 1
TREAT_AS_WITHDRAW = 2
SESSION_RESET = 3

# Attribute types (IANA: BGP Path Attributes).
ORIGIN = 1
AS_PATH = 2
NEXT_HOP_TYPE = 3
MULTI_EXIT_DISC = 4
LOCAL_PREF = 5
ATOMIC_AGGREGATE = 6
AGGREGATOR = 7
COMMUNITIES = 8
ORIGINATOR_ID = 9
CLUSTER_LIST = 10
MP_REACH_NLRI = 14
MP_UNREACH_NLRI = 15
EXTENDED_COMMUNITIES = 16
AS4_PATH = 17
AS4_AGGREGATOR = 18
PMSI_TUNNEL = 22
IPV6_EXTENDED_COMMUNITIES = 25
AIGP = 26
BGP_LS = 29
LARGE_COMMUNITIES = 32
ONLY_TO_CUSTOMER = 35
PREFIX_SID = 40
ATTR_SET = 128

AS_SET = 1
AS_SEQUENCE = 2
AS_CONFED_SEQUENCE = 3
AS_CONFED_SET = 4
AS_TRANS = 23456

EXTENDED_LENGTH = 0x10


@kernel
def u8(buf: Bytes, pos: int) -> int:
    """One octet, as a signed word: numba would make a float of mixed signs."""
    return int(np.int64(octets.u8(buf, pos)))


@kernel
def u16(buf: Bytes, pos: int) -> int:
    """Two octets in network order."""
    return int(np.int64(octets.u16(buf, pos)))


@kernel
def u32(buf: Bytes, pos: int) -> int:
    """Four octets in network order."""
    return int(np.int64(octets.u32(buf, pos)))


@kernel
def note(scan: Ints, i: int, verdict: int, cause: int, at: int, size: int) -> None:
    """Record an error of message i, unless an equal or stronger one is there (RFC 7606 3.h)."""
    if verdict > scan[i, VERDICT] or scan[i, CAUSE] == 0:
        scan[i, VERDICT] = verdict
        scan[i, CAUSE] = cause
        scan[i, AT] = at
        scan[i, OCTETS] = size
