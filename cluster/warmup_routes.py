"""Compile every kernel of the route path by using it once, on a little made-up input."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from cluster.replay import replay_here, sinks_for
from flowray.generate.bench import MIX, bench_traffic
from flowray.generate.capture import write_capture
from flowray.generate.routes import routing_table, updates, withdrawals
from flowray.rib.looking_glass import answer, asking
from flowray.rib.peers import Peer
from flowray.rib.rib import Rib
from flowray.rib.roa import less_specific_states
from flowray.rib.route_query import read_query
from flowray.rib.rtr_payloads import Payloads, Taken
from flowray.rib.table import Scope
from flowray.rib.warm import (
    PATHS,
    PORT,
    START,
    UPDATES,
    made_up_sessions,
    snapshot_of,
    split_messages,
)
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.events import Contexts, Updates
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.bgp.mrt import CONTEXTS, MrtPeer
from flowray.wire.bgp.mrt_writer import MrtRoutes, MrtWriter
from flowray.wire.bgp.path_id_kernels import find_path_ids
from flowray.wire.bgp.update import parse_updates
from flowray.wire.packets import address_words
from flowray.wire.pcap_writer import PcapWriter
from flowray.wire.segments import SYN

RECORDS = 500
_STATION = "192.0.2.254"
_ACK = 0x10
_MOST_OCTETS = 60_000
_ROA = {"asn": 1, "prefix": "192.0.2.0/24", "maxLength": 24, "ta": "made up"}
_STREAMS = ("bgp_log", "bmp_log", "bgp_dump", "bmp_dump")
_SECOND = 1_000_000_000
_SESSIONS_NS = 120 * _SECOND
_CHURNED = 20_000
_OLD_RECORDS = bytes.fromhex(
    "6553f100 0005 0001 00000010 fde8 c0000201 fde9 c00002fe 00000000"
    "6553f100 000c 0001 00000028 00000000 c0000200 18 01 6553f100 c0000201 fde8 0012"
    "40010100 4002040201fde8 400304c0000201"
)
"""An UPDATE of type BGP (RFC 6396 appendix B.2.4), and a route of type TABLE_DUMP (section 4.2)."""


def _program(fields: list[str], routes: dict[str, Any], **join: Any) -> Program:
    """Flows that are joined with what routers tell over BGP and BMP."""
    configuration = {
        "listen": {
            "bgp": {"address": "127.0.0.1:1179", "local_as": 65000},
            "bmp": {"address": "127.0.0.1:11019"},
        },
        "routes": {"join": {"fall_back": ["global"], "peer_source_as": True, **join}, **routes},
        "views": [{"name": "joined", "keys": fields}],
    }
    return compile_settings(parse_settings(configuration, "warm-up"), "warm-up")


def _programs(root: Path, fields: list[str]) -> tuple[Program, Program]:
    """With everything there is, and without what takes the place of something else."""
    networks, roas = root / "networks", root / "roas.json"
    networks.write_text("192.0.2.1,65551,192.0.2.0/24\n")
    roas.write_text(json.dumps({"roas": [_ROA]}))
    streams = {name: {"every": "1m"} if name.endswith("dump") else {} for name in _STREAMS}
    follow = {"prefixes": ["0.0.0.0/0", "::/0"]}
    return (
        _program(
            fields,
            {"next_hops": "shared", "rpki": {"roas": str(roas)}, "streams": streams},
            networks_file=str(networks),
            follow_next_hops=follow,
        ),
        _program(fields, {}),
    )


def warm_up_routes(root: Path, fields: list[str]) -> None:
    """Sessions as they come and out of captures, MRT files, origin validation, looking glass, and
    the join of all `fields`; files are made in `root`.
    """
    full, plain = _programs(root, fields)
    snapshot_of(full)
    sessions, flows = root / "routes.pcap", root / "flows.pcap"
    table, old = root / "routes.mrt", root / "old.mrt"
    _write_sessions(sessions, full)
    _write_table(table)
    old.write_bytes(_OLD_RECORDS)
    traffic = bench_traffic(RECORDS, distinct=50, mix=MIX, start_ns=START + _SESSIONS_NS)
    write_capture(flows, traffic)
    for program, paths in ((full, [flows, sessions]), (plain, [flows, sessions, table, old])):
        replay_here(program, paths, sinks_for(program, root, "jsonl"), quiet=True)
    _validate()
    _churn()


def _write_sessions(path: Path, program: Program) -> None:
    """The made-up sessions as a capture, long enough that tables are dumped."""
    ports = {"bgp": 179, "bmp": 11019}
    begun: dict[str, int] = {}
    frames = []
    for protocol, router, octets in made_up_sessions(program.settings):
        port = ports[protocol]
        if router not in begun:
            begun[router] = 1
            frames.append(_segment(router, port, 0, SYN, b""))
        frames.append(_segment(router, port, begun[router], _ACK, octets))
        begun[router] += len(octets)
    times = START + np.linspace(0, _SESSIONS_NS, len(frames)).astype(np.int64)
    with PcapWriter(path, ethernet=False) as writer:
        writer.write_frames(frames, times)


def _segment(source: str, port: int, sequence: int, flags: int, payload: bytes) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", PORT, port, sequence, 0, 5 << 4, flags, 1024, 0, 0)
    octets = 20 + len(tcp) + len(payload)
    assert octets < _MOST_OCTETS
    ends = b"".join(address_words(a)[1].to_bytes(8)[4:] for a in (source, _STATION))
    return struct.pack(">BBHHHBBH", 0x45, 0, octets, 0, 0, 64, 6, 0) + ends + tcp + payload


def _write_table(path: Path) -> None:
    """An MRT file with messages of a session and a table of routes of both kinds."""
    peer = MrtPeer(*address_words("192.0.2.1"), 65551, 1)
    store = AttributeStore()
    messages = split_messages(UPDATES + PATHS)
    length = np.array([len(message) for message in messages], np.int64)
    # The last one is of a session with path identifiers.
    context = np.full(len(messages), 1, np.int64)
    context[-1] = 3
    batch = Updates(
        np.frombuffer(b"".join(messages), np.uint8),
        np.cumsum(length) - length,
        length,
        context,
        np.full(len(messages), START, np.int64),
    )
    events = parse_updates(batch, CONTEXTS, store).events
    with MrtWriter(path, compress=True) as writer:
        writer.write_messages(batch, CONTEXTS, [peer], np.zeros(len(messages), np.int64))
        writer.write_peers(START, 1, [peer])
        for family in FAMILIES:
            rows = np.flatnonzero((events.family == family.index) & (events.action == 0))
            at, octets = events.nlri_offset[rows].tolist(), events.nlri_length[rows].tolist()
            names = ("rd", "path_id", "hi", "lo", "plen", "labels", "attributes")
            nlri = [batch.buf[a : a + n].tobytes() for a, n in zip(at, octets, strict=True)]
            columns = MrtRoutes(
                peer=np.zeros(len(rows), np.int64),
                **{name: getattr(events, name)[rows] for name in names},
                nlri=() if family.of_prefixes else nlri,
            )
            if len(rows):
                writer.write_routes(START, family, columns, store)


def _validate() -> None:
    """One payload, as an RPKI cache tells it, and routes of both versions."""
    pdu = bytes.fromhex("01 04 0000 00000014 01 18 18 00 c0000200 0001000f")
    taken, _ = Taken.of(np.frombuffer(pdu, np.uint8), 1)
    roas = Payloads().changed([taken]).roas()
    hi = np.array([0, 0x20010DB8 << 32], np.uint64)
    lo = np.array([0xFFFFC0000200, 0], np.uint64)
    plen = np.array([24, 32], np.uint8)
    state = roas.validate(hi, lo, plen, np.array([65551, 1], np.uint32))
    less_specific_states(hi, lo, plen, state)


def _churn() -> None:
    """Many routes come and go, which tables and the store of attributes grow and shrink with, are
    looked for, and told by a router that has negotiated path identifiers and sends none.
    """
    table = routing_table(0, _CHURNED, 100)
    rib = Rib()
    peers = np.array([rib.open(Peer("bgp", "192.0.2.1", 1, "192.0.2.1", "192.0.2.1", 65551))])
    context = Contexts(np.array([True]), np.zeros(1, np.uint64))
    for told in (updates(table), withdrawals(table, np.arange(_CHURNED - 100))):
        n = len(told)
        nothing = np.zeros(n, np.int64)
        batch = Updates(told.buf, told.offset, told.length, nothing, nothing)
        parsed = parse_updates(batch, context, rib.store)
        rib.apply(peers[nothing], parsed.events, batch.buf, np.zeros(n, np.uint64))
    live = np.zeros(len(rib.store), np.bool_)
    tables = rib.peer(0).tables.values()
    for routes in tables:
        routes.live(live)
        routes.select(Scope.LONGER, 0, 0xFFFF << 32, 0)
        routes.select(Scope.LONGER, 0, 0, 0)
    remap = rib.store.compact(live)
    for routes in tables:
        routes.remap(remap)
    everything = np.full(n, (1 << len(FAMILIES)) - 1, np.uint64)
    find_path_ids(
        batch.buf, batch.offset, batch.length, nothing, np.zeros(1, np.uint64), everything
    )
    attributes = rib.store[1]
    for _ in answer(asking(rib), read_query(communities=["64496:1"], as_path="1$")):
        pass
    one = np.zeros(1, np.int64), np.array([len(attributes)], np.int64)
    rib.store.intern(np.frombuffer(attributes, np.uint8), *one)
