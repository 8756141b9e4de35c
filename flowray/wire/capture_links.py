"""Link types of captures, and the interfaces that a pcapng file describes."""

from __future__ import annotations

from typing import Literal

__all__ = ["LINKS", "interface_row"]

# Link type (https://www.tcpdump.org/linktypes.html): position of the EtherType (-1 none, -2 a BSD
# address family, -3 PPP, -4 Juniper's header before Ethernet), length of the link header, the
# least for the last two.
LINKS = {
    0: (-2, 4),  # NULL
    1: (12, 14),  # ETHERNET
    9: (-3, 1),  # PPP
    12: (-1, 0),  # raw IP, as numbered by most BSDs
    14: (-1, 0),  # raw IP, as numbered by OpenBSD
    50: (-3, 1),  # PPP_HDLC
    101: (-1, 0),  # RAW
    108: (-2, 4),  # LOOP
    113: (14, 16),  # LINUX_SLL
    178: (-4, 4),  # JUNIPER_ETHER
    228: (-1, 0),  # IPV4
    229: (-1, 0),  # IPV6
    276: (0, 20),  # LINUX_SLL2
}
UNKNOWN_LINK = (-1, -1)

_FAR = 1 << 62  # ns; the largest offset of an interface believed


def interface_row(body: bytes, *, big: bool) -> tuple[int, ...]:
    """Row of the interface table from an interface description (pcapng draft, section 4.2)."""
    order: Literal["big", "little"] = "big" if big else "little"
    if len(body) < 8:
        return (*UNKNOWN_LINK, 0, 1000, 0, 0)
    link = int.from_bytes(body[:2], order)
    snap = int.from_bytes(body[4:8], order)
    options = _options(body[8:], big=big)
    resolution = options.get(9, b"\x06")[:1] or b"\x06"
    seconds = int.from_bytes(options.get(14, b"")[:8], order, signed=True)
    offset_ns = max(-_FAR, min(seconds * 1_000_000_000, _FAR))
    return (*LINKS.get(link, UNKNOWN_LINK), *_scale(resolution[0]), offset_ns, snap)


def _options(body: bytes, *, big: bool) -> dict[int, bytes]:
    """Options by code, the first of each (pcapng draft, section 3.5)."""
    order: Literal["big", "little"] = "big" if big else "little"
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(body):
        code = int.from_bytes(body[at : at + 2], order)
        size = int.from_bytes(body[at + 2 : at + 4], order)
        if code == 0:
            break
        found.setdefault(code, body[at + 4 : at + 4 + size])
        at += 4 + (size + 3) // 4 * 4
    return found


def _scale(resolution: int) -> tuple[int, int]:
    """Mode and factor of an if_tsresol byte, 10 ** -n or 2 ** -n; the kernel of the walk that
    computes times tells what they mean.
    """
    exponent = resolution & 0x7F
    if resolution & 0x80:
        return 2, min(exponent, 95)  # finer ones differ by less than a nanosecond
    if exponent <= 9:
        return 0, 10 ** (9 - exponent)
    return 1, 10 ** min(exponent - 9, 18)
