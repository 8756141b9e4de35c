"""The grammar of filters: text to syntax tree. What names and values mean is known to `filter`.

    expression = term { "or" term }
    term       = factor { "and" factor }
    factor     = "not" factor | "(" expression ")" | comparison
    comparison = field operator item | field [ "not" ] "in" set
    operator   = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "has"
    set        = item | "[" items "]" | "(" items ")"
    items      = item { "," item }

Keywords are read in any case. An item is a quoted string or a bare word, and a bare word is
anything that addresses, prefixes, ranges, numbers and names are made of: none of them needs quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from flowray.errors import ConfigError

MAX_LENGTH = 65_536
"""Characters in a filter: room for some thousand prefixes."""

MAX_DEPTH = 64
"""Nested parentheses; bounds the recursion of the parser and of whatever walks its tree."""

MAX_SHOWN = 200
"""Characters of what was found that an error repeats."""


@dataclass(eq=False)
class FilterError(ConfigError):
    """A filter that cannot be used; `str()` is one line that names the column.

    `text` is the filter, `column` the place in it, from 1; `allowed` may be empty.
    """

    text: str = ""
    column: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        # All fields, so that the error survives pickling.
        self.args = (self.file, self.place, self.found, self.allowed, self.text, self.column)

    def __str__(self) -> str:
        tail = f"; {self.allowed}" if self.allowed else ""
        return " ".join(f"{self.file}: {self.place}: {self.found}{tail}".split())

    @property
    def caret(self) -> str:
        """Two lines: the filter (around the column, if it is long) and a caret below the column."""
        start = max(0, self.column - 60)
        shown = re.sub(r"\s", " ", self.text[start : start + 100])
        return f"{shown}\n{' ' * (self.column - 1 - start)}^"

    def within(self, file: str, place: str) -> FilterError:
        """The same error as part of a configuration file, at `place` in it."""
        return replace(self, file=file, place=f"{place}: {self.place}")


def fail(text: str, column: int, found: str, allowed: str = "") -> FilterError:
    """An error at a column of a filter; a long value is cut in the middle."""
    if len(found) > MAX_SHOWN:
        found = f"{found[: MAX_SHOWN // 2]}…{found[-MAX_SHOWN // 2 :]}"
    return FilterError("filter", f"column {column}", found, allowed, text, column)


@dataclass(frozen=True, slots=True)
class Item:
    """A value as written, quotes removed and escapes resolved; `column` counts from 1."""

    text: str
    column: int
    quoted: bool = False


class Operator(StrEnum):
    """How a comparison compares."""

    EQUAL = "="
    LESS = "<"
    LESS_EQUAL = "<="
    GREATER = ">"
    GREATER_EQUAL = ">="
    IN = "in"
    HAS = "has"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field, an operator and its items; only `IN` may have more than one."""

    field: Item
    operator: Operator
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True where its term is not."""

    term: Node


@dataclass(frozen=True, slots=True)
class All:
    """True where all terms are."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """True where at least one term is."""

    terms: tuple[Node, ...]


Node: TypeAlias = Comparison | Not | All | Either

_KEYWORDS = frozenset({"and", "or", "not", "in", "has"})

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<word>[A-Za-z0-9_.:/%+\-]+)
    |(?P<operator>==|!=|<=|>=|=|<|>)
    |(?P<mark>[()\[\],])
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""",
    re.VERBOSE | re.DOTALL,
)

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int

    def shown(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def _unquote(raw: str) -> str:
    r"""Resolve escapes; a byte written as ``\xHH`` becomes the surrogate that stands for it."""

    def resolve(match: re.Match[str]) -> str:
        code, plain = match.groups()
        return bytes.fromhex(code).decode(errors="surrogateescape") if code else str(plain)

    return _ESCAPE.sub(resolve, raw[1:-1])


def _token(match: re.Match[str]) -> _Token:
    kind, text = str(match.lastgroup), match[0]
    if kind == "word" and text.lower() in _KEYWORDS:
        kind, text = "keyword", text.lower()
    elif kind == "string":
        text = _unquote(text)
    return _Token(kind, text, match.start() + 1)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            quote = text[at] in "\"'"
            found = "a string without its closing quote" if quote else f"unexpected {text[at]!r}"
            raise fail(text, at + 1, found)
        if match.lastgroup != "space":
            tokens.append(_token(match))
        at = match.end()
    tokens.append(_Token("end", "", len(text) + 1))
    return tokens


class _Parser:
    """Recursive descent; only parentheses recurse, so depth is what `MAX_DEPTH` counts."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _accept(self, kind: str, *texts: str) -> _Token | None:
        token = self._next
        return self._take() if token.kind == kind and token.text in texts else None

    def _expected(self, what: str) -> FilterError:
        return fail(
            self._text, self._next.column, f"found {self._next.shown()}", f"expected {what}"
        )

    def parse(self) -> Node:
        if self._next.kind == "end":
            raise fail(self._text, 1, "the filter is empty", "expected a comparison")
        node = self._either()
        if self._next.kind != "end":
            raise self._expected("'and', 'or' or the end")
        return node

    def _series(self, word: str, part: Callable[[], Node]) -> tuple[Node, ...]:
        terms = [part()]
        while self._accept("keyword", word):
            terms.append(part())
        return tuple(terms)

    def _either(self) -> Node:
        terms = self._series("or", self._all)
        return terms[0] if len(terms) == 1 else Either(terms)

    def _all(self) -> Node:
        terms = self._series("and", self._factor)
        return terms[0] if len(terms) == 1 else All(terms)

    def _factor(self) -> Node:
        negated = False
        while self._accept("keyword", "not"):
            negated = not negated
        node = self._group() if self._accept("mark", "(") else self._comparison()
        return Not(node) if negated else node

    def _group(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            column = self._tokens[self._at - 1].column
            raise fail(self._text, column, f"more than {MAX_DEPTH} nested parentheses")
        node = self._either()
        if not self._accept("mark", ")"):
            raise self._expected("'and', 'or' or ')'")
        self._depth -= 1
        return node

    def _comparison(self) -> Node:
        if self._next.kind != "word":
            raise self._expected("a field, 'not' or '('")
        name = self._take()
        field = Item(name.text, name.column)
        negated = self._accept("keyword", "not") is not None
        if self._accept("keyword", "in"):
            node: Node = Comparison(field, Operator.IN, self._set())
        elif negated:
            raise self._expected("'in' after 'not'")
        elif self._accept("keyword", "has"):
            node = Comparison(field, Operator.HAS, (self._item(),))
        else:
            node, negated = self._relation(field)
        return Not(node) if negated else node

    def _relation(self, field: Item) -> tuple[Node, bool]:
        if self._next.kind != "operator":
            raise self._expected(f"a comparison of {field.text} (= != < <= > >= in has)")
        sign = self._take().text
        operator = Operator.EQUAL if sign in {"==", "!="} else Operator(sign)
        return Comparison(field, operator, (self._item(),)), sign == "!="

    def _set(self) -> tuple[Item, ...]:
        opening = self._accept("mark", "[", "(")
        if opening is None:
            return (self._item(),)
        closing = "]" if opening.text == "[" else ")"
        items = [self._item()]
        while self._accept("mark", ","):
            items.append(self._item())
        if not self._accept("mark", closing):
            raise self._expected(f"',' or '{closing}'")
        return tuple(items)

    def _item(self) -> Item:
        if self._next.kind not in {"word", "string"}:
            raise self._expected("a value")
        first = self._take()
        if first.kind == "string":
            return Item(first.text, first.column, quoted=True)
        text = first.text
        # A range may be written with spaces around its hyphen.
        if self._next.kind == "word" and self._next.text == "-":
            self._take()
            if self._next.kind != "word":
                raise self._expected("the end of a range")
            text = f"{text}-{self._take().text}"
        return Item(text, first.column)


def parse(text: str) -> Node:
    """The syntax tree of a filter. Raises `FilterError`."""
    if len(text) > MAX_LENGTH:
        raise fail(text, MAX_LENGTH + 1, f"the filter is longer than {MAX_LENGTH} characters")
    return _Parser(text).parse()
