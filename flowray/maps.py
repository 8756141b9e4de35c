"""Operator maps in pmacct's syntax: rows of ``key=value``, of which the first that matches counts.

    ! edge routers
    set_label=nkey%100.1,pkey%edge     ip=192.0.2.0/28
    set_label=nkey%unknown

`parse_map` reads the rows of any map. A map's kind says which keys match (name -> builder of a
predicate over columns) and which one sets the result (name -> reader); adding a key is adding a row
to those tables. `primitives` reads the one map that declares fields instead of matching.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from flowray.addresses import address, prefix
from flowray.errors import ConfigError
from flowray.intervals import AddressSet, Mask, Words

Result = TypeVar("Result")

AddressWords: TypeAlias = tuple[int, int]
"""An address as its high and low word, IPv4 as v4-mapped."""

_PAIR = re.compile(r"""([^\s=]+)=("[^"]*"|'[^']*'|\S*)(?=\s|$)""")


@dataclass(frozen=True, slots=True)
class MapRow:
    """One row of a map: where it stands (lines count from 1) and its values by key."""

    file: str
    line: int
    values: Mapping[str, str]

    def error(self, place: str, found: str, allowed: str) -> ConfigError:
        """An error about this row."""
        return ConfigError(f"{self.file}:{self.line}", place, found, allowed)


def parse_map(path: str | Path, keys: frozenset[str]) -> list[MapRow]:
    """The rows of a map file, in order, without comments (``!`` or ``#``) and empty lines.

    Values may be quoted. Raises `ConfigError`, naming file and line, for a file that cannot be
    read, for anything but ``key=value``, and for a key that is not in `keys` or is given twice.
    """
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(file, "map", error.strerror or str(error), "a readable file") from None
    except UnicodeDecodeError:
        raise ConfigError(file, "map", "bytes that are not UTF-8", "a text file") from None
    rows = (_row(file, n, line, keys) for n, line in enumerate(text.split("\n"), 1))
    return [row for row in rows if row.values]


def _row(file: str, number: int, line: str, keys: frozenset[str]) -> MapRow:
    values: dict[str, str] = {}
    row = MapRow(file, number, values)
    rest = line.strip()
    while rest and rest[0] not in "!#":
        match = _PAIR.match(rest)
        if match is None:
            raise row.error("row", repr(rest.split()[0][:80]), "key=value without spaces around =")
        key, value = match.groups()
        if key not in keys:
            raise row.error("key", repr(key[:80]), ", ".join(sorted(keys)))
        if key in values:
            raise row.error(key, "the key twice", "one value a row")
        values[key] = value[1:-1] if value[:1] in {'"', "'"} else value
        rest = rest[match.end() :].lstrip()
    return row


def _no_words() -> Words:
    return np.empty(0, np.uint64)


