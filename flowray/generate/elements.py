"""What exporters export: values by information element, templates, options data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from flowray.generate.encode import VARIABLE, Column, TemplateSpec
from flowray.generate.population import APPLICATIONS, Flows, Prefixes
from flowray.generate.rows import U64, Bytes, address4, address16, pack

EXAMPLE_PEN = 32473
"""Enterprise number for documentation (RFC 5612): decoders must step over its elements."""

SELECTOR = 7
"""Selector (IPFIX) or sampler (v9) id that data records name and options data explain."""

NEXT_HOP_V4 = 0xC633_6400  # 198.51.100.0/24 (RFC 5737)
NEXT_HOP_V6 = 0x2001_0DB8_FFFF << 16
VRFS = 4
VRF_BASE = 100


@dataclass(frozen=True, slots=True)
class Sight:
    """Flows as one exporter sees them: which interfaces they cross, on which clock."""

    flows: Flows
    prefixes: Prefixes
    in_iface: U64
    out_iface: U64
    boot_ms: int

    def take(self, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Sight:
        """The flows where `mask` is set."""
        return Sight(
            self.flows.take(mask),
            self.prefixes,
            self.in_iface[mask],
            self.out_iface[mask],
            self.boot_ms,
        )

    @property
    def dst_as(self) -> U64:
        """Origin AS of the destination."""
        return self.prefixes.asn[self.flows.dst_prefix]

    @property
    def src_as(self) -> U64:
        """Origin AS of the source."""
        return self.prefixes.asn[self.flows.src_prefix]

    @property
    def customer(self) -> U64:
        """Prefix index of the customer's end."""
        flows = self.flows
        return np.where(flows.outbound, flows.src_prefix, flows.dst_prefix).astype(np.uint64)


def next_hop_v4(sight: Sight) -> U64:
    """Next hop by destination AS: (n,) 32-bit addresses."""
    return np.uint64(NEXT_HOP_V4 + 1) + sight.dst_as % np.uint64(200)


def next_hop_v6(sight: Sight) -> Bytes:
    """Next hop by destination AS: (n, 16)."""
    lo = np.uint64(1) + sight.dst_as % np.uint64(200)
    return address16(np.full(len(lo), NEXT_HOP_V6, np.uint64), lo)


def _label(value: U64, *, bottom: bool = False) -> U64:
    """Elements 70 to 79 have 3 bytes: label, 3 bits of traffic class, bottom of stack."""
    return value << np.uint64(4) | np.uint64(bottom)


def _application_names(sight: Sight) -> list[bytes]:
    return [APPLICATIONS[i].name.encode() for i in sight.flows.application.tolist()]


def _remarks(sight: Sight) -> list[bytes]:
    """Text of the example enterprise: sometimes empty, sometimes past 254 bytes (3-byte length)."""
    sizes = {0: 0, 1: 300}
    return [b"x" * sizes.get(port % 64, port % 16) for port in sight.flows.dst_port.tolist()]


Source: TypeAlias = Callable[[Sight], Column]

_IANA: dict[int, tuple[int, Source]] = {
    1: (8, lambda s: s.flows.octets),
    2: (8, lambda s: s.flows.packets),
    4: (1, lambda s: s.flows.proto),
    5: (1, lambda s: s.flows.tos),
    6: (1, lambda s: s.flows.tcpflags),
    7: (2, lambda s: s.flows.src_port),
    8: (4, lambda s: address4(s.flows.src_lo)),
    9: (1, lambda s: s.prefixes.length[s.flows.src_prefix]),
    10: (4, lambda s: s.in_iface),
    11: (2, lambda s: s.flows.dst_port),
    12: (4, lambda s: address4(s.flows.dst_lo)),
    13: (1, lambda s: s.prefixes.length[s.flows.dst_prefix]),
    14: (4, lambda s: s.out_iface),
    15: (4, next_hop_v4),
    16: (4, lambda s: s.src_as),
    17: (4, lambda s: s.dst_as),
    21: (4, lambda s: s.flows.end_ms - s.boot_ms),
    22: (4, lambda s: s.flows.start_ms - s.boot_ms),
    27: (16, lambda s: address16(s.flows.src_hi, s.flows.src_lo)),
    28: (16, lambda s: address16(s.flows.dst_hi, s.flows.dst_lo)),
    29: (1, lambda s: s.prefixes.length[s.flows.src_prefix]),
    30: (1, lambda s: s.prefixes.length[s.flows.dst_prefix]),
    48: (1, lambda _: SELECTOR),
    60: (1, lambda s: np.where(s.flows.v6, 6, 4)),
    61: (1, lambda _: 0),
    62: (16, next_hop_v6),
    70: (3, lambda s: _label(np.uint64(24_000) + s.flows.dst_prefix.astype(np.uint64))),
    71: (3, lambda s: _label(np.uint64(16_000) + s.dst_as % np.uint64(1000))),
    72: (3, lambda s: _label(np.uint64(300_000) + s.customer, bottom=True)),
    89: (1, lambda _: 0x40),
    96: (VARIABLE, _application_names),
    136: (1, lambda s: np.where(s.flows.end_ms - s.flows.start_ms > 30_000, 2, 1)),
    152: (8, lambda s: s.flows.start_ms),
    153: (8, lambda s: s.flows.end_ms),
    210: (3, lambda _: bytes(3)),
    234: (4, lambda s: np.uint64(VRF_BASE) + s.customer % np.uint64(VRFS)),
    235: (4, lambda s: np.uint64(VRF_BASE) + s.customer % np.uint64(VRFS)),
    302: (4, lambda _: SELECTOR),
}
VALUES: dict[tuple[int, int], tuple[int, Source]] = {
    **{(element, 0): row for element, row in _IANA.items()},
    (1, EXAMPLE_PEN): (VARIABLE, _remarks),
    (2, EXAMPLE_PEN): (4, lambda s: s.flows.application),
}
"""(element, PEN) -> its usual length and its values."""


