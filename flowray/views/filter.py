"""Filters of views: an expression over fields, compiled to vectorised predicates over columns.

    compile_filter("proto = tcp and dst_port in 1024-2048", REGISTRY).mask(columns, interner)

`filter_syntax` has the grammar, `filter_values` the values of each kind of field, docs/filters.md
the language as its users see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from flowray.columns import Columns
from flowray.field import Field, Kind, Source
from flowray.fields import Registry
from flowray.intervals import AddressSet, Interval, Mask, WordSet
from flowray.views.filter_syntax import (
    All,
    Comparison,
    Either,
    FilterError,
    Item,
    Node,
    Not,
    Operator,
    fail,
    parse,
)
from flowray.views.filter_values import INTERVALS, STRINGS, LiteralError, suggest

__all__ = ["Filter", "FilterError", "Texts", "compile_filter"]

_WORD = (1 << 64) - 1


class Texts(Protocol):
    """Where interned strings are looked up; `flowray.hashing.Interner` is one."""

    def find(self, value: bytes, /) -> int | None:
        """The id of a string, or None if it was never interned: then no record has it."""


class _Predicate(Protocol):
    """A compiled node. Plain objects, not closures, so that a filter can be sent to an actor."""

    def __call__(self, columns: Columns, texts: Texts, /) -> Mask:
        """(n,) mask of the records for which it holds."""


@dataclass(frozen=True, slots=True)
class _Within:
    """The word is in a set."""

    name: str
    values: WordSet

    def __call__(self, columns: Columns, _texts: Texts, /) -> Mask:
        return self.values.contains(columns[self.name])


@dataclass(frozen=True, slots=True)
class _AddressWithin:
    """The address is in a set."""

    name: str
    values: AddressSet

    def __call__(self, columns: Columns, _texts: Texts, /) -> Mask:
        high, low = columns[self.name]
        return self.values.contains(high, low)


@dataclass(frozen=True, slots=True)
class _Has:
    """All of these bits are set."""

    name: str
    bits: int

    def __call__(self, columns: Columns, _texts: Texts, /) -> Mask:
        bits = np.uint64(self.bits)
        return np.asarray(columns[self.name] & bits == bits, np.bool_)


@dataclass(frozen=True, slots=True)
class _Spelled:
    """The interned string is one of these."""

    name: str
    values: tuple[bytes, ...]

    def __call__(self, columns: Columns, texts: Texts, /) -> Mask:
        found = {i for value in self.values if (i := texts.find(value)) is not None}
        column = columns[self.name]
        if len(found) == 1:
            return np.asarray(column == np.uint64(found.pop()), np.bool_)
        return np.isin(column, np.fromiter(found, np.uint64, len(found)))


@dataclass(frozen=True, slots=True)
class _Not:
    term: _Predicate

    def __call__(self, columns: Columns, texts: Texts, /) -> Mask:
        return ~self.term(columns, texts)


@dataclass(frozen=True, slots=True)
class _All:
    terms: tuple[_Predicate, ...]

    def __call__(self, columns: Columns, texts: Texts, /) -> Mask:
        mask = self.terms[0](columns, texts)
        for term in self.terms[1:]:
            mask &= term(columns, texts)
        return mask


@dataclass(frozen=True, slots=True)
class _Either:
    terms: tuple[_Predicate, ...]

    def __call__(self, columns: Columns, texts: Texts, /) -> Mask:
        mask = self.terms[0](columns, texts)
        for term in self.terms[1:]:
            mask |= term(columns, texts)
        return mask


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter. `text` is what it was compiled from, `fields` what a batch must hold."""

    text: str
    fields: frozenset[str]
    _predicate: _Predicate = field(repr=False, compare=False)

    def mask(self, columns: Columns, texts: Texts) -> Mask:
        """(n,) mask of the records that pass.

        Raises KeyError if the layout of the batch lacks one of `fields`.
        """
        return self._predicate(columns, texts)


def compile_filter(text: str, registry: Registry) -> Filter:
    """Compile an expression over the fields of a registry, by primitive name or JSON key.

    Raises `FilterError`, which points at the column.
    """
    compiler = _Compiler(text, registry)
    predicate = compiler.node(parse(text))
    return Filter(text, frozenset(compiler.fields), predicate)


