"""AS_PATH: segments of AS numbers, the merge with AS4_PATH, and pmacct's text of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from struct import unpack_from
from typing import Final, NamedTuple

__all__ = ["Segment", "SegmentType", "as_path_text", "merge_as4", "read_as_path"]


class SegmentType(IntEnum):
    """RFC 4271 section 4.3, RFC 5065 section 3."""

    SET = 1
    SEQUENCE = 2
    CONFED_SEQUENCE = 3
    CONFED_SET = 4


class Segment(NamedTuple):
    """A segment: sets ascending and each number once, for they have no order."""

    kind: SegmentType
    numbers: tuple[int, ...]


_SETS: Final = frozenset({SegmentType.SET, SegmentType.CONFED_SET})
_CONFEDERATION: Final = frozenset({SegmentType.CONFED_SEQUENCE, SegmentType.CONFED_SET})

_FORMS: Final = {
    SegmentType.SET: ("{", ",", "}"),
    SegmentType.SEQUENCE: ("", " ", ""),
    SegmentType.CONFED_SEQUENCE: ("(", " ", ")"),
    SegmentType.CONFED_SET: ("[", ",", "]"),
}


def read_as_path(value: bytes, *, four_octets: bool) -> tuple[Segment, ...] | None:
    """The value of AS_PATH or AS4_PATH (RFC 4271 section 4.3, RFC 6793); None if it is malformed.

    Adjacent AS_SEQUENCEs, into which long paths are cut, become one.
    """
    width, code = (4, "I") if four_octets else (2, "H")
    segments: list[Segment] = []
    at = 0
    while at < len(value):
        if at + 2 > len(value) or value[at] not in _FORMS:
            return None
        kind, count = SegmentType(value[at]), value[at + 1]
        end = at + 2 + width * count
        if count == 0 or end > len(value):
            return None
        numbers: tuple[int, ...] = unpack_from(f"!{count}{code}", value, at + 2)
        if kind in _SETS:
            numbers = tuple(sorted(set(numbers)))
        segments.append(Segment(kind, numbers))
        at = end
    return _joined(segments)


def _joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    joined: list[Segment] = []
    for segment in segments:
        if joined and segment.kind is joined[-1].kind is SegmentType.SEQUENCE:
            joined[-1] = Segment(segment.kind, joined[-1].numbers + segment.numbers)
        else:
            joined.append(segment)
    return tuple(joined)


def _hops(segment: Segment) -> int:
    """How long a segment counts: a set as one, a confederation not at all (RFC 5065 5.3)."""
    if segment.kind in _CONFEDERATION:
        return 0
    return 1 if segment.kind is SegmentType.SET else len(segment.numbers)


def merge_as4(path: tuple[Segment, ...], as4: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """AS_PATH of two octets a number, completed by AS4_PATH (RFC 6793 section 4.2.3).

    The leading hops that AS4_PATH lacks stay; a longer AS4_PATH is ignored, and so are
    confederation segments in it.
    """
    as4 = tuple(s for s in as4 if s.kind not in _CONFEDERATION)
    leading = sum(map(_hops, path)) - sum(map(_hops, as4))
    if leading < 0 or not as4:
        return path
    kept: list[Segment] = []
    for segment in path:
        hops = _hops(segment)
        if leading == 0 and hops:
            break
        if segment.kind is SegmentType.SEQUENCE and hops > leading:
            kept.append(Segment(segment.kind, segment.numbers[:leading]))
            break
        kept.append(segment)
        leading -= hops
    return _joined((*kept, *as4))


def as_path_text(path: Sequence[Segment]) -> str:
    """`64496 64497 {64498,64499}`; confederation sequences in `()`, sets of them in `[]`."""
    texts = []
    for kind, numbers in path:
        before, between, after = _FORMS[kind]
        texts.append(before + between.join(map(str, numbers)) + after)
    return " ".join(texts)
