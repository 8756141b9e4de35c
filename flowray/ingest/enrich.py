"""Column operations that complete decoded records: header fields, options look-ups, sampling,
derived fields.

Each step fills one field (or a few that go together) of a batch from others. `STEPS` lists them
with what they need; a batch runs only those whose fields its layout holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flowray.columns import Columns, Layout
from flowray.hashing import MISSING, U64, Interner
from flowray.ingest.join import FILLS, NEEDS
from flowray.ingest.options import Options, Topic
from flowray.wire.bgp.distinguisher import rd_text
from flowray.wire.flow import kernels as k
from flowray.wire.flow.plan import NAMES_INTERFACE, NAMES_SAMPLER

if TYPE_CHECKING:
    from flowray.ingest.decode import Messages
    from flowray.ingest.group_join import GroupJoin
    from flowray.ingest.operator import OperatorMaps
    from flowray.wire.packets import Exporters

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
SEGMENT_VXLAN, SEGMENT_NVGRE = 1, 2
"""Type octet of layer2SegmentId (RFC 7133)."""


@dataclass(slots=True)
class Context:
    """What steps read besides the batch itself."""

    exporters: Exporters
    options: Options
    texts: Interner
    maps: OperatorMaps
    trust_exporters: bool = True
    join: GroupJoin | None = None


Step = Callable[[Columns, "Messages", Context], None]


_TAKEN = (
    ("_exporter", k.EXPORTER),
    ("timestamp_arrival", k.ARRIVAL),
    ("_domain", k.H_DOMAIN),
    ("timestamp_export", k.H_EXPORT),
    ("export_proto_seqno", k.H_SEQUENCE),
    ("export_proto_version", k.H_VERSION),
    ("export_proto_sysid", k.H_DOMAIN),
)
"""Fields that records have of their datagram and its message header."""


@lru_cache(maxsize=64)
def _taken(layout: Layout) -> npt.NDArray[np.int64]:
    """Those of the fields that a layout holds, as `kernels.take_headers` wants them."""
    rows = [(column, layout.index(name)) for name, column in _TAKEN if name in layout]
    return np.array(rows, np.int64)


def header_fields(c: Columns, m: Messages, x: Context) -> None:
    """Fields of the datagram and its message header, taken by the record's datagram index."""
    k.take_headers(
        c.words, c.n, c.layout.index("_packet"), m.exporter, m.arrival, m.header, _taken(c.layout)
    )
    if c.n:
        first, last = c.bounds("_packet")
        for name, values in (("timestamp_arrival", m.arrival), ("_exporter", m.exporter)):
            some = values[first : last + 1]
            c.known[name] = int(some.min()), int(some.max())
    if "peer_src_ip" in c.layout:
        _exporter_address(c, c["_exporter"], x)


def _exporter_address(c: Columns, exporter: U64, x: Context) -> None:
    """What the record tells, else what options data tells, else where the datagram came from."""
    address = c["peer_src_ip"]
    zero = (address[0] == 0) & ((address[1] == 0) | (address[1] == k.UNSET_V4))
    unset = zero if x.trust_exporters else np.ones(c.n, np.bool_)
    address[0] = np.where(unset, x.exporters.hi[exporter], address[0])
    address[1] = np.where(unset, x.exporters.lo[exporter], address[1])
    if not (x.trust_exporters and x.options.knows(Topic.EXPORTER)):
        return
    found = x.options.look_up(
        c["_exporter"], c["_domain"], Topic.EXPORTER, np.zeros(c.n, np.uint64)
    )
    for told in np.unique(found[unset & (found != MISSING)]):
        words = np.frombuffer(x.texts[int(told)], ">u8").astype(np.uint64)
        address[:, unset & (found == told)] = words[:, None]


def flow_times(c: Columns, m: Messages, x: Context) -> None:
    """Records without times have those of their message; a start or end alone stands for both."""
    del x
    start, end = c["timestamp_start"], c["timestamp_end"]
    if (start != 0).all() and (end != 0).all():
        return
    export = m.header[c["_packet"].astype(np.int64), k.H_EXPORT].astype(np.uint64)
    start[:] = np.where(start != 0, start, np.where(end != 0, end, export))
    end[:] = np.where(end != 0, end, start)


