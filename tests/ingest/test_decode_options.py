"""Options data: sampling, interfaces, VRFs, applications; what it tells holds from there on."""

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from flowray.generate.encode import VARIABLE, v9_options_template_set
from tests.ingest.decoding import (
    FLOW,
    V9,
    Datum,
    Decoded,
    Ipfix,
    Sent,
    data,
    decode,
    flow,
    template,
)

NAMES = template(400, (10, 4), (82, VARIABLE), scopes=1)
VRFS = template(401, (234, 4), (236, 8), (90, 8), scopes=1)
VRF_FLOW = template(402, (8, 4), (12, 4), (234, 4), (235, 4), (2, 4))
IFACES = template(403, (10, 4), (14, 4), (2, 4))


def test_interface_names() -> None:
    x = Ipfix()
    got = decode(
        x.send(NAMES, (1, b"xe-0/0/1"), (2, b"et-1/0/0\0\0 left over")),
        x.send(IFACES, (1, 2, 10), (2, 9, 10)),
        keys=["in_iface_name", "out_iface_name"],
    )
    assert got.column("iface_name_in") == ["xe-0/0/1", "et-1/0/0"]
    assert got.column("iface_name_out") == ["et-1/0/0", ""]
    assert got.accounts["option_records"] == 2


def test_later_options_overwrite_from_their_place_in_the_stream_on() -> None:
    x = Ipfix()
    first = x.send(NAMES, (1, b"old"))
    x.send(IFACES, (1, 1, 1))
    got = decode(
        first,
        x.tell(IFACES),
        x.message(
            data(IFACES, (1, 0, 1)), data(NAMES, (1, b"new")), data(IFACES, (1, 0, 2)), records=3
        ),
        x.message(data(NAMES, (1, b"old")), data(IFACES, (1, 0, 3)), records=2),
        keys=["in_iface_name"],
    )
    assert got.column("packets") == [1, 2, 3]
    assert got.column("iface_name_in") == ["old", "new", "old"]


def test_v9_interface_scope_names_the_interface() -> None:
    spec = template(500, (2, 4), (82, 8), scopes=1)
    v = V9()
    got = decode(v.send(spec, (7, b"Te0/0/7")), v.send(IFACES, (7, 0, 1)), keys=["in_iface_name"])
    assert got.only["iface_name_in"] == "Te0/0/7"


def test_v9_system_scope_is_not_an_element() -> None:
    """Scope 1 is the system, not element 1, octets (RFC 3954 section 6.1)."""
    spec = template(500, (1, 4), (34, 4), (35, 1), scopes=1)
    v = V9()
    got = decode(
        v.message(v9_options_template_set(spec), data(spec, (99, 512, 2))),
        v.send(FLOW, flow()),
        keys=["sampling_rate"],
    )
    assert got.only["sampling_rate"] == 512


def test_options_of_one_domain_serve_the_others_of_the_exporter() -> None:
    line, main = Ipfix(domain=0), Ipfix(domain=7)
    got = decode(
        line.send(NAMES, (1, b"shared")),
        main.send(IFACES, (1, 0, 1)),
        Sent(Ipfix(domain=7).send(IFACES, (1, 0, 2)), "192.0.2.9"),
        keys=["in_iface_name"],
    )
    assert got.column("iface_name_in") == ["shared", ""]


def test_application_names() -> None:
    spec = template(404, (95, 4), (96, 16), scopes=1)
    flows = template(405, (95, 4), (2, 4))
    x = Ipfix()
    got = decode(
        x.send(spec, (0x0D000001, b"web")), x.send(flows, (0x0D000001, 1), (5, 1)), keys=["class"]
    )
    assert got.column("class") == ["web", "unknown"]


# -- sampling

SAMPLED = (302, 4)
IN_RECORD = (34, 4)

