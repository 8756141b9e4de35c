from __future__ import annotations

import ipaddress
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.generate import encode
from flowray.generate.encode import VARIABLE, TemplateSpec
from tests.generate.naive import Parser


def number(address: str) -> int:
    return int(ipaddress.ip_address(address))


EXAMPLE = TemplateSpec(256, ((8, 4, 0), (12, 4, 0), (15, 4, 0), (2, 4, 0), (1, 4, 0)))


def test_template_and_data_set_of_rfc7011_appendix_a() -> None:
    assert encode.ipfix_template_set(EXAMPLE) == bytes.fromhex(
        "0002001c 01000005 00080004 000c0004 000f0004 00020004 00010004"
    )
    columns = [
        np.array([number(a) for a in ("192.0.2.12", "192.0.2.27", "192.0.2.56")]),
        np.array([number(a) for a in ("192.0.2.254", "192.0.2.23", "192.0.2.65")]),
        np.array([number(a) for a in ("192.0.2.1", "192.0.2.2", "192.0.2.3")]),
        np.array([5009, 748, 5]),
        np.array([5344385, 388934, 6534]),
    ]
    records = encode.encode_records(EXAMPLE, columns)
    assert encode.data_set(EXAMPLE, records) == bytes.fromhex(
        "01000040"
        "c000020c c00002fe c0000201 00001391 00518c81"
        "c000021b c0000217 c0000202 000002ec 0005ef46"
        "c0000238 c0000241 c0000203 00000005 00001986"
    )


def test_options_template_set_of_rfc7011_appendix_a() -> None:
    template = TemplateSpec(258, ((141, 4, 0), (41, 2, 0), (42, 2, 0)), scope_count=1)
    assert encode.ipfix_options_template_set(template) == bytes.fromhex(
        "00030018 01020003 0001 008d0004 00290002 002a0002 0000"
    )


def test_enterprise_element_has_its_bit_and_number() -> None:
    template = TemplateSpec(257, ((8, 4, 0), (15, 4, 32473)))
    assert encode.ipfix_template_set(template) == bytes.fromhex(
        "00020014 01010002 00080004 800f0004 00007ed9"
    )


def test_withdrawals() -> None:
    assert encode.ipfix_withdrawal_set(256, 300) == bytes.fromhex("0002000c 01000000 012c0000")
    assert encode.ipfix_withdrawal_set() == bytes.fromhex("00020008 00020000")
    assert encode.ipfix_withdrawal_set(options=True) == bytes.fromhex("00030008 00030000")


def test_v9_options_template_counts_bytes() -> None:
    template = TemplateSpec(512, ((1, 4, 0), (34, 4, 0), (35, 1, 0)), scope_count=1)
    assert encode.v9_options_template_set(template) == bytes.fromhex(
        "00010018 0200 0004 0008 00010004 00220004 00230001 0000"
    )


def test_messages() -> None:
    body = encode.flow_set(256, b"abc")
    assert body == bytes.fromhex("01000008") + b"abc\0"
    assert encode.flow_set(256, b"abc", 1) == bytes.fromhex("01000007") + b"abc"
    message = encode.ipfix_message([body, body], export_time=5, sequence=1 << 32 | 7, domain=9)
    header = struct.pack(">HHIII", 10, 32, 5, 7, 9)
    assert message == header + body + body
    packet = encode.v9_message(
        [body], count=1, uptime_ms=2, unix_secs=3, sequence=4, source_id=0xFFFFFFFF
    )
    assert packet == struct.pack(">HHIIII", 9, 1, 2, 3, 4, 0xFFFFFFFF) + body


