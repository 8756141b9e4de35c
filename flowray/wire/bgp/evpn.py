"""EVPN routes of types 1 to 5 as text and fields (RFC 7432 section 7, RFC 9136)."""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import Final, TypeAlias

__all__ = ["EvpnRoute", "read_evpn"]

Fields: TypeAlias = dict[str, object]
EvpnRoute: TypeAlias = tuple[str, int, Fields]
"""Text, route distinguisher, and fields by JSON key."""

_HEADER: Final = 2
_RD: Final = 8

_NAMES: Final = {
    1: "ethernet-auto-discovery",
    2: "mac-ip",
    3: "inclusive-multicast",
    4: "ethernet-segment",
    5: "ip-prefix",
}


class _Reader:
    """Takes fields off the front of a route. Raises ValueError if there are too few octets."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, octets: int) -> bytes:
        end = self._at + octets
        if end > len(self._raw):
            raise ValueError("cut off")
        value = self._raw[self._at : end]
        self._at = end
        return value

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    @property
    def left(self) -> int:
        return len(self._raw) - self._at

    def segment(self) -> str:
        """Ethernet segment identifier (RFC 7432 section 5)."""
        return self.take(10).hex(":")

    def address(self, octets: int) -> str | None:
        """An address of 0, 4 or 16 octets."""
        raw = self.take(octets)
        if octets == 4:
            return inet_ntoa(raw)
        if octets == 16:
            return inet_ntop(AF_INET6, raw)
        if octets:
            raise ValueError("no address")
        return None

    def counted_address(self) -> tuple[int, str | None]:
        """Length in bits, then the address."""
        bits = self.number(1)
        if bits not in (0, 32, 128):
            raise ValueError("no address")
        return bits, self.address(bits // 8)

    def labels(self, most: int) -> Fields:
        """Labels of 20 bits, and the whole of their 24 bits: VXLAN identifiers (RFC 8365 5.1.3)."""
        raw = [self.number(3) for _ in range(min(most, self.left // 3))]
        return {"labels": [v >> 4 for v in raw], "vnis": raw} if raw else {}


def _auto_discovery(r: _Reader) -> tuple[str, Fields]:
    esi, tag = r.segment(), r.number(4)
    return f"[{tag}]:[{esi}]", {"esi": esi, "ethernet_tag": tag, **r.labels(1)}


def _mac_ip(r: _Reader) -> tuple[str, Fields]:
    esi, tag = r.segment(), r.number(4)
    bits = r.number(1)
    if bits != 48:
        raise ValueError("no MAC address")
    mac = r.take(6).hex(":")
    ip_bits, ip = r.counted_address()
    text = f"[{tag}]:[{bits}]:[{mac}]" + (f":[{ip_bits}]:[{ip}]" if ip else "")
    fields: Fields = {"esi": esi, "ethernet_tag": tag, "mac": mac}
    if ip is not None:
        fields["ip"] = ip
    return text, fields | r.labels(2)


def _inclusive_multicast(r: _Reader) -> tuple[str, Fields]:
    tag = r.number(4)
    bits, ip = r.counted_address()
    return f"[{tag}]:[{bits}]:[{ip or ''}]", {"ethernet_tag": tag, "ip": ip}


def _ethernet_segment(r: _Reader) -> tuple[str, Fields]:
    esi = r.segment()
    bits, ip = r.counted_address()
    return f"[{esi}]:[{bits}]:[{ip or ''}]", {"esi": esi, "ip": ip}


def _ip_prefix(r: _Reader) -> tuple[str, Fields]:
    """RFC 9136 section 3.1: the whole length tells the family."""
    octets = 4 if r.left == 26 else 16
    esi, tag, bits = r.segment(), r.number(4), r.number(1)
    prefix, gateway = r.address(octets), r.address(octets)
    if bits > 8 * octets:
        raise ValueError("no prefix")
    fields: Fields = {
        "esi": esi,
        "ethernet_tag": tag,
        "prefix": f"{prefix}/{bits}",
        "gateway": gateway,
    }
    return f"[{tag}]:[{bits}]:[{prefix}]", fields | r.labels(1)


_TYPES: Final[dict[int, Callable[[_Reader], tuple[str, Fields]]]] = {
    1: _auto_discovery,
    2: _mac_ip,
    3: _inclusive_multicast,
    4: _ethernet_segment,
    5: _ip_prefix,
}


def read_evpn(raw: bytes) -> EvpnRoute:
    """A route with its type and length in front.

    The text holds what makes the route another one within its distinguisher, in the form that is
    usual on routers: `[2]:[0]:[48]:[02:00:00:00:00:01]:[32]:[192.0.2.1]`. Raises ValueError for
    other types and routes that cannot be read.
    """
    if len(raw) < _HEADER + _RD or raw[0] not in _TYPES:
        raise ValueError("no EVPN route of a known type")
    rd = int.from_bytes(raw[_HEADER : _HEADER + _RD], "big")
    text, fields = _TYPES[raw[0]](_Reader(raw[_HEADER + _RD : _HEADER + raw[1]]))
    return f"[{raw[0]}]:{text}", rd, {"route_type": _NAMES[raw[0]], **fields}
