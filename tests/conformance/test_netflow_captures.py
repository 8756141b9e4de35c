"""Recordings of routers and firewalls against what another program counts and prints for them."""

import json
from typing import Any

import pytest

from flowray.ingest.options import Topic
from tests.conformance.captures import (
    MISSING,
    SHARED,
    address,
    decode_capture,
    nanoseconds,
    nearest,
    same,
    time,
    words,
)

FOLDER = SHARED / "netflow"
EXPECTED = FOLDER / "expected.json"

Context = dict[str, Any]
CONTEXTS: list[Context] = json.loads(EXPECTED.read_text("utf-8")) if EXPECTED.is_file() else []

COUNTS = {
    "03": (0, "the header counts 163 records where 30 fit: the datagram is refused whole"),
    "05": (30, "no count is given; 29 flows and one options record"),
    # RFC 3954 section 5.1: the sets tell what there is, and have lengths of their own.
    "09": (3, "no count is given; two flows and one options record, though the header counts two"),
    "43": (0, "no count is given; templates alone"),
    "45": (25, "no count is given; 25 flows"),
    "49": (5, "RFC 5103: two of the three records hold both directions of a flow: two rows each"),
}
"""Events that differ or are not given, by the number that the capture's name begins with: why."""

HELD = {
    "51": (6, "RFC 7011 section 8: data before its template may be held, and then is there"),
}
"""As COUNTS, with data held for its template. Otherwise the hold changes nothing."""

WRAP_NS = (1 << 32) * 10**6


