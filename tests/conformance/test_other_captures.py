"""Packets that once broke other programs: what these print since, and what must not break us."""

import re
from pathlib import Path
from typing import Any

import pytest

from flowray import protocols
from flowray.ingest.options import Topic
from tests.conformance.captures import (
    MISSING,
    SHARED,
    Capture,
    decode_capture,
    nanoseconds,
    nearest,
    same,
    words,
)

FOLDER = SHARED / "telegraf" / "netflow"
CASES = sorted(p.parent for p in FOLDER.glob("*/constructed.pcap"))
DUMPS = sorted((SHARED / "tcpdump").glob("sflow*.pcap"))

# RFC 7011 section 3.1: the second data set ends past the length in the message header. The other
# program reads on into what is no longer of the message.
MISSING_RECORDS = {"issue_14370": 1}
"""Records that other programs print and we do not have."""


def protocol(ours: Any, theirs: Any) -> bool:
    """Behind extension headers is the protocol they lead to (RFC 8200); they stop at the first."""
    return theirs == "hopopt" or bool(protocols.name(int(ours)) == theirs)


def flags(ours: Any, theirs: Any) -> bool:
    return bool(ours == sum(0x80 >> i for i, c in enumerate(theirs) if c != "."))


def octet(ours: Any, theirs: Any) -> bool:
    return bool(ours == int(str(theirs), 0))


def direction(ours: Any, theirs: Any) -> bool:
    return bool(ours == theirs[0])


def milliseconds(ours: Any, theirs: Any) -> bool:
    return bool(nanoseconds(ours) // 10**6 == theirs)


WORDS = (
    words(
        same,
        {
            "ip_src": "src",
            "ip_dst": "dst",
            "port_src": "src_port",
            "port_dst": "dst_port",
            "bytes": "in_bytes in_total_bytes l2_bytes",
            "packets": "in_packets in_total_packets",
            "as_src": "bgp_src_as",
            "as_dst": "bgp_dst_as",
            "mask_src": "src_mask",
            "mask_dst": "dst_mask",
            "mac_src": "in_src_mac",
            "mac_dst": "out_dst_mac",
            "vlan_in": "vlan_src",
            "iface_in": "in_snmp",
            "iface_out": "out_snmp",
            "sampling_rate": "sampling_interval",
            "peer_ip_src": "agent_ip",
        },
    )
    | words(protocol, {"ip_proto": "protocol"})
    | words(flags, {"tcp_flags": "tcp_flags"})
    | words(octet, {"tos": "src_tos"})
    | words(direction, {"sampling_direction": "direction"})
    | words(milliseconds, {"timestamp_start": "flow_start_ms", "timestamp_end": "flow_end_ms"})
)

_FIELD = re.compile(r'([a-zA-Z0-9_]+)=("(?:[^"\\]|\\.)*"|[^,\s]+)')


def _lines(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Measurement and fields of each line of the Influx protocol."""
    found = []
    for line in (folder / "expected.out").read_text("utf-8").splitlines():
        measurement, _, rest = line.partition(",")
        fields = {k: _value(v) for k, v in _FIELD.findall(rest)}
        found.append((measurement, fields))
    return found


def _value(text: str) -> int | str:
    return text[1:-1] if text.startswith('"') else int(text[:-1]) if text[-1] in "ui" else text


def _is_counter_sample(fields: dict[str, Any]) -> bool:
    return "interface_type" in fields


def _comparable(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what they mean otherwise.

    sFlow: `in_total_packets` is the sample pool, and of an egress sample they print the data source
    as interface.
    NetFlow v5: `flows` is the count of the header.
    """
    sampled = "agent_ip" in fields
    skip = {"in_total_packets"} if sampled else set()
    if sampled and fields.get("direction") == "egress":
        skip |= {"in_snmp", "out_snmp"}
    return {k: v for k, v in fields.items() if k not in skip}


def _reverse(fields: dict[str, Any]) -> dict[str, Any] | None:
    """The reverse direction of a biflow (RFC 5103), which they leave in reverse elements."""
    octets = int(str(fields.get("type_29305_85", "0")), 0)
    packets = int(str(fields.get("type_29305_86", "0")), 0)
    if not octets and not packets:
        return None
    return {
        "src": fields["dst"],
        "dst": fields["src"],
        "src_port": fields["dst_port"],
        "dst_port": fields["src_port"],
        "in_bytes": octets,
        "in_packets": packets,
        "protocol": fields["protocol"],
    }


cases = pytest.mark.parametrize(
    "folder",
    CASES or [pytest.param(None, marks=pytest.mark.skip(reason=MISSING))],
    ids=[c.name for c in CASES] or None,
)


@cases
def test_records(folder: Path) -> None:
    got = decode_capture(folder / "constructed.pcap")
    lines = _lines(folder)
    flows = [f for m, f in lines if m == "netflow" and not _is_counter_sample(f)]
    reverse = [r for r in map(_reverse, flows) if r is not None]
    allowed = MISSING_RECORDS.get(folder.name, 0)
    assert len(got.rows) == len(flows) + len(reverse) - allowed
    absent = [f for f in flows if nearest(got.rows, _comparable(f), WORDS)]
    assert len(absent) == allowed, [nearest(got.rows, _comparable(f), WORDS) for f in absent]
    for fields in reverse:
        assert nearest(got.rows, fields, WORDS) == []


@cases
def test_options_and_counter_samples(folder: Path) -> None:
    got = decode_capture(folder / "constructed.pcap")
    lines = _lines(folder)
    options = [f for m, f in lines if m == "netflow_options"]
    assert got.accounts.get("option_records", 0) == len(options)
    counters = [f for m, f in lines if m == "netflow" and _is_counter_sample(f)]
    assert got.accounts.get("counter_samples", 0) == len(counters)
    for fields in options:
        if "interface" in fields:
            assert got.told[Topic.INTERFACE, fields["in_snmp"]] == fields["interface"].encode()


def _dump(name: str) -> Capture:
    path = SHARED / "tcpdump" / name
    if not path.is_file():
        pytest.skip(MISSING)
    return decode_capture(path)


def test_expanded_flow_sample() -> None:
    got = _dump("sflow_expanded.pcap")
    (row,) = got.rows
    assert (row["iface_in"], row["iface_out"], row["sampling_rate"]) == (29001, 1285816721, 1000)
    assert (row["port_src"], row["port_dst"], row["vlan_in"]) == (22, 52237, 809)
    assert (row["ip_src"], row["ip_dst"]) == ("52.52.52.52", "53.53.53.53")


def test_malformed_sample_is_counted() -> None:
    got = _dump("sflow_print-segv.pcap")
    assert got.rows == []
    assert got.accounts == {"datagrams": 1, "short_header": 1}


@pytest.mark.parametrize(
    "path",
    DUMPS or [pytest.param(None, marks=pytest.mark.skip(reason=MISSING))],
    ids=lambda p: p and p.name,
)
def test_dumps_do_not_break_us(path: Path) -> None:
    got = decode_capture(path)
    assert got.accounts["datagrams"] >= 1
