"""Route origin validation of the routes of rows (RFC 6811)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowray.rib.roa import STATE_CODES, RoaSet, less_specific_states
from flowray.rib.route_columns import Routes
from flowray.wire.bgp.attribute_store import AttributeColumns
from flowray.wire.bgp.describe_kernels import HAS_AS_PATH
from flowray.wire.bgp.events import U32
from flowray.wire.bgp.families import FAMILIES, Shape

__all__ = ["row_states"]

_VALIDATED = np.zeros(256, np.bool_)
_VALIDATED[[f.index for f in FAMILIES if f.shape in (Shape.PREFIX, Shape.LABELED)]] = True


def row_states(
    routes: Routes,
    roas: RoaSet,
    sets: U32,
    columns: AttributeColumns,
    own_as: int,
    *,
    table: bool,
) -> Sequence[str | None]:
    """Letters of `STATE_CODES` of n routes, None for those that are not of public prefixes.

    `sets` (n,) are rows of `columns`.
    `own_as` is the origin of routes whose AS path is empty. Of a whole `table` invalid routes are
    told apart by what it has around them; a message does not tell that.
    """
    of = np.flatnonzero(_VALIDATED[routes.family])
    sets = sets[of]
    empty = (columns.present[sets] & HAS_AS_PATH) == 0
    origin = np.where(empty, np.uint32(own_as), columns.origin_as[sets]).astype(np.uint32)
    hi, lo, plen = routes.hi[of], routes.lo[of], routes.plen[of]
    state = roas.validate(hi, lo, plen, origin)
    if table:
        state = less_specific_states(hi, lo, plen, state)
    letters: list[str | None] = [None] * len(routes)
    for row, code in zip(of.tolist(), state.tolist(), strict=True):
        letters[row] = STATE_CODES[code]
    return letters
