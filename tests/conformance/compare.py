"""Comparison of records with references: multiset equality, or many copies of each reference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]

_ABSENT = "absent"
SHOWN_KEYS = 4
SEARCHED = 50
"""Unknown records that the nearest missing one is searched for."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Records against a reference: those not wanted, those not met, those met too often."""

    got: int
    wanted: int
    unknown: list[Record] = field(default_factory=list)
    missing: list[Record] = field(default_factory=list)
    too_often: list[Record] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.unknown or self.missing or self.too_often)

    @property
    def keys(self) -> list[str]:
        """Keys in which unknown records differ from the missing ones nearest to them."""
        found: Counter[str] = Counter()
        for u in self.unknown[:SEARCHED]:
            nearest = min((differences(u, m) for m in self.missing), key=len, default=[])
            found.update(key for key, _, _ in nearest)
        return [key for key, _ in found.most_common()]

    def describe(self) -> str:
        """The nearest difference in one line; empty if there is none."""
        if self.equal:
            return ""
        counts = (
            f"{self.got} lines for {self.wanted}, {len(self.unknown)} unknown,"
            f" {len(self.missing)} missing"
        )
        if self.unknown and self.missing:
            some = self.unknown[:SEARCHED]
            best = min((differences(u, m) for u in some for m in self.missing), key=len)
            shown = ", ".join(f"{k} {got} instead of {want}" for k, got, want in best[:SHOWN_KEYS])
            return f"{counts}, by {', '.join(self.keys)}; nearest: {shown}{_more(best)}"
        rows = self.unknown or self.missing or self.too_often
        what = "unknown" if self.unknown else "missing" if self.missing else "too often"
        return f"{counts}; {what}: {json.dumps(rows[0], ensure_ascii=False)[:300]}"


def _more(items: list[tuple[str, str, str]]) -> str:
    left = len(items) - SHOWN_KEYS
    return f" and {left} more" if left > 0 else ""


def compare(
    got: Iterable[Record],
    wanted: Iterable[Record],
    ignore: frozenset[str] = frozenset(),
    *,
    many_to_one: bool = False,
    max_copies: int | None = None,
) -> Comparison:
    """Compare records without the keys to ignore (of the top level only).

    Without `many_to_one` both sides must hold each record the same number of times. With it each
    record must equal some reference and each reference be met, at most `max_copies` times per time
    it is given.
    """
    have = Counter(_canonical(r, ignore) for r in got)
    want = Counter(_canonical(r, ignore) for r in wanted)
    too_often: list[str] = []
    if many_to_one:
        unknown = [k for k in have if k not in want]
        missing = [k for k in want if k not in have]
        if max_copies is not None:
            too_often = [k for k, n in want.items() if have[k] > max_copies * n]
    else:
        unknown = list((have - want).elements())
        missing = list((want - have).elements())
    return Comparison(
        have.total(),
        want.total(),
        *(list(map(json.loads, k)) for k in (unknown, missing, too_often)),
    )


def surplus(
    got: Iterable[Record], wanted: Iterable[Record], ignore: frozenset[str]
) -> list[Record]:
    """The records that are left when each wanted one has taken one that equals it."""
    want = Counter(_canonical(r, ignore) for r in wanted)
    left = []
    for record in got:
        key = _canonical(record, ignore)
        if want[key]:
            want[key] -= 1
        else:
            left.append(record)
    return left


def differences(got: Record, wanted: Record) -> list[tuple[str, str, str]]:
    """The keys in which two records differ, with both values as text."""
    return [
        (key, _shown(got, key), _shown(wanted, key))
        for key in sorted(got.keys() | wanted.keys())
        if _shown(got, key) != _shown(wanted, key)
    ]


def _canonical(record: Record, ignore: frozenset[str]) -> str:
    """Equal for equal records alone: 1, "1", 1.0 and true all differ, so do null and absent."""
    kept = {k: v for k, v in record.items() if k not in ignore}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False)


def _shown(record: Record, key: str) -> str:
    return json.dumps(record[key], sort_keys=True) if key in record else _ABSENT
