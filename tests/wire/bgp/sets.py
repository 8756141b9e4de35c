"""Canonical attribute sets out of plain values."""

from struct import pack


def attribute(kind: int, value: bytes, flags: int = 0x40) -> bytes:
    """A path attribute as it stands on the wire (RFC 4271 section 4.3)."""
    if len(value) > 255:
        return pack("!BBH", flags | 0x10, kind, len(value)) + value
    return pack("!BBB", flags, kind, len(value)) + value


def attribute_set(*attributes: bytes, next_hop: bytes = b"", four_octets: bool = True) -> bytes:
    """A canonical set: flags, next hop, attributes."""
    return bytes([four_octets, len(next_hop)]) + next_hop + b"".join(attributes)


def segment(kind: int, *numbers: int, width: int = 4) -> bytes:
    """A segment of an AS path."""
    return bytes([kind, len(numbers)]) + b"".join(n.to_bytes(width, "big") for n in numbers)
