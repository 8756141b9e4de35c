"""A variant of a case, driven: feeds through an in-process replay, expectations in order."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flowray.errors import FlowrayError
from flowray.ingest.ledger import MALFORMED
from flowray.replay import Replay, summarise
from flowray.settings.compile import Program
from flowray.sinks.base import Commit
from flowray.sinks.files import OneFileSink
from flowray.sinks.opening import one_file
from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.pcap import CaptureReader, merge_captures
from tests.conformance.case import Case, Feed, Step, Variant
from tests.conformance.compare import Comparison, Record, compare
from tests.conformance.translate import VIEW, compile_variant, lacking, map_files, missing


class Outcome(StrEnum):
    """What became of a variant."""

    PASS = "PASS"
    FAIL = "FAIL"
    WAIVED = "WAIVED"
    UNSUPPORTED = "UNSUPPORTED"


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report."""

    case: str
    variant: str
    outcome: Outcome
    detail: str = ""
    differing: tuple[tuple[str, Comparison], ...] = ()

    def __str__(self) -> str:
        return f"{self.outcome} {self.case}/{self.variant} {self.detail}".rstrip()


@dataclass(frozen=True, slots=True)
class Artefact:
    """A known fault of the references of a case: `lines` of them have a wrong `key`."""

    key: str
    lines: int
    reason: str


ARTEFACTS = {
    "102": Artefact(
        "label", 2, "the references lack the label in the first record of each observation domain"
    ),
}


