"""Compiled loop of shared next hops."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.rib.table_kernels import NONE

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
I64: TypeAlias = npt.NDArray[np.int64]

OTHER_FORM = 1 << 31
"""Bit of an attribute set's id: that set, with its next hop in the other form."""

UNKNOWN, OTHER_HOP = 0, 1
"""Classes: of sets not looked at yet, and of those whose next hop has but one form."""


@njit(cache=True, nogil=True)
def follow(
    before: U32, after: U32, class_of: U32, mapped: U8, first: U8, routes: I64, shown: U32
) -> None:
    """Count the routes of classes, change by change, and mark the sets shown in another form."""
    for i in range(after.size):
        new, old = after[i], before[i]
        if new != NONE:
            number = class_of[new]
            if routes[number] == 0:
                first[number] = mapped[new]
            routes[number] += 1
        if old != NONE and routes[class_of[old]] > 0:
            routes[class_of[old]] -= 1
        told = new if new != NONE else old
        shown[i] = told
        if told != NONE and class_of[told] != OTHER_HOP and first[class_of[told]] != mapped[told]:
            shown[i] = told | np.uint32(OTHER_FORM)
