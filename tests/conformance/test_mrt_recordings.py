"""Recordings of route collectors against what bgpdump prints for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.events import Action
from flowray.wire.bgp.mrt import CONTEXTS, MrtReader, MrtStateChange
from flowray.wire.bgp.update import parse_updates
from tests.conformance.bgpdump import as_printed, lines, printed
from tests.conformance.captures import MISSING, SHARED

pytestmark = pytest.mark.peers

FOLDER = SHARED / "mrt"
FILES = sorted(FOLDER.rglob("*.gz")) if FOLDER.is_dir() else []

STOPS = {
    "bview.20000111.0032.gz": (
        1,
        452018,
        "RFC 6396 section 2: Length counts all octets after the header; here it leaves out the "
        "four of view and sequence number, and each record holds as many routes as fit. bgpdump "
        "takes the first route of a record for all of it, and does not find the second record",
    ),
    "updates.20000325.0345.gz": (
        4,
        2545,
        "two records were cut and written over: bgpdump takes 14,556 octets of records for one, "
        "the most of them for withdrawn routes of 0.5.0.3, and does not find the next. We look "
        "for the next header (RFC 6396 section 2: length and type tell where the next one is)",
    ),
}
"""Where bgpdump goes astray: lines to there; UPDATEs, changes of state and routes of ours; why."""


def _id(path: Path) -> str:
    return path.name


def _each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "path",
        paths or [pytest.param(None, marks=pytest.mark.skip(reason=MISSING))],
        ids=_id if paths else None,
    )


@_each(FILES)
def test_like_bgpdump(path: Path, peer: Callable[[str], Path]) -> None:
    theirs = printed(peer("bgpdump"), path)
    reader = MrtReader(path)
    agree, count, _ = STOPS.get(path.name, (None, 0, ""))
    ours = [as_printed(line, theirs[0][0]) for line in islice(lines(reader), agree)]
    assert ours == theirs[:agree]
    if agree:
        reader = MrtReader(path)
        assert sum(1 for _ in reader)
    report = reader.report
    if agree:
        assert report.updates + report.state_changes + report.routes == count
    assert (report.malformed, report.refused, report.unknown_family) == (0, 0, 0)
    assert not report.cut_off
    assert bool(report.damaged) == (path.name == "updates.20000325.0345.gz")


@_each([path for path in FILES if path.name not in STOPS])
def test_as_many_routes(path: Path, peer: Callable[[str], Path]) -> None:
    """Announced and withdrawn, as the compiled parser finds them: every message is well-formed."""
    theirs = Counter(line[2] for line in printed(peer("bgpdump"), path))
    store = AttributeStore()
    ours: Counter[str] = Counter()
    for event in MrtReader(path):
        if isinstance(event, MrtStateChange):
            ours["STATE"] += 1
            continue
        parsed = parse_updates(event.updates, CONTEXTS, store)
        assert not parsed.verdict.any()
        for action, letter in ((Action.ANNOUNCE, "A"), (Action.WITHDRAW, "W")):
            ours[letter] += int((parsed.events.action == action).sum())
    assert ours == theirs
