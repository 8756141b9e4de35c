"""Fuzz targets of the route path: what routers, caches and files tell goes to tables, rows and
snapshots, none of it may raise, and tables are empty when everything in them is withdrawn.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from flowray.errors import CaptureError
from flowray.rib.collector import RouteCollector, bmp_settings
from flowray.rib.journal import Labels
from flowray.rib.lpm import look_up
from flowray.rib.mrt_routes import MrtRoutes
from flowray.rib.replay import RouteReplay
from flowray.rib.rib import PeerTables, Rib
from flowray.rib.rows import BgpPeer, RdOrigin, Routes, bgp_rows
from flowray.rib.rtr import Publish, RtrSession
from flowray.rib.streams import Stream
from flowray.route_fields import route_fields
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings
from flowray.sinks.base import MemorySink
from flowray.sinks.encoding import Encoding
from flowray.sinks.render import render
from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.attributes import decode_attributes
from flowray.wire.bgp.capabilities import (
    AddPath,
    Capability,
    CapabilityCode,
    add_path,
    flag,
    four_octet_as,
)
from flowray.wire.bgp.events import Action, Contexts, RouteEvents, Updates
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.bgp.messages import KEEPALIVE
from flowray.wire.bgp.update import CAUSES, parse_updates
from flowray.wire.proxy_protocol import ProxyError, read_proxy_header
from tests.fuzz.outcomes import observe, one_line, scratch
from tests.rib.bgp_peer import START, peer_open
from tests.wire.bgp import encode as e

STREAMS = ("bgp_log", "bmp_log", "bgp_dump", "bmp_dump")
_CONFIGURATION: dict[str, Any] = {
    "views": [{"name": "flows", "keys": ["dst_as"]}],
    "listen": {
        "bgp": {"local_as": 65000, "max_prefixes": 10_000},
        "bmp": {"max_message": "64KiB"},
    },
    "routes": {"streams": {name: {} for name in STREAMS}},
}
SETTINGS = [
    Settings.model_validate(
        {**_CONFIGURATION, "routes": {**_CONFIGURATION["routes"], "next_hops": next_hops}}
    )
    for next_hops in ("received", "shared")
]
PROGRAM = compile_settings(SETTINGS[0], "fuzz")
_PATHS = add_path(AddPath(f.afi, f.safi, 2) for f in FAMILIES if f.of_prefixes)
_MORE = (flag(CapabilityCode.ENHANCED_ROUTE_REFRESH), flag(CapabilityCode.EXTENDED_MESSAGE))
CAPABILITIES: tuple[tuple[Capability, ...], ...] = (
    (four_octet_as(65551),),
    (),
    (four_octet_as(65551), _PATHS, *_MORE),
    _MORE,
)
"""Of the OPENs of a session's peer."""

ROUTER, PORT = "192.0.2.1", 50000
HOUR = 3600 * 10**9
NOTHING = np.zeros(1, np.uint64)


def _replay(how: int) -> RouteReplay:
    """A collector with all streams; `how` tells whose next hops its rows show."""
    streams = {name: Stream(name, [MemorySink()]) for name in STREAMS}
    settings = SETTINGS[how & 1]
    return RouteReplay(settings, RouteCollector(settings, streams, Labels()))


def _pieces(data: bytes) -> list[bytes]:
    """Octets as they come: twice, parted anywhere."""
    half = len(data) * 2 // 3
    return [data[:half], data[half:]]


def bgp(data: bytes) -> None:
    """What a peer sends when the session is up."""
    how = data[0] if data else 0
    replay = _replay(how)
    replay.receive("bgp", ROUTER, PORT, peer_open(capabilities=CAPABILITIES[how >> 1 & 3]), START)
    replay.receive("bgp", ROUTER, PORT, KEEPALIVE, START)
    for piece in _pieces(data[1:]):
        replay.receive("bgp", ROUTER, PORT, piece, START)
        _check(replay)
    for tables in replay.collector.rib.peers() if how & 8 else ():
        _withdraw_all(replay.collector.rib, tables)
    replay.close("bgp", ROUTER, PORT, START)
    _check_end(replay)