def ether_type(c: Columns, m: Messages, x: Context) -> None:
    """By the family of the outer header where the record has none."""
    del m, x
    etype, host = c["etype"], c["src_host"]
    if "tunnel_src_host" in c.layout:
        outer = c["tunnel_src_host"]
        host = np.where((outer != 0).any(axis=0), outer, host)
    v4 = (host[0] == 0) & (host[1] >> np.uint64(32) == 0xFFFF)
    family = np.where(v4, ETHERTYPE_IPV4, ETHERTYPE_IPV6)
    none = (host == 0).all(axis=0)
    etype[:] = np.where(etype == 0, np.where(none, 0, family), etype)


def networks(c: Columns, m: Messages, x: Context) -> None:
    """Addresses cut to their masks."""
    del m, x
    for side in ("src", "dst"):
        if f"{side}_net" in c.layout:
            index = c.layout.index
            k.mask_address(
                c.words, index(f"{side}_host"), index(f"{side}_mask"), index(f"{side}_net"), c.n
            )


def label_stack(c: Columns, m: Messages, x: Context) -> None:
    """The MPLS label stack, its top and its bottom."""
    del m
    first = c.layout.index("_mpls_1")
    entries = c.words[first : first + 10, : c.n]
    if "mpls_label_stack" in c.layout:
        if not entries.any():
            c["mpls_label_stack"][:] = 0
        else:
            raw = np.zeros(c.n * 40, np.uint8)
            location = np.empty(c.n, np.uint64)
            k.stack_labels(c.words, first, c.n, raw, location)
            c["mpls_label_stack"][:] = x.texts.intern(raw, location)
    label = entries >> np.uint64(4)
    present = entries != 0
    rows = np.arange(c.n)
    if "mpls_label_top" in c.layout:
        c["mpls_label_top"][:] = label[present.argmax(axis=0), rows]
    if "mpls_label_bottom" in c.layout:
        c["mpls_label_bottom"][:] = label[9 - present[::-1].argmax(axis=0), rows]


def segment_id(c: Columns, m: Messages, x: Context) -> None:
    """VXLAN or NVGRE identifier out of layer2SegmentId (RFC 7133)."""
    del m, x
    segment = c["_segment"]
    kind, number = segment >> np.uint64(56), segment & np.uint64(0xFFFFFF)
    for name, code in (("vxlan", SEGMENT_VXLAN), ("nvgre", SEGMENT_NVGRE)):
        if name in c.layout:
            c[name][:] = np.where((segment != 0) & (kind == code), number, c[name])


def _named(c: Columns, x: Context, topic: Topic, key: U64) -> U64:
    """Interned names of ids, the empty string where none is known."""
    found = x.options.look_up(c["_exporter"], c["_domain"], topic, key)
    return np.where(found == MISSING, np.uint64(0), found)


def interface_names(c: Columns, m: Messages, x: Context) -> None:
    """Names of interface indices as told by options data."""
    del m
    for side in ("in", "out"):
        if f"{side}_iface_name" in c.layout:
            c[f"{side}_iface_name"][:] = _named(c, x, Topic.INTERFACE, c[f"{side}_iface"])


def application_name(c: Columns, m: Messages, x: Context) -> None:
    """Name of the application id as told by options data (RFC 6759), else "unknown"."""
    del m
    name = _named(c, x, Topic.APPLICATION, c["_application"])
    c["class"][:] = np.where(name == 0, np.uint64(x.texts.add(b"unknown")), name)


def vrf_names(c: Columns, m: Messages, x: Context) -> None:
    """Names of the ingress and egress VRF, each for itself."""
    del m
    for side in ("ingress", "egress"):
        if f"{side}_vrf_name" in c.layout:
            c[f"{side}_vrf_name"][:] = _named(c, x, Topic.VRF_NAME, c[f"_{side}_vrf"])


