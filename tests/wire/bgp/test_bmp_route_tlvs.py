"""TLVs beside UPDATEs in version 4."""

from __future__ import annotations

import pytest

from flowray.wire.bgp.bmp import Tlv
from flowray.wire.bgp.bmp_route_tlvs import (
    PathMark,
    RouteTlv,
    meaning,
    read_route_tlvs,
    status_names,
)
from flowray.wire.bgp.capabilities import Capability


@pytest.mark.parametrize(
    ("update_type", "kind", "means"),
    [
        (1, 2, RouteTlv.GROUP),
        (1, 5, RouteTlv.PATH_MARKING),
        (7, 4, RouteTlv.GROUP),
        (7, 6, RouteTlv.STATELESS_PARSING),
        (4, 1, RouteTlv.GROUP),
        (4, 5, RouteTlv.SEQUENCE_NUMBER),
        (4, 99, None),
        (-1, 1, None),
    ],
)
def test_the_type_of_the_update_tells_the_revision(
    update_type: int, kind: int, means: RouteTlv | None
) -> None:
    assert meaning(Tlv(kind, b"value", 0, 0), update_type) is means
    assert meaning(Tlv(kind, b"value", 9, 0), update_type) is None


def test_a_name_and_a_mark_with_one_type() -> None:
    assert meaning(Tlv(5, b"blue", 0, 0), 7) is RouteTlv.VRF_TABLE_NAME
    assert meaning(Tlv(5, b"\x00\x00\x00\x02", 0, 0), 7) is RouteTlv.PATH_MARKING
    assert meaning(Tlv(9, b"", 0, 0), 7, path_marking=9) is RouteTlv.PATH_MARKING


def test_marks() -> None:
    best = Tlv(5, b"\x00\x00\x00\x02", 0, 0)
    second = Tlv(5, b"\x00\x00\x00\x04\x00\x03", 0, 2)
    group = Tlv(2, b"\x00\x03\x00\x05\x00", 0, 0x8001)
    grouped = Tlv(5, b"\x00\x00\x00\x10", 0, 0x8001)
    unknown_group = Tlv(5, b"\x00\x00\x00\x10", 0, 0x8002)
    short = Tlv(5, b"\x00\x00\x00", 0, 0)
    name = Tlv(3, b"red", 0, 0)
    told = read_route_tlvs([best, second, grouped, grouped, unknown_group, short, group, name], 1)
    assert told.marks == (
        PathMark(0, 2, None),
        PathMark(2, 4, 3),
        PathMark(3, 0x10, None),
        PathMark(5, 0x10, None),
    )
    assert told.others == (short, name)
    assert told.capabilities == ()


def test_capabilities() -> None:
    good, bad = Tlv(4, b"\x45\x04\x00\x01\x01\x01", 0, 0), Tlv(4, b"\x45\x05\x00", 0, 0)
    told = read_route_tlvs([good, bad], 1)
    assert told.capabilities == (Capability(69, b"\x00\x01\x01\x01"),)
    assert told.others == (bad,)


def test_names_of_a_path_status() -> None:
    assert status_names(0) == ["Unknown"]
    assert status_names(0x402) == ["Best", "Stale"]
    assert status_names(0x8000_0001) == ["Invalid", "0x80000000"]
