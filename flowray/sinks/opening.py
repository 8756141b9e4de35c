"""Sinks of a configuration, opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from flowray.errors import ConfigError
from flowray.field import Field
from flowray.settings.compile import Program
from flowray.settings.model import FileSink as FileSinkSettings
from flowray.settings.routes import RouteDump
from flowray.sinks.base import Sink
from flowray.sinks.encoding import Encoding
from flowray.sinks.files import FileKind, FileSink, OneFileSink


def open_sinks(program: Program, view: str) -> dict[str, Sink]:
    """The sinks that a view names, rehearsed. Raises ConfigError for paths that cannot serve."""
    settings = next(v for v in program.settings.views if v.name == view)
    opened = program.settings.sinks
    return {name: _open(program, view, opened[name], name) for name in settings.sinks}


def check_sinks(program: Program, file: str) -> None:
    """Raises ConfigError, with the place in `file`, for a sink that could not serve its views or
    streams.

    Sinks on object storage are left to the start: opening them asks the network.
    """
    for view in program.settings.views:
        for name in view.sinks:
            sink = program.settings.sinks[name]
            if "://" not in sink.path:
                _placed(partial(_open, program, view.name, sink, name), sink, name, file)
    for stream, settings in program.streams.items():
        for name in settings.sinks:
            sink = program.settings.sinks[name]
            if "://" not in sink.path:
                _placed(partial(_open_for, program, stream, name), sink, name, file)


def _placed(opening: Callable[[], Sink], sink: FileSinkSettings, name: str, file: str) -> None:
    try:
        opening()
    except ConfigError as error:
        option = error.place.rpartition(".")[2]
        if option == "path" and sink.name is not None:
            option = "name"
        raise replace(error, file=file, place=f"sinks.{name}.{option}") from None


def _open(program: Program, view: str, sink: FileSinkSettings, name: str) -> Sink:
    plan = next(p for p in program.views if p.name == view)
    return _open_file(
        sink,
        program.output_fields(view),
        program.encoding(view),
        window_ns=plan.windows.width if plan.windows else None,
        views=_users(program, name),
        partitions=plan.partitions,
    )


def _users(program: Program, sink: str) -> int:
    """Views and streams that write to a sink."""
    used = [view.sinks for view in program.settings.views]
    used += [stream.sinks for stream in program.streams.values()]
    return sum(sink in sinks for sinks in used)


def _open_file(
    sink: FileSinkSettings,
    fields: list[Field],
    encoding: Encoding,
    *,
    window_ns: int | None,
    views: int,
    partitions: int,
) -> FileSink:
    path = sink.path if sink.name is None else f"{sink.path.rstrip('/')}/{sink.name}"
    opened = FileSink(
        sink.type,
        path,
        fields,
        encoding,
        window_ns=window_ns,
        views=views,
        partitions=partitions,
        latest=sink.latest,
        append=sink.append,
    )
    opened.rehearse()
    return opened


def open_stream(program: Program, stream: str) -> list[Sink]:
    """The sinks that a stream of routes names, rehearsed. Raises ConfigError."""
    return [_open_for(program, stream, name) for name in program.streams[stream].sinks]


def _open_for(program: Program, stream: str, sink: str) -> Sink:
    settings = program.streams[stream]
    return _open_file(
        program.settings.sinks[sink],
        program.stream_fields(stream),
        program.stream_encoding(stream),
        window_ns=settings.every if isinstance(settings, RouteDump) else None,
        views=_users(program, sink),
        partitions=max(len(program.settings.route_groups), 1),
    )


def one_stream_file(program: Program, stream: str, directory: Path, kind: FileKind) -> OneFileSink:
    """All rows of a stream in `directory`/<stream>.<kind>. Raises SinkError."""
    fields, encoding = program.stream_fields(stream), program.stream_encoding(stream)
    return OneFileSink(directory / f"{stream}.{kind}", kind, fields, encoding)


def one_file(program: Program, view: str, directory: Path, kind: FileKind) -> OneFileSink:
    """All rows of a view in `directory`/<view>.<kind>. Raises SinkError if it cannot be made."""
    fields = program.output_fields(view)
    return OneFileSink(directory / f"{view}.{kind}", kind, fields, program.encoding(view))
