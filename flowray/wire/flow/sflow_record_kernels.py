"""Compiled readers of sFlow flow records: one function per record format.

The layouts are those of sflow_version_5.txt; records of versions 2 and 4 (RFC 3176) are read as the
version 5 records that they became. A record of the wrong size gives RECORD_OVERRUN and what could
be read of it.
"""

from __future__ import annotations

from flowray.wire.flow.dissect_kernels import dissect
from flowray.wire.flow.link_kernels import (
    DST_HOST,
    DST_MAC,
    DST_PORT,
    ETYPE,
    ETYPE_IPV4,
    ETYPE_IPV6,
    LABELS,
    MPLS,
    PROTO,
    SLOTS,
    SRC_HOST,
    SRC_MAC,
    SRC_PORT,
    TCPFLAGS,
    TOS,
    Bytes,
    Slots,
    Words,
    kernel,
    put,
    put_address,
    u32,
    u48,
)
from flowray.wire.flow.sflow_kernels import (
    OK,
    RECORD_OVERRUN,
    Ints,
    address_size,
    path_size,
)

# Slots of `dest` behind those of the dissector.
IN_IFACE = SLOTS
OUT_IFACE = SLOTS + 1
PACKETS = SLOTS + 2
FLOWS = SLOTS + 3
RATE = SLOTS + 4
DIRECTION = SLOTS + 5
FORWARDING = SLOTS + 6
OUT_VLAN = SLOTS + 7
NEXT_HOP = SLOTS + 8
SRC_MASK = SLOTS + 9
DST_MASK = SLOTS + 10
SRC_AS = SLOTS + 11
DST_AS = SLOTS + 12
PEER_SRC_AS = SLOTS + 13
PEER_DST_AS = SLOTS + 14
NAT_SRC_HOST = SLOTS + 15
NAT_DST_HOST = SLOTS + 16
NAT_SRC_PORT = SLOTS + 17
NAT_DST_PORT = SLOTS + 18
SAMPLING_RATE = SLOTS + 19
BYTES = SLOTS + 20
ALL_SLOTS = SLOTS + 21

DROPPED = 128
"""Forwarding status: dropped, reason unknown (RFC 7270 section 4.12)."""
DIRECTION_INGRESS = 0
DIRECTION_EGRESS = 1
DIRECTION_UNKNOWN = 255
# Forms of the output interface: 0 is an ifIndex.
FORM_DISCARDED = 1
FORM_MULTIPLE = 2
NO_HEADER = -1
"""Status of a sample without a raw header record."""

# Record formats of version 5, enterprise 0.
RECORD_HEADER = 1
_ETHERNET = 2
_IPV4 = 3
_IPV6 = 4
_SWITCH = 1001
_ROUTER = 1002
_GATEWAY = 1003
_MPLS = 1006
_NAT = 1007
_NAT_PORT = 1020

# What is known of the sample so far: `state` of the functions below.
FRAME = 0  # octets of the sampled frame
STATUS = 1  # Status of the dissector, NO_HEADER before
HOP = 2  # rank of the record that told the next hop
STATE_SRC_VLAN = 3
STATE_SRC_PRIORITY = 4
STATE_DST_VLAN = 5
STATE = 6


@kernel
def _raw_header(
    buf: Bytes,
    pos: int,
    size: int,
    version: int,
    words: Words,
    row: int,
    dest: Slots,
    tunnels: int,
    state: Ints,
) -> int:
    """Protocol, frame length, octets stripped (version 5 only), header length, header."""
    fixed = 16 if version == 5 else 12
    if size < fixed:
        return RECORD_OVERRUN
    state[FRAME] = u32(buf, pos + 4)
    length = u32(buf, pos + fixed - 4)
    cause = OK
    if length > size - fixed:
        length = size - fixed
        cause = RECORD_OVERRUN
    state[STATUS] = dissect(buf, pos + fixed, length, u32(buf, pos), words, row, dest, tunnels)
    return cause


