"""First inputs of the targets of routes."""

from collections.abc import Iterator

from flowray.wire.bgp.families import FAMILIES
from tests.rib import rtr_pdus as rtr
from tests.wire.bgp import encode as e
from tests.wire.bgp import encode_bmp as b
from tests.wire.bgp import mrt_records as m

HOP, HOP6 = e.address("192.0.2.1"), e.address("2001:db8::1")
STACK = e.label_stack([100, 200])
RD = e.rd_as(65000, 1)
FLOW = bytes.fromhex("0118cb0071 038106 0411fa01 9100c8")
NODE = bytes.fromhex("02 0000000000000001 0100 001a 0200 0004 0000fde8 0201 0004 00000001"
                     "0203 0006 000000000001")  # fmt: skip
FAMILY_NLRI = (
    (1, 1, HOP, e.prefix("203.0.113.0/24")),
    (2, 1, HOP6, e.prefix("2001:db8::/48")),
    (1, 4, HOP, e.labeled("203.0.113.0/24", STACK)),
    (2, 4, HOP6, e.labeled("2001:db8::/32", STACK)),
    (1, 128, bytes(8) + HOP, e.labeled("203.0.113.0/24", STACK, RD)),
    (2, 128, bytes(8) + HOP6, e.labeled("2001:db8:1::/48", STACK, RD)),
    (1, 133, b"", e.flowspec(FLOW)),
    (1, 134, b"", e.flowspec(RD + FLOW)),
    (25, 70, HOP, e.evpn(3, RD + bytes(4) + b"\x20" + HOP)),
    (25, 70, HOP, e.evpn(2, RD + bytes(14) + b"\x30" + bytes(6) + b"\x20" + HOP + bytes(3))),
    (25, 70, HOP, e.evpn(5, RD + bytes(14) + b"\x18" + HOP + HOP + bytes(3))),
    (16388, 71, HOP, e.link_state(1, NODE)),
    (1, 132, HOP, e.route_target(bytes.fromhex("0000fde8 0002fde800000001"))),
)
ATTRIBUTES = (
    e.as_path(65551, 65001),
    e.aggregator(65001, "192.0.2.9"),
    e.communities((65001, 1), (65535, 65281)),
    e.extended_communities(bytes.fromhex("0002fde800000001"), bytes.fromhex("030c000000000008")),
    e.large_communities((65551, 1, 2)),
    e.originator_id("192.0.2.9") + e.cluster_list("192.0.2.8", "192.0.2.7"),
    e.aigp(100) + e.med(1) + e.local_pref(100) + e.atomic_aggregate() + e.only_to_customer(65001),
    e.attribute(40, bytes.fromhex("01 0007 00 0000 00000005")),
    e.attribute(22, bytes.fromhex("00 06 000640 c0000201")),
    e.attribute(29, bytes.fromhex("0402 0003 616263 0447 0003 00000a"), e.OPTIONAL),
    e.attribute(200, b"unknown"),
)


def _updates() -> list[bytes]:
    usual = e.usual(65551, 65001, hop=None)
    reached = [
        e.update(attributes=e.mp_reach(afi, safi, hop, nlri) + usual)
        for afi, safi, hop, nlri in FAMILY_NLRI
    ]
    plain = e.update(attributes=e.usual(65551, 65001) + b"".join(ATTRIBUTES[1:]),
                     nlri=e.prefix("198.51.100.0/24") + e.prefix("0.0.0.0/0"))  # fmt: skip
    return [plain, *reached, e.update(e.prefix("198.51.100.0/24")), e.end_of_rib(2, 1)]


def _bgp() -> Iterator[bytes]:
    updates = _updates()
    refresh = [e.message(5, bytes((0, 1, mark, 1))) for mark in (0, 1, 2)]
    yield bytes((0,)) + b"".join(updates)
    yield bytes((9,)) + b"".join([*updates, *refresh, updates[0], e.message(4, b"")])
    paths = e.prefix("192.0.2.0/24", 1) + e.prefix("192.0.2.0/24", 2)
    yield bytes((12,)) + e.update(attributes=e.usual(65551), nlri=paths) + b"".join(refresh)
    yield bytes((2,)) + e.update(attributes=e.usual(65001, four=False), nlri=e.prefix("10.0.0.0/8"))
    yield bytes((0,)) + e.message(3, bytes.fromhex("0602 03 627965"))


