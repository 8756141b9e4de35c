"""Compiled pass of `next_hop_forms`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]


@njit(nogil=True, cache=True)
def follow(gets: I64, has: I64, told: U8, routes: I64, form: U8, shown: U8) -> None:
    """Move routes from group to group, in order, and note the form that each row shows.

    `gets`, `has` (n,) groups or -1, `told` (n,) forms of what is got; `routes`, `form` by group.
    A group that no route had takes the form of the first that gets it.
    """
    for i in range(len(gets)):
        to, of = gets[i], has[i]
        if to >= 0:
            if routes[to] == 0:
                form[to] = told[i]
            shown[i] = form[to]
            routes[to] += 1
        if of >= 0:
            if to < 0:
                shown[i] = form[of]
            routes[of] -= 1
