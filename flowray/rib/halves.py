"""Routing instances of one version of IP, as a publisher of snapshots keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from flowray.rib.lpm import MISSING, Prefixes
from flowray.rib.overlay import Layered
from flowray.rib.table import RouteTable
from flowray.rib.validation import States

U32 = npt.NDArray[np.uint32]

MANY_PATHS = 1 << 31
"""Bit of a payload that numbers a list of paths (ADD-PATH) instead of an attribute set."""

STATE_SHIFT = 28
"""Where the validation state (`RoaState`, 3 bits) stands in a payload, above the attribute set."""

Sources = tuple[tuple[RouteTable, int], ...]
"""Tables and the generation of each. Numbers of peers are given again, and so tell nothing."""


@dataclass(slots=True)
class Half:
    """The routes of an instance of one version of IP, and what they were built from."""

    sources: Sources
    layered: Layered
    paths: list[U32] = field(default_factory=list)
    states: States | None = None
    first: int = 0
    """Number of the first list of paths."""

    @property
    def told(self) -> list[U32]:
        """The lists of paths, with their states."""
        if self.states is None:
            return self.paths
        pairs = zip(self.paths, self.states.paths, strict=True)
        return [with_states(paths, states) for paths, states in pairs]

    def renumber(self, first: int) -> None:
        """Let the lists of paths count from `first` on. A table that has such has no overlay."""
        prefixes = self.layered.base
        payload = prefixes.payload
        listed = (payload >= MANY_PATHS) & (payload != MISSING)
        moved = payload[listed] - np.uint32(self.first) + np.uint32(first)
        payload = payload.copy()
        payload[listed] = moved
        self.layered = layered(replace(prefixes, payload=payload), self.states)
        self.first = first

    def flatten(self) -> None:
        """Make the changes part of the base."""
        self.layered = Layered.of(self.layered.prefixes())


def layered(prefixes: Prefixes, states: States | None) -> Layered:
    """A table that tells validation states."""
    if states is None:
        return Layered.of(prefixes)
    payload = with_states(prefixes.payload, states.prefixes)
    return replace(Layered.of(replace(prefixes, payload=payload)), base=prefixes)


def with_states(payload: U32, states: npt.NDArray[np.uint8]) -> U32:
    """Payloads (n,) that tell validation states (n,); lists of paths have state 0."""
    return payload | states.astype(np.uint32) << np.uint32(STATE_SHIFT)
