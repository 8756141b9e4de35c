import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray import protocols
from flowray.field import Field, Kind
from flowray.fields import REGISTRY
from flowray.sinks import text_kernels
from flowray.sinks.encoding import Encoding
from flowray.sinks.jsonl import to_jsonl
from flowray.sinks.render import flat, ordered, render, render_batches
from tests.sinks import render_twin as twin

CUSTOM = (
    Field("vrf", "vrf", Kind.UINT, 32, custom=True),
    Field("color", "color", Kind.HEX, 32, custom=True),
    Field("top", "top", Kind.ADDRESS, 128, custom=True),
    Field("station", "station", Kind.MAC, 48, custom=True),
    Field("app", "app", Kind.TEXT, 32, custom=True),
    Field("blob", "blob", Kind.BYTES, 32, custom=True),
)
BUILT_IN = tuple(
    REGISTRY[name]
    for name in (
        *("bytes", "packets", "flows", "tcpflags", "src_host", "dst_host", "src_net", "dst_net"),
        *("peer_src_ip", "post_nat_src_host", "proto", "tunnel_proto", "tos", "src_port", "etype"),
        *("src_mac", "fwd_status", "sampling_direction", "timestamp_start", "timestamp_min"),
        *("stamp_inserted", "stamp_updated", "label", "mpls_label_stack", "srv6_seg_ipv6_list"),
        *("in_iface_name", "tunnel_tcpflags"),
    )
)
FIELDS = (*BUILT_IN, *CUSTOM)


def addresses() -> st.SearchStrategy[bytes]:
    sparse = st.lists(st.sampled_from([0, 0, 0, 1, 15, 255]), min_size=16, max_size=16).map(bytes)
    mapped = st.binary(min_size=4, max_size=4).map(lambda raw: twin.MAPPED + raw)
    near = st.sampled_from([bytes(12) + b"\1\2\3\4", bytes(15) + b"\1", bytes(11) + b"\xff" * 5])
    return st.one_of(st.just(bytes(16)), mapped, sparse, near, st.binary(min_size=16, max_size=16))


def texts() -> st.SearchStrategy[bytes]:
    awkward = ["", 'a"b\\c', "k%v,l%w", "k%v,k%w,,x", "\x00\x1f\x7f\n\t", "é€😀", "\u2028"]
    return st.one_of(st.sampled_from([t.encode() for t in awkward]), st.binary(max_size=8))


def values(field: Field) -> st.SearchStrategy[Any]:
    match field.kind:
        case Kind.ADDRESS:
            return addresses()
        case Kind.TEXT | Kind.BYTES:
            return texts()
        case Kind.LABELS:
            return st.integers(0, 3).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
        case Kind.SEGMENTS:
            return st.lists(addresses().filter(lambda a: a[:12] != twin.MAPPED), max_size=3).map(
                b"".join
            )
        case Kind.FORWARDING:
            return st.sampled_from(sorted(twin.FORWARDING))
        case Kind.TIME:
            # pa.int64 in native tables: times after 2262 do not exist there.
            return st.one_of(st.just(0), st.integers(0, 1 << 62), st.integers(0, 4 * 10**9))
    return st.one_of(st.just(0), st.integers(0, (1 << field.bits) - 1))


def rows(fields: tuple[Field, ...]) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.fixed_dictionaries({f.name: values(f) for f in fields})
    marked = st.tuples(row, st.booleans()).map(lambda pair: {**pair[0], "_others": pair[1]})
    return st.one_of(st.lists(row, max_size=6), st.lists(marked, max_size=6))


ENCODINGS = st.builds(
    Encoding,
    records=st.sampled_from(["rows", "plain", "null-filled"]),
    labels=st.sampled_from(["text", "map"]),
    tcp_flags=st.sampled_from(["list", "int"]),
    forwarding_status=st.sampled_from(["text", "number"]),
    mpls_label_stack=st.sampled_from(["list", "text"]),
    timestamps=st.sampled_from(["epoch", "rfc3339", "text"]),
    precision=st.sampled_from(["s", "ms", "us", "ns"]),
    protocols=st.sampled_from(["name", "number"]),
    tos=st.sampled_from(["tos", "dscp"]),
    writer_id=st.sampled_from(["", 'w"1']),
)


def objects(table: pa.Table) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bytes(to_jsonl(table)).split(b"\n") if line]


