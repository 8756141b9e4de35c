"""The journal: what happens to routes and sessions becomes rows of message logs and table dumps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from flowray.maps import LabelMap
from flowray.rib.bmp_events import Marks
from flowray.rib.bmp_session import BmpSession
from flowray.rib.event_rows import BmpEvent, rows_of_event, time_of
from flowray.rib.next_hops import SharedNextHops, shown_attributes
from flowray.rib.peers import Peer
from flowray.rib.pending import PendingRows
from flowray.rib.rib import Changes, PeerTables, Removed, Rib
from flowray.rib.roa import RoaSet
from flowray.rib.route_marks import marks_of
from flowray.rib.row_states import row_states
from flowray.rib.rows import (
    Event,
    LogType,
    RdOrigin,
    Routes,
    bgp_rows,
    bmp_rows,
    event_rows,
)
from flowray.rib.streams import Stream
from flowray.rib.table import NONE, RouteTable
from flowray.rib.table_rows import bgp_peer, bmp_peer, distinguishers, routes_of_table
from flowray.route_fields import Protocol, RowKind
from flowray.wire.bgp.attributes import Attributes
from flowray.wire.bgp.events import Action, RouteEvents, Updates
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.packets import address_words

_LOG_TYPES = np.array([LogType.UPDATE, LogType.WITHDRAW, LogType.END_OF_RIB], np.uint8)
assert [Action.ANNOUNCE, Action.WITHDRAW, Action.END_OF_RIB] == [0, 1, 2]


MOST_PENDING = 1 << 14
"""Routes at which rows are made of them: enough to share what a table costs."""

MOST_EVENTS = 100_000
"""Events of BMP sessions that are kept for the next dump."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of routers by a label map, for the protocols that it applies to."""

    by_map: LabelMap | None = None
    protocols: frozenset[str] = frozenset()

    def of(self, protocol: str, router: str) -> str | None:
        """The label of a router, None where the map does not apply."""
        if self.by_map is None or protocol not in self.protocols:
            return None
        hi, lo = address_words(router)
        words = np.array([hi], np.uint64), np.array([lo], np.uint64)
        return self.by_map.labels(*words)[0].decode()


