"""`flowray replay ARCHIVE`: the shards of then given what they were given, here or on Ray."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path

from cluster.replay import Wanted, sinks_for
from cluster.replay_workers import merged
from cluster.runtime import own_runtime
from cluster.topology import absolute
from flowray.archive.life import END, Span
from flowray.archive.place import Place
from flowray.archive.replay import ArchiveReplay
from flowray.errors import ConfigError
from flowray.replay import HAND_OVER_ROWS, Summary, summarise
from flowray.rib.history import read_time
from flowray.rib.route_query import QueryError
from flowray.settings.compile import Program
from flowray.sinks.files import FileKind
from flowray.views.aggregate import Aggregator

WORKER = "0"


def replay_archive(
    program: Program, path: str, wanted: Wanted, out: Path | None, kind: FileKind, workers: int
) -> Summary:
    """Replay on a Ray of its own, or with no workers in this process. Raises CaptureError for what
    is no archive, or lacks the routes that flows were joined with.
    """
    span = span_of(wanted)
    if workers:
        with own_runtime(absolute(program.settings), cores=workers):
            return replay_archive_on(program, path, span, out, kind, workers)
    return replay_archive_here(program, path, span, out, kind)


def span_of(wanted: Wanted) -> Span:
    """What an operator asks for. Raises ConfigError."""
    exporters = []
    for text in wanted.exporters:
        try:
            exporters.append(str(ipaddress.ip_address(text)))
        except ValueError:
            raise ConfigError("replay", "--exporter", repr(text), "an address") from None
    begin = _time("--from", wanted.begin) if wanted.begin else 0
    end = _time("--to", wanted.end) if wanted.end else END
    if begin >= end:
        raise ConfigError("replay", "--to", repr(wanted.end), "a time after --from")
    return Span(begin, end, frozenset(exporters))


def _time(option: str, text: str) -> int:
    try:
        return read_time(text, time.time_ns())
    except QueryError as error:
        raise ConfigError("replay", option, repr(text), str(error)) from None


def replay_archive_here(
    program: Program, path: str, span: Span, out: Path | None, kind: FileKind
) -> Summary:
    """Replay in this process."""
    started = (time.monotonic(), time.process_time())
    run = ArchiveReplay(program, Place(path), span)
    outputs = sinks_for(program, out, kind)
    with outputs.discarded_on_error():
        aggregators = {
            (plan.name, p): Aggregator(plan, outputs(plan.name, p), p, [WORKER])
            for plan in program.views
            for p in range(plan.partitions)
        }
        while run.more:
            run.steps(HAND_OVER_ROWS)
            for partial in run.hand_over():
                aggregators[partial.view, partial.partition].merge(partial)
            for aggregator in aggregators.values():
                aggregator.advance()
    for aggregator in aggregators.values():
        aggregator.close()
    made = list(aggregators.values())
    summary = summarise([run.ledger()], run.sets_held, made, started)
    summary.captures, summary.missing = run.reports(), run.missing
    return summary


def replay_archive_on(
    program: Program, path: str, span: Span, out: Path | None, kind: FileKind, workers: int
) -> Summary:
    """Replay on the Ray that this process is connected to."""
    from actors.replay_archive import ReplayArchiveActor

    settings = absolute(program.settings)
    where = path if "://" in path else str(Path(path).absolute())
    actors = [ReplayArchiveActor.remote(settings, where, span, n, workers) for n in range(workers)]
    return merged(program, actors, out, kind, quiet=True)