SYSTEM = template(410, (149, 4), (34, 4), scopes=1)
SELECTOR = template(411, (302, 4), (305, 4), (306, 4), scopes=1)
SIZED = template(412, (302, 4), (305, 4), (309, 4), (310, 4), scopes=1)
RANDOM = template(413, (48, 1), (49, 1), (50, 4), scopes=1)
INTERVAL = template(414, (302, 4), (305, 4), scopes=1)
BY_TIME = template(415, (302, 4), (307, 4), (308, 4), scopes=1)
PROBABLE = template(416, (302, 4), (304, 2), (311, 8), scopes=1)
PROBABLE_SHORT = template(417, (302, 4), (311, 4), scopes=1)
BY_INTERFACE = template(418, (10, 4), (34, 4), scopes=1)


@pytest.mark.parametrize(
    ("told", "values", "rate"),
    [
        (SYSTEM, (0, 100), 100),
        (SELECTOR, (5, 1, 999), 1000),
        (SELECTOR, (5, 2, 18), 10),
        (SELECTOR, (5, 1, 0), 1),
        (INTERVAL, (5, 64), 64),
        (SIZED, (5, 1, 1, 256), 256),
        (SIZED, (5, 64, 2, 512), 256),
        (SIZED, (5, 64, 0, 0), 64),
        (RANDOM, (5, 2, 4000), 4000),
        (BY_TIME, (5, 10, 990), 100),
        (PROBABLE, (5, 5, struct.pack("!d", 1 / 2000)), 2000),
        (PROBABLE_SHORT, (5, struct.pack("!f", 0.25)), 4),
    ],
    ids=[
        "interval of v9",
        "count-based",
        "two of twenty",
        "every packet",
        "interval without space",
        "size of population, though 305 says 1",
        "two of 512",
        "size and population are zero",
        "sampler of v9",
        "ten of a thousand microseconds",
        "probability",
        "probability in four octets",
    ],
)
def test_rate_told_by_options(told: object, values: Sequence[Datum], rate: int) -> None:
    by_v9 = told is RANDOM
    flows = template(420, (48, 1) if by_v9 else SAMPLED, (2, 4), (1, 4))
    x = Ipfix()
    got = decode(
        x.send(told, values),  # type: ignore[arg-type]
        x.send(flows, (5, 3, 300)),
        keys=["sampling_rate"],
        renormalise=True,
    )
    assert got.only == {
        "sampling_rate": rate, "packets": 3 * rate, "bytes": 300 * rate, "flows": 1
    }  # fmt: skip


def _rates(*messages: bytes, maps: dict[str, str] | None = None) -> Decoded:
    return decode(*messages, keys=["sampling_rate"], renormalise=True, maps=maps)


def test_record_is_sampled_by_the_sampler_that_it_names() -> None:
    flows = template(420, SAMPLED, (2, 4))
    x = Ipfix()
    got = _rates(
        x.send(INTERVAL, (1, 10), (2, 20)),
        x.send(SYSTEM, (0, 7)),
        x.send(flows, (1, 1), (2, 1), (3, 1)),
    )
    assert got.column("sampling_rate") == [10, 20, 7]


def test_rate_in_the_record_counts_before_the_default_and_after_its_sampler() -> None:
    both = template(421, SAMPLED, IN_RECORD, (2, 4))
    x = Ipfix()
    got = _rates(
        x.send(INTERVAL, (1, 10)),
        x.send(SYSTEM, (0, 7)),
        x.send(both, (1, 50, 1), (2, 50, 1), (2, 0, 1)),
    )
    assert got.column("sampling_rate") == [10, 50, 7]


def test_interfaces_have_rates_of_their_own() -> None:
    """Options scoped to an interface apply to that interface (RFC 3954 section 6.1)."""
    flows = template(422, (10, 4), (2, 4))
    x = Ipfix()
    got = _rates(
        x.send(BY_INTERFACE, (1, 10), (2, 20)),
        x.send(flows, (1, 1), (2, 1), (3, 1)),
        x.send(SYSTEM, (0, 7)),
        x.send(flows, (2, 1), (3, 1)),
    )
    assert got.column("sampling_rate") == [10, 20, 0, 20, 7]