class _Compiler:
    """One pass over a syntax tree; collects the fields it meets."""

    def __init__(self, text: str, registry: Registry) -> None:
        self.fields: set[str] = set()
        self._text = text
        self._registry = registry

    def node(self, node: Node) -> _Predicate:
        match node:
            case Comparison():
                return self._comparison(node)
            case Not(term):
                return _Not(self.node(term))
            case All(terms):
                return _All(tuple(map(self.node, terms)))
            case Either(terms):
                return _Either(tuple(map(self.node, terms)))

    def _comparison(self, node: Comparison) -> _Predicate:
        target = self._field(node.field)
        self.fields.add(target.name)
        allowed = _OPERATORS[target.kind]
        if node.operator not in allowed.split():
            found = f"{target.name} cannot be compared by '{node.operator}'"
            raise fail(self._text, node.field.column, found, f"allowed: {allowed}")
        if target.kind.interned:
            return self._spelled(node, target)
        intervals = [i for item in node.items for i in self._intervals(item, target)]
        if node.operator is Operator.HAS:
            return self._has(node, target, intervals[0])
        if node.operator not in {Operator.EQUAL, Operator.IN}:
            intervals = self._ordered(node, intervals[0])
        return _membership(target, intervals)

    def _field(self, name: Item) -> Field:
        found = self._registry.get(name.text) or self._registry.by_key(name.text)
        if found is None or found.name.startswith("_"):
            public = self._registry.public()
            known = dict.fromkeys((*(f.name for f in public), *(f.key for f in public)))
            raise self._error(name, f"unknown field {name.text!r}{suggest(name.text, known)}")
        if not found.decoded:
            raise self._error(name, f"{found.name} is not filled by this version")
        if found.source is Source.WINDOW:
            raise self._error(name, f"{found.name} is set when a window closes, after filters")
        return found

    def _intervals(self, item: Item, target: Field) -> tuple[Interval, ...]:
        try:
            return INTERVALS[target.kind](item.text, target)
        except LiteralError as problem:
            raise self._error(item, str(problem)) from None

    def _has(self, node: Comparison, target: Field, interval: Interval) -> _Predicate:
        bits, last = interval
        if bits != last or not bits:
            raise self._error(node.items[0], "'has' wants bits that are set, as in SYN+ACK or 0x12")
        return _Has(target.name, bits)

    def _ordered(self, node: Comparison, interval: Interval) -> list[Interval]:
        value, last = interval
        if value != last:
            raise self._error(node.items[0], f"'{node.operator}' wants one value, not a range")
        low, high = {
            Operator.LESS: (0, value - 1),
            Operator.LESS_EQUAL: (0, value),
            Operator.GREATER: (value + 1, _WORD),
            Operator.GREATER_EQUAL: (value, _WORD),
        }[node.operator]
        return [(low, high)] if low <= high else []

    def _spelled(self, node: Comparison, target: Field) -> _Predicate:
        values: list[bytes] = []
        for item in node.items:
            try:
                values.append(STRINGS[target.kind](item, target))
            except LiteralError as problem:
                raise self._error(item, str(problem)) from None
        return _Spelled(target.name, tuple(dict.fromkeys(values)))

    def _error(self, item: Item, found: str) -> FilterError:
        return fail(self._text, item.column, found)


_SAME = "= != in"
_ORDERED = "= != < <= > >= in"

_OPERATORS: Mapping[Kind, str] = {
    Kind.UINT: f"{_ORDERED} has",
    Kind.HEX: f"{_ORDERED} has",
    Kind.FORWARDING: f"{_ORDERED} has",
    Kind.PROTOCOL: _ORDERED,
    Kind.TIME: _ORDERED,
    # Not `in`: [SYN, ACK] would look like a test of bits, and be one of whole values.
    Kind.FLAGS: "= != has",
    Kind.DIRECTION: _SAME,
    Kind.MAC: _SAME,
    Kind.ADDRESS: _SAME,
    Kind.TEXT: _SAME,
    Kind.WORDS: _SAME,
    Kind.BYTES: _SAME,
    Kind.LABELS: _SAME,
    Kind.SEGMENTS: _SAME,
}
"""What each kind of field may be compared by; the words of this table appear in errors."""


def _membership(target: Field, intervals: Iterable[Interval]) -> _Predicate:
    if target.kind is Kind.ADDRESS:
        return _AddressWithin(target.name, AddressSet.of(intervals))
    return _Within(target.name, WordSet.of(intervals))
