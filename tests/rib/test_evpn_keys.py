"""Which octets of an EVPN NLRI identify the route, against a naive reading."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.evpn_keys import evpn_keys

RD, TAG, MAC = bytes(range(8)), b"\0\0\0\5", b"\x30\xaa\xbb\xcc\xdd\xee\xff"
V4, V6 = b"\x20\x0a\0\0\1", b"\x80" + bytes(range(16))


def nlri(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


def keys(*listed: bytes) -> list[bytes]:
    length = np.array([len(one) for one in listed], np.int64)
    buf = np.frombuffer(b"".join(listed), np.uint8)
    octets, offset, size = evpn_keys(buf, np.cumsum(length) - length, length)
    return [octets[o : o + n].tobytes() for o, n in zip(offset, size, strict=True)]


@pytest.mark.parametrize(
    ("kind", "value", "key"),
    [
        (1, RD + b"S" * 10 + TAG + b"LLL", RD + b"S" * 10 + TAG),
        (2, RD + b"S" * 10 + TAG + MAC + b"\0LLL", RD + TAG + MAC + b"\0"),
        (2, RD + b"S" * 10 + TAG + MAC + V4 + b"LLL", RD + TAG + MAC + V4),
        (2, RD + b"S" * 10 + TAG + MAC + V6 + b"LLLMMM", RD + TAG + MAC + V6),
        (2, RD + b"S" * 10 + TAG + MAC + V4 + b"L", RD + b"S" * 10 + TAG + MAC + V4 + b"L"),
        (3, RD + TAG + V4, RD + TAG + V4),
        (4, RD + b"S" * 10 + V4, RD + b"S" * 10 + V4),
        (5, RD + b"S" * 10 + TAG + V4 + b"GGGGLLL", RD + TAG + V4),
        (5, RD + b"S" * 10 + TAG + V6 + b"G" * 16 + b"LLL", RD + TAG + V6),
        (5, b"short", b"short"),
        (9, RD, RD),
    ],
)
def test_keys(kind: int, value: bytes, key: bytes) -> None:
    other = nlri(3, RD + TAG + V6)
    want = [other[:1] + other[2:], bytes((kind,)) + key, other[:1] + other[2:]]
    assert keys(other, nlri(kind, value), other) == want


@given(st.lists(st.binary(max_size=70).map(lambda value: nlri(2, value)), max_size=8))
def test_noise_stays_in_bounds(listed: list[bytes]) -> None:
    for key, one in zip(keys(*listed) if listed else [], listed, strict=True):
        assert len(key) < len(one)
