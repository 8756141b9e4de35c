"""Compile or load the kernels of this package ahead of the first commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from flowray.arrow import arrow_type
from flowray.field import Field, Kind
from flowray.fields import REGISTRY
from flowray.route_fields import ROUTE_FIELDS
from flowray.sinks.buffers import Array
from flowray.sinks.encoding import Encoding
from flowray.sinks.jsonl import to_jsonl
from flowray.sinks.render import render

__all__ = ["made_up_row", "warm_up"]


def warm_up() -> None:
    """Render one row of every field to JSON lines; numba keeps what that compiles on disk."""
    streams = ROUTE_FIELDS.public()
    to_jsonl(render(made_up_row(streams), streams, Encoding()))
    declared = Field("declared", "declared", Kind.UINT, 32, custom=True)
    fields = [*REGISTRY.public(), declared]
    to_jsonl(render(made_up_row(fields), fields, Encoding()))


def made_up_row(fields: Sequence[Field]) -> pa.Table:
    """A native row of these fields, all of them zero or empty."""
    columns = {f.name: _zero(f) for f in fields}
    return pa.table({**columns, "_others": pa.array([True])})


def _zero(field: Field) -> Array:
    kind: Any = arrow_type(field)
    octets = pa.types.is_fixed_size_binary(kind)
    if pa.types.is_dictionary(kind):
        return pa.array([b""], pa.binary()).dictionary_encode()
    zero: Array = pa.array([bytes(kind.byte_width) if octets else 0], kind)
    return zero