@given(data=st.data(), encoding=ENCODINGS, chunk=st.integers(1, 4), step=st.integers(1, 4))
def test_rows_are_those_of_the_twin_in_the_same_key_order(
    data: st.DataObject, encoding: Encoding, chunk: int, step: int
) -> None:
    # A table of no columns has no rows, so one is always there.
    picked = data.draw(st.sets(st.sampled_from(FIELDS)), label="fields") | {REGISTRY["src_port"]}
    picked = tuple(picked)
    some = data.draw(rows(picked), label="rows")
    stored = tuple(f for f in picked if not f.name.startswith("stamp_"))
    table = twin.native(some, stored, chunk)
    window = (1_677_577_560 * 10**9, 1_677_577_620 * 10**9)
    expected = twin.rendered(some, picked, encoding, window)
    found = objects(render(table, picked, encoding, window))
    assert found == expected
    assert [list(o) for o in found] == [list(o) for o in expected]
    batches = render_batches(table, picked, encoding, window, rows=step)
    assert objects(pa.Table.from_batches(batches)) == expected


@given(st.lists(addresses(), min_size=1, max_size=5))
def test_addresses_are_those_of_ipaddress(raw: list[bytes]) -> None:
    array = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 16)
    for unset, text in ((0, ""), (4, "0.0.0.0"), (6, "::")):
        offsets = np.zeros(len(raw) + 1, np.int32)
        out = np.zeros(39 * len(raw), np.uint8)
        text_kernels.addresses(array, np.full(len(raw), unset, np.uint8), offsets, out)
        ends = [bytes(out[a:b]).decode() for a, b in pairwise(offsets)]
        assert ends == [twin.address(a, text) for a in raw]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7:0"),
        ("1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"),
        ("0:0:3:4:5:6:7:8", "::3:4:5:6:7:8"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_rfc_5952(raw: str, text: str) -> None:
    value = b"".join(int(group, 16).to_bytes(2, "big") for group in raw.split(":"))
    table = twin.native([{"src_host": value}], [REGISTRY["src_host"]])
    assert render(table, [REGISTRY["src_host"]], Encoding())["ip_src"].to_pylist() == [text]


@given(st.integers(0, 2**64 - 1), st.sampled_from([0, 3, 6, 9]))
def test_times_are_those_of_datetime(ns: int, digits: int) -> None:
    for style, name in enumerate(("epoch", "text", "rfc3339")):
        out = np.zeros(text_kernels.TIME_WIDTH, np.uint8)
        offsets = np.zeros(2, np.int32)
        end = text_kernels.times(np.array([ns], np.uint64), style, digits, offsets, out)
        assert bytes(out[:end]).decode() == twin.time(ns, name, digits)


def test_the_null_filled_form() -> None:
    names = ("peer_src_ip", "src_host", "src_net", "tcpflags", "fwd_status", "label", "packets")
    fields = [*(REGISTRY[n] for n in names), REGISTRY["bytes"], CUSTOM[0], CUSTOM[2]]
    v4 = twin.MAPPED + bytes([192, 0, 2, 1])
    row = {
        "peer_src_ip": v4,
        "src_host": v4,
        "src_net": bytes(16),
        "tcpflags": 0x18,
        "fwd_status": 195,
        "label": b"nkey%a,pkey%b",
        "packets": 2,
        "bytes": 220,
        "vrf": 7,
        "top": bytes(16),
    }
    encoding = Encoding(records="null-filled", labels="map", timestamps="epoch", writer_id="c1")
    line = bytes(to_jsonl(render(twin.native([row], fields), fields, encoding)))
    assert line == (
        b'{"label":{"nkey":"a","pkey":"b"},"peer_ip_src":"192.0.2.1","ip_src":"192.0.2.1",'
        b'"net_src":"0.0.0.0","fwd_status":"CONSUMED For us","tcp_flags":["ACK","PSH"],'
        b'"custom_primitives":{"vrf":"7","top":"0.0.0.0"},"packets":2,"flows":null,"bytes":220,'
        b'"writer_id":"c1"}\n'
    )


def test_columns_that_the_table_lacks_have_empty_values() -> None:
    names = ("as_path", "local_pref", "src_host", "peer_dst_ip", "sampling_direction", "tcpflags")
    fields = [REGISTRY[n] for n in (*names, "timestamp_start", "srv6_seg_ipv6_list", "packets")]
    table = pa.table({"packets": pa.array([1, 2], pa.uint64())})
    assert objects(render(table, fields, Encoding(timestamps="epoch")))[1] == {
        "as_path": "",
        "local_pref": 0,
        "peer_ip_dst": "",
        "ip_src": "0.0.0.0",
        "tcp_flags": [],
        "srv6_seg_ipv6_list": [],
        "sampling_direction": "u",
        "timestamp_start": "0.000000",
        "packets": 2,
    }


def test_window_start_of_each_row() -> None:
    field = REGISTRY["stamp_inserted"]
    table = pa.table({"_window": pa.array([60 * 10**9, 120 * 10**9], pa.int64())})
    found = render(table, [field], Encoding(timestamps="text"), (0, 0))
    assert found["stamp_inserted"].to_pylist() == ["1970-01-01 00:01:00", "1970-01-01 00:02:00"]


def test_nothing_to_render_keeps_the_columns() -> None:
    empty = render(twin.native([], FIELDS), FIELDS, Encoding())
    assert empty.num_rows == 0
    assert empty.column_names == [f.key for f in ordered(FIELDS)]


def test_working_fields_are_not_rendered() -> None:
    assert ordered([REGISTRY["_packet"], REGISTRY["bytes"], REGISTRY["tag"]]) == [
        REGISTRY["tag"],
        REGISTRY["bytes"],
    ]


def test_every_public_field_can_be_rendered() -> None:
    fields = REGISTRY.public()
    row = {f.name: b"" if f.kind.interned else 0 for f in fields}
    row |= {f.name: bytes(16) for f in fields if f.kind is Kind.ADDRESS}
    (found,) = objects(render(twin.native([row], fields), fields, Encoding(records="null-filled")))
    assert list(found) == [f.key for f in ordered(fields)]
    assert found["tunnel_ip_proto"] == "0"
    assert found["mac_src"] == "00:00:00:00:00:00"
    assert found["mpls_label_stack"] == []
    assert found["post_nat_ip_src"] == ""


def test_dictionaries_hold_only_values_of_rows() -> None:
    field = REGISTRY["in_iface_name"]
    many = pa.array([b"eth%d" % i for i in range(1000)], pa.binary())
    column = pa.DictionaryArray.from_arrays(pa.array([5, 5, 900], pa.int32()), many)
    (batch,) = render_batches(pa.table({field.name: column}), [field], Encoding())
    assert batch.column(0).dictionary.to_pylist() == ["eth5", "eth900"]
    part = flat(batch.slice(2))
    assert part.column(0).dictionary.to_pylist() == ["eth900"]


def test_protocol_names_follow_the_table_of_the_project() -> None:
    table = pa.table({"proto": pa.array(range(256), pa.uint8())})
    field = REGISTRY["proto"]
    assert render(table, [field], Encoding())["ip_proto"].to_pylist() == list(protocols.NAMES)
    numbers = render(table, [field], replace(Encoding(), protocols="number"))
    assert numbers["ip_proto"].to_pylist() == [str(n) for n in range(256)]


def test_warm_up_compiles_all_that_rendering_needs() -> None:
    # In a process of its own, where no test has called a kernel in another way.
    program = """
        import pyarrow as pa
        from numba.core.registry import CPUDispatcher
        from flowray.fields import REGISTRY
        from flowray.sinks import jsonl_kernels, text_kernels
        from flowray.sinks.encoding import Encoding
        from flowray.sinks.jsonl import to_jsonl
        from flowray.sinks.render import render
        from flowray.sinks.warmup import warm_up

        def compiled():
            modules = (jsonl_kernels, text_kernels)
            kernels = [k for m in modules for k in vars(m).values() if isinstance(k, CPUDispatcher)]
            return {k.__name__: len(k.signatures) for k in kernels if k.__name__[0] != "_"}

        warm_up()
        before = compiled()
        called = {n: c for n, c in before.items() if n != "put_decimal"}
        assert len(called) > 12 and set(called.values()) == {1}, called
        fields = [REGISTRY[n] for n in ("src_host", "in_iface_name", "bytes", "timestamp_start")]
        names = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int32()), [b"a", b"b"])
        columns = {
            "src_host": pa.array([bytes(16), bytes(range(16))], pa.binary(16)),
            "in_iface_name": names,
            "bytes": pa.array([1, 2], pa.uint64()),
            "timestamp_start": pa.array([1, 2], pa.int64()),
        }
        table = pa.table(columns)
        marked = table.append_column("_others", pa.array([False, True]))
        for some in (table, marked, pa.concat_tables([marked, marked]), table.slice(1)):
            for records in ("rows", "null-filled"):
                to_jsonl(render(some, fields, Encoding(records=records)))
                to_jsonl(render(some.select([2]), fields, Encoding(records=records)))
        assert compiled() == before, (before, compiled())
    """
    root = str(Path(text_kernels.__file__).parents[2])
    command = [sys.executable, "-c", textwrap.dedent(program)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": root})


@pytest.mark.parametrize(
    ("form", "path"), [("text", ["64496_{1,2}", ""]), ("list", [["64496", "{1,2}"], []])]
)
def test_as_paths_of_flows(form: Any, path: list[Any]) -> None:
    fields = [REGISTRY["as_path"], REGISTRY["ext_comm"]]
    rows = [
        {"as_path": b"64496 {1,2}", "ext_comm": b"RT:64496:1 color:7"},
        {"as_path": b"", "ext_comm": b""},
    ]
    table = twin.native(rows, fields)
    shown = render(table, fields, Encoding(as_path=form))
    assert shown["as_path"].to_pylist() == path
    assert shown["ecomms"].to_pylist() == ["RT:64496:1_color:7", ""]
    reference = Encoding(records="null-filled", communities="list")
    assert render(table, fields, reference)["ecomms"].to_pylist() == [["RT:64496:1", "?"], []]
