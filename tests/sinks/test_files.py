import csv
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from flowray.errors import ConfigError
from flowray.field import Field, Kind
from flowray.fields import REGISTRY
from flowray.sinks import files
from flowray.sinks.append import append_once
from flowray.sinks.base import Commit, MemorySink, SinkError
from flowray.sinks.encoding import Encoding
from flowray.sinks.files import FileSink, OneFileSink
from flowray.sinks.paths import PathTemplate, safe_part
from flowray.sinks.render import render
from tests.sinks import render_twin as twin

MINUTE = 60 * 10**9
START = 1_677_577_560 * 10**9  # 2023-02-28 09:46:00 UTC
KINDS = ("jsonl", "csv", "parquet")
NAMES = ("peer_src_ip", "proto", "in_iface_name", "tcpflags", "label", "packets", "bytes")
VRF = Field("vrf", "vrf", Kind.UINT, 32, custom=True)
FIELDS = [*(REGISTRY[name] for name in NAMES), VRF]


def row(host: int, proto: int = 6, iface: bytes = b"xe-0/0/0", **more: Any) -> dict[str, Any]:
    return {
        "peer_src_ip": twin.MAPPED + bytes([192, 0, 2, host]),
        "proto": proto,
        "in_iface_name": iface,
        "tcpflags": 0x12,
        "label": b'a%b"c',
        "vrf": 9,
        "packets": 10 * host,
        "bytes": 1000 * host,
        **more,
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return twin.native(rows, FIELDS)


def window(i: int = 0, **more: Any) -> Commit:
    return Commit("by_if", START + i * MINUTE, START + (i + 1) * MINUTE, **more)


def sink(kind: Any, path: object, **more: Any) -> FileSink:
    return FileSink(kind, str(path), FIELDS, **{"window_ns": MINUTE, **more})


def names(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    if path.suffix == ".csv":
        return pa_csv.read_csv(path).to_pylist()
    return pq.ParquetFile(path).read().to_pylist()


# ------------------------------------------------------------------------------- a file per commit


@pytest.mark.parametrize("kind", KINDS)
def test_default_names_and_the_rows_in_them(tmp_path: Path, kind: str) -> None:
    files = sink(kind, tmp_path)
    files.commit(window(), table(row(1), row(2)))
    files.commit(window(revision=1), table(row(3)))
    files.commit(window(1), table(row(4)))
    files.close()
    assert names(tmp_path) == [
        f"by_if/2023-02-28/094600-p0-r0.{kind}",
        f"by_if/2023-02-28/094600-p0-r1.{kind}",
        f"by_if/2023-02-28/094700-p0-r0.{kind}",
    ]
    (first, second) = read(tmp_path / f"by_if/2023-02-28/094600-p0-r0.{kind}")
    assert (first["peer_ip_src"], second["peer_ip_src"]) == ("192.0.2.1", "192.0.2.2")
    assert (first["packets"], second["bytes"]) == (10, 2000)
    flags = first["tcp_flags"]
    assert (json.loads(flags) if kind == "csv" else flags) == ["ACK", "SYN"]


def test_a_view_without_windows_is_numbered(tmp_path: Path) -> None:
    files = sink("jsonl", tmp_path, window_ns=None, partitions=3)
    files.commit(Commit("raw", sequence=7, partition=2), table(row(1)))
    assert names(tmp_path) == ["raw/7-p2.jsonl"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_repeated_commit_leaves_the_same_bytes(tmp_path: Path, kind: str) -> None:
    files = sink(kind, tmp_path)
    files.commit(window(), table(row(1), row(2)))
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    sink(kind, tmp_path).commit(window(), table(row(1), row(2)))
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_rehearsal_leaves_no_file(tmp_path: Path, kind: str) -> None:
    files = sink(kind, tmp_path)
    files.rehearse()
    assert names(tmp_path) == []
    files.commit(window(), table(row(1)))
    assert len(names(tmp_path)) == 1


def test_a_commit_without_rows_leaves_no_file(tmp_path: Path) -> None:
    sink("parquet", tmp_path).commit(window(), table())
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files_ = sink(kind, tmp_path)
    files_.commit(window(), table(row(1)))
    before = (tmp_path / f"by_if/2023-02-28/094600-p0-r0.{kind}").read_bytes()
    real = files.open_writer

    def failing(*args: Any, **more: Any) -> Any:
        writer = real(*args, **more)
        writer.finish = lambda: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        return writer

    monkeypatch.setattr(files, "open_writer", failing)
    with pytest.raises(SinkError, match=r"cannot write by_if/\d+/p0/r0/s0: .*No space left"):
        files_.commit(window(), table(row(2)))
    assert names(tmp_path) == [f"by_if/2023-02-28/094600-p0-r0.{kind}"]
    assert (tmp_path / names(tmp_path)[0]).read_bytes() == before


def test_a_directory_that_cannot_be_made_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "by_if").write_text("in the way")
    with pytest.raises(SinkError, match="cannot write"):
        sink("jsonl", tmp_path).commit(window(), table(row(1)))


def test_parquet_is_zstd_with_dictionaries_and_names_its_commit(tmp_path: Path) -> None:
    sink("parquet", tmp_path).commit(window(), table(row(1), row(2)))
    footer = pq.ParquetFile(tmp_path / names(tmp_path)[0]).metadata
    columns = [footer.row_group(0).column(i) for i in range(footer.num_columns)]
    assert {c.compression for c in columns} == {"ZSTD"}
    assert all("RLE_DICTIONARY" in c.encodings for c in columns)
    assert footer.metadata[b"flowray.commit"] == window().id.encode()


def test_many_row_groups(tmp_path: Path) -> None:
    n = 600_000
    native = pa.table({"packets": pa.array(range(n), pa.uint64())})
    FileSink("parquet", str(tmp_path), [REGISTRY["packets"]], window_ns=MINUTE).commit(
        window(), native
    )
    file = pq.ParquetFile(tmp_path / names(tmp_path)[0])
    assert file.num_row_groups > 1
    assert file.read()["packets"].to_pylist() == list(range(n))


def test_csv_flattens_objects_and_quotes(tmp_path: Path) -> None:
    encoding = Encoding(records="null-filled", labels="map")
    sink("csv", tmp_path, encoding=encoding).commit(window(), table(row(1), row(2, _others=False)))
    with (tmp_path / names(tmp_path)[0]).open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == [
        *("label", "peer_ip_src", "iface_name_in", "ip_proto", "tcp_flags", "vrf"),
        *("packets", "flows", "bytes"),
        "others",
    ]
    assert json.loads(first["label"]) == {"a": 'b"c'}
    assert (first["flows"], first["vrf"], second["packets"]) == ("", "9", "20")


def test_partitions_that_were_not_announced_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="partition 1 of by_if"):
        sink("parquet", tmp_path).commit(window(partition=1), table(row(1)))


# ------------------------------------------------------------------------------------------- names


def test_rows_are_split_over_files_by_key_fields(tmp_path: Path) -> None:
    path = tmp_path / "{peer_src_ip}/{iface_name_in}-{window:%H%M}-{ip_proto}-{revision}.jsonl"
    files = sink("jsonl", path, window_ns=86400 * 10**9, append=True)
    rows = [row(1), row(2, 17), row(1, iface=b"../up"), row(1), row(2, iface=b""), row(3, 17)]
    rows[5]["_others"] = True
    files.commit(window(), table(*rows))
    found = {name: read(tmp_path / name) for name in names(tmp_path) if name.endswith(".jsonl")}
    assert {name: sum(r["packets"] for r in some) for name, some in found.items()} == {
        "192.0.2.1/xe-0%2F0%2F0-0946-tcp-0.jsonl": 20,
        "192.0.2.1/%2E.%2Fup-0946-tcp-0.jsonl": 10,
        "192.0.2.2/xe-0%2F0%2F0-0946-udp-0.jsonl": 20,
        "192.0.2.2/_-0946-tcp-0.jsonl": 20,
        "_others/_others-0946-_others-0.jsonl": 30,
    }
    whole = render(table(*rows), FIELDS, Encoding())
    assert sum(len(some) for some in found.values()) == whole.num_rows


@pytest.mark.parametrize("kind", KINDS)
def test_split_files_have_all_columns(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("{vrf}-{label}-{window}-{revision}." + kind)
    encoding = Encoding(records="null-filled", labels="map")
    sink(kind, path, encoding=encoding).commit(window(), table(row(1), row(2, vrf=8)))
    assert names(tmp_path) == [
        f"8-a%25b%22c-20230228T094600Z-0.{kind}",
        f"9-a%25b%22c-20230228T094600Z-0.{kind}",
    ]
    assert [r["packets"] for r in read(tmp_path / names(tmp_path)[0])] == [20]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4, unique=True))
