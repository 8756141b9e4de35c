"""Sinks of a configuration, opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flowray.errors import ConfigError
from flowray.field import Field
from flowray.settings.compile import Program
from flowray.settings.model import FileSink as FileSinkSettings
from flowray.settings.routes import RouteDump
from flowray.sinks.base import Sink
from flowray.sinks.encoding import Encoding
from flowray.sinks.files import FileKind, FileSink, OneFileSink


def open_sinks(program: Program, view: str) -> list[Sink]:
    """The sinks that a view names, rehearsed. Raises ConfigError for names that cannot serve."""
    settings = next(v for v in program.settings.views if v.name == view)
    return [_open(program, view, program.settings.sinks[name], name) for name in settings.sinks]


def check_sinks(program: Program, file: str) -> None:
    """Raises ConfigError, with the place in `file`, for a sink that could not serve its views.

    Sinks on object storage are left to the start: opening them asks the network.
    """
    for view in program.settings.views:
        for name in view.sinks:
            sink = program.settings.sinks[name]
            if "://" not in sink.path:
                _placed(program, view.name, sink, name, file)


def _placed(program: Program, view: str, sink: FileSinkSettings, name: str, file: str) -> None:
    try:
        _open(program, view, sink, name)
    except ConfigError as error:
        option = error.place.rpartition(".")[2]
        if option == "path" and sink.name is not None:
            option = "name"
        raise replace(error, file=file, place=f"sinks.{name}.{option}") from None


def _open(program: Program, view: str, sink: FileSinkSettings, name: str) -> Sink:
    plan = next(p for p in program.views if p.name == view)
    users = sum(name in v.sinks for v in program.settings.views)
    return _open_file(
        sink,
        program.output_fields(view),
        program.encoding(view),
        window_ns=plan.windows.width if plan.windows else None,
        views=users,
        partitions=plan.partitions,
    )


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
    settings = program.streams[stream]
    window = settings.every if isinstance(settings, RouteDump) else None
    users = sum(name in s.sinks for s in program.streams.values() for name in settings.sinks)
    return [
        _open_file(
            program.settings.sinks[name],
            program.stream_fields(stream),
            program.stream_encoding(stream),
            window_ns=window,
            views=users,
            partitions=max(len(program.settings.route_groups), 1),
        )
        for name in settings.sinks
    ]


def one_stream_file(program: Program, stream: str, directory: Path, kind: FileKind) -> OneFileSink:
    """All rows of a stream in `directory`/<stream>.<kind>. Raises SinkError."""
    fields, encoding = program.stream_fields(stream), program.stream_encoding(stream)
    return OneFileSink(directory / f"{stream}.{kind}", kind, fields, encoding)


def one_file(program: Program, view: str, directory: Path, kind: FileKind) -> OneFileSink:
    """All rows of a view in `directory`/<view>.<kind>. Raises SinkError if it cannot be made."""
    fields = program.output_fields(view)
    return OneFileSink(directory / f"{view}.{kind}", kind, fields, program.encoding(view))
