"""Path marks, and what else stands beside the UPDATEs of a batch of Route Monitoring, version 4."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowray.rib.bmp_events import Marks
from flowray.wire.bgp import bmp, bmp_kernels
from flowray.wire.bgp.bmp import Tlv
from flowray.wire.bgp.bmp_route_tlvs import PathMark
from flowray.wire.bgp.events import I64, U8, Updates

_TLV_HEADER = 6
_SHORTEST_MARK = 10


def tlvs_beside(
    updates: Updates, row: int, begin: int, end: int, update_type: int
) -> tuple[Tlv, ...]:
    """The TLVs from `begin` to `end` of a Route Monitoring message, but for the one around its
    UPDATE, which is in `row`; `update_type` is the type of that TLV, -1 without. Raises BmpError.
    """
    update = int(updates.offset[row])
    if update_type < 0:
        return _indexed_tlvs(updates.buf, update + int(updates.length[row]), end)
    octets = int.from_bytes(updates.buf[update - 4 : update - 2].tobytes())
    return (
        *_indexed_tlvs(updates.buf, begin, update - _TLV_HEADER),
        *_indexed_tlvs(updates.buf, update + octets, end),
    )


def _indexed_tlvs(buf: U8, begin: int, end: int) -> tuple[Tlv, ...]:
    return bmp.read_tlvs(buf[begin:end].tobytes(), version=4, indexed=True)


def plain_marks(
    buf: U8, begin: I64, end: I64, update: I64, kind: I64, override: int | None
) -> tuple[Marks, npt.NDArray[np.bool_]]:
    """Marks of the messages (n,) that hold nothing else beside their UPDATE, with their row among
    these columns, and which those are, (n,) bool. The columns are those of `find_marks`.
    """
    room = int((end - begin).sum()) // _SHORTEST_MARK
    plain = np.zeros(len(begin), np.bool_)
    marks = Marks(
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.uint32),
        np.empty(room, np.int64),
    )
    count = bmp_kernels.find_marks(
        buf,
        begin,
        end,
        update,
        kind,
        -1 if override is None else override,
        plain,
        marks.message,
        marks.index,
        marks.status,
        marks.reason,
    )
    return _taken(marks, np.arange(count)), plain


def _taken(marks: Marks, rows: I64) -> Marks:
    return Marks(marks.message[rows], marks.index[rows], marks.status[rows], marks.reason[rows])


def joined_marks(marks: Marks, more: list[tuple[int, PathMark]]) -> Marks | None:
    """All marks in the order of their messages, None for none."""
    joined = Marks(
        np.append(marks.message, np.array([row for row, _ in more], np.int64)),
        np.append(marks.index, np.array([mark.index for _, mark in more], np.int64)),
        np.append(marks.status, np.array([mark.status for _, mark in more], np.uint32)),
        np.append(
            marks.reason,
            np.array([-1 if mark.reason is None else mark.reason for _, mark in more], np.int64),
        ),
    )
    if not len(joined.message):
        return None
    return _taken(joined, np.argsort(joined.message, kind="stable")) if more else joined
