"""The observation domain of datagrams, before they are decoded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

I64 = npt.NDArray[np.int64]

_V5, _V9, _IPFIX = 5, 9, 10


@njit(nogil=True, cache=True)
def domains(
    buf: npt.NDArray[np.uint8], offset: I64, length: I64, domain: npt.NDArray[np.uint64]
) -> None:
    """Domain (n,) becomes NetFlow v9's source id, IPFIX' observation domain, v5's engine type and
    id, or sFlow's sub-agent; 0 where a datagram is too short for its version, or of another.
    """
    for i in range(offset.size):
        at, size = offset[i], length[i]
        domain[i] = 0
        if size < 4:
            continue
        version = np.int64(buf[at]) << 8 | np.int64(buf[at + 1])
        where, octets = 0, 4
        if version == _V9:
            where = 16
        elif version == _IPFIX:
            where = 12
        elif version == _V5:
            where, octets = 20, 2
        elif version == 0 and buf[at + 3] == 5 and size >= 8:
            # sFlow v5: the agent's address comes first, of 4 or 16 octets.
            where = 12 if buf[at + 7] == 1 else 24
        if where == 0 or where + octets > size:
            continue
        value = uint64(0)
        for j in range(octets):
            value = (value << uint64(8)) | uint64(buf[at + where + j])
        domain[i] = value