def _bmp() -> Iterator[bytes]:
    peers = b.Peer(), b.Peer(flags=0x40), b.Peer("2001:db8::9", distinguisher=1, peer_type=1)
    begin = b.initiation(b.tlv(2, b"router"), b.tlv(1, b"a router"))
    for how, peer in enumerate(peers):
        told = [b.route_monitoring(peer, update) for update in _updates()]
        counted = b.statistics(peer, (7, bytes(8)), (9, bytes(11)))
        down = b.peer_down(peer, 1, e.message(3, b"\x06\x02"))
        yield bytes((how,)) + b"".join([begin, b.peer_up(peer), *told, counted, down])
    loc = b.Peer(peer_type=3)
    update = _updates()[0]
    held, mark = b.tlv(1, update, index=0), b.tlv(5, b"\0\0\0\2\0\1", index=1)
    yield b"\0" + begin + b.route_monitoring_v4(loc, held, mark) + b.termination()
    yield b"\0" + begin + b.route_mirroring(peers[0], b.tlv(0, update), b.tlv(1, b"\0\1"))


def _mrt() -> Iterator[bytes]:
    peer = m.MrtPeer(0, 0xFFFFC0000209, 65551, 9)
    entry = m.Entry(0, m.attribute(1, b"\0") + m.path(65551) + m.next_hop("192.0.2.9"))
    table = m.table(2, m.prefix("192.0.2.0/24"), entry, entry)
    yield m.peer_index([peer]) + table + m.table(8, m.prefix("192.0.2.0/24"))
    sessions = [
        m.record(16, 4, m.session(65551, 65000, "192.0.2.9", "192.0.2.1") + update)
        for update in _updates()
    ]
    yield b"".join(sessions) + m.record(
        16, 5, m.session(65551, 65000, "192.0.2.9", "192.0.2.1") + b"\0\6\0\1"
    )
    yield bytes.fromhex(
        "6553f100 0005 0001 00000010 fde8 c0000201 fde9 c00002fe 00000000"
        "6553f100 000c 0001 00000028 00000000 c0000200 18 01 6553f100 c0000201 fde8 0012"
        "40010100 4002040201fde8 400304c0000201"
    )


def _rtr() -> Iterator[bytes]:
    first, second = rtr.prefix("192.0.2.0/24", 64496, 26), rtr.prefix("2001:db8::/32", 64497)
    answer = rtr.response(7) + first + second + rtr.end(7, 100)
    yield b"\1" + answer + rtr.notify(7, 101)
    yield b"\1" + rtr.error(2) + answer
    yield b"\0" + rtr.error(4, bytes(8), b"text", version=0)


def _nlri() -> Iterator[bytes]:
    numbers = {(f.afi, f.safi): f.index for f in FAMILIES}
    hops = {4: 0, 16: 1, 32: 2, 12: 3, 24: 4, 48: 5, 0: 6}
    usual = e.usual(65551, hop=None)
    for n, (afi, safi, hop, nlri) in enumerate(FAMILY_NLRI):
        more = ATTRIBUTES[n % len(ATTRIBUTES)] if n else b""
        attributes = usual + more
        attributes += bytes(len(attributes) % 2)
        head = bytes((numbers[afi, safi], 1 | hops[len(hop)] << 2, len(attributes) // 2))
        yield head + attributes + nlri
    for attribute in ATTRIBUTES:
        yield bytes((0, 1, len(attribute) // 2)) + attribute


def _proxy() -> Iterator[bytes]:
    begin = b"\r\n\r\n\0\r\nQUIT\n"
    yield b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 11019\r\nrest"
    yield b"PROXY UNKNOWN\r\n"
    yield begin + b"\x21\x11\0\x0c" + HOP + HOP + b"\xc3\x50\x2b\x0brest"
    yield begin + b"\x21\x21\0\x24" + HOP6 + HOP6 + b"\xc3\x50\x2b\x0b"
    yield begin + b"\x20\0\0\0"


def route_seeds() -> dict[str, list[bytes]]:
    """First inputs by target."""
    return {
        "bgp": list(_bgp()),
        "bmp": list(_bmp()),
        "mrt": list(_mrt()),
        "rtr": list(_rtr()),
        "nlri": list(_nlri()),
        "proxy": list(_proxy()),
    }
