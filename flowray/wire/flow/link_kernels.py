"""Compiled readers of network order, and the walk over link headers to the network header.

Everything is addressed by absolute positions in one buffer, and `end` is the first byte that may
not be read. A header is read only if it is whole, so a truncated frame keeps what the headers
before the cut said. Functions of one header answer (status, EtherType of what follows, position
after it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.uint64]
Slots: TypeAlias = npt.NDArray[np.int64]

_Function = TypeVar("_Function", bound=Callable[..., object])


def kernel(function: _Function) -> _Function:
    """Compile a function that allocates nothing.

    Without numba's runtime no call counts references to its arrays: that would be atomic, and take
    half of the time that a frame takes.
    """
    compiled: _Function = njit(nogil=True, cache=True, _nrt=False)(function)  # type: ignore[call-overload]
    return compiled


# Slots of `dest`. The first ten describe the flow; the next ten are the same of the outermost
# headers around a tunnel.
SRC_MAC = 0
DST_MAC = 1
SRC_HOST = 2
DST_HOST = 3
PROTO = 4
TOS = 5
FLOW_LABEL = 6
SRC_PORT = 7
DST_PORT = 8
TCPFLAGS = 9
TUNNEL = 10
VLAN = 20
IN_VLAN = 21
IN_CVLAN = 22
COS = 23
ETYPE = 24
VXLAN = 25
NVGRE = 26
LENGTH = 27
MPLS = 28
LABELS = 10
SLOTS = MPLS + LABELS

OK = 0
TRUNCATED = 1
UNSUPPORTED = 2
MALFORMED = 3
TOO_DEEP = 4

LINK_ETHERNET = 1
LINK_PPP = 7
LINK_IPV4 = 11
LINK_IPV6 = 12
LINK_MPLS = 13
LINK_POS = 14

MAX_LINK_HEADERS = 16
MAX_LABELS = 32

# Link headers are walked in the number space of EtherTypes: Ethernet inside something is 6558,
# PPP is 880b.
ETYPE_IPV4 = 0x0800
ETYPE_IPV6 = 0x86DD
ETYPE_ETHERNET = 0x6558
ETYPE_PPP = 0x880B
ETYPE_PPPOE = 0x8864
ETYPE_MPLS = 0x8847
ETYPE_MPLS_MULTICAST = 0x8848
LEAST_ETYPE = 0x0600
UNKNOWN = 0


@kernel
def u8(buf: Bytes, pos: int) -> int:
    """One octet, as a signed word: numba would make a float of mixed signs."""
    return int(np.int64(buf[np.uint64(pos)]))


@kernel
def u16(buf: Bytes, pos: int) -> int:
    """Two octets in network order."""
    return u8(buf, pos) << 8 | u8(buf, pos + 1)


@kernel
def u32(buf: Bytes, pos: int) -> int:
    """Four octets in network order."""
    return u16(buf, pos) << 16 | u16(buf, pos + 2)


@kernel
def u48(buf: Bytes, pos: int) -> int:
    """Six octets in network order: a MAC address."""
    return u32(buf, pos) << 16 | u16(buf, pos + 4)


@kernel
def u64(buf: Bytes, pos: int) -> np.uint64:
    """Eight octets in network order."""
    return np.uint64(u32(buf, pos)) << np.uint64(32) | np.uint64(u32(buf, pos + 4))


@kernel
def put(words: Words, row: int, dest: Slots, slot: int, value: int) -> None:
    """Store a value where `dest` wants the slot, if it does."""
    word = dest[slot]
    if word >= 0:
        words[word, row] = value


@kernel
def put_address(
    words: Words, row: int, dest: Slots, slot: int, buf: Bytes, pos: int, octets: int
) -> None:
    """Store an address of 4 (v4-mapped, RFC 4291 section 2.5.5.2) or 16 octets in its two words."""
    word = dest[slot]
    if word < 0:
        return
    if octets == 4:
        words[word, row] = 0
        words[word + 1, row] = np.uint64(0xFFFF00000000) | np.uint64(u32(buf, pos))
    else:
        words[word, row] = u64(buf, pos)
        words[word + 1, row] = u64(buf, pos + 8)


@kernel
def payload_etype(buf: Bytes, pos: int, end: int) -> int:
    """EtherType of IP by the version nibble, or unknown."""
    if pos < end:
        nibble = buf[pos] >> 4
        if nibble == 4:
            return ETYPE_IPV4
        if nibble == 6:
            return ETYPE_IPV6
    return UNKNOWN


@kernel
def _ethernet(
    buf: Bytes, pos: int, end: int, named: bool, words: Words, row: int, dest: Slots
) -> tuple[int, int, int]:
    """A MAC header, with LLC/SNAP (IEEE 802.3, RFC 1042).

    A header inside a pseudowire (`named` is false) does not name the stations of this link.
    """
    if named:
        if end - pos >= 6:
            put(words, row, dest, DST_MAC, u48(buf, pos))
        if end - pos >= 12:
            put(words, row, dest, SRC_MAC, u48(buf, pos + 6))
    if end - pos < 14:
        return TRUNCATED, UNKNOWN, pos
    etype = u16(buf, pos + 12)
    pos += 14
    if etype >= LEAST_ETYPE:
        return OK, etype, pos
    if end - pos < 8:
        return TRUNCATED, UNKNOWN, pos
    if u48(buf, pos) != 0xAAAA03000000:
        return UNSUPPORTED, UNKNOWN, pos
    return OK, u16(buf, pos + 6), pos + 8


@kernel
def _tag(
    buf: Bytes, pos: int, tags: int, words: Words, row: int, dest: Slots
) -> tuple[int, int, int]:
    """An 802.1Q tag; the outer one is the VLAN."""
    control = u16(buf, pos)
    if tags == 0:
        put(words, row, dest, VLAN, control & 0xFFF)
        put(words, row, dest, IN_VLAN, control & 0xFFF)
        put(words, row, dest, COS, control >> 13)
    elif tags == 1:
        put(words, row, dest, IN_CVLAN, control & 0xFFF)
    return OK, u16(buf, pos + 2), pos + 4


@kernel
def _labels(
    buf: Bytes, pos: int, end: int, named: bool, words: Words, row: int, dest: Slots
) -> tuple[int, int, int]:
    """A label stack (RFC 3032).

    What follows is told by its first nibble (RFC 4928): 0 is the control word of a pseudowire
    (RFC 4385), 1 an associated channel; anything else that is not IP can only be Ethernet without
    a control word.
    """
    for i in range(MAX_LABELS):
        if end - pos < 4:
            return TRUNCATED, UNKNOWN, pos
        entry = u32(buf, pos)
        pos += 4
        if named and i < LABELS:
            put(words, row, dest, MPLS + i, entry >> 8)
        if entry >> 8 & 1:
            if pos >= end:
                return TRUNCATED, UNKNOWN, pos
            etype = payload_etype(buf, pos, end)
            if etype != UNKNOWN:
                return OK, etype, pos
            nibble = buf[pos] >> 4
            if nibble == 1:
                return UNSUPPORTED, UNKNOWN, pos
            return OK, ETYPE_ETHERNET, pos + (4 if nibble == 0 else 0)
    return TOO_DEEP, UNKNOWN, pos


@kernel
def _ppp(buf: Bytes, pos: int, end: int) -> tuple[int, int, int]:
    """A PPP header, compressed or not (RFC 1661, 1662)."""
    if end - pos >= 2 and u16(buf, pos) == 0xFF03:
        pos += 2
    if end - pos < 2:
        return TRUNCATED, UNKNOWN, pos
    if buf[pos] & 1:
        protocol = u8(buf, pos)
        pos += 1
    else:
        protocol = u16(buf, pos)
        pos += 2
    if protocol == 0x0021:
        return OK, ETYPE_IPV4, pos
    if protocol == 0x0057:
        return OK, ETYPE_IPV6, pos
    if protocol == 0x0281 or protocol == 0x0283:
        return OK, ETYPE_MPLS, pos
    return UNSUPPORTED, UNKNOWN, pos


@kernel
def _is_tag(etype: int) -> bool:
    return etype == 0x8100 or etype == 0x88A8 or etype == 0x9100 or etype == 0x9200


@kernel
def walk_link(
    buf: Bytes,
    pos: int,
    end: int,
    etype: int,
    nested: bool,
    words: Words,
    row: int,
    dest: Slots,
) -> tuple[int, int, int]:
    """(status, EtherType, position) of the network header behind any link headers.

    Stores link fields, and the last EtherType met.
    `nested` says that the frame is inside a tunnel, whose own link header is already stored.
    """
    tags = 0
    stacked = False
    for _ in range(MAX_LINK_HEADERS):
        if etype >= LEAST_ETYPE and etype != ETYPE_ETHERNET and etype != ETYPE_PPP:
            put(words, row, dest, ETYPE, etype)
        if etype == ETYPE_IPV4 or etype == ETYPE_IPV6:
            return OK, etype, pos
        status = TRUNCATED
        after = UNKNOWN
        if etype == ETYPE_ETHERNET:
            status, after, pos = _ethernet(buf, pos, end, not stacked, words, row, dest)
            if nested and not stacked:  # the outer frame may have tags that this one has not
                put(words, row, dest, VLAN, 0)
                put(words, row, dest, IN_VLAN, 0)
                put(words, row, dest, IN_CVLAN, 0)
                put(words, row, dest, COS, 0)
        elif _is_tag(etype):
            if end - pos >= 4:
                status, after, pos = _tag(buf, pos, 2 if stacked else tags, words, row, dest)
                tags += 1
        elif etype == ETYPE_MPLS or etype == ETYPE_MPLS_MULTICAST:
            if nested and not stacked:
                for i in range(LABELS):
                    put(words, row, dest, MPLS + i, 0)
            status, after, pos = _labels(buf, pos, end, not stacked, words, row, dest)
            stacked = True
        elif etype == ETYPE_PPPOE:
            if end - pos >= 6:  # version, type, code, session, length (RFC 2516)
                status, after, pos = OK, ETYPE_PPP, pos + 6
        elif etype == ETYPE_PPP:
            status, after, pos = _ppp(buf, pos, end)
        else:
            return UNSUPPORTED, etype, pos
        if status != OK:
            return status, after, pos
        etype = after
    return TOO_DEEP, etype, pos


@kernel
def first_etype(link: int) -> int:
    """What a frame of a link kind begins with, as an EtherType."""
    if link == LINK_ETHERNET:
        return ETYPE_ETHERNET
    if link == LINK_IPV4:
        return ETYPE_IPV4
    if link == LINK_IPV6:
        return ETYPE_IPV6
    if link == LINK_MPLS:
        return ETYPE_MPLS
    if link == LINK_PPP or link == LINK_POS:
        return ETYPE_PPP
    return UNKNOWN
