"""What rows show of path attributes: which communities, how much of the AS path, and which
communities tell an AS number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flowray.wire.bgp.as_path import Segment, SegmentType, as_path_text
from flowray.wire.bgp.attributes import Attributes
from flowray.wire.bgp.communities import (
    community_text,
    extended_community_text,
    large_community_text,
)

_SETS = frozenset({SegmentType.SET, SegmentType.CONFED_SET})


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of a community's text, as pmacct has them: a part of it, or, with `.` for any
    character, the whole of it.
    """

    text: str

    def __call__(self, community: str) -> bool:
        """Whether it fits."""
        if "." not in self.text:
            return self.text in community
        pairs = zip(self.text, community, strict=False)
        return len(self.text) == len(community) and all(p in (".", c) for p, c in pairs)


Patterns = tuple[Pattern, ...]


def patterns(*texts: str) -> Patterns:
    """Patterns of texts."""
    return tuple(map(Pattern, texts))


@dataclass(frozen=True, slots=True)
class Shape:
    """What is shown.

    - `standard`, `extended`, `large`: patterns of the communities that are; all without any
    - `most_communities` of each kind, and the first `hops` of the AS path; 0 for all
    """

    standard: Patterns = ()
    extended: Patterns = ()
    large: Patterns = ()
    most_communities: int = 0
    hops: int = 0


def _shown(texts: list[str], wanted: Patterns, most: int) -> str:
    """The communities that fit, each once, those of the first pattern first."""
    if wanted:
        texts = list(dict.fromkeys(t for fits in wanted for t in texts if fits(t)))
    return " ".join(texts[:most] if most else texts)


def _standard(a: Attributes) -> list[str]:
    return [community_text(c) for c in a.communities or ()]


def _extended(a: Attributes) -> list[str]:
    return [extended_community_text(c) for c in a.extended_communities or ()]


def _large(a: Attributes) -> list[str]:
    return [large_community_text(c) for c in a.large_communities or ()]


def within(path: tuple[Segment, ...], hops: int) -> Iterator[Segment]:
    """The first hops of a path, repeated numbers counted; a set is one."""
    for kind, numbers in path:
        if hops <= 0:
            return
        if kind in _SETS:
            yield Segment(kind, numbers)
            hops -= 1
        else:
            yield Segment(kind, numbers[:hops])
            hops -= len(numbers)


def _path(a: Attributes, hops: int) -> str:
    path = a.as_path or ()
    return as_path_text(tuple(within(path, hops)) if hops else path)


TEXTS: dict[str, Callable[[Attributes, Shape], str]] = {
    "std_comm": lambda a, s: _shown(_standard(a), s.standard, s.most_communities),
    "ext_comm": lambda a, s: _shown(_extended(a), s.extended, s.most_communities),
    "lrg_comm": lambda a, s: _shown(_large(a), s.large, s.most_communities),
    "as_path": lambda a, s: _path(a, s.hops),
}
"""The text of a field."""


@dataclass(frozen=True, slots=True)
class CommunityAs:
    """Which communities tell AS numbers: `PEER:ORIGIN`, or of large ones `PEER:ORIGIN:ANY`."""

    standard: Patterns = ()
    large: Patterns = ()

    def __bool__(self) -> bool:
        return bool(self.standard or self.large)

    def __call__(self, attributes: Attributes) -> tuple[int, int]:
        """Peer and origin AS by the first community that fits the first pattern, or zeros."""
        for texts, wanted in ((_standard, self.standard), (_large, self.large)):
            told = texts(attributes) if wanted else []
            for fits in wanted:
                for text in told:
                    numbers = _NUMBERS.match(text) if fits(text) else None
                    if numbers is not None:
                        return int(numbers[1]), int(numbers[2])
        return 0, 0


_NUMBERS = re.compile("([0-9]+):([0-9]+)(?::|$)")
