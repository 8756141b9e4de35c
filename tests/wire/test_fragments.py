from __future__ import annotations

import pytest

from flowray.wire.fragments import Fragment, Reassembler

SECOND = 10**9


def fragment(
    offset: int, data: bytes, *, more: bool = True, ident: int = 0, time_ns: int = 0
) -> Fragment:
    return Fragment((0, 1, 0, 2, ident), time_ns, 17, offset, more, data)


class TestReassembler:
    def test_a_duplicate_is_ignored(self) -> None:
        joiner = Reassembler()
        assert joiner.add(fragment(0, b"a" * 8)) is None
        assert joiner.add(fragment(0, b"a" * 8)) is None
        assert joiner.add(fragment(8, b"b", more=False)) == (17, b"a" * 8 + b"b")
        assert (joiner.unused, joiner.waiting) == (1, 0)

    @pytest.mark.parametrize(
        "second",
        [
            fragment(0, b"b" * 8),
            fragment(8, b"b" * 8),
            fragment(0, b"b" * 16),
            fragment(8, b"b", more=False),
            fragment(0, b"", more=False),
        ],
    )
    def test_overlaps_void_the_datagram(self, second: Fragment) -> None:
        joiner = Reassembler()
        joiner.add(fragment(0, b"a" * 16))
        assert joiner.add(second) is None
        joiner.finish()
        assert (joiner.unused, joiner.waiting) == (2, 0)

    def test_two_ends_void_the_datagram(self) -> None:
        joiner = Reassembler()
        joiner.add(fragment(16, b"b", more=False))
        joiner.add(fragment(24, b"b", more=False))
        assert joiner.unused == 2
        joiner.add(fragment(16, b"b", more=False))
        joiner.add(fragment(24, b"b" * 8))
        assert (joiner.unused, joiner.waiting) == (4, 0)

    @pytest.mark.parametrize(
        "odd", [fragment(0, b"abc"), fragment(65528, b"a" * 8, more=False), fragment(8, b"")]
    )
    def test_impossible_fragments(self, odd: Fragment) -> None:
        joiner = Reassembler()
        assert joiner.add(odd) is None
        assert (joiner.unused, joiner.waiting) == (1, 0)

    def test_the_oldest_gives_way(self) -> None:
        joiner = Reassembler(limit_datagrams=2)
        for ident in range(3):
            joiner.add(fragment(0, b"a" * 8, ident=ident))
        assert (joiner.unused, joiner.waiting) == (1, 2)
        assert joiner.add(fragment(8, b"b", more=False, ident=2)) is not None

    def test_bytes_are_bounded(self) -> None:
        joiner = Reassembler(limit_bytes=10_000)
        for ident in range(100):
            joiner.add(fragment(0, bytes(1000), ident=ident))
        assert joiner.waiting == 8
        assert joiner.unused == 92

    def test_time_gives_up(self) -> None:
        joiner = Reassembler()
        joiner.add(fragment(0, b"a" * 8))
        joiner.add(fragment(0, b"a" * 8, ident=1, time_ns=30 * SECOND))
        assert joiner.waiting == 2
        joiner.add(fragment(0, b"a" * 8, ident=2, time_ns=30 * SECOND + 1))
        assert (joiner.unused, joiner.waiting) == (1, 2)