@kernel
def _ethernet(
    buf: Bytes, pos: int, size: int, words: Words, row: int, dest: Slots, state: Ints
) -> int:
    """Frame length, source and destination MAC, type; the MACs padded to words by most agents."""
    if size < 20:
        return RECORD_OVERRUN
    mac = 8 if size >= 24 else 6
    state[FRAME] = u32(buf, pos)
    put(words, row, dest, SRC_MAC, u48(buf, pos + 4))
    put(words, row, dest, DST_MAC, u48(buf, pos + 4 + mac))
    put(words, row, dest, ETYPE, u32(buf, pos + 4 + 2 * mac) & 0xFFFF)
    return OK


@kernel
def _ip(buf: Bytes, pos: int, size: int, octets: int, words: Words, row: int, dest: Slots) -> int:
    """Length, protocol, addresses, ports, TCP flags, TOS or priority."""
    if size < 24 + 2 * octets:
        return RECORD_OVERRUN
    put(words, row, dest, BYTES, u32(buf, pos))
    put(words, row, dest, PROTO, u32(buf, pos + 4) & 0xFF)
    put_address(words, row, dest, SRC_HOST, buf, pos + 8, octets)
    put_address(words, row, dest, DST_HOST, buf, pos + 8 + octets, octets)
    pos += 8 + 2 * octets
    put(words, row, dest, SRC_PORT, u32(buf, pos) & 0xFFFF)
    put(words, row, dest, DST_PORT, u32(buf, pos + 4) & 0xFFFF)
    put(words, row, dest, TCPFLAGS, u32(buf, pos + 8) & 0x0FFF)
    put(words, row, dest, TOS, u32(buf, pos + 12) & 0xFF)
    put(words, row, dest, ETYPE, ETYPE_IPV4 if octets == 4 else ETYPE_IPV6)
    return OK


@kernel
def _address(buf: Bytes, pos: int, end: int, words: Words, row: int, dest: Slots, slot: int) -> int:
    """Store an address with its type word; returns its octets, or -1 if it is cut off."""
    size = address_size(buf, pos, end)
    if size > 4:
        put_address(words, row, dest, slot, buf, pos + 4, size - 4)
    return size


@kernel
def _next_hop(
    buf: Bytes, pos: int, end: int, rank: int, words: Words, row: int, dest: Slots, state: Ints
) -> int:
    """As `_address`, unless it is all zero or a record of higher rank has told the next hop."""
    size = address_size(buf, pos, end)
    told = False
    for at in range(pos + 4, pos + size):
        told = told or buf[at] != 0
    if told and rank > state[HOP]:
        state[HOP] = rank
        _address(buf, pos, end, words, row, dest, NEXT_HOP)
    return size


@kernel
def _switch(buf: Bytes, pos: int, size: int, state: Ints) -> int:
    """Source VLAN and priority, destination VLAN and priority."""
    if size < 16:
        return RECORD_OVERRUN
    state[STATE_SRC_VLAN] = u32(buf, pos)
    state[STATE_SRC_PRIORITY] = u32(buf, pos + 4)
    state[STATE_DST_VLAN] = u32(buf, pos + 8)
    return OK


@kernel
def _router(
    buf: Bytes, pos: int, size: int, words: Words, row: int, dest: Slots, state: Ints
) -> int:
    """Next hop, source and destination prefix length."""
    hop = _next_hop(buf, pos, pos + size, 2, words, row, dest, state)
    if hop < 0 or size < hop + 8:
        return RECORD_OVERRUN
    put(words, row, dest, SRC_MASK, u32(buf, pos + hop) & 0xFF)
    put(words, row, dest, DST_MASK, u32(buf, pos + hop + 4) & 0xFF)
    return OK


@kernel
def _path(buf: Bytes, pos: int, end: int, version: int, words: Words, row: int, dest: Slots) -> int:
    """AS path to the destination: the first AS is the neighbour, the last the origin."""
    if version == 2:
        count = u32(buf, pos) if end - pos >= 4 else 0
        if end - pos < 4 or (end - pos - 4) // 4 < count:
            return RECORD_OVERRUN
        if count > 0:
            put(words, row, dest, PEER_DST_AS, u32(buf, pos + 4))
            put(words, row, dest, DST_AS, u32(buf, pos + 4 * count))
        return OK
    size = path_size(buf, pos, end)
    if size < 0:
        return RECORD_OVERRUN
    end = pos + size
    pos += 4
    first = True
    while pos < end:
        count = u32(buf, pos + 4)
        pos += 8 + 4 * count
        if count > 0:
            if first:
                put(words, row, dest, PEER_DST_AS, u32(buf, pos - 4 * count))
                first = False
            put(words, row, dest, DST_AS, u32(buf, pos - 4))
    return OK