def test_rate_of_all_samplers_serves_records_that_name_none() -> None:
    unnamed, named = template(423, (8, 4), (2, 4)), template(424, SAMPLED, (2, 4))
    x = Ipfix()
    got = _rates(
        x.send(INTERVAL, (1, 10)),
        x.send(unnamed, ("10.0.0.1", 1)),
        x.send(INTERVAL, (2, 10)),
        x.send(unnamed, ("10.0.0.1", 2)),
        x.send(named, (9, 3)),
        x.send(INTERVAL, (1, 20)),
        x.send(unnamed, ("10.0.0.1", 4)),
        x.send(INTERVAL, (2, 20)),
        x.send(unnamed, ("10.0.0.1", 5)),
    )
    assert got.column("sampling_rate") == [10, 10, 0, 0, 20]


@pytest.mark.parametrize(
    ("elements", "values", "rate"),
    [
        (((305, 4), (306, 4)), (1, 99), 100),
        (((306, 2), (1, 4), (305, 4)), (30, 5, 10), 4),
        (((309, 4), (310, 4), (305, 4)), (2, 512, 1), 256),
        (((310, 8), (309, 1)), (1 << 40, 1), 0xFFFFFFFF),
        (((310, 4), (309, 4)), (100, 0), 0),
        (((305, 4), (14, VARIABLE), (306, 4)), (7, b"x", 9), 7),
        (((14, VARIABLE), (305, 4), (306, 4)), (b"x", 1, 9), 10),
    ],
    ids=[
        "interval and space",
        "something between",
        "size and population win over interval",
        "beyond 32 bits",
        "size of zero",
        "not at a fixed distance",
        "of variable length before",
    ],
)
def test_rate_told_by_two_elements_of_the_record(
    elements: Sequence[tuple[int, int]], values: Sequence[Datum], rate: int
) -> None:
    x = Ipfix()
    got = _rates(x.send(template(425, *elements, (2, 4)), (*values, 3)))
    assert (got.only["sampling_rate"], got.only["packets"]) == (rate, 3 * (rate or 1))


def test_operator_overrides_what_exporters_tell(tmp_path: Path) -> None:
    rates = tmp_path / "sampling.map"
    rates.write_text("id=1000 ip=192.0.2.1\n", encoding="utf-8")
    flows = template(420, SAMPLED, (2, 4))
    x = Ipfix()
    got = _rates(x.send(INTERVAL, (1, 10)), x.send(flows, (1, 2)), maps={"sampling": str(rates)})
    assert (got.only["sampling_rate"], got.only["packets"]) == (1000, 2000)


def test_rate_of_zero_never_zeroes_counters() -> None:
    flows = template(420, SAMPLED, IN_RECORD, (2, 4))
    x = Ipfix()
    got = _rates(
        x.send(INTERVAL, (1, 0)), x.send(SYSTEM, (0, 0)), x.send(flows, (1, 0, 9)),
    )  # fmt: skip
    assert got.only == {"sampling_rate": 0, "packets": 9, "bytes": 0, "flows": 1}


def test_counters_are_multiplied_only_on_demand() -> None:
    x = Ipfix()
    got = decode(x.send(SYSTEM, (0, 100)), x.send(FLOW, flow(packets=2)), keys=["sampling_rate"])
    assert (got.only["sampling_rate"], got.only["packets"]) == (100, 2)


# -- VRFs


def _rd(kind: int, administrator: int, number: int) -> bytes:
    wide = kind == 0
    return (
        kind.to_bytes(2)
        + administrator.to_bytes(2 if wide else 4)
        + number.to_bytes(4 if wide else 2)
    )


VRF_KEYS = ["mpls_vpn_rd", "vrf_name", "ingress_vrf_name", "egress_vrf_name"]


def _vrfs(*messages: bytes) -> Decoded:
    return decode(*messages, keys=VRF_KEYS)


def test_names_and_distinguishers_of_vrfs() -> None:
    x = Ipfix()
    got = _vrfs(
        x.send(
            VRFS,
            (1, b"red", _rd(0, 65000, 100)),
            (2, b"blue", _rd(1, 0xC0000201, 7)),
            (3, b"green", _rd(2, 4_200_000_000, 9)),
            (4, b"none", _rd(0, 0, 0)),
        ),
        x.send(
            VRF_FLOW,
            *(
                ("10.0.0.1", "10.0.0.2", a, b, 1)
                for a, b in [(1, 2), (4, 2), (9, 3), (4, 4), (0, 0)]
            ),
        ),
    )
    assert got.column("mpls_vpn_rd") == [
        "0:65000:100", "1:192.0.2.1:7", "2:4200000000:9", "0:0:0", "0:0:0"
    ]  # fmt: skip
    assert got.column("mpls_vpn_rd_origin") == ["flow"] * 5
    assert got.column("vrf_name") == ["red", "blue", "green", "none", ""]
    assert got.column("ingress_vrf_name") == ["red", "none", "", "none", ""]
    assert got.column("egress_vrf_name") == ["blue", "blue", "green", "none", ""]


