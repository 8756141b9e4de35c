"""Names of files from the identity of a commit and the values of its rows.

A template is a path with `{view}`, `{window:%Y%m%d-%H%M}` (UTC), `{partition}`, `{revision}`,
`{sequence}` and the names or JSON keys of key fields, such as `{peer_src_ip}`, by which rows are
split over files.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from flowray.errors import ConfigError
from flowray.field import Field, Kind
from flowray.sinks.base import Commit

__all__ = ["PathTemplate", "safe_part"]

DEFAULT_WINDOWED: Final = "{view}/{window:%Y-%m-%d}/{window:%H%M%S}-p{partition}-r{revision}"
DEFAULT_SEQUENCED: Final = "{view}/{sequence}-p{partition}"

_WINDOW_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_COMMIT_NAMES: Final = ("view", "window", "partition", "revision", "sequence")
_VARYING: Final = ("window", "partition", "revision", "sequence")

_SPLITTABLE: Final = frozenset(
    {
        Kind.UINT,
        Kind.PROTOCOL,
        Kind.FORWARDING,
        Kind.DIRECTION,
        Kind.HEX,
        Kind.ADDRESS,
        Kind.MAC,
        Kind.TEXT,
        Kind.WORDS,
    }
)
"""Kinds whose values are one word, fit to be part of a name."""

_LONGEST_PART: Final = 120
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def safe_part(value: str | None) -> str:
    """A value as part of a file name; different values always give different parts.

    Anything but letters, digits and `-._:,+@=` is percent-encoded. Empty is `_` and null (the
    others row) `_others`, so a first `_` of a value is encoded as well; so is a first dot, which
    would hide the file or leave the directory.
    """
    if value is None:
        return "_others"
    if not value:
        return "_"
    part = quote(value, safe="-._:,+@=").replace("~", "%7E")
    if part[0] in "._":
        part = f"%{ord(part[0]):02X}{part[1:]}"
    if len(part) <= _LONGEST_PART:
        return part
    return f"{part[: _LONGEST_PART - 33]}~{hashlib.sha256(value.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class _Token:
    literal: str
    name: str
    spec: str


class PathTemplate:
    """A parsed template; `split` are the fields in it."""

    def __init__(self, template: str, fields: Iterable[Field]) -> None:
        """Raises ConfigError for broken braces, an unknown name or a field unfit for names."""
        self.text = template
        fields = list(fields)
        by_name = {f.name: f for f in fields} | {f.key: f for f in fields}
        self._tokens = self._parse(template)
        self.names = {t.name for t in self._tokens if t.name}
        unknown = sorted(self.names - by_name.keys() - {*_COMMIT_NAMES})
        if unknown:
            allowed = ", ".join(
                [*_COMMIT_NAMES, *(f.name for f in fields if f.kind in _SPLITTABLE)]
            )
            raise _bad(f"{{{unknown[0]}}} in {template!r}", allowed)
        self.split: dict[str, Field] = {
            name: by_name[name] for name in sorted(self.names - {*_COMMIT_NAMES})
        }
        for name, field in self.split.items():
            if field.kind not in _SPLITTABLE:
                raise _bad(f"{{{name}}} in {template!r}", "fields whose value is a single word")

    @staticmethod
    def _parse(template: str) -> list[_Token]:
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise _bad(repr(template), f"names in braces ({error})") from None
        if any(name == "" for _, name, _, _ in parsed):
            raise _bad(f"{{}} in {template!r}", ", ".join(_COMMIT_NAMES))
        tokens = [_Token(text, name or "", spec or "") for text, name, spec, _ in parsed]
        for token in tokens:
            if token.spec and token.name != "window":
                raise _bad(f"{{{token.name}:{token.spec}}}", f"{{{token.name}}} without a format")
        return tokens

    def name(self, commit: Commit, values: Mapping[str, str]) -> str:
        """The path of a commit; `values` are safe parts by the names in `split`."""
        return self._fill(self._tokens, commit, values)

    def latest(self, commit: Commit, values: Mapping[str, str], extension: str) -> str:
        """The path of the link to the newest of the files that commits of this kind make."""
        steady: list[_Token] = []
        for token in self._tokens:
            if token.name in _VARYING:
                steady.append(_Token(token.literal, "", ""))
                break
            steady.append(token)
        prefix = self._fill(steady, commit, values)
        if not any(t.name == "view" for t in steady):
            prefix += f"{safe_part(commit.view)}-"
        return f"{prefix}latest{extension}"

    def _fill(self, tokens: list[_Token], commit: Commit, values: Mapping[str, str]) -> str:
        return "".join(t.literal + self._value(t, commit, values) for t in tokens)

    def _value(self, token: _Token, commit: Commit, values: Mapping[str, str]) -> str:
        if token.name in ("", *values):
            return values.get(token.name, "")
        if token.name == "view":
            return safe_part(commit.view)
        if token.name == "window":
            # A view without windows has no time that would be the same when the commit is repeated.
            return _moment(commit.window_ns or 0).strftime(token.spec or _WINDOW_FORMAT)
        return str(getattr(commit, token.name))

    def missing(self, *, window_ns: int | None, views: int, partitions: int) -> list[str]:
        """What the template lacks for the names of different commits to differ, in braces."""
        needed = {"view": views > 1, "partition": partitions > 1}
        needed |= {"sequence": window_ns is None, "revision": window_ns is not None}
        lacking = [f"{{{n}}}" for n, need in needed.items() if need and n not in self.names]
        if window_ns is not None and not self._tells_windows_apart(window_ns):
            lacking.append("{window:%Y%m%d-%H%M%S}")
        return lacking

    def _tells_windows_apart(self, window_ns: int) -> bool:
        """Tried: a run of windows, then the same time of day over two years, then a century."""
        windows = [t for t in self._tokens if t.name == "window"]
        step = max(window_ns, 1)
        starts = {i * step for i in range(3000)}
        day, year = 86_400 * 10**9, 31_557_600 * 10**9
        starts |= {i * d // step * step for d, n in ((day, 730), (year, 100)) for i in range(n)}
        names = {
            tuple(_moment(start).strftime(t.spec or _WINDOW_FORMAT) for t in windows)
            for start in starts
        }
        return len(names) == len(starts)


def _moment(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)


def _bad(found: str, allowed: str) -> ConfigError:
    return ConfigError("configuration", "sinks.path", found, allowed)
