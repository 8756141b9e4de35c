"""Route distinguishers: eight octets as a big-endian number, and as text (RFC 4364 section 4.2)."""

from __future__ import annotations

import ipaddress


def rd_text(raw: int) -> str:
    """A route distinguisher as type:administrator:number."""
    kind, rest = raw >> 48, raw & 0xFFFFFFFFFFFF
    if kind == 0:
        return f"0:{rest >> 32}:{rest & 0xFFFFFFFF}"
    if kind == 1:
        return f"1:{ipaddress.IPv4Address(rest >> 16)}:{rest & 0xFFFF}"
    return f"{kind}:{rest >> 16}:{rest & 0xFFFF}"


def rd_number(text: str) -> int | None:
    """The number of a text as `rd_text` gives it, or None for anything else (`vrfid:5`)."""
    kind, _, rest = text.partition(":")
    administrator, _, number = rest.partition(":")
    plain = administrator.replace(".", "") if kind == "1" else administrator
    if not all(part.isascii() and part.isdecimal() for part in (kind, plain, number)):
        return None
    try:
        high = int(ipaddress.IPv4Address(administrator) if kind == "1" else administrator)
    except ValueError:
        return None
    shift = 32 if kind == "0" else 16
    value = high << shift | int(number)
    if int(number) >> shift or value >> 48 or int(kind) >> 16:
        return None
    return int(kind) << 48 | value
