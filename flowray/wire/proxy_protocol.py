"""The PROXY protocol of HAProxy, versions 1 and 2: what a load balancer says of a connection that
it passes on, before the first octet of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from flowray.wire.packets import address_text, address_words

_LONGEST_V1 = 107
_LINE = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) (\d{1,5}) (\d{1,5})"
    rb"|UNKNOWN(?: [^\r\n]*)?)"
)
_BEGIN_V1 = b"PROXY "
_BEGIN_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_HEADER_V2 = 16
_ADDRESS_OCTETS = {0x1: 4, 0x2: 16}
"""By address family, the first half of octet 13."""


class ProxyError(ValueError):
    """A connection that does not begin with a PROXY header; `str()` is why."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Who connected to the proxy: `source` is an address text, "" if the proxy speaks for itself
    (a health check) or does not tell. `octets` is how long the header is.
    """

    source: str
    source_port: int
    octets: int


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that a connection begins with, or None until more of it has come: at most 107
    octets (version 1), 65551 (version 2). Raises ProxyError.
    """
    if data[: len(_BEGIN_V2)] == _BEGIN_V2[: len(data)]:
        return _version_2(data)
    if data[: len(_BEGIN_V1)] == _BEGIN_V1[: len(data)]:
        return _version_1(data)
    raise ProxyError("no PROXY header")


def _version_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _LONGEST_V1)
    if end < 0:
        if len(data) >= _LONGEST_V1:
            raise ProxyError("a PROXY line without end")
        return None
    found = _LINE.fullmatch(data[:end])
    if found is None:
        raise ProxyError("a PROXY line of another form")
    if found[1] is None:
        return ProxyHeader("", 0, end + 2)
    try:
        source = ip_address(found[2].decode())
    except ValueError:
        raise ProxyError("a PROXY line without address") from None
    port = int(found[4])
    if source.version != (4 if found[1] == b"TCP4" else 6) or port > 0xFFFF:
        raise ProxyError("a PROXY line of another form")
    return ProxyHeader(address_text(*address_words(str(source))), port, end + 2)


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < _HEADER_V2:
        return None
    version, command = data[12] >> 4, data[12] & 0xF
    if version != 2 or command > 1:
        raise ProxyError("a PROXY header of another version or command")
    octets = _HEADER_V2 + int.from_bytes(data[14:16])
    if len(data) < octets:
        return None
    width = _ADDRESS_OCTETS.get(data[13] >> 4)
    if command == 0 or width is None:
        return ProxyHeader("", 0, octets)
    ports = _HEADER_V2 + 2 * width
    if octets < ports + 4:
        raise ProxyError("a PROXY header too short for its addresses")
    source = str(ip_address(data[_HEADER_V2 : _HEADER_V2 + width]))
    port = int.from_bytes(data[ports : ports + 2])
    return ProxyHeader(address_text(*address_words(source)), port, octets)
