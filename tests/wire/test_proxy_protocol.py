"""PROXY headers, as they come octet by octet."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.proxy_protocol import ProxyError, ProxyHeader, read_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_2(family: int, body: bytes, *, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes((command, family)) + struct.pack(">H", len(body)) + body


def addresses(source: str, target: str, port: int) -> bytes:
    return ip_address(source).packed + ip_address(target).packed + struct.pack(">HH", port, 1790)


@pytest.mark.parametrize(
    ("header", "source", "port"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 1790\r\n", "192.0.2.1", 40000),
        (b"PROXY TCP6 2001:DB8::1 2001:db8::2 1 1790\r\n", "2001:db8::1", 1),
        (b"PROXY UNKNOWN\r\n", "", 0),
        (b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", "", 0),
        (version_2(0x11, addresses("192.0.2.1", "198.51.100.1", 7)), "192.0.2.1", 7),
        (version_2(0x21, addresses("2001:db8::1", "::", 7) + b"\x04\0\1x"), "2001:db8::1", 7),
        (version_2(0x21, addresses("::ffff:192.0.2.1", "::", 7)), "192.0.2.1", 7),
        (version_2(0x00, b"", command=0x20), "", 0),
        (version_2(0x11, addresses("192.0.2.1", "192.0.2.2", 7), command=0x20), "", 0),
        (version_2(0x31, bytes(216)), "", 0),
    ],
)
def test_headers(header: bytes, source: str, port: int) -> None:
    for octets in range(len(header)):
        assert read_proxy_header(header[:octets]) is None
    expected = ProxyHeader(source, port, len(header))
    assert read_proxy_header(header) == expected
    assert read_proxy_header(header + b"\x03\x00\r\n") == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\x03",
        b"PROXX",
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        b"PROXY TCP4 300.0.2.1 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 70000 2\r\n",
        b"PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
        b"PROXY UNKNOWN" + b"x" * 100,
        SIGNATURE + b"\x11\x11\x00\x0c",
        SIGNATURE + b"\x22\x11\x00\x0c",
        version_2(0x11, bytes(11)),
        version_2(0x21, bytes(35)),
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ProxyError):
        read_proxy_header(data)


@given(st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21"]), st.binary(max_size=200))
def test_random_octets(begin: bytes, data: bytes) -> None:
    try:
        found = read_proxy_header(begin + data)
    except ProxyError:
        return
    assert found is None or found.octets <= len(begin + data)
