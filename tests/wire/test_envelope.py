"""Envelopes of datagrams against a plain reader of them."""

import ipaddress
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.envelope_kernels import MALFORMED, OPENED, PLAIN, open_envelopes
from flowray.wire.packets import address_text, address_words
from flowray.wire.proxy_protocol import ProxyError, read_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PROXY = "198.51.100.1"

Wrap = Callable[[str, bytes], bytes]


def proxy(source: str, payload: bytes, *, command: int = 1, extra: bytes = b"") -> bytes:
    """A datagram behind a PROXY header of version 2."""
    address = ipaddress.ip_address(source)
    target = bytes(len(address.packed))
    body = address.packed + target + struct.pack(">HH", 2055, 2055) + extra
    family = 0x12 if address.version == 4 else 0x22
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family, len(body)) + body + payload


def packet(source: str, payload: bytes) -> bytes:
    """The same inside the IP packet that it was."""
    address = ipaddress.ip_address(source)
    udp = struct.pack(">HHHH", 5000, 2055, 8 + len(payload), 0) + payload
    if address.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0x4000, 64, 17, 0)
        return head + address.packed + bytes(4) + udp
    return struct.pack(">IHBB", 6 << 28, len(udp), 17, 64) + address.packed + bytes(16) + udp


def opened(datagrams: list[bytes]) -> list[tuple[int, str, bytes]]:
    n = len(datagrams)
    buf = np.frombuffer(b"".join(datagrams), np.uint8)
    length = np.array([len(d) for d in datagrams], np.int64)
    offset = np.cumsum(length) - length
    words = address_words(PROXY)
    hi, lo = np.full(n, words[0], np.uint64), np.full(n, words[1], np.uint64)
    state = np.zeros(n, np.int8)
    open_envelopes(buf, offset, length, np.arange(n), hi, lo, state)
    return [
        (
            int(state[i]),
            address_text(int(hi[i]), int(lo[i])),
            buf[offset[i] : offset[i] + length[i]].tobytes(),
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("wrap", [proxy, packet])
@given(payload=st.binary(max_size=40))
def test_what_is_inside_comes_out(source: str, wrap: Wrap, payload: bytes) -> None:
    assert opened([wrap(source, payload)]) == [(OPENED, source, payload)]


def test_a_proxy_that_speaks_for_itself_keeps_its_address() -> None:
    local = proxy("192.0.2.7", b"x", command=0)
    unknown = SIGNATURE + struct.pack(">BBH", 0x21, 0, 0) + b"y"
    tagged = proxy("192.0.2.7", b"z", extra=b"\x04\x00\x01a")
    assert opened([local, unknown, tagged]) == [
        (OPENED, PROXY, b"x"),
        (OPENED, PROXY, b"y"),
        (OPENED, "192.0.2.7", b"z"),
    ]


def test_flow_data_has_no_envelope() -> None:
    plain = [
        b"\x00\x05" + bytes(22),
        b"\x00\x0a" + bytes(14),
        b"\x00\x00\x00\x05",
        b"",
        SIGNATURE[:8],
    ]
    assert opened(plain) == [(PLAIN, PROXY, d) for d in plain]


@given(st.sampled_from([proxy, packet]), st.sampled_from(["192.0.2.7", "2001:db8::7"]), st.data())
def test_cut_off_ones_are_malformed(wrap: Wrap, source: str, data: st.DataObject) -> None:
    whole = wrap(source, b"payload")
    cut = data.draw(st.integers(12, len(whole) - 8))
    if wrap is packet:
        cut = data.draw(st.integers(1, len(whole) - 1))
    (found,) = opened([whole[:cut]])
    assert found == (MALFORMED, PROXY, whole[:cut])


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 0x44),  # a header of 16 octets
        (0, 0x4F),  # of 60
        (2, 0xFF),  # longer than it is
        (6, 0x20),  # a fragment
        (9, 6),  # TCP
        (24, 0xFF),  # UDP longer than the packet
    ],
)
def test_packets_of_another_form_are_malformed(at: int, value: int) -> None:
    spoiled = bytearray(packet("192.0.2.7", b"payload"))
    spoiled[at] = value
    assert opened([bytes(spoiled)])[0][0] == MALFORMED


@given(st.binary(max_size=60), st.sampled_from([b"", SIGNATURE, b"\x45", b"\x60"]))
def test_any_octets_are_read_as_the_plain_reader_does(tail: bytes, start: bytes) -> None:
    datagram = start + tail
    state, source, payload = opened([datagram])[0]
    if datagram.startswith(SIGNATURE):
        try:
            header = read_proxy_header(datagram)
        except ProxyError:
            header = None
        if header is None:
            assert state == MALFORMED
        else:
            assert (state, payload) == (OPENED, datagram[header.octets :])
            assert source == (header.source or PROXY)
    elif not datagram or datagram[0] >> 4 not in (4, 6):
        assert (state, source, payload) == (PLAIN, PROXY, datagram)
    else:
        assert payload in datagram
