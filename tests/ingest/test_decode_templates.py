"""Templates: when they take effect, what they may hold, what waits for them."""

import numpy as np
import pytest

from flowray.generate.encode import (
    VARIABLE,
    flow_set,
    ipfix_template_set,
    ipfix_withdrawal_set,
    v9_template_set,
)
from tests.ingest.decoding import FLOW, V9, Ipfix, Sent, data, decode, flow, template

SWAPPED = template(256, (12, 4), (8, 4), (11, 2), (7, 2), (4, 1), (1, 4), (2, 4))
"""The id of FLOW with other fields."""


def test_redefinition_takes_effect_between_two_sets_of_one_message() -> None:
    x = Ipfix()
    got = decode(
        x.tell(FLOW),
        x.message(
            data(FLOW, flow(1)),
            ipfix_template_set(SWAPPED),
            data(SWAPPED, ("10.0.0.2", "10.0.0.1", 80, 2, 6, 100, 2)),
            records=2,
        ),
    )
    assert got.column("port_src") == [1, 2]
    assert got.column("ip_src") == ["10.0.0.1", "10.0.0.1"]
    assert got.column("bytes") == [100, 100]
    assert got.accounts["templates"] == 2


def test_first_definition_can_come_back() -> None:
    x = Ipfix()
    parts = [ipfix_template_set(FLOW), data(FLOW, flow(1))]
    other = [ipfix_template_set(SWAPPED), data(SWAPPED, ("10.0.0.2", "10.0.0.1", 80, 2, 6, 100, 2))]
    got = decode(x.message(*parts, *other, *parts, records=3))
    assert got.column("port_src") == [1, 2, 1]
    assert got.column("packets") == [2, 2, 2]


@pytest.mark.parametrize("ids", [(256,), ()], ids=["one", "all"])
def test_withdrawn_template_is_forgotten(ids: tuple[int, ...]) -> None:
    x = Ipfix()
    got = decode(
        x.tell(FLOW),
        x.message(data(FLOW, flow(1)), records=1),
        x.message(ipfix_withdrawal_set(*ids)),
        x.message(data(FLOW, flow(2)), records=1),
    )
    assert got.column("port_src") == [1]
    assert got.accounts["sets_held"] == 1


def test_withdrawal_of_options_templates_leaves_data_templates() -> None:
    x = Ipfix()
    got = decode(
        x.tell(FLOW),
        x.message(ipfix_withdrawal_set(options=True)),
        x.message(data(FLOW, flow(1)), records=1),
    )
    assert got.column("port_src") == [1]


def test_withdrawn_template_may_be_told_again_in_the_same_octets() -> None:
    x = Ipfix()
    tell = x.tell(FLOW)
    got = decode(
        tell, x.message(ipfix_withdrawal_set(256)), tell, x.message(data(FLOW, flow(3)), records=1)
    )
    assert got.column("port_src") == [3]


def test_templates_belong_to_an_exporter_and_a_domain() -> None:
    one, two = Ipfix(domain=1), Ipfix(domain=2)
    got = decode(
        one.tell(FLOW),
        two.tell(SWAPPED),
        one.message(data(FLOW, flow(1)), records=1),
        two.message(data(FLOW, flow(2)), records=1),
        Sent(Ipfix(domain=1).message(data(FLOW, flow(3)), records=1), "192.0.2.2"),
    )
    assert got.column("port_src") == [1, 80]
    assert got.accounts["sets_held"] == 1


def test_v9_and_ipfix_templates_of_one_exporter_are_apart() -> None:
    x, v = Ipfix(), V9()
    got = decode(
        x.tell(FLOW),
        v.message(v9_template_set(SWAPPED)),
        v.message(data(FLOW, flow(9))),
        x.message(data(FLOW, flow(8)), records=1),
    )
    assert got.column("port_src") == [80, 8]


def test_data_before_its_template_is_held_and_decoded() -> None:
    x = Ipfix()
    got = decode(
        x.message(data(FLOW, flow(1), flow(2)), records=2),
        x.message(data(FLOW, flow(3)), records=1),
        x.tell(FLOW),
        x.message(data(FLOW, flow(4)), records=1),
    )
    assert got.column("port_src") == [1, 2, 3, 4]
    assert got.accounts["sets_held"] == got.accounts["sets_held_decoded"] == 2