def _no_marks() -> Mask:
    return np.empty(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What rows are matched against, column by column: exporter addresses as (n,) words; of flows
    also their interfaces (n,) and whether their addresses are of IPv6 (n,); of datagrams their
    observation domain (n,).
    """

    exporter_hi: Words
    exporter_lo: Words
    domain: Words = field(default_factory=_no_words)
    in_iface: Words = field(default_factory=_no_words)
    out_iface: Words = field(default_factory=_no_words)
    of_ipv6: Mask = field(default_factory=_no_marks)

    def __len__(self) -> int:
        return len(self.exporter_hi)


Matcher: TypeAlias = Callable[[Candidates], Mask]
"""(n,) mask of the candidates that one key of one row accepts."""


@dataclass(frozen=True, slots=True)
class _ExporterIn:
    addresses: AddressSet

    def __call__(self, candidates: Candidates) -> Mask:
        return self.addresses.contains(candidates.exporter_hi, candidates.exporter_lo)


def _exporter(value: str) -> Matcher:
    return _ExporterIn(AddressSet.of(prefix(value)))


@dataclass(frozen=True, slots=True)
class _Reading(Generic[Result]):
    """How values of a key are read (ValueError if they cannot be) and what they may be."""

    read: Callable[[str], Result]
    allowed: str


_MATCH: Mapping[str, _Reading[Matcher]] = MappingProxyType(
    {"ip": _Reading(_exporter, "an address or prefix")}
)


@dataclass(frozen=True, slots=True)
class _NumberIs:
    column: str
    number: int

    def __call__(self, candidates: Candidates) -> Mask:
        numbers: Words = getattr(candidates, self.column)
        return np.asarray(numbers == np.uint64(self.number), np.bool_)


def _interface(column: str) -> _Reading[Matcher]:
    return _Reading(lambda value: _NumberIs(column, _number(value)), "an interface index")


def _number(value: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", value) or not int(value) < 1 << 32:
        raise ValueError(value)
    return int(value)


@dataclass(frozen=True, slots=True)
class _FamilyIs:
    ipv6: bool

    def __call__(self, candidates: Candidates) -> Mask:
        return np.asarray(candidates.of_ipv6 == self.ipv6, np.bool_)


_FAMILIES: Mapping[str, Matcher] = MappingProxyType(
    {"ip": _FamilyIs(False), "ip6": _FamilyIs(True)}
)


def _family(value: str) -> Matcher:
    if value not in _FAMILIES:
        raise ValueError(value)
    return _FAMILIES[value]


def _label(value: str) -> bytes:
    if not value:
        raise ValueError("an empty label")
    return value.encode()


def _rate(value: str) -> int:
    if not (number := _number(value)):
        raise ValueError(value)
    return number


def _router(value: str) -> AddressWords:
    number = address(value)
    return number >> 64, number & 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Grammar(Generic[Result]):
    """A kind of map: the keys that match and those that set, of which a row has one."""

    match: Mapping[str, _Reading[Matcher]]
    set: Mapping[str, _Reading[Result]]

    @property
    def keys(self) -> frozenset[str]:
        return frozenset((*self.match, *self.set))


_LABELS = _Grammar(_MATCH, {"set_label": _Reading(_label, "text, as in key%value,key%value")})
_SAMPLING = _Grammar(_MATCH, {"id": _Reading(_rate, "a sampling rate from 1 to 4294967295")})

_AGENTS = _Grammar(
    {
        **_MATCH,
        "in": _interface("in_iface"),
        "out": _interface("out_iface"),
        "filter": _Reading(_family, "ip or ip6"),
    },
    {key: _Reading(_router, "the address of a router") for key in ("bgp_ip", "bmp_ip")},
)

_EXPORTERS = _Grammar(
    {
        **_MATCH,
        "domain": _Reading(
            lambda value: _NumberIs("domain", _number(value)), "a number up to 4294967295"
        ),
    },
    {"exporter": _Reading(_router, "the address of an exporter")},
)

EXPORTER_KEYS = _EXPORTERS.keys
"""Keys of a map of exporters."""

LABEL_KEYS = _LABELS.keys
"""Keys of a pre_tag_map."""

SAMPLING_KEYS = _SAMPLING.keys
"""Keys of a sampling_map."""

AGENT_KEYS = _AGENTS.keys
"""Keys of a bgp_agent_map or bmp_agent_map."""


@dataclass(frozen=True, slots=True)
class _Rules(Generic[Result]):
    """Compiled rows: per row, what must hold (nothing in a catch-all) and what it sets."""

    conditions: tuple[tuple[Matcher, ...], ...]
    results: tuple[Result, ...]

    def first(self, candidates: Candidates) -> npt.NDArray[np.int64]:
        """(n,) index of the first row that matches each candidate, -1 if none does."""
        found = np.full(len(candidates), -1, np.int64)
        open_ = np.ones(len(candidates), np.bool_)
        for index, matchers in enumerate(self.conditions):
            accepted = open_.copy()
            for matcher in matchers:
                accepted &= matcher(candidates)
            found[accepted] = index
            open_ &= ~accepted
            if not open_.any():
                break
        return found


def _value(row: MapRow, key: str, reading: _Reading[Result]) -> Result:
    try:
        return reading.read(row.values[key])
    except ValueError:
        raise row.error(key, repr(row.values[key][:80]), reading.allowed) from None


def _compile(rows: Iterable[MapRow], grammar: _Grammar[Result]) -> _Rules[Result]:
    conditions: list[tuple[Matcher, ...]] = []
    results: list[Result] = []
    for row in rows:
        sets = [key for key in row.values if key in grammar.set]
        if len(sets) != 1:
            raise row.error(
                "row", " and ".join(sets) or "no result", "one of " + ", ".join(grammar.set)
            )
        results.append(_value(row, sets[0], grammar.set[sets[0]]))
        matches = ((key, grammar.match.get(key)) for key in row.values)
        conditions.append(tuple(_value(row, k, r) for k, r in matches if r is not None))
    return _Rules(tuple(conditions), tuple(results))


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A compiled pre_tag_map."""

    _rules: _Rules[bytes]

    def labels(self, exporter_hi: Words, exporter_lo: Words) -> list[bytes]:
        """The label of each exporter, given as (n,) address words; empty if no row matches."""
        found = self._rules.first(Candidates(exporter_hi, exporter_lo))
        return [self._rules.results[i] if i >= 0 else b"" for i in found.tolist()]


@dataclass(frozen=True, slots=True)
class SamplingMap:
    """A compiled sampling_map."""

    _rules: _Rules[int]

    def rates(self, exporter_hi: Words, exporter_lo: Words) -> npt.NDArray[np.uint32]:
        """(n,) sampling rate of each exporter, given as (n,) address words; 0 if no row matches."""
        found = self._rules.first(Candidates(exporter_hi, exporter_lo))
        # Index -1 takes the last element: the rate of those that no row matches.
        return np.array([*self._rules.results, 0], np.uint32)[found]


@dataclass(frozen=True, slots=True, eq=False)
class AgentMap:
    """A compiled bgp_agent_map: with the routes of which router the flows of an exporter are
    joined. `fields` are those of records that it looks at, beside their exporter.
    """

    _rules: _Rules[AddressWords]
    fields: frozenset[str]

    @property
    def routers(self) -> tuple[AddressWords, ...]:
        """The router that each row names."""
        return self._rules.results

    def rows(self, candidates: Candidates) -> npt.NDArray[np.int64]:
        """(n,) number of the row that counts for each candidate, -1 where none matches."""
        return self._rules.first(candidates)


@dataclass(frozen=True, slots=True)
class ExporterMap:
    """A compiled map of exporters: who sent a datagram, by where it came from. `by_domain`: it
    looks at observation domains.
    """

    _rules: _Rules[AddressWords]
    by_domain: bool

    def addresses(self, candidates: Candidates) -> list[AddressWords | None]:
        """The exporter of each candidate; None where no row matches."""
        found = self._rules.first(candidates).tolist()
        return [self._rules.results[i] if i >= 0 else None for i in found]


_AGENT_FIELDS = MappingProxyType({"in": "in_iface", "out": "out_iface"})


def compile_labels(rows: Sequence[MapRow]) -> LabelMap:
    """Compile rows of a pre_tag_map. Raises `ConfigError`."""
    return LabelMap(_compile(rows, _LABELS))


def compile_sampling(rows: Sequence[MapRow]) -> SamplingMap:
    """Compile rows of a sampling_map. Raises `ConfigError`."""
    return SamplingMap(_compile(rows, _SAMPLING))


def compile_agents(rows: Sequence[MapRow]) -> AgentMap:
    """Compile rows of a bgp_agent_map. Raises `ConfigError`."""
    fields = {_AGENT_FIELDS[key] for row in rows for key in row.values if key in _AGENT_FIELDS}
    return AgentMap(_compile(rows, _AGENTS), frozenset(fields))


def compile_exporters(rows: Sequence[MapRow]) -> ExporterMap:
    """Compile rows of a map of exporters. Raises `ConfigError`."""
    return ExporterMap(_compile(rows, _EXPORTERS), any("domain" in row.values for row in rows))


def load_exporters(path: str | Path) -> ExporterMap:
    """Read and compile a map of exporters. Raises `ConfigError`."""
    return compile_exporters(parse_map(path, EXPORTER_KEYS))


def load_labels(path: str | Path) -> LabelMap:
    """Read and compile a pre_tag_map. Raises `ConfigError`."""
    return compile_labels(parse_map(path, LABEL_KEYS))


def load_sampling(path: str | Path) -> SamplingMap:
    """Read and compile a sampling_map. Raises `ConfigError`."""
    return compile_sampling(parse_map(path, SAMPLING_KEYS))


def load_agents(path: str | Path) -> AgentMap:
    """Read and compile a bgp_agent_map. Raises `ConfigError`."""
    return compile_agents(parse_map(path, AGENT_KEYS))
