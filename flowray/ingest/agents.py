"""Whose routes the records of an exporter are joined with: its own, or those of the router that the
operator's agent map names.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns
from flowray.hashing import MISSING, U64, Index
from flowray.maps import AddressWords, AgentMap, Candidates
from flowray.wire.packets import Exporters

MOST_REMEMBERED = 1 << 20
"""Exporters, interfaces and families whose row of the map is remembered."""

_SHIFT = 32


class Agents:
    """Numbers of who asks for routes: the exporter's, and above it the row of the map, from 1 on.

    Not thread-safe.
    """

    def __init__(self, agents: AgentMap | None) -> None:
        self._map = agents
        self._rows = Index()

    def who(self, c: Columns, exporters: Exporters) -> U64:
        """(n,) who asks for the routes of records."""
        agents, exporter = self._map, c["_exporter"]
        if agents is None:
            return exporter
        a = exporter << np.uint64(1) | ~_is_v4(c["dst_host"])
        b = np.zeros(c.n, np.uint64)
        for name, shift in (("in_iface", _SHIFT), ("out_iface", 0)):
            if name in agents.fields:
                b |= (c[name] & np.uint64(0xFFFFFFFF)) << np.uint64(shift)
        rows = self._rows.get_many(a, b)
        missing = rows == MISSING
        if missing.any():
            if len(self._rows) > MOST_REMEMBERED:
                self._rows, missing = Index(), np.ones(c.n, np.bool_)
            self._ask(agents, exporters, a[missing], b[missing])
            rows = self._rows.get_many(a, b)
        return exporter | rows << np.uint64(_SHIFT)

    def _ask(self, agents: AgentMap, exporters: Exporters, a: U64, b: U64) -> None:
        a, b = np.unique(np.stack((a, b)), axis=1)
        exporter = (a >> np.uint64(1)).astype(np.int64)
        candidates = Candidates(
            exporters.hi[exporter],
            exporters.lo[exporter],
            in_iface=b >> np.uint64(_SHIFT),
            out_iface=b & np.uint64(0xFFFFFFFF),
            of_ipv6=np.asarray(a & np.uint64(1), np.bool_),
        )
        found = agents.rows(candidates) + 1
        for key, interfaces, row in zip(a.tolist(), b.tolist(), found.tolist(), strict=True):
            self._rows.put(key, interfaces, row)

    def router(self, who: int, exporters: Exporters) -> AddressWords:
        """The address of the router that is asked."""
        row, exporter = who >> _SHIFT, who & ((1 << _SHIFT) - 1)
        if row and self._map is not None:
            return self._map.routers[row - 1]
        return int(exporters.hi[exporter]), int(exporters.lo[exporter])


def _is_v4(address: U64) -> npt.NDArray[np.bool_]:
    """(n,) whether (2, n) addresses are of IPv4."""
    return np.asarray((address[0] == 0) & (address[1] >> np.uint64(32) == 0xFFFF), np.bool_)
