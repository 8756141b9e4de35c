"""The validated payloads of one RPKI cache, as announcements and withdrawals make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.rib.roa import RoaSet
from flowray.rib.rtr_kernels import read_prefixes

__all__ = ["Payloads", "PayloadsError", "Taken"]

U8: TypeAlias = npt.NDArray[np.uint8]
U64: TypeAlias = npt.NDArray[np.uint64]

_SHORTEST_PDU = 20


class PayloadsError(Exception):
    """An announcement of what is there, or a withdrawal of what is not."""

    def __init__(self, *, announced: bool) -> None:
        super().__init__("announced twice" if announced else "withdrawn, but never announced")
        self.announced = announced


@dataclass(frozen=True, slots=True)
class Taken:
    """Prefix PDUs as columns (n,): `word` is AS << 16 | length << 8 | longest length."""

    hi: U64
    lo: U64
    word: U64
    announced: U8

    @classmethod
    def of(cls, buf: U8, version: int) -> tuple[Taken, int]:
        """The prefix PDUs that `buf` begins with, and their octets."""
        rows = len(buf) // _SHORTEST_PDU
        hi, lo, word = (np.empty(rows, np.uint64) for _ in range(3))
        announced = np.empty(rows, np.uint8)
        octets, n = read_prefixes(buf, version, hi, lo, word, announced)
        taken = cls(hi[:n].copy(), lo[:n].copy(), word[:n].copy(), announced[:n].copy())
        return taken, int(octets)

    def __len__(self) -> int:
        return len(self.word)


class Payloads:
    """An immutable set of payloads, at first empty."""

    def __init__(self, rows: Taken | None = None) -> None:
        zero = np.zeros(0, np.uint64)
        self._rows = rows or Taken(zero, zero, zero, np.zeros(0, np.uint8))

    def __len__(self) -> int:
        return len(self._rows)

    def changed(self, parts: list[Taken]) -> Payloads:
        """The set after announcements and withdrawals, in their order.

        Raises PayloadsError for one that contradicts the set (RFC 8210 section 5.6).
        """
        parts = [self._rows, *parts]
        hi = np.concatenate([p.hi for p in parts])
        lo = np.concatenate([p.lo for p in parts])
        word = np.concatenate([p.word for p in parts])
        announced = np.concatenate([p.announced for p in parts])
        order = np.lexsort((word, lo, hi))  # stable: what came later stands later
        hi, lo, word, announced = hi[order], lo[order], word[order], announced[order]
        first = np.ones(len(hi), np.bool_)
        first[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1]) | (word[1:] != word[:-1])
        before = np.zeros(len(hi), np.uint8)
        before[1:] = announced[:-1]
        before[first] = 0
        wrong = np.flatnonzero(before == announced)
        if wrong.size:
            raise PayloadsError(announced=bool(announced[wrong[0]]))
        last = np.ones(len(hi), np.bool_)
        last[:-1] = first[1:]
        kept = last & (announced == 1)
        return Payloads(Taken(hi[kept], lo[kept], word[kept], announced[kept]))

    def roas(self) -> RoaSet:
        """The set, made for validating routes."""
        word = self._rows.word
        return RoaSet(
            (word >> np.uint64(16)).astype(np.uint32),
            self._rows.hi,
            self._rows.lo,
            (word >> np.uint64(8)).astype(np.uint8),
            word.astype(np.uint8),
        )
