"""Filters: what they mean, against predicates of plain Python, and what their errors say."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray import protocols
from flowray.addresses import MAPPED, MAPPED_LAST, address
from flowray.columns import Columns, Layout
from flowray.errors import ConfigError
from flowray.field import Field, Kind
from flowray.fields import REGISTRY, Registry
from flowray.hashing import Interner
from flowray.views.filter import Filter, FilterError, compile_filter
from flowray.views.filter_syntax import MAX_DEPTH, MAX_LENGTH

Record: TypeAlias = dict[str, int | bytes]
Predicate: TypeAlias = Callable[[Record], bool]

CUSTOM = Registry([Field("blob", "blob", Kind.BYTES, 32, ((1,),), custom=True)])
NAMES = (
    "src_host", "dst_host", "proto", "src_port", "dst_port", "tcpflags", "etype", "fwd_status",
    "src_mac", "label", "in_iface_name", "timestamp_start", "bytes", "in_iface", "blob",
    "mpls_label_stack", "srv6_seg_ipv6_list", "sampling_direction",
)  # fmt: skip
LAYOUT = Layout(NAMES, CUSTOM)


def batch(records: list[Record], texts: Interner) -> Columns:
    """Columns of records; what a record lacks is zero, and text is interned."""
    columns = Columns.empty(LAYOUT, len(records) + 3)
    columns.n = len(records)
    for i, record in enumerate(records):
        for name, value in record.items():
            first = LAYOUT.index(name)
            if isinstance(value, bytes):
                columns.words[first, i] = texts.add(value)
            elif CUSTOM[name].kind is Kind.ADDRESS:
                columns.words[first, i] = value >> 64
                columns.words[first + 1, i] = value & ((1 << 64) - 1)
            else:
                columns.words[first, i] = value
    return columns


def passes(text: str, **record: int | bytes) -> bool:
    texts = Interner()
    (mask,) = compile_filter(text, CUSTOM).mask(batch([record], texts), texts)
    return bool(mask)


# ------------------------------------------------------------------------------- the naive twin


@dataclass
class Case:
    """A filter as text and as a predicate over one record, built side by side."""

    text: str
    holds: Predicate


PORTS = st.one_of(st.integers(0, 12), st.integers(0, 65_535), st.sampled_from([65_534, 65_535]))
BYTES = st.one_of(st.integers(0, 5), st.integers(0, (1 << 64) - 1), st.just((1 << 64) - 1))
TEXTS = st.one_of(st.sampled_from(["", "a", "b", "edge"]), st.text(max_size=4))
HOSTS = st.one_of(
    st.sampled_from([0, 1, MAPPED, MAPPED_LAST, MAPPED + 1]),
    st.integers(MAPPED, MAPPED_LAST),
    st.integers(0, (1 << 128) - 1),
    st.integers(MAPPED + (10 << 24), MAPPED + (10 << 24) + 12),
)
RECORDS = st.fixed_dictionaries(
    {
        "src_host": HOSTS,
        "dst_host": HOSTS,
        "proto": st.sampled_from([0, 1, 6, 17, 58, 255]),
        "src_port": PORTS,
        "bytes": BYTES,
        "tcpflags": st.integers(0, 0x1FF),
        "label": TEXTS.map(str.encode),
        "src_mac": st.integers(0, 3),
    }
)


def number(draw: st.DrawFn, value: int) -> str:
    return draw(st.sampled_from([str(value), hex(value), f'"{value}"']))


@st.composite
def relations(draw: st.DrawFn) -> Case:
    name, values = draw(st.sampled_from([("src_port", PORTS), ("bytes", BYTES)]))
    value = draw(values)
    sign, compare = draw(
        st.sampled_from(
            [
                ("=", int.__eq__),
                ("==", int.__eq__),
                ("!=", int.__ne__),
                ("<", int.__lt__),
                ("<=", int.__le__),
                (">", int.__gt__),
                (">=", int.__ge__),
            ]
        )
    )
    gap = draw(st.sampled_from(["", " ", "\n"]))
    return Case(f"{name}{gap}{sign}{gap}{number(draw, value)}", lambda r: compare(r[name], value))


@st.composite
def port_sets(draw: st.DrawFn) -> Case:
    spans = draw(st.lists(st.tuples(PORTS, PORTS).map(sorted), min_size=1, max_size=6))
    dash = draw(st.sampled_from(["-", " - "]))
    items = ", ".join(f"{a}{dash}{b}" if a != b else str(a) for a, b in spans)
    before, after = draw(st.sampled_from(["[]", "()"]))
    negated = draw(st.booleans())
    word = "not in" if negated else "IN"
    return Case(
        f"port_src {word} {before}{items}{after}",
        lambda r: any(a <= r["src_port"] <= b for a, b in spans) != negated,
    )


def inside(host: int, network: IPv4Network | IPv6Network) -> bool:
    """Whether a host is in a network of its own family; the unset address is in none."""
    if MAPPED <= host <= MAPPED_LAST:
        return ip_address(host & 0xFFFF_FFFF) in network
    return (host != 0 or network.prefixlen == 128) and ip_address(host.to_bytes(16)) in network


NETWORKS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
    st.tuples(st.just(ip_address("10.0.0.5")), st.integers(0, 32)),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 95)),
).map(lambda pair: ip_network(f"{pair[0]}/{pair[1]}", strict=False))


@st.composite
def prefixes(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(["src_host", "dst_host"]))
    networks = draw(st.lists(NETWORKS, min_size=1, max_size=9))
    if len(networks) == 1:
        sign = draw(st.sampled_from(["=", "in", "!="]))
        return Case(
            f"{name} {sign} {networks[0]}",
            lambda r: inside(r[name], networks[0]) != (sign == "!="),
        )
    items = ",".join(map(str, networks))
    return Case(f"{name} in [{items}]", lambda r: any(inside(r[name], n) for n in networks))


@st.composite
def words(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(["proto", "flags", "equal", "label", "labels", "mac"]))
    if kind == "proto":
        value = draw(st.sampled_from([1, 6, 17, 58, 255]))
        return Case(f"proto = {protocols.name(value).upper()}", lambda r: r["proto"] == value)
    if kind == "flags":
        return Case("tcpflags has syn+ACK", lambda r: r["tcpflags"] & 0x12 == 0x12)
    if kind == "equal":
        return Case("tcp_flags != SYN", lambda r: r["tcpflags"] != 2)
    if kind == "mac":
        return Case("src_mac = 00:00:00:00:00:02", lambda r: r["src_mac"] == 2)
    texts = draw(st.lists(TEXTS, min_size=1, max_size=1 if kind == "label" else 4))
    quoted = ['"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"' for t in texts]
    text = f"label = {quoted[0]}" if kind == "label" else f"label in ({', '.join(quoted)})"
    return Case(text, lambda r: r["label"] in [t.encode() for t in texts])


def joined(cases: list[Case], word: str) -> Case:
    text = f" {word} ".join(f"({c.text})" for c in cases)
    fold = all if word.lower() == "and" else any
    return Case(text, lambda r: fold(c.holds(r) for c in cases))


CASES = st.recursive(
    st.one_of(relations(), port_sets(), prefixes(), words()),
    lambda inner: st.one_of(
        st.tuples(
            st.lists(inner, min_size=2, max_size=4), st.sampled_from(["and", "or", "AND"])
        ).map(lambda pair: joined(*pair)),
        inner.map(lambda c: Case(f"not ({c.text})", lambda r: not c.holds(r))),
    ),
    max_leaves=8,
)


@given(CASES, st.lists(RECORDS, max_size=12))
def test_compiled_and_naive_agree(case: Case, records: list[Record]) -> None:
    texts = Interner()
    columns = batch(records, texts)
    compiled = compile_filter(case.text, REGISTRY)
    mask = compiled.mask(columns, texts)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [case.holds(record) for record in records]
    # A filter travels to actors.
    again: Filter = pickle.loads(pickle.dumps(compiled))
    assert again == compiled
    assert (again.mask(columns, texts) == mask).all()


@given(relations(), relations(), relations(), RECORDS)
def test_and_binds_tighter_than_or(a: Case, b: Case, c: Case, record: Record) -> None:
    texts = Interner()
    columns = batch([record], texts)
    for text, expected in (
        (
            f"{a.text} or {b.text} and {c.text}",
            a.holds(record) or (b.holds(record) and c.holds(record)),
        ),
        (f"not {a.text} and {b.text}", not a.holds(record) and b.holds(record)),
        (f"not not {a.text}", a.holds(record)),
    ):
        assert compile_filter(text, REGISTRY).mask(columns, texts).tolist() == [expected]


# -------------------------------------------------------------------------------- single kinds


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("src_host in 10.0.0.0/8", "10.200.0.1", True),
        ("src_host in 10.1.2.3/8", "10.200.0.1", True),
        ("src_host in 10.0.0.0/8", "::a00:1", False),
        ("src_host in ::ffff:10.0.0.0/104", "10.0.0.1", True),
        ("ip_src = 2001:DB8::1", "2001:db8::1", True),
        ("src_host != 2001:db8::/32", "2001:db9::1", True),
        ("src_host in 10.0.0.1-10.0.0.9", "10.0.0.9", True),
        ("src_host in 10.0.0.1 - 10.0.0.9", "10.0.0.10", False),
        ("src_host in 0.0.0.0/0", "2001:db8::1", False),
        ("src_host in ::/0", "10.0.0.1", False),
        ("src_host in ::/0", "2001:db8::1", True),
        ("src_host in ::/0", "::", False),
        ("src_host = ::", "::", True),
    ],
)
def test_addresses(text: str, value: str, expected: bool) -> None:
    assert passes(text, src_host=address(value)) is expected


@pytest.mark.parametrize(
    ("text", "record", "expected"),
    [
        ("proto = ipv6-icmp", {"proto": 58}, True),
        ("proto in [tcp, 17]", {"proto": 17}, True),
        ("proto in 6-17", {"proto": 7}, True),
        ("ip_proto > 6", {"proto": 6}, False),
        ("etype = 86dd", {"etype": 0x86DD}, True),
        ("etype = 800", {"etype": 0x800}, True),
        ("etype in 0x800-0x806", {"etype": 0x806}, True),
        ("fwd_status = dropped", {"fwd_status": 130}, True),
        ("fwd_status in [forwarded, 192-255]", {"fwd_status": 64}, True),
        ("fwd_status != Consumed", {"fwd_status": 192}, False),
        ("fwd_status >= 128", {"fwd_status": 128}, True),
        ("tcpflags = 0x12", {"tcpflags": 0x12}, True),
        ("tcpflags has ACK", {"tcpflags": 0x12}, True),
        ("tcpflags has SYN+ACK", {"tcpflags": 0x02}, False),
        ("not tcpflags has 16", {"tcpflags": 0x02}, True),
        ("in_iface has 0x80", {"in_iface": 0x81}, True),
        ("src_mac = 0011.2233.4455", {"src_mac": 0x001122334455}, True),
        ("src_mac in [00-11-22-33-44-55, 00:00:00:00:00:01]", {"src_mac": 1}, True),
        ("sampling_direction = 1", {"sampling_direction": 1}, True),
        ("sampling_direction = Egress", {"sampling_direction": 1}, True),
        ("sampling_direction in [i, e]", {"sampling_direction": 255}, False),
        ("in_iface_name = ge-0/0/1", {"in_iface_name": b"ge-0/0/1"}, True),
        ("in_iface_name != ''", {}, False),
        (r'label = "say \"x\" \\ \xc3\xa9"', {"label": 'say "x" \\ é'.encode()}, True),
        ("label in (a, 'b c')", {"label": b"b c"}, True),
        ("blob = 0x00ff", {"blob": b"\x00\xff"}, True),
        (r"blob = '\x00\xff'", {"blob": b"\x00\xff"}, True),
        ("mpls_label_stack = '69,24305'", {"mpls_label_stack": b"\0\0\0\x45\1\0\x5e\xf1"}, True),
        ("mpls_label_stack = ''", {}, True),
        (
            "srv6_seg_ipv6_list = 'fd00::1, fd00::2'",
            {"srv6_seg_ipv6_list": b"\xfd" + bytes(14) + b"\1\xfd" + bytes(14) + b"\2"},
            True,
        ),
        ("srv6_seg_ipv6_list = ''", {}, True),
        ("bytes > 18446744073709551615", {"bytes": (1 << 64) - 1}, False),
        ("bytes < 0", {"bytes": 0}, False),
        ("not bytes < 0", {"bytes": 0}, True),
    ],
)
def test_kinds(text: str, record: Record, expected: bool) -> None:
    assert passes(text, **record) is expected


@pytest.mark.parametrize(
    "text",
    [
        "timestamp_start >= 2024-05-01T12:00:00Z",
        "timestamp_start >= '2024-05-01 12:00:00'",
        "timestamp_start = 2024-05-01T14:00:00.000001+02:00",
        "timestamp_start = 1714564800.000001",
        "timestamp_start > 1714564800",
        "timestamp_start in [1714564800.000001000]",
    ],
)
def test_times(text: str) -> None:
    moment = int(datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()) * 10**9 + 1000
    assert passes(text, timestamp_start=moment)
    assert not passes(text, timestamp_start=moment - 10**9)


def test_a_text_that_no_record_had_matches_nothing() -> None:
    texts = Interner()
    columns = batch([{"label": b"a"}, {}], texts)
    for text, expected in (
        ("label = b", [False, False]),
        ("label != b", [True, True]),
        ("label in (b, c)", [False, False]),
        ("label in (b, '')", [False, True]),
    ):
        assert compile_filter(text, REGISTRY).mask(columns, texts).tolist() == expected
    # It is looked up with each batch, for the next one may have it.
    compiled = compile_filter("label = b", REGISTRY)
    assert not compiled.mask(columns, texts).any()
    assert compiled.mask(batch([{"label": b"b"}], texts), texts).tolist() == [True]


def test_fields_are_what_a_layout_must_hold() -> None:
    compiled = compile_filter("ip_src = ::1 or (bytes > 1 and not src_host = ::2)", REGISTRY)
    assert compiled.fields == {"src_host", "bytes"}
    with pytest.raises(KeyError):
        compiled.mask(Columns.empty(Layout(["bytes"]), 1), Interner())


def test_empty_batches_have_empty_masks() -> None:
    for text in ("bytes > 1", "src_host = ::1", "label = x", "bytes < 0", "bytes in (1, 3)"):
        assert compile_filter(text, REGISTRY).mask(batch([], Interner()), Interner()).shape == (0,)


# -------------------------------------------------------------------------------------- errors


def error(text: str) -> FilterError:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, CUSTOM)
    return caught.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bytes > 1 and src_hots = ::1", "column 15: unknown field 'src_hots'; did you mean src_h"),
        ("ip_scr = ::1", "column 1: unknown field 'ip_scr'; did you mean ip_src?"),
        ("zzzzzz = 1", "column 1: unknown field 'zzzzzz'"),
        ("_packet = 1", "column 1: unknown field '_packet'; did you mean packets?"),
        ("src_host_country = x", "column 1: src_host_country is not filled by this version"),
        ("stamp_inserted = 1", "column 1: stamp_inserted is set when a window closes, after fi"),
        ("", "column 1: the filter is empty; expected a comparison"),
        (" \n", "column 1: the filter is empty; expected a comparison"),
        ("bytes", "column 6: found the end; expected a comparison of bytes (= != < <= > >= in h"),
        ("= 1", "column 1: found '='; expected a field, 'not' or '('"),
        ("bytes = ", "column 9: found the end; expected a value"),
        ("bytes = 1 bytes", "column 11: found 'bytes'; expected 'and', 'or' or the end"),
        ("(bytes = 1", "column 11: found the end; expected 'and', 'or' or ')'"),
        ("bytes = 1)", "column 10: found ')'; expected 'and', 'or' or the end"),
        ("bytes in [1, 2)", "column 15: found ')'; expected ',' or ']'"),
        ("bytes in []", "column 11: found ']'; expected a value"),
        ("bytes not 1", "column 11: found '1'; expected 'in' after 'not'"),
        ("bytes in 1 - )", "column 14: found ')'; expected the end of a range"),
        ("bytes & 1", "column 7: unexpected '&'"),
        ("label = 'x", "column 9: a string without its closing quote"),
        ("src_port = http", "column 12: 'http' is not a number, as src_port wants"),
        ("src_port = 70000", "column 12: 70000 does not fit src_port, which has 16 bits"),
        ("src_port in 5-4", "column 13: the range 5-4 is empty"),
        ("src_port in 5-", "column 13: '5-' is half a range"),
        ("src_port < 1-4", "column 12: '<' wants one value, not a range"),
        ("proto = tpc", "column 9: unknown protocol 'tpc'; did you mean tcp?"),
        ("proto = 256", "column 9: 256 does not fit proto, which has 8 bits"),
        ("tcpflags has SIN", "column 14: unknown flag 'SIN'; a number or FIN+SYN+RST+PSH+ACK+URG"),
        ("tcpflags has 0", "column 14: 'has' wants bits that are set, as in SYN+ACK or 0x12"),
        ("in_iface has 1-2", "column 14: 'has' wants bits that are set"),
        ("tcpflags in [SYN, ACK]", "column 1: tcpflags cannot be compared by 'in'; allowed: = !="),
        ("label < a", "column 1: label cannot be compared by '<'; allowed: = != in"),
        ("fwd_status = lost", "column 14: unknown status 'lost'; a number or one of unknown, forw"),
        ("sampling_direction = up", "column 22: unknown direction 'up'; one of i, ingress, e"),
        ("etype = ipv4", "column 9: 'ipv4' is not hexadecimal, as etype is"),
        ("src_mac = 00:11", "column 11: '00:11' is not a MAC address"),
        ("src_mac = 00:11-22:33-44:55", "column 11: '00:11-22:33-44:55' is not a MAC address"),
        ("src_host = 10.0.0.256", "column 12: '10.0.0.256' is not an address or prefix, as src_h"),
        ("src_host in 10.0.0.9-10.0.0.1", "column 13: the range 10.0.0.9-10.0.0.1 is empty"),
        ("timestamp_start > noon", "column 19: 'noon' is not a time, as timestamp_start wants"),
        ("timestamp_start > 1969-01-01", "column 19: 1969-01-01 is not a time that timestamp_"),
        ("blob = xyz", "column 8: 'xyz' is not octets; write 0x0a0b or a quoted string"),
        ("mpls_label_stack = 'a'", "column 20: 'a' is not a list of labels"),
        ("mpls_label_stack = 1048576", "column 20: '1048576' is not a list of labels"),
        ("srv6_seg_ipv6_list = 10.0.0.1", "column 22: '10.0.0.1' is not a list of IPv6 addresses"),
        ("label = '\ud800'", r"column 9: '\ud800' is not text"),
    ],
)  # fmt: skip
def test_errors_point_at_the_column(text: str, message: str) -> None:
    assert str(error(text)).startswith(f"filter: {message}")


def test_an_error_is_a_config_error_with_a_caret() -> None:
    problem = error("bytes > 1\tand src_hots = ::1")
    assert isinstance(problem, ConfigError)
    assert problem.column == 15
    assert problem.caret == "bytes > 1 and src_hots = ::1\n              ^"
    again = pickle.loads(pickle.dumps(problem))
    assert (str(again), again.caret) == (str(problem), problem.caret)
    placed = problem.within("flowray.yaml", "views[0].filter")
    assert str(placed).startswith("flowray.yaml: views[0].filter: column 15: unknown field")
    assert placed.caret == problem.caret


def test_the_caret_of_a_long_filter_shows_its_surroundings() -> None:
    problem = error("bytes > 1 and " * 50 + "x = 1" + " and bytes > 1" * 50)
    shown, caret = problem.caret.split("\n")
    assert len(shown) <= 100
    assert shown[caret.index("^") :].startswith("x = 1")


def test_hostile_filters_are_refused() -> None:
    assert "more than 64 nested" in str(error("(" * 50_000))
    deep = "(" * MAX_DEPTH + "bytes = 1" + ")" * MAX_DEPTH
    assert passes(deep, bytes=1)
    assert passes("not " * 10_000 + "bytes = 1", bytes=1)
    assert passes("bytes = 0 or " * 5_000 + "bytes = 1", bytes=1)
    assert "longer than 65536" in str(error("bytes = 1 ".ljust(MAX_LENGTH + 1)))
    for hostile in (
        "bytes = " + "9" * 60_000,
        "a" * 60_000 + " = 1",
        "src_host in 1/" + "0" * 9999,
    ):
        assert len(str(error(hostile))) < 400


def test_thousands_of_prefixes_are_one_test() -> None:
    prefixes = [f"10.{i // 256}.{i % 256}.0/25" for i in range(3_000)]
    compiled = compile_filter(f"src_host in [{','.join(prefixes)}]", REGISTRY)
    texts = Interner()
    records: list[Record] = [{"src_host": MAPPED | 10 << 24 | i << 7} for i in range(6_100)]
    mask = compiled.mask(batch(records, texts), texts)
    assert mask.tolist() == [i % 2 == 0 and i < 6_000 for i in range(6_100)]


def attempt(text: str) -> Filter | FilterError:
    try:
        return compile_filter(text, CUSTOM)
    except FilterError as problem:
        return problem


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    outcome = attempt(text)
    if isinstance(outcome, FilterError):
        assert "\n" not in str(outcome)
        assert 1 <= outcome.column <= len(text) + 1
        assert outcome.caret.count("\n") == 1


@given(
    st.lists(
        st.sampled_from(
            ["(", ")", "[", "]", ",", "and", "or", "not", "in", "has", "=", "!=", "<", "-", "bytes",
             "src_host", "proto", "label", "1", "1-2", "::1", "10.0.0.0/8", "tcp", "'x'",
             "tcpflags", "timestamp_start", "src_mac", "blob", "+", "2024-05-01"]
        ),
        max_size=12,
    ).map(" ".join)
)  # fmt: skip
def test_any_tokens_are_a_filter_or_an_error(text: str) -> None:
    outcome = attempt(text)
    if isinstance(outcome, Filter):
        texts = Interner()
        assert outcome.mask(batch([{}, {}], texts), texts).shape == (2,)
