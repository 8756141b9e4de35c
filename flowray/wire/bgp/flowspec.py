"""Flow specifications as text and fields (RFC 8955, RFC 8956 for IPv6)."""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import Final, TypeAlias

__all__ = ["read_flowspec"]

Fields: TypeAlias = dict[str, object]
_Component: TypeAlias = tuple[str, int]
"""Text of the values of a component, and where it ends."""

_END: Final = 0x80
_AND: Final = 0x40

_COMPARISONS: Final = ("false", "=", ">", ">=", "<", "<=", "!=", "true")
"""By the bits less, greater, equal of a numeric operator (RFC 8955 section 4.2.1.1)."""

_MATCHES: Final = ("", "=", "!", "!=")
"""By the bits not, match of a bitmask operator (section 4.2.1.2): any bit set, all bits set."""


def _prefix(raw: bytes, at: int, octets: int) -> _Component:
    """A prefix; in IPv6 with an offset before the pattern (RFC 8956 section 3.1)."""
    bits, skip = raw[at], 0
    at += 1
    if octets == 16:
        skip = raw[at]
        at += 1
    size = (bits - skip + 7) // 8
    if skip > bits or bits > 8 * octets or at + size > len(raw):
        raise ValueError("no prefix")
    pattern = int.from_bytes(raw[at : at + size], "big") << 8 * octets >> 8 * size >> skip
    address = pattern.to_bytes(octets, "big")
    text = inet_ntoa(address) if octets == 4 else inet_ntop(AF_INET6, address)
    return f"{text}/{bits}" + (f" from bit {skip}" if skip else ""), at + size


def _operators(raw: bytes, at: int, one: Callable[[int, int], str]) -> _Component:
    """Pairs of operator and value up to the one that is marked as last."""
    text = ""
    while True:
        operator = raw[at]
        size = 1 << (operator >> 4 & 3)
        if at + 1 + size > len(raw):
            raise ValueError("cut off")
        if text:
            text += "&" if operator & _AND else "|"
        text += one(operator, int.from_bytes(raw[at + 1 : at + 1 + size], "big"))
        at += 1 + size
        if operator & _END:
            return text, at


def _comparison(operator: int, value: int) -> str:
    name = _COMPARISONS[operator & 7]
    return name if name in ("false", "true") else f"{name}{value}"


def _match(operator: int, value: int) -> str:
    return f"{_MATCHES[operator & 3]}0x{value:02x}"


_NUMBERS: Final = {
    3: "protocol",
    4: "port",
    5: "dst_port",
    6: "src_port",
    7: "icmp_type",
    8: "icmp_code",
    10: "length",
    11: "dscp",
    13: "flow_label",
}
_MASKS: Final = {9: "tcp_flags", 12: "fragment"}
_PREFIXES: Final = {1: "destination", 2: "source"}


def _component(raw: bytes, at: int, octets: int) -> tuple[str, str, int]:
    """Name and text of the component at `at`, and where it ends."""
    kind = raw[at]
    if kind in _PREFIXES:
        return _PREFIXES[kind], *_prefix(raw, at + 1, octets)
    if kind in _NUMBERS:
        return _NUMBERS[kind], *_operators(raw, at + 1, _comparison)
    if kind in _MASKS:
        return _MASKS[kind], *_operators(raw, at + 1, _match)
    raise ValueError("no component of a known type")


def read_flowspec(raw: bytes, address_octets: int, *, vpn: bool) -> tuple[str, int, Fields]:
    """A flow specification with its length in front: text, route distinguisher (0 without one),
    and components by JSON key. `address_octets`: 4 or 16.

    The text is `destination 192.0.2.0/24, protocol =6, dst_port =80|>=8000&<=8080`: `|` separates
    alternatives, of which `&` joins conditions. Raises ValueError or IndexError for what cannot be
    read.
    """
    header = 2 if raw[0] >= 0xF0 else 1
    size = int.from_bytes(raw[:header], "big") & 0xFFF
    if header + size != len(raw):
        raise ValueError("length that lies")
    at, rd = header, 0
    if vpn:
        if size < 8:
            raise ValueError("no route distinguisher")
        rd, at = int.from_bytes(raw[at : at + 8], "big"), at + 8
    fields: Fields = {}
    while at < len(raw):
        name, text, at = _component(raw, at, address_octets)
        if name in fields:
            raise ValueError("a component stands twice")
        fields[name] = text
    if not fields:
        raise ValueError("no component")
    return ", ".join(f"{name} {text}" for name, text in fields.items()), rd, fields
