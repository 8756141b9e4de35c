"""Template and options sets known by heart, so that repeating them costs a look-up."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeAlias

Place: TypeAlias = tuple[int, int, int]
"""(exporter, observation domain, version)"""

LIMIT = 1 << 18


class Remembered:
    """Digests of sets by place: at most `limit` in all. Past it everything is forgotten, which
    costs reading each set once more.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._sets: dict[Place, set[bytes]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @staticmethod
    def digest(set_id: int, raw: bytes) -> bytes:
        """What stands for a set: short, and not to be forged."""
        return blake2b(raw, digest_size=16, salt=set_id.to_bytes(16)).digest()

    def knows(self, place: Place, digest: bytes) -> bool:
        """Whether a set was told at this place and not forgotten since."""
        return digest in self._sets.get(place, ())

    def add(self, place: Place, digest: bytes) -> None:
        """Know a set from now on."""
        if self._count >= self._limit:
            self._sets.clear()
            self._count = 0
        known = self._sets.setdefault(place, set())
        self._count -= len(known)
        known.add(digest)
        self._count += len(known)

    def forget(self, place: Place) -> None:
        """Everything of a place is news again."""
        self._count -= len(self._sets.pop(place, ()))
