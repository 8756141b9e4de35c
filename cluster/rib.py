"""`flowray rib`: the looking glass, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import grpc
import typer

from flowray.errors import FlowrayError
from flowray.pb import rib_pb2 as pb
from flowray.pb import rib_pb2_grpc
from flowray.settings.load import load_settings
from flowray.settings.routes import Routes

ANSWER_SECONDS = 60
PIPE_WIDTH = 240
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 1 << 30),
)

Row: TypeAlias = dict[str, Any]


class RibError(FlowrayError):
    """A looking glass that gives no answer."""


class Glass(Protocol):
    """What answers: one RIB group that runs, or a file."""

    def peers(self, request: pb.PeersRequest) -> pb.PeersResponse:
        """All peers and their tables."""

    def lookup(self, request: pb.LookupRequest) -> pb.LookupResponse:
        """The routes that match an address."""

    def routes(self, request: pb.RoutesRequest) -> Iterable[pb.RoutesResponse]:
        """Routes by their conditions."""

    def diff(self, request: pb.DiffRequest) -> Iterable[pb.DiffResponse]:
        """What is different between the tables of two times."""


class _Remote:
    """The looking glass at an address."""

    def __init__(self, channel: grpc.Channel) -> None:
        stub = rib_pb2_grpc.RibStub(channel)
        self.peers = _within(stub.Peers)
        self.lookup = _within(stub.Lookup)
        self.routes = stub.Routes
        self.diff = stub.Diff


def _within(call: Any) -> Callable[[Any], Any]:
    return lambda request: call(request, timeout=ANSWER_SECONDS)


@dataclass(frozen=True, slots=True)
class Source:
    """Where answers come from, as the command line says it: a file, an address, or what the
    configuration names.
    """

    config: Path | None = None
    address: str | None = None
    file: Path | None = None

    @contextmanager
    def glasses(self) -> Iterator[list[Glass]]:
        """All that are to be asked. Raises FlowrayError, also for what they answer."""
        if self.file is not None:
            yield [_of_file(self.file)]
            return
        address = self._address()
        with grpc.insecure_channel(address, _OPTIONS) as channel:
            try:
                yield [_Remote(channel)]
            except grpc.RpcError as error:
                raise _told(error, address) from None

    def _address(self) -> str:
        if self.address is not None:
            return self.address
        routes = Routes() if self.config is None else load_settings(self.config).routes
        if routes.looking_glass is None:
            raise RibError(f"{self.config}: routes.looking_glass: null, so nobody can be asked")
        return routes.looking_glass


def _of_file(file: Path) -> Glass:
    from flowray.rib.glass_answers import Answers
    from flowray.rib.route_files import ask_file

    return Answers(ask_file(file))


def _told(error: Any, address: str) -> RibError:
    """What a call ended with, in one line."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return RibError(f"no looking glass answers at {address}: {_line(error.details())}")
    return RibError(_line(error.details()))


def _line(text: str) -> str:
    return " ".join(text.split())


# -- verbs -----------------------------------------------------------------------------------------


def peers(source: Source, *, as_json: bool) -> None:
    """All peers and their tables."""
    with source.glasses() as glasses:
        found = [peer for glass in glasses for peer in glass.peers(pb.PeersRequest()).peers]
    if as_json:
        _print_json(_whole(peer) for peer in found)
        return
    from cluster.rib_tables import peers_table

    _show(peers_table(found))


def lookup(
    source: Source, address: str, peer: str, rd: str, *, everything: bool, as_json: bool
) -> None:
    """The routes that match an address."""
    request = pb.LookupRequest(address=address, peer=peer, rd=rd, all=everything)
    with source.glasses() as glasses:
        rows = [_row(r) for glass in glasses for r in glass.lookup(request).routes]
    _print_routes(rows, as_json=as_json)


def routes(source: Source, request: pb.RoutesRequest, *, as_json: bool) -> None:
    """Routes by their conditions."""
    limit = request.limit
    if limit:
        request.limit += 1
    with source.glasses() as glasses:
        answers = chain.from_iterable(glass.routes(request) for glass in glasses)
        rows = (_row(route) for answer in answers for route in answer.routes)
        _print_routes(islice(rows, limit) if limit else rows, as_json=as_json)
        if limit and next(rows, None) is not None:
            typer.echo(f"flowray: more than {limit} routes; --limit 0 gives all", err=True)


def diff(source: Source, before: str, after: str, peer: str, *, as_json: bool) -> None:
    """What is different between the tables of two times, or of two files."""
    files = [Path(before), Path(after)]
    there = [file.is_file() for file in files]
    request = pb.DiffRequest(before=before, after=after, peer=peer)
    if all(there):
        _print_changes(_of_files().diff(request), as_json=as_json)
        return
    if any(there):
        raise RibError("diff: found a file beside a time; allowed two files or two times")
    with source.glasses() as glasses:
        answers = chain.from_iterable(glass.diff(request) for glass in glasses)
        _print_changes(answers, as_json=as_json)


def _of_files() -> Glass:
    from flowray.rib.glass_answers import Answers
    from flowray.rib.rib import Rib
    from flowray.rib.route_files import ask_file

    return Answers(lambda question: question(Rib()), tables_at=lambda name: ask_file(Path(name)))


# -- what is printed -------------------------------------------------------------------------------


def _whole(message: Any) -> Row:
    """A message with all its fields, those that have not been set as well."""
    row: Row = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            value = None
        elif field.message_type is not None:
            value = [_whole(item) for item in value]
        row[field.name] = value
    return row


def _row(route: pb.Route) -> Row:
    """A route with what it has, the fields of an NLRI among them."""
    row: Row = {field.name: value for field, value in route.ListFields()}
    row.update(json.loads(row.pop("nlri_detail", "{}")))
    return row


def _print_json(rows: Iterable[Row]) -> None:
    """One array, a line an item, written as they come."""
    begin = "["
    for row in rows:
        typer.echo(begin + json.dumps(row))
        begin = ","
    typer.echo("[]" if begin == "[" else "]")


def _print_routes(rows: Iterable[Row], *, as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    from cluster.rib_tables import routes_table

    _show(routes_table(list(rows)))


def _print_changes(answers: Iterable[pb.DiffResponse], *, as_json: bool) -> None:
    changes = (_change(change) for answer in answers for change in answer.changes)
    if as_json:
        _print_json(changes)
        return
    from cluster.rib_tables import changes_table

    _show(changes_table(list(changes)))


def _change(change: pb.Change) -> Row:
    before = _row(change.before) if change.HasField("before") else None
    after = _row(change.after) if change.HasField("after") else None
    kind = "added" if before is None else "removed" if after is None else "changed"
    return {"change": kind, "before": before, "after": after}


def _show(table: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)
