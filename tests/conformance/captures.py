"""Captures through an in-process replay into rows with all fields, and other programs' words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from flowray.field import Merge, Source
from flowray.fields import REGISTRY
from flowray.ingest.ledger import totals
from flowray.ingest.options import Topic
from flowray.replay import Replay
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.sinks.render import render
from flowray.wire.pcap import CaptureReader

Row: TypeAlias = dict[str, Any]

SHARED = Path(__file__).resolve().parents[3] / "shared" / "captures"
"""Recordings of other projects, for testing only: where they are not, their tests are skipped."""

MISSING = "../shared/captures is not there: it is no part of the repository"

ALL_FIELDS = [
    f.name
    for f in REGISTRY.public()
    if f.decoded
    and f.source is not Source.WINDOW
    and f.merge not in (Merge.MIN, Merge.MAX, Merge.SUM)
]


@dataclass(frozen=True, slots=True)
class Capture:
    """A row per record, all accounts, and what options told by topic and id."""

    rows: list[Row]
    accounts: Mapping[str, int]
    told: Mapping[tuple[Topic, int], int | bytes]

    @property
    def events(self) -> int:
        """Records of both kinds, as most programs count them."""
        return len(self.rows) + self.accounts.get("option_records", 0)


@cache
def decode_capture(path: Path, *, hold: bool = True) -> Capture:
    """Replay a capture with all fields, unaggregated; the ledger must balance."""
    program = compile_settings(
        parse_settings(
            {
                "decode": {"hold": hold},
                "views": [
                    {
                        "name": "all",
                        "keys": ALL_FIELDS,
                        "renormalise": False,
                        "encoding": {
                            "protocols": "number",
                            "tcp_flags": "int",
                            "forwarding_status": "number",
                            "timestamps": "epoch",
                            "precision": "ns",
                        },
                    }
                ],
            },
            "test",
        ),
        "test",
    )
    sink = MemorySink()
    replay = Replay(program, lambda _view, _partition: [sink])
    for batch in CaptureReader(path, replay.collector.exporters):
        replay.feed(batch)
    options = replay.collector.decoder.options
    told = {(Topic(t), k): value for _, _, t, k, value in options.items()}
    summary = replay.finish()
    assert summary.problems == []
    fields, encoding = program.output_fields("all"), program.encoding("all")
    rows = [r for t in sink.tables.values() for r in render(t, fields, encoding).to_pylist()]
    return Capture(rows, totals(summary.ledger), told)


# -- values


def nanoseconds(text: str) -> int:
    """Nanoseconds of a timestamp in seconds, or of RFC 3339."""
    if "T" not in text:
        seconds, _, fraction = text.partition(".")
        return int(seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)
    whole, fraction = re.fullmatch(r"([^.]+)(?:\.(\d+))?Z", text).groups()  # type: ignore[union-attr]
    at = datetime.fromisoformat(f"{whole}+00:00")
    return int(at.timestamp()) * 10**9 + int((fraction or "").ljust(9, "0"))


def number(value: Any) -> Any:
    """A number told as text, or by its name, is that number."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


Check: TypeAlias = Callable[[Any, Any], bool]
"""Whether our value is theirs."""


def same(ours: Any, theirs: Any) -> bool:
    return bool(number(ours) == number(theirs))


def address(ours: Any, theirs: Any) -> bool:
    """All zero is no address: we write none, they the zero of a family."""
    return bool(ours == theirs or (theirs in ("0.0.0.0", "::") and ours in ("", "0.0.0.0", "::")))


def time(ours: Any, theirs: Any) -> bool:
    return nanoseconds(ours) // 10**6 == nanoseconds(theirs) // 10**6


Words: TypeAlias = Mapping[str, tuple[str, Check]]
"""Name of a value in another program -> key of ours, and when they are the same."""


def words(check: Check, names: Mapping[str, str]) -> dict[str, tuple[str, Check]]:
    """Words from our keys with the names for each, apart by spaces."""
    return {name: (key, check) for key, text in names.items() for name in text.split()}


def missed(row: Row, values: Mapping[str, Any], words: Words) -> list[str]:
    """The values of another program, of those there are words for, that a row does not have."""
    return [
        f"{name}: {row[words[name][0]]!r} instead of {value!r}"
        for name, value in values.items()
        if name in words and not words[name][1](row[words[name][0]], value)
    ]


def nearest(rows: list[Row], values: Mapping[str, Any], words: Words) -> list[str]:
    """What the row that misses fewest values misses."""
    return min((missed(row, values, words) for row in rows), key=len)
