"""Windows of a view: aligned intervals, the revision that a late record belongs to, and when each
may close.

The revision is a pure function of a record's own time and of the arrival of its datagram: 0 if it
arrived before the window's end plus the allowed lateness, else 1 + floor(lateness beyond that /
width). So rows do not depend on how exporters are spread over shards, nor on when anything was
flushed.

A window word is  others (1 bit) | ordinal (32 bits) | revision (31 bits).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowray.columns import Words

I64 = npt.NDArray[np.int64]

WINDOW, REVISION, OTHERS = "_window", "_revision", "_others"
"""Columns of a partial beside its fields: start of the window (ns), revision, whether it is an
others row.
"""

REVISION_BITS = 31
_REVISION = np.uint64((1 << REVISION_BITS) - 1)
_ORDINAL = np.uint64((1 << 32) - 1)
_OTHERS = np.uint64(1 << 63)
_LAST = 1 << 62
"""The latest arrival believed (in 2116), ns: sums of it and a window fit an int64."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Nanoseconds. `width`: at least a second; `offset`: shift of the alignment (UTC)."""

    width: int
    offset: int = 0
    lateness: int = 0

    def within(self, time: I64, arrival: I64) -> I64:
        """Times (n,) between their arrival and the earliest that a window word can tell.

        Exporters tell times of any size: one ahead of its arrival counts as the arrival, one before
        the epoch as the epoch, one that is more revisions late than there are as the earliest.
        """
        reach = min(int(_REVISION - np.uint64(1)) * self.width, _LAST)
        times: I64 = np.clip(time, np.maximum(arrival - reach, 0), arrival)
        return times

    def words(self, time: I64, arrival: I64) -> Words:
        """Window words (n,) of records with these times, see `within`."""
        arrival = np.clip(arrival, 0, _LAST)
        time = self.within(time, arrival)
        ordinal = np.clip((time - self.offset) // self.width, 0, int(_ORDINAL))
        late = arrival - ((ordinal + 1) * self.width + self.offset + self.lateness)
        revision = np.clip(1 + late // self.width, 0, int(_REVISION))
        words: Words = ordinal.astype(np.uint64) << np.uint64(REVISION_BITS)
        words |= revision.astype(np.uint64)
        return words

    def words_of_arrival(self, arrival: I64, known: tuple[int, int] | None = None) -> Words:
        """Window words (n,) of records whose time is their arrival, none of which is late; (1,) if
        they share one, as nearly all batches do. `known`: between what all arrivals lie.
        """
        first, last = known or (int(arrival.min()), int(arrival.max()))
        ordinal = (first - self.offset) // self.width
        if first >= max(self.offset, 0) and (last - self.offset) // self.width == ordinal:
            return np.array([min(ordinal, int(_ORDINAL)) << REVISION_BITS], np.uint64)
        return self.words(arrival, arrival)

    def start(self, words: Words) -> I64:
        """Start of the window of each word (n,), ns."""
        ordinal = (words >> np.uint64(REVISION_BITS) & _ORDINAL).astype(np.int64)
        return ordinal * self.width + self.offset

    def deadline(self, start: int, revision: int) -> int:
        """When all records of a window's revision have arrived, ns."""
        return start + self.width + self.lateness + revision * self.width


def revision(words: Words) -> npt.NDArray[np.uint32]:
    """Revision of each word (n,)."""
    return (words & _REVISION).astype(np.uint32)


def is_others(words: Words) -> npt.NDArray[np.bool_]:
    """Whether a word is of an others row (n,)."""
    marked: npt.NDArray[np.bool_] = (words & _OTHERS) != 0
    return marked


def window_word(start: int, revision_number: int, windows: Windows, *, others: bool) -> int:
    """The word of a window, as `Windows.words` and the fold's others bit make it."""
    ordinal = (start - windows.offset) // windows.width
    return int(others) << 63 | ordinal << REVISION_BITS | revision_number