def test_held_data_keeps_the_times_of_its_own_message() -> None:
    spec = template(300, (22, 4), (21, 4), (2, 4))
    v = V9(uptime=10_000, time=1_600_000_000)
    early = v.message(data(spec, (4_000, 5_000, 1)))
    v.time, v.uptime = 1_600_000_500, 510_000
    got = decode(early, v.message(v9_template_set(spec)), keys=["timestamp_start", "timestamp_end"])
    assert got.only["timestamp_start"] == "1599999994.000"
    assert got.only["timestamp_end"] == "1599999995.000"


def test_hold_switched_off_drops_data_without_template() -> None:
    x = Ipfix()
    got = decode(
        x.message(data(FLOW, flow(1)), records=1),
        x.tell(FLOW),
        x.message(data(FLOW, flow(2)), records=1),
        hold=False,
    )
    assert got.column("port_src") == [2]
    assert got.accounts["sets_evicted"] == 1


def test_padding_is_no_record() -> None:
    x = Ipfix()
    spec = template(256, (7, 2), (11, 2), (4, 1))
    padded = flow_set(256, bytes.fromhex("0001005011"), boundary=8)
    got = decode(x.message(ipfix_template_set(spec), padded, records=1))
    assert got.column("port_src") == [1]


def test_v9_packet_filled_up_with_zeros() -> None:
    v = V9()
    got = decode(v.message(v9_template_set(FLOW), data(FLOW, flow(1)), bytes(200)))
    assert got.column("port_src") == [1]
    assert got.accounts["decoded"] == 1


def test_reserved_sets_are_passed_over() -> None:
    x = Ipfix()
    reserved = b"".join(flow_set(n, b"\xff" * 8) for n in (4, 100, 255))
    got = decode(x.message(ipfix_template_set(FLOW), reserved, data(FLOW, flow(1)), records=1))
    assert got.column("port_src") == [1]
    assert got.accounts["decoded"] == 1


def test_set_past_the_end_keeps_what_came_before() -> None:
    x = Ipfix()
    lying = bytearray(data(FLOW, flow(2)))
    lying[2:4] = (500).to_bytes(2)
    got = decode(x.message(ipfix_template_set(FLOW), data(FLOW, flow(1)), bytes(lying), records=2))
    assert got.column("port_src") == [1]
    assert got.accounts["bad_set_length"] == 1


@pytest.mark.parametrize("long_lengths", [False, True], ids=["one octet", "three octets"])
def test_fields_of_variable_length(long_lengths: bool) -> None:
    spec = template(256, (7, 2), (96, VARIABLE), (11, 2), (82, VARIABLE), (2, 4))
    records = [
        (1, b"dns", 53, b"", 10),
        (2, b"", 80, b"x" * 254, 20),
        (3, b"y" * 255, 443, b"z" * 900, 30),
    ]
    x = Ipfix()
    got = decode(x.send(spec, *records, long_lengths=long_lengths), keys=["port_src", "port_dst"])
    assert got.column("port_src") == [1, 2, 3]
    assert got.column("port_dst") == [53, 80, 443]
    assert got.column("packets") == [10, 20, 30]


def test_record_of_variable_length_past_its_set_ends_the_set() -> None:
    spec = template(256, (96, VARIABLE), (7, 2))
    x = Ipfix()
    cut = flow_set(256, b"\x02ab\x00\x07" + b"\x40abc", boundary=1)
    got = decode(x.message(ipfix_template_set(spec), cut, records=1), keys=["port_src"])
    assert got.column("port_src") == [7]
    assert got.accounts["bad_set_length"] == 1


def test_enterprise_and_unknown_elements_are_skipped() -> None:
    spec = template(
        256, (8, 6, 9), (8, 4), (32000, 3), (2, 8, 35632), (VARIABLE - 1 & 0x7FFF, VARIABLE, 1),
        (12, 4), (2, 4),
    )  # fmt: skip
    x = Ipfix()
    got = decode(
        x.send(spec, (0xFFFFFFFFFFFF, "10.1.1.1", 0xABCDEF, 77, b"noise", "10.2.2.2", 5)),
        keys=["ip_src", "ip_dst"],
    )
    assert (got.only["ip_src"], got.only["ip_dst"]) == ("10.1.1.1", "10.2.2.2")
    assert got.only["packets"] == 5


