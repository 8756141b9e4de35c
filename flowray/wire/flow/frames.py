"""Sampled frames inside IPFIX records (elements 104, 313, 315; RFC 7133) decoded in place."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word
from flowray.wire.flow.dissect import LENGTH, dissect

U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

LINK_IPV4, LINK_IPV6 = 11, 12


@njit(cache=True, nogil=True)
def dissect_frames(
    buf: npt.NDArray[np.uint8], words: U64, n: Word, frame: Word, packets: Word, octets: Word,
    link: Word,
    dest: I64, tunnels: Word,
) -> None:  # fmt: skip
    """Fill the fields of each record that holds a frame: `frame` is the word row of its location.

    Records without counters of their own count one packet of the frame's IP length. dest is not
    changed.
    """
    place = dest.copy()
    place[LENGTH] = frame
    for r in range(n):
        location = words[frame, r]
        length: Word = np.int64(location & np.uint64(0xFFFF))
        words[frame, r] = 0
        if length == 0:
            continue
        offset: Word = np.int64(location >> np.uint64(16))
        kind = link
        if link == LINK_IPV4 and buf[offset] >> 4 == 6:
            kind = LINK_IPV6
        dissect(buf, offset, length, kind, words, r, place, tunnels)
        if words[packets, r] == 0 and words[octets, r] == 0:
            words[packets, r] = 1
            words[octets, r] = words[frame, r]
