"""Path marks of Route Monitoring, by route (draft-ietf-grow-bmp-path-marking-tlv)."""

from __future__ import annotations

from typing import Final

import numpy as np

from flowray.rib.bmp_events import Marks
from flowray.wire.bgp.bmp_route_tlvs import status_names
from flowray.wire.bgp.events import I64, Action, RouteEvents

__all__ = ["NO_MARK", "mark_reason", "marks_of", "status_text"]

NO_MARK: Final = -1
"""Mark of a route without one. Others are status | (reason + 1) << 32, reason -1 without one."""

_REASON_SHIFT = np.int64(32)
_STATUS = np.int64((1 << 32) - 1)
_INDEX_BITS = 16


def marks_of(marks: Marks, events: RouteEvents) -> I64:
    """(m,) mark of each event: that of its ordinal among the routes that its message announces,
    else that of the whole message. Of several the last counts.
    """
    announced = events.action == Action.ANNOUNCE
    count = np.cumsum(announced)
    first = np.searchsorted(events.message, events.message)
    ordinal = count - (count - announced)[first]
    value = marks.status.astype(np.int64) | (marks.reason + 1) << _REASON_SHIFT
    key = marks.message << _INDEX_BITS | marks.index
    order = np.argsort(key, kind="stable")
    key, value = key[order], value[order]

    def found(index: I64) -> I64:
        wanted = events.message << _INDEX_BITS | index
        at = np.searchsorted(key, wanted, side="right") - 1
        return np.where((at >= 0) & (key[at] == wanted), value[at], NO_MARK)

    own, whole = found(ordinal), found(np.zeros_like(ordinal))
    return np.where(announced, np.where(own != NO_MARK, own, whole), NO_MARK)


def status_text(mark: int) -> str:
    """The names of a mark's path status, a word each."""
    return " ".join(name.replace(" ", "-") for name in status_names(mark & int(_STATUS)))


def mark_reason(marks: I64) -> I64:
    """(n,) reasons of marks, -1 without."""
    return np.where(marks == NO_MARK, -1, (marks >> _REASON_SHIFT) - 1)
