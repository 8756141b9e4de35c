"""NLRI of families that are not of prefixes, as text and fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowray.wire.bgp.families import Family

__all__ = ["Nlri", "read_nlri"]


@dataclass(frozen=True, slots=True)
class Nlri:
    """What an NLRI identifies: one text, and its fields by JSON key."""

    text: str
    fields: Mapping[str, object]


def read_nlri(family: Family, raw: bytes) -> Nlri:
    """An NLRI, path identifier excluded. What cannot be read is its octets in hexadecimal."""
    del family
    return Nlri(raw.hex(), {})