class Lines:
    """Rows through the JSON lines writer; `take` gives those since the last call."""

    def __init__(self, program: Program, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._file: OneFileSink | None = None

    def commit(self, commit: Commit, table: pa.Table) -> None:
        if self._file is None:
            self._file = one_file(self._program, VIEW, self._directory, "jsonl")
        self._file.commit(commit, table)

    def close(self) -> None:
        if self._file is not None:
            self._file.discard()
            self._file = None

    def take(self) -> list[Record]:
        if self._file is None:
            return []
        self._file.close()
        self._file = None
        text = (self._directory / f"{VIEW}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@dataclass(slots=True)
class Driver:
    """The state of a variant between its steps."""

    case: Case
    variant: Variant
    directory: Path
    maps: dict[str, str] = field(default_factory=dict)
    rows: list[Record] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    differing: list[tuple[str, Comparison]] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)
    sink: Lines = field(init=False)
    replay: Replay = field(init=False)

    def __post_init__(self) -> None:
        self.maps = map_files(self.variant)
        self._start()

    def _start(self) -> None:
        program = compile_variant(self.case, self.variant, self.maps, self.directory)
        self.sink = Lines(program, self.directory)
        self.replay = Replay(program, lambda _view, _partition: [self.sink])

    def run(self) -> None:
        try:
            for step in self.case.steps:
                _STEPS[step.do](self, step)
        finally:
            self.sink.close()

    # -- steps

    def feed(self, step: Step) -> None:
        feeds = [self.case.feed(name) for name in step.feeds]
        readers = [r for feed in feeds for r in self._readers(feed)]
        for batch in merge_captures([_Presented(r, e) for r, e in readers]):
            self.replay.feed(batch)
        self.replay.end_of_input()
        self.captures = [r.report.fault for r, _ in readers if r.report.cut_off]
        self.rows = self.sink.take()

    def _readers(self, feed: Feed) -> Iterator[tuple[CaptureReader, int]]:
        ports = frozenset(t.dst_port for t in feed.take if t.l4 == "udp" and t.into == "flow")
        exporter = self.replay.collector.exporters.intern_one(feed.exporter.present_as)
        for name in feed.pcaps:
            yield CaptureReader(self.case.path(name), Exporters(), ports), exporter

    def expect(self, step: Step) -> None:
        comparison = compare(
            self.rows,
            self.case.expected(self.variant, step.ref),
            self.case.ignored(step),
            many_to_one=step.match == "many_to_one",
            max_copies=step.max_copies,
        )
        if not comparison.equal:
            self.differing.append((step.ref, comparison))

    def expect_no_problems(self, step: Step) -> None:
        del step
        collector, aggregators = self.replay.collector, list(self.replay.aggregators.values())
        summary = summarise([collector.snapshot()], collector.sets_held, aggregators, (0.0, 0.0))
        malformed = {a.label for a in MALFORMED}
        counts = [
            f"{count} {label}"
            for accounts in summary.ledger["exporters"].values()
            for label, count in accounts.items()
            if label in malformed
        ]
        self.faults += [f"problem: {p}" for p in (*summary.problems, *counts, *self.captures)]

    def expect_events(self, step: Step) -> None:
        for event in self.case.events.get(step.ref, []):
            check = _EVENTS.get(event["event"])
            problem = check(self, event) if check else f"event {event['event']} is not told"
            if problem:
                self.faults.append(f"{step.ref}: {problem}")

    def swap_maps(self, step: Step) -> None:
        self.maps |= step.swap

    def reload_maps(self, step: Step) -> None:
        del step
        self._start()


_STEPS: dict[str, Callable[[Driver, Step], None]] = {
    "replay": Driver.feed,
    "expect": Driver.expect,
    "expect_no_problems": Driver.expect_no_problems,
    "expect_events": Driver.expect_events,
    "swap_maps": Driver.swap_maps,
    "reload_maps": Driver.reload_maps,
}


def _listening(driver: Driver, event: dict[str, Any]) -> str:
    """A replay listens to nothing."""
    del driver, event
    return ""


def _loaded(driver: Driver, event: dict[str, Any]) -> str:
    """Counts of entries are pmacct's own: it counts rows by address family."""
    return "" if event["map"] in driver.maps else f"no {event['map']} map is loaded"


def _flushed(driver: Driver, event: dict[str, Any]) -> str:
    lines = len(driver.rows)
    return "" if lines == event["lines"] else f"{lines} lines flushed instead of {event['lines']}"


_EVENTS: dict[str, Callable[[Driver, dict[str, Any]], str]] = {
    "listening": _listening,
    "map.loaded": _loaded,
    "flow.flushed": _flushed,
}


@dataclass(frozen=True, slots=True)
class _Presented:
    """The batches of a capture with one exporter as the sender of all."""

    reader: CaptureReader
    exporter: int

    def __iter__(self) -> Iterator[PacketBatch]:
        for batch in self.reader:
            batch.exporter[:] = np.uint32(self.exporter)
            yield batch


def run_variant(case: Case, variant: Variant) -> Result:
    """Drive a variant and judge it. Raises CaseError for a case whose files are not there."""

    def result(outcome: Outcome, detail: str = "") -> Result:
        return Result(case.id, variant.id, outcome, detail)

    if lacks := missing(case, variant):
        return result(Outcome.UNSUPPORTED, f"(needs {lacks[0]})")
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        try:
            driver = Driver(case, variant, Path(directory))
            driver.run()
        except FlowrayError as error:
            return result(Outcome.FAIL, str(error))
    outcome, detail = _judge(case, variant, driver)
    return Result(case.id, variant.id, outcome, detail, tuple(driver.differing))


def _judge(case: Case, variant: Variant, driver: Driver) -> tuple[Outcome, str]:
    lacks = lacking(case, variant)
    details = [f"{ref}: {comparison.describe()}" for ref, comparison in driver.differing]
    if lacks:
        return (
            Outcome.UNSUPPORTED,
            f"(needs {', '.join(lacks)}) {'; '.join((*details, *driver.faults))}",
        )
    if driver.faults:
        return Outcome.FAIL, "; ".join((*details, *driver.faults))
    if not details:
        return Outcome.PASS, ""
    artefact = ARTEFACTS.get(case.id)
    if artefact and all(_is_artefact(c, artefact) for _, c in driver.differing):
        return Outcome.WAIVED, artefact.reason
    return Outcome.FAIL, "; ".join(details)


def _is_artefact(comparison: Comparison, artefact: Artefact) -> bool:
    without = compare(comparison.unknown, comparison.missing, frozenset({artefact.key}))
    return (
        without.equal
        and comparison.wanted == comparison.got
        and (len(comparison.unknown) <= artefact.lines)
    )
