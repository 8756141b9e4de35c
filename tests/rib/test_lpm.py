"""Longest-prefix match against a search through all prefixes."""

from __future__ import annotations

import itertools
import pickle
from ipaddress import IPv4Address, IPv6Address, ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib import lpm
from flowray.rib.lpm import MISSING, Forest, Intervals, Prefixes, build, look_up

Prefix = tuple[int, int]
"""Address as a number of 32 or 128 bits, and length."""

MAPPED = 0xFFFF << 32
WORD = 2**64 - 1


def prefixes_of(version: int) -> st.SearchStrategy[list[Prefix]]:
    """Prefixes, many of which contain one another or are equal."""
    bits = 32 if version == 4 else 128

    def cut(base: int, plen: int) -> Prefix:
        return base >> (bits - plen) << (bits - plen), plen

    bases = [0, (1 << bits) - 1, 0xA5 << (bits - 8), 0xA51 << (bits - 12), (0xA5 << (bits - 8)) + 3]
    near = st.builds(cut, st.sampled_from(bases), st.integers(0, bits))
    far = st.builds(cut, st.integers(0, (1 << bits) - 1), st.integers(0, bits))
    return st.lists(near | far, max_size=60)


def words(version: int, values: list[int]) -> tuple[lpm.U64, lpm.U64]:
    if version == 4:
        values = [value | MAPPED for value in values]
    hi = np.array([value >> 64 for value in values], np.uint64)
    return hi, np.array([value & WORD for value in values], np.uint64)


def prefixes(version: int, listed: list[Prefix], payload: list[int]) -> Prefixes:
    hi, lo = words(version, [address for address, _ in listed])
    plen = np.array([plen for _, plen in listed], np.uint8)
    return Prefixes.of(version, hi, lo, plen, np.array(payload, np.uint32))


def as_dict(version: int, table: Prefixes) -> dict[Prefix, int]:
    high = [int(h) << 64 for h in table.hi] if version == 6 else [0] * len(table)
    keys = [(h | int(w), int(p)) for h, w, p in zip(high, table.lo, table.plen, strict=True)]
    assert keys == sorted(set(keys))
    return dict(zip(keys, table.payload.tolist(), strict=True))


def first_wins(listed: list[Prefix], payload: list[int]) -> dict[Prefix, int]:
    return dict(zip(reversed(listed), reversed(payload), strict=True))


def match(version: int, table: dict[Prefix, int], address: int) -> tuple[int, int]:
    bits = 32 if version == 4 else 128
    for plen in range(bits, -1, -1):
        found = table.get((address >> (bits - plen) << (bits - plen), plen))
        if found is not None:
            return found, plen
    return MISSING, 0


def edges(version: int, listed: list[Prefix]) -> list[int]:
    """First and last address of each prefix, and those beside it."""
    bits = 32 if version == 4 else 128
    found = {0, (1 << bits) - 1}
    for address, plen in listed:
        last = address + (1 << (bits - plen)) - 1
        found |= {address, last, max(address - 1, 0), min(last + 1, (1 << bits) - 1)}
    if version == 6:
        found = {address for address in found if address >> 32 != 0xFFFF}
    return sorted(found)


@given(st.data(), st.sampled_from([4, 6]))
def test_a_table_is_a_longest_match(data: st.DataObject, version: int) -> None:
    listed = data.draw(prefixes_of(version))
    payload = data.draw(st.lists(st.integers(0, 3), min_size=len(listed), max_size=len(listed)))
    model = first_wins(listed, payload)
    ordered = prefixes(version, listed, payload)
    assert as_dict(version, ordered) == model
    intervals = ordered.intervals()
    asked = edges(version, listed)
    pair = (intervals, None) if version == 4 else (None, intervals)
    hi, lo = words(version, asked)
    found, plen = look_up(Forest([pair]), np.zeros(len(asked), np.int64), hi, lo)
    expect = [match(version, model, address) for address in asked]
    assert list(zip(found.tolist(), plen.tolist(), strict=True)) == expect


def intervals_of(table: Intervals) -> list[tuple[int, int, int]]:
    """Start, payload and length of each."""
    found = []
    for line in table.lines.reshape(-1, 16 if table.version == 4 else 8):
        raw = line.tobytes()
        if table.version == 4:
            found += zip(line[:7], line[7:14], raw[56:63], strict=True)
        else:
            start = [int(h) << 64 | int(w) for h, w in zip(line[:3], line[3:6], strict=True)]
            found += zip(start, line[6:].view(np.uint32)[:3], raw[60:63], strict=True)
    return [(int(a), int(b), int(c)) for a, b, c in found[: len(table)]]


@given(st.data(), st.sampled_from([4, 6]))
def test_intervals_are_disjoint_and_none_is_superfluous(data: st.DataObject, version: int) -> None:
    listed = data.draw(prefixes_of(version))
    table = prefixes(version, listed, [n % 3 for n in range(len(listed))]).intervals()
    found = intervals_of(table)
    start = [address for address, _, _ in found]
    assert start[0] == 0
    assert start == sorted(set(start))
    assert all(one[1:] != other[1:] for one, other in itertools.pairwise(found))
    assert len(table) <= 2 * len(set(listed)) + 1


