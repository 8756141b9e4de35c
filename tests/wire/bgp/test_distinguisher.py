"""Route distinguishers as text and back."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp.distinguisher import rd_number, rd_text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        ("0000000000000000", "0:0:0"),
        ("0000fc0000000064", "0:64512:100"),
        ("0000ffffffffffff", "0:65535:4294967295"),
        ("0001c00002010007", "1:192.0.2.1:7"),
        ("0002ffffffffffff", "2:4294967295:65535"),
        ("0002000100000001", "2:65536:1"),
        ("ffff000000010002", "65535:1:2"),
    ],
)
def test_types_of_rfc_4364(octets: str, text: str) -> None:
    assert rd_text(int(octets, 16)) == text
    assert rd_number(text) == int(octets, 16)


@given(st.integers(0, (1 << 64) - 1))
def test_a_text_is_read_as_the_number_that_it_is_of(number: int) -> None:
    assert rd_number(rd_text(number)) == number


@given(st.integers(0, 3), st.integers(0, 1 << 33), st.integers(0, 1 << 33))
def test_numbers_that_do_not_fit_are_none(kind: int, administrator: int, number: int) -> None:
    wide, narrow = (16, 32) if kind == 0 else (32, 16)
    fits = administrator >> wide == 0 and number >> narrow == 0
    name = str(ipaddress.IPv4Address(administrator & 0xFFFFFFFF)) if kind == 1 else administrator
    if kind == 1:
        fits = number >> 16 == 0
    assert (rd_number(f"{kind}:{name}:{number}") is not None) == fits


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0:1", "vrfid:5", "x:1:1", "0:x:1", "0:1:x", "0:1:-1", "-1:1:1", "1:5:1"),
        *("1:192.0.2:1", "1:192.0.2.1:65536", "0:65536:1", "0:1:4294967296", "65536:1:1"),
        *("0:1:1:1", "0: 1:1", "2:1.1.1.1:1", "0:1:²"),
    ],
)
def test_any_other_text_is_none(text: str) -> None:
    assert rd_number(text) is None


@given(st.text(max_size=20))
def test_no_text_raises(text: str) -> None:
    number = rd_number(text)
    assert number is None or 0 <= number < 1 << 64