def test_structured_data_is_skipped() -> None:
    """A basicList of three ports (RFC 6313 section 4.5.1) between two plain fields."""
    spec = template(256, (8, 4), (291, VARIABLE), (12, 4), (2, 4))
    listed = bytes.fromhex("03") + bytes.fromhex("000b0002") + bytes.fromhex("005001bb0016")
    x = Ipfix()
    got = decode(
        x.send(spec, ("10.1.1.1", listed, "10.2.2.2", 5)), keys=["ip_src", "ip_dst", "port_dst"]
    )
    assert got.only["ip_dst"] == "10.2.2.2"
    assert got.only["port_dst"] == 0


def test_reduced_size_encoding() -> None:
    spec = template(256, (1, 3), (2, 8), (10, 1), (16, 2))
    x = Ipfix()
    got = decode(x.send(spec, (0xABCDEF, 1 << 40, 200, 65001)), keys=["iface_in", "as_src"])
    assert got.only == {
        "iface_in": 200, "as_src": 65001, "packets": 1 << 40, "bytes": 0xABCDEF, "flows": 1
    }  # fmt: skip


def test_fields_of_length_zero_are_not_there() -> None:
    spec = template(256, (8, 4), (0, 0), (150, 0), (2, 4), (24, 0))
    x = Ipfix()
    got = decode(x.send(spec, ("10.1.1.1", 0, 0, 3, 0)), keys=["ip_src"])
    assert got.only["packets"] == 3


def test_first_of_repeated_elements_that_is_not_zero_counts() -> None:
    spec = template(256, (8, 4), (8, 4), (2, 4), (2, 4))
    x = Ipfix()
    got = decode(
        x.send(spec, ("10.1.1.1", "10.1.1.2", 5, 6), ("0.0.0.0", "10.1.1.3", 0, 7)),
        keys=["ip_src"],
    )
    assert got.column("ip_src") == ["10.1.1.1", "10.1.1.3"]
    assert got.column("packets") == [5, 7]


def test_ingress_and_egress_counters() -> None:
    spec = template(256, (2, 4), (1, 4), (24, 4), (23, 4))
    x = V9()
    got = decode(x.send(spec, (0, 0, 3, 300), (4, 400, 0, 0), (5, 500, 6, 600)), keys=["ip_src"])
    assert got.column("packets") == [3, 4, 5]
    assert got.column("bytes") == [300, 400, 500]


def test_template_without_room_for_a_record_is_refused() -> None:
    x = Ipfix()
    empty = template(256, (8, 0))
    got = decode(x.message(ipfix_template_set(empty), data(FLOW, flow(1)), records=1))
    assert got.rows == []
    assert got.accounts["bad_template"] == 1


def test_many_records_of_many_templates_in_one_batch() -> None:
    x = Ipfix()
    specs = [template(256 + n, (7, 2), (210, n + 1), (2, 4)) for n in range(20)]
    sets = [data(s, *((n * 100 + r, 0, 1) for r in range(7))) for n, s in enumerate(specs)]
    got = decode(x.tell(*specs), *(x.message(s, records=7) for s in sets), keys=["port_src"])
    want = [n * 100 + r for n in range(20) for r in range(7)]
    assert np.array_equal(got.column("port_src"), want)


def test_a_bad_template_costs_no_other_of_its_set() -> None:
    """Bare specifiers of no length are of no use; what stands beside them is."""
    empty = template(299, (1, 0))
    x, v = Ipfix(), V9()
    got = decode(
        x.message(ipfix_template_set(empty, FLOW), data(FLOW, flow(1)), records=1),
        x.message(ipfix_template_set(empty, FLOW), data(FLOW, flow(2)), records=1),
        Sent(v.message(v9_template_set(empty, FLOW), data(FLOW, flow(3))), "192.0.2.9"),
    )
    assert got.column("port_src") == [1, 2, 3]
    assert (got.accounts["bad_template"], got.accounts["templates"]) == (3, 2)
