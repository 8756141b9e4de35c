"""Generated routing tables, and their UPDATEs read back octet by octet."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import numpy as np

from flowray.generate.population import Population
from flowray.generate.route_kernels import LARGEST, NO_MED
from flowray.generate.routes import (
    NEXT_HOP_V4,
    NEXT_HOP_V6,
    Messages,
    RoutingTable,
    routing_table,
    updates,
    withdrawals,
)

TABLE = routing_table(5, 3000, 1200, Population(5).prefixes)


def nlri(raw: bytes, bits: int) -> list[tuple[int, int]]:
    found = []
    while raw:
        size = (raw[0] + 7) // 8
        value = int.from_bytes(raw[1 : 1 + size]) << (bits - 8 * size)
        assert len(raw) > size
        assert value & ((1 << (bits - raw[0])) - 1) == 0
        found.append((value, raw[0]))
        raw = raw[1 + size :]
    return found


def attributes(raw: bytes) -> dict[int, tuple[int, bytes]]:
    found = {}
    while raw:
        flags, code = raw[0], raw[1]
        begin = 4 if flags & 0x10 else 3
        size = int.from_bytes(raw[2:begin])
        assert len(raw) >= begin + size
        found[code] = flags, raw[begin : begin + size]
        raw = raw[begin + size :]
    return found


def read(messages: Messages) -> Any:
    """(withdrawn, announced, attributes) of each message, prefixes as (bits, value, length)."""
    for offset, length in zip(messages.offset, messages.length, strict=True):
        raw = messages.buf[offset : offset + length].tobytes()
        assert raw[:16] == b"\xff" * 16
        assert int.from_bytes(raw[16:18]) == len(raw) <= LARGEST
        assert raw[18] == 2
        end = 21 + int.from_bytes(raw[19:21])
        listed = end + 2 + int.from_bytes(raw[end : end + 2])
        found = attributes(raw[end + 2 : listed])
        withdrawn = [(32, *one) for one in nlri(raw[21:end], 32)]
        announced = [(32, *one) for one in nlri(raw[listed:], 32)]
        if 14 in found:
            value = found[14][1]
            assert value[:4] == b"\x00\x02\x01\x10"
            hop = NEXT_HOP_V6[0] << 64 | NEXT_HOP_V6[1]
            assert int.from_bytes(value[4:20]) == hop
            announced += [(128, *one) for one in nlri(value[21:], 128)]
        elif announced:
            assert int.from_bytes(found[3][1]) == NEXT_HOP_V4
        if 15 in found:
            assert found[15][1][:3] == b"\x00\x02\x01"
            withdrawn += [(128, *one) for one in nlri(found[15][1][3:], 128)]
        yield withdrawn, announced, found


def route(table: RoutingTable, i: int) -> tuple[int, int, int]:
    if table.hi[i] == 0:
        return 32, int(table.lo[i]) & 0xFFFFFFFF, int(table.plen[i])
    return 128, int(table.hi[i]) << 64 | int(table.lo[i]), int(table.plen[i])


def words(column: Any) -> bytes:
    return b"".join(int(value).to_bytes(4) for value in column)


def test_updates_announce_the_table() -> None:
    messages = updates(TABLE)
    i = 0
    for withdrawn, announced, found in read(messages):
        assert not withdrawn
        assert announced
        g = TABLE.group[i]
        path = TABLE.path[TABLE.path_offset[g] : TABLE.path_offset[g + 1]]
        communities = TABLE.communities[slice(*TABLE.communities_offset[g : g + 2])]
        assert found[1] == (0x40, bytes([TABLE.origin[g]]))
        assert found[2] == (0x40, bytes([2, len(path)]) + words(path))
        assert (4 in found) == (TABLE.med[g] != NO_MED)
        assert found.get(4, (0x80, words(TABLE.med[g : g + 1]))) == (
            0x80,
            words(TABLE.med[g : g + 1]),
        )
        assert found.get(8, (0xC0, b"")) == (0xC0, words(communities))
        for one in announced:
            assert one == route(TABLE, i)
            assert TABLE.group[i] == g
            i += 1
    assert i == len(TABLE)


def test_withdrawals_are_of_the_rows_asked_for() -> None:
    rows = np.random.default_rng(1).permutation(len(TABLE))[:2500]
    found = [one for withdrawn, _, _ in read(withdrawals(TABLE, rows)) for one in withdrawn]
    assert found == [route(TABLE, int(i)) for i in rows]
    many = withdrawals(TABLE)
    assert len(many) < 20
    assert sum(len(withdrawn) for withdrawn, _, _ in read(many)) == len(TABLE)


def test_a_group_that_does_not_fit_takes_several_messages() -> None:
    table = routing_table(1, 6 * 400, 0)
    table.group[:] = 0
    found = list(read(updates(table)))
    assert 1 < len(found) < 8
    assert sum(len(announced) for _, announced, _ in found) == len(table)


def test_routes_are_distinct_and_plausible() -> None:
    routes = {route(TABLE, i) for i in range(len(TABLE))}
    populated = Population(5).prefixes
    assert len(routes) == len(TABLE) == 3000 + 1200 + len(populated.asn)
    assert sum(bits == 32 for bits, _, _ in routes) == 3000 + int(np.sum(~populated.v6))
    for _, value, plen in routes:
        assert not ip_network((value, plen)).is_multicast
    assert 1 + TABLE.group[-1] == len(TABLE.origin) == len(TABLE.med)
    assert np.all(np.diff(TABLE.group) >= 0)
    assert np.all(np.diff(TABLE.path_offset) >= 2)
    assert np.array_equal(TABLE.origin_as[-len(populated.asn) :], populated.asn)
    v4 = TABLE.plen[:3000]
    assert 0.5 < np.mean(v4 == 24) < 0.7


def test_the_same_seed_gives_the_same_table() -> None:
    again = updates(routing_table(5, 3000, 1200, Population(5).prefixes))
    assert np.array_equal(again.buf, updates(TABLE).buf)
    assert not np.array_equal(again.buf[:5000], updates(routing_table(6, 3000, 1200)).buf[:5000])
    assert len(updates(routing_table(1, 0, 0))) == 0
