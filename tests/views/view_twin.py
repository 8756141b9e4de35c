"""Windows, splitting and folding in plain Python."""

from collections.abc import Sequence
from dataclasses import dataclass

from flowray.field import Field, Kind, Merge

WRAP = 1 << 64


def window_of(time: int, arrival: int, width: int, offset: int, lateness: int) -> tuple[int, int]:
    """(start, revision) of a record: it is late by whole widths beyond the allowed lateness."""
    time = max(0, min(time, arrival))
    start = (time - offset) // width * width + offset
    revision = 0
    while arrival >= start + width + lateness + revision * width:
        revision += 1
    return start, revision


def parts_of(start: int, end: int, width: int, offset: int, most: int) -> list[int]:
    """A moment in each window that [start, end) touches; a flow without duration touches one."""
    moments = [start]
    edge = (start - offset) // width * width + offset + width
    while edge < end and len(moments) < most:
        moments.append(edge)
        edge += width
    return moments


def merge(rule: Merge, old: int, new: int) -> int:
    if rule is Merge.SUM:
        return (old + new) % WRAP
    if rule is Merge.OR:
        return old | new
    known = [v for v in (old, new) if v]
    if not known:
        return 0
    return min(known) if rule is Merge.MIN else max(known)


def cut(field: Field, value: int) -> int:
    """A key value as its field holds it: the largest that fits, if it is larger."""
    top = (1 << field.bits) - 1 if field.kind is not Kind.ADDRESS else value
    return min(value, top)


@dataclass
class Table:
    """Rows by (window, key) -> values; past max_keys rows, new keys go to a row of their window."""

    keys: Sequence[Field]
    values: Sequence[Field]
    max_keys: int

    def __post_init__(self) -> None:
        self.rows: dict[tuple[int, tuple[int, ...] | None], list[int]] = {}
        self.others = 0

    def add(self, window: int, key: Sequence[int], values: Sequence[int]) -> None:
        cells = tuple(cut(f, v) for f, v in zip(self.keys, key, strict=True))
        place: tuple[int, tuple[int, ...] | None] = window, cells
        if place not in self.rows and len(self.rows) >= self.max_keys:
            place = window, None
            self.others += 1
        row = self.rows.setdefault(place, [0] * len(self.values))
        for i, (f, v) in enumerate(zip(self.values, values, strict=True)):
            row[i] = merge(f.merge, row[i], v)
