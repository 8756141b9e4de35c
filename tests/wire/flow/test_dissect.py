from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowray.columns import Columns, Layout
from flowray.wire.flow.dissect import (
    LENGTH,
    SLOT_FIELDS,
    SLOTS,
    Link,
    Status,
    Tunnel,
    destinations,
    dissect,
    tunnel_word,
)
from tests.wire.flow import frames as f
from tests.wire.flow.dissect_twin import Frame

NAMES = [name for name in SLOT_FIELDS if name is not None]
LAYOUT = Layout([*NAMES, "bytes"])
ALL = Tunnel.GRE | Tunnel.IPIP | Tunnel.VXLAN | Tunnel.GTP | Tunnel.GENEVE
FULL = destinations(LAYOUT)
FULL[LENGTH] = LAYOUT.index("bytes")
V4 = 0xFFFF << 32


def run(
    frame: bytes, link: int = Link.ETHERNET, tunnels: int = 0, layout: Layout = LAYOUT
) -> tuple[Status, dict[str, int]]:
    """What the kernel says of a frame; around it stand octets that it must not read."""
    buf = np.frombuffer(b"\x45" * 7 + frame + b"\x45" * 9, np.uint8)
    columns = Columns.empty(layout, 3)
    columns.n = 3
    dest = FULL if layout is LAYOUT else destinations(layout)
    status = dissect(buf, 7, len(frame), link, columns.words, 1, dest, tunnels)
    assert not columns.words[:, [0, 2]].any()
    found = {}
    for name in layout.names:
        value = columns[name][..., 1]
        found[name] = int(value[0]) << 64 | int(value[1]) if value.ndim else int(value)
    if "bytes" in found:
        found["length"] = found.pop("bytes")
    return Status(status), {name: value for name, value in found.items() if value}


def check(frame: bytes, link: int, flags: Tunnel, port: int = 4789) -> None:
    twin = Frame(frame, flags, port)
    status = twin.read(link)
    expected = {name: value for name, value in twin.out.items() if value}
    assert run(frame, link, tunnel_word(flags, port) if flags else 0) == (status, expected)


@settings(max_examples=400, deadline=None)
@given(f.frames, f.edits, f.cuts, st.sampled_from([ALL, ALL, Tunnel(0), Tunnel.VXLAN, Tunnel.IPIP]))
@example((1, f.ethernet(0x8847, f.mpls(list(range(16, 50)), b"\x45"))), [], None, ALL)
@example((1, f.ethernet(0x8847, f.mpls([16], b"\x10" + bytes(40)))), [], None, ALL)
def test_kernel_equals_twin(
    item: tuple[int, bytes], edits: list[tuple[int, int]], cut: int | None, flags: Tunnel
) -> None:
    link, frame = item
    check(f.mutate(frame, edits, cut), link, flags)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([0, 1, 2, 7, 11, 12, 13, 14, 99]))
def test_noise_equals_twin(frame: bytes, link: int) -> None:
    check(frame, link, ALL)


def test_plain_tcp() -> None:
    frame = f.ethernet(
        0x8100, f.vlan(0x0800, f.ipv4(6, f.tcp(80, 12345, 0x12), tos=46), 5 << 13 | 7)
    )
    status, fields = run(frame + bytes(20))
    assert status is Status.OK
    assert fields == {
        "src_mac": 0x0A0000000001, "dst_mac": 0x0A0000000002, "vlan": 7, "in_vlan": 7, "cos": 5,
        "etype": 0x0800, "src_host": V4 | 0x0A000001, "dst_host": V4 | 0x0A000002, "proto": 6,
        "tos": 46, "src_port": 80, "dst_port": 12345, "tcpflags": 0x12, "length": 40,
    }  # fmt: skip


def test_double_tag() -> None:
    inner = f.vlan(0x86DD, f.ipv6(17, f.udp(53, 9), label=77, traffic_class=3), 300)
    _, fields = run(f.ethernet(0x88A8, f.vlan(0x8100, inner, 200)))
    assert (fields["vlan"], fields["in_cvlan"]) == (200, 300)
    assert (fields["flow_label"], fields["tos"], fields["length"]) == (77, 3, 48)


def test_padding_of_the_frame_is_not_a_port() -> None:
    status, fields = run(f.ethernet(0x0800, f.ipv4(6, b"") + b"\x11" * 26))
    assert status is Status.TRUNCATED
    assert "src_port" not in fields


