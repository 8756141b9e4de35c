"""The looking glass in messages of `flowray.v1`: a request in, responses out. Knows no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowray.errors import FlowrayError
from flowray.pb import rib_pb2 as pb
from flowray.rib import looking_glass as glass
from flowray.rib.looking_glass import (
    Ask,
    LabelOf,
    PayloadsNow,
    PeerStatus,
    TableStatus,
    TakenRoutes,
)
from flowray.rib.route_query import QueryError, lookup_query, read_query
from flowray.rib.table_diff import Difference, differences
from flowray.route_fields import ROUTE_FIELDS
from flowray.sinks.encoding import Encoding
from flowray.sinks.render import render
from flowray.wire.bgp.distinguisher import rd_text

__all__ = ["Answers", "BusyError", "Moment", "TablesAt", "no_tables"]


class Moment(NamedTuple):
    """Tables as they were at a time, 0 where that is not known."""

    ask: Ask
    time_ns: int = 0


TablesAt = Callable[[str], Moment]
"""The tables of a time that an operator names; raises QueryError if there are none."""


class BusyError(FlowrayError):
    """A question that must wait for another one of its kind."""


ROWS = 1000
"""Rows in a message: well below the 4 MiB that clients of gRPC take."""

_ENCODING = Encoding(records="rows")
_FIELDS = [f for f in ROUTE_FIELDS.public() if f.name in pb.Route.DESCRIPTOR.fields_by_name]


def no_tables(time: str) -> Moment:
    """The tables of any time where none are kept."""
    raise QueryError(f"time: found {time[:100]!r}, and no tables of the past are kept")


class Answers:
    """Answers requests about the tables of one RIB, in whatever thread asks.

    All raise QueryError for a request that makes no sense, and what `ask` raises.
    """

    def __init__(
        self,
        ask: Ask,
        label: LabelOf = glass.no_label,
        tables_at: TablesAt = no_tables,
        payloads: PayloadsNow = lambda: glass.NO_PAYLOADS,
    ) -> None:
        self._ask, self._label, self._tables_at = ask, label, tables_at
        self._payloads = payloads
        self._comparing = Lock()

    def peers(self, request: pb.PeersRequest) -> pb.PeersResponse:
        """All peers and their tables."""
        del request
        statuses: list[PeerStatus] = self._ask(glass.peer_statuses)
        return pb.PeersResponse(peers=map(_peer, statuses))

    def lookup(self, request: pb.LookupRequest) -> pb.LookupResponse:
        """The routes that match an address."""
        query = lookup_query(
            request.address, peer=request.peer, rd=request.rd, everything=request.all
        )
        response = pb.LookupResponse()
        for found in glass.answer(self._ask, query):
            response.routes.extend(self._routes(found))
        return response

    def routes(self, request: pb.RoutesRequest) -> Iterator[pb.RoutesResponse]:
        """Routes by their conditions."""
        query = read_query(
            peer=request.peer,
            prefix=request.prefix,
            longer=request.longer,
            as_path=request.as_path,
            communities=request.communities,
            rd=request.rd,
            family=request.family,
            limit=request.limit,
        )
        for found in glass.answer(self._ask, query):
            for begin in range(0, len(found), ROWS):
                part = found.take(np.arange(begin, min(begin + ROWS, len(found))))
                yield pb.RoutesResponse(routes=self._routes(part))

    def diff(self, request: pb.DiffRequest) -> Iterator[pb.DiffResponse]:
        """What is different between the tables of two times; the first response says which were
        found. One at a time, for it needs the memory of two RIBs: raises BusyError.
        """
        if not self._comparing.acquire(blocking=False):
            raise BusyError("another comparison is made: ask again")
        try:
            query = read_query(peer=request.peer)
            before, after = self._at(request.before), self._at(request.after)
            yield pb.DiffResponse(before_ns=before.time_ns, after_ns=after.time_ns)
            for found in differences(before.ask, after.ask, query):
                for begin in range(0, len(found), ROWS):
                    yield pb.DiffResponse(changes=self._changes(found, slice(begin, begin + ROWS)))
        finally:
            self._comparing.release()

    def _at(self, time: str) -> Moment:
        return Moment(self._ask) if time == "now" else self._tables_at(time)

    def _changes(self, found: Difference, part: slice) -> Iterator[pb.Change]:
        old = self._side(found.routes_before, found.before[part])
        new = self._side(found.routes_after, found.after[part])
        return (pb.Change(before=b, after=a) for b, a in zip(old, new, strict=True))

    def _side(
        self, routes: TakenRoutes | None, index: npt.NDArray[Any]
    ) -> Iterator[pb.Route | None]:
        """The routes at `index`, None where that is -1."""
        there = index >= 0
        found = iter(()) if routes is None else self._routes(routes.take(index[there]))
        return (next(found) if is_there else None for is_there in there.tolist())

    def _routes(self, routes: TakenRoutes) -> Iterator[pb.Route]:
        if not len(routes):
            return iter(())
        return _messages(glass.rows_of(routes, self._label, self._payloads()))


def _messages(rows: pa.Table) -> Iterator[pb.Route]:
    """Rendered rows of routes; a message has what is not null."""
    rendered = render(rows, _FIELDS, _ENCODING)
    names = [n for n in rendered.column_names if rendered[n].null_count < rendered.num_rows]
    columns = [rendered[name].to_pylist() for name in names]
    for values in zip(*columns, strict=True):
        yield pb.Route(**dict(zip(names, values, strict=True)))


def _peer(status: PeerStatus) -> pb.Peer:
    peer = status.peer
    return pb.Peer(
        protocol=peer.protocol,
        router=peer.router,
        port=peer.port,
        address=peer.address,
        asn=peer.asn,
        bgp_id=peer.bgp_id,
        view=peer.view.label,
        rd=rd_text(peer.instance_rd) if peer.instance_rd else "",
        state="up" if status.up else "down",
        stale=status.stale,
        routes=sum(table.routes for table in status.tables),
        octets=sum(table.octets for table in status.tables),
        tables=map(_table, status.tables),
        since_ns=status.since_ns or None,
    )


def _table(status: TableStatus) -> pb.Table:
    return pb.Table(
        family=status.family.name,
        afi=status.family.afi,
        safi=status.family.safi,
        routes=status.routes,
        octets=status.octets,
        end_of_rib=status.end_of_rib,
        add_path=status.add_path,
    )
