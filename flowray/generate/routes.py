"""Full routing tables, as a BGP peer tells them: prefixes, path attributes, UPDATE messages.

Lengths of prefixes and paths, and how many routes share their attributes, are those of the
internet; what is where is drawn. AS numbers are from RFC 6996, prefixes from all of unicast space,
since a million of them fit nowhere else. The same arguments always give the same table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.generate import route_kernels as kernels
from flowray.generate.population import FIRST_AS16, FIRST_AS32, Prefixes
from flowray.generate.rows import V4_MAPPED

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

ROUTES_OF_A_GROUP = 6
PEER_AS = FIRST_AS16
LARGE_CARRIERS, CARRIERS, ORIGINS = 16, 900, 75_000
NEXT_HOP_V4 = 0xC633_6401  # 198.51.100.1
NEXT_HOP_V6 = (0x2001_0DB8_0064_0000, 1)  # 2001:db8:64::1

# Prefix lengths and their weights. None of IPv6 is longer than 56: a length has an octet of the
# upper word in `_prefixes`.
LENGTHS_V4 = {
    24: 600,
    23: 100,
    22: 110,
    21: 52,
    20: 46,
    19: 26,
    18: 14,
    17: 8,
    16: 13,
    15: 2,
    14: 1,
}
LENGTHS_V6 = {48: 470, 47: 20, 46: 30, 45: 15, 44: 90, 42: 20, 40: 80, 38: 10, 36: 50, 34: 10,
              33: 40, 32: 120, 30: 5, 29: 20, 56: 20}  # fmt: skip

SLOT_V4, SLOT_V6 = 18, 32
"""Lengths of the prefixes that groups keep to; shorter prefixes contain routes of other groups."""
SLOTS_OF_A_GROUP = 4
"""Routes of the same attributes lie apart: per route, tables of routers have 0.6 such prefixes."""
BLOCKS_V4 = np.array([n for n in range(1, 224) if n not in {10, 100, 127}], np.uint64)
BLOCKS_V6 = np.array([0x2400, 0x2600, 0x2800, 0x2A00, 0x2C00], np.uint64)
"""Upper bits of addresses, which a `Population` has none in."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Routes, columns (n,), in groups of the same path attributes, and those of each group (g,).

    `hi`, `lo` are words (IPv4 v4-mapped), `group` (n,) never decreases. `origin` is the ORIGIN
    code, `med` NO_MED without. The AS path of a group is ``path[path_offset[g] : path_offset[g +
    1]]``, the nearest AS first; communities likewise, ascending.
    """

    hi: U64
    lo: U64
    plen: U8
    group: I64
    origin: U8
    med: U32
    path: U32
    path_offset: I64
    communities: U32
    communities_offset: I64

    def __len__(self) -> int:
        return len(self.plen)

    @property
    def origin_as(self) -> U32:
        """(n,) last AS of the path of each route."""
        return self.path[self.path_offset[self.group + 1] - 1]


@dataclass(frozen=True, slots=True)
class Messages:
    """BGP messages; message *i* is ``buf[offset[i] : offset[i] + length[i]]``."""

    buf: U8
    offset: I64
    length: I64

    def __len__(self) -> int:
        return len(self.offset)


def routing_table(
    seed: int, ipv4: int, ipv6: int, populated: Prefixes | None = None
) -> RoutingTable:
    """A table of so many routes, beside those to the prefixes of a `Population`, each of which its
    own AS originates.
    """
    rng = np.random.default_rng([seed, 0xB6])
    parts = [
        _prefixes(rng, ipv4, LENGTHS_V4, version=4),
        _prefixes(rng, ipv6, LENGTHS_V6, version=6),
    ]
    if populated is not None:
        own = np.arange(len(populated.asn))
        parts.append((populated.hi, populated.lo, populated.length.astype(np.uint8), own))
    first = np.cumsum([0, *(_groups(part[3]) for part in parts)])
    group = np.concatenate([part[3] + base for part, base in zip(parts, first, strict=False)])
    hi, lo, plen = (np.concatenate([part[k] for part in parts]) for k in range(3))
    last = FIRST_AS32 + rng.integers(0, ORIGINS, first[-1])
    if populated is not None:
        last[first[-2] :] = populated.asn
    return RoutingTable(hi, lo, plen, group, **_attributes(rng, last))


def peer_as(peer: int) -> int:
    """The AS of a peer of `seen_by`."""
    return FIRST_AS32 + ORIGINS + peer


def seen_by(table: RoutingTable, peer: int) -> RoutingTable:
    """The same routes as another peer tells them: all their paths begin with its own AS."""
    path = table.path.copy()
    path[table.path_offset[:-1]] = peer_as(peer)
    return replace(table, path=path)


def updates(table: RoutingTable, rows: I64 | None = None) -> Messages:
    """UPDATE messages that announce the given rows, or all; consecutive routes of a group, of one
    version, share a message.
    """
    return _messages(table, rows, withdraw=False)


def withdrawals(table: RoutingTable, rows: I64 | None = None) -> Messages:
    """UPDATE messages that withdraw the given rows, or all."""
    return _messages(table, rows, withdraw=True)


def _messages(table: RoutingTable, rows: I64 | None, *, withdraw: bool) -> Messages:
    rows = np.arange(len(table)) if rows is None else rows
    # What a route takes at most, if it has a message of its own.
    path, communities = np.diff(table.path_offset), np.diff(table.communities_offset)
    most = 19 + 4 + 4 + 5 + 7 + 3 + 7 + 5 + 20 + 17 + 2
    octets = np.sum(most + 4 * (path + communities)[table.group[rows]])
    buf = np.empty(int(octets), np.uint8)
    offset = np.empty(len(rows) + 1, np.int64)
    next_hop = np.array([NEXT_HOP_V4, *NEXT_HOP_V6], np.uint64)
    n = kernels.pack_updates(
        withdraw, rows, table.hi, table.lo, table.plen, table.group, next_hop, table.origin,
        table.path, table.path_offset, table.med, table.communities, table.communities_offset, buf,
        offset,
    )  # fmt: skip
    return Messages(buf[: offset[n]].copy(), offset[:n], np.diff(offset[: n + 1]))


def _groups(group: I64) -> int:
    return int(group[-1]) + 1 if len(group) else 0


def _prefixes(
    rng: np.random.Generator, count: int, lengths: dict[int, int], *, version: int
) -> tuple[U64, U64, U8, I64]:
    """hi, lo, plen and group of distinct prefixes, by group."""
    slots = _slots(rng, -(-count // ROUTES_OF_A_GROUP) * SLOTS_OF_A_GROUP, version)
    bits, slot_length = (32, SLOT_V4) if version == 4 else (64, SLOT_V6)
    weights = np.array(list(lengths.values()), np.float64)
    key, group = np.empty(0, np.uint64), np.empty(0, np.int64)
    while len(key) < count:
        missing = count - len(key)
        drawn = rng.integers(0, len(slots), missing + missing // 4 + 8)
        plen = rng.choice(np.array(list(lengths), np.uint64), len(drawn), p=weights / weights.sum())
        inside = np.maximum(plen, np.uint64(slot_length)) - np.uint64(slot_length)
        place = (rng.random(len(drawn)) ** 3 * 2.0**inside).astype(np.uint64)
        free = np.uint64(bits) - plen
        address = (slots[drawn] + (place << free)) >> free << free
        new = np.concatenate(
            [key, address | plen << np.uint64(56) if version == 4 else address | plen]
        )
        _, at = np.unique(new, return_index=True)
        at = np.sort(at)[:count]
        key, group = new[at], np.concatenate([group, drawn // SLOTS_OF_A_GROUP])[at]
    order = np.argsort(group, kind="stable")
    key, (_, group) = key[order], np.unique(group[order], return_inverse=True)
    return *_split(key, version), group


def _split(key: U64, version: int) -> tuple[U64, U64, U8]:
    """hi, lo and plen of keys."""
    if version == 4:
        address = key & np.uint64(0xFFFFFFFF)
        return (
            np.zeros(len(key), np.uint64),
            address | V4_MAPPED,
            (key >> np.uint64(56)).astype(np.uint8),
        )
    plen = (key & np.uint64(0xFF)).astype(np.uint8)
    return key & ~np.uint64(0xFF), np.zeros(len(key), np.uint64), plen


def _slots(rng: np.random.Generator, count: int, version: int) -> U64:
    """(count,) first addresses of the space of groups; of IPv6 the high word."""
    if version == 4:
        block = BLOCKS_V4[rng.integers(0, len(BLOCKS_V4), count)]
        number = rng.integers(0, 1 << (SLOT_V4 - 8), count, np.uint64)
        return block << np.uint64(24) | number << np.uint64(32 - SLOT_V4)
    block = BLOCKS_V6[rng.integers(0, len(BLOCKS_V6), count)]
    number = rng.integers(0, 1 << 17, count, np.uint64)
    return (block << np.uint64(16) | number << np.uint64(3)) << np.uint64(32)


def _attributes(rng: np.random.Generator, last: npt.NDArray[Any]) -> dict[str, Any]:
    """Columns of groups whose AS paths end in `last` (g,)."""
    count = len(last)
    carriers = 1 + rng.choice(5, count, p=[0.08, 0.32, 0.35, 0.18, 0.07])
    prepended = np.where(rng.random(count) < 0.12, rng.integers(1, 5, count), 0)
    path, path_offset = _ragged(carriers + 1 + prepended)
    group = np.repeat(np.arange(count), np.diff(path_offset))
    step = np.arange(len(path)) - path_offset[group]
    # The carriers of a path depend on its origin, so that groups of an origin look alike.
    mixed = (last[group] * 2_654_435_761 + step * 40_503 + rng.integers(0, 3, count)[group]) >> 5
    path[:] = FIRST_AS16 + 1 + LARGE_CARRIERS + mixed % CARRIERS
    path[step == 1] = FIRST_AS16 + 1 + mixed[step == 1] % LARGE_CARRIERS
    path[step == 0] = PEER_AS
    path[step >= carriers[group]] = last[group[step >= carriers[group]]]
    communities, communities_offset = _ragged(rng.geometric(0.2, count) - 1, most=30)
    group = np.repeat(np.arange(count), np.diff(communities_offset))
    step = np.arange(len(communities)) - communities_offset[group]
    value = rng.integers(0, 2000, count)[group] // 40 * 40 + step
    communities[:] = (PEER_AS + group % LARGE_CARRIERS) << 16 | value
    return {
        "origin": rng.choice(np.array([0, 2], np.uint8), count, p=[0.9, 0.1]),
        "med": np.where(
            rng.random(count) < 0.2, rng.integers(0, 200, count), kernels.NO_MED
        ).astype(np.uint32),
        "path": path,
        "path_offset": path_offset,
        "communities": communities,
        "communities_offset": communities_offset,
    }


def _ragged(sizes: I64, most: int = 255) -> tuple[U32, I64]:
    """A column for lists of these sizes (not filled), and where each begins."""
    offset = np.concatenate([[0], np.cumsum(np.minimum(sizes, most))]).astype(np.int64)
    return np.zeros(int(offset[-1]), np.uint32), offset
