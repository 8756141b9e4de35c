"""Tables of routes: which path attributes each route of a peer has."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.hashing import Interner
from flowray.rib import table_kernels as kernels
from flowray.rib.evpn_keys import evpn_keys
from flowray.wire.bgp.events import Action, RouteEvents
from flowray.wire.bgp.families import Family, Shape

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

NONE = int(kernels.NONE)
"""Attribute id of a route that is not there."""

MOST_LOAD = 0.8
"""Rows per slot above which a table grows, ..."""
GROWTH = 1.5
"""... and by how much: between 16 and 24 octets for a route of IPv4."""
LEAST_ROWS = 16
TAIL = 16
"""Slots at the end of a table, for rows that find theirs taken; it may have more where rows ask for
them.
"""

MOST_CHANGES = 1 << 16
"""Changes that are remembered one by one."""

IDLE_NLRI = 4096
"""Opaque NLRI that may be kept for routes long gone, beside one for each route."""

_EVERY_MARK = np.ones(256, np.uint8)


class Scope(IntEnum):
    """Which prefixes `RouteTable.select` finds."""

    EXACT = kernels.EXACT
    """The given one."""
    LONGER = kernels.LONGER
    """The given one and those inside it."""
    COVERING = kernels.COVERING
    """The given one and those that contain it."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What routes were before events, per event: `attributes` (n,) uint32, NONE where there was no
    such route, and `labels` (n,) uint64, 0 without.
    """

    attributes: U32
    labels: U64


@dataclass(frozen=True, slots=True)
class Rows:
    """Routes as columns (n,), named as in `RouteEvents`.

    `nlri` (uint32) has ids for `RouteTable.nlri` in families that are not of prefixes, else 0.
    Their route distinguisher is part of the NLRI, and `rd` is 0. `labels` is 0 in families without.
    """

    rd: U64
    path_id: U32
    hi: U64
    lo: U64
    plen: U8
    labels: U64
    attributes: U32
    nlri: U32

    def __len__(self) -> int:
        return len(self.attributes)

    def take(self, index: npt.NDArray[Any] | slice) -> Rows:
        """The rows at `index` (positions or mask)."""
        return Rows(*(getattr(self, column.name)[index] for column in fields(self)))

    def ordered(self) -> Rows:
        """The rows by prefix, route distinguisher, path identifier, NLRI id."""
        # A column of one value, as most are, orders nothing and costs as much as any.
        keys = [
            key for key in (self.hi, *self._low, self.rd, self.path_id, self.nlri) if _varies(key)
        ]
        if len(keys) == 1:
            # Several times as fast, and no two rows are equal in all.
            return self.take(np.argsort(keys[0]))
        return self.take(np.lexsort(keys[::-1] or [self.lo]))

    @property
    def _low(self) -> tuple[npt.NDArray[Any], ...]:
        """Low words and lengths, of IPv4 in one column."""
        if _varies(self.hi) or np.any(self.lo >> np.uint64(48)):
            return self.lo, self.plen
        return (self.lo << np.uint64(8) | self.plen,)


def _varies(column: npt.NDArray[Any]) -> bool:
    return bool(np.any(column[1:] != column[:-1]))


class RouteTable:
    """The routes that a peer has told in one policy view and one family.

    A route distinguisher is a part of the key, not a table of its own: a provider edge router has
    thousands of them with a few routes each. Without path identifiers (RFC 7911) in the family,
    those of events are ignored. Attribute ids are those of an `AttributeStore`.

    Not for several threads at once.
    """

    def __init__(self, family: Family, *, add_path: bool) -> None:
        self.family = family
        self.add_path = add_path
        self._layout, self._width = _layout(family, add_path=add_path)
        self._labelled = family.shape in (Shape.LABELED, Shape.VPN)
        # A secret seed keeps a sender from choosing routes that collide.
        self._seed = np.uint64(secrets.randbits(64))
        # Keys of opaque NLRI; of EVPN, what the newest NLRI of a key was stands beside.
        self._nlri = Interner(limit=1 << 32, octets=1 << 40)
        self._told = Interner(limit=1 << 32, octets=1 << 40)
        self._newest: U32 = np.empty(0, np.uint32)
        self._state: I64 = np.zeros(4, np.int64)
        self._log: U64 = np.empty((MOST_CHANGES, self._width), np.uint64)
        self._allocate()

    def _allocate(self) -> None:
        size = int(LEAST_ROWS / MOST_LOAD)
        self._state[[kernels.S_ROWS, kernels.S_SIZE]] = 0, size
        slots = size + TAIL
        self._words: U64 = np.full((slots, self._width), 0xFFFFFFFFFFFFFFFF, np.uint64)
        self._attributes: U32 = np.full(slots, NONE, np.uint32)
        self._marks: U8 = np.zeros(slots, np.uint8)
        self._labels: U64 = np.zeros(slots if self._labelled else 0, np.uint64)

    def __len__(self) -> int:
        return int(self._state[kernels.S_ROWS])

    @property
    def generation(self) -> int:
        """Grows with every change of a route; a repeated announcement is none."""
        return int(self._state[kernels.S_GENERATION])

    @property
    def nbytes(self) -> int:
        """Octets that the table takes: slots, remembered changes, NLRI."""
        logged = min(int(self._state[kernels.S_LOGGED]), MOST_CHANGES)
        own = sum(column.nbytes for column in self._columns) + logged * self._width * 8
        if self.family.of_prefixes:
            return own
        return own + self._nlri.nbytes + self._told.nbytes + self._newest.nbytes

    @property
    def _columns(self) -> tuple[U64, U32, U8, U64]:
        return self._words, self._attributes, self._marks, self._labels

    def apply(self, events: RouteEvents, rows: I64, buf: U8, mark: int) -> Applied:
        """Take in the events at `rows` (n,), in that order, which are of this table's family.

        `buf` is the buffer that `events` refers to. Routes announced carry `mark` (0 to 255) from
        now on, changed or not. An End-of-RIB changes nothing.
        """
        key = np.empty((len(rows), self._width), np.uint64)
        kernels.pack(
            self._layout, self._seed, rows, events.rd, events.path_id, events.hi, events.lo,
            events.plen, self._intern(events, rows, buf), key,
        )  # fmt: skip
        before = Applied(np.empty(len(rows), np.uint32), np.empty(len(rows), np.uint64))
        done = 0
        while True:
            size = int(self._state[kernels.S_SIZE])
            done = kernels.update(
                key, done, int(size * MOST_LOAD), rows, events.action, events.attributes,
                events.labels, mark, *self._columns, self._log, self._state, before.attributes,
                before.labels,
            )  # fmt: skip
            if done == len(rows):
                break
            self._resize(int(size * GROWTH) + 1)
        self._shrink()
        return before

    def rows(self) -> Rows:
        """All routes, in no order."""
        return self._unpack(self._occupied())

    def clear(self) -> Rows:
        """Remove all routes; returns them, in no order."""
        rows = self.rows()
        self._allocate()
        self._changed_all(len(rows))
        return rows

    def sweep(self, mark: int) -> Rows:
        """Remove the routes that do not carry `mark`; returns them, in no order."""
        slots = self._occupied()
        stale = self._unpack(slots[self._marks[slots] != mark])
        kept = np.zeros(256, np.uint8)
        kept[mark] = 1
        self._state[kernels.S_ROWS] -= len(stale)
        self._resize(int(self._state[kernels.S_SIZE]), kept)
        self._changed_all(len(stale))
        self._shrink()
        return stale

    def find(self, rd: int, path_id: int, hi: int, lo: int, plen: int) -> int:
        """The attribute id of one route of a family of prefixes, or NONE."""
        columns = {"rd": rd, "path_id": path_id, "hi": hi, "lo": lo, "plen": plen}
        one = {name: np.array([value], _TYPES[name]) for name, value in columns.items()}
        key = np.empty((1, self._width), np.uint64)
        kernels.pack(
            self._layout, self._seed, np.zeros(1, np.int64), **one, nlri=np.empty(0, np.uint64),
            key=key,
        )  # fmt: skip
        slot = int(self._seek(key)[0])
        return NONE if slot < 0 else int(self._attributes[slot])

    def select(self, scope: Scope, hi: int, lo: int, plen: int) -> Rows:
        """The routes of a family of prefixes whose prefix is in `scope` of the given one (`plen` 0
        to 32 or 0 to 128; an address is a prefix of full length), in no order.

        None if it is of the other version of IP.
        """
        mapped = hi == 0 and lo >> 32 == 0xFFFF and plen <= 32
        slots = np.empty(len(self._attributes), np.int64)
        count = 0
        if mapped == (self._layout[kernels.L_KIND] == kernels.V4):
            count = kernels.select(
                self._layout, self._seed, self._words, self._attributes, int(scope), np.uint64(hi),
                np.uint64(lo), plen, slots,
            )  # fmt: skip
        return self._unpack(slots[:count])

    def changes(self) -> Rows | None:
        """The routes that changed since the last call, each once, as they are now, in no order:
        `attributes` NONE for those that are gone. None if too much changed to tell.
        """
        logged = int(self._state[kernels.S_LOGGED])
        self._state[kernels.S_LOGGED] = 0
        if logged > MOST_CHANGES:
            return None
        key = np.unique(self._log[:logged], axis=0)
        slots = self._seek(key)
        there = slots >= 0
        rows = self._columns_of(key, np.arange(len(key)))
        rows.attributes[there] = self._attributes[slots[there]]
        if self._labelled:
            rows.labels[there] = self._labels[slots[there]]
        return rows

    def live(self, mask: npt.NDArray[np.bool_]) -> None:
        """Set mask[id] for every attribute id that a route has."""
        kernels.mark_live(self._attributes, mask)

    def remap(self, remap: U32) -> None:
        """Give every route the attribute id remap[id], after a compaction of the store."""
        kernels.renumber(self._attributes, remap)

    def nlri(self, ids: U32) -> list[bytes]:
        """The NLRI (n,) with these ids, path identifier excluded. Ids hold until the next
        `apply`.
        """
        if self.family.shape is Shape.EVPN:
            return self._told.values(self._newest[ids])
        return self._nlri.values(ids)

    def _intern(self, events: RouteEvents, rows: I64, buf: U8) -> U64:
        """Ids (n,) of the NLRI of opaque families; empty for prefixes."""
        if self.family.of_prefixes:
            return np.empty(0, np.uint64)
        if max(len(self._nlri), len(self._told)) > 2 * len(self) + IDLE_NLRI:
            self._forget_nlri()
        offset, length = events.nlri_offset[rows], events.nlri_length[rows]
        place = (offset << 16 | length).astype(np.uint64)
        if self.family.shape is not Shape.EVPN:
            return self._nlri.intern(buf, place)
        keys, at, size = evpn_keys(buf, offset, length)
        ids = self._nlri.intern(keys, (at << 16 | size).astype(np.uint64))
        self._note(ids, self._told.intern(buf, place), events.action[rows] == Action.ANNOUNCE)
        return ids

    def _note(self, ids: U64, told: U64, announced: npt.NDArray[np.bool_]) -> None:
        """Remember the newest NLRI that each key was announced with; withdrawals tell none."""
        known = len(self._newest)
        if len(self._nlri) > known:
            room = np.zeros(max(len(self._nlri), 2 * known), np.uint32)
            room[:known] = self._newest
            self._newest = room
        self._newest[ids[announced]] = told[announced]

    def _forget_nlri(self) -> None:
        """Number the NLRI of present routes anew, and forget the others."""
        slots = self._occupied()
        rows, marks = self._unpack(slots), self._marks[slots]
        nlri = Interner(self._nlri.limit, self._nlri.octets)
        ids = nlri.add_all(self._nlri.values(rows.nlri))
        if self.family.shape is Shape.EVPN:
            told = Interner(self._told.limit, self._told.octets)
            newest = told.add_all(self.nlri(rows.nlri))
            self._told, self._newest = told, np.zeros(len(nlri), np.uint32)
            self._newest[ids] = newest
        self._nlri = nlri
        key = np.empty((len(rows), self._width), np.uint64)
        index = np.arange(len(rows), dtype=np.int64)
        kernels.pack(
            self._layout, self._seed, index, rows.rd, rows.path_id, rows.hi, rows.lo, rows.plen,
            ids, key,
        )  # fmt: skip
        order = np.argsort(key[:, 0])
        size = int(self._state[kernels.S_SIZE])
        self._attributes[:] = NONE
        begin = len(self._attributes) - len(rows)
        self._words[begin:] = key[order]
        self._attributes[begin:] = rows.attributes[order]
        self._marks[begin:] = marks[order]
        kernels.spread(begin, size, *self._columns)
        self._changed_all(len(rows))

    def _changed_all(self, count: int) -> None:
        if count:
            self._state[kernels.S_GENERATION] += count
            self._state[kernels.S_LOGGED] = MOST_CHANGES + 1

    def _resize(self, size: int, kept: U8 = _EVERY_MARK) -> None:
        """Spread the rows whose mark is in `kept` over so many slots; in place, so that nothing is
        there twice.
        """
        end = len(self._attributes)
        if size + TAIL > end:
            self._reallocate(size + TAIL)
        begin = kernels.push_up(end, kept, *self._columns)
        slots = max(kernels.extent(begin, size, self._words), size + TAIL)
        if slots > len(self._attributes):
            end = len(self._attributes)
            self._reallocate(slots)
            self._attributes[:begin] = NONE
            begin = kernels.push_up(end, _EVERY_MARK, *self._columns)
        kernels.spread(begin, size, *self._columns)
        if slots < len(self._attributes):
            self._reallocate(slots)
        self._state[kernels.S_SIZE] = size

    def _reallocate(self, slots: int) -> None:
        # The arrays are never given away, so nothing refers to where they were.
        self._words.resize((slots, self._width), refcheck=False)
        for column in (self._attributes, self._marks):
            column.resize(slots, refcheck=False)
        if self._labelled:
            self._labels.resize(slots, refcheck=False)

    def _shrink(self) -> None:
        """Give back most of the slots when most rows are gone."""
        rows = max(len(self), LEAST_ROWS)
        if int(self._state[kernels.S_SIZE]) * MOST_LOAD > 4 * rows:
            self._resize(int(rows * GROWTH / MOST_LOAD))

    def _occupied(self) -> I64:
        slots = np.empty(len(self), np.int64)
        kernels.occupied(self._attributes, slots)
        return slots

    def _seek(self, key: U64) -> I64:
        slots = np.empty(len(key), np.int64)
        kernels.seek_many(
            key, int(self._state[kernels.S_SIZE]), self._words, self._attributes, slots
        )
        return slots

    def _unpack(self, slots: I64) -> Rows:
        rows = self._columns_of(self._words, slots)
        rows.attributes[:] = self._attributes[slots]
        if self._labelled:
            rows.labels[:] = self._labels[slots]
        return rows

    def _columns_of(self, key: U64, index: I64) -> Rows:
        """The rows of some of the stored keys, without attributes and labels."""
        rows = Rows(*(np.empty(len(index), _TYPES[column.name]) for column in fields(Rows)))
        rows.labels[:] = 0
        rows.attributes[:] = NONE
        kernels.unpack(
            self._layout, self._seed, key, index, rows.rd, rows.path_id, rows.hi, rows.lo,
            rows.plen, rows.nlri,
        )  # fmt: skip
        return rows


_TYPES: dict[str, type[np.unsignedinteger[Any]]] = {
    "rd": np.uint64,
    "path_id": np.uint32,
    "hi": np.uint64,
    "lo": np.uint64,
    "plen": np.uint8,
    "labels": np.uint64,
    "attributes": np.uint32,
    "nlri": np.uint32,
}


def _layout(family: Family, *, add_path: bool) -> tuple[I64, int]:
    """What stands where in a key, for the kernels, and its words."""
    vpn = family.shape == Shape.VPN
    if not family.of_prefixes:
        kind, width, path = kernels.OPAQUE, 1, 0
    elif family.address_octets == 16:
        kind, width, path = kernels.V6, 3, 2
    else:
        kind, width, path = kernels.V4, 1 + add_path, 1
    layout = (kind, path if add_path else -1, width if vpn else -1)
    return np.array(layout, np.int64), width + vpn
