"""`flowray rib` from the operator's side: against a looking glass, and against files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from flowray.rib.glass_answers import Answers
from flowray.rib.glass_server import GlassServer
from flowray.rib.restore import saved
from flowray.rib.rib import Rib
from flowray.state.store import open_store
from flowray.views.checkpoint import Checkpoint
from tests.rib.tables import RibThread, bgp_peer, bmp_peer, feed
from tests.wire.bgp import encode as e
from tests.wire.bgp import mrt_records as mrt

Flowray = Callable[..., tuple[int, str, str]]


@pytest.fixture
def flowray(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Flowray:
    """Runs `flowray rib …`: exit code, what it prints, what it says to standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["rib", *arguments])
        said = capsys.readouterr()
        return int(str(end.value.code or 0)), said.out, said.err

    return run


def announced(prefix: str, *path: int, more: bytes = b"") -> bytes:
    return e.update(attributes=e.usual(*path) + more, nlri=e.prefix(prefix))


def fill(rib: Rib) -> None:
    one, two = rib.open(bgp_peer(), 1_700_000_000 * 10**9), rib.open(bmp_peer())
    community = e.communities((64496, 1))
    feed(rib, one, announced("10.0.0.0/8", 64496, 64497), e.end_of_rib())
    feed(rib, one, announced("10.1.0.0/16", 64496, 64498, more=community))
    feed(rib, two, announced("10.1.0.0/16", 64499))
    evpn = e.rd_as(64496, 5) + bytes(4) + bytes([32]) + e.address("192.0.2.77")
    reach = e.mp_reach(25, 70, e.address("192.0.2.1"), e.evpn(3, evpn))
    feed(rib, two, e.update(attributes=e.usual(64499, hop=None) + reach))


@contextmanager
def serving(fill_: Callable[[Rib], None]) -> Iterator[str]:
    with RibThread().running() as owner:
        owner.ask(fill_)
        server = GlassServer("127.0.0.1:0", Answers(owner.ask))
        server.start()
        yield f"127.0.0.1:{server.port}"
        server.stop()


@pytest.fixture
def at() -> Iterator[list[str]]:
    with serving(fill) as address:
        yield ["--address", address]


def read(out: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(out)
    return rows


def test_peers(flowray: Flowray, at: list[str]) -> None:
    code, out, _ = flowray("peers", *at)
    assert code == 0
    lines = [line.split() for line in out.splitlines() if "unicast" in line]
    assert lines[0][:3] == ["192.0.2.1", "64496", "198.51.100.1"]
    assert "up since 2023-11-14 22:13:20" in out
    assert lines[1][:4] == ["192.0.2.9", "64499", "198.51.100.9", "203.0.113.1"]
    one, two = read(flowray("peers", *at, "--json")[1])
    assert (one["state"], one["routes"], one["since_ns"]) == ("up", 2, 1_700_000_000 * 10**9)
    assert [table["family"] for table in two["tables"]] == ["ipv4 unicast", "evpn"]
    assert two["since_ns"] is None


def test_lookup(flowray: Flowray, at: list[str]) -> None:
    code, out, _ = flowray("lookup", "10.1.2.3", *at)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "10." in line] == ["10.1.0.0/16"] * 2
    rows = read(flowray("lookup", "10.1.2.3", "--all", "--peer", "192.0.2.1", *at, "--json")[1])
    assert [row["as_path"] for row in rows] == ["64496 64497", "64496 64498"]
    assert flowray("lookup", "192.0.2.1", *at)[1].strip() == "no routes"
    assert read(flowray("lookup", "192.0.2.1", *at, "--json")[1]) == []


def test_routes(flowray: Flowray, at: list[str]) -> None:
    def found(*conditions: str) -> list[Any]:
        rows = read(flowray("routes", *conditions, *at, "--json")[1])
        return [row.get("ip_prefix", row.get("nlri")) for row in rows]

    assert found("--as-path", "_64497$") == ["10.0.0.0/8"]
    assert found("--community", "64496:1") == ["10.1.0.0/16"]
    assert found("--prefix", "10.0.0.0/8", "--longer", "--peer", "192.0.2.9") == ["10.1.0.0/16"]
    assert found("--prefix", "10.0.0.0/8") == ["10.0.0.0/8"]
    (evpn,) = read(flowray("routes", "--rd", "64496:5", *at, "--json")[1])
    assert (evpn["rd"], evpn["safi"]) == ("0:64496:5", 70)
    assert "nlri_detail" not in evpn
    assert evpn["ip"] == "192.0.2.77"
    code, out, said = flowray("routes", "--limit", "2", *at)
    assert (code, len([line for line in out.splitlines() if "10." in line])) == (0, 2)
    assert said == "flowray: more than 2 routes; --limit 0 gives all\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lookup", "10.1.2"], "prefix: found '10.1.2', allowed an address or a prefix"),
        (["routes", "--peer", "192.0.2.8"], "of which there are no routes here"),
        (["routes", "--as-path", "("], "no regular expression"),
        (["diff", "yesterday", "now"], "no tables of the past are kept"),
    ],
)
def test_mistakes_are_one_line(
    flowray: Flowray, at: list[str], arguments: list[str], line: str
) -> None:
    code, out, said = flowray(*arguments, *at)
    assert (code, out) == (2, "")
    assert line in said
    assert said.startswith("flowray: ")
    assert said.count("\n") == 1