@given(st.data(), st.sampled_from([4, 6]))
def test_changes_are_merged(data: st.DataObject, version: int) -> None:
    listed, changed = data.draw(prefixes_of(version)), data.draw(prefixes_of(version))
    changed += listed[::3]
    value = st.sampled_from([0, 1, 2, MISSING])
    payload = data.draw(st.lists(value, min_size=len(changed), max_size=len(changed)))
    before = prefixes(version, listed, list(range(len(listed))))
    after = before.merge(prefixes(version, changed, payload))
    model = {**as_dict(version, before), **first_wins(changed, payload)}
    assert as_dict(version, after) == {k: v for k, v in model.items() if v != MISSING}


def small(version: int, listed: list[str]) -> Intervals:
    nets = [ip_network(text) for text in listed]
    table = [(int(net.network_address), net.prefixlen) for net in nets]
    return prefixes(version, table, list(range(len(table)))).intervals()


def test_tables_of_a_forest_are_apart_and_versions_do_not_mix() -> None:
    four = [small(4, ["10.0.0.0/8", "10.1.0.0/16"]), small(4, ["0.0.0.0/0"])]
    six = [small(6, ["2001:db8::/32", "::/0"]), small(6, ["2001:db8:1::/48"])]
    forest = Forest([(four[0], None), (four[1], six[0]), (None, six[1])])
    assert len(forest) == 3
    addresses = ["10.1.2.3", "2001:db8:1::5", "::1"]
    table = np.repeat(np.array([-1, 0, 1, 2, 3, -7, 2**40]), 3)
    hi, lo = (np.tile(column, 7) for column in _words(addresses))
    payload, plen = look_up(forest, table, hi, lo)
    none = (MISSING, 0)
    assert list(zip(payload.tolist(), plen.tolist(), strict=True)) == [
        *(none, none, none),
        *((1, 16), none, none),
        *((0, 0), (0, 32), (1, 0)),
        *(none, (0, 48), none),
        *(none, none, none) * 3,
    ]


def _words(addresses: list[str]) -> tuple[lpm.U64, lpm.U64]:
    values = [
        int(IPv6Address(text)) if ":" in text else int(IPv4Address(text)) | MAPPED
        for text in addresses
    ]
    return words(6, values)


def test_a_forest_is_the_same_in_another_process() -> None:
    forest = Forest([(small(4, ["10.0.0.0/8"]), small(6, ["2001:db8::/32"]))])
    buffers: list[pickle.PickleBuffer] = []
    octets = pickle.dumps(forest, 5, buffer_callback=buffers.append)
    again: Forest = pickle.loads(octets, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert again.nbytes == forest.nbytes > 0
    hi, lo = _words(["10.9.9.9", "2001:db8::1", "11.0.0.0"])
    for one in (hi, lo):
        one.flags.writeable = False
    payload, plen = look_up(again, np.zeros(3, np.int64), hi, lo)
    assert payload.tolist() == [0, 0, MISSING]
    assert plen.tolist() == [8, 32, 0]


def test_an_empty_forest_misses() -> None:
    hi, lo = _words(["10.9.9.9", "2001:db8::1"])
    payload, _ = look_up(Forest([]), np.array([0, -1]), hi, lo)
    assert payload.tolist() == [MISSING, MISSING]


@pytest.mark.parametrize("version", [4, 6])
def test_a_large_table(version: int) -> None:
    """Larger than a block and an index bucket, with clusters and outliers."""
    rng = np.random.default_rng(version)
    n, bits = 4000, 32 if version == 4 else 64
    plen = rng.integers(bits // 4, bits + 1, n).astype(np.uint8)
    base = rng.integers(0, 1 << 20, n, np.uint64) << np.uint64(bits - 24)
    base[: n // 8] = rng.integers(0, (1 << bits) - 1, n // 8, np.uint64)
    base |= rng.integers(0, 1 << 8, n, np.uint64)
    host = np.uint64(bits) - plen
    base = base >> host << host
    payload = rng.integers(0, 50, n).astype(np.uint32)
    hi = np.zeros(n, np.uint64) if version == 4 else base
    lo = base | np.uint64(MAPPED) if version == 4 else np.zeros(n, np.uint64)
    table = build(version, hi, lo, plen, payload)
    full = 128 - 64 if version == 6 else 0
    listed = [(int(b) << full, int(p)) for b, p in zip(base, plen, strict=True)]
    model = first_wins(listed, payload.tolist())
    asked = rng.permutation(np.array(edges(version, listed), object))
    pair = (table, None) if version == 4 else (None, table)
    where = words(version, list(asked))
    found, length = look_up(Forest([pair]), np.zeros(len(asked), np.int64), *where)
    expect = [match(version, model, int(address)) for address in asked]
    assert list(zip(found.tolist(), length.tolist(), strict=True)) == expect


def test_order_with_too_many_rows_for_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpm, "_ROW_BITS", 3)
    listed = [(n % 7 << 24, 8) for n in range(20)]
    table = prefixes(4, listed, list(range(20)))
    assert as_dict(4, table) == first_wins(listed, list(range(20)))
