"""Data sets of a template to native columns, a portion of records at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns, Layout, Words
from flowray.hashing import Interner
from flowray.ingest.options import without_padding
from flowray.wire.flow import kernels as k
from flowray.wire.flow.dissect import destinations
from flowray.wire.flow.frames import dissect_frames
from flowray.wire.flow.plan import Plan
from flowray.wire.flow.rates import rates

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

PORTION = 1 << 13
"""Records decoded in one go, give or take a set: their columns stay in the processor's cache until
the views have folded them.
"""


class Extractor:
    """Fills the columns of a layout from records. Every portion goes to the same words."""

    def __init__(self, layout: Layout, tunnels: int) -> None:
        self._layout = layout
        self._tunnels = tunnels
        self._frame_fields = destinations(layout)
        self._words: Words = np.empty((layout.words, 2 * PORTION), np.uint64)

    def extract(
        self, buf: U8, header: I64, sets: I64, chosen: I64, plan: Plan, texts: Interner
    ) -> Iterator[Columns]:
        """Columns of the sets chosen (indices), which are of the plan's template; each is void when
        the next one is asked for. `header` (messages, HEADER_COLUMNS): their records are counted.
        """
        for portion, most in _portions(sets, chosen, plan.record_size):
            # Records of the reverse direction are the same records: they count once.
            counted = header.copy() if plan.reverse else header
            columns = self._fill(buf, counted, sets, portion, most, plan)
            self._complete(buf, columns, plan, texts)
            if plan.reverse:
                columns = columns.take((columns["packets"] != 0) | (columns["bytes"] != 0))
            if columns.n:
                yield columns

    def _fill(self, buf: U8, header: I64, sets: I64, chosen: I64, most: int, plan: Plan) -> Columns:
        """Columns of the sets chosen, which have `most` records at most."""
        if most > self._words.shape[1]:
            self._words = np.empty((self._layout.words, 2 * most), np.uint64)
        packet_row = self._layout.index("_packet")
        if plan.variable:
            rows = k.extract_variable(
                buf, sets, chosen, plan.widths, plan.record_size, plan.ops, plan.unset, header,
                self._words, packet_row,
            )  # fmt: skip
        else:
            rows = k.extract_fixed(
                buf, sets, chosen, plan.record_size, plan.ops, plan.unset, header, self._words,
                packet_row,
            )  # fmt: skip
        return Columns(self._layout, self._words, rows)

    def _complete(self, buf: U8, columns: Columns, plan: Plan, texts: Interner) -> None:
        """Replace places in `buf` by what stands there."""
        for row in plan.interned:
            place = columns.words[row, : columns.n]
            place[:] = texts.intern(buf, place)
            if row in plan.texts:
                place[:] = without_padding(texts, place)
        if plan.rate is not None:
            place = columns.words[plan.rate.word, : columns.n]
            place[:] = rates(buf, place, plan.rate)
        if plan.frame_link:
            index = self._layout.index
            dissect_frames(
                buf, columns.words, columns.n, index("_frame"), index("packets"), index("bytes"),
                plan.frame_link, self._frame_fields, self._tunnels,
            )  # fmt: skip


def _portions(sets: I64, chosen: I64, least: int) -> Iterator[tuple[I64, int]]:
    """The sets chosen in portions of about PORTION records of at least that many octets, and how
    many records each has at most.
    """
    records = np.cumsum(sets[chosen, k.S_LENGTH] // least)
    begin = before = 0
    for end in (*(np.flatnonzero(np.diff(records // PORTION)) + 1).tolist(), chosen.size):
        upto = int(records[end - 1])
        yield chosen[begin:end], upto - before
        begin, before = end, upto