def test_nobody_answers(flowray: Flowray, tmp_path: Path) -> None:
    with serving(fill) as address:
        pass
    code, _, said = flowray("peers", "--address", address)
    assert code == 2
    assert f"no looking glass answers at {address}" in said
    config = tmp_path / "flowray.yaml"
    config.write_text(json.dumps({"views": [{"name": "a", "keys": ["src_host"]}]}))
    assert "no group of routes has a looking glass" in flowray("peers", "-c", str(config))[2]


def test_all_groups_of_a_configuration_are_asked(flowray: Flowray, tmp_path: Path) -> None:
    def other(rib: Rib) -> None:
        feed(rib, rib.open(bgp_peer("192.0.2.200")), announced("10.0.0.0/8", 64511))

    with serving(fill) as first, serving(other) as second:
        groups = [
            {"name": name, "bgp": f"127.0.0.1:{port}", "looking_glass": address}
            for name, port, address in (("a", 1179, first), ("b", 1180, second))
        ]
        content = {
            "listen": {"bgp": {}},
            "routes": {"groups": groups},
            "views": [{"name": "a", "keys": ["src_host"]}],
        }
        config = tmp_path / "flowray.yaml"
        config.write_text(json.dumps(content))
        asked = ["-c", str(config), "--json"]
        assert len(read(flowray("peers", *asked)[1])) == 3
        (row,) = read(flowray("lookup", "10.9.9.9", "--peer", "192.0.2.200", *asked)[1])
        assert row["as_path"] == "64511"
        code, _, said = flowray("routes", "--peer", "192.0.2.201", *asked)
        assert (code, "of which there are no routes" in said) == (2, True)


def mrt_file(path: Path, *updates: bytes) -> Path:
    session = mrt.session(64496, 64500, "192.0.2.1", "192.0.2.2")
    body = [session + update for update in updates]
    path.write_bytes(b"".join(mrt.record(16, 4, b) for b in body))
    return path


def mrt_update(prefix: str, *path: int) -> bytes:
    attributes = mrt.attribute(1, b"\0") + mrt.path(*path) + mrt.next_hop("192.0.2.1")
    return mrt.update(attributes, mrt.prefix(prefix))


def test_files_are_asked(flowray: Flowray, tmp_path: Path) -> None:
    before = mrt_file(tmp_path / "a.mrt", mrt_update("10.0.0.0/8", 1), mrt_update("11.0.0.0/8", 1))
    (row,) = read(flowray("lookup", "10.1.1.1", "--file", str(before), "--json")[1])
    assert row["as_path"] == "1"
    rib = Rib()
    fill(rib)
    kept = tmp_path / "saved.bin"
    Checkpoint(open_store(tmp_path), kept.name).store(saved(rib))
    rows = read(flowray("routes", "--file", str(kept), "--json")[1])
    assert len(rows) == 4
    assert not any("stale" in row for row in rows)
    code, _, said = flowray("peers", "--file", str(tmp_path / "none"))
    assert (code, "none" in said) == (2, True)


def test_diff_of_files(flowray: Flowray, tmp_path: Path) -> None:
    before = mrt_file(tmp_path / "a.mrt", mrt_update("10.0.0.0/8", 1), mrt_update("11.0.0.0/8", 1))
    after = mrt_file(tmp_path / "b.mrt", mrt_update("10.0.0.0/8", 2), mrt_update("12.0.0.0/8", 1))
    files = [str(before), str(after)]
    changes = read(flowray("diff", *files, "--json")[1])
    assert [
        (c["change"], *(side and side["as_path"] for side in (c["before"], c["after"])))
        for c in changes
    ] == [("changed", "1", "2"), ("removed", "1", None), ("added", None, "1")]
    out = flowray("diff", *files)[1]
    assert [line.split()[0] for line in out.splitlines() if ".0.0.0/8" in line] == [
        "~", "10.0.0.0/8", "-", "+",
    ]  # fmt: skip
    assert flowray("diff", str(before), str(before))[1].strip() == "no difference"
    said = flowray("diff", str(before), "now")[2]
    assert "allowed two files or two times" in said
