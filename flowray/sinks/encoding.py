"""How values are written: the rendering switches, in pmacct's terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Encoding"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """The choices of writing values, after pmacct's switches.

    `records`: `rows` writes the fields asked for; `plain` is pmacct's JSON (`event_type` first);
    `null-filled` is its Avro turned to JSON: counters not asked for are null and operator-declared
    fields are nested in `custom_primitives`; extended communities other than route targets and
    origins are question marks. `precision` is that of timestamps; `stamp_inserted` and
    `stamp_updated` always have whole seconds. `as_path` and `communities` (of all kinds) are lists,
    or a text with blanks between, in rows of flows with underscores. `timestamps`: `typed` is a
    timestamp of the file format, null where unknown, which is what Parquet gets in place of
    `rfc3339` text. `tos`: the whole octet, or the DSCP in its six high bits. `writer_id`, if not
    empty, becomes the last key.
    """

    records: Literal["rows", "plain", "null-filled"] = "rows"
    labels: Literal["text", "map"] = "text"
    tcp_flags: Literal["list", "int"] = "list"
    forwarding_status: Literal["text", "number"] = "text"
    mpls_label_stack: Literal["list", "text"] = "list"
    as_path: Literal["list", "text"] = "text"
    communities: Literal["list", "text"] = "text"
    timestamps: Literal["epoch", "rfc3339", "text", "typed"] = "rfc3339"
    precision: Literal["s", "ms", "us", "ns"] = "us"
    protocols: Literal["name", "number"] = "name"
    tos: Literal["tos", "dscp"] = "tos"
    writer_id: str = ""