def test_parts_of_names_are_safe_and_differ(values: list[str]) -> None:
    parts = [safe_part(v) for v in [*values, None]]
    assert len(set(parts)) == len(parts)
    for part in parts:
        assert part not in ("", ".", "..")
        assert not part.startswith(".")
        assert not set(part) & set("/\\\0 \n")
        assert part.isascii()
        assert len(part) <= 120


def test_long_values_are_cut_but_differ() -> None:
    a, b = safe_part("x" * 500), safe_part("x" * 501)
    assert a != b
    assert len(a) == len(b) == 120


@pytest.mark.parametrize(
    ("path", "more", "lacking"),
    [
        ("{view}.parquet", {}, "{revision}, {window:%Y%m%d-%H%M%S}"),
        ("rows.parquet", {"views": 2}, "{view}, {revision}, {window:%Y%m%d-%H%M%S}"),
        ("{window:%H%M}-{revision}.parquet", {}, "{window:%Y%m%d-%H%M%S}"),
        ("{window:%Y%m%d-%H}-{revision}.parquet", {}, "{window:%Y%m%d-%H%M%S}"),
        ("{window:%Y%m%d-%I%M}-{revision}.parquet", {}, "{window:%Y%m%d-%H%M%S}"),
        ("{window}.parquet", {"partitions": 2}, "{partition}, {revision}"),
        ("{view}.parquet", {"window_ns": None}, "{sequence}"),
    ],
)
def test_parquet_names_that_would_overwrite_are_refused(
    tmp_path: Path, path: str, more: dict[str, Any], lacking: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        sink("parquet", tmp_path / path, **more)
    assert f"a name that also has {lacking}, so" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("{window:%Y%m%d-%H%M}-{revision}.parquet", {}),
        ("{window:%Y-%j}/{window:%H.%M}-{revision}.parquet", {}),
        ("{window:%y%m%d}-{revision}.parquet", {"window_ns": 86400 * 10**9}),
        ("{window:%s}-{revision}.parquet", {"window_ns": 10**9}),
        ("{view}-{window}-{revision}-{partition}.parquet", {"views": 2, "partitions": 2}),
        ("{sequence}.parquet", {"window_ns": None}),
    ],
)
def test_parquet_names_that_differ_are_taken(
    tmp_path: Path, path: str, more: dict[str, Any]
) -> None:
    sink("parquet", tmp_path / path, **more)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{nothing}", r"found \{nothing\} in .*, allowed view, window, partition, .*peer_src_ip"),
        ("{tcpflags}", r"\{tcpflags\} in .*, allowed fields whose value is a single word"),
        ("{view", "names in braces"),
        ("{}", r"found \{\} in "),
        ("{view:>9}", r"found \{view:>9\}, allowed \{view\} without a format"),
    ],
)
def test_templates_that_cannot_be_used(template: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PathTemplate(template, FIELDS)


# ------------------------------------------------------------------------------------------ append


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_names_that_do_not_differ_are_appended_to_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    files = sink(kind, path)
    for commit in (window(), window(1), window(), window(1)):
        files.commit(commit, table(row(1 + (commit.window_ns != START))))
    sink(kind, path).commit(window(), table(row(1)))
    assert [r["packets"] for r in read(path)] == [10, 20]


def test_an_append_that_died_is_cut_off_and_repeated(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    sink("jsonl", path).commit(window(), table(row(1)))
    # A process that is killed when half of its line is on disk; the journal has its beginning.
    program = """
        import os, sys
        from pathlib import Path
        from flowray.sinks.append import append_once
        def write(file, size):
            file.write(b'{"half')
            file.flush()
            os._exit(9)
        append_once(Path(sys.argv[1]), sys.argv[2], write)
    """
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), path, window(1).id],
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[2])},
    )
    assert died.returncode == 9
    assert path.read_bytes().endswith(b'{"half')
    sink("jsonl", path).commit(window(2), table(row(3)))
    sink("jsonl", path).commit(window(1), table(row(2)))
    assert [r["packets"] for r in read(path)] == [10, 30, 20]