def route_distinguisher(c: Columns, m: Messages, x: Context) -> None:
    """RD of the ingress VRF if known and not zero, else of the egress VRF, else 0:0:0; by VRF id if
    the exporter tells no RDs at all. The VRF's name follows the same choice.
    """
    del m
    none = np.uint64(x.texts.add(b"0:0:0"))
    unknown, flow = np.uint64(x.texts.add(b"unknown")), np.uint64(x.texts.add(b"flow"))
    ingress, egress = c["_ingress_vrf"], c["_egress_vrf"]
    by_ingress = x.options.look_up(c["_exporter"], c["_domain"], Topic.VRF_RD, ingress)
    by_egress = x.options.look_up(c["_exporter"], c["_domain"], Topic.VRF_RD, egress)
    told = x.options.look_up(c["_exporter"], c["_domain"], Topic.RD_TOLD, np.zeros_like(ingress))
    ingress_known = (by_ingress != MISSING) & (by_ingress != none)
    egress_known = (by_egress != MISSING) & (by_egress != none)
    rd = np.where(ingress_known, by_ingress, np.where(egress_known, by_egress, none))
    use_egress = ~ingress_known & egress_known
    has_vrf = c["_has_vrf"] != 0
    vrf_id = np.where(ingress != 0, ingress, egress)
    by_id = has_vrf & (told == MISSING) & (vrf_id != 0)
    if by_id.any():
        rd = np.where(by_id, _interned(x.texts, vrf_id, lambda v: f"vrfid:{v}"), rd)
    if "_rd" in c.layout and c["_rd"].any():
        rd = np.where(c["_rd"] != 0, _interned(x.texts, c["_rd"], rd_text), rd)
        has_vrf = has_vrf | (c["_rd"] != 0)
    known = has_vrf & (by_id | (told != MISSING) | (rd != none))
    if "mpls_vpn_rd" in c.layout:
        c["mpls_vpn_rd"][:] = np.where(known, rd, none)
    if "mpls_vpn_rd_origin" in c.layout:
        c["mpls_vpn_rd_origin"][:] = np.where(known, flow, unknown)
    if "vrf_name" in c.layout:
        names = [_named(c, x, Topic.VRF_NAME, v) for v in (ingress, egress)]
        c["vrf_name"][:] = np.where(use_egress | (names[0] == 0), names[1], names[0])


def _interned(texts: Interner, values: U64, render: Callable[[int], str]) -> U64:
    """Ids of rendered values; each distinct value is rendered once."""
    distinct, inverse = np.unique(values, return_inverse=True)
    ids = texts.add_all(render(int(v)).encode() for v in distinct)
    return ids[inverse]


def sampling_rate(c: Columns, m: Messages, x: Context) -> None:
    """The rate that applies, 0 if none is known: operator's, sampler's by options, the record's,
    the ingress interface's by options, the domain's default by options, the message header's, that
    of all samplers of the domain if they agree and the record names none.
    """
    rate = c["_rate"]
    override = x.maps.rates(x.exporters)
    if override is not None or x.options.knows(Topic.SAMPLER):
        exporter = c["_exporter"].view(np.int64)
        first = np.zeros(c.n, np.uint64) if override is None else override[exporter]
        first = _told_rates(first, c, x, Topic.SAMPLER, NAMES_SAMPLER)
        rate = np.where(first == 0, rate, first)
    rate = _told_rates(rate, c, x, Topic.INTERFACE_RATE, NAMES_INTERFACE)
    packet = c["_packet"].view(np.int64)
    begin, end = c.bounds("_packet")
    end += 1
    default = _default_rates(m, x, slice(begin, end))
    applied = c["sampling_rate"]
    agreed_rates = x.options.knows(Topic.AGREED_RATE)
    if not agreed_rates and (default == default[0]).all() and not rate.any():
        applied[:] = default[0]
        c.known["sampling_rate"] = int(default[0]), int(default[0])
        return
    k.rates_with_default(rate, default, packet, begin, applied)
    if agreed_rates:
        agreed = _facts_of_domains(m, x, Topic.AGREED_RATE, slice(begin, end))[packet - begin]
        unnamed = c["_has_sampler"] != NAMES_SAMPLER
        applied[:] = np.where((applied == 0) & unnamed & (agreed != MISSING), agreed, applied)


def _told_rates(rate: U64, c: Columns, x: Context, topic: Topic, named: int) -> U64:
    """(n,) rates, where there was none the one that options tell of the record's sampler or
    interface.
    """
    if not x.options.knows(topic):
        return rate
    found = x.options.look_up(c["_exporter"], c["_domain"], topic, c["_sampler"])
    usable = (rate == 0) & (c["_has_sampler"] == named) & (found != MISSING)
    return np.where(usable, found, rate)


