"""The compiled loop over sequence numbers."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.ingest.sequence_runs import IN_LINE, LATE, LATE_NS

I64 = npt.NDArray[np.int64]

# Columns of the state of a place.
STATE: Final = 0  # 0: nothing came; 1: in line; 2: as 1, but how much the last held is not known
LO: Final = 1
SPAN: Final = 2
RECEIVED: Final = 3
SKIPPED: Final = 4
FIRST: Final = 5
LAST: Final = 6
NEXT_BAD: Final = 7  # what follows a message out of line, -1 if there was none
BAD: Final = 8
BAD_UNITS: Final = 9
BAD_AT: Final = 10
COLUMNS: Final = 11

RUN: Final = slice(LO, LAST + 1)
_WORD: Final = 0xFFFFFFFF


@njit(nogil=True, cache=True)
def follow(slot: I64, sequence: I64, step: I64, arrival: I64, state: I64, closed: I64) -> int:
    """Account messages in order of arrival; the number of rows of closed (m, 7) that are filled:
    slot and run of each run that ended. m is half of the messages at least.

    slot[i] picks the row of state (k, COLUMNS). step[i] is what message i adds to the count, -1 if
    that is not known and never will be. A message out of line, behind, is one that was overtaken if
    as much was missing and it is not late by more than LATE_NS; else nothing is made of it until a
    second one follows it: then the exporter has begun anew (RFC 3550, appendix A.1, has the same
    probation).
    """
    ended = 0
    for i in range(slot.size):
        row, q, units = state[slot[i]], sequence[i], max(step[i], 0)
        if row[STATE] == 0:
            row[STATE] = 1 if step[i] >= 0 else 2
            row[LO], row[SPAN], row[RECEIVED], row[SKIPPED] = q, units, units, 0
            row[FIRST], row[LAST], row[NEXT_BAD] = arrival[i], arrival[i], -1
            continue
        ahead = (q - row[LO] - row[SPAN]) & _WORD
        if ahead < IN_LINE:
            if row[STATE] == 2:
                row[SKIPPED] += ahead
            row[STATE] = 1 if step[i] >= 0 else 2
            row[SPAN] += ahead + units
            row[RECEIVED] += units
            row[LAST], row[NEXT_BAD] = arrival[i], -1
            continue
        behind = _WORD + 1 - ahead
        first = arrival[i] - row[FIRST] <= LATE_NS
        if first and row[SPAN] < behind <= row[SPAN] + LATE:
            # Overtaken by the very first.
            row[SPAN] = behind
            row[LO] = q
            row[RECEIVED] += units
            continue
        lacks = row[SPAN] - row[RECEIVED] - row[SKIPPED]
        if behind <= LATE and units <= lacks and arrival[i] - row[LAST] <= LATE_NS:
            row[RECEIVED] += units
            continue
        if row[NEXT_BAD] >= 0 and (q - row[NEXT_BAD]) & _WORD < IN_LINE:
            closed[ended, 0] = slot[i]
            closed[ended, 1:] = row[LO : LAST + 1]
            ended += 1
            row[STATE] = 1 if step[i] >= 0 else 2
            row[LO] = row[BAD]
            row[SPAN] = ((q - row[BAD]) & _WORD) + units
            row[RECEIVED] = row[BAD_UNITS] + units
            row[SKIPPED] = 0
            row[FIRST], row[LAST], row[NEXT_BAD] = row[BAD_AT], arrival[i], -1
            continue
        row[NEXT_BAD] = (q + units) & _WORD
        row[BAD], row[BAD_UNITS], row[BAD_AT] = q, units, arrival[i]
    return ended


@njit(nogil=True, cache=True)
def find(slot: I64, sequence: I64, units: I64, state: I64) -> None:
    """Add units of messages that were accounted with fewer: what was held of them is decoded now.
    Those of a run that has ended are left out.
    """
    for i in range(slot.size):
        row = state[slot[i]]
        distance = (sequence[i] - row[LO] - row[SPAN]) & _WORD
        place = row[SPAN] + distance - (_WORD + 1 if distance > _WORD >> 1 else 0)
        if row[STATE] == 0 or not -LATE <= place <= row[SPAN] + LATE:
            continue
        row[RECEIVED] += units[i]
        row[SPAN] = max(row[SPAN], place + units[i])