class Journal:
    """Writes streams: `<protocol>_log` and `<protocol>_dump`, those that are asked for."""

    def __init__(
        self,
        rib: Rib,
        streams: Mapping[str, Stream],
        labels: Labels,
        *,
        share_next_hops: bool = False,
        own_as: int = 0,
    ) -> None:
        """`share_next_hops`: write them in the form that pmacct would keep (`SharedNextHops`).
        `own_as` is the origin of routes whose AS path is empty.
        """
        self.roas: RoaSet | None = None
        """What the routes of rows are validated with."""
        self._rib, self._own_as = rib, own_as
        self._streams = streams
        self._pending = {name: PendingRows() for name in streams if name.endswith("_log")}
        self._label = lru_cache(maxsize=4096)(labels.of)
        self._events: defaultdict[tuple[str, int], list[tuple[RowKind, dict[str, object]]]]
        self._events = defaultdict(list)
        self.events_forgotten = 0
        self._next_hops: dict[str, SharedNextHops] = {}
        if share_next_hops:
            self._next_hops = {p: SharedNextHops() for p in ("bgp", "bmp")}

    def log(self, protocol: Protocol) -> Stream | None:
        """The message log of a protocol."""
        return self._streams.get(f"{protocol}_log")

    # -- message logs ------------------------------------------------------------------------------

    def opened(self, protocol: Protocol, router: str, port: int, now_ns: int) -> None:
        """A router connected."""
        if (stream := self.log(protocol)) is None:
            return
        row = {"event_type": "log_init", "timestamp": now_ns, "seq": stream.number(1)}
        kind = RowKind.BGP_SESSION if protocol == "bgp" else RowKind.BMP_SESSION
        self._pending[stream.name].add_event(kind, row | self._session(protocol, router, port))

    def changed(
        self,
        events: RouteEvents,
        changes: Changes,
        updates: Updates,
        marks: Marks | None = None,
    ) -> None:
        """UPDATEs were applied; `marks` are what BMP told of their routes."""
        if not changes.rows.size or not self._streams:
            return
        numbers, peer = np.unique(changes.peer, return_inverse=True)
        peers = [self._rib.peer(int(number)).peer for number in numbers]
        protocol, r = peers[0].protocol, changes.rows
        attributes = changes.attributes
        if protocol in self._next_hops:
            attributes = self._shared(protocol, changes, events.action[r])
        stream = self.log(protocol)
        if stream is None:
            return
        rd, rd_origin = distinguishers(peers, peer, events.rd[r], events.family[r])
        ends = events.action[r] == Action.END_OF_RIB
        own = ends & (rd_origin == RdOrigin.BGP)
        rd[own], rd_origin[own] = 0, RdOrigin.NONE
        n = r.size
        routes = Routes(
            peer=peer,
            family=events.family[r],
            rd=rd,
            rd_origin=rd_origin,
            path_id=events.path_id[r],
            hi=events.hi[r],
            lo=events.lo[r],
            plen=events.plen[r],
            labels=changes.labels,
            attributes=attributes,
            seq=np.arange(n, dtype=np.uint64) + np.uint64(stream.number(n)),
            time_ns=updates.time_ns[events.message[r]],
            log_type=_LOG_TYPES[events.action[r]],
            mark=None if marks is None else marks_of(marks, events)[r],
            nlri=(updates.buf, events.nlri_offset[r], events.nlri_length[r]),
        )
        self._add(stream, routes, peers)

    def removed(self, removed: Iterable[Removed], now_ns: int) -> None:
        """Routes went without being withdrawn."""
        for gone in removed:
            n, protocol, had = len(gone.rows), gone.peer.protocol, gone.rows.attributes
            if protocol in self._next_hops:
                had = self._next_hops[protocol].follow(
                    self._rib.store, self._rib.compactions, had, np.full(n, NONE, np.uint32)
                )
            if (stream := self.log(protocol)) is None:
                continue
            seq = np.arange(n, dtype=np.uint64) + np.uint64(stream.number(n))
            routes = routes_of_table(gone.peer, gone.family, gone.rows, gone.nlri, seq, now_ns)
            routes.log_type = np.full(n, LogType.DELETE, np.uint8)
            routes.attributes = had
            self._add(stream, routes, [gone.peer])

    def _add(self, stream: Stream, routes: Routes, peers: Sequence[Peer]) -> None:
        pending = self._pending[stream.name]
        pending.add_routes(routes, peers)
        if len(pending) >= MOST_PENDING:
            self.settle()

    def settle(self) -> None:
        """Make tables of the rows of message logs: attribute ids are about to change, or the rows
        are wanted.
        """
        for name, pending in self._pending.items():
            self._streams[name].add(pending.tables(self._log_rows))

    def _log_rows(self, routes: Routes, peers: Sequence[Peer]) -> pa.Table:
        return self._rows(routes, peers, "log")

    def _shared(
        self, protocol: Protocol, changes: Changes, action: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        """The attribute sets to be shown of what changed."""
        ends = action == Action.END_OF_RIB
        after = np.where(action == Action.ANNOUNCE, changes.attributes, np.uint32(NONE))
        before = np.where(ends, np.uint32(NONE), changes.before)
        shown = self._next_hops[protocol].follow(
            self._rib.store, self._rib.compactions, before, after
        )
        return np.where(ends, changes.attributes, shown)

    def bmp_event(self, session: BmpSession, event: BmpEvent, now_ns: int) -> None:
        """A router told something else than routes."""
        log, dump = self._streams.get("bmp_log"), self._streams.get("bmp_dump")
        if log is None and dump is None:
            return
        base = self._session("bmp", session.address, session.port)
        for kind, told in rows_of_event(event):
            row = told | base
            if log is not None:
                arrival = {"timestamp_arrival": now_ns} if time_of(event) else {}
                moment = {"timestamp": time_of(event), "seq": log.number(1)} | arrival
                self._pending[log.name].add_event(kind, row | moment | {"event_type": "log"})
            if dump is not None:
                self._keep(session, kind, row | {"timestamp_event": time_of(event)})

    def closed(self, session: BmpSession) -> None:
        """A session is over: no dump will tell its events."""
        self._events.pop((session.address, session.port), None)

    def _keep(self, session: BmpSession, kind: RowKind, row: dict[str, object]) -> None:
        kept = self._events[session.address, session.port]
        if len(kept) < MOST_EVENTS:
            kept.append((kind, row))
        else:
            self.events_forgotten += 1

    # -- dumps -------------------------------------------------------------------------------------

    def dump(
        self, protocol: Protocol, routers: Sequence[tuple[str, int]], now_ns: int,
        period_ns: int,
    ) -> None:  # fmt: skip
        """Write the tables of routers (address and port of their sessions) as they are."""
        stream = self._streams[f"{protocol}_dump"]
        for router, port in routers:
            stream.add(self._dumped(protocol, router, port, now_ns, period_ns))

    def _dumped(
        self, protocol: Protocol, router: str, port: int, now_ns: int, period_ns: int
    ) -> Iterator[pa.Table]:
        stream = self._streams[f"{protocol}_dump"]
        base = self._session(protocol, router, port)
        base |= {"timestamp": now_ns, "seq": stream.number(1)}
        prefix = protocol.upper()
        begin = {"event_type": "dump_init", "dump_period": period_ns // 1_000_000_000}
        yield event_rows(RowKind[f"{prefix}_DUMP_INIT"], [base | begin])
        entries = tables = 0
        for peer in self._rib.peers():
            if (peer.peer.protocol, peer.peer.router, peer.peer.port) != (protocol, router, port):
                continue
            tables += 1
            for family, table in sorted(peer.tables.items()):
                entries += len(table)
                yield self._table_rows(peer, family, table, base)
        for kind, row in self._events.pop((router, port), ()) if protocol == "bmp" else ():
            yield event_rows(kind, [row | base | {"event_type": "dump"}])
        counts: dict[str, Any] = {}
        if protocol == "bgp":
            counts = {"entries": entries, "tables": tables}
        yield event_rows(
            RowKind[f"{prefix}_DUMP_CLOSE"], [base | {"event_type": "dump_close"} | counts]
        )

    def _table_rows(
        self, tables: PeerTables, family: int, table: RouteTable, base: dict[str, Any]
    ) -> pa.Table:
        rows = table.rows().ordered()
        nlri = [] if FAMILIES[family].of_prefixes else table.nlri(rows.nlri)
        seq = np.full(len(rows), base["seq"], np.uint64)
        routes = routes_of_table(tables.peer, family, rows, nlri, seq, base["timestamp"])
        if (shared := self._next_hops.get(tables.peer.protocol)) is not None:
            routes.attributes = shared.shown(
                self._rib.store, self._rib.compactions, rows.attributes
            )
        if tables.stale:
            routes.stale = np.ones(len(rows), np.bool_)
        return self._rows(routes, [tables.peer], "dump")

    # -- rows --------------------------------------------------------------------------------------

    def _rows(self, routes: Routes, peers: Sequence[Peer], event: Event) -> pa.Table:
        def attributes(number: int) -> Attributes:
            return shown_attributes(self._rib.store, number)

        labels = [self._label(p.protocol, p.router) for p in peers]
        if self.roas is not None:
            columns = self._rib.store.columns()
            whole, sets = event == "dump", routes.attributes
            routes.roa = row_states(routes, self.roas, sets, columns, self._own_as, table=whole)
        if peers[0].protocol == "bgp":
            return bgp_rows(routes, list(map(bgp_peer, peers, labels)), attributes, event)
        return bmp_rows(routes, list(map(bmp_peer, peers, labels)), attributes, event)

    def _session(self, protocol: Protocol, router: str, port: int) -> dict[str, object]:
        label = self._label(protocol, router)
        if protocol == "bgp":
            return {"peer_ip_src": router, "peer_tcp_port": port, "label": label}
        return {"bmp_router": router, "bmp_router_port": port, "label": label}