def test_ports_only_of_first_fragments() -> None:
    _, later = run(f.ipv4(17, f.udp(1, 2), fragment=100), Link.IPV4)
    _, first = run(f.ipv4(17, f.udp(1, 2), fragment=0x2000), Link.IPV4)
    assert "src_port" not in later
    assert first["src_port"] == 1
    _, later = run(f.ipv6(44, f.fragment_header(17, f.udp(1, 2), 3)), Link.IPV6)
    _, first = run(f.ipv6(44, f.fragment_header(17, f.udp(1, 2), 0)), Link.IPV6)
    assert (later["proto"], later.get("src_port")) == (17, None)
    assert first["src_port"] == 1


def test_extension_headers() -> None:
    payload = f.extension(43, f.extension(51, f.authentication(60, f.extension(6, f.tcp(3, 4))),
                                          bytes(22)))  # fmt: skip
    status, fields = run(f.ipv6(0, payload), Link.IPV6)
    assert (status, fields["proto"], fields["dst_port"]) == (Status.OK, 6, 4)


def test_icmp_has_no_ports() -> None:
    status, fields = run(f.ipv4(1, bytes([3, 1]) + bytes(30)), Link.IPV4)
    assert status is Status.OK
    assert not fields.keys() & {"src_port", "dst_port"}


@pytest.mark.parametrize("first", [0x44, 0x40, 0x35, 0x65])
def test_contradictory_ip_header(first: int) -> None:
    packet = bytes([first]) + f.ipv4(6, f.tcp(1, 2))[1:]
    status, fields = run(f.ethernet(0x0800, packet))
    assert status is Status.MALFORMED
    assert fields.keys() == {"src_mac", "dst_mac", "etype"}
    outer = f.ipv4(4, packet)
    assert run(outer, Link.IPV4, tunnel_word(ALL))[1]["proto"] == 4
    check(f.ethernet(0x0800, packet), Link.ETHERNET, ALL)
    check(outer, Link.IPV4, ALL)


def test_label_stack() -> None:
    frame = f.ethernet(0x8847, f.mpls([100, 200], f.ipv4(17, f.udp(1, 2))))
    _, fields = run(frame)
    assert (fields["_mpls_1"], fields["_mpls_2"]) == (100 << 4, 200 << 4 | 1)
    assert (fields["etype"], fields["dst_port"]) == (0x0800, 2)


@pytest.mark.parametrize("control", [b"", bytes(4)])
def test_pseudowire_keeps_the_stations_of_the_link(control: bytes) -> None:
    inner = f.ethernet(0x8100, f.vlan(0x0800, f.ipv4(6, f.tcp(1, 2)), 9), f.MAC_C, f.MAC_D)
    _, fields = run(f.ethernet(0x8847, f.mpls([100], control + inner)))
    assert (fields["src_mac"], fields["dst_port"]) == (0x0A0000000001, 2)
    assert "vlan" not in fields


def test_pppoe_and_ppp() -> None:
    packet = f.ipv4(17, f.udp(1, 2))
    for link, frame in (
        (Link.ETHERNET, f.ethernet(0x8864, f.pppoe(0x21, packet))),
        (Link.PPP, b"\xff\x03\x00\x21" + packet),
        (Link.PPP, b"\x21" + packet),
        (Link.POS, b"\x00\x21" + packet),
    ):
        status, fields = run(frame, link)
        assert (status, fields["dst_port"], fields["etype"]) == (Status.OK, 2, 0x0800)


def test_vxlan_inside_is_the_flow() -> None:
    inner = f.ethernet(0x0800, f.ipv4(6, f.tcp(1, 2), source="c0000201"), f.MAC_C, f.MAC_D)
    packet = f.ipv6(17, f.vxlan(5001, inner), label=5)
    frame = f.ethernet(0x8100, f.vlan(0x86DD, packet, 12))
    assert run(frame)[1]["dst_port"] == 4789
    assert run(frame, tunnels=tunnel_word(Tunnel.GRE))[1]["dst_port"] == 4789
    status, fields = run(frame, tunnels=tunnel_word(Tunnel.VXLAN))
    assert status is Status.OK
    assert fields == {
        "src_mac": 0x0A0000000003, "dst_mac": 0x0A0000000004, "etype": 0x0800, "vxlan": 5001,
        "src_host": V4 | 0xC0000201, "dst_host": V4 | 0x0A000002, "proto": 6, "src_port": 1,
        "dst_port": 2, "tcpflags": 0x18, "length": 40,
        "tunnel_src_mac": 0x0A0000000001, "tunnel_dst_mac": 0x0A0000000002,
        "tunnel_src_host": 0x20010DB8 << 96 | 1, "tunnel_dst_host": 0x20010DB8 << 96 | 2,
        "tunnel_proto": 17, "tunnel_src_port": 50000, "tunnel_dst_port": 4789,
        "tunnel_flow_label": 5,
    }  # fmt: skip


