"""What is fuzzed: each target takes octets, must neither raise nor hang, and checks what must hold
for any input.
"""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pyarrow as pa

from flowray.columns import Columns, Layout
from flowray.errors import CaptureError, ConfigError
from flowray.fields import REGISTRY
from flowray.hashing import Interner
from flowray.ingest.options import Options, record_values
from flowray.maps import (
    LABEL_KEYS,
    SAMPLING_KEYS,
    compile_labels,
    compile_sampling,
    parse_map,
)
from flowray.primitives import PRIMITIVE_KEYS, compile_primitives
from flowray.replay import Replay
from flowray.settings.compile import compile_settings
from flowray.settings.model import Settings
from flowray.sinks.base import Commit
from flowray.views.filter import compile_filter
from flowray.views.filter_syntax import FilterError
from flowray.wire.flow.dissect import SLOTS, Link, Tunnel, destinations, dissect, tunnel_word
from flowray.wire.flow.plan import compile_plan, reversible
from flowray.wire.flow.template import Template, TemplateError, parse_templates
from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.pcap import CaptureReader
from tests.fuzz.framing import Datagram, unpack
from tests.fuzz.outcomes import observe, one_line, scratch
from tests.fuzz.route_targets import ROUTE_TARGETS

Target = Callable[[bytes], None]

MINUTE = 60_000_000_000
EPOCHS = (10_000_000_000_000_000, 1_760_000_000_000_000_000)
"""Arrival of the first datagram: in 1970, so that times on the wire are near or ahead; and in these
days.
"""

_KEYS = [
    f.name for f in REGISTRY.public() if f.decoded and f.name not in {"packets", "bytes", "flows"}
]
_VIEWS = [
    {"name": "all", "keys": _KEYS, "renormalise": False},
    {"name": "small", "keys": ["src_host", "in_iface"], "window": "1m", "max_keys": 3,
     "renormalise": False},
    {"name": "split", "keys": ["proto", "tcpflags", "timestamp_min", "timestamp_max"],
     "window": "30d", "align": "1h", "time": "start", "split": True, "lateness": "1h",
     "renormalise": False, "partitions": 2},
    {"name": "chosen", "keys": ["label", "class", "dst_host"], "window": "1h", "time": "start",
     "sample": 2, "partitions": 3,
     "filter": "src_port > 1000 or dst_host in (10.0.0.0/8, 2001:db8::/32) or class = 'x'"},
]  # fmt: skip
TOTALS = ("all", "small", "split")
"""Views that keep every record and do not scale it: their sums agree."""

_DECODE = {
    "exporters": 3,
    "templates_per_exporter": 8,
    "hold_per_exporter": "16KiB",
    "hold_total": "32KiB",
    "tunnels": ["gre", "ipip", "vxlan", "gtp", "geneve"],
}
PROGRAMS = [
    compile_settings(Settings.model_validate({"decode": _DECODE, "views": views}), "fuzz")
    for views in (_VIEWS, _VIEWS[1:])
]
"""With every field, and a quicker one with few."""


class SumSink:
    """Adds up what is committed."""

    def __init__(self) -> None:
        self.sums = np.zeros(3, np.uint64)
        self.kinds = 0

    def commit(self, commit: Commit, table: pa.Table) -> None:
        for i, name in enumerate(("packets", "bytes", "flows")):
            # Sums of arrays wrap, as those of the kernels do.
            self.sums[i : i + 1] += table[name].to_numpy().sum(dtype=np.uint64)
        if commit.view == "all":
            for n, column in enumerate(table.columns):
                if pa.types.is_unsigned_integer(column.type) and column.to_numpy().any():
                    self.kinds |= 1 << n

    def close(self) -> None:
        """Nothing is open."""


def flows(data: bytes) -> None:
    """Datagrams of NetFlow, IPFIX or sFlow through a collector: the ledger balances, views agree on
    totals.
    """
    how = data[0] if data else 0
    now, program = EPOCHS[how & 1], PROGRAMS[how >> 1 & 1]
    datagrams = unpack(data[1:])
    sinks: dict[str, SumSink] = {}
    run = Replay(program, lambda view, _: [sinks.setdefault(view, SumSink())])
    pending: list[tuple[Datagram, int]] = []
    for d in datagrams:
        pending.append((d, now))
        now += (d.after >> 1) * MINUTE
        if d.after & 1:
            run.feed(_batch(run.collector.exporters, pending))
            run._hand_over(now)
            pending = []
    run.feed(_batch(run.collector.exporters, pending))
    summary = run.finish()
    assert not summary.problems, summary.problems
    assert summary.datagrams == len(datagrams)
    sums = {view: sinks[view].sums.tolist() for view in TOTALS if view in sinks}
    assert len({tuple(s) for s in sums.values()}) <= 1, sums
    assert run.collector.decoder.hold.octets <= program.decode.hold_octets
    for part in ("exporters", "views"):
        for accounts in summary.ledger[part].values():
            for account, n in accounts.items():
                observe((account, abs(n).bit_length()))
    for view, sink in sinks.items():
        observe((view, sink.kinds))


def _batch(exporters: Exporters, datagrams: list[tuple[Datagram, int]]) -> PacketBatch:
    length = np.array([len(d.payload) for d, _ in datagrams], np.int64)
    ids = [exporters.intern_one(f"192.0.2.{d.exporter}") for d, _ in datagrams]
    return PacketBatch(
        np.frombuffer(b"".join(d.payload for d, _ in datagrams), np.uint8),
        np.cumsum(length) - length,
        length,
        np.array(ids, np.uint32),
        np.array([t for _, t in datagrams], np.int64),
    )


