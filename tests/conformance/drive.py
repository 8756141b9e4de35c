"""A variant of a case, driven: feeds through an in-process replay, expectations in order."""

from __future__ import annotations

import json
import resource
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa

from flowray.errors import FlowrayError
from flowray.ingest.ledger import MALFORMED
from flowray.replay import Replay, summarise
from flowray.rib.replay import RouteReplay
from flowray.settings.compile import Program
from flowray.sinks.base import Commit
from flowray.sinks.files import OneFileSink
from flowray.sinks.opening import one_file, one_stream_file
from flowray.wire.packets import address_text
from flowray.wire.pcap import merge_captures
from flowray.wire.segments import SegmentBatch
from tests.conformance.case import Case, Step, Variant
from tests.conformance.compare import Comparison, Record, compare, surplus
from tests.conformance.feeds import PROTOCOLS, Playing, Ports, Repeated, Session, play
from tests.conformance.translate import (
    STREAMS,
    VIEW,
    compile_variant,
    dump_clock,
    lacking,
    map_files,
    missing,
)


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


OPTIONAL = "log_close"
"""Event of a message log that references do not show."""

WARM = 20
"""Batches after which all that is loaded once is there."""

_MIB = 1 << 20


class Lines:
    """Rows of a view or stream through the JSON lines writer; `take` gives those since the last
    call.
    """

    def __init__(self, program: Program, name: str, directory: Path) -> None:
        self._program = program
        self._name = name
        self._directory = directory
        self._file: OneFileSink | None = None

    def commit(self, commit: Commit, table: pa.Table) -> None:
        if self._file is None:
            make = one_file if self._name == VIEW else one_stream_file
            self._file = make(self._program, self._name, self._directory, "jsonl")
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
        text = (self._directory / f"{self._name}.jsonl").read_text(encoding="utf-8")
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
    streams: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    sessions: dict[str, dict[Session, None]] = field(default_factory=lambda: defaultdict(dict))
    closed: int = 0
    ports: Ports = field(default_factory=Ports)
    clock: int = 0
    grown: int = 0
    sinks: dict[str, Lines] = field(init=False)
    replay: Replay = field(init=False)

    def __post_init__(self) -> None:
        self.maps = map_files(self.variant)
        self._start()

    def _start(self) -> None:
        program = compile_variant(self.case, self.variant, self.maps, self.directory)
        self.sinks = {
            name: Lines(program, name, self.directory) for name in (VIEW, *program.streams)
        }
        self.replay = Replay(program, lambda name, _partition: [self.sinks[name]])

    def run(self) -> None:
        try:
            for step in self.case.steps:
                _STEPS[step.do](self, step)
        finally:
            for sink in self.sinks.values():
                sink.close()

    # -- steps

    def feed(self, step: Step) -> None:
        feeds = [self.case.feed(name) for name in step.feeds]
        exporters = self.replay.collector.exporters
        played = {f.id: play(self.case, f, exporters, self.ports) for f in feeds}
        memory = 0
        merged = merge_captures([one for playing in played.values() for one in playing])
        for n, batch in enumerate(merged):
            if isinstance(batch, SegmentBatch):
                self._receive(batch)
            else:
                self.replay.feed(batch)
            self.clock = max(self.clock, int(batch.arrival[-1]))
            self._take()
            if n <= WARM:
                memory = _memory()
        self.grown = _memory() - memory
        captures = {f: [c for p in playing for c in _captures(p)] for f, playing in played.items()}
        for feed in feeds:
            for capture in captures[feed.id]:
                self.sessions[feed.id] |= capture.sessions
            if feed.after_last_packet == "close":
                self._close(feed.id)
        self.replay.end_of_input()
        readers = [c.reader for some in captures.values() for c in some]
        self.captures = [r.report.fault for r in readers if r.report.cut_off]
        self.rows = self.sinks[VIEW].take()

    @property
    def routes(self) -> RouteReplay:
        """What takes the sessions of feeds."""
        assert self.replay.routes is not None, "feeds have sessions where there is a listener"
        return self.replay.routes

    def _receive(self, batch: SegmentBatch) -> None:
        """Hand on payloads in the order of the file, whatever their sequence numbers are."""
        for i in range(len(batch)):
            now_ns = int(batch.arrival[i])
            self.routes.collector.advance(now_ns)
            if batch.length[i]:
                address = address_text(int(batch.source_hi[i]), int(batch.source_lo[i]))
                self.routes.receive(
                    PROTOCOLS[batch.port[i]],
                    address,
                    int(batch.source_port[i]),
                    batch.payload(i),
                    now_ns,
                )

    def _take(self) -> None:
        """Keep the records of the streams that the case expects something of."""
        if self.replay.routes is None:
            return
        self.routes.collector.flush(self.clock)
        self.routes.collector.store()
        wanted = {step.stream for step in self.case.steps if step.do == "expect"}
        for stream in self.variant.collector.streams:
            if stream in STREAMS:
                rows = self.sinks[STREAMS[stream]].take()
                if stream in wanted:
                    self.streams[stream] += [r for r in rows if r.get("event_type") != OPTIONAL]

    def _close(self, feed: str) -> None:
        for session in self.sessions.pop(feed, ()):
            self.closed += 1
            self.routes.close(session.protocol, session.address, session.port, self.clock)
        self._take()

    def hang_up(self, step: Step) -> None:
        for feed in step.feeds:
            self._close(feed)

    def advance_to(self, step: Step) -> None:
        for now_ns in dump_clock(self.variant, step.clock, self.clock):
            self.clock = now_ns
            self.routes.collector.advance(now_ns)
        self._take()

    def expect_sessions_closed(self, step: Step) -> None:
        status = self.routes.collector.status()
        still_open = status["bgp_sessions"] + status["bmp_sessions"]
        if self.closed != step.count or still_open:
            self.faults.append(
                f"{self.closed} sessions closed instead of {step.count}, {still_open} open"
            )

    def expect_memory_below(self, step: Step) -> None:
        """Growth while feeds were replayed: what an interpreter takes is no leak."""
        if self.grown > step.upstream_limit_mib * _MIB:
            self.faults.append(
                f"memory grew by {self.grown // _MIB} MiB, allowed {step.upstream_limit_mib}"
            )

    def expect(self, step: Step) -> None:
        wanted, ignore = self.case.expected(self.variant, step.ref), self.case.ignored(step)
        rows = self.streams[step.stream] if step.stream in STREAMS else self.rows
        comparison = compare(
            rows,
            wanted,
            ignore,
            many_to_one=step.match == "many_to_one",
            max_copies=step.max_copies,
        )
        if step.stream in STREAMS:
            # A collector may tell early what a reference shows behind a later step.
            left = surplus(rows, wanted, ignore)
            self.streams[step.stream] = left if self.case.wanted_later(step) else []
            if self.case.wanted_later(step) and not comparison.missing:
                return
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
    "hang_up": Driver.hang_up,
    "advance_to": Driver.advance_to,
    "expect_sessions_closed": Driver.expect_sessions_closed,
    "expect_memory_below": Driver.expect_memory_below,
}