@kernel
def _gateway(
    buf: Bytes,
    pos: int,
    size: int,
    version: int,
    words: Words,
    row: int,
    dest: Slots,
    state: Ints,
) -> int:
    """Next hop (version 5 only), own AS, source AS, source neighbour AS, path; the rest is BGP."""
    end = pos + size
    if version == 5:
        hop = _next_hop(buf, pos, end, 3, words, row, dest, state)
        if hop < 0:
            return RECORD_OVERRUN
        pos += hop
    if end - pos < 12:
        return RECORD_OVERRUN
    put(words, row, dest, SRC_AS, u32(buf, pos + 4))
    put(words, row, dest, PEER_SRC_AS, u32(buf, pos + 8))
    return _path(buf, pos + 12, end, version, words, row, dest)


@kernel
def _mpls(buf: Bytes, pos: int, size: int, words: Words, row: int, dest: Slots, state: Ints) -> int:
    """Next hop, label stack received, label stack sent; stacks of whole label entries."""
    end = pos + size
    hop = _next_hop(buf, pos, end, 1, words, row, dest, state)
    if hop < 0 or end - pos - hop < 4:
        return RECORD_OVERRUN
    pos += hop
    count = u32(buf, pos)
    if (end - pos - 4) // 4 < count:
        return RECORD_OVERRUN
    if dest[MPLS] >= 0 and words[dest[MPLS], row] != 0:
        return OK  # the sampled header has told its labels
    for i in range(min(LABELS, count)):
        put(words, row, dest, MPLS + i, u32(buf, pos + 4 + 4 * i) >> 8)
    return OK


@kernel
def _nat(buf: Bytes, pos: int, size: int, words: Words, row: int, dest: Slots) -> int:
    """Source and destination address after translation."""
    end = pos + size
    first = _address(buf, pos, end, words, row, dest, NAT_SRC_HOST)
    if first < 0 or _address(buf, pos + first, end, words, row, dest, NAT_DST_HOST) < 0:
        return RECORD_OVERRUN
    return OK


@kernel
def _nat_port(buf: Bytes, pos: int, size: int, words: Words, row: int, dest: Slots) -> int:
    """Source and destination port after translation."""
    if size < 8:
        return RECORD_OVERRUN
    put(words, row, dest, NAT_SRC_PORT, u32(buf, pos) & 0xFFFF)
    put(words, row, dest, NAT_DST_PORT, u32(buf, pos + 4) & 0xFFFF)
    return OK


@kernel
def read_record(
    buf: Bytes,
    kind: int,
    pos: int,
    size: int,
    version: int,
    words: Words,
    row: int,
    dest: Slots,
    tunnels: int,
    state: Ints,
) -> int:
    """One flow record, of the formats above; others are passed over. Returns a cause."""
    if kind == RECORD_HEADER:
        return _raw_header(buf, pos, size, version, words, row, dest, tunnels, state)
    if kind == _SWITCH:
        return _switch(buf, pos, size, state)
    if kind == _ROUTER:
        return _router(buf, pos, size, words, row, dest, state)
    if kind == _GATEWAY:
        return _gateway(buf, pos, size, version, words, row, dest, state)
    if kind == _MPLS:
        return _mpls(buf, pos, size, words, row, dest, state)
    if kind == _NAT:
        return _nat(buf, pos, size, words, row, dest)
    if kind == _NAT_PORT:
        return _nat_port(buf, pos, size, words, row, dest)
    if state[STATUS] != NO_HEADER:
        return OK  # the header itself says more than the agent's reading of it
    if kind == _ETHERNET:
        return _ethernet(buf, pos, size, words, row, dest, state)
    if kind == _IPV4 or kind == _IPV6:
        return _ip(buf, pos, size, 4 if kind == _IPV4 else 16, words, row, dest)
    return OK
