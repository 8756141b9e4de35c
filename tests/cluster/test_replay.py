"""`flowray replay` from the operator's side: what it says and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.cli import main
from flowray.wire.pcap import PcapWriter
from tests.ingest.decoding import FLOW, Ipfix, flow

T0_NS = 1_700_000_000 * 10**9


def capture(folder: Path) -> Path:
    x = Ipfix()
    path = folder / "flows.pcap"
    with PcapWriter(path) as writer:
        payload = x.send(FLOW, flow(1), flow(2))
        writer.write_udp("192.0.2.1", 5000, "192.0.2.2", 2055, [payload], T0_NS)
    return path


def replay(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, what it says to standard error, and the summary."""
    with pytest.raises(SystemExit) as end:
        main(["replay", *arguments])
    said = capsys.readouterr()
    return int(str(end.value.code)), said.err, json.loads(said.out.splitlines()[-1])


def test_rows_that_no_sink_takes_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file where the sink wants a directory")
    config = tmp_path / "flowray.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "views": [{"name": "a", "keys": ["src_port"], "window": "1m", "sinks": ["x"]}],
                "sinks": {"x": {"type": "jsonl", "path": f"{tmp_path}/taken/deep"}},
            }
        )
    )
    pcap = str(capture(tmp_path))
    code, said, summary = replay(capsys, pcap, "-c", str(config), "--json")
    assert code == 2
    assert "flowray: 1 commits of a are not stored: cannot write" in said
    assert (summary["records"], summary["rows"], len(summary["unstored"])) == (2, 0, 1)
    code, said, summary = replay(capsys, pcap, "-c", str(config), "--out", f"{tmp_path}/out")
    assert (code, summary["rows"], summary["unstored"]) == (0, 2, [])


def test_a_cut_off_capture_is_read_up_to_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = capture(tmp_path)
    whole.write_bytes(whole.read_bytes() * 2)  # the second header is no record
    code, said, summary = replay(capsys, str(whole), "--out", f"{tmp_path}/out", "--json")
    assert (code, summary["records"]) == (0, 2)
    assert said.startswith(f"flowray: {whole}: byte ")
    assert said.endswith("; read up to there\n")
