"""Compile every kernel of the route path by using it once, on a little made-up input."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from cluster.replay import replay_here, sinks_for
from flowray.generate.bench import MIX, bench_traffic
from flowray.generate.capture import write_capture
from flowray.rib.roa import less_specific_states
from flowray.rib.rtr_payloads import Payloads, Taken
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
from flowray.wire.bgp.events import Updates
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.bgp.mrt import CONTEXTS, MrtPeer
from flowray.wire.bgp.mrt_writer import MrtRoutes, MrtWriter
from flowray.wire.bgp.update import parse_updates
from flowray.wire.packets import address_words
from flowray.wire.pcap_writer import PcapWriter
from flowray.wire.segments import SYN

RECORDS = 500
_STATION = "192.0.2.254"
_ACK = 0x10
_MOST_OCTETS = 60_000
_STREAMS = ("bgp_log", "bmp_log", "bgp_dump", "bmp_dump")
_SECOND = 1_000_000_000


def routes_configuration(fields: list[str]) -> dict[str, Any]:
    """Flows that are joined with what routers tell over BGP and BMP, all of which is logged."""
    return {
        "listen": {
            "bgp": {"address": "127.0.0.1:1179", "local_as": 65000},
            "bmp": {"address": "127.0.0.1:11019"},
        },
        "routes": {
            "next_hops": "shared",
            "join": {"global_fall_back": True, "peer_source_as": True},
            "streams": {
                name: {"every": "1m"} if name.endswith("dump") else {} for name in _STREAMS
            },
        },
        "views": [{"name": "joined", "keys": fields}],
    }


def warm_up_routes(root: Path, fields: list[str]) -> None:
    """Sessions as they come and out of captures, MRT files, origin validation, and the join of all
    `fields`; files are made in `root`.
    """
    settings = parse_settings(routes_configuration(fields), "warm-up")
    program = compile_settings(settings, "warm-up")
    snapshot_of(program)
    sessions, table, flows = root / "routes.pcap", root / "routes.mrt", root / "flows.pcap"
    _write_sessions(sessions, program)
    _write_table(table)
    write_capture(flows, bench_traffic(RECORDS, distinct=50, mix=MIX))
    for paths in ([flows, sessions], [flows, table]):
        replay_here(program, paths, sinks_for(program, root, "jsonl"), quiet=True)
    _validate()


def _write_sessions(path: Path, program: Program) -> None:
    """The made-up sessions as a capture, of two minutes, so that tables are dumped."""
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
    times = START + np.linspace(0, 120 * _SECOND, len(frames)).astype(np.int64)
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
    updates = Updates(
        np.frombuffer(b"".join(messages), np.uint8),
        np.cumsum(length) - length,
        length,
        context,
        np.full(len(messages), START, np.int64),
    )
    events = parse_updates(updates, CONTEXTS, store).events
    with MrtWriter(path, compress=True) as writer:
        writer.write_messages(updates, CONTEXTS, [peer], np.zeros(len(messages), np.int64))
        writer.write_peers(START, 1, [peer])
        for family in FAMILIES:
            rows = np.flatnonzero((events.family == family.index) & (events.action == 0))
            at, octets = events.nlri_offset[rows].tolist(), events.nlri_length[rows].tolist()
            columns = MrtRoutes(
                np.zeros(len(rows), np.int64),
                *(
                    getattr(events, name)[rows]
                    for name in ("rd", "path_id", "hi", "lo", "plen", "labels", "attributes")
                ),
                [updates.buf[a : a + n].tobytes() for a, n in zip(at, octets, strict=True)]
                if not family.of_prefixes
                else (),
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
