"""Prefixes as text, against `ipaddress`."""

from ipaddress import IPv4Address, IPv6Address

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flowray.route_fields import ROUTE_FIELDS
from flowray.sinks.encoding import Encoding
from flowray.sinks.render import render

MAPPED = bytes(10) + b"\xff\xff"
V4 = st.binary(min_size=4, max_size=4)
V6 = st.binary(min_size=16, max_size=16) | V4.map(MAPPED.__add__) | st.just(bytes(16))


def texts(raw: list[bytes | None]) -> list[str | None]:
    table = pa.table({"ip_prefix": pa.array(raw, pa.binary(18))})
    return render(table, [ROUTE_FIELDS["ip_prefix"]], Encoding())["ip_prefix"].to_pylist()


def ipv6_text(raw: bytes) -> str:
    address = IPv6Address(raw)
    return str(address) if address.ipv4_mapped is None else f"::ffff:{address.ipv4_mapped}"


@given(st.lists(st.tuples(V6, st.integers(0, 128)), max_size=5))
def test_ipv6(prefixes: list[tuple[bytes, int]]) -> None:
    raw: list[bytes | None] = [address + bytes([6, bits]) for address, bits in prefixes]
    assert texts(raw) == [f"{ipv6_text(address)}/{bits}" for address, bits in prefixes]


@given(st.lists(st.tuples(V4, st.integers(0, 32)), max_size=5))
def test_ipv4(prefixes: list[tuple[bytes, int]]) -> None:
    raw: list[bytes | None] = [MAPPED + a + bytes([4, bits]) for a, bits in prefixes]
    assert texts(raw) == [f"{IPv4Address(address)}/{bits}" for address, bits in prefixes]


def test_rows_without_a_prefix() -> None:
    assert texts([None, MAPPED + bytes([192, 0, 2, 0, 4, 24]), None]) == [
        None,
        "192.0.2.0/24",
        None,
    ]
