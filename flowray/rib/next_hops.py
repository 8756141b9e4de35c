"""Forms of next hops in rows: an IPv4 address, or the same as an IPv4-mapped IPv6 one.

Routers write the next hop of an IPv6 route over an IPv4 core in the mapped form and that of its
IPv4 sibling in the plain one. A pmacct that keeps tables keeps attributes that are equal but for
this once, in the form that came first, as long as any route has them; and it writes that form for
all of these routes. Who compares rows with those of pmacct, or groups them by next hop, wants the
same.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from flowray.rib.next_hop_kernels import OTHER_FORM, OTHER_HOP, UNKNOWN, follow
from flowray.rib.table import NONE
from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.attributes import Attributes, decode_attributes

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
I64: TypeAlias = npt.NDArray[np.int64]
_Number = TypeVar("_Number", np.uint8, np.uint32, np.int64)

_MAPPED = bytes(10) + b"\xff\xff"


class SharedNextHops:
    """The form in which the next hops of the routes of a protocol are written.

    Sets that pmacct takes as equal are a class. Not thread-safe.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._class: U32 = np.empty(0, np.uint32)
        self._mapped: U8 = np.empty(0, np.uint8)
        """By set: its class, and whether its next hop is in the mapped form."""
        self._first: U8 = np.zeros(2, np.uint8)
        self._routes: I64 = np.zeros(2, np.int64)
        """By class: whether the mapped form came first, and how many routes have it."""
        self._compactions = 0

    def follow(self, store: AttributeStore, compactions: int, before: U32, after: U32) -> U32:
        """Routes changed in this order: from the sets `before` to those `after` (n,), NONE where
        there was or is no route. Returns the sets to be shown (n,), `OTHER_FORM` where so.

        The ids are those of a store that was compacted so often.
        """
        self._know(store, compactions, np.unique(np.concatenate((before, after))))
        shown = np.empty(len(after), np.uint32)
        follow(before, after, self._class, self._mapped, self._first, self._routes, shown)
        return shown

    def shown(self, store: AttributeStore, compactions: int, ids: U32) -> U32:
        """The sets to be shown for routes that have not changed."""
        self._know(store, compactions, np.unique(ids))
        number = self._class[ids]
        other = (self._routes[number] > 0) & (self._first[number] != self._mapped[ids])
        return np.where(other, ids | np.uint32(OTHER_FORM), ids).astype(np.uint32)

    def _know(self, store: AttributeStore, compactions: int, ids: U32) -> None:
        """Find the classes of sets."""
        if compactions != self._compactions:
            self._compactions = compactions
            self._renumber()
        n = len(store)
        self._class, self._mapped = _grown(self._class, n), _grown(self._mapped, n)
        ids = ids[ids != NONE]
        for i in ids[self._class[ids] == UNKNOWN].tolist():
            attributes = decode_attributes(store[i])
            plain = _plain(attributes.next_hop)
            if len(plain) == 4:
                alike = _alike(attributes, plain)
                self._class[i] = self._numbers.setdefault(alike, len(self._numbers) + 2)
                self._mapped[i] = plain != attributes.next_hop
            else:
                self._class[i] = OTHER_HOP
        classes = len(self._numbers) + 2
        self._first, self._routes = _grown(self._first, classes), _grown(self._routes, classes)

    def _renumber(self) -> None:
        """Sets have other ids, and those without routes are gone."""
        self._class, self._mapped = self._class[:0], self._mapped[:0]
        kept = [(alike, i) for alike, i in self._numbers.items() if self._routes[i]]
        old = np.array([UNKNOWN, OTHER_HOP, *(i for _, i in kept)], np.int64)
        self._first, self._routes = self._first[old], self._routes[old]
        self._numbers = {alike: number for number, (alike, _) in enumerate(kept, 2)}


def shown_attributes(store: AttributeStore, number: int) -> Attributes:
    """The attributes of a set that is shown."""
    attributes = decode_attributes(store[number & ~OTHER_FORM])
    if not number & OTHER_FORM:
        return attributes
    hop = attributes.next_hop
    return replace(attributes, next_hop=_MAPPED + hop if len(hop) == 4 else _plain(hop))


def _plain(hop: bytes) -> bytes:
    return hop.removeprefix(_MAPPED) if len(hop) == 16 else hop


def _alike(a: Attributes, next_hop: bytes) -> Hashable:
    """What pmacct compares of attributes; an absent number is 0."""
    return (
        next_hop, a.origin, a.as_path, a.med or 0, a.local_pref or 0, a.communities,
        a.extended_communities, a.large_communities,
    )  # fmt: skip


def _grown(column: npt.NDArray[_Number], n: int) -> npt.NDArray[_Number]:
    """A column with room for n values, new ones 0."""
    if len(column) >= n:
        return column
    grown = np.zeros(max(n, 2 * len(column)), column.dtype)
    grown[: len(column)] = column
    return grown
