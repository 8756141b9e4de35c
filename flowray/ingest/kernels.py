"""Compiled loops of accounting."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(cache=True, nogil=True)
def count_each(exporter: npt.NDArray[np.integer], counts: npt.NDArray[np.int64]) -> None:
    """Add 1 to counts[e] for each e of exporter (n,); runs of one exporter are added at once."""
    begin = 0
    for i in range(1, exporter.size + 1):
        if i == exporter.size or exporter[i] != exporter[begin]:
            counts[exporter[begin]] += i - begin
            begin = i