def _captures(playing: Playing | Repeated) -> list[Playing]:
    return playing.captures if isinstance(playing, Repeated) else [playing]


def _memory() -> int:
    """Octets of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _untold(driver: Driver, event: dict[str, Any]) -> str:
    """A replay listens to nothing; of sessions the streams tell."""
    del driver, event
    return ""


def _loaded(driver: Driver, event: dict[str, Any]) -> str:
    """Counts of entries are pmacct's own: it counts rows by address family."""
    return "" if event["map"] in driver.maps else f"no {event['map']} map is loaded"


def _flushed(driver: Driver, event: dict[str, Any]) -> str:
    lines = len(driver.rows)
    return "" if lines == event["lines"] else f"{lines} lines flushed instead of {event['lines']}"


_EVENTS: dict[str, Callable[[Driver, dict[str, Any]], str]] = {
    "listening": _untold,
    "map.loaded": _loaded,
    "flow.flushed": _flushed,
    "bgp.session_opened": _untold,
    "bgp.session_closed": _untold,
    "bgp.duplicate_refused": _untold,
    "bgp.open": _untold,
    "bgp.capability": _untold,
    "bgp.dump_started": _untold,
    "bmp.limit": _untold,
    "bmp.session_opened": _untold,
    "bmp.session_closed": _untold,
    "bmp.dump_started": _untold,
}


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
