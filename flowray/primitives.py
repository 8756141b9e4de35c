"""Fields that operators declare, in the syntax of pmacct's aggregate_primitives.

name=mplsTopLabelType   field_type=46         len=1     semantics=u_int
name=procera_service    field_type=15397:2    len=vlen  semantics=str
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from flowray.elements import element
from flowray.field import Element, Field, Kind
from flowray.fields import REGISTRY
from flowray.maps import MapRow, parse_map

PRIMITIVE_KEYS = frozenset({"name", "field_type", "len", "semantics"})
"""Keys of a file of primitives; all of them are required."""

_VARIABLE = 0
"""Length of a primitive whose length is in each record."""

_INTEGERS = frozenset(range(1, 9))
_ANY = frozenset(range(1, 0xFFFF))


@dataclass(frozen=True, slots=True)
class _Semantics:
    """How a semantics of pmacct is stored: kind, lengths it may have, bits of a value by length."""

    kind: Kind
    lengths: frozenset[int]
    allowed: str
    bits: Callable[[int], int]


_SEMANTICS: Mapping[str, _Semantics] = MappingProxyType(
    {
        "u_int": _Semantics(Kind.UINT, _INTEGERS, "1 to 8", lambda octets: 8 * octets),
        "hex": _Semantics(Kind.HEX, _INTEGERS, "1 to 8", lambda octets: 8 * octets),
        "ip": _Semantics(Kind.ADDRESS, frozenset({4, 16}), "4 or 16", lambda _: 128),
        "mac": _Semantics(Kind.MAC, frozenset({6}), "6", lambda _: 48),
        "str": _Semantics(Kind.TEXT, _ANY | {_VARIABLE}, "1 to 65534 or vlen", lambda _: 32),
        "raw": _Semantics(Kind.BYTES, _ANY | {_VARIABLE}, "1 to 65534 or vlen", lambda _: 32),
    }
)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_ELEMENT = re.compile(r"(?:([0-9]{1,10}):)?([0-9]{1,5})")
_LENGTH = re.compile(r"[0-9]{1,5}")


def compile_primitives(rows: Iterable[MapRow]) -> list[Field]:
    """The fields that rows declare, keyed and named by their name, in order.

    A row with the name of a built-in field is left out (see `shadowed`): the built-in field is the
    one that the name means, as in pmacct. Raises `ConfigError` for anything else amiss.
    """
    fields: dict[str, Field] = {}
    for row in rows:
        field = _field(row)
        if field.name in fields:
            raise row.error("name", f"{field.name} twice", "a name of its own for each primitive")
        fields[field.name] = field
    return [field for field in fields.values() if field.name not in REGISTRY]


def shadowed(rows: Iterable[MapRow]) -> list[MapRow]:
    """The rows without effect, since a built-in field has their name."""
    return [row for row in rows if row.values.get("name") in REGISTRY]


def load_primitives(path: str | Path) -> list[Field]:
    """Read a file of primitives. Raises `ConfigError`."""
    return compile_primitives(parse_map(path, PRIMITIVE_KEYS))


def _field(row: MapRow) -> Field:
    missing = sorted(PRIMITIVE_KEYS - row.values.keys())
    if missing:
        raise row.error("row", "no " + " and no ".join(missing), ", ".join(sorted(PRIMITIVE_KEYS)))
    name, number = _name(row), _element(row)
    semantics = _SEMANTICS.get(row.values["semantics"])
    if semantics is None:
        raise row.error("semantics", repr(row.values["semantics"][:80]), ", ".join(_SEMANTICS))
    octets = _length(row, semantics)
    return Field(
        name,
        name,
        semantics.kind,
        semantics.bits(octets),
        ((number,),),
        group="custom",
        doc=_doc(number),
        custom=True,
    )


def _name(row: MapRow) -> str:
    name = row.values["name"]
    if not _NAME.fullmatch(name):
        raise row.error("name", repr(name[:80]), "letters, digits and _ . - after a letter")
    other = REGISTRY.by_key(name)
    if other is not None and other.name != name:
        raise row.error("name", name, f"a name that is not the JSON key of {other.name}")
    return name


def _element(row: MapRow) -> Element:
    text = row.values["field_type"]
    match = _ELEMENT.fullmatch(text)
    pen, number = (int(match[1] or 0), int(match[2])) if match else (0, 0)
    # NetFlow v9 uses all 16 bits; in IPFIX the highest one says that an enterprise number follows.
    if not 0 < number < (1 << 15 if pen else 1 << 16) or pen >= 1 << 32:
        raise row.error("field_type", repr(text[:80]), "an element id, or PEN:id")
    return (pen, number) if pen else number


def _length(row: MapRow, semantics: _Semantics) -> int:
    text = row.values["len"]
    if text == "vlen":
        octets = _VARIABLE
    else:
        # "0" would read as the variable length.
        octets = int(text) if _LENGTH.fullmatch(text) and int(text) else -1
    if octets not in semantics.lengths:
        allowed = f"{semantics.allowed} for {row.values['semantics']}"
        raise row.error("len", repr(text[:80]), allowed)
    return octets


def _doc(number: Element) -> str:
    pen, plain = number if isinstance(number, tuple) else (0, number)
    known = element(plain, pen)
    shown = f"{pen}:{plain}" if pen else str(plain)
    return f"declared: element {shown}" + (f" ({known.name})" if known else "")
