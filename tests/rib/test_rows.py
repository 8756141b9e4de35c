"""Rows of route streams as records, against records written by hand; and their keys against the
reference's.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from ipaddress import ip_address, ip_network
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowray.rib.peers import PolicyView
from flowray.rib.rows import (
    BgpPeer,
    BmpPeer,
    LogType,
    RdOrigin,
    Routes,
    bgp_rows,
    bmp_rows,
    event_rows,
    stream_schema,
)
from flowray.route_fields import EXTENDED, OPAQUE, ROUTE_FIELDS, ROW_KINDS, RowKind, route_fields
from flowray.sinks.base import Commit
from flowray.sinks.encoding import Encoding
from flowray.sinks.files import FileSink, OneFileSink
from flowray.sinks.formats import open_writer
from flowray.sinks.render import render_batches
from flowray.wire.bgp.attributes import AttributeType as T
from flowray.wire.bgp.attributes import decode_attributes
from flowray.wire.bgp.families import family_index
from flowray.wire.packets import address_words
from tests.wire.bgp.sets import attribute, attribute_set, segment

SECOND = 1_000_000_000
TIME = 1_700_000_000 * SECOND + 123_456_789

RICH = attribute_set(
    attribute(T.ORIGIN, b"\x00"),
    attribute(T.AS_PATH, segment(2, 64496, 64497) + segment(1, 64499, 64498)),
    attribute(T.MULTI_EXIT_DISC, pack("!I", 0)),
    attribute(T.LOCAL_PREF, pack("!I", 200)),
    attribute(T.COMMUNITIES, pack("!II", 64496 << 16 | 1, 0xFFFFFF01)),
    attribute(T.EXTENDED_COMMUNITIES, bytes.fromhex("0002fbf000000007 030b000000000064")),
    attribute(T.LARGE_COMMUNITY, pack("!III", 64496, 1, 2)),
    attribute(T.AIGP, b"\x01\x00\x0b" + pack("!Q", 5)),
    attribute(T.PREFIX_SID, b"\x01\x00\x07\x00\x00\x00" + pack("!I", 90)),
    attribute(T.ONLY_TO_CUSTOMER, pack("!I", 64499)),
    attribute(T.ORIGINATOR_ID, bytes([192, 0, 2, 7])),
    attribute(T.CLUSTER_LIST, bytes([192, 0, 2, 8, 192, 0, 2, 9])),
    attribute(T.AGGREGATOR, pack("!I", 64500) + bytes([192, 0, 2, 10])),
    next_hop=bytes([192, 0, 2, 1]),
)
OWN = attribute_set(
    attribute(T.ORIGIN, b"\x02"),
    attribute(T.AS_PATH, b""),
    next_hop=bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]),
)
SETS = [attribute_set(), RICH, OWN]

REFERENCE = Encoding(
    records="null-filled", labels="map", as_path="list", communities="list", timestamps="epoch"
)
REFERENCE_TEXT = replace(REFERENCE, labels="text", as_path="text", communities="text")
PLAIN = Encoding(records="plain", timestamps="epoch")

PREFIX = ["192.0.2.0/24", "2001:db8::/32", None]
"""Of the routes that `routes` gives: with attributes RICH, OWN, and an End-of-RIB."""


def routes(log_type: list[LogType] | None = None, **changes: Any) -> Routes:
    """An IPv4 unicast route, a VPNv6 route of path 7 with two labels, and an End-of-RIB."""
    networks = [ip_network(p or "0.0.0.0/0") for p in PREFIX]
    words = [address_words(str(n.network_address)) for n in networks]
    usual = Routes(
        peer=np.zeros(3, np.int64),
        family=np.array([family_index(1, 1), family_index(2, 128), family_index(1, 1)], np.uint8),
        rd=np.array([0, 0xFBF0_0000_0007, 0], np.uint64),
        rd_origin=np.array([RdOrigin.NONE, RdOrigin.BGP, RdOrigin.NONE], np.uint8),
        path_id=np.array([0, 7, 0], np.uint32),
        hi=np.array([w[0] for w in words], np.uint64),
        lo=np.array([w[1] for w in words], np.uint64),
        plen=np.array([n.prefixlen for n in networks], np.uint8),
        labels=np.array([0, 2 << 60 | 17 << 20 | 917_536, 0], np.uint64),
        attributes=np.array([1, 2, 0], np.uint32),
        seq=np.arange(5, 8, dtype=np.uint64),
        time_ns=np.full(3, TIME, np.int64),
        log_type=None if log_type is None else np.array(log_type, np.uint8),
    )
    return replace(usual, **changes)


LOGGED = [LogType.UPDATE, LogType.DELETE, LogType.END_OF_RIB]


def sets(number: int) -> Any:
    return decode_attributes(SETS[number])


def records(table: pa.Table, encoding: Encoding, protocol: Any = "bgp", **which: bool) -> list[Any]:
    """The table through the JSON writer that files have."""
    stream = BytesIO()
    writer = open_writer("jsonl", stream)
    for batch in render_batches(table, route_fields(protocol, **which), encoding):
        writer.write(batch)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


BGP = BgpPeer("203.0.113.1", 179, "192.0.2.77", label="node%a,site%b")


def test_bgp_log_with_nulls_and_lists() -> None:
    table = bgp_rows(routes(LOGGED), [BGP], sets, "log")
    update, delete, end = records(table, replace(REFERENCE, writer_id="test"), labels=True)
    common = {
        "event_type": "log",
        "timestamp": "1700000000.123456",
        "peer_ip_src": "203.0.113.1",
        "peer_tcp_port": 179,
        "tag": None,
        "label": {"node": "a", "site": "b"},
        "writer_id": "test",
    }
    assert update == common | {
        "log_type": "update",
        "seq": 5,
        "afi": 1,
        "safi": 1,
        "ip_prefix": "192.0.2.0/24",
        "rd": None,
        "rd_origin": None,
        "bgp_nexthop": "192.0.2.1",
        "as_path": ["64496", "64497", "{64498,64499}"],
        "as_path_id": None,
        "comms": ["64496:1", "no-export"],
        "ecomms": ["RT:64496:7", "?"],
        "lcomms": ["64496:1:2"],
        "origin": "i",
        "local_pref": 200,
        "med": 0,
        "aigp": 5,
        "psid_li": 90,
        "otc": 64499,
        "mpls_label": None,
    }
    assert delete == common | {
        "log_type": "delete",
        "seq": 6,
        "afi": 2,
        "safi": 128,
        "ip_prefix": "2001:db8::/32",
        "rd": "0:64496:7",
        "rd_origin": "bgp",
        "bgp_nexthop": "::ffff:192.0.2.1",
        "as_path": [],
        "as_path_id": 7,
        "comms": [],
        "ecomms": [],
        "lcomms": [],
        "origin": "u",
        "local_pref": None,
        "med": None,
        "aigp": None,
        "psid_li": None,
        "otc": None,
        "mpls_label": "917536 17",
    }
    nothing = dict.fromkeys(update.keys() - common.keys())
    lists = {"as_path": [], "comms": [], "ecomms": [], "lcomms": []}
    assert end == nothing | lists | common | {
        "log_type": "end-of-rib", "seq": 7, "afi": 1, "safi": 1
    }  # fmt: skip


def test_texts_tell_an_empty_path_from_none() -> None:
    table = bgp_rows(routes(LOGGED), [BGP], sets, "log")
    update, delete, end = records(table, REFERENCE_TEXT)
    assert update["as_path"] == "64496 64497 {64498,64499}"
    assert update["ecomms"] == "RT:64496:7 ?"
    assert (delete["as_path"], delete["comms"]) == ("", None)
    assert (end["as_path"], end["comms"]) == (None, None)
    assert "label" not in update
    assert "tag" not in update


def test_plain_rows_lack_what_has_no_value_and_have_more_attributes() -> None:
    table = bgp_rows(routes(LOGGED), [BGP], sets, "log")
    update, delete, end = records(table, PLAIN)
    assert update["ecomms"] == "RT:64496:7 color:100"
    assert update["originator_id"] == "192.0.2.7"
    assert update["cluster_list"] == "192.0.2.8 192.0.2.9"
    assert update["aggregator"] == "64500:192.0.2.10"
    assert update["peer_id"] == "192.0.2.77"
    assert delete.keys() == {
        "event_type", "log_type", "seq", "timestamp", "peer_ip_src", "peer_tcp_port", "peer_id",
        "afi", "safi", "ip_prefix", "rd", "rd_origin", "bgp_nexthop", "as_path", "as_path_id",
        "origin", "mpls_label",
    }  # fmt: skip
    assert end == {
        "event_type": "log",
        "log_type": "end-of-rib",
        "seq": 7,
        "timestamp": "1700000000.123456",
        "peer_ip_src": "203.0.113.1",
        "peer_tcp_port": 179,
        "peer_id": "192.0.2.77",
        "afi": 1,
        "safi": 1,
    }


def test_dumps_and_look_ups_have_no_log_type() -> None:
    dump = records(bgp_rows(routes(), [BGP], sets, "dump"), REFERENCE)
    assert {(r["event_type"], "log_type" in r) for r in dump} == {("dump", False)}
    found = records(bgp_rows(routes(), [BGP], sets, "lglass"), REFERENCE)
    assert {(r["event_type"], "seq" in r, "timestamp" in r) for r in found} == {
        ("lglass", False, False)
    }


def test_a_set_is_decoded_once() -> None:
    asked: list[int] = []

    def counting(number: int) -> Any:
        asked.append(number)
        return sets(number)

    bgp_rows(routes(attributes=np.array([1, 1, 1], np.uint32)), [BGP], counting, "dump")
    assert asked == [1]


MONITORED = BmpPeer(
    "203.0.113.9", 40_000, "198.51.100.1", 64496, "192.0.2.1", PolicyView.ADJ_RIB_IN_PRE
)


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        (PolicyView.ADJ_RIB_IN_PRE, ("Adj-Rib-In Pre-Policy", 1, None, 0, None)),
        (PolicyView.ADJ_RIB_IN_POST, ("Adj-Rib-In Post-Policy", 1, None, 1, None)),
        (PolicyView.LOC_RIB, ("Loc-Rib", None, 1, None, None)),
        (PolicyView.ADJ_RIB_OUT_PRE, ("Adj-Rib-Out Pre-Policy", None, None, 0, 1)),
        (PolicyView.ADJ_RIB_OUT_POST, ("Adj-Rib-Out Post-Policy", None, None, 1, 1)),
    ],
)
def test_bmp_views(view: PolicyView, columns: tuple[object, ...]) -> None:
    table = bmp_rows(routes(LOGGED), [replace(MONITORED, view=view)], sets, "log")
    row = records(table, REFERENCE, "bmp")[0]
    keys = ("bmp_rib_type", "is_in", "is_loc", "is_post", "is_out")
    assert tuple(row[k] for k in keys) == columns


def test_bmp_log() -> None:
    peers = [
        MONITORED,
        replace(MONITORED, view=PolicyView.LOC_RIB, filtered=True, address="0.0.0.0"),
    ]
    told = routes(
        LOGGED,
        peer=np.array([0, 1, 1]),
        rd=np.full(3, 0xFBF0_0000_0007, np.uint64),
        rd_origin=np.array([RdOrigin.BMP, RdOrigin.BGP, RdOrigin.BMP], np.uint8),
        arrival_ns=np.full(3, TIME + SECOND, np.int64),
    )
    update, delete, end = records(bmp_rows(told, peers, sets, "log"), REFERENCE, "bmp")
    assert update == {
        "event_type": "log",
        "log_type": "update",
        "seq": 5,
        "timestamp": "1700000000.123456",
        "timestamp_arrival": "1700000001.123456",
        "bmp_router": "203.0.113.9",
        "bmp_router_port": 40000,
        "bmp_msg_type": "route_monitor",
        "peer_tcp_port": 0,
        "afi": 1,
        "safi": 1,
        "ip_prefix": "192.0.2.0/24",
        "rd": "0:64496:7",
        "rd_origin": "bmp",
        "bgp_nexthop": "192.0.2.1",
        "as_path": ["64496", "64497", "{64498,64499}"],
        "as_path_id": None,
        "comms": ["64496:1", "no-export"],
        "ecomms": ["RT:64496:7", "?"],
        "lcomms": ["64496:1:2"],
        "origin": "i",
        "local_pref": 200,
        "med": 0,
        "aigp": 5,
        "psid_li": 90,
        "otc": 64499,
        "mpls_label": None,
        "peer_ip": "198.51.100.1",
        "peer_asn": 64496,
        "bgp_id": "192.0.2.1",
        "bmp_rib_type": "Adj-Rib-In Pre-Policy",
        "is_filtered": 0,
        "is_in": 1,
        "is_loc": None,
        "is_post": 0,
        "is_out": None,
    }
    assert (delete["bmp_msg_type"], delete["peer_ip"], delete["is_filtered"]) == (
        "internal", "0.0.0.0", 1
    )  # fmt: skip
    assert (end["bmp_msg_type"], end["log_type"], end["rd"]) == (
        "route_monitor", "end-of-rib", "0:64496:7"
    )  # fmt: skip


def test_events() -> None:
    rows = [
        {"event_type": "log", "seq": 1, "timestamp": 0, "bmp_router": "203.0.113.9",
         "bmp_router_port": 1, "bmp_msg_type": "init", "bmp_init_info_sysname": "r1"},
        {"event_type": "log", "seq": 2, "timestamp": 0, "bmp_router": "203.0.113.9",
         "bmp_router_port": 1, "bmp_msg_type": "init", "bmp_init_info_sysdescr": 'with "quotes"'},
    ]  # fmt: skip
    first, second = records(event_rows(RowKind.BMP_INIT, rows), REFERENCE, "bmp")
    assert first == rows[0] | {
        "timestamp": "0.000000",
        "timestamp_event": None,
        "timestamp_arrival": None,
        "bmp_init_info_string": None,
        "bmp_init_info_sysdescr": None,
        "bmp_init_info_reserved": None,
    }
    assert second["bmp_init_info_sysdescr"] == 'with "quotes"'


def test_an_event_cannot_have_keys_of_others() -> None:
    with pytest.raises(KeyError, match=r"BMP_INIT rows have no counter_type, afi"):
        event_rows(RowKind.BMP_INIT, [{"counter_type": 1}, {"afi": 1}])


def test_rows_of_several_kinds_keep_their_order() -> None:
    begin = event_rows(
        RowKind.BGP_SESSION, [{"event_type": "log_init", "seq": 4, "peer_ip_src": "203.0.113.1"}]
    )
    table = pa.concat_tables([begin, bgp_rows(routes(LOGGED), [BGP], sets, "log"), begin])
    assert table.schema == stream_schema()
    rows = records(table, REFERENCE)
    assert [r["event_type"] for r in rows] == ["log_init", "log", "log", "log", "log_init"]
    assert rows[0].keys() == {"event_type", "seq", "timestamp", "peer_ip_src", "peer_tcp_port"}


def test_routes_that_are_not_of_prefixes() -> None:
    evpn, flowspec = family_index(25, 70), family_index(1, 133)
    buf = np.frombuffer(b"\xff\x02\xab\xcd\xee\x01\x02", np.uint8)
    told = routes(
        [LogType.UPDATE] * 3,
        family=np.array([0, evpn, flowspec], np.uint8),
        nlri=(buf, np.array([0, 0, 4]), np.array([0, 4, 3])),
    )
    prefix, second, third = records(bgp_rows(told, [BGP], sets, "log"), REFERENCE)
    assert "nlri" not in prefix
    assert (second["ip_prefix"], second["nlri"]) == (None, "ff02abcd")
    assert third["nlri"] == "ee0102"


def test_evpn_and_link_state_rows_have_their_fields() -> None:
    rd = bytes.fromhex("0000fbf000000007")
    evpn = b"\x03\x11" + rd + bytes(4) + b"\x20" + bytes([192, 0, 2, 1])
    node = pack("!HHI", 512, 4, 64496)
    body = b"\x02" + bytes(8) + pack("!HH", 256, len(node)) + node
    state = pack("!HH", 1, len(body)) + body
    buf = np.frombuffer(evpn + state, np.uint8)
    told = routes(
        [LogType.UPDATE] * 3,
        family=np.array([family_index(25, 70), family_index(16388, 71), 0], np.uint8),
        rd=np.zeros(3, np.uint64),
        rd_origin=np.zeros(3, np.uint8),
        nlri=(buf, np.array([0, len(evpn), 0]), np.array([len(evpn), len(state), 0])),
    )
    named = attribute_set(attribute(T.LINK_STATE, pack("!HH", 1026, 2) + b"r1"))
    table = bgp_rows(told, [BGP], lambda i: decode_attributes(named if i == 2 else SETS[i]), "log")
    first, second, third = records(table, REFERENCE)
    assert (first["nlri"], first["rd"], first["rd_origin"]) == (
        "[3]:[0]:[32]:[192.0.2.1]", "0:64496:7", "bgp"
    )  # fmt: skip
    assert (first["route_type"], first["ethernet_tag"], first["ip"]) == (
        "inclusive-multicast", 0, "192.0.2.1"
    )  # fmt: skip
    assert (second["nlri_type"], second["local_asn"], second["attr_node_name"]) == (
        "node", 64496, "r1"
    )  # fmt: skip
    assert (second["afi"], second["safi"], second["ip_prefix"]) == (16388, 71, None)
    assert third.keys() == first.keys() - {"nlri", "route_type", "ethernet_tag", "ip"}


def test_stale_and_validated_routes() -> None:
    told = routes(stale=np.array([True, False, False]), roa=["v", "i", "u"])
    table = bgp_rows(told, [BGP], sets, "dump")
    rows = records(table, PLAIN, roa=True)
    assert [r.get("stale") for r in rows] == [1, None, None]
    assert [r["roa"] for r in rows] == ["v", "i", "u"]
    assert "roa" not in records(table, REFERENCE)[0]


@pytest.mark.parametrize(
    "prefix",
    ["0.0.0.0/0", "10.1.2.3/32", "::/0", "2001:db8::1/128", "::ffff:192.0.2.0/120", "1:0:0:2::/64"],
)
def test_prefix_texts(prefix: str) -> None:
    address, _, length = prefix.partition("/")
    version = ip_address(address).version
    hi, lo = address_words(address)
    told = routes(
        family=np.full(3, family_index(1 if version == 4 else 2, 1), np.uint8),
        hi=np.full(3, hi, np.uint64),
        lo=np.full(3, lo, np.uint64),
        plen=np.full(3, int(length), np.uint8),
    )
    rows = records(bgp_rows(told, [BGP], sets, "dump"), REFERENCE)
    assert {r["ip_prefix"] for r in rows} == {prefix}


def test_no_rows() -> None:
    empty = Routes(*(np.zeros(0, a.dtype) for a in (
        routes().peer, routes().family, routes().rd, routes().rd_origin, routes().path_id,
        routes().hi, routes().lo, routes().plen, routes().labels, routes().attributes,
        routes().seq, routes().time_ns,
    )))  # fmt: skip
    table = bgp_rows(empty, [BGP], sets, "dump")
    assert (table.num_rows, table.schema) == (0, stream_schema())
    assert records(table, REFERENCE) == []


# -------------------------------------------------------------------------------------- files


def mixed() -> pa.Table:
    begin = event_rows(
        RowKind.BGP_SESSION, [{"event_type": "log_init", "seq": 4, "peer_ip_src": "203.0.113.2"}]
    )
    return pa.concat_tables([begin, bgp_rows(routes(LOGGED), [BGP], sets, "log")])


def test_parquet_has_every_column_in_every_row(tmp_path: Path) -> None:
    fields = route_fields("bgp")
    sink = OneFileSink(tmp_path / "log.parquet", "parquet", fields, Encoding(as_path="list"))
    sink.commit(Commit("bgp_log", sequence=1), mixed())
    sink.close()
    read = pq.read_table(tmp_path / "log.parquet")
    assert read.column_names == [f.key for f in fields]
    assert read["ip_prefix"].to_pylist() == [None, "192.0.2.0/24", "2001:db8::/32", None]
    assert read["as_path"].to_pylist()[:2] == [None, ["64496", "64497", "{64498,64499}"]]
    assert read["timestamp"].to_pylist()[0] is None


@pytest.mark.parametrize("records_form", ["rows", "plain", "null-filled"])
def test_json_lines_have_the_keys_of_their_kind(tmp_path: Path, records_form: Any) -> None:
    sink = OneFileSink(
        tmp_path / "log.jsonl", "jsonl", route_fields("bgp"), Encoding(records=records_form)
    )
    sink.commit(Commit("bgp_log", sequence=1), mixed())
    sink.close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert "afi" not in rows[0]
    assert ("rd" in rows[1]) == (records_form == "null-filled")


def test_a_file_for_each_router(tmp_path: Path) -> None:
    fields = route_fields("bgp")
    path = str(tmp_path / "{peer_ip_src}-{sequence}.jsonl")
    sink = FileSink("jsonl", path, fields, Encoding(records="plain"), window_ns=None)
    sink.commit(Commit("bgp_log", sequence=1), mixed())
    names = {p.name: len(p.read_text().splitlines()) for p in tmp_path.iterdir()}
    assert sorted(names.values()) == [1, 3]
    assert all(name.startswith("203.0.113.") for name in names)


# -------------------------------------------------------------------------------------- reference

PACK = Path(__file__).resolve().parents[3] / "shared" / "conformance"
IGNORED = {"timestamp_arrival", "timestamp", "seq", "peer_tcp_port", "bmp_router_port", "writer_id"}

_EVENTS = {
    "log_init": "SESSION", "log_close": "SESSION", "dump_init": "DUMP_INIT",
    "dump_close": "DUMP_CLOSE",
}  # fmt: skip


def kind_of(row: dict[str, Any]) -> RowKind:
    protocol = "BMP" if "bmp_router" in row else "BGP"
    event = row["event_type"]
    message = row.get("bmp_msg_type", "route_monitor")
    if event in _EVENTS:
        return RowKind[f"{protocol}_{_EVENTS[event]}"]
    if message not in ("route_monitor", "internal"):
        return RowKind[f"BMP_{message.upper()}"]
    return RowKind[f"{protocol}_{'DUMP_' if event == 'dump' else ''}ROUTE"]


def reference_rows() -> Iterable[dict[str, Any]]:
    for file in sorted(PACK.glob("*/expect/*/b*.jsonl")):
        for line in file.read_text("utf-8").splitlines():
            if line.strip():
                yield json.loads(line)


@pytest.mark.skipif(not PACK.is_dir(), reason="../shared/conformance is no part of the repository")
def test_keys_are_the_references() -> None:
    seen: defaultdict[RowKind, set[frozenset[str]]] = defaultdict(set)
    for row in reference_rows():
        seen[kind_of(row)].add(frozenset(row))
    assert len(seen) >= 12
    optional = {"tag", "label", "roa"}
    for kind, forms in seen.items():
        names = ROW_KINDS[kind] - EXTENDED - OPAQUE
        ours = {ROUTE_FIELDS[name].key for name in names}
        for keys in forms:
            assert ours - IGNORED - optional == keys - IGNORED - optional, kind.name
