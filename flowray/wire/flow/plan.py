"""A template compiled to a plan: which octets of a record go to which word of a native batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from flowray.columns import Layout
from flowray.field import Alternatives, Element, Field, Kind, Merge
from flowray.fields import REGISTRY
from flowray.wire.flow.rates import PAIRS, RatePair
from flowray.wire.flow.template import REVERSE_PEN, VARIABLE, Template, TemplateField


class Op(IntEnum):
    """What the compiled loop does with a field."""

    UINT = 0
    IPV4 = 1
    IPV6 = 2
    LOCATION = 3
    CONSTANT = 4
    SECONDS = 5
    MILLISECONDS = 6
    NTP = 7
    BEFORE_EXPORT_US = 8
    UPTIME = 9
    SINCE_BOOT = 10


START_ELEMENTS: dict[int, Op] = {
    156: Op.NTP,
    154: Op.NTP,
    152: Op.MILLISECONDS,
    158: Op.BEFORE_EXPORT_US,
    150: Op.SECONDS,
    22: Op.UPTIME,
    325: Op.NTP,
    324: Op.NTP,
    323: Op.MILLISECONDS,
    322: Op.SECONDS,
}
END_ELEMENTS: dict[int, Op] = {
    157: Op.NTP,
    155: Op.NTP,
    153: Op.MILLISECONDS,
    159: Op.BEFORE_EXPORT_US,
    151: Op.SECONDS,
    21: Op.UPTIME,
    325: Op.NTP,
    324: Op.NTP,
    323: Op.MILLISECONDS,
    322: Op.SECONDS,
}
TIME_ELEMENTS = {"timestamp_start": START_ELEMENTS, "timestamp_end": END_ELEMENTS}
"""Elements that tell a time, the most precise one first: of those that a record has, the first that
is not zero counts.
"""

BOOT_ELEMENT = 160

NAMES_SAMPLER, NAMES_INTERFACE = 1, 2
"""What a record's `_sampler` is, in `_has_sampler`: rates are told by sampler or by interface."""

NO_DIRECTION = 255
"""flowDirection of records that do not tell it."""

IPV4_LENGTH, IPV6_LENGTH = 4, 16

TUNNEL = {
    "src_host": "tunnel_src_host",
    "dst_host": "tunnel_dst_host",
    "proto": "tunnel_proto",
    "tos": "tunnel_tos",
    "flow_label": "tunnel_flow_label",
    "src_port": "tunnel_src_port",
    "dst_port": "tunnel_dst_port",
    "tcpflags": "tunnel_tcpflags",
}
"""Flow field -> where the outer header's value goes if a record has two headers."""

_MASKS: dict[str, tuple[str, dict[int, Element]]] = {
    "src_mask": ("src_host", {IPV4_LENGTH: 9, IPV6_LENGTH: 29}),
    "dst_mask": ("dst_host", {IPV4_LENGTH: 13, IPV6_LENGTH: 30}),
}
"""Prefix length -> the address that it is of, and its element by the length of that address."""

_SWAPPED = {
    "src_host": "dst_host",
    "src_port": "dst_port",
    "src_mac": "dst_mac",
    "src_mask": "dst_mask",
    "src_as": "dst_as",
    "peer_src_as": "peer_dst_as",
    "in_iface": "out_iface",
    "in_vlan": "out_vlan",
    "in_cvlan": "out_cvlan",
    "post_nat_src_host": "post_nat_dst_host",
    "post_nat_src_port": "post_nat_dst_port",
    "_ingress_vrf": "_egress_vrf",
}
PARTNER = _SWAPPED | {b: a for a, b in _SWAPPED.items()}
"""Field -> the field that holds its value seen from the other end (RFC 5103 section 4)."""

REVERSE_COUNTERS: dict[str, Alternatives] = {
    "packets": (((REVERSE_PEN, 2),), ((REVERSE_PEN, 86),), (299,)),
    "bytes": (((REVERSE_PEN, 1),), ((REVERSE_PEN, 85),), (232,)),
    "flows": (),
}
"""Counters of the reverse direction: RFC 5103 elements, responder counters of Cisco ASA."""


REGISTRY_ELEMENTS: dict[str, Alternatives] = {name: f.elements for name, f in REGISTRY.items()}


@dataclass(slots=True)
class Plan:
    """How to decode records of one template in one direction.

    ops: (m, 6) int64 rows of (Op, octet offset or field ordinal, width, word row, only if unset,
    argument). unset: word rows that no op fills. interned: word rows that hold locations to intern,
    texts those of them that end at their first NUL.
    frame_link: link type of the sampled frame in `_frame`, or 0. rate: where two elements tell the
    sampling rate, whose location is in `_rate` then.
    """

    ops: npt.NDArray[np.int64]
    unset: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    record_size: int
    variable: bool
    interned: tuple[int, ...]
    texts: frozenset[int] = frozenset()
    frame_link: int = 0
    rate: RatePair | None = None
    reverse: bool = False


