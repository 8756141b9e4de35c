"""`flowray rib`: the looking glass, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
import typer

from flowray.errors import FlowrayError
from flowray.pb import rib_pb2 as pb
from flowray.pb import rib_pb2_grpc

ANSWER_SECONDS = 60
PIPE_WIDTH = 240
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 1 << 30),
)

_Answer = TypeVar("_Answer")

Row: TypeAlias = dict[str, Any]


class RibError(FlowrayError):
    """A looking glass that gives no answer."""


class _NotHereError(RibError):
    """A peer that this group has not."""


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

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self._stub, self._address = rib_pb2_grpc.RibStub(channel), address

    def peers(self, request: pb.PeersRequest) -> pb.PeersResponse:
        found: pb.PeersResponse = self._one(self._stub.Peers, request)
        return found

    def lookup(self, request: pb.LookupRequest) -> pb.LookupResponse:
        found: pb.LookupResponse = self._one(self._stub.Lookup, request)
        return found

    def routes(self, request: pb.RoutesRequest) -> Iterator[pb.RoutesResponse]:
        return self._many(self._stub.Routes, request)

    def diff(self, request: pb.DiffRequest) -> Iterator[pb.DiffResponse]:
        return self._many(self._stub.Diff, request)

    def _one(self, call: Any, request: Any) -> Any:
        try:
            return call(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            raise _told(error, self._address) from None

    def _many(self, call: Any, request: Any) -> Iterator[Any]:
        try:
            yield from call(request)
        except grpc.RpcError as error:
            raise _told(error, self._address) from None


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
            yield [_of_files(self.file)]
            return
        with ExitStack() as open_channels:
            glasses: list[Glass] = []
            for address in self._addresses():
                channel = open_channels.enter_context(grpc.insecure_channel(address, _OPTIONS))
                glasses.append(_Remote(channel, address))
            yield glasses

    def _addresses(self) -> list[str]:
        """One a RIB group."""
        if self.address is not None:
            return [self.address]
        from flowray.settings.load import load_settings
        from flowray.settings.routes import Routes

        if self.config is None:
            return [Routes().looking_glass or ""]
        groups = load_settings(self.config).route_groups
        found = [group.looking_glass for group in groups if group.looking_glass is not None]
        if not found:
            raise RibError(f"{self.config}: no group of routes has a looking glass")
        return found


def _of_files(file: Path | None = None) -> Glass:
    """Answers about the tables of a file; as times it takes names of files."""
    from flowray.rib.glass_answers import Answers, Moment
    from flowray.rib.looking_glass import asking
    from flowray.rib.rib import Rib
    from flowray.rib.route_files import read_tables

    rib = Rib() if file is None else read_tables(file)
    return Answers(asking(rib), tables_at=lambda name: Moment(asking(read_tables(Path(name)))))


def _told(error: Any, address: str) -> RibError:
    """What a call ended with, in one line."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return RibError(f"no looking glass answers at {address}: {_line(error.details())}")
    kind = _NotHereError if error.code() is grpc.StatusCode.NOT_FOUND else RibError
    return kind(_line(error.details()))


def _line(text: str) -> str:
    return " ".join(text.split())


def _of_all(
    glasses: Sequence[Glass], ask: Callable[[Glass], Iterable[_Answer]]
) -> Iterator[_Answer]:
    """What all groups answer; that some have not the peer does not matter."""
    missing: list[RibError] = []
    for glass in glasses:
        try:
            yield from ask(glass)
        except _NotHereError as error:
            missing.append(error)
    if len(missing) == len(glasses):
        raise missing[0]


# -- verbs -----------------------------------------------------------------------------------------


def peers(source: Source, *, as_json: bool) -> None:
    """All peers and their tables."""
    with source.glasses() as glasses:
        found = list(_of_all(glasses, lambda glass: glass.peers(pb.PeersRequest()).peers))
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
        rows = list(map(_row, _of_all(glasses, lambda glass: glass.lookup(request).routes)))
    _print_routes(rows, as_json=as_json)


def routes(source: Source, request: pb.RoutesRequest, *, as_json: bool) -> None:
    """Routes by their conditions."""
    limit = request.limit
    if limit:
        request.limit += 1
    with source.glasses() as glasses:
        answers = _of_all(glasses, lambda glass: glass.routes(request))
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
        answers = _of_all(glasses, lambda glass: glass.diff(request))
        _print_changes(answers, as_json=as_json)


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
    if as_json:
        _print_json(_change(change) for answer in answers for change in answer.changes)
        return
    from cluster.rib_tables import changes_table

    whole = pb.DiffResponse()
    for answer in answers:
        whole.MergeFrom(answer)
    times = (whole.before_ns, whole.after_ns)
    _show(changes_table([_change(change) for change in whole.changes], times))


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
