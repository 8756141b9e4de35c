"""`flowray replay`: captures through a configuration, in this process or on Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from flowray.errors import ConfigError
from flowray.replay import Replay, SinkFor, Summary
from flowray.rib.replay import route_ports
from flowray.settings.compile import Program, compile_settings
from flowray.settings.defaults import DEFAULT
from flowray.settings.load import load_settings, parse_settings
from flowray.sinks.base import Sink
from flowray.sinks.files import FileKind, OneFileSink
from flowray.sinks.opening import (
    check_sinks,
    one_file,
    one_stream_file,
    open_sinks,
    open_stream,
)
from flowray.wire.bgp.mrt import is_mrt
from flowray.wire.capture_merge import merge_captures
from flowray.wire.packets import Exporters
from flowray.wire.pcap import CaptureReader
from flowray.wire.segments import Batch

EXIT_UNSTORED = 2

PACKETS_PER_BATCH = 8192
"""Small enough that the columns of a batch stay in the processor's cache."""


def load_program(config: Path | None) -> Program:
    """The compiled configuration, or the built-in one. Raises ConfigError."""
    if config is None:
        return compile_settings(parse_settings(DEFAULT, "built-in configuration"), "built-in")
    program = compile_settings(load_settings(config), str(config))
    check_sinks(program, str(config))
    return program


class Outputs:
    """Sinks by view: the configured ones, or one file a view in `out`."""

    def __init__(self, program: Program, out: Path | None, kind: FileKind) -> None:
        self._program, self._out, self._kind = program, out, kind
        self._sinks: dict[str, list[Sink]] = {}

    def __call__(self, view: str, partition: int) -> Sequence[Sink]:
        """The sinks of a view's partition: partitions share them."""
        del partition
        if view not in self._sinks:
            self._sinks[view] = self._open(view)
        return self._sinks[view]

    def _open(self, view: str) -> list[Sink]:
        if view in self._program.streams:
            if self._out is None:
                return open_stream(self._program, view)
            return [one_stream_file(self._program, view, self._out, self._kind)]
        if self._out is None:
            return list(open_sinks(self._program, view).values())
        return [one_file(self._program, view, self._out, self._kind)]

    @contextmanager
    def discarded_on_error(self) -> Iterator[None]:
        """Leave no half-written files behind what fails."""
        try:
            yield
        except BaseException:
            for sink in (s for sinks in self._sinks.values() for s in sinks):
                if isinstance(sink, OneFileSink):
                    sink.discard()
            raise


def sinks_for(program: Program, out: Path | None, kind: FileKind) -> Outputs:
    """Sinks by view: the configured ones, or one file a view in `out`."""
    return Outputs(program, out, kind)


class Captures:
    """The captures of a replay, merged by capture time, with their progress."""

    def __init__(
        self, paths: Sequence[Path], exporters: Exporters, tcp_ports: frozenset[int] = frozenset()
    ) -> None:
        """Raises CaptureError for a file that cannot be read at all."""
        self.readers = [
            CaptureReader(path, exporters, None, PACKETS_PER_BATCH, tcp_ports=tcp_ports)
            for path in paths
        ]

    def __iter__(self) -> Iterator[Batch]:
        if len(self.readers) == 1:
            yield from self.readers[0]
        else:
            yield from merge_captures(self.readers)

    @property
    def octets(self) -> tuple[int, int]:
        """(read, in all)."""
        reports = [r.report for r in self.readers]
        return sum(r.bytes_read for r in reports), sum(r.total_bytes for r in reports)

    def reports(self) -> list[dict[str, Any]]:
        """What each capture held."""
        return [{"path": r.path, **asdict(r.report)} for r in self.readers]


def progress(captures: Captures, *, quiet: bool) -> Iterator[Batch]:
    """The batches of captures, behind a progress bar."""
    if quiet:
        yield from captures
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("replay"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("replay", total=captures.octets[1] or None)
        for batch in captures:
            yield batch
            bar.update(task, completed=captures.octets[0])


@dataclass(frozen=True, slots=True)
class Wanted:
    """The part of an archive that is asked for, as an operator says it."""

    begin: str = ""
    end: str = ""
    exporters: tuple[str, ...] = ()


def run(
    sources: Sequence[str],
    config: Path | None,
    out: Path | None,
    kind: FileKind,
    workers: int,
    wanted: Wanted,
    *,
    as_json: bool,
) -> None:
    """Replay and print the summary, as one JSON line last."""
    program = load_program(config)
    if archives := [source for source in sources if is_archive(source)]:
        from cluster.replay_archive import replay_archive

        if len(sources) > 1:
            raise ConfigError("replay", "input", archives[0], "one archive alone")
        summary = replay_archive(program, archives[0], wanted, out, kind, workers)
        _print(summary, as_json=as_json)
        return
    if wanted != Wanted():
        raise ConfigError("replay", "input", sources[0], "an archive, for --from, --to, --exporter")
    inputs = [Path(source) for source in sources]
    _check_inputs(program, inputs)
    if workers:
        from cluster.replay_workers import replay_on_ray

        summary = replay_on_ray(program, inputs, out, kind, workers, quiet=as_json)
    else:
        outputs = sinks_for(program, out, kind)
        with outputs.discarded_on_error():
            summary = replay_here(program, inputs, outputs, quiet=as_json)
    _print(summary, as_json=as_json)


def is_archive(source: str) -> bool:
    """Whether an input is an archive: a folder, or a URI."""
    return "://" in source or Path(source).is_dir()


def _check_inputs(program: Program, inputs: Sequence[Path]) -> None:
    """Raises ConfigError for an input that the configuration has no use for."""
    if program.join is None and (table := next(filter(is_mrt, inputs), None)) is not None:
        allowed = "an MRT file only where the configuration has listen.bgp, for its join"
        raise ConfigError("replay", "input", str(table), allowed)


def replay_here(
    program: Program, inputs: Sequence[Path], sinks: SinkFor, *, quiet: bool
) -> Summary:
    """Replay in this process."""
    run = Replay(program, sinks)
    tables = [path for path in inputs if is_mrt(path)]
    mrt = [run.add_mrt(path) for path in tables]
    inputs = [path for path in inputs if path not in tables]
    ports = frozenset(route_ports(program.settings))
    captures = Captures(inputs, run.collector.exporters, ports)
    for batch in progress(captures, quiet=quiet):
        run.feed(batch)
    summary = run.finish()
    summary.captures = captures.reports() + [
        {"path": file.reader.path, **asdict(file.reader.report)} for file in mrt
    ]
    return summary


def _print(summary: Summary, *, as_json: bool) -> None:
    for capture in summary.captures:
        if capture["cut_off"]:
            typer.echo(f"flowray: {capture['fault']}; read up to there", err=True)
    for problem in summary.problems:
        typer.echo(f"flowray: the ledger does not balance: {problem}", err=True)
    if not as_json:
        typer.echo(
            f"{summary.datagrams} datagrams, {summary.records} records, {summary.rows} rows in"
            f" {summary.seconds:.1f} s",
            err=True,
        )
    for loss in summary.unstored:
        typer.echo(f"flowray: {loss}", err=True)
    typer.echo(json.dumps(summary.to_dict()))
    if summary.unstored:
        # Nobody tries again when a replay has ended.
        raise typer.Exit(EXIT_UNSTORED)