def test_a_journal_line_that_was_cut_off_counts_as_not_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert append_once(path, "a", lambda file, _: file.write(b"a\n"))
    journal = path.with_name(".rows.jsonl.commits")
    journal.write_bytes(journal.read_bytes()[:-4])
    assert append_once(path, "a", lambda file, _: file.write(b"a\n"))
    assert path.read_bytes() == b"a\n"


def test_a_failed_append_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_once(path, "a", lambda file, _: file.write(b"a\n"))

    def failing(file: Any, _: int) -> None:
        file.write(b"b")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        append_once(path, "b", failing)
    assert path.read_bytes() == b"a\n"
    assert append_once(path, "b", lambda file, _: file.write(b"b\n"))
    assert path.read_bytes() == b"a\nb\n"


def test_a_file_that_was_rotated_away_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    files = sink("csv", path)
    files.commit(window(), table(row(1)))
    path.rename(tmp_path / "rows.1.csv")
    files.commit(window(1), table(row(2)))
    assert [r["packets"] for r in read(path)] == [20]


def test_the_journal_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowray.sinks.append._KEPT", 4)
    path = tmp_path / "rows.jsonl"
    for i in range(30):
        append_once(path, str(i), lambda file, _, i=i: file.write(b"%d\n" % i))
    journal = path.with_name(".rows.jsonl.commits").read_bytes().splitlines()
    assert len([line for line in journal if b"end" in line]) <= 9
    assert not append_once(path, "29", lambda file, _: file.write(b"again"))
    assert path.read_bytes() == b"".join(b"%d\n" % i for i in range(30))