def test_vrf_ids_without_options() -> None:
    x = Ipfix()
    got = _vrfs(
        x.send(VRF_FLOW, ("10.0.0.1", "10.0.0.2", 5, 6, 1), ("10.0.0.1", "10.0.0.2", 0, 6, 1))
    )
    assert got.column("mpls_vpn_rd") == ["vrfid:5", "vrfid:6"]
    assert got.column("mpls_vpn_rd_origin") == ["flow", "flow"]


def test_records_without_vrf_ids() -> None:
    x = Ipfix()
    got = _vrfs(x.send(FLOW, flow()))
    assert got.only["mpls_vpn_rd"] == "0:0:0"
    assert got.only["mpls_vpn_rd_origin"] == "unknown"


def test_distinguisher_in_the_record_counts_first() -> None:
    spec = template(430, (8, 4), (90, 8), (234, 4), (2, 4))
    x = Ipfix()
    got = _vrfs(x.send(spec, ("10.0.0.1", _rd(0, 1, 2), 5, 1), ("10.0.0.1", bytes(8), 5, 1)))
    assert got.column("mpls_vpn_rd") == ["0:1:2", "vrfid:5"]


# -- boot time

BOOT = template(440, (149, 4), (160, 8), scopes=1)
UPTIMES = template(441, (22, 4), (21, 4), (2, 4))


@pytest.mark.parametrize("use", [True, False])
def test_boot_time_told_by_options_is_a_switch(use: bool) -> None:
    x = Ipfix(time=1_700_000_100)
    got = decode(
        x.send(BOOT, (0, 1_700_000_000_000)),
        x.send(UPTIMES, (10_250, 20_500, 1)),
        keys=["timestamp_start", "timestamp_end"],
        boot_time_from_options=use,
    )
    want = ("1700000010.250", "1700000020.500") if use else ("1700000100.000", "1700000100.000")
    assert (got.only["timestamp_start"], got.only["timestamp_end"]) == want


def test_options_before_their_template_are_held_as_well() -> None:
    x = Ipfix()
    got = decode(
        x.message(data(NAMES, (1, b"late")), records=1),
        x.tell(NAMES),
        x.send(IFACES, (1, 0, 1)),
        keys=["in_iface_name"],
    )
    assert got.only["iface_name_in"] == "late"


ADDRESS = template(404, (149, 4), (130, 4), (131, 16), scopes=1)
TELLING = template(405, (8, 4), (12, 4), (2, 4), (130, 4))


def test_an_exporter_is_known_by_the_address_that_it_tells() -> None:
    x = Ipfix()
    got = decode(
        x.send(IFACES, (1, 2, 10)),
        x.send(ADDRESS, (0, "198.51.100.7", "::")),
        x.send(IFACES, (1, 2, 10)),
        x.send(TELLING, ("10.0.0.1", "10.0.0.2", 1, "203.0.113.9")),
        x.send(TELLING, ("10.0.0.1", "10.0.0.2", 1, "0.0.0.0")),
        keys=["peer_src_ip"],
    )
    told = ["192.0.2.1", "198.51.100.7", "203.0.113.9", "198.51.100.7"]
    assert got.column("peer_ip_src") == told


def test_what_exporters_tell_of_themselves_can_be_ignored() -> None:
    x = Ipfix()
    got = decode(
        x.send(ADDRESS, (0, "198.51.100.7", "::")),
        x.send(TELLING, ("10.0.0.1", "10.0.0.2", 1, "203.0.113.9")),
        keys=["peer_src_ip"],
        exporter_address="source",
    )
    assert got.only["peer_ip_src"] == "192.0.2.1"
