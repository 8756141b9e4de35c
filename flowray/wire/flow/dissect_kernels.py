"""Compiled walk through a sampled frame; the public side is `flowray.wire.flow.dissect`.

Positions and ends are as in `link_kernels`: absolute, and nothing at or past an end is read.
"""

from __future__ import annotations

from flowray.wire.flow.link_kernels import (
    DST_HOST,
    DST_MAC,
    DST_PORT,
    ETYPE_ETHERNET,
    ETYPE_IPV4,
    ETYPE_IPV6,
    ETYPE_MPLS,
    ETYPE_MPLS_MULTICAST,
    FLOW_LABEL,
    LENGTH,
    LINK_ETHERNET,
    MALFORMED,
    NVGRE,
    OK,
    PROTO,
    SRC_HOST,
    SRC_MAC,
    SRC_PORT,
    TCPFLAGS,
    TOO_DEEP,
    TOS,
    TRUNCATED,
    TUNNEL,
    UNKNOWN,
    VXLAN,
    Bytes,
    Slots,
    Words,
    first_etype,
    kernel,
    payload_etype,
    put,
    put_address,
    u8,
    u16,
    u32,
    u48,
    walk_link,
)

LOOK_GRE = 1
LOOK_IPIP = 2
LOOK_VXLAN = 4
LOOK_GTP = 8
LOOK_GENEVE = 16
PORT_SHIFT = 16
"""The word of tunnels to look into holds the VXLAN port above its flags; 0 stands for 4789."""

MAX_TUNNELS = 4
MAX_EXTENSIONS = 12


@kernel
def _ipv4(buf: Bytes, pos: int, end: int) -> tuple[int, int, int, int]:
    """(status, protocol, transport position or -1, packet end) of a whole IPv4 header (RFC 791)."""
    size = (u8(buf, pos) & 15) * 4
    total = u16(buf, pos + 2)
    if total >= size and pos + total < end:
        end = pos + total  # what follows is padding of the frame
    if u16(buf, pos + 6) & 0x1FFF:
        return OK, u8(buf, pos + 9), -1, end
    if end - pos < size:
        return TRUNCATED, u8(buf, pos + 9), -1, end
    return OK, u8(buf, pos + 9), pos + size, end


@kernel
def _ipv6(buf: Bytes, pos: int, end: int) -> tuple[int, int, int, int]:
    """(status, protocol, transport position or -1, packet end) of a whole IPv6 header (RFC 8200).

    The protocol is that of the first header which is not an extension, or of the extension that
    could not be read.
    """
    payload = u16(buf, pos + 4)
    if payload > 0 and pos + 40 + payload < end:
        end = pos + 40 + payload
    following = u8(buf, pos + 6)
    pos += 40
    for _ in range(MAX_EXTENSIONS):
        if following == 44:
            if end - pos < 8:
                return TRUNCATED, following, -1, end
            following = u8(buf, pos)
            if u16(buf, pos + 2) >> 3:
                return OK, following, -1, end
            pos += 8
            continue
        if following == 51:  # AH counts in words of four octets (RFC 4302)
            unit = 4
            extra = 2
        elif (
            following == 0
            or following == 43
            or following == 60
            or following == 135
            or following == 139
            or following == 140
        ):
            unit = 8
            extra = 1
        else:
            return OK, following, pos, end
        if end - pos < 2:
            return TRUNCATED, following, -1, end
        size = (u8(buf, pos + 1) + extra) * unit
        if end - pos < size:
            return TRUNCATED, following, -1, end
        following = u8(buf, pos)
        pos += size
    return TOO_DEEP, following, -1, end


@kernel
def _fixed_header(buf: Bytes, pos: int, end: int, etype: int) -> int:
    """OK if the fixed part of an IP header is there, and of the version that it should be."""
    if end - pos < (20 if etype == ETYPE_IPV4 else 40):
        return TRUNCATED
    if payload_etype(buf, pos, end) != etype:
        return MALFORMED
    if etype == ETYPE_IPV4 and buf[pos] & 15 < 5:
        return MALFORMED
    return OK