_FRAME_LAYOUT = Layout([f.name for f in REGISTRY.values()])
_DESTINATIONS = destinations(_FRAME_LAYOUT)
_LINKS = [*Link, 0, 99]
_TUNNELS = [tunnel_word(Tunnel(0)), tunnel_word(Tunnel(31))]


def dissector(data: bytes) -> None:
    """A frame of any link kind: nothing outside of it counts."""
    if len(data) < 2:
        return
    link, tunnels = _LINKS[data[0] % len(_LINKS)], _TUNNELS[data[1] & 1]
    results = []
    for around in (b"", b"\xff" * 40):
        buf = np.frombuffer(around + data[2:] + around, np.uint8)
        words = np.zeros((_FRAME_LAYOUT.words, 1), np.uint64)
        status = dissect(
            buf, len(around), len(data) - 2, int(link), words, 0, _DESTINATIONS, tunnels
        )
        results.append((int(status), words))
    for row in np.flatnonzero(results[0][1]):
        observe((results[0][0], int(row)))
    assert results[0][0] == results[1][0]
    assert (results[0][1] == results[1][1]).all()
    assert len(_DESTINATIONS) == SLOTS


def templates(data: bytes) -> None:
    """A template set: refused in so many words, or compiled to plans that stay inside records."""
    if not data:
        return
    version, options = (9, 10)[data[0] & 1], bool(data[0] & 2)
    try:
        found = parse_templates(data[1:], version, options=options)
    except TemplateError:
        return
    for t in found:
        if not isinstance(t, Template):
            continue
        assert 0 < t.least_size <= 0xFFFF
        directions = (False, True) if reversible(t) else (False,)
        for reverse in directions:
            plan = compile_plan(t, _FRAME_LAYOUT, reverse=reverse)
            assert set(plan.unset.tolist()) <= set(range(_FRAME_LAYOUT.words))
            if not plan.variable:
                reads = plan.ops[plan.ops[:, 0] != 4]
                assert (reads[:, 1] + reads[:, 2] <= plan.record_size).all()


def options(data: bytes) -> None:
    """An options template, and records of it: what is stored is what is told."""
    if len(data) < 3:
        return
    version, size = (9, 10)[data[0] & 1], int.from_bytes(data[1:3])
    try:
        found = parse_templates(data[3 : 3 + size], version, options=True)
    except TemplateError:
        return
    texts = Interner(64)
    store = Options(texts, 32)
    for t in found:
        if not isinstance(t, Template):
            continue
        for values in record_values(t, data[3 + size :]):
            news = store.news(1, 7, values)
            for fact in news:
                store.store(1, 7, *fact)
            if not store.refused and len({fact[:2] for fact in news}) == len(news):
                assert not store.news(1, 7, values)
        assert len(store) <= 32
    store.rebuild(Interner(64))


def capture(data: bytes) -> None:
    """A capture file: a clear line if it is none, and an account of every packet otherwise."""
    path = scratch("a.pcap", data)
    try:
        reader = CaptureReader(path, Exporters(8), packets_per_batch=3)
    except CaptureError as error:
        one_line(error)
        return
    datagrams = 0
    with reader:
        for batch in reader:
            assert len(batch)
            assert (batch.offset >= 0).all()
            assert (batch.offset + batch.length <= batch.buf.size).all()
            datagrams += len(batch)
    r = reader.report
    assert datagrams == r.datagrams
    rest = r.not_udp + r.other_port + r.fragments + r.malformed + r.unknown_link
    counts = (r.packets, datagrams, r.not_udp, r.fragments, r.malformed, r.unknown_link)
    for n, count in enumerate((*counts, r.truncated, r.reassembled, r.fragments_unused)):
        observe((n, count.bit_length(), r.cut_off))
    assert r.packets + r.reassembled == datagrams + rest


_ROWS = Columns.empty(_FRAME_LAYOUT, 3)
_ROWS.n = 3
_ROWS.words[:, 1] = 1
_ROWS.words[:, 2] = (1 << 64) - 1
for _field in _FRAME_LAYOUT.fields:
    if _field.kind.interned:
        _ROWS[_field.name][:] = 0


def filters(data: bytes) -> None:
    """A filter expression: an error that points into the text, or a mask."""
    text = data.decode(errors="replace")
    try:
        expression = compile_filter(text, REGISTRY)
    except FilterError as error:
        one_line(error)
        return
    mask = expression.mask(_ROWS, Interner())
    assert mask.shape == (3,)
    assert mask.dtype == np.bool_


def maps(data: bytes) -> None:
    """An operator's map of any kind: one clear line, or something that maps."""
    kind, path = (data[0] if data else 0) % 3, scratch("a.map", data[1:])
    address = np.array([0, 1 << 60], np.uint64)
    with suppress(ConfigError):
        if kind == 0:
            labels = compile_labels(parse_map(path, LABEL_KEYS)).labels(address, address)
            assert len(labels) == 2
        elif kind == 1:
            rates = compile_sampling(parse_map(path, SAMPLING_KEYS)).rates(address, address)
            assert rates.shape == (2,)
        else:
            compile_primitives(parse_map(path, PRIMITIVE_KEYS))


TARGETS: dict[str, Target] = {
    "netflow": flows,
    "sflow": flows,
    "dissect": dissector,
    "template": templates,
    "options": options,
    "pcap": capture,
    "filter": filters,
    "map": maps,
    **ROUTE_TARGETS,
}
FRAMED = ("netflow", "sflow")
"""Targets whose inputs are datagrams behind one octet of settings."""
