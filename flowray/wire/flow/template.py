"""NetFlow v9 and IPFIX templates: the wire form (RFC 3954 section 5.2, 6.1; RFC 7011 section 3.4)
to `Template`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

VARIABLE = 0xFFFF
"""Field length that says: the length stands in the record (RFC 7011 section 7)."""

REVERSE_PEN = 29305
"""Enterprise of reverse information elements (RFC 5103)."""

V9_SCOPE_PEN = 0xFFFFFFFF
"""Stands for the scope numbers of NetFlow v9 that have no IANA element; no real enterprise has it.
"""

MAX_FIELDS = 1024
"""Templates with more fields are refused: no exporter has them, a spoofer might."""

_V9_SCOPES = {2: 10, 5: 145}
_ELEMENT = struct.Struct("!HH")


class TemplateError(ValueError):
    """A template set that contradicts itself; the message is the cause in the ledger's words.

    `found` are the templates of the set that can be used nevertheless.
    """

    def __init__(self, cause: str, found: Sequence[Template | Withdrawal] = ()) -> None:
        super().__init__(cause)
        self.found = list(found)


@dataclass(frozen=True, slots=True)
class TemplateField:
    """One field specifier: element id, length in octets (or VARIABLE), enterprise (0 = IANA)."""

    element: int
    length: int
    pen: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """Fields of a data record in order. `scope_count` > 0 makes it an options template."""

    id: int
    fields: tuple[TemplateField, ...]
    scope_count: int = 0

    @property
    def is_options(self) -> bool:
        """Whether records are about the exporter instead of flows."""
        return self.scope_count > 0

    @property
    def variable(self) -> bool:
        """True if records differ in length."""
        return any(f.length == VARIABLE for f in self.fields)

    @property
    def least_size(self) -> int:
        """Octets of the shortest record; of every record if none of the fields is of variable
        length.
        """
        return sum(1 if f.length == VARIABLE else f.length for f in self.fields)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A template (or all of them: id 2 or 3) withdrawn by its exporter (RFC 7011 section 8.1)."""

    id: int


def parse_templates(raw: bytes, version: int, *, options: bool) -> list[Template | Withdrawal]:
    """Templates in the body of one (options) template set.

    Raises TemplateError if any of them cannot be used: one that overruns the set ends it, others
    cost nobody else.
    """
    parse = _v9_options if options and version == 9 else _specifiers
    found: list[Template | Withdrawal] = []
    cause = ""
    try:
        for t in parse(raw, version, options):
            if isinstance(t, TemplateError):
                cause = cause or str(t)
            else:
                found.append(t)
    except TemplateError as error:
        cause = cause or str(error)
    if cause:
        raise TemplateError(cause, found)
    return found


Parsed: TypeAlias = Template | Withdrawal | TemplateError
"""What a set holds, in order; a refused template is its error."""


def _specifiers(raw: bytes, version: int, options: bool) -> Iterator[Parsed]:
    at = 0
    while at + 4 <= len(raw):
        template_id, count = _ELEMENT.unpack_from(raw, at)
        if template_id == 0 and count == 0:
            return  # padding
        at += 4
        if version == 10 and count == 0:
            yield Withdrawal(template_id)
            continue
        scopes = 0
        if options:
            if at + 2 > len(raw):
                raise TemplateError("template overruns its set")
            (scopes,) = struct.unpack_from("!H", raw, at)
            at += 2
        fields, at = _fields(raw, at, count, enterprise=version == 10)
        if options and not 0 < scopes <= count:
            yield TemplateError("impossible scope count")
        else:
            yield _checked(Template(template_id, fields, scopes))


def _fields(
    raw: bytes, at: int, count: int, *, enterprise: bool
) -> tuple[tuple[TemplateField, ...], int]:
    if count > MAX_FIELDS:
        raise TemplateError("too many fields")
    fields = []
    for _ in range(count):
        if at + 4 > len(raw):
            raise TemplateError("template overruns its set")
        element, length = _ELEMENT.unpack_from(raw, at)
        at += 4
        pen = 0
        if enterprise and element & 0x8000:
            if at + 4 > len(raw):
                raise TemplateError("template overruns its set")
            (pen,) = struct.unpack_from("!I", raw, at)
            element &= 0x7FFF
            at += 4
        fields.append(TemplateField(element, length, pen))
    return tuple(fields), at


def _v9_options(raw: bytes, version: int, options: bool) -> Iterator[Parsed]:
    del version, options
    at = 0
    while at + 6 <= len(raw):
        template_id, scope_octets, option_octets = struct.unpack_from("!HHH", raw, at)
        if template_id == 0:
            return  # padding
        at += 6
        if scope_octets % 4 or option_octets % 4:
            raise TemplateError("impossible scope count")
        scopes, at = _fields(raw, at, scope_octets // 4, enterprise=False)
        values, at = _fields(raw, at, option_octets // 4, enterprise=False)
        yield _checked(Template(template_id, (*map(_v9_scope, scopes), *values), len(scopes) or 1))


def _v9_scope(field: TemplateField) -> TemplateField:
    element = _V9_SCOPES.get(field.element)
    if element is None:
        return TemplateField(field.element, field.length, V9_SCOPE_PEN)
    return TemplateField(element, field.length)


def _checked(template: Template) -> Template | TemplateError:
    if template.id < 256:
        return TemplateError("template id below 256")
    if template.least_size == 0:
        return TemplateError("template of empty records")
    if template.least_size > 0xFFFF:
        return TemplateError("record longer than a message")
    return template
