"""How next hops are written in rows: an IPv4 address, or the same as an IPv4-mapped IPv6 one.

Routers write the next hop of an IPv6 route over an IPv4 core in the mapped form and that of its
IPv4 sibling in the plain one. pmacct keeps attributes that are equal but for this once, in the form
that came first, and writes that form for all routes that have them. Who compares rows with those of
pmacct, or groups them by next hop, wants the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from flowray.wire.bgp.attributes import Attributes

MOST_FORMS = 1 << 17
"""Attribute sets of which the form is remembered; past it all are forgotten."""

_MAPPED = bytes(10) + b"\xff\xff"


class NextHopForms:
    """Remembers the form that came first."""

    def __init__(self) -> None:
        self._first: dict[Hashable, bytes] = {}

    def __call__(self, attributes: Attributes) -> Attributes:
        """The attributes with their next hop in the form in which it is written."""
        hop = attributes.next_hop
        plain = hop.removeprefix(_MAPPED) if len(hop) == 16 else hop
        if len(plain) != 4:
            return attributes
        if len(self._first) >= MOST_FORMS:
            self._first.clear()
        first = self._first.setdefault(_alike(attributes, plain), hop)
        return attributes if first == hop else replace(attributes, next_hop=first)


def _alike(a: Attributes, next_hop: bytes) -> Hashable:
    """What pmacct compares of attributes."""
    return (
        next_hop, a.origin, a.as_path, a.med, a.local_pref, a.communities, a.extended_communities,
        a.large_communities, a.aigp, a.label_index, a.only_to_customer,
    )  # fmt: skip
