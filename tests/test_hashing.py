"""Hash tables against dictionaries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.hashing import MISSING, Index, Interner, hash_bytes

WORD = st.one_of(st.integers(0, 7), st.integers(0, (1 << 64) - 1))


def locations(values: list[bytes], gap: bytes = b"\xaa") -> tuple[np.ndarray, np.ndarray]:
    """A buffer that holds the values, and where."""
    at, places, buf = 0, [], b""
    for value in values:
        buf += gap
        at += len(gap)
        places.append(at << 16 | len(value))
        buf += value
        at += len(value)
    return np.frombuffer(buf or b"\0", np.uint8), np.array(places, np.uint64)


class TestIndex:
    @given(st.lists(st.tuples(WORD, WORD, WORD.filter(lambda v: v != MISSING)), max_size=200))
    def test_like_a_dictionary(self, puts: list[tuple[int, int, int]]) -> None:
        index, twin = Index(1), dict[tuple[int, int], int]()
        for a, b, value in puts:
            index.put(a, b, value)
            twin[a, b] = value
        assert len(index) == len(twin)
        for a, b, _ in puts:
            assert index.get(a, b) == twin[a, b]
            assert index.get(b, a) == twin.get((b, a))
            assert index.get(a ^ 1, b) == twin.get((a ^ 1, b))

    @given(
        st.dictionaries(st.tuples(WORD, WORD), st.integers(0, 99), max_size=50),
        st.lists(st.tuples(WORD, WORD), max_size=60),
    )
    def test_many_at_once(
        self, known: dict[tuple[int, int], int], asked: list[tuple[int, int]]
    ) -> None:
        index = Index()
        for (a, b), value in known.items():
            index.put(a, b, value)
        asked += [place for place in known for _ in range(2)]
        words = np.array(asked, np.uint64).reshape(-1, 2)
        found = index.get_many(np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1]))
        assert found.tolist() == [known.get(place, int(MISSING)) for place in asked]

    def test_keys_not_touched_for_a_period_are_idle(self) -> None:
        index = Index(1)
        index.put(1, 1, 7)
        index.put(2, 2, 7)
        index.touch(1, 1)
        index.touch(3, 3)
        assert [index.idle(n, n) for n in (1, 2, 3)] == [False, True, False]
        index.age()
        for i in range(100):
            index.put(i << 32, i, i)
        assert not index.idle(1, 1)
        index.age()
        index.age()
        assert index.idle(1, 1)
        assert index.get(1, 1) == 7

    def test_growth_keeps_everything(self) -> None:
        index = Index(1)
        for i in range(5000):
            index.put(i << 32, i, i)
        assert all(index.get(i << 32, i) == i for i in range(5000))
        assert index.used.size >= 2 * len(index)


def naive_hash(value: bytes) -> int:
    h = 0xCBF29CE484222325
    for octet in value:
        h = (h ^ octet) * 0x100000001B3 % (1 << 64)
    return h ^ h >> 32


@given(st.binary(max_size=40), st.binary(max_size=5))
def test_hash_is_fnv_1a(value: bytes, before: bytes) -> None:
    raw = np.frombuffer(before + value + b"x", np.uint8)
    assert hash_bytes(raw, len(before), len(value)) == naive_hash(value)


VALUES = st.lists(st.one_of(st.binary(max_size=3), st.binary(max_size=300)), max_size=80)


class TestInterner:
    @given(st.lists(VALUES, max_size=4))
    def test_ids_are_of_first_sight(self, batches: list[list[bytes]]) -> None:
        texts, twin = Interner(), {b"": 0}
        for values in batches:
            ids = texts.intern(*locations(values))
            for value in values:
                twin.setdefault(value, len(twin))
            assert ids.tolist() == [twin[value] for value in values]
            assert texts.values(ids) == values
        assert len(texts) == len(twin)
        assert texts.refused == 0
        for value, i in twin.items():
            assert texts.find(value) == i
            assert texts[i] == value
        assert texts.find(b"never seen, and longer than three") is None

    @given(VALUES, st.integers(1, 10))
    def test_limit(self, values: list[bytes], limit: int) -> None:
        texts, twin, refused = Interner(limit), {b"": 0}, 0
        ids = texts.intern(*locations(values))
        expected = []
        for value in values:
            if value not in twin and len(twin) >= limit:
                refused += 1
                expected.append(0)
                continue
            expected.append(twin.setdefault(value, len(twin)))
        assert ids.tolist() == expected
        assert (texts.refused, len(texts)) == (refused, len(twin))

    @given(VALUES, st.integers(0, 500))
    def test_octets_are_bounded(self, values: list[bytes], octets: int) -> None:
        texts = Interner(octets=octets)
        kept = texts.values(texts.intern(*locations(values)))
        assert all(got in (want, b"") for got, want in zip(kept, values, strict=True))
        assert sum(map(len, set(kept))) <= octets
        if sum(map(len, set(values))) <= octets:
            assert kept == values

    @given(VALUES)
    def test_hashes_are_the_same_in_every_interner(self, values: list[bytes]) -> None:
        one, other = Interner(), Interner()
        other.add_all(reversed(values))
        hashes = [x.hashes(x.add_all(values)).tolist() for x in (one, other)]
        assert hashes[0] == hashes[1]
        assert all((h == 0) == (value == b"") for h, value in zip(hashes[0], values, strict=True))

    def test_growth(self) -> None:
        texts = Interner()
        values = [str(i).encode() * (i % 50) for i in range(20_000)]
        ids = texts.add_all(values)
        assert texts.values(ids) == values
        assert texts.add_all(values).tolist() == ids.tolist()

    def test_crowded(self) -> None:
        texts = Interner(limit=10, octets=1000)
        texts.add_all([b"a", b"b", b"c"])
        assert not texts.crowded
        texts.add(bytes(498))
        assert texts.crowded

    @pytest.mark.parametrize("size", [0, 1, 65_535, 70_000])
    def test_one_value(self, size: int) -> None:
        texts = Interner()
        assert texts[texts.add(b"x" * size)] == b"x" * min(size, 65_535)
