"""Overlays against tables that are made anew, and the longest match of a naive search."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib import overlay as overlay_module
from flowray.rib.lpm import MISSING, Forest, look_up
from flowray.rib.overlay import LEAST_LINES, Layered
from tests.rib.test_lpm import (
    Prefix,
    as_dict,
    edges,
    first_wins,
    match,
    prefixes,
    prefixes_of,
    words,
)

MORE_THAN_ALL = 2.0

Answers = list[tuple[int, int]]


@pytest.fixture(autouse=True)
def small_tables_have_overlays() -> Iterator[None]:
    with patch.object(overlay_module, "LEAST_LINES", 1):
        yield


def answers(version: int, table: Layered, asked: list[int]) -> Answers:
    pair = (table.intervals, None) if version == 4 else (None, table.intervals)
    hi, lo = words(version, asked)
    found, plen = look_up(Forest([(None, None), pair]), np.ones(len(asked), np.int64), hi, lo)
    return list(zip(found.tolist(), plen.tolist(), strict=True))


def naive(version: int, model: dict[Prefix, int], asked: list[int]) -> Answers:
    return [match(version, model, address) for address in asked]


@given(st.data(), st.sampled_from([4, 6]))
def test_a_table_with_any_changes_is_the_one_made_anew(data: st.DataObject, version: int) -> None:
    listed = data.draw(prefixes_of(version))
    payload = data.draw(st.lists(st.integers(0, 3), min_size=len(listed), max_size=len(listed)))
    model, known = first_wins(listed, payload), list(listed)
    table = Layered.of(prefixes(version, listed, payload))
    for _ in range(data.draw(st.integers(1, 4))):
        changed = data.draw(prefixes_of(version).map(lambda some: some[:12]))
        if known:
            changed += data.draw(st.lists(st.sampled_from(known), max_size=6))
        told = st.sampled_from([0, 1, 2, MISSING])
        news = data.draw(st.lists(told, min_size=len(changed), max_size=len(changed)))
        table = table.changed(prefixes(version, changed, news), MORE_THAN_ALL)
        assert not table.overflown
        model = {**model, **first_wins(changed, news)}
        model = {prefix: number for prefix, number in model.items() if number != MISSING}
        known += changed
        asked = edges(version, known)
        assert answers(version, table, asked) == naive(version, model, asked)
    assert as_dict(version, table.prefixes()) == model
    anew = Layered.of(table.prefixes())
    assert anew.share == 0
    assert answers(version, anew, asked) == answers(version, table, asked)


@pytest.mark.parametrize("version", [4, 6])
def test_a_large_table_under_churn(version: int) -> None:
    """More lines than a word of marks has bits; routes that contain many others come and go."""
    rng = np.random.default_rng(version)
    bits = 32 if version == 4 else 128

    def drawn(n: int) -> list[Prefix]:
        found = []
        for plen in rng.choice([8, 14, 20, 24], n, p=[0.01, 0.04, 0.15, 0.8]).tolist():
            top = int(rng.integers(0, 1 << 13)) << 11 | int(rng.integers(0, 1 << 6))
            found.append((top >> (24 - plen) << (bits - plen), plen))
        return found

    listed = drawn(3000)
    payload = list(range(len(listed)))
    model = first_wins(listed, payload)
    table = Layered.of(prefixes(version, listed, payload))
    for turn in range(6):
        changed = [*drawn(20), *(listed[i] for i in rng.integers(0, 3000, 40))]
        news = [MISSING if n % 3 == turn % 3 else 5000 + n for n in range(len(changed))]
        table = table.changed(prefixes(version, changed, news), MORE_THAN_ALL)
        model = {**model, **first_wins(changed, news)}
        model = {prefix: number for prefix, number in model.items() if number != MISSING}
        asked = edges(version, changed) + edges(version, listed[::7])
        assert answers(version, table, asked) == naive(version, model, asked)
    assert 0 < table.share < 1
    assert table.intervals.line_count > 256


def test_what_was_looked_up_in_stays_as_it_was() -> None:
    table = Layered.of(prefixes(4, [(n << 24, 8) for n in range(40)], list(range(40))))
    before = table.changed(prefixes(4, [(3 << 24, 8)], [50]), MORE_THAN_ALL)
    after = before.changed(prefixes(4, [(3 << 24, 8), (30 << 24, 8)], [MISSING, 60]), MORE_THAN_ALL)
    asked = [3 << 24, 30 << 24]
    assert answers(4, table, asked) == [(3, 8), (30, 8)]
    assert answers(4, before, asked) == [(50, 8), (30, 8)]
    assert answers(4, after, asked) == [(MISSING, 0), (60, 8)]


def test_a_route_around_many_others_touches_only_what_they_leave() -> None:
    inner = [(0x0A000000 + (n << 8), 24) for n in range(1, 2000)]
    table = Layered.of(prefixes(4, [(0x0A000000, 8), *inner], list(range(len(inner) + 1))))
    after = table.changed(prefixes(4, [(0x0A000000, 8)], [9]), MORE_THAN_ALL)
    assert after.share < 0.02
    assert answers(4, after, [0x0A000000, 0x0AFFFFFF, 0x0A000100]) == [(9, 8), (9, 8), (1, 24)]


def test_too_many_changes_have_the_table_made_anew() -> None:
    listed = [(n << 16, 16) for n in range(4000)]
    table = Layered.of(prefixes(4, listed, list(range(4000))))
    few = prefixes(4, listed[:30], [7] * 30)
    assert not table.changed(few, 0.1).overflown
    many = table.changed(prefixes(4, listed[::5], [7] * 800), 0.1)
    assert many.overflown
    assert many.share == 1
    anew = Layered.of(many.prefixes())
    assert answers(4, anew, [0, 1 << 16]) == [(7, 16), (1, 16)]


def test_a_small_table_is_always_made_anew() -> None:
    with patch.object(overlay_module, "LEAST_LINES", LEAST_LINES):
        table = Layered.of(prefixes(4, [(0, 8)], [1]))
        assert table.changed(prefixes(4, [(0, 8)], [2]), MORE_THAN_ALL).share == 1
        assert table.changed(prefixes(4, [], []), MORE_THAN_ALL) is table