def columns(template: TemplateSpec, sight: Sight) -> list[Column]:
    """The values of each field of `template`."""
    return [VALUES[element, pen][1](sight) for element, _, pen in template.fields]


def template(template_id: int, *elements: int | tuple[int, int]) -> TemplateSpec:
    """A data template of elements, or (element, PEN), of `VALUES` in their usual lengths."""
    keys = [e if isinstance(e, tuple) else (e, 0) for e in elements]
    return TemplateSpec(template_id, tuple((e, VALUES[e, pen][0], pen) for e, pen in keys))


_V4, _V6 = (8, 12, 9, 13, 15), (27, 28, 29, 30, 62)
_COMMON = (7, 11, 4, 5, 6, 10, 14, 16, 17, 1, 2)

IPFIX_V4 = template(256, *_V4, *_COMMON, 152, 153, 302)
IPFIX_V6 = template(257, *_V6, *_COMMON, 152, 153, 302)
IPFIX_TEXT = template(
    258, *_V4, *_COMMON, 96, 152, 153, 302, (1, EXAMPLE_PEN), (2, EXAMPLE_PEN), 136
)
IPFIX_MPLS = template(259, *_V4, *_COMMON, 152, 153, 70, 71, 72, 234, 235, 210)
IPFIX_PLAIN_V6 = template(260, *_V6, *_COMMON, 152, 153, 234, 235)
V9_V4 = template(256, *_V4, *_COMMON, 22, 21, 48)
V9_V6 = template(257, *_V6, *_COMMON, 22, 21, 48)
V9_MPLS = template(260, *_V4, *_COMMON, 22, 21, 70, 71, 72, 234, 235, 61)

OPTIONS_SELECTOR = TemplateSpec(512, ((302, 4, 0), (304, 2, 0), (305, 4, 0), (306, 4, 0)), 1)
OPTIONS_DOMAIN = TemplateSpec(513, ((149, 4, 0), (305, 4, 0), (306, 4, 0)), 1)
OPTIONS_INTERFACES = TemplateSpec(514, ((10, 4, 0), (82, VARIABLE, 0), (83, VARIABLE, 0)), 1)
OPTIONS_VRFS = TemplateSpec(515, ((234, 4, 0), (236, VARIABLE, 0), (90, 8, 0)), 1)
V9_OPTIONS_SAMPLER = TemplateSpec(512, ((1, 4, 0), (48, 1, 0), (49, 1, 0), (50, 4, 0)), 1)
V9_OPTIONS_INTERVAL = TemplateSpec(513, ((1, 4, 0), (34, 4, 0), (35, 1, 0)), 1)
V9_OPTIONS_INTERFACES = TemplateSpec(514, ((1, 4, 0), (10, 4, 0), (82, 32, 0), (83, 64, 0)), 1)
V9_OPTIONS_VRFS = TemplateSpec(515, ((1, 4, 0), (234, 4, 0), (236, 32, 0), (90, 8, 0)), 1)


@dataclass(frozen=True, slots=True)
class Node:
    """What options data tells of an exporter; `address` is 4 bytes, the value of a system scope."""

    address: bytes
    domain: int
    sampling: int
    interfaces: dict[int, tuple[bytes, bytes]]

    @property
    def vrfs(self) -> dict[int, tuple[bytes, bytes]]:
        """VRF id -> (name, route distinguisher of type 0)."""
        ids = range(VRF_BASE, VRF_BASE + VRFS)
        return {i: (b"customer-%d" % i, pack(1, (2, 0), (2, 64512), (4, i)).tobytes()) for i in ids}


def _fixed(values: list[bytes], size: int) -> Bytes:
    return np.frombuffer(b"".join(v.ljust(size, b"\0") for v in values), np.uint8).reshape(-1, size)


def _raw(values: list[bytes]) -> Bytes:
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)


def _one(value: int) -> U64:
    return np.array([value], np.uint64)


def _keys(table: dict[int, tuple[bytes, bytes]]) -> U64:
    return np.array([*table], np.uint64)


def _first(table: dict[int, tuple[bytes, bytes]]) -> list[bytes]:
    return [row[0] for row in table.values()]


def _second(table: dict[int, tuple[bytes, bytes]]) -> list[bytes]:
    return [row[1] for row in table.values()]


OPTIONS: dict[TemplateSpec, Callable[[Node], list[Column]]] = {
    OPTIONS_SELECTOR: lambda n: [_one(SELECTOR), 1, 1, n.sampling - 1],
    OPTIONS_DOMAIN: lambda n: [_one(n.domain), 1, n.sampling - 1],
    OPTIONS_INTERFACES: lambda n: [
        _keys(n.interfaces),
        _first(n.interfaces),
        _second(n.interfaces),
    ],
    OPTIONS_VRFS: lambda n: [_keys(n.vrfs), _first(n.vrfs), _raw(_second(n.vrfs))],
    V9_OPTIONS_SAMPLER: lambda n: [n.address, _one(SELECTOR), 2, n.sampling],
    V9_OPTIONS_INTERVAL: lambda n: [n.address, _one(n.sampling), 2],
    V9_OPTIONS_INTERFACES: lambda n: [
        n.address,
        _keys(n.interfaces),
        _fixed(_first(n.interfaces), 32),
        _fixed(_second(n.interfaces), 64),
    ],
    V9_OPTIONS_VRFS: lambda n: [
        n.address,
        _keys(n.vrfs),
        _fixed(_first(n.vrfs), 32),
        _raw(_second(n.vrfs)),
    ],
}
"""Options templates and the records that an exporter sends for each."""
