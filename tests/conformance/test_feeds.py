"""What the driver does with feeds of sessions, on captures made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.pcap import merge_captures
from flowray.wire.segments import SegmentBatch
from tests.conformance.case import Case, CaseError, Feed, Variant
from tests.conformance.compare import surplus
from tests.conformance.feeds import Ports, Repeated, Session, play
from tests.conformance.translate import dump_clock
from tests.wire import pcap_twin as twin
from tests.wire.pcap_twin import Record

SECOND = 10**9
T0 = 1_700_000_000 * SECOND


def tcp(payload: bytes, src: str = "192.0.2.1", port: int = 179) -> bytes:
    return twin.ipv4(twin.tcp(payload, port, source_port=20), src, protocol=6)


def write(folder: Path, name: str, rows: list[tuple[int, bytes]]) -> None:
    records = [Record(packet, T0 + at) for at, packet in rows]
    (folder / name).write_bytes(twin.pcap(records, twin.RAW))


def feed(name: str = "a", present_as: str = "172.21.1.101", **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "pcaps": ["a.pcap"],
        "exporter": {"in_pcap": "192.0.2.1", "present_as": present_as},
        "take": [
            {"l4": "tcp", "dst_port": 179, "into": "bgp"},
            {"l4": "tcp", "dst_port": 1790, "into": "bmp"},
            {"l4": "udp", "dst_port": 2055, "into": "flow"},
        ],
    } | more


def case(folder: Path, *feeds: dict[str, Any], steps: list[dict[str, Any]] | None = None) -> Case:
    return Case.model_validate(
        {
            "format": "conformance-case/1",
            "id": "x",
            "folder": folder,
            "feeds": list(feeds),
            "variants": [{"id": "00", "collector": {}}],
            "steps": steps or [],
        }
    )


def played(made: Case, one: Feed, ports: Ports) -> list[tuple[str, int, int, bytes]]:
    """Sender, source port, time since the beginning and payload."""
    rows = []
    exporters = Exporters()
    for batch in merge_captures(play(made, one, exporters, ports)):
        for i in range(len(batch)):
            where = (int(batch.arrival[i]) - T0, batch.payload(i))
            if isinstance(batch, SegmentBatch):
                assert batch.source_hi[i] == 0
                rows.append((str(batch.source_lo[i]), int(batch.source_port[i]), *where))
            else:
                rows.append((exporters.address(int(batch.exporter[i])), 0, *where))
    return rows


WORD = str(0xFFFF_AC15_0165)  # 172.21.1.101, v4-mapped


def test_packets_of_the_exporter_are_presented_in_order(tmp_path: Path) -> None:
    packets = [
        (0, tcp(b"open")),
        (1, tcp(b"of another", src="192.0.2.2")),
        (2, twin.ipv4(twin.udp(b"flow"))),
        (3, tcp(b"bmp", port=1790)),
        (4, tcp(b"not taken", port=80)),
    ]
    write(tmp_path, "a.pcap", packets)
    made = case(tmp_path, feed())
    (playing,) = play(made, made.feeds[0], Exporters(), Ports())
    batches = list(playing)
    assert [type(b) for b in batches] == [SegmentBatch, PacketBatch, SegmentBatch]
    assert [int(b.port[0]) for b in batches if isinstance(b, SegmentBatch)] == [0, 1]
    assert not isinstance(playing, Repeated)
    assert list(playing.sessions) == [
        Session("bgp", "172.21.1.101", 20),
        Session("bmp", "172.21.1.101", 20),
    ]
    assert played(made, made.feeds[0], Ports()) == [
        (WORD, 20, 0, b"open"),
        ("172.21.1.101", 0, 2, b"flow"),
        (WORD, 20, 3, b"bmp"),
    ]


def test_two_feeds_of_one_address_are_two_sessions(tmp_path: Path) -> None:
    write(tmp_path, "a.pcap", [(0, tcp(b"open"))])
    made = case(tmp_path, feed("a"), feed("b"), feed("c", present_as="172.21.1.102"))
    ports = Ports()
    found = [played(made, one, ports)[0][1] for one in made.feeds]
    assert found == [20, 21, 20]


def test_captures_are_repeated_round_by_round(tmp_path: Path) -> None:
    write(tmp_path, "a.pcap", [(5 * SECOND, tcp(b"open"))])
    write(tmp_path, "b.pcap", [(0, tcp(b"one")), (2 * SECOND, tcp(b"two"))])
    made = case(
        tmp_path,
        feed(
            pcaps=["a.pcap", "b.pcap"],
            repeat={"times": [1, 3], "order": "round-robin"},
            speed="pcap gaps x 0.001",
        ),
    )
    gap = 2 * SECOND // 1000
    rows = played(made, made.feeds[0], Ports())
    assert [(row[2], row[3]) for row in rows] == [
        (0, b"open"),
        *(
            (turn * gap + at, text)
            for turn in range(3)
            for at, text in ((0, b"one"), (gap, b"two"))
        ),
    ]


@pytest.mark.parametrize(
    ("dump", "until", "seconds"),
    [
        ({"every_seconds": 60, "slots": 1}, "next_dump", [60]),
        ({"every_seconds": 60, "slots": 1}, "next_dump_complete", [60]),
        ({"every_seconds": 240, "slots": 8}, "next_dump", [30]),
        ({"every_seconds": 240, "slots": 8}, "next_dump_complete", list(range(30, 241, 30))),
    ],
)
def test_clock_of_dumps(dump: dict[str, int], until: str, seconds: list[int]) -> None:
    variant = Variant.model_validate(
        {"id": "00", "collector": {"streams": {"bgp": "message log", "bgp_dump": dump}}}
    )
    midnight = T0 // (86400 * SECOND) * 86400 * SECOND
    found = dump_clock(variant, until, midnight + 6 * SECOND)
    assert [(at - midnight) // SECOND for at in found] == seconds


def test_clock_without_dumps_is_none() -> None:
    variant = Variant.model_validate({"id": "00", "collector": {"streams": {"bgp": "log"}}})
    with pytest.raises(CaseError, match="advance_to next_dump"):
        list(dump_clock(variant, "next_dump", 0))


def test_what_is_wanted_later_is_left(tmp_path: Path) -> None:
    rows = [{"a": 1, "seq": 1}, {"a": 2, "seq": 2}, {"a": 1, "seq": 3}]
    assert surplus(rows, [{"a": 1}], frozenset({"seq"})) == rows[1:]
    steps = [{"do": "expect", "stream": s, "ref": "r"} for s in ("bgp", "bmp", "bgp")]
    made = case(tmp_path, steps=steps)
    assert [made.wanted_later(step) for step in made.steps] == [True, False, False]
