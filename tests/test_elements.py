"""The registries of elements and protocol numbers."""

import re

import pytest

from flowray import protocols
from flowray.elements import (
    OCTETS,
    REVERSE_PEN,
    SEMANTICS,
    InformationElement,
    all_elements,
    by_name,
    element,
)
from flowray.fields import REGISTRY

ELEMENTS = list(all_elements())


def test_every_row_is_well_formed_and_sorted() -> None:
    keys = [(e.pen, e.id) for e in ELEMENTS]
    assert keys == sorted(set(keys))
    for e in ELEMENTS:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", e.name), e
        assert e.type in OCTETS, e
        assert e.semantics in SEMANTICS, e
        assert e.note in {"", "deprecated", "nfv9", "draft"}, e
        assert 0 < e.id < (1 << 15 if e.pen else 1 << 16), e


def test_the_iana_registry_is_complete() -> None:
    """Every number up to 533 but those that are reserved, unassigned or only v9's."""
    unnamed = {65, 66, 67, 68, 69, 97, 416, 419, *range(105, 128)}
    listed = {e.id for e in ELEMENTS if not e.pen and e.note in {"", "deprecated"}}
    assert listed == set(range(1, 534)) - unnamed


def test_names_are_unique_within_an_enterprise() -> None:
    names = [(e.pen, e.name) for e in ELEMENTS if e.note != "draft"]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("pen", "number", "name", "kind", "semantics"),
    [
        (0, 1, "octetDeltaCount", "unsigned64", "deltaCounter"),
        (0, 8, "sourceIPv4Address", "ipv4Address", "default"),
        (0, 28, "destinationIPv6Address", "ipv6Address", "default"),
        (0, 56, "sourceMacAddress", "macAddress", "default"),
        (0, 154, "flowStartMicroseconds", "dateTimeMicroseconds", "default"),
        (0, 291, "basicList", "basicList", "list"),
        (0, 497, "srhSegmentIPv6ListSection", "octetArray", "default"),
        (0, 530, "pathDelayMeanDeltaMicroseconds", "unsigned32", "deltaCounter"),
        (0, 40001, "NF_F_XLATE_SRC_ADDR_IPV4", "ipv4Address", "default"),
        (2011, 521, "pathDelayMeanDeltaMicroseconds", "unsigned32", "quantity"),
        (43874, 3, "label", "string", "default"),
        (6876, 889, "vxlanExportRole", "unsigned8", "identifier"),
    ],
)
def test_known_elements(pen: int, number: int, name: str, kind: str, semantics: str) -> None:
    found = element(number, pen)
    assert found is not None
    assert (found.name, found.type, found.semantics) == (name, kind, semantics)


def test_unknown_elements_are_none() -> None:
    assert element(0) is None
    assert element(65) is None
    assert element(1, 4_000_000_000) is None
    assert element(65, REVERSE_PEN) is None
    assert by_name("noSuchElement") is None
    assert by_name("reverse") is None
    assert by_name("reverseNoSuchElement") is None
    # An enterprise that has no way to say reverse.
    assert by_name("reverseL7_PROTO") is None


def test_reverse_elements_are_computed() -> None:
    reverse = element(1, REVERSE_PEN)
    assert reverse == InformationElement(
        REVERSE_PEN, 1, "reverseOctetDeltaCount", "unsigned64", "deltaCounter"
    )
    assert by_name("reverseOctetDeltaCount") == reverse
    marked = element(14 | 0x4000, 6871)
    assert marked is not None
    assert marked.name == "reverseInitialTCPFlags"
    assert by_name("reverseInitialTCPFlags") == marked


def test_a_listed_name_beats_a_computed_one() -> None:
    listed = by_name("reverseFlowDeltaMilliseconds")
    assert listed is not None
    assert (listed.pen, listed.id) == (6871, 21)


def test_iana_comes_first_by_name() -> None:
    found = by_name("httpUserAgent")
    assert found is not None
    assert found.pen == 0


def test_lengths() -> None:
    assert {e.octets for e in ELEMENTS} == {None, 1, 2, 4, 6, 8, 16, 32}


def test_every_element_of_a_field_is_listed() -> None:
    for field in REGISTRY.values():
        for group in field.elements:
            for member in group:
                pen, number = member if isinstance(member, tuple) else (0, member)
                assert element(number, pen) is not None, (field.name, member)


class TestProtocols:
    @pytest.mark.parametrize(
        ("number", "name"),
        [
            (0, "0"),
            (1, "icmp"),
            (4, "ipencap"),
            (6, "tcp"),
            (17, "udp"),
            (33, "33"),
            (41, "ipv6"),
            (58, "ipv6-icmp"),
            (89, "ospf"),
            (112, "vrrp"),
            (132, "sctp"),
            (255, "255"),
        ],
    )
    def test_what_is_printed(self, number: int, name: str) -> None:
        assert protocols.name(number) == name

    def test_what_is_printed_is_read(self) -> None:
        assert len(protocols.NAMES) == 256
        assert [protocols.number(name) for name in protocols.NAMES] == list(range(256))

    @pytest.mark.parametrize(
        ("text", "number"),
        [("TCP", 6), ("ipv4", 4), ("ospfigp", 89), ("udplite", 136), ("icmp6", 58), ("017", 17)],
    )
    def test_more_is_read(self, text: str, number: int) -> None:
        assert protocols.number(text) == number

    @pytest.mark.parametrize("text", ["", "tpc", "256", "-1", "²", "1e1", "9" * 10_000])
    def test_the_rest_is_none(self, text: str) -> None:
        assert protocols.number(text) is None

    def test_keywords(self) -> None:
        assert {"tcp", "udp", "vrrp", "dccp", "homa"} <= protocols.keywords()