def bmp(data: bytes) -> None:
    """What a monitored router sends."""
    replay = _replay(data[0] if data else 0)
    most = bmp_settings(SETTINGS[0]).max_message
    for piece in _pieces(data[1:]):
        replay.receive("bmp", ROUTER, PORT, piece, START)
        _check(replay)
    for feed in replay.collector._feeds["bmp"]:
        assert feed.session.buffered < most
    replay.close("bmp", ROUTER, PORT, START)
    _check_end(replay)


def _check(replay: RouteReplay) -> None:
    """Tables agree with their rows, and snapshots with the tables; both can be written."""
    collector = replay.collector
    for tables in collector.rib.peers():
        for family, table in tables.tables.items():
            rows = table.rows()
            assert len(rows) == len(table)
            assert (rows.attributes < len(collector.rib.store)).all()
            observe((family, len(rows).bit_length()))
    snapshot = replay.publish(START)
    for place in range(len(snapshot.forest)):
        for word in (0xFFFFC0000201, 1):
            lo = np.array([word], np.uint64)
            look_up(snapshot.forest, np.array([place]), NOTHING, lo)
    for cause, count in collector.malformed.items():
        observe((cause, count.bit_length()))


def _check_end(replay: RouteReplay) -> None:
    """Nothing is left of what a session told, and rows tell all of it."""
    collector = replay.collector
    assert not list(collector.rib.peers())
    collector.flush(START)
    collector.advance(START + HOUR)
    collector.store()
    for stream in collector._streams.values():
        assert not stream.waiting
        for sink, _ in stream._sinks:
            assert isinstance(sink, MemorySink)
            protocol = "bgp" if stream.name.startswith("bgp") else "bmp"
            for table in sink.tables.values():
                fields = route_fields(protocol)
                assert render(table, fields, Encoding()).num_rows == table.num_rows


def _withdraw_all(rib: Rib, tables: PeerTables) -> None:
    """Withdraw every route that a peer has, by what identifies it."""
    for family, table in tables.tables.items():
        rows = table.rows()
        n = len(rows)
        nlri = [] if FAMILIES[family].of_prefixes else table.nlri(rows.nlri)
        length = np.array([len(x) for x in nlri] or [0] * n, np.int64)
        events = RouteEvents(
            message=np.zeros(n, np.int64),
            action=np.full(n, Action.WITHDRAW, np.uint8),
            family=np.full(n, family, np.uint8),
            rd=rows.rd,
            path_id=rows.path_id,
            hi=rows.hi,
            lo=rows.lo,
            plen=rows.plen,
            labels=np.zeros(n, np.uint64),
            nlri_offset=np.cumsum(length) - length,
            nlri_length=length,
            attributes=np.zeros(n, np.uint32),
        )
        buf = np.frombuffer(b"".join(nlri), np.uint8)
        told = np.array([1 << family if table.add_path else 0], np.uint64)
        changes = rib.apply(np.array([tables.number]), events, buf, told)
        assert len(changes.rows) == n
        assert len(table) == 0


def mrt(data: bytes) -> None:
    """A file of MRT: a clear line if it cannot be read, an account of its records otherwise."""
    replay = _replay(0)
    collector = replay.collector
    try:
        routes = MrtRoutes(scratch("a.mrt", data), collector.rib, collector.journal, {})
    except CaptureError as error:
        one_line(error)
        return
    routes.until(1 << 62)
    report = routes.reader.report
    counts = (report.records, report.updates, report.malformed)
    assert min(counts) >= 0
    for n, count in enumerate(counts):
        observe((n, count.bit_length()))
    for tables in list(collector.rib.peers()):
        _withdraw_all(collector.rib, tables)