@kernel
def _write(
    buf: Bytes,
    pos: int,
    etype: int,
    proto: int,
    top: int,
    end: int,
    base: int,
    words: Words,
    row: int,
    dest: Slots,
) -> int:
    """Store the fields of one IP packet into the slots from `base`; returns a status."""
    put(words, row, dest, base + PROTO, proto)
    if etype == ETYPE_IPV4:
        put(words, row, dest, base + TOS, u8(buf, pos + 1))
        put_address(words, row, dest, base + SRC_HOST, buf, pos + 12, 4)
        put_address(words, row, dest, base + DST_HOST, buf, pos + 16, 4)
    else:
        first = u32(buf, pos)
        put(words, row, dest, base + TOS, first >> 20 & 0xFF)
        put(words, row, dest, base + FLOW_LABEL, first & 0xFFFFF)
        put_address(words, row, dest, base + SRC_HOST, buf, pos + 8, 16)
        put_address(words, row, dest, base + DST_HOST, buf, pos + 24, 16)
    # TCP, UDP, DCCP, SCTP and UDP-Lite all begin with their ports.
    if top < 0 or not (proto == 6 or proto == 17 or proto == 33 or proto == 132 or proto == 136):
        return OK
    if end - top < 4:
        return TRUNCATED
    put(words, row, dest, base + SRC_PORT, u16(buf, top))
    put(words, row, dest, base + DST_PORT, u16(buf, top + 2))
    if proto != 6:
        return OK
    if end - top < 14:
        return TRUNCATED
    put(words, row, dest, base + TCPFLAGS, u16(buf, top + 12) & 0x0FFF)
    return OK


@kernel
def _write_length(buf: Bytes, pos: int, etype: int, words: Words, row: int, dest: Slots) -> None:
    """Store the length that the IP header states; offloading and jumbograms leave it 0."""
    total = u16(buf, pos + 2) if etype == ETYPE_IPV4 else u16(buf, pos + 4)
    if total > 0:
        put(words, row, dest, LENGTH, total if etype == ETYPE_IPV4 else total + 40)


@kernel
def _gre(buf: Bytes, top: int, end: int) -> tuple[int, int, int, int]:
    """What is inside GRE (RFC 2784, 2890) and NVGRE (RFC 7637), as `_inside` answers."""
    if end - top < 4:
        return UNKNOWN, top, -1, 0
    flags = u16(buf, top)
    etype = u16(buf, top + 2)
    if flags & 0x4007:  # source routes, or another version
        return UNKNOWN, top, -1, 0
    at = top + 4 + 4 * ((flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1))
    if etype == ETYPE_ETHERNET and flags & 0xB000 == 0x2000 and at <= end:
        return etype, at, NVGRE, u32(buf, top + 4) >> 8
    return etype, at, -1, 0


@kernel
def _gtp(buf: Bytes, top: int, end: int) -> tuple[int, int, int, int]:
    """What is inside a GTP-U G-PDU (3GPP TS 29.281 section 5), as `_inside` answers."""
    if end - top < 16 or buf[top + 8] & 0xF0 != 0x30 or buf[top + 9] != 0xFF:
        return UNKNOWN, top, -1, 0
    at = top + 16
    if buf[top + 8] & 7:
        at += 4
        following = u8(buf, at - 1) if at <= end and buf[top + 8] & 4 else 0
        for _ in range(MAX_EXTENSIONS):
            if following == 0:
                break
            size = u8(buf, at) * 4 if at < end else 0
            if size == 0 or end - at < size:
                return UNKNOWN, top, -1, 0
            at += size
            following = u8(buf, at - 1)
        if following != 0:
            return UNKNOWN, top, -1, 0
    return payload_etype(buf, at, end), at, -1, 0


