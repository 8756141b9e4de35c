"""The runner itself, on a case made here."""

import json
from pathlib import Path
from typing import Any

import pytest

from flowray.generate.encode import v5_headers, v5_packets, v5_records
from flowray.wire.pcap import PcapWriter
from tests.conformance.command import main
from tests.conformance.compare import compare

T0_NS = 1_700_000_003 * 10**9


def _datagram(source: int, packets: int) -> bytes:
    header = v5_headers(1, 1, uptime_ms=1000, unix_secs=1_700_000_000)
    record = v5_records(1, src=source, dst=0x0A000002, packets=packets, octets=packets * 100)
    return v5_packets(header, record).tobytes()


def _pcap(path: Path, *datagrams: bytes, gap_s: int = 0) -> None:
    with PcapWriter(path) as writer:
        times = [T0_NS + i * gap_s * 10**9 for i in range(len(datagrams))]
        writer.write_udp("198.51.100.9", 40000, "192.0.2.99", 9991, list(datagrams), times)
        writer.write_udp("198.51.100.9", 40000, "192.0.2.99", 5353, [b"other"], [times[-1]])


def _row(source: str, packets: int, **more: Any) -> dict[str, Any]:
    return {
        "label": {"node": "a"}, "peer_ip_src": "172.21.1.101", "ip_src": source,
        "packets": packets, "flows": None, "bytes": packets * 100, "writer_id": "w",
    } | more  # fmt: skip


CASE: dict[str, Any] = {
    "format": "conformance-case/1",
    "id": "900x",
    "addresses": {"text_replacements": [["192.168.100.", "172.21.1.10"]]},
    "feeds": [
        {
            "id": "a",
            "pcaps": ["traffic.pcap"],
            "exporter": {"present_as": "172.21.1.101"},
            "take": [{"l4": "udp", "dst_port": 9991, "into": "flow"}],
        }
    ],
    "variants": [
        {
            "id": "00",
            "collector": {
                "writer_id": {"flow": "w"},
                "flow": {"fields": ["label", "peer_ip_src", "ip_src"], "bucket_seconds": 10},
                "maps": {"labels": "labels.map"},
                "encode": {
                    "records": "null-filled", "labels": "map",
                    "timestamps": "seconds since 1970, text",
                },
                "streams": {"flow": True},
            },
            "expected": {"flow-00": {"file": "flow-00.jsonl"}},
        }
    ],
    "steps": [
        {"do": "replay", "feeds": ["a"]},
        {"do": "expect", "stream": "flow", "ref": "flow-00", "ignore": ["stamp_inserted"]},
        {"do": "expect_events", "ref": "log-00"},
        {"do": "expect_no_problems"},
    ],
    "events": {
        "log-00": [
            {"event": "listening"},
            {"event": "map.loaded", "map": "labels"},
            {"event": "flow.flushed", "lines": 2},
        ]
    },
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A case that passes: two datagrams of one flow in a bucket, one of another flow."""
    path = tmp_path / "900x-made-here"
    path.mkdir()
    _pcap(path / "traffic.pcap", *(_datagram(s, n) for s, n in [(1, 2), (1, 3), (2, 7)]))
    (path / "labels.map").write_text("set_label=node%a ip=192.168.100.1/32\n", encoding="utf-8")
    _expect(path, _row("0.0.0.2", 7), _row("0.0.0.1", 5))
    _write(path, CASE)
    return path


def _expect(folder: Path, *rows: dict[str, Any]) -> None:
    text = "".join(f"{json.dumps(r)}\n" for r in rows).replace("172.21.1.101", "192.168.100.1")
    (folder / "flow-00.jsonl").write_text(text, encoding="utf-8")


def _write(folder: Path, case: dict[str, Any]) -> None:
    (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    assert _lines(capsys) == ["PASS 900x/00"]


def test_folder_of_cases(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder.parent)]) == 0
    assert _lines(capsys) == ["PASS 900x/00"]


def test_fail_shows_the_nearest_difference(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _expect(folder, _row("0.0.0.2", 7), _row("0.0.0.1", 5, bytes="500"))
    assert main([str(folder)]) == 1
    (line,) = _lines(capsys)
    assert line.startswith("FAIL 900x/00 flow-00: 2 lines for 2, 1 unknown, 1 missing, by bytes;")
    assert line.endswith('; nearest: bytes 500 instead of "500"')


def test_flow_in_two_buckets_is_two_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Buckets of ten seconds begin with the minute: second 23 and second 30 are in two."""
    _pcap(folder / "traffic.pcap", _datagram(1, 2), _datagram(1, 3), gap_s=7)
    _expect(folder, _row("0.0.0.1", 2), _row("0.0.0.1", 3))
    assert main([str(folder)]) == 0
    assert _lines(capsys) == ["PASS 900x/00"]


def test_problems_and_events_fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _pcap(
        folder / "traffic.pcap",
        *(_datagram(s, n) for s, n in [(1, 5), (2, 7)]),
        b"\x00\x05\x00\x09",
    )
    events = {"log-00": [{"event": "flow.flushed", "lines": 3}, {"event": "ha.state"}]}
    _write(folder, CASE | {"events": events})
    assert main([str(folder)]) == 1
    (line,) = _lines(capsys)
    assert line.split("; ") == [
        "FAIL 900x/00 log-00: 2 lines flushed instead of 3",
        "log-00: event ha.state is not told",
        "problem: 1 short_header",
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"streams": {"flow": True, "bmp": "message log"}}, "a listener of bmp"),
        ({"streams": {"flow": True, "telemetry": True}}, "streaming telemetry"),
        (
            {"flow": CASE["variants"][0]["collector"]["flow"] | {"routes_from": "mrt"}},
            "flows joined with mrt routes",
        ),
        (
            {"flow": {"fields": ["lat_ip_src"], "bucket_seconds": 10}},
            "field lat_ip_src",
        ),
        ({"encode": {"records": "avro"}}, "encode records: avro"),
        ({"flow": None, "streams": {"telemetry": True}}, "streaming telemetry"),
    ],
)
def test_unsupported(
    folder: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], why: str
) -> None:
    variant = CASE["variants"][0]
    changed = variant | {"collector": variant["collector"] | change}
    _write(folder, CASE | {"variants": [changed]})
    assert main([str(folder)]) == 0
    assert _lines(capsys) == [f"UNSUPPORTED 900x/00 (needs {why})"]


