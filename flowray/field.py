"""What a record field is: its kind, how it merges, where its value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Element: TypeAlias = int | tuple[int, int]
"""An IANA element id, or (PEN, id)."""

Alternatives: TypeAlias = tuple[tuple[Element, ...], ...]
"""Groups in order of preference: the first group of which a template has any member is taken;
within a group, the first member that is not zero in the record wins (IPv4 or IPv6 address, ingress
or egress counter).
"""


class Kind(StrEnum):
    """How the native word(s) of a field are read and rendered.

    Texts of `WORDS` are several values separated by blanks. `PREFIX` (an address of 16 octets, then
    4 or 6 and the length in bits) and `MEMBERS` (JSON of an object) stand in tables only.
    """

    UINT = "uint"
    FLAGS = "flags"
    PROTOCOL = "protocol"
    FORWARDING = "forwarding"
    DIRECTION = "direction"
    HEX = "hex"
    ADDRESS = "address"
    MAC = "mac"
    TIME = "time"
    TEXT = "text"
    WORDS = "words"
    BYTES = "bytes"
    LABELS = "labels"
    SEGMENTS = "segments"
    PREFIX = "prefix"
    MEMBERS = "members"

    @property
    def words(self) -> int:
        """uint64 words a value takes in a native batch."""
        return 2 if self is Kind.ADDRESS else 1

    @property
    def interned(self) -> bool:
        """True if the word is an id of an `Interner` rather than the value."""
        return self in _INTERNED


_INTERNED = frozenset({Kind.TEXT, Kind.WORDS, Kind.BYTES, Kind.LABELS, Kind.SEGMENTS, Kind.MEMBERS})


class Role(StrEnum):
    """What a view does with a field."""

    KEY = "key"
    COUNTER = "counter"
    WORKING = "working"


class Merge(StrEnum):
    """How values of one key are merged."""

    KEY = "key"
    SUM = "sum"
    OR = "or"
    MIN = "min"
    MAX = "max"


class Source(StrEnum):
    """Where a value comes from, hence whether this version fills it."""

    RECORD = "record"
    HEADER = "header"
    OPTIONS = "options"
    DERIVED = "derived"
    MAP = "map"
    WINDOW = "window"
    ROUTES = "routes"
    GEO = "geo"

    @property
    def decoded(self) -> bool:
        """Whether this version has the source."""
        return self is not Source.GEO


@dataclass(frozen=True, slots=True)
class Field:
    """One primitive. `bits`: width of its value in packed view keys; `key`: its JSON key."""

    name: str
    key: str
    kind: Kind
    bits: int
    elements: Alternatives = ()
    merge: Merge = Merge.KEY
    source: Source = Source.RECORD
    group: str = ""
    doc: str = ""
    custom: bool = False

    @property
    def role(self) -> Role:
        """What a view does with it."""
        if self.name.startswith("_"):
            return Role.WORKING
        return Role.KEY if self.merge is Merge.KEY else Role.COUNTER

    @property
    def decoded(self) -> bool:
        """Whether this version of flowray fills the field."""
        return self.source.decoded
