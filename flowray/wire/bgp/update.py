"""BGP UPDATE messages (RFC 4271 section 4.3) in batches: bytes in, columns of routes out."""

from __future__ import annotations

import numpy as np

from flowray.wire.bgp import causes, kernels
from flowray.wire.bgp.attribute_store import AttributeStore
from flowray.wire.bgp.events import I64, U8, U32, U64, Contexts, Parsed, RouteEvents, Updates
from flowray.wire.bgp.intern_kernels import MOST_ADDED
from flowray.wire.bgp.update_kernels import fill_events, scan_updates

__all__ = ["CAUSES", "parse_updates"]

CAUSES = causes.TEXTS
"""Texts of `Parsed.cause`, for log lines and counters; 0 is none."""

_SUBCODES = np.array(causes.SUBCODES, np.uint8)
_LEAST_KEPT = 6  # octets of an attribute that is kept and one that is not: see `runs`


def parse_updates(
    updates: Updates, contexts: Contexts, store: AttributeStore, *, monitored: bool = False
) -> Parsed:
    """The routes of all messages, with their attributes interned in `store`, and what RFC 7606 asks
    for each message. Malformed messages never raise.

    - Treat-as-withdraw: what the message announces comes as WITHDRAW.
    - Session reset: the message gives no events. BMP and MRT, which have no session to reset, count
      it and go on.
    - NLRI of families without a row in `FAMILIES` give no events; if that is all that there is to
      say of a message, its cause is "unknown address family" and its verdict WELL_FORMED.
    - What a router tells of its tables when it is `monitored` by BMP may lack mandatory attributes,
      as routes of its own do that no neighbor has been told: that is counted, and the routes hold.
    - Withdrawals have no labels. Of LOCAL_PREF and the like from external peers nothing is
      discarded: this is a monitor.
    - `data_offset`, `data_length` are the attribute that the cause is about, header included, for
      every verdict; length 0 if it is about none.
    """
    count = len(updates)
    scan = np.empty((count, kernels.SCAN_COLUMNS), np.int64)
    _scan(updates, contexts, store, scan, monitored=monitored)
    events = _empty_events(int(scan[:, kernels.COUNT].sum()))
    fill_events(
        updates.buf, updates.context, contexts.add_path, scan,
        events.message, events.action, events.family, events.rd, events.path_id,
        events.hi, events.lo, events.plen, events.labels,
        events.nlri_offset, events.nlri_length, events.attributes,
    )  # fmt: skip
    cause = scan[:, kernels.CAUSE].astype(np.uint8)
    return Parsed(
        events=events,
        verdict=scan[:, kernels.VERDICT].astype(np.uint8),
        cause=cause,
        subcode=_SUBCODES[cause],
        data_offset=scan[:, kernels.AT].copy(),
        data_length=scan[:, kernels.OCTETS].copy(),
    )


def _scan(
    updates: Updates, contexts: Contexts, store: AttributeStore, scan: I64, *, monitored: bool
) -> None:
    """Fill `scan`; the store grows as often as needed."""
    longest = int(updates.length.max(initial=0))
    runs = np.empty((longest // _LEAST_KEPT + 2, 2), np.int64)
    seen = np.full(256, -1, np.int64)
    begin = 0
    while begin < len(updates):
        store.reserve(2 * (int(updates.length[begin]) + MOST_ADDED), 2)
        begin = scan_updates(
            updates.buf, updates.offset, updates.length, updates.context,
            contexts.four_octets, contexts.add_path, begin, int(monitored), scan, seen, runs,
            *store.tables, store.seed,
        )  # fmt: skip


def _empty_events(rows: int) -> RouteEvents:
    def words() -> U64:
        return np.zeros(rows, np.uint64)

    def octets() -> U8:
        return np.zeros(rows, np.uint8)

    def places() -> I64:
        return np.zeros(rows, np.int64)

    def numbers() -> U32:
        return np.zeros(rows, np.uint32)

    return RouteEvents(
        message=places(),
        action=octets(),
        family=octets(),
        rd=words(),
        path_id=numbers(),
        hi=words(),
        lo=words(),
        plen=octets(),
        labels=words(),
        nlri_offset=places(),
        nlri_length=places(),
        attributes=numbers(),
    )