def uptime(ours: Any, theirs: Any) -> bool:
    """Export time less age (RFC 3954 section 8, elements 21 and 22).

    They add the complement of the milliseconds without borrowing a second, which is a second too
    late, and take an age across the wrap of a 32-bit uptime for 49.7 days ahead.
    """
    late = nanoseconds(theirs) // 10**6 - nanoseconds(ours) // 10**6
    return late in (0, 1000, WRAP_NS // 10**6, WRAP_NS // 10**6 + 1000)


def forwarding(ours: Any, theirs: Any) -> bool:
    return bool(int(ours) == theirs["status"] << 6 | theirs["reason"])


def vrf(ours: Any, theirs: Any) -> bool:
    return bool(ours == f"vrfid:{theirs}")


def direction(ours: Any, theirs: Any) -> bool:
    return bool(ours == "ie"[theirs])


WORDS = (
    words(
        same,
        {
            "export_proto_version": "version",
            "export_proto_seqno": "flow_seq_num",
            "ip_src": "ipv4_src_addr ipv6_src_addr sourceIPv4Address sourceIPv6Address",
            "ip_dst": "ipv4_dst_addr ipv6_dst_addr destinationIPv4Address destinationIPv6Address",
            "port_src": "l4_src_port sourceTransportPort",
            "port_dst": "l4_dst_port destinationTransportPort",
            "ip_proto": "protocol protocolIdentifier",
            "tcp_flags": "tcp_flags tcpControlBits",
            "tos": "src_tos ipClassOfService",
            "packets": "in_pkts packetDeltaCount packetTotalCount",
            "bytes": "in_bytes octetDeltaCount octetTotalCount in_permanent_bytes",
            "iface_in": "input_snmp ingressInterface",
            "iface_out": "output_snmp egressInterface",
            "as_src": "src_as bgpSourceAsNumber",
            "as_dst": "dst_as bgpDestinationAsNumber",
            "mask_src": "src_mask",
            "mask_dst": "dst_mask",
            "mac_src": "in_src_mac out_src_mac",
            "mac_dst": "in_dst_mac out_dst_mac",
            "vlan_in": "src_vlan vlanId",
            "vlan_out": "dst_vlan",
            "post_nat_port_src": "xlate_src_port",
            "post_nat_port_dst": "xlate_dst_port",
            "fw_event": "fw_event",
            "sampling_rate": "sampling_interval",
        },
    )
    | words(
        address,
        {
            "peer_ip_dst": "bgp_ipv4_next_hop",
            "post_nat_ip_src": "xlate_src_addr_ipv4 postNATSourceIPv4Address",
            "post_nat_ip_dst": "xlate_dst_addr_ipv4 postNATDestinationIPv4Address",
        },
    )
    | words(
        time,
        {
            "timestamp_export": "@timestamp",
            "timestamp_start": "flowStartMilliseconds flowStartSeconds",
            "timestamp_end": "flowEndMilliseconds flowEndSeconds",
        },
    )
    | words(uptime, {"timestamp_start": "first_switched", "timestamp_end": "last_switched"})
    | words(direction, {"sampling_direction": "direction flowDirection"})
    | words(forwarding, {"fwd_status": "forwarding_status"})
    | words(vrf, {"mpls_vpn_rd": "ingressVRFID"})
)

NOT_TAKEN = {
    "25": ("sourceIPv6Address", "destinationIPv6Address"),
    "35": ("in_pkts", "in_bytes"),
}
"""Values that another element of the same field has: the family or the counter that is not zero."""

OPTION_WORDS: dict[str, tuple[Topic, int]] = {
    "systemInitTimeMilliseconds": (Topic.BOOT, 0),
    "samplingPacketInterval": (Topic.DEFAULT_RATE, 0),
    "samplingInterval": (Topic.DEFAULT_RATE, 0),
    "sampling_interval": (Topic.DEFAULT_RATE, 0),
}


def _id(context: Context) -> str:
    return str(context["pcap"]).removesuffix(".pcap")


contexts = pytest.mark.parametrize(
    "context",
    CONTEXTS or [pytest.param({}, marks=pytest.mark.skip(reason=MISSING))],
    ids=_id if CONTEXTS else None,
)


@contexts
def test_counts(context: Context) -> None:
    path = FOLDER / context["pcap"]
    name = context["pcap"][:2]
    want, _ = COUNTS.get(name, (context["expected_count"], ""))
    dropped = decode_capture(path, hold=False)
    assert dropped.events == want
    assert decode_capture(path).events == HELD.get(name, (want, ""))[0]


@contexts
def test_values(context: Context) -> None:
    got = decode_capture(FOLDER / context["pcap"])
    skip = NOT_TAKEN.get(context["pcap"][:2], ())
    for event in context["expected_events"]:
        values = {k: v for k, v in event["netflow"].items() if k not in skip}
        if _is_options(values):
            for name, place in OPTION_WORDS.items():
                if name in values:
                    assert got.told[place] == values[name], name
            continue
        assert nearest(got.rows, values | {"@timestamp": event["@timestamp"]}, WORDS) == []


def _is_options(values: dict[str, Any]) -> bool:
    """Records of options data: nothing in them is an address or port of a flow."""
    return not any(
        name in values
        for name in ("ipv4_src_addr", "ipv6_src_addr", "sourceIPv4Address", "sourceIPv6Address")
    )


@contexts
def test_asserted_values(context: Context) -> None:
    """Single values that must be in some record."""
    rows = decode_capture(FOLDER / context["pcap"]).rows
    for _, path, literal in context["asserts"]:
        name = path.removeprefix("[netflow][").removesuffix("]")
        if name in WORDS and name not in NOT_TAKEN.get(context["pcap"][:2], ()):
            value = literal.strip("\"'")
            key, check = WORDS[name]
            assert any(check(row[key], value) for row in rows), (name, value)


def test_biflow_rows_are_the_reverse_of_each_other() -> None:
    path = next(iter(FOLDER.glob("49-*.pcap")), None)
    if path is None:
        pytest.skip(MISSING)
    rows = decode_capture(path).rows
    assert sorted((r["ip_src"], r["port_src"], r["packets"], r["bytes"]) for r in rows) == [
        ("172.16.32.100", 53, 2, 200),
        ("172.16.32.100", 63499, 4, 172),
        ("172.16.32.201", 46086, 2, 132),
        ("172.16.32.215", 9997, 2, 92),
    ]


def test_ntp_times() -> None:
    path = next(iter(FOLDER.glob("51-*.pcap")), None)
    if path is None:
        pytest.skip(MISSING)
    ends = {r["timestamp_end"] for r in decode_capture(path).rows}
    assert any(nanoseconds(e) == nanoseconds("2016-11-11T12:09:19.000127768Z") for e in ends)
