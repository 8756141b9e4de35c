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
from flowray.rib.bmp_session import BmpSession
from flowray.rib.event_rows import BmpEvent, rows_of_event, time_of
from flowray.rib.next_hop_forms import NextHopForms
from flowray.rib.peers import Peer
from flowray.rib.rib import Changes, PeerTables, Removed, Rib
from flowray.rib.rows import (
    BgpPeer,
    BmpPeer,
    BmpView,
    Event,
    LogType,
    RdOrigin,
    Routes,
    bgp_rows,
    bmp_rows,
    event_rows,
)
from flowray.rib.streams import Stream
from flowray.rib.table import NONE, RouteTable, Rows
from flowray.route_fields import Protocol, RowKind
from flowray.wire.bgp.attributes import Attributes, decode_attributes
from flowray.wire.bgp.events import Action, RouteEvents, Updates
from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.packets import address_words

_LOG_TYPES = np.array([LogType.UPDATE, LogType.WITHDRAW, LogType.END_OF_RIB], np.uint8)
assert [Action.ANNOUNCE, Action.WITHDRAW, Action.END_OF_RIB] == [0, 1, 2]


def _of_shape(shape: Shape) -> np.ndarray[Any, Any]:
    """(256,) bool, the families of a shape by their index."""
    marks = np.zeros(256, np.bool_)
    marks[[f.index for f in FAMILIES if f.shape is shape]] = True
    return marks