def test_unsupported_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(folder, CASE | {"steps": [{"do": "fault"}, *CASE["steps"]]})
    assert main([str(folder)]) == 0
    assert _lines(capsys) == ["UNSUPPORTED 900x/00 (needs faults of sinks)"]


def test_map_that_is_not_read_is_told_with_what_differs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collector = CASE["variants"][0]["collector"]
    variant = CASE["variants"][0] | {
        "collector": collector | {"maps": collector["maps"] | {"vpn_rd": "labels.map"}}
    }
    _write(folder, CASE | {"variants": [variant]})
    _expect(folder, _row("0.0.0.2", 7), _row("0.0.0.1", 6))
    assert main([str(folder)]) == 0
    (line,) = _lines(capsys)
    assert line.startswith(
        "UNSUPPORTED 900x/00 (needs flow_to_rd_map) flow-00: 2 lines for 2, 1 unknown"
    )


@pytest.mark.parametrize("key", ["label", "bytes"])
def test_artefacts_are_waived_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    _write(folder, CASE | {"id": "102"})
    _expect(folder, _row("0.0.0.2", 7), _row("0.0.0.1", 5, **{key: {}}))
    assert main([str(folder)]) == (key != "label")
    (line,) = _lines(capsys)
    assert line.startswith("WAIVED 102/00 the references lack" if key == "label" else "FAIL 102/00")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "case.json").unlink(), "no case.json in it"),
        (lambda f: (f / "case.json").write_text("{"), "Expecting property name"),
        (
            lambda f: _write(f, CASE | {"format": "conformance-case/9"}),
            "format 'conformance-case/9'",
        ),
        (lambda f: _write(f, CASE | {"feeds": 5}), "feeds: Input should be a valid list"),
        (lambda f: (f / "traffic.pcap").unlink(), "traffic.pcap: no such file"),
        (lambda f: (f / "flow-00.jsonl").unlink(), "flow-00.jsonl: no such file"),
    ],
)
def test_folder_that_is_no_case(
    folder: Path, capsys: pytest.CaptureFixture[str], spoil: Any, message: str
) -> None:
    spoil(folder)
    assert main([str(folder)]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert message in shown.err


def test_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"scripts/conformance: {tmp_path}/nowhere: no such folder\n"


@pytest.mark.parametrize("other", ["1", 1.0, True, None, [1]])
def test_equality_is_strict(other: Any) -> None:
    assert not compare([{"a": 1}], [{"a": other}]).equal


def test_null_is_not_absent_and_lists_have_an_order() -> None:
    assert not compare([{"a": None}], [{}]).equal
    assert not compare([{"a": [1, 2]}], [{"a": [2, 1]}]).equal
    assert compare([{"a": 1, "b": 2}, {}], [{}, {"b": 2, "a": 1}]).equal


def test_keys_are_ignored_at_the_top_alone() -> None:
    ignore = frozenset({"x"})
    assert compare([{"a": 1, "x": 5}], [{"a": 1}], ignore).equal
    assert not compare([{"a": {"x": 5}}], [{"a": {}}], ignore).equal


def test_multiset() -> None:
    got = compare([{"a": 1}, {"a": 1}], [{"a": 1}, {"a": 2}])
    assert (got.unknown, got.missing) == ([{"a": 1}], [{"a": 2}])


def test_many_to_one() -> None:
    rows = [{"a": 1}] * 3 + [{"a": 2}]
    want = [{"a": 1}, {"a": 2}]
    assert compare(rows, want, many_to_one=True, max_copies=3).equal
    assert compare(rows, want, many_to_one=True, max_copies=2).too_often == [{"a": 1}]
    assert compare(rows, [*want, {"a": 3}], many_to_one=True).missing == [{"a": 3}]