def test_variable_lengths_take_one_or_three_bytes() -> None:
    template = TemplateSpec(300, ((4, 1, 0), (96, VARIABLE, 0), (7, 2, 0)))
    values = [b"", b"a\0b\0", b"x" * 254, b"y" * 255, b"z" * 1000]
    records = encode.encode_records(template, [6, values, np.arange(5)])
    prefixes = [b"\0", b"\4", b"\xfe", b"\xff\x00\xff", b"\xff\x03\xe8"]
    assert [records.slice(i, i + 1) for i in range(5)] == [
        b"\6" + prefix + value + struct.pack(">H", i)
        for i, (prefix, value) in enumerate(zip(prefixes, values, strict=True))
    ]
    longer = encode.encode_records(template, [6, [b"ab"], np.array([1])], long_lengths=True)
    assert longer.slice(0, 1) == b"\6\xff\0\2ab\0\1"


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8), st.booleans())
def test_variable_lengths_come_back(values: list[bytes], long: bool) -> None:
    fields = ((96, VARIABLE, 0), (1, VARIABLE, 32473), (4, 4, 0))
    template = TemplateSpec(300, fields, scope_count=1)
    columns: list[encode.Column] = [values, values[::-1], np.arange(len(values))]
    records = encode.encode_records(template, columns, long_lengths=long)
    sets = [encode.ipfix_options_template_set(template), encode.data_set(template, records, 1)]
    parser = Parser()
    parser.feed("x", encode.ipfix_message(sets, export_time=0, sequence=0, domain=0))
    assert [(r[-96, 0], r[1, 32473], r[4, 0]) for r in parser.states["x"].raw] == [
        (a, b, i.to_bytes(4, "big"))
        for i, (a, b) in enumerate(zip(values, values[::-1], strict=True))
    ]


def test_reduced_sizes_and_labels() -> None:
    template = TemplateSpec(256, ((1, 3, 0), (2, 5, 0), (70, 3, 0), (210, 2, 0)))
    records = encode.encode_records(
        template, [np.array([0x010203]), np.array([0x0102030405]), np.array([24000 << 4 | 1]), 0]
    )
    assert records.slice(0, 1) == bytes.fromhex("010203 0102030405 05dc01 0000")
    with pytest.raises(ValueError, match="fit"):
        encode.encode_records(template, [np.array([1 << 24]), 0, 0, 0])
    with pytest.raises(ValueError, match="scalars"):
        encode.encode_records(template, [1, 2, 3, 0])


def test_a_variable_field_wants_a_string_a_record() -> None:
    template = TemplateSpec(256, ((96, VARIABLE, 0), (4, 1, 0)))
    assert template.variable
    with pytest.raises(TypeError):
        encode.encode_records(template, [b"x", np.array([1])])
    with pytest.raises(ValueError, match="variable"):
        _ = template.record_bytes


def test_equal_packets_are_the_same_as_single_ones() -> None:
    columns = [np.arange(12) + i for i in range(5)]
    records = encode.encode_records(EXAMPLE, columns)
    headers = encode.ipfix_headers(3, 4 + 4 * 20, 77, np.array([0, 4, 8]), 5)
    packets = encode.set_packets(headers, EXAMPLE.id, records.data)
    assert [packet.tobytes() for packet in packets] == [
        encode.ipfix_message(
            [encode.flow_set(256, records.slice(i, i + 4))], export_time=77, sequence=i, domain=5
        )
        for i in (0, 4, 8)
    ]


def test_v5() -> None:
    records = encode.v5_records(
        2, src=1, dst=2, next_hop=3, in_iface=4, out_iface=5, packets=6, octets=7, first_ms=8,
        last_ms=9, src_port=10, dst_port=11, tcpflags=12, proto=13, tos=14, src_as=15, dst_as=16,
        src_mask=17, dst_mask=18,
    )  # fmt: skip
    header = encode.v5_headers(
        1, 2, uptime_ms=1, unix_secs=2, unix_nsecs=3, sequence=4, engine_type=5, engine_id=6,
        sampling_mode=1, sampling_interval=1000,
    )  # fmt: skip
    record = struct.pack(">IIIHHIIIIHHBBBBHHBBH", *range(1, 12), 0, 12, 13, 14, 15, 16, 17, 18, 0)
    head = struct.pack(">HHIIIIBBH", 5, 2, 1, 2, 3, 4, 5, 6, 1 << 14 | 1000)
    assert encode.v5_packets(header, records).tobytes() == head + record * 2
    with pytest.raises(ValueError, match="30"):
        encode.v5_headers(1, 31, uptime_ms=0, unix_secs=0)
    with pytest.raises(ValueError, match="14 bits"):
        encode.v5_headers(1, 1, uptime_ms=0, unix_secs=0, sampling_interval=1 << 14)