@dataclass(slots=True)
class _Ops:
    rows: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    filled: set[int] = field(default_factory=set)
    interned: set[int] = field(default_factory=set)

    def add(self, op: Op, place: int, width: int, dest: int, argument: int = 0) -> None:
        self.rows.append((op, place, width, dest, int(dest in self.filled), argument))
        self.filled.add(dest)


class _Places:
    """Where the elements of a template stand in its records."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.by_element: dict[Element, list[int]] = defaultdict(list)
        self.offset: list[int] = []
        at = 0
        for i, f in enumerate(template.fields):
            self.offset.append(i if template.variable else at)
            at += f.length
            if f.length:
                self.by_element[(f.pen, f.element) if f.pen else f.element].append(i)
        # Templates of two headers (SRv6, IP in IP) have the protocol twice, or both addresses if
        # the headers are of one family and share the protocol field.
        self.two_headers = any(map(self._all_twice, ((4,), (8, 12), (27, 28))))

    def _all_twice(self, elements: tuple[int, ...]) -> bool:
        return all(len(self.by_element.get(e, ())) > 1 for e in elements)

    def field(self, ordinal: int) -> TemplateField:
        return self.template.fields[ordinal]

    def find(self, alternatives: Alternatives) -> list[int]:
        """Ordinals that serve: the members of the first group of which there is any, in order of
        preference.
        """
        for group in alternatives:
            ordinals = [i for element in group for i in self.by_element.get(element, ())]
            if ordinals:
                return ordinals
        return []


def compile_plan(
    template: Template, layout: Layout, *, reverse: bool = False, whole_seconds: bool = False
) -> Plan:
    """Compile a template for the fields of a layout; `reverse` for the second row of a biflow."""
    places = _Places(template)
    ops = _Ops()
    for f in layout.fields:
        _compile_field(f, layout, places, ops, reverse=reverse, whole_seconds=whole_seconds)
    frame = places.find(layout.fields[layout.names.index("_frame")].elements)
    link = (11 if places.field(frame[0]).element == 313 else 1) if frame else 0
    rows = np.array(ops.rows, np.int64).reshape(-1, 6)
    unset = [i for i in range(layout.words) if i not in ops.filled]
    return Plan(
        ops=rows,
        unset=np.array(unset, np.int64),
        widths=np.array([f.length for f in template.fields], np.int64),
        record_size=template.least_size,
        variable=template.variable,
        interned=tuple(sorted(ops.interned)),
        texts=frozenset(layout.index(f.name) for f in layout.fields if f.kind is Kind.TEXT),
        frame_link=link,
        rate=_rate_pair(places, layout.get("_rate")),
        reverse=reverse,
    )


def reversible(template: Template) -> bool:
    """Whether records hold counters of both directions."""
    elements = {(f.pen, f.element) for f in template.fields if f.length}
    forward = elements & {(0, 1), (0, 2), (0, 85), (0, 86), (0, 231), (0, 298)}
    backward = elements & {(REVERSE_PEN, e) for e in (1, 2, 85, 86)} or elements & {
        (0, 232),
        (0, 299),
    }
    return bool(forward and backward)


def _compile_field(
    f: Field, layout: Layout, places: _Places, ops: _Ops, *, reverse: bool, whole_seconds: bool
) -> None:
    dest = layout.index(f.name)
    if f.name in TIME_ELEMENTS:
        _compile_time(f.name, dest, places, ops, reverse=reverse, whole_seconds=whole_seconds)
        return
    if f.name == "_has_vrf":
        if places.find(((234, 235),)):
            ops.add(Op.CONSTANT, 0, 0, dest, 1)
        return
    if f.name == "_has_sampler":
        if named := places.find(REGISTRY_ELEMENTS["_sampler"]):
            by_id = places.field(named[0]).element in (302, 48)
            ops.add(Op.CONSTANT, 0, 0, dest, NAMES_SAMPLER if by_id else NAMES_INTERFACE)
        return
    if f.name == "_rate" and _rate_pair(places, dest) is not None:
        (first,) = places.by_element[_pair_told(places)[0]][:1]
        ops.add(Op.LOCATION, places.offset[first], places.field(first).length, dest)
        return
    ordinals = _ordinals(f, places, reverse=reverse)
    for ordinal in ordinals:
        _add_value(f, dest, ordinal, places, ops)
    if f.name == "sampling_direction" and not ordinals:
        ops.add(Op.CONSTANT, 0, 0, dest, NO_DIRECTION)
    if f.name in ("flows", "_records"):
        ops.add(Op.CONSTANT, 0, 0, dest, 1)


def _ordinals(f: Field, places: _Places, *, reverse: bool) -> Sequence[int]:
    if reverse and f.name in REVERSE_COUNTERS:
        return places.find(REVERSE_COUNTERS[f.name])
    outer_of = {v: k for k, v in TUNNEL.items()}
    if f.name in outer_of:
        if not places.two_headers:
            return []
        both = _in_order(places, REGISTRY_ELEMENTS[outer_of[f.name]])
        return both[:1] if len(both) > 1 else []
    elements = f.elements
    if reverse:
        elements = _reversed_elements(f)
    if f.name in TUNNEL and places.two_headers:
        # The inner header is the flow; a field that the record has once is the flow's.
        found = _in_order(places, elements)
        return found[1:] or found
    if f.name in _MASKS and places.two_headers:
        # The prefix length of an outer IPv6 address is not that of an inner IPv4 one.
        address, by_length = _MASKS[f.name]
        hosts = _in_order(places, REGISTRY_ELEMENTS[address])
        hosts = hosts[1:] or hosts
        elements = (tuple({by_length.get(places.field(i).length, 0): None for i in hosts}),)
    return places.find(elements)


def _pair_told(places: _Places) -> tuple[int, int]:
    """The elements that tell the sampling rate together; (0, 0) if the template has no pair."""
    told = (p for p in PAIRS if places.by_element.get(p[0]) and places.by_element.get(p[1]))
    return next(told, (0, 0))


def _rate_pair(places: _Places, word: int) -> RatePair | None:
    """None, too, if something of variable length stands between the two."""
    elements = _pair_told(places)
    if word < 0 or elements == (0, 0):
        return None
    first, second = (places.by_element[e][0] for e in elements)
    begin, end = sorted((first, second))
    lengths = [f.length for f in places.template.fields]
    if VARIABLE in (*lengths[begin:end], lengths[end]):
        return None
    octets = sum(lengths[begin:end])
    offset = octets if first < second else -octets
    return RatePair(word, offset, (lengths[first], lengths[second]), spaced=elements == PAIRS[1])


def _in_order(places: _Places, alternatives: Alternatives) -> list[int]:
    return sorted(i for group in alternatives for e in group for i in places.by_element.get(e, ()))


def _reversed_elements(f: Field) -> Alternatives:
    """Elements of a field in the reverse direction: its own reverse elements, else the partner's
    forward ones.
    """
    forward = REGISTRY_ELEMENTS.get(PARTNER.get(f.name, f.name), f.elements)
    own = tuple((REVERSE_PEN, e) for group in f.elements for e in group if isinstance(e, int))
    if f.merge is not Merge.KEY:
        # What is measured and no part of the flow key is of the forward direction alone.
        return (own,)
    if f.name in PARTNER or not own:
        return forward
    return (own, *forward)


def _add_value(f: Field, dest: int, ordinal: int, places: _Places, ops: _Ops) -> None:
    width = places.field(ordinal).length
    place = places.offset[ordinal]
    if f.kind is Kind.ADDRESS:
        _add_address(dest, place, width, ops)
    elif f.kind.interned or f.name == "_frame":
        ops.add(Op.LOCATION, place, width, dest)
        if f.kind.interned:
            ops.interned.add(dest)
    else:
        ops.add(Op.UINT, place, width, dest)


def _add_address(dest: int, place: int, width: int, ops: _Ops) -> None:
    op = {IPV4_LENGTH: Op.IPV4, IPV6_LENGTH: Op.IPV6}.get(width)
    if op is not None:
        ops.add(op, place, width, dest)
        ops.filled.add(dest + 1)


def _compile_time(
    name: str, dest: int, places: _Places, ops: _Ops, *, reverse: bool, whole_seconds: bool
) -> None:
    boot = places.by_element.get(BOOT_ELEMENT)
    told: list[tuple[Element, Op]] = list(TIME_ELEMENTS[name].items())
    if reverse:
        told = [*(((REVERSE_PEN, e), op) for e, op in TIME_ELEMENTS[name].items()), *told]
    for element, op in told:
        for ordinal in places.by_element.get(element, ())[:1]:
            use = Op.SINCE_BOOT if op is Op.UPTIME and boot else op
            argument = 0
            if boot:
                argument = places.offset[boot[0]] << 17 | places.field(boot[0]).length << 1
            width = places.field(ordinal).length
            ops.add(use, places.offset[ordinal], width, dest, argument | int(whole_seconds))


V5_RECORD = Template(
    0,
    tuple(
        TemplateField(element, length)
        for element, length in (
            (8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2),
            (11, 2), (210, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (210, 2),
        )
    ),
)  # fmt: skip
"""The fixed record of NetFlow v5 (48 octets) as a template, so that it takes the same path."""