_VPN, _LABELED = _of_shape(Shape.VPN), _of_shape(Shape.LABELED)

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

    def __init__(self, streams: Mapping[str, Stream], labels: Labels) -> None:
        self._streams = streams
        self._label = lru_cache(maxsize=4096)(labels.of)
        self._events: defaultdict[tuple[str, int], list[tuple[RowKind, dict[str, object]]]]
        self._events = defaultdict(list)
        self.events_forgotten = 0
        self._forms: dict[Protocol, NextHopForms] = {}
        self._compactions = 0

    def log(self, protocol: Protocol) -> Stream | None:
        """The message log of a protocol."""
        return self._streams.get(f"{protocol}_log")

    def _writes(self, protocol: Protocol) -> bool:
        """Whether any stream shows routes of a protocol."""
        return f"{protocol}_log" in self._streams or f"{protocol}_dump" in self._streams

    def _followed(self, protocol: Protocol, rib: Rib) -> NextHopForms:
        """The forms of next hops, which know sets by the numbers of now."""
        if rib.compactions != self._compactions:
            self._compactions = rib.compactions
            for forms in self._forms.values():
                forms.forget()
        return self._forms.setdefault(protocol, NextHopForms(rib.store.__getitem__))

    # -- message logs ------------------------------------------------------------------------------

    def opened(self, protocol: Protocol, router: str, port: int, now_ns: int) -> None:
        """A router connected."""
        if (stream := self.log(protocol)) is None:
            return
        row = {"event_type": "log_init", "timestamp": now_ns, "seq": stream.number(1)}
        kind = RowKind.BGP_SESSION if protocol == "bgp" else RowKind.BMP_SESSION
        stream.add([event_rows(kind, [row | self._session(protocol, router, port)])])

    def changed(self, rib: Rib, events: RouteEvents, changes: Changes, updates: Updates) -> None:
        """UPDATEs were applied."""
        if not changes.rows.size or not self._streams:
            return
        numbers, peer = np.unique(changes.peer, return_inverse=True)
        peers = [rib.peer(int(number)).peer for number in numbers]
        protocol = peers[0].protocol
        if not self._writes(protocol):
            return
        r = changes.rows
        announced = events.action[r] == Action.ANNOUNCE
        new = np.where(announced, changes.attributes, np.uint32(NONE))
        forms = self._followed(protocol, rib).follow(new, changes.before)
        if (stream := self.log(protocol)) is None:
            return
        rd, rd_origin = _distinguishers(peers, peer, events.rd[r], events.family[r])
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
            attributes=changes.attributes,
            seq=np.arange(n, dtype=np.uint64) + np.uint64(stream.number(n)),
            time_ns=updates.time_ns[events.message[r]],
            log_type=_LOG_TYPES[events.action[r]],
            forms=forms,
            nlri=(updates.buf, events.nlri_offset[r], events.nlri_length[r]),
        )
        stream.add([self._rows(routes, peers, rib, "log")])

    def removed(self, rib: Rib, removed: Iterable[Removed], now_ns: int) -> None:
        """Routes went without being withdrawn."""
        for gone in removed:
            protocol = gone.peer.protocol
            if not self._writes(protocol):
                return
            n = len(gone.rows)
            nothing = np.full(n, NONE, np.uint32)
            forms = self._followed(protocol, rib).follow(nothing, gone.rows.attributes)
            if (stream := self.log(protocol)) is None:
                continue
            seq = np.arange(n, dtype=np.uint64) + np.uint64(stream.number(n))
            routes = _routes(gone.peer, gone.family, gone.rows, gone.nlri, seq, now_ns)
            routes.log_type = np.full(n, LogType.DELETE, np.uint8)
            routes.forms = forms
            stream.add([self._rows(routes, [gone.peer], rib, "log")])

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
                log.add([event_rows(kind, [row | moment | {"event_type": "log"}])])
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
        self, protocol: Protocol, rib: Rib, routers: Sequence[tuple[str, int]], now_ns: int,
        period_ns: int,
    ) -> None:  # fmt: skip
        """Write the tables of routers (address and port of their sessions) as they are."""
        stream = self._streams[f"{protocol}_dump"]
        for router, port in routers:
            stream.add(self._dumped(protocol, rib, router, port, now_ns, period_ns))

    def _dumped(
        self, protocol: Protocol, rib: Rib, router: str, port: int, now_ns: int, period_ns: int
    ) -> Iterator[pa.Table]:
        stream = self._streams[f"{protocol}_dump"]
        base = self._session(protocol, router, port)
        base |= {"timestamp": now_ns, "seq": stream.number(1)}
        prefix = protocol.upper()
        begin = {"event_type": "dump_init", "dump_period": period_ns // 1_000_000_000}
        yield event_rows(RowKind[f"{prefix}_DUMP_INIT"], [base | begin])
        entries = tables = 0
        for peer in rib.peers():
            if (peer.peer.protocol, peer.peer.router, peer.peer.port) != (protocol, router, port):
                continue
            tables += 1
            for family, table in sorted(peer.tables.items()):
                entries += len(table)
                yield self._table_rows(rib, peer, family, table, base)
        for kind, row in self._events.pop((router, port), ()) if protocol == "bmp" else ():
            yield event_rows(kind, [row | base | {"event_type": "dump"}])
        counts: dict[str, Any] = {}
        if protocol == "bgp":
            counts = {"entries": entries, "tables": tables}
        yield event_rows(
            RowKind[f"{prefix}_DUMP_CLOSE"], [base | {"event_type": "dump_close"} | counts]
        )

    def _table_rows(
        self, rib: Rib, tables: PeerTables, family: int, table: RouteTable, base: dict[str, Any]
    ) -> pa.Table:
        rows = table.rows().ordered()
        nlri = [] if FAMILIES[family].of_prefixes else table.nlri(rows.nlri)
        seq = np.full(len(rows), base["seq"], np.uint64)
        routes = _routes(tables.peer, family, rows, nlri, seq, base["timestamp"])
        if tables.stale:
            routes.stale = np.ones(len(rows), np.bool_)
        routes.forms = self._followed(tables.peer.protocol, rib).shown(rows.attributes)
        return self._rows(routes, [tables.peer], rib, "dump")

    # -- rows --------------------------------------------------------------------------------------

    def _rows(self, routes: Routes, peers: Sequence[Peer], rib: Rib, event: Event) -> pa.Table:
        def attributes(number: int) -> Attributes:
            return decode_attributes(rib.store[number])

        if peers[0].protocol == "bgp":
            return bgp_rows(routes, [self._bgp_peer(p) for p in peers], attributes, event)
        return bmp_rows(routes, [self._bmp_peer(p) for p in peers], attributes, event)

    def _session(self, protocol: Protocol, router: str, port: int) -> dict[str, object]:
        label = self._label(protocol, router)
        if protocol == "bgp":
            return {"peer_ip_src": router, "peer_tcp_port": port, "label": label}
        return {"bmp_router": router, "bmp_router_port": port, "label": label}

    def _bgp_peer(self, peer: Peer) -> BgpPeer:
        label = self._label("bgp", peer.router)
        return BgpPeer(peer.address, peer.port, peer.bgp_id, label=label)

    def _bmp_peer(self, peer: Peer) -> BmpPeer:
        return BmpPeer(
            peer.router,
            peer.port,
            peer.address,
            peer.asn,
            peer.bgp_id,
            BmpView(peer.view),
            peer.peer_type,
            # As in pmacct, the F flag shows in rows of Peer Up, Peer Down and statistics alone.
            filtered=False,
            label=self._label("bmp", peer.router),
        )


def _routes(
    peer: Peer, family: int, rows: Rows, nlri: list[bytes], seq: np.ndarray[Any, Any], now_ns: int
) -> Routes:
    """Rows of one table as `Routes`."""
    n = len(rows)
    families = np.full(n, family, np.uint8)
    rd, rd_origin = _distinguishers([peer], np.zeros(n, np.int64), rows.rd, families)
    lengths = np.array([len(x) for x in nlri], np.int64)
    return Routes(
        peer=np.zeros(n, np.int64),
        family=families,
        rd=rd,
        rd_origin=rd_origin,
        path_id=rows.path_id,
        hi=rows.hi,
        lo=rows.lo,
        plen=rows.plen,
        labels=rows.labels,
        attributes=rows.attributes,
        seq=seq,
        time_ns=np.full(n, now_ns, np.int64),
        nlri=(np.frombuffer(b"".join(nlri), np.uint8), np.cumsum(lengths) - lengths, lengths)
        if nlri
        else None,
    )


def _distinguishers(
    peers: Sequence[Peer],
    peer: np.ndarray[Any, Any],
    rd: np.ndarray[Any, Any],
    family: np.ndarray[Any, Any],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """RD of each route and what told it: its prefix, else the header of a BMP peer."""
    own = _VPN[family]
    of_peer = np.array([p.instance_rd for p in peers], np.uint64)[peer]
    of_peer[_LABELED[family]] = 0
    origin = np.where(own, RdOrigin.BGP, np.where(of_peer != 0, RdOrigin.BMP, RdOrigin.NONE))
    return np.where(own, rd, of_peer), origin.astype(np.uint8)