_RTR_LIMIT = 100
_V6 = np.array([0x20010DB8 << 32, 0], np.uint64)
_V4 = np.array([0, 0xFFFFC0000200], np.uint64)


def rtr(data: bytes) -> None:
    """What a cache sends: the payloads that are published are those that are kept, and no more."""
    how = data[0] if data else 0
    session = RtrSession(version=how % 3 if how % 3 < 2 else 1, limit=_RTR_LIMIT)
    session.tick(START)
    session.connected(START)
    now = START
    for piece in _pieces(data[1:]):
        for output in session.receive(piece, now):
            observe(type(output).__name__)
            if isinstance(output, Publish):
                assert len(output.roas) <= _RTR_LIMIT
                plen = np.array([32, 24], np.uint8)
                state = output.roas.validate(_V6, _V4, plen, np.array([64496, 64497], np.uint32))
                observe(state.tolist())
        now += HOUR
        session.tick(now)
    session.closed(now)
    assert len(session.payloads) <= _RTR_LIMIT
    assert session.wake_ns > 0


_HOPS = (4, 16, 32, 12, 24, 48, 0)


def nlri(data: bytes) -> None:
    """Attributes, and NLRI of a family, in an UPDATE that has room for them: texts of all of it."""
    if len(data) < 3:
        return
    family = FAMILIES[data[0] % len(FAMILIES)]
    four, paths, hop = data[1] & 1, data[1] & 2, _HOPS[(data[1] >> 2) % len(_HOPS)]
    size = min(2 * data[2], len(data) - 3)
    reach = e.mp_reach(family.afi, family.safi, bytes(hop), data[3 + size :])
    message = e.update(attributes=reach + data[3 : 3 + size])
    store = AttributeStore()
    updates = Updates(
        np.frombuffer(message, np.uint8),
        np.zeros(1, np.int64),
        np.array([len(message)], np.int64),
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
    )
    everything = np.array([(1 << len(FAMILIES)) - 1 if paths else 0], np.uint64)
    parsed = parse_updates(updates, Contexts(np.array([four > 0]), everything), store)
    observe(CAUSES[int(parsed.cause[0])])
    _render(parsed.events, updates, store)


def _render(events: RouteEvents, updates: Updates, store: AttributeStore) -> None:
    n = len(events)
    rows = bgp_rows(
        Routes(
            peer=np.zeros(n, np.int64),
            family=events.family,
            rd=events.rd,
            rd_origin=np.where(events.rd != 0, RdOrigin.BGP, RdOrigin.NONE).astype(np.uint8),
            path_id=events.path_id,
            hi=events.hi,
            lo=events.lo,
            plen=events.plen,
            labels=events.labels,
            attributes=events.attributes,
            seq=np.arange(n, dtype=np.uint64),
            time_ns=np.zeros(n, np.int64),
            log_type=events.action,
            nlri=(updates.buf, events.nlri_offset, events.nlri_length),
        ),
        [BgpPeer(ROUTER)],
        lambda number: decode_attributes(store[number]),
        "log",
    )
    shown = render(rows, route_fields("bgp"), Encoding()).to_pylist()
    assert len(shown) == n
    for row in shown:
        observe(sorted(key for key, value in row.items() if value is not None))


def proxy(data: bytes) -> None:
    """The head of a connection: refused in so many words, or a header within what came, which is
    the same whenever it is complete.
    """
    try:
        header = read_proxy_header(data)
    except ProxyError as error:
        one_line(error)
        return
    if header is None:
        return
    assert 0 < header.octets <= len(data)
    assert 0 <= header.source_port <= 0xFFFF
    assert read_proxy_header(data[: header.octets]) == header
    assert read_proxy_header(data[: header.octets - 1]) is None


ROUTE_TARGETS: dict[str, Callable[[bytes], None]] = {
    "bgp": bgp,
    "bmp": bmp,
    "mrt": mrt,
    "rtr": rtr,
    "nlri": nlri,
    "proxy": proxy,
}