def test_csv_with_other_columns_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    sink("csv", path).commit(window(), table(row(1)))
    fewer = FileSink("csv", str(path), FIELDS[1:], window_ns=MINUTE)
    with pytest.raises(SinkError, match="other columns"):
        fewer.commit(window(1), table(row(2)))
    assert len(read(path)) == 1


def test_writers_of_several_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    program = """
        import sys
        from pathlib import Path
        from flowray.sinks.append import append_once
        for i in range(40):
            line = f"{sys.argv[2]}-{i}\\n".encode() * 50
            append_once(Path(sys.argv[1]), f"{sys.argv[2]}-{i}", lambda f, _: f.write(line))
    """
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), path, name],
            env={**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[2])},
        )
        for name in ("a", "b")
    ]
    assert [w.wait() for w in writers] == [0, 0]
    lines = path.read_text().splitlines()
    blocks = [lines[i : i + 50] for i in range(0, len(lines), 50)]
    assert sorted(block[0] for block in blocks) == sorted(
        f"{n}-{i}" for n in "ab" for i in range(40)
    )
    assert all(len(set(block)) == 1 for block in blocks)


def test_parquet_and_remote_files_cannot_be_appended_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only local JSON lines and CSV"):
        sink("parquet", tmp_path, append=True)
    remote = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    with pytest.raises(ConfigError, match="so that no file is overwritten"):
        sink("jsonl", "rows.jsonl", filesystem=remote)


# ------------------------------------------------------------------------------------------ latest


def test_the_link_follows_the_newest_window(tmp_path: Path) -> None:
    files = sink("jsonl", tmp_path, latest=True)
    link = tmp_path / "by_if/latest.jsonl"
    files.commit(window(1), table(row(2)))
    assert str(link.readlink()) == "2023-02-28/094700-p0-r0.jsonl"
    files.commit(window(0, revision=1), table(row(1)))
    assert [r["packets"] for r in read(link)] == [20]
    files.commit(window(2), table(row(3)))
    assert [r["packets"] for r in read(link)] == [30]
    assert not list(tmp_path.rglob("*.tmp"))


def test_names_of_links(tmp_path: Path) -> None:
    for template, link in {
        "{view}/{peer_src_ip}/{window}-{revision}": "by_if/192.0.2.1/latest.csv",
        "{view}-{window}-{revision}": "by_if-latest.csv",
        "{window}-{revision}-{view}": "by_if-latest.csv",
        "all/{window:%Y}/{window}-{revision}": "all/by_if-latest.csv",
    }.items():
        template_ = PathTemplate(template, FIELDS)
        assert template_.latest(window(), {"peer_src_ip": "192.0.2.1"}, ".csv") == link


def test_no_links_on_remote_file_systems(tmp_path: Path) -> None:
    remote = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    with pytest.raises(ConfigError, match="latest: false"):
        sink("parquet", "lake", filesystem=remote, latest=True)


# ------------------------------------------------------------------------------ other file systems


