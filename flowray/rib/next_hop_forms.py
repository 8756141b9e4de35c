"""The form in which rows show an IPv4 next hop: as it was told, or as the first that told it.

A next hop comes as `192.0.2.1` or as `::ffff:192.0.2.1`, which is the same address (RFC 4291
section 2.5.5.2). pmacct keeps attribute sets that are alike but for that as one, in the form that
came first, as long as any route has it. `NextHopForms` finds that form.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from flowray.rib.next_hop_kernels import follow
from flowray.rib.table import NONE
from flowray.wire.bgp.events import I64, U8, U32

__all__ = ["NextHopForm", "NextHopForms"]

_MAPPED: Final = bytes(10) + b"\xff\xff"
_UNREAD: Final = -2
_OTHER: Final = -1
"""Groups of sets that were not looked at, and of those whose next hop has one form only."""


Number = TypeVar("Number", bound=np.generic)


class NextHopForm(IntEnum):
    """How a next hop is written."""

    TOLD = 0
    IPV4 = 4
    MAPPED = 6


class NextHopForms:
    """Follows which routes have which attribute sets, all from the first on.

    `octets` gives the canonical set of an id, asked once per id.
    """

    def __init__(self, octets: Callable[[int], bytes]) -> None:
        self._octets = octets
        self._groups: dict[bytes, int] = {}
        self._group = np.zeros(0, np.int64)  # by id
        self._told = np.zeros(0, np.uint8)  # by id: NextHopForm
        self._routes = np.zeros(0, np.int64)  # by group
        self._form = np.zeros(0, np.uint8)  # by group: NextHopForm

    def follow(self, new: U32, old: U32) -> U8:
        """The form to show in each of these rows, (n,) `NextHopForm`, in the order of events.

        `new` (n,) is the set that a route got, NONE if it is gone; `old` (n,) the set that it had,
        NONE if there was no such route.
        """
        self._read(new)
        self._read(old)
        gets, has = self._groups_of(new), self._groups_of(old)
        told = self._told[np.where(new == NONE, 0, new)]
        shown = np.zeros(len(new), np.uint8)
        follow(gets, has, told, self._routes, self._form, shown)
        return shown

    def shown(self, ids: U32) -> U8:
        """The form to show of routes that have these sets now, (n,) `NextHopForm`."""
        self._read(ids)
        groups = self._groups_of(ids)
        forms: U8 = np.append(self._form, np.uint8(NextHopForm.TOLD))[groups]
        return forms

    def forget(self) -> None:
        """Ids are others from now on (`AttributeStore.compact`); groups without routes go."""
        live = self._routes > 0
        number = np.cumsum(live) - 1
        self._groups = {key: int(number[g]) for key, g in self._groups.items() if live[g]}
        self._routes, self._form = self._routes[live], self._form[live]
        self._group = np.zeros(0, np.int64)
        self._told = np.zeros(0, np.uint8)

    def _groups_of(self, ids: U32) -> I64:
        none = ids == NONE
        groups: I64 = np.where(none, _OTHER, self._group[np.where(none, 0, ids)])
        return groups

    def _read(self, ids: U32) -> None:
        """Look at sets that were not seen before."""
        known = ids[ids != NONE]
        most = int(known.max(initial=0)) + 1
        if most > len(self._group):
            size = max(most, 2 * len(self._group))
            self._group = _grown(self._group, size, _UNREAD)
            self._told = _grown(self._told, size, NextHopForm.TOLD)
        for number in np.unique(known[self._group[known] == _UNREAD]).tolist():
            self._told[number], self._group[number] = self._look(self._octets(number))
        if len(self._groups) > len(self._routes):
            size = max(len(self._groups), 2 * len(self._routes))
            self._routes = _grown(self._routes, size, 0)
            self._form = _grown(self._form, size, NextHopForm.TOLD)

    def _look(self, octets: bytes) -> tuple[NextHopForm, int]:
        """Form of the next hop of a set, and the group of those that are alike but for it."""
        size, address = octets[1:2], octets[2:18]
        if size == b"\x04":
            key, form = octets, NextHopForm.IPV4
        elif size == b"\x10" and address.startswith(_MAPPED):
            key, form = octets[:1] + b"\x04" + octets[14:], NextHopForm.MAPPED
        else:
            return NextHopForm.TOLD, _OTHER
        return form, self._groups.setdefault(key, len(self._groups))


def _grown(array: npt.NDArray[Number], size: int, fill: int) -> npt.NDArray[Number]:
    grown = np.full(size, fill, array.dtype)
    grown[: len(array)] = array
    return grown
