"""IP addresses as text and as 128-bit numbers, IPv4 as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2).

The families stay apart although they share one number line: an IPv6 prefix wider than the mapped
block contains neither IPv4 addresses nor the number 0, which stands for an address that is not set.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address, ip_network

from flowray.intervals import Interval

MAPPED = 0xFFFF << 32
"""The first IPv4 address, 0.0.0.0."""

MAPPED_LAST = MAPPED | 0xFFFF_FFFF
"""The last IPv4 address, 255.255.255.255."""

_LENGTH = re.compile("[0-9]{1,3}")


def address(text: str) -> int:
    """The number of an address. Raises ValueError."""
    parsed = ip_address(text)
    if not isinstance(parsed, IPv6Address):
        return MAPPED | int(parsed)
    if parsed.scope_id is not None:
        raise ValueError(f"{text!r} has a zone")
    return int(parsed)


def prefix(text: str) -> tuple[Interval, ...]:
    """The addresses of ``address`` or ``address/length``; host bits are ignored.

    One interval of numbers, or several for an IPv6 prefix around the IPv4 block or the unset
    address. Raises ValueError.
    """
    host, slash, length = text.partition("/")
    if not slash:
        number = address(text)
        return ((number, number),)
    if not _LENGTH.fullmatch(length):
        raise ValueError(f"{text!r} has no prefix length")
    network = ip_network(f"{host}/{length}", strict=False)
    low = address(str(network.network_address))
    high = low + network.num_addresses - 1
    return _apart(low, high)


def _apart(low: int, high: int) -> tuple[Interval, ...]:
    """Cut what is IPv4 or not set out of a prefix of IPv6 that is wider than it."""
    if low == 0 and high > 0:
        low = 1
    if low > MAPPED or high < MAPPED_LAST or high - low == MAPPED_LAST - MAPPED:
        return ((low, high),)
    parts = ((low, MAPPED - 1), (MAPPED_LAST + 1, high))
    return tuple((first, last) for first, last in parts if first <= last)