def test_vxlan_port_is_a_choice() -> None:
    inner = f.ethernet(0x0800, f.ipv4(6, f.tcp(1, 2)))
    frame = f.ethernet(0x0800, f.ipv4(17, f.vxlan(1, inner, port=8472)))
    assert run(frame, tunnels=tunnel_word(Tunnel.VXLAN))[1]["dst_port"] == 8472
    assert run(frame, tunnels=tunnel_word(Tunnel.VXLAN, 8472))[1]["dst_port"] == 2
    with pytest.raises(ValueError, match="VXLAN port: found 0, allowed 1 to 65535"):
        tunnel_word(Tunnel.VXLAN, 0)


def test_ip_in_ip_keeps_the_stations_of_the_link() -> None:
    frame = f.ethernet(0x0800, f.ipv4(41, f.ipv6(17, f.udp(1, 2))))
    _, fields = run(frame, tunnels=tunnel_word(Tunnel.IPIP))
    assert fields["src_mac"] == fields["tunnel_src_mac"] == 0x0A0000000001
    assert (fields["etype"], fields["tunnel_proto"]) == (0x86DD, 41)


def test_nvgre_and_gtp() -> None:
    inner = f.ethernet(0x0800, f.ipv4(6, f.tcp(1, 2)))
    frame = f.ipv4(47, f.gre(0x6558, inner, flags=0x2000, key=4321 << 8))
    assert run(frame, Link.IPV4, tunnel_word(Tunnel.GRE))[1]["nvgre"] == 4321
    frame = f.ipv4(17, f.gtp(f.ipv4(17, f.udp(5, 6))))
    assert run(frame, Link.IPV4, tunnel_word(Tunnel.GTP))[1]["dst_port"] == 6


def test_nesting_is_bounded() -> None:
    packet = f.ipv4(17, f.udp(1, 2), source="0a0000ff")
    for i in range(8):
        packet = f.ipv4(4, packet, source=f"0a0000{i:02x}")
    status, fields = run(packet, Link.IPV4, tunnel_word(Tunnel.IPIP))
    assert status is Status.OK
    assert fields["tunnel_src_host"] & 0xFF == 7
    assert fields["src_host"] & 0xFF == 3  # four tunnels were opened, the fifth is a packet
    assert fields["proto"] == 4


def test_tunnel_cut_short_is_no_tunnel() -> None:
    frame = f.ipv4(4, f.ipv4(17, f.udp(1, 2)))
    _, fields = run(frame[:39], Link.IPV4, tunnel_word(Tunnel.IPIP))
    assert (fields["proto"], fields["src_host"]) == (4, V4 | 0x0A000001)
    assert "tunnel_proto" not in fields


def test_only_fields_of_the_layout_are_stored() -> None:
    frame = f.ethernet(0x0800, f.ipv4(6, f.tcp(1, 2)))
    layout = Layout(["dst_port", "src_host"])
    assert run(frame, layout=layout)[1] == {"dst_port": 2, "src_host": V4 | 0x0A000001}


def test_destinations() -> None:
    dest = destinations(Layout(["dst_host", "proto"]))
    assert dest.shape == (SLOTS,)
    assert dest.dtype == np.int64
    assert {SLOT_FIELDS[i]: int(row) for i, row in enumerate(dest) if row >= 0} == {
        "dst_host": 0, "proto": 2,
    }  # fmt: skip
    assert destinations(LAYOUT)[LENGTH] == -1


def test_frame_reaching_past_the_buffer_is_cut_there() -> None:
    frame = f.ipv4(17, f.udp(1, 2))
    buf = np.frombuffer(frame[:22], np.uint8)
    columns = Columns.empty(LAYOUT, 1)
    assert dissect(buf, 0, 1000, Link.IPV4, columns.words, 0, FULL, 0) == Status.TRUNCATED
    assert dissect(buf, -1, 10, Link.IPV4, columns.words, 0, FULL, 0) == Status.MALFORMED


@pytest.mark.slow
def test_nothing_is_read_out_of_bounds() -> None:
    """The same properties with numba's bounds checks, which are a matter of compilation."""
    run_with_bounds_checks("dissect")


def run_with_bounds_checks(module: str) -> None:
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": cache}
        path = __file__.replace("dissect", module)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "not slow",
            "-o",
            f"cache_dir={cache}",
        ]
        done = subprocess.run(
            [*command, path], env=env, capture_output=True, text=True, check=False, timeout=280
        )
        assert done.returncode == 0, done.stdout
