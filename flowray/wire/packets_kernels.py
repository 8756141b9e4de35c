"""Compiled loops behind `flowray.wire.packets`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["copy_payloads", "intern_addresses"]


@njit(nogil=True, cache=True)
def _hash(hi: np.uint64, lo: np.uint64, seed: np.uint64) -> np.uint64:
    """Mix two words and a seed; multiply and fold twice, so every input bit reaches every slot."""
    mixed = (hi ^ seed) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32)) ^ lo) * np.uint64(0xD6E8FEB86659FD93)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return mixed ^ (mixed >> np.uint64(32))


@njit(nogil=True, cache=True)
def intern_addresses(
    hi: NDArray[np.uint64],
    lo: NDArray[np.uint64],
    slots: NDArray[np.uint32],
    known_hi: NDArray[np.uint64],
    known_lo: NDArray[np.uint64],
    used: int,
    seed: np.uint64,
    ids: NDArray[np.uint32],
) -> tuple[int, int]:
    """Look up or add (n,) addresses in an open-addressing table; fill `ids`, (n,) uint32.

    `slots` holds ids (0 = free), a power of two of them and more than `known_hi` has rows;
    `known_hi` and `known_lo` hold addresses by id, `used` of them in use, row 0 being reserved.
    Returns the new `used` and how many addresses found the table full.
    """
    mask = np.uint64(len(slots) - 1)
    overflowed = 0
    for i in range(len(hi)):
        ids[i] = 0
        if hi[i] == 0 and lo[i] == 0:
            continue
        slot = _hash(hi[i], lo[i], seed) & mask
        found = slots[slot]
        while found != 0 and (known_hi[found] != hi[i] or known_lo[found] != lo[i]):
            slot = (slot + np.uint64(1)) & mask
            found = slots[slot]
        if found == 0:
            if used == len(known_hi):
                overflowed += 1
                continue
            known_hi[used] = hi[i]
            known_lo[used] = lo[i]
            slots[slot] = used
            found = slots[slot]
            used += 1
        ids[i] = found
    return used, overflowed


@njit(nogil=True, cache=True)
def copy_payloads(
    source: NDArray[np.uint8],
    offset: NDArray[np.int64],
    length: NDArray[np.int64],
    place: NDArray[np.int64],
    target: NDArray[np.uint8],
) -> None:
    """Copy payload i, `length[i]` bytes from `offset[i]` of `source`, to `place[i]` of `target`."""
    for i in range(len(offset)):
        start, size, to = offset[i], length[i], place[i]
        target[to : to + size] = source[start : start + size]
