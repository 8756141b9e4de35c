"""Differences of two RIBs against those of two dictionaries."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.looking_glass import asking
from flowray.rib.rib import Rib
from flowray.rib.route_query import QueryError, RouteQuery
from flowray.rib.table_diff import differences
from tests.rib.tables import bgp_peer, bmp_peer, feed
from tests.wire.bgp import encode as e

PEERS = [bgp_peer("192.0.2.1"), bgp_peer("192.0.2.2"), bmp_peer()]
Key = tuple[int, int, str]  # peer, path identifier, prefix or name of an EVPN route
Value = tuple[int, int]  # AS, label

KEYS: list[Key] = [
    (peer, path, name)
    for peer in range(len(PEERS))
    for path in (1, 2)
    for name in ("10.0.0.0/8", "10.0.0.0/9", "2001:db8::/32", "evpn 1", "evpn 2", "vpn 1", "vpn 2")
]
TABLES = st.dictionaries(
    st.sampled_from(KEYS), st.tuples(st.integers(1, 3), st.integers(1, 2)), max_size=30
)


def message(key: Key, value: Value) -> bytes:
    _, path, name = key
    asn, label = value
    kind, _, number = name.partition(" ")
    if kind == "evpn":
        nlri = e.rd_as(64496, int(number)) + bytes(4) + bytes([32]) + e.address("192.0.2.77")
        reach = e.mp_reach(25, 70, e.address("192.0.2.1"), e.evpn(3, nlri, path))
    elif kind == "vpn":
        rd, stack = e.rd_as(64496, int(number)), e.label_stack([label])
        prefix = e.labeled("10.0.0.0/8", stack, rd, path)
        reach = e.mp_reach(1, 128, bytes(8) + e.address("192.0.2.1"), prefix)
    else:
        afi = 2 if ":" in name else 1
        hop = e.address("192.0.2.1" if afi == 1 else "2001:db8::1")
        reach = e.mp_reach(afi, 1, hop, e.prefix(name, path))
    return e.update(attributes=e.usual(asn, hop=None) + reach)


def seen(key: Key, value: Value) -> Value:
    """What a RIB knows of a route: only VPN routes have labels here."""
    return value if key[2].startswith("vpn") else (value[0], 0)


def rib_of(routes: dict[Key, Value], order: list[int]) -> Rib:
    rib = Rib()
    numbers = {i: rib.open(PEERS[i]) for i in order}
    for key, value in routes.items():
        feed(rib, numbers[key[0]], message(key, value), add_path=True)
    return rib


@given(TABLES, TABLES, st.permutations(range(len(PEERS))))
def test_differences(before: dict[Key, Value], after: dict[Key, Value], order: list[int]) -> None:
    changed: list[tuple[Any, ...]] = []
    old, new = rib_of(before, [0, 1, 2]), rib_of(after, order)
    for part in differences(asking(old), asking(new), RouteQuery()):
        for b, a in zip(part.before.tolist(), part.after.tolist(), strict=True):
            changed.append((route(part.routes_before, b), route(part.routes_after, a)))
    expected = [
        (fact(key, before.get(key)), fact(key, after.get(key)))
        for key in {**before, **after}
        if key not in before or key not in after or seen(key, before[key]) != seen(key, after[key])
    ]
    assert sorted(changed, key=repr) == sorted(expected, key=repr)


def fact(key: Key, value: Value | None) -> Any:
    """Peer, path identifier, name, AS number and label as `route` reads them."""
    if value is None:
        return None
    return PEERS[key[0]].address, key[1], key[2], *seen(key, value)


def route(routes: Any, index: int) -> Any:
    if index < 0:
        return None
    rows = routes.rows
    ((_, (asn,)),) = routes.sets.decode(int(rows.attributes[index])).as_path
    name = {
        (0x0A << 24 | 0xFFFF << 32, 8): "10.0.0.0/8",
        (0x0A << 24 | 0xFFFF << 32, 9): "10.0.0.0/9",
    }
    text = name.get((int(rows.lo[index]), int(rows.plen[index])), "2001:db8::/32")
    if routes.nlri:
        text = f"evpn {routes.nlri[index][9]}"
    elif rows.rd[index]:
        text = f"vpn {int(rows.rd[index]) & 0xFF}"
    label = int(rows.labels[index]) & 0xFFFFF
    return routes.peer.address, int(rows.path_id[index]), text, asn, label


def test_of_one_peer() -> None:
    old = rib_of({KEYS[0]: (1, 1)}, [0])
    new = rib_of({(1, 1, "10.0.0.0/8"): (1, 1)}, [1])
    (part,) = differences(asking(old), asking(new), RouteQuery(peer="192.0.2.2"))
    assert (part.before.tolist(), part.after.tolist()) == ([-1], [0])
    with pytest.raises(QueryError, match=r"192\.0\.2\.3, of which there are no routes then"):
        list(differences(asking(old), asking(new), RouteQuery(peer="192.0.2.3")))
