"""Values of dictionary columns as text, lists and maps: one call per column, never per row."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flowray.sinks.buffers import Array
from flowray.sinks.encoding import Encoding

__all__ = ["hyphenated", "labels", "members", "segments", "stacks", "texts", "words"]


def _values(array: Array) -> list[Any]:
    return array.to_pylist()


def _decoded(values: Array) -> Array:
    """Bytes as text. What is not UTF-8 is replaced: a bad name must not hold up a commit."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([v.decode("utf-8", "replace") for v in _values(values)], pa.string())


def texts(values: Array, encoding: Encoding) -> Array:
    """Text as it is."""
    del encoding
    return _decoded(values)


def words(values: Array, encoding: Encoding, name: str, joint: str) -> Array:
    """Values separated by blanks, as lists or with `joint` between. `name` is that of the field."""
    listed = encoding.as_path if name.endswith("as_path") else encoding.communities
    texts = _decoded(values)
    if name.endswith("ext_comm") or name == "ecomms":
        texts = _as_pmacct(texts, encoding)
    if listed == "text":
        return texts if joint == " " else pc.replace_substring(texts, " ", joint)
    return pa.array([text.split() for text in _values(texts)], pa.list_(pa.string()))


def _as_pmacct(texts: Array, encoding: Encoding) -> Array:
    """Extended communities; pmacct has no text for most kinds in the records of its Avro form."""
    if encoding.records != "null-filled":
        return texts
    return pa.array(
        [
            " ".join(c if c.startswith(("RT:", "SoO:")) else "?" for c in text.split())
            for text in _values(texts)
        ],
        pa.string(),
    )


def members(values: Array, encoding: Encoding) -> Array:
    """JSON objects as they are; JSON lines take their members for those of the row."""
    del encoding
    return _decoded(values)


def labels(values: Array, encoding: Encoding) -> Array:
    """Labels `key%value,key%value` as they are, or as objects; without `%` the value is empty."""
    if encoding.labels == "text":
        return _decoded(values)
    maps = [
        {item.partition("%")[0]: item.partition("%")[2] for item in v.split(",") if item}
        for v in _values(_decoded(values))
    ]
    return pa.array([list(m.items()) for m in maps], pa.map_(pa.string(), pa.string()))


def hyphenated(values: Array, encoding: Encoding) -> Array:
    """Bytes as upper-case hexadecimal joined by hyphens, as pmacct writes `raw` fields."""
    del encoding
    return pa.array([v.hex("-").upper() for v in _values(values)], pa.string())


def stacks(values: Array, encoding: Encoding) -> Array:
    """MPLS stacks as `position-label` items, or the labels joined by commas.

    An entry has four bytes: one of position, three of label.
    """
    read = [
        [(v[i], int.from_bytes(v[i + 1 : i + 4], "big")) for i in range(0, len(v) - 3, 4)]
        for v in _values(values)
    ]
    if encoding.mpls_label_stack == "text":
        return pa.array([",".join(str(n) for _, n in stack) for stack in read], pa.string())
    return pa.array([[f"{i}-{n}" for i, n in s] for s in read], pa.list_(pa.string()))


def segments(values: Array, encoding: Encoding) -> Array:
    """SRv6 segment lists as `position-address` items, 16 bytes a segment (RFC 9487)."""
    del encoding
    lists = [
        [f"{i // 16}-{IPv6Address(v[i : i + 16])}" for i in range(0, len(v) - 15, 16)]
        for v in _values(values)
    ]
    return pa.array(lists, pa.list_(pa.string()))
