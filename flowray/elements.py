"""IPFIX information elements as data: what the registries say about an element number.

`elements.csv` lists the IANA registry (RFC 7012 and later registrations), NetFlow v9 numbers
outside of it (note ``nfv9``), numbers that drafts used before their registration (note ``draft``)
and elements of some enterprises. Reverse elements (RFC 5103) are computed. Decoding does not depend
on this table: `flowray.fields` says which elements fill which field, and an element that is not
listed is skipped by its length.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from types import MappingProxyType

REVERSE_PEN = 29305
"""Enterprise number under which IANA elements describe the reverse direction (RFC 5103)."""

REVERSE_BITS: Mapping[int, int] = MappingProxyType({6871: 0x4000})
"""Enterprises that mark the reverse direction by a bit of their own element ids: PEN -> bit."""

OCTETS: Mapping[str, int | None] = MappingProxyType(
    {
        "unsigned8": 1,
        "unsigned16": 2,
        "unsigned32": 4,
        "unsigned64": 8,
        "unsigned256": 32,
        "signed8": 1,
        "signed16": 2,
        "signed32": 4,
        "signed64": 8,
        "float32": 4,
        "float64": 8,
        "boolean": 1,
        "macAddress": 6,
        "octetArray": None,
        "string": None,
        "dateTimeSeconds": 4,
        "dateTimeMilliseconds": 8,
        "dateTimeMicroseconds": 8,
        "dateTimeNanoseconds": 8,
        "ipv4Address": 4,
        "ipv6Address": 16,
        "basicList": None,
        "subTemplateList": None,
        "subTemplateMultiList": None,
    }
)
"""Abstract data types and their full length in octets (RFC 7012, RFC 6313), None if it varies.

Integers and floats may be exported shorter than that (reduced size encoding, RFC 7011 section 6.2).
"""

SEMANTICS = frozenset(
    {
        "default",
        "quantity",
        "totalCounter",
        "deltaCounter",
        "identifier",
        "flags",
        "list",
        "snmpCounter",
        "snmpGauge",
    }
)
"""Data type semantics of the registry."""


@dataclass(frozen=True)
class InformationElement:
    """One element: enterprise number (0 = IANA), id, name, abstract data type and semantics.

    `note` is empty, or ``deprecated``, ``nfv9`` (only NetFlow v9 uses the number) or ``draft``.
    """

    pen: int
    id: int
    name: str
    type: str
    semantics: str
    note: str = ""

    @property
    def octets(self) -> int | None:
        """Full length of a value in octets, None if any length will do."""
        return OCTETS[self.type]


@cache
def _elements() -> dict[tuple[int, int], InformationElement]:
    text = resources.files("flowray").joinpath("elements.csv").read_text(encoding="ascii")
    rows = csv.DictReader(text.splitlines())
    listed = (
        InformationElement(
            int(r["pen"]), int(r["id"]), r["name"], r["type"], r["semantics"], r["note"]
        )
        for r in rows
    )
    return {(e.pen, e.id): e for e in listed}


@cache
def _names() -> dict[str, InformationElement]:
    names: dict[str, InformationElement] = {}
    for listed in all_elements():
        names.setdefault(listed.name, listed)
    return names


def all_elements() -> Iterator[InformationElement]:
    """Every listed element by (PEN, id); reverse elements, being computed, are not among them."""
    return iter(_elements().values())


def _reverse(
    forward: InformationElement | None, pen: int, number: int
) -> InformationElement | None:
    if forward is None:
        return None
    name = f"reverse{forward.name[0].upper()}{forward.name[1:]}"
    return replace(forward, pen=pen, id=number, name=name)


def element(number: int, pen: int = 0) -> InformationElement | None:
    """The element with this id, or None if no registry here lists it.

    PEN 29305 is the reverse of the IANA element with the same id (RFC 5103).
    """
    if pen == REVERSE_PEN:
        return _reverse(_elements().get((0, number)), pen, number)
    listed = _elements().get((pen, number))
    bit = REVERSE_BITS.get(pen, 0)
    if listed is None and number & bit:
        return _reverse(_elements().get((pen, number ^ bit)), pen, number)
    return listed


def by_name(name: str) -> InformationElement | None:
    """The element with this name, or None.

    IANA's elements come first if enterprises use the same name. ``reverse…`` names are understood.
    """
    listed = _names().get(name)
    if listed is not None or not name.startswith("reverse"):
        return listed
    rest = name.removeprefix("reverse")
    forward = _names().get(rest[:1].lower() + rest[1:]) or _names().get(rest)
    if forward is None:
        return None
    if forward.pen == 0:
        return element(forward.id, REVERSE_PEN)
    bit = REVERSE_BITS.get(forward.pen, 0)
    return element(forward.id | bit, forward.pen) if bit else None
