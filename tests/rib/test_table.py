"""Route tables against dictionaries."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_network
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowray.rib import table as table_module
from flowray.rib.table import NONE, Applied, RouteTable, Rows, Scope
from flowray.wire.bgp.events import Action, RouteEvents
from flowray.wire.bgp.families import FAMILIES, Family, Shape
from flowray.wire.packets import address_text, address_words

BY_NAME = {family.name: family for family in FAMILIES}
PREFIXES = [family for family in FAMILIES if family.of_prefixes]
NLRI = [b"\x02\x05aaaaa", b"\x02\x05aaaab", b"\x03\x00", b"\x05\x01x", b"", b"z" * 300]

Event = tuple[int, int, int, int, int, int]
"""Action, number of a prefix or NLRI, path identifier, distinguisher, attributes, labels."""


def prefix(family: Family, number: int) -> tuple[int, int, int]:
    """One of some prefixes that are near each other: words and length."""
    bits = 8 * family.address_octets
    plen = (0, bits, bits - 8, bits // 2, bits // 2 + 1, 8)[number % 6]
    rng = np.random.default_rng(number // 6)
    base = int.from_bytes(rng.bytes(bits // 8)) if number // 6 else (1 << bits) - 1
    value = base >> (bits - plen) << (bits - plen)
    if bits == 32:
        value |= 0xFFFF << 32
    return value >> 64, value & (2**64 - 1), plen


def columns(family: Family, events: list[Event]) -> tuple[RouteEvents, Any]:
    m = len(events)
    action, number, path, rd, attributes, labels = np.array(events, np.int64).reshape(m, 6).T
    buf = np.frombuffer(b"".join(NLRI), np.uint8)
    ends = np.cumsum([len(n) for n in NLRI])
    size = np.array([len(n) for n in NLRI], np.int64)
    words = [prefix(family, int(n)) if family.of_prefixes else (0, 0, 0) for n in number]
    hi, lo, plen = np.array(words, object).reshape(m, 3).T
    which = number % len(NLRI)
    return (
        RouteEvents(
            message=np.zeros(m, np.int64),
            action=action.astype(np.uint8),
            family=np.full(m, family.index, np.uint8),
            rd=rd.astype(np.uint64) << np.uint64(40) if family.shape == Shape.VPN else zero64(m),
            path_id=path.astype(np.uint32),
            hi=hi.astype(np.uint64),
            lo=lo.astype(np.uint64),
            plen=plen.astype(np.uint8),
            labels=labels.astype(np.uint64),
            nlri_offset=(ends - size)[which],
            nlri_length=size[which],
            attributes=attributes.astype(np.uint32),
        ),
        buf,
    )


def zero64(n: int) -> Any:
    return np.zeros(n, np.uint64)


class Model:
    """A dictionary from (rd, path, hi, lo, plen, NLRI) to (attributes, labels, mark)."""

    def __init__(self, family: Family, *, add_path: bool) -> None:
        self.family, self.add_path = family, add_path
        self.labelled = family.shape in (Shape.LABELED, Shape.VPN)
        self.routes: dict[tuple[Any, ...], tuple[int, int, int]] = {}
        self.changed: set[tuple[Any, ...]] = set()

    def apply(self, events: RouteEvents, buf: Any, mark: int) -> list[tuple[int, int]]:
        before = []
        for i in range(len(events)):
            start = int(events.nlri_offset[i])
            raw = buf[start : start + int(events.nlri_length[i])].tobytes()
            path = int(events.path_id[i]) if self.add_path else 0
            key = (
                *(int(events.rd[i]), path, int(events.hi[i]), int(events.lo[i])),
                *(int(events.plen[i]), b"" if self.family.of_prefixes else raw),
            )
            if events.action[i] == Action.END_OF_RIB:
                before.append((NONE, 0))
                continue
            old = self.routes.pop(key, None)
            before.append(old[:2] if old else (NONE, 0))
            new = None
            if events.action[i] == Action.ANNOUNCE:
                labels = int(events.labels[i]) if self.labelled else 0
                self.routes[key] = new = (int(events.attributes[i]), labels, mark)
            if (old and old[:2]) != (new and new[:2]):
                self.changed.add(key)
        return before


def as_dict(rows: Rows, table: RouteTable) -> dict[tuple[Any, ...], tuple[int, int]]:
    named = not table.family.of_prefixes
    raw = table.nlri(rows.nlri) if named else [b""] * len(rows)
    found = {}
    for i in range(len(rows)):
        key = (rows.rd, rows.path_id, rows.hi, rows.lo, rows.plen)
        found[(*(int(c[i]) for c in key), raw[i])] = (int(rows.attributes[i]), int(rows.labels[i]))
    assert len(found) == len(rows)
    return found


def without_marks(routes: dict[tuple[Any, ...], tuple[int, int, int]]) -> Any:
    return {key: value[:2] for key, value in routes.items()}


def invariant(table: RouteTable) -> None:
    """Rows in ascending order, none before its home, no free slot between home and row."""
    size = int(table._state[table_module.kernels.S_SIZE])
    used = table._attributes != NONE
    first = table._words[:, 0]
    assert used.sum() == len(table)
    assert not used[-1]
    assert np.all(first[~used] == np.uint64(2**64 - 1))
    slots = np.flatnonzero(used)
    assert np.all(first[slots][1:] >= first[slots][:-1])
    homes = ((first[slots] >> np.uint64(32)) * np.uint64(size) >> np.uint64(32)).astype(int)
    for home, slot in zip(homes, slots, strict=True):
        assert used[home : slot + 1].all()


def events_of(most: int = 300) -> st.SearchStrategy[list[Event]]:
    event = st.tuples(
        st.sampled_from([0, 0, 0, 1, 1, 2]),
        st.integers(0, 120),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 3),
        st.integers(0, 2),
    )
    return st.lists(event, max_size=most)


def applied(result: Applied) -> list[tuple[int, int]]:
    return list(zip(result.attributes.tolist(), result.labels.tolist(), strict=True))


@given(st.sampled_from(FAMILIES), st.booleans(), st.lists(events_of(), min_size=1, max_size=4))
@settings(max_examples=80)
def test_table_is_a_dictionary(family: Family, add_path: bool, batches: list[list[Event]]) -> None:
    table, model = RouteTable(family, add_path=add_path), Model(family, add_path=add_path)
    for mark, batch in enumerate(batches):
        events, buf = columns(family, batch)
        index = np.arange(len(batch))
        was = table.generation
        model.changed.clear()
        before = table.apply(events, index, buf, mark)
        assert applied(before) == model.apply(events, buf, mark)
        assert (table.generation != was) == bool(model.changed)
        invariant(table)
        assert len(table) == len(model.routes)
        assert as_dict(table.rows(), table) == without_marks(model.routes)
        changes = table.changes()
        assert changes is not None
        gone = dict.fromkeys(model.changed, (NONE, 0))
        now = {**gone, **{k: v[:2] for k, v in model.routes.items() if k in model.changed}}
        assert as_dict(changes, table) == now
    mark = len(batches) - 1
    stale = {key: value for key, value in model.routes.items() if value[2] != mark}
    assert as_dict(table.sweep(mark), table) == without_marks(stale)
    kept = {key: value for key, value in model.routes.items() if value[2] == mark}
    invariant(table)
    assert as_dict(table.rows(), table) == without_marks(kept)
    assert as_dict(table.clear(), table) == without_marks(kept)
    assert len(table) == 0
    invariant(table)


@given(st.sampled_from(PREFIXES), events_of(), st.integers(0, 120))
@settings(max_examples=40)
def test_select_and_find(family: Family, batch: list[Event], number: int) -> None:
    table, model = RouteTable(family, add_path=True), Model(family, add_path=True)
    events, buf = columns(family, batch)
    table.apply(events, np.arange(len(batch)), buf, 0)
    model.apply(events, buf, 0)
    asked = prefix(family, number)
    outer = ip_network((address_text(*asked[:2]), asked[2]))
    expect: dict[Scope, set[tuple[Any, ...]]] = {scope: set() for scope in Scope}
    for key in model.routes:
        own: Any = ip_network((address_text(*key[2:4]), key[4]))
        if own == outer:
            expect[Scope.EXACT].add(key)
        if own.subnet_of(outer):
            expect[Scope.LONGER].add(key)
        if outer.subnet_of(own):
            expect[Scope.COVERING].add(key)
        assert table.find(*key[:5]) == model.routes[key][0]
    for scope in Scope:
        found = as_dict(table.select(scope, *asked), table)
        assert found == {key: model.routes[key][:2] for key in expect[scope]}
    assert table.find(0, 77, *asked) == NONE


def test_a_prefix_of_the_other_version_selects_nothing() -> None:
    for family, asked in (("ipv4 unicast", ("::", 0)), ("ipv6 unicast", ("0.0.0.0", 0))):
        table = RouteTable(BY_NAME[family], add_path=False)
        events, buf = columns(table.family, [(0, n, 0, 0, 1, 0) for n in range(30)])
        table.apply(events, np.arange(30), buf, 0)
        for scope in Scope:
            assert not len(table.select(scope, *address_words(asked[0]), asked[1]))


def test_only_the_given_rows_count() -> None:
    table = RouteTable(BY_NAME["ipv4 unicast"], add_path=False)
    events, buf = columns(table.family, [(0, n, 0, 0, n, 0) for n in range(10)])
    before = table.apply(events, np.array([4, 2, 4]), buf, 0)
    assert before.attributes.tolist() == [NONE, NONE, 4]
    assert sorted(table.rows().attributes.tolist()) == [2, 4]


@pytest.mark.parametrize("family", ["ipv4 unicast", "vpnv6"])
def test_grows_and_shrinks(family: str) -> None:
    table = RouteTable(BY_NAME[family], add_path=False)
    n = 5000
    events = many(table.family, n)
    table.apply(events, np.arange(n), np.empty(0, np.uint8), 0)
    invariant(table)
    assert len(table) == n
    big = table.nbytes
    events.action[:] = Action.WITHDRAW
    index = np.random.default_rng(1).permutation(n)
    before = table.apply(events, index[:-7], np.empty(0, np.uint8), 0)
    assert np.array_equal(before.attributes, events.attributes[index[:-7]])
    invariant(table)
    assert np.array_equal(np.sort(table.rows().attributes), np.sort(events.attributes[index[-7:]]))
    assert table.nbytes - 8 * table._width * 2 * n < big / 50


def many(family: Family, n: int) -> RouteEvents:
    number = np.arange(n, dtype=np.uint64)
    v4 = family.address_octets == 4
    zero = np.zeros(n, np.uint64)
    return RouteEvents(
        message=np.zeros(n, np.int64),
        action=np.zeros(n, np.uint8),
        family=np.full(n, family.index, np.uint8),
        rd=zero,
        path_id=np.zeros(n, np.uint32),
        hi=zero if v4 else number << np.uint64(16),
        lo=number << np.uint64(8) | np.uint64(0xFFFF << 32) if v4 else zero,
        plen=np.full(n, 24 if v4 else 48, np.uint8),
        labels=zero,
        nlri_offset=np.zeros(n, np.int64),
        nlri_length=np.zeros(n, np.int64),
        attributes=np.arange(n, dtype=np.uint32),
    )


def test_too_many_changes_are_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "MOST_CHANGES", 10)
    table = RouteTable(BY_NAME["ipv4 unicast"], add_path=False)
    events, none = many(table.family, 100), np.empty(0, np.uint8)
    table.apply(events, np.arange(10), none, 0)
    changes = table.changes()
    assert changes is not None
    assert len(changes) == 10
    table.apply(events, np.arange(10, 21), none, 0)
    assert table.changes() is None
    table.clear()
    assert table.changes() is None
    changes = table.changes()
    assert changes is not None
    assert not len(changes)


def test_attribute_ids_are_marked_and_renumbered() -> None:
    table = RouteTable(BY_NAME["ipv4 unicast"], add_path=False)
    table.apply(many(table.family, 9), np.array([3, 8]), np.empty(0, np.uint8), 0)
    live = np.zeros(10, np.bool_)
    table.live(live)
    assert np.flatnonzero(live).tolist() == [3, 8]
    table.remap(np.arange(10, dtype=np.uint32) + np.uint32(50))
    assert sorted(table.rows().attributes.tolist()) == [53, 58]


def test_opaque_nlri_of_gone_routes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "IDLE_NLRI", 10)
    table = RouteTable(BY_NAME["evpn"], add_path=True)
    expect = {}
    for round_ in range(40):
        events, _ = columns(table.family, [(0, n % 2, n % 2, 0, n, 0) for n in range(4)])
        raw = b"".join(b"%8d" % (round_ + n // 2) for n in range(4))
        events.nlri_offset[:], events.nlri_length[:] = np.arange(4) * 8, 8
        buf = np.frombuffer(raw, np.uint8)
        table.apply(events, np.arange(4), buf, round_)
        if round_ % 10 != 5:
            events.action[:] = Action.WITHDRAW
            table.apply(events, np.arange(4), buf, round_)
        invariant(table)
        rows = table.rows()
        expect = dict(zip(table.nlri(rows.nlri), rows.attributes.tolist(), strict=True))
    assert len(table._nlri) < 40
    # The second NLRI of a round is the first of the next, which withdraws it.
    assert set(expect) == {b"%8d" % n for n in (5, 15, 25, 35)}
    assert len(table) == 8


def test_rows_are_ordered() -> None:
    family = BY_NAME["vpnv4"]
    table = RouteTable(family, add_path=True)
    batch = [(0, n, p, r, 0, 0) for n in range(20) for p in range(2) for r in range(2)]
    events, buf = columns(family, batch)
    table.apply(events, np.arange(len(batch)), buf, 0)
    rows = table.rows().ordered()
    keys = list(
        zip(*(c.tolist() for c in (rows.lo, rows.plen, rows.rd, rows.path_id)), strict=True)
    )
    assert keys == sorted(keys)
    assert len(rows.take(slice(0, 3))) == 3
    assert {column.name for column in fields(Rows)} == set(table_module._TYPES)
    assert len(RouteTable(family, add_path=False).rows().ordered()) == 0