def _default_rates(m: Messages, x: Context, some: slice) -> U64:
    """Rates that records of some messages have if they tell none: of the domain, else of the
    header.
    """
    header = m.header[some, k.H_SAMPLING].astype(np.uint64)
    if not x.options.knows(Topic.DEFAULT_RATE):
        return header
    found = _facts_of_domains(m, x, Topic.DEFAULT_RATE, some)
    return np.where(found == MISSING, header, found)


def _facts_of_domains(m: Messages, x: Context, topic: Topic, some: slice) -> U64:
    """What options tell of the domains of some messages, or MISSING."""
    domain = m.header[some, k.H_DOMAIN].astype(np.uint64)
    exporter = m.exporter[some].astype(np.uint64)
    return x.options.look_up(exporter, domain, topic, np.zeros_like(domain))


def label(c: Columns, m: Messages, x: Context) -> None:
    """What the label map says of the exporter."""
    del m
    ids = x.maps.label_ids(x.exporters, x.texts)
    c["label"][:] = 0 if ids is None else ids[c["_exporter"].astype(np.int64)]


def routes(c: Columns, m: Messages, x: Context) -> None:
    """What the routes of the exporter say of source and destination."""
    del m
    assert x.join is not None, "a step of those that `steps_for` gives with a join alone"
    x.join.fill(c, x.exporters, x.texts)


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step, the fields that it fills, and those it reads."""

    step: Step
    fills: tuple[str, ...]
    needs: tuple[str, ...]


_VRF = ("_ingress_vrf", "_egress_vrf", "_exporter", "_domain")
_MPLS = tuple(f"_mpls_{i}" for i in range(1, 11))

STEPS: tuple[StepRow, ...] = (
    StepRow(header_fields, ("peer_src_ip",), ("_domain",)),
    StepRow(flow_times, ("timestamp_start", "timestamp_end"), ("timestamp_start", "timestamp_end")),
    StepRow(ether_type, ("etype",), ("src_host", "tunnel_src_host")),
    StepRow(label_stack, ("mpls_label_stack", "mpls_label_top", "mpls_label_bottom"), _MPLS),
    StepRow(segment_id, ("vxlan", "nvgre"), ("_segment",)),
    StepRow(
        interface_names,
        ("in_iface_name", "out_iface_name"),
        ("in_iface", "out_iface", "_exporter", "_domain"),
    ),
    StepRow(application_name, ("class",), ("_application", "_exporter", "_domain")),
    StepRow(vrf_names, ("ingress_vrf_name", "egress_vrf_name"), _VRF),
    StepRow(
        route_distinguisher,
        ("mpls_vpn_rd", "mpls_vpn_rd_origin", "vrf_name"),
        (*_VRF, "_has_vrf", "_rd"),
    ),
    StepRow(routes, FILLS, NEEDS),
    StepRow(
        networks,
        ("src_net", "dst_net"),
        ("src_host", "src_mask", "dst_host", "dst_mask"),
    ),
    StepRow(
        sampling_rate,
        ("sampling_rate",),
        ("_sampler", "_has_sampler", "_rate", "_exporter", "_domain"),
    ),
    StepRow(label, ("label",), ("_exporter",)),
)

ALWAYS = ("_packet", "_exporter", "_frame", "timestamp_arrival", "packets", "bytes", "flows")
"""Fields every batch holds, whatever the views ask for."""


def needed_fields(asked: Iterable[str], *, joined: bool = False) -> list[str]:
    """The fields asked for and all that they are made from; `joined` if flows join routes."""
    names = dict.fromkeys((*ALWAYS, *asked))
    for row in reversed(_rows(joined)):
        if any(name in names for name in row.fills):
            names.update(dict.fromkeys(row.needs))
    return list(names)


def steps_for(layout_names: Iterable[str], *, joined: bool = False) -> list[Step]:
    """The steps that fill a field of the layout, in order."""
    names = set(layout_names)
    chosen = [row.step for row in _rows(joined) if names.intersection(row.fills)]
    return list(dict.fromkeys((header_fields, *chosen)))


def _rows(joined: bool) -> list[StepRow]:
    return [row for row in STEPS if joined or row.step is not routes]