@kernel
def _over_udp(buf: Bytes, top: int, end: int, tunnels: int) -> tuple[int, int, int, int]:
    """What is inside VXLAN (RFC 7348), Geneve (RFC 8926) and GTP-U, as `_inside` answers."""
    if end - top < 16:
        return UNKNOWN, top, -1, 0
    port = u16(buf, top + 2)
    vxlan = tunnels >> PORT_SHIFT
    if tunnels & LOOK_VXLAN and port == (vxlan if vxlan > 0 else 4789) and buf[top + 8] & 8:
        return ETYPE_ETHERNET, top + 16, VXLAN, u32(buf, top + 12) >> 8
    if tunnels & LOOK_GENEVE and port == 6081 and buf[top + 8] >> 6 == 0:
        at = top + 16 + 4 * (u8(buf, top + 8) & 0x3F)
        return u16(buf, top + 10), at, VXLAN, u32(buf, top + 12) >> 8
    if tunnels & LOOK_GTP and port == 2152:
        return _gtp(buf, top, end)
    return UNKNOWN, top, -1, 0


@kernel
def _inside(buf: Bytes, top: int, end: int, proto: int, tunnels: int) -> tuple[int, int, int, int]:
    """(EtherType inside or unknown, position, id slot or -1, id) if this is a tunnel to look into.

    A tunnel whose inner header is not there, or is not what it is said to be, is none: the outer
    packet is the flow.
    """
    etype, at, slot, number = UNKNOWN, top, -1, 0
    if proto == 17:
        etype, at, slot, number = _over_udp(buf, top, end, tunnels)
    elif proto == 47 and tunnels & LOOK_GRE:
        etype, at, slot, number = _gre(buf, top, end)
    elif tunnels & LOOK_IPIP:
        if proto == 4:
            etype = ETYPE_IPV4
        elif proto == 41:
            etype = ETYPE_IPV6
        elif proto == 137:  # RFC 4023
            etype = ETYPE_MPLS
        elif proto == 143:  # RFC 8986
            etype = ETYPE_ETHERNET
    if etype == ETYPE_IPV4 or etype == ETYPE_IPV6:
        whole = _fixed_header(buf, at, end, etype) == OK
    elif etype == ETYPE_ETHERNET:
        whole = end - at >= 14
    else:
        whole = (etype == ETYPE_MPLS or etype == ETYPE_MPLS_MULTICAST) and end - at >= 4
    return etype if whole else UNKNOWN, at, slot, number


@kernel
def dissect(
    buf: Bytes,
    offset: int,
    length: int,
    link: int,
    words: Words,
    row: int,
    dest: Slots,
    tunnels: int,
) -> int:
    """Decode the frame ``buf[offset : offset + length]`` of a link kind into a column of `words`.

    `words` is (words, capacity) uint64 and `row` the column; `dest` is (SLOTS,) int64, the word row
    of each slot or -1 if it is not wanted (see `destinations`). Only fields that the frame has are
    written. `tunnels` is a `tunnel_word`: the packet inside a chosen tunnel is the flow then, and
    the outermost headers go to the slots from TUNNEL. Returns a `Status`.
    """
    end = offset + length
    end = min(end, buf.size)
    if offset < 0:
        return MALFORMED
    etype = first_etype(link)
    pos = offset
    for depth in range(MAX_TUNNELS + 1):
        status, etype, pos = walk_link(buf, pos, end, etype, depth > 0, words, row, dest)
        if status == OK:
            status = _fixed_header(buf, pos, end, etype)
        if status != OK:
            return status
        if etype == ETYPE_IPV4:
            status, proto, top, stop = _ipv4(buf, pos, end)
        else:
            status, proto, top, stop = _ipv6(buf, pos, end)
        inner, at, slot, number = UNKNOWN, pos, -1, 0
        if tunnels and top >= 0 and depth < MAX_TUNNELS:
            inner, at, slot, number = _inside(buf, top, stop, proto, tunnels)
        if inner == UNKNOWN:
            _write_length(buf, pos, etype, words, row, dest)
            cut = _write(buf, pos, etype, proto, top, stop, 0, words, row, dest)
            return status if status != OK else cut
        if depth == 0:
            _write(buf, pos, etype, proto, top, stop, TUNNEL, words, row, dest)
            if link == LINK_ETHERNET:
                put(words, row, dest, TUNNEL + DST_MAC, u48(buf, offset))
                put(words, row, dest, TUNNEL + SRC_MAC, u48(buf, offset + 6))
        if slot >= 0:
            put(words, row, dest, slot, number)
        etype, pos, end = inner, at, stop
    return TOO_DEEP
