"""BMP sessions of the conformance pack, message by message: what sessions tell, counted, is what
stands in the facts of a case.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowray.rib.bmp_events import (
    Ended,
    Initiation,
    Output,
    PeerDown,
    PeerUp,
    RouteMonitoring,
    Statistics,
)
from flowray.rib.bmp_session import BmpSession, BmpSessionSettings
from flowray.wire.bgp.bmp import PeerType
from flowray.wire.packets import Exporters, address_text
from flowray.wire.pcap import CaptureReader
from flowray.wire.segments import Batch, SegmentBatch
from flowray.wire.tcp import Event, Received, Streams
from tests.conformance.command import PACK


@dataclass(frozen=True)
class Recording:
    path: Path
    port: int
    facts: dict[str, Any]


def _recordings() -> list[Recording]:
    found = []
    for case in sorted(PACK.glob("*/case.json")):
        for feed in json.loads(case.read_text())["feeds"]:
            found += [
                Recording(case.parent / facts["pcap"], facts["dst_port"], facts)
                for facts in feed.get("facts", ())
                if "bmp_messages" in facts
            ]
    return found


RECORDINGS = _recordings() or [
    pytest.param(
        None, marks=pytest.mark.skip(reason="../shared/conformance is no part of the repository")
    )
]


def _name(recording: Recording) -> str:
    return f"{recording.path.parts[-3].partition('-')[0]}-{recording.path.stem}"


_NAMES = {
    Initiation: "initiation",
    PeerUp: "peer_up",
    PeerDown: "peer_down",
    Statistics: "stats_report",
    RouteMonitoring: "route_monitoring",
}
_PEER_TYPES = {PeerType.GLOBAL: "global", PeerType.RD: "rd", PeerType.LOC_RIB: "locrib"}


def _replay(recording: Recording) -> tuple[BmpSession, list[Output]]:
    """The one session of a recording, closed at its end."""
    streams = Streams()
    session: BmpSession | None = None
    outputs: list[Output] = []
    ports = frozenset({recording.port})
    with CaptureReader(recording.path, Exporters(), frozenset(), tcp_ports=ports) as reader:
        for event in (event for batch in reader for event in _events(streams, batch)):
            stream = event.stream
            if session is None:
                router = address_text(stream.source_hi, stream.source_lo)
                session = BmpSession(BmpSessionSettings(), router, stream.source_port, 0)
            if isinstance(event, Received):
                outputs += session.receive(event.data, event.time_ns)
    assert session is not None
    return session, outputs + session.closed(0)


def _events(streams: Streams, batch: Batch) -> Iterator[Event]:
    assert isinstance(batch, SegmentBatch)
    return streams.feed(batch)


@pytest.mark.parametrize("recording", RECORDINGS, ids=_name)
def test_messages_are_all_there(recording: Recording) -> None:
    session, outputs = _replay(recording)
    facts = recording.facts
    messages: Counter[str] = Counter()
    by_type: Counter[str] = Counter()
    for output in outputs[:-1]:
        name = _NAMES[type(output)]
        if isinstance(output, RouteMonitoring):
            messages[name] += len(output.updates)
            kinds = [session.peers[peer].peer_type for peer in output.peers.tolist()]
            by_type.update(f"{_PEER_TYPES[PeerType(kind)]}:{name}" for kind in kinds)
            continue
        messages[name] += 1
        if not isinstance(output, Initiation):
            by_type[f"{_PEER_TYPES[PeerType(output.peer.peer_type)]}:{name}"] += 1
    assert messages == facts["bmp_messages"]
    assert by_type == facts["bmp_by_peer_type"]
    downs = Counter(str(output.reason) for output in outputs if isinstance(output, PeerDown))
    assert downs == facts.get("bmp_peer_down_reasons", {})
    assert session.discarded == {}
    cut = "bmp_parse_error" in facts
    assert isinstance(outputs[-1], Ended)
    assert ("octets of a message" in outputs[-1].cause) == cut


def _told(output: PeerUp) -> dict[str, Any]:
    """A Peer Up in the words of the references."""
    return {
        "peer_ip": output.peer.address,
        "peer_asn": output.peer.asn,
        "local_as": output.local_as,
        "bgp_id": output.peer.router_id,
        "peer_type": output.peer.peer_type,
        "is_filtered": int(output.peer.is_filtered),
        "is_loc": 1 if output.peer.is_loc else None,
        "is_post": None if output.peer.is_loc else int(output.peer.is_post),
        "local_ip": output.local_address,
        "local_port": output.local_port,
        "remote_port": output.remote_port,
        "timestamp": f"{output.time_ns // 10**9}.{output.time_ns // 1000 % 10**6:06}",
    }


@pytest.mark.parametrize("recording", RECORDINGS, ids=_name)
def test_peers_are_those_of_the_references(recording: Recording) -> None:
    _, outputs = _replay(recording)
    ups = [_told(output) for output in outputs if isinstance(output, PeerUp)]
    folder = recording.path.parent.parent / "expect" / "00"
    rows = [
        {name: row[name] for name in ups[0]}
        for file in sorted(folder.glob("bmp-0*.jsonl"))
        for row in map(json.loads, file.read_text().splitlines())
        if row.get("bmp_msg_type") == "peer_up"
    ]
    expected = Counter(map(json.dumps, rows))
    assert not Counter(map(json.dumps, ups)) - expected