@pytest.mark.parametrize("kind", KINDS)
def test_other_file_systems(tmp_path: Path, kind: str) -> None:
    remote = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    files = sink(kind, "lake", filesystem=remote)
    for _ in range(2):
        files.commit(window(), table(row(1)))
    assert names(tmp_path) == [f"lake/by_if/2023-02-28/094600-p0-r0.{kind}"]
    assert [r["packets"] for r in read(tmp_path / names(tmp_path)[0])] == [10]


def test_uris(tmp_path: Path) -> None:
    sink("parquet", f"file://{tmp_path}/lake").commit(window(), table(row(1)))
    uri = f"file://{tmp_path}/lake/x-{{window}}-{{revision}}.parquet"
    sink("parquet", uri).commit(window(), table(row(1)))
    assert names(tmp_path / "lake") == [
        "by_if/2023-02-28/094600-p0-r0.parquet",
        "x-20230228T094600Z-0.parquet",
    ]
    with pytest.raises(ConfigError, match="a URI that can be reached"):
        sink("parquet", "nosuch://host/lake")


def test_relative_paths_do_not_follow_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    files = sink("jsonl", "data")
    monkeypatch.chdir(tmp_path)
    files.commit(window(), table(row(1)))
    assert names(tmp_path) == ["here/data/by_if/2023-02-28/094600-p0-r0.jsonl"]


# ---------------------------------------------------------------------------- one file of all rows


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_appears_when_it_is_closed(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / f"out/by_if.{kind}"
    one = OneFileSink(path, kind, FIELDS)
    one.commit(window(), table(row(1), row(2)))
    one.commit(window(1), table(row(3)))
    one.commit(window(), table(row(1), row(2)))
    assert not path.exists()
    one.close()
    one.close()
    assert [r["packets"] for r in read(path)] == [10, 20, 30]
    assert names(tmp_path) == [f"out/by_if.{kind}"]
    with pytest.raises(SinkError, match="it is closed"):
        one.commit(window(2), table(row(4)))


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_without_rows(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / f"empty.{kind}"
    OneFileSink(path, kind, FIELDS).close()
    if kind == "jsonl":
        assert path.read_bytes() == b""
    elif kind == "csv":
        assert path.read_text().startswith('"label","peer_ip_src",')
    else:
        assert pq.ParquetFile(path).schema_arrow.names[:2] == ["label", "peer_ip_src"]


def test_one_file_that_is_discarded(tmp_path: Path) -> None:
    one = OneFileSink(tmp_path / "a.jsonl", "jsonl", FIELDS)
    one.commit(window(), table(row(1)))
    one.discard()
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_that_could_not_take_a_commit_is_given_up(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = OneFileSink(tmp_path / f"a.{kind}", kind, FIELDS)
    one.commit(window(), table(row(1)))

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one._writer, "write", full)
    with pytest.raises(SinkError, match="No space"):
        one.commit(window(1), table(row(2)))
    with pytest.raises(SinkError, match="it is closed"):
        one.commit(window(1), table(row(2)))
    one.close()
    assert names(tmp_path) == []


def test_one_file_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        OneFileSink(tmp_path / "file/a.jsonl", "jsonl", FIELDS)


# ------------------------------------------------------------------------------------------ others


def test_ids_differ() -> None:
    commits = [
        *(window(), window(1), window(partition=1), window(revision=1)),
        *(Commit("by_if"), Commit("by_if", sequence=1), Commit("b", 1)),
    ]
    assert len({c.id for c in commits}) == len(commits)


def test_memory_sink() -> None:
    memory = MemorySink()
    rows = table(row(1))
    memory.commit(window(), rows)
    memory.commit(window(), rows)
    memory.close()
    assert list(memory.tables) == [window().id]
    assert memory.closed


def test_parquet_has_timestamps_of_its_own(tmp_path: Path) -> None:
    start = REGISTRY["timestamp_start"]
    sink = OneFileSink(tmp_path / "v.parquet", "parquet", [start])
    times = pa.array([1_700_000_000_123_456_789, 0], pa.int64())
    sink.commit(Commit("v"), pa.table({"timestamp_start": times}))
    sink.close()
    column = pq.read_table(tmp_path / "v.parquet")["timestamp_start"]
    assert column.type == pa.timestamp("us", "UTC")
    assert column.cast(pa.int64()).to_pylist() == [1_700_000_000_123_456, None]
