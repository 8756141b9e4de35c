"""BGP messages that once broke another program, or were made to: none may break or stop us."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
import pytest

from flowray.replay import Replay
from flowray.settings.compile import Program, compile_settings
from flowray.settings.load import parse_settings
from flowray.sinks.base import MemorySink
from flowray.wire.bgp import capabilities as caps
from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.attributes import Attributes, decode_attributes
from flowray.wire.bgp.events import Contexts, Updates, Verdict
from flowray.wire.bgp.families import FAMILIES
from flowray.wire.bgp.message_kernels import PLAIN_LIMIT
from flowray.wire.bgp.messages import (
    MARKER,
    MessageError,
    MessageType,
    MessageWalk,
    Notification,
    RouteRefresh,
)
from flowray.wire.bgp.nlri import read_nlri
from flowray.wire.bgp.open import Open
from flowray.wire.bgp.update import parse_updates
from flowray.wire.packets import Exporters
from flowray.wire.pcap import CaptureReader
from flowray.wire.segments import Batch, SegmentBatch
from tests.conformance.captures import MISSING, SHARED
from tests.conformance.drive import Lines

FOLDER = SHARED / "tcpdump"
PATHS = sorted(FOLDER.glob("bgp*.pcap*"))
HEADER = 19
ANY = frozenset(range(65536))

captures = pytest.mark.parametrize(
    "path",
    PATHS or [pytest.param(None, marks=pytest.mark.skip(reason=MISSING))],
    ids=[p.name for p in PATHS] or None,
)


def batches(path: Path) -> list[Batch]:
    return list(CaptureReader(path, Exporters(), frozenset(), tcp_ports=ANY))


def payloads(path: Path) -> Iterator[bytes]:
    for batch in batches(path):
        for i in range(len(batch)):
            yield batch.payload(i)


def messages(path: Path) -> Iterator[tuple[int, bytes]]:
    """Type and octets of what begins with a marker, as long as its header says and there is."""
    for payload in payloads(path):
        at = payload.find(MARKER)
        while 0 <= at <= len(payload) - HEADER:
            size = max(int.from_bytes(payload[at + 16 : at + 18]), HEADER)
            yield payload[at + 18], payload[at : at + size]
            at = payload.find(MARKER, at + size)


def of_type(name: str, kind: MessageType) -> list[bytes]:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(MISSING)
    return [message for found, message in messages(path) if found == kind]


def parse(message: bytes, *, four_octets: bool, add_path: int = 0) -> tuple[int, list[Attributes]]:
    """Verdict and attribute sets of an UPDATE; all that it says of routes is read."""
    row = np.zeros(1, np.int64)
    store = AttributeStore()
    parsed = parse_updates(
        Updates(np.frombuffer(message, np.uint8), row, np.array([len(message)]), row, row),
        Contexts(np.array([four_octets]), np.array([add_path], np.uint64)),
        store,
    )
    events = parsed.events
    for i in range(len(events)):
        begin = int(events.nlri_offset[i])
        raw = message[begin : begin + int(events.nlri_length[i])]
        assert len(raw) == events.nlri_length[i]
        assert read_nlri(FAMILIES[int(events.family[i])], raw).text or not raw
    sets = [decode_attributes(store[i]) for i in range(1, len(store))]
    assert all(str(s) for s in sets)
    return int(parsed.verdict[0]), sets


@captures
def test_messages_do_not_break_us(path: Path) -> None:
    for kind, message in messages(path):
        walked = MessageWalk(np.frombuffer(message, np.uint8)).walk(0, PLAIN_LIMIT, listing=True)
        assert walked.next <= len(message)
        body = message[HEADER:]
        try:
            if kind == MessageType.OPEN and len(body) >= 10:
                assert Open.decode(body).encode()
            elif kind == MessageType.NOTIFICATION and len(body) >= 2:
                assert str(Notification.decode(body)).isprintable()
            elif kind == MessageType.ROUTE_REFRESH and len(body) >= 4:
                assert RouteRefresh.decode(message)
        except MessageError as error:
            assert "\n" not in str(error)  # noqa: PT017 - an error is an answer
        if kind == MessageType.UPDATE:
            for four_octets in (False, True):
                for add_path in (0, (1 << len(FAMILIES)) - 1):
                    verdict, _ = parse(message, four_octets=four_octets, add_path=add_path)
                    assert verdict in set(Verdict)


def _program() -> Program:
    settings = {
        "listen": {"bgp": {"address": "[::]:179"}},
        "routes": {"streams": {"bgp_log": {}}},
        "views": [{"name": "all", "keys": ["ip_src"]}],
    }
    return compile_settings(parse_settings(settings, "test"), "test")


@captures
@pytest.mark.parametrize("four_octets", [False, True])
def test_sessions_do_not_break_us(path: Path, tmp_path: Path, four_octets: bool) -> None:
    """Each segment on a session that is up, as far as it lasts; what it logs can be written."""
    program = _program()
    log = Lines(program, "bgp_log", tmp_path)
    replay = Replay(program, lambda name, _: [log if name == "bgp_log" else MemorySink()])
    assert replay.routes is not None
    offered = [caps.multiprotocol(f.afi, f.safi) for f in FAMILIES]
    offered += [caps.four_octet_as(65000)] if four_octets else []
    ours = Open(65000, 180, IPv4Address("192.0.2.7"), tuple(offered)).encode()
    for n, payload in enumerate(payloads(path)):
        at = max(payload.find(MARKER), 0)
        for data in (ours, MARKER + b"\x00\x13\x04", payload[at:]):
            replay.routes.receive("bgp", "192.0.2.7", 1024 + n, data, n)
        replay.routes.close("bgp", "192.0.2.7", 1024 + n, n)
    replay.end_of_input()
    rows = log.take()
    assert {r.get("log_type") for r in rows} <= {None, "update", "withdraw", "delete", "end-of-rib"}


@captures
def test_streams_do_not_break_us(path: Path) -> None:
    """Both directions, as a replay of the capture takes them."""
    replay = Replay(_program(), lambda _view, _partition: [MemorySink()])
    for batch in batches(path):
        assert isinstance(batch, SegmentBatch)
        batch.port[:] = 179
        replay.feed(batch)
    replay.finish()


# ------------------------------------------------------------------------------------- values
def test_shutdown_communication() -> None:
    shown = [
        str(Notification.decode(m[HEADER:]))
        for m in of_type("bgp-shutdown-msg-variations.pcap", MessageType.NOTIFICATION)
    ]
    assert shown[0] == 'Cease: Administrative Reset ("0123456789")'
    assert len(shown) == 3


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bgp-bfd-cease.pcap", "Cease: BFD Down"),
        ("bgp-cease-hard-reset.pcap", "Cease: Hard Reset (Cease: Peer De-configured)"),
        ("bgp-malformed-hard-reset.pcap", "Cease: Hard Reset"),
        (
            "bgp_notification_rr_msg_error.pcap",
            "ROUTE-REFRESH Message Error: Invalid Message Length",
        ),
    ],
)
def test_notifications(name: str, shown: str) -> None:
    (message,) = of_type(name, MessageType.NOTIFICATION)
    assert str(Notification.decode(message[HEADER:])) == shown


def test_four_octet_as_numbers() -> None:
    name = "bgp-4byte-asn.pcap"
    opens = [Open.decode(m[HEADER:]) for m in of_type(name, MessageType.OPEN)]
    assert {o.peer_as for o in opens} == {2764334674, 200, 300, 400, 1}
    # Towards peers that know four octets, and towards those that do not.
    old = [parse(m, four_octets=False) for m in of_type(name, MessageType.UPDATE)]
    new = [parse(m, four_octets=True) for m in of_type(name, MessageType.UPDATE)]
    best = [min(a[0], b[0]) for a, b in zip(old, new, strict=True)]
    assert best == [Verdict.WELL_FORMED] * 10
    paths = [s.as_path for verdict, sets in new if verdict == Verdict.WELL_FORMED for s in sets]
    assert (2764334674, 200, 1, 222222, 333333, 4294967290) in [p[0].numbers for p in paths if p]


def test_optional_parameters_of_extended_length() -> None:
    (message,) = of_type("bgp-extended-optional-parameters-length.pcapng", MessageType.OPEN)
    opened = Open.decode(message[HEADER:])
    assert (opened.peer_as, len(opened.families)) == (174, 2)


def test_route_refresh_marks() -> None:
    found = of_type("bgp-enhanced-route-refresh-subtype.pcapng", MessageType.ROUTE_REFRESH)
    assert [RouteRefresh.decode(m) for m in found] == [RouteRefresh(1, 1, n) for n in range(3)]


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("bgp-infinite-loop.pcap", [Verdict.SESSION_RESET] * 5),
        ("bgp_mp_reach_nlri-oobr.pcap", [Verdict.SESSION_RESET] * 6),
        ("bgp-link-bw-extcommunity.pcapng", [Verdict.WELL_FORMED] * 6),
        ("bgp-ovs.pcapng", [Verdict.WELL_FORMED] * 4),
        ("bgp-rt-prefix.pcap", [Verdict.WELL_FORMED] * 8),
        ("bgp-aigp-2.pcap", [Verdict.WELL_FORMED]),
    ],
)
def test_verdicts(name: str, verdicts: list[Verdict]) -> None:
    found = [parse(m, four_octets=False)[0] for m in of_type(name, MessageType.UPDATE)]
    assert found == verdicts


def test_aigp() -> None:
    (message,) = of_type("bgp-aigp-2.pcap", MessageType.UPDATE)
    ((_, (attributes,)),) = [parse(message, four_octets=False)]
    assert attributes.aigp == 0xFFFFFFFF
