"""Floods of spoofed exporters, domains, templates, texts and tiny sets stay inside the bounds."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.columns import Columns, Layout
from flowray.generate import encode as e
from flowray.hashing import Interner
from flowray.ingest import extract
from flowray.ingest.collector import Collector
from flowray.ingest.decode import DecodeSettings
from flowray.ingest.hold import SET_COST
from flowray.ingest.ledger import problems, totals
from flowray.ingest.options import Options, Topic
from flowray.ingest.remembered import Remembered
from flowray.ingest.templates import TemplateKey, Templates
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.wire.flow.template import MAX_FIELDS, Template, TemplateField
from flowray.wire.packets import PacketBatch

NOW = 1_760_000_000_000_000_000
FLOW = ((8, 4, 0), (12, 4, 0), (1, 4, 0), (2, 4, 0))


class Shard:
    """A collector with bounds of choice, fed from made-up addresses; its ledger is checked."""

    def __init__(self, **bounds: Any) -> None:
        self.exporter_limit = bounds.pop("exporters", 100)
        configuration = {
            "decode": {"exporters": self.exporter_limit},
            "views": [{"name": "v", "keys": ["src_host", "in_iface_name"], "window": "1m"}],
        }
        program = compile_settings(parse_settings(configuration, "test"), "test")
        self.collector = Collector(replace(program, decode=DecodeSettings(**bounds)))

        self.now = NOW

    def feed(self, payloads: Sequence[bytes], addresses: Iterable[int] | None = None) -> None:
        n = len(payloads)
        low = np.array(list(addresses or [1] * n), np.uint64) + np.uint64(0xFFFF0A000000)
        length = np.array([len(p) for p in payloads], np.int64)
        self.collector.feed(
            PacketBatch(
                np.frombuffer(b"".join(payloads), np.uint8),
                np.cumsum(length) - length,
                length,
                self.collector.exporters.intern(np.zeros(n, np.uint64), low),
                np.full(n, self.now, np.int64),
            )
        )

    def accounts(self) -> dict[str, int]:
        self.collector.hand_over(self.now)
        snapshot = self.collector.snapshot()
        still = {"v": snapshot["views"].get("v", {}).get("aggregated", 0)}
        assert problems(snapshot, held=self.collector.sets_held, open_records=still) == []
        return totals(snapshot)


def message(*sets: bytes, domain: int = 0) -> bytes:
    return e.ipfix_message(sets, export_time=NOW // 10**9, sequence=0, domain=domain)


def templates(*numbers: int, fields: Sequence[e.FieldSpec] = FLOW) -> bytes:
    return e.ipfix_template_set(*(e.TemplateSpec(n, tuple(fields)) for n in numbers))


def test_spoofed_exporters() -> None:
    shard = Shard(exporters=10)
    data = e.flow_set(256, bytes(32))
    for first in range(0, 5000, 500):
        shard.feed([message(templates(256), data)] * 500, range(first, first + 500))
    accounts = shard.accounts()
    assert len(shard.collector.exporters) == 11
    assert accounts["datagrams"] == 5000
    assert accounts["records"] == 10_000
    assert len(shard.collector.decoder.templates) <= 11


def test_template_ids_and_domains() -> None:
    shard = Shard(templates_per_exporter=50, templates=120)
    for domain in range(40):
        shard.feed([message(templates(*range(300, 320)), domain=domain)] * 5, range(5))
    accounts = shard.accounts()
    known = shard.collector.decoder.templates
    assert len(known) == 120
    assert accounts["templates"] == 120
    assert accounts["templates_refused"] > 0
    assert len(shard.collector.decoder.sequences) <= 120
    shard.feed([message(e.ipfix_withdrawal_set(), domain=d) for d in range(40)] * 5,
               [x for x in range(5) for _ in range(40)])  # fmt: skip
    assert len(known) == 0
    shard.feed([message(templates(400), e.flow_set(400, bytes(16)), domain=1)])
    assert shard.accounts()["records"] == 1


IDLE = DecodeSettings().template_idle_ns


@pytest.mark.parametrize("per_exporter", [50, 1000])
def test_idle_templates_give_room_to_new_ones(per_exporter: int) -> None:
    """Bounds of the exporter or of all are reached by a flood; a template in use outlives it."""
    shard = Shard(templates_per_exporter=per_exporter, templates=50)
    known = shard.collector.decoder.templates
    in_use = message(e.flow_set(256, bytes(16)))
    tell = message(templates(900))
    shard.feed([message(templates(*range(256, 400)), e.flow_set(256, bytes(16)))])
    refused = shard.accounts()["templates_refused"]
    assert len(known) == 50
    for shard.now in (NOW, NOW + IDLE - 1):
        shard.feed([in_use, tell])
        refused += 1
        assert shard.accounts()["templates_refused"] == refused
    assert "templates_expired" not in shard.accounts()
    shard.now = NOW + IDLE
    shard.feed([in_use, tell, message(e.flow_set(900, bytes(16)))])
    accounts = shard.accounts()
    assert accounts["templates_expired"] == 1
    assert accounts["templates_refused"] == refused
    assert len(known) == 50
    gone = [n for n in range(256, 306) if known.get(TemplateKey(1, 0, 10, n)) is None]
    assert len(gone) == 1
    # What gave room is learned again when its exporter repeats it, in the same octets as before.
    shard.feed([message(templates(*range(256, 400)))])
    assert known.get(TemplateKey(1, 0, 10, 256)) is not None
    assert known.get(TemplateKey(1, 0, 10, 900)) is not None
    assert len(known) == 50
    assert shard.accounts()["templates_expired"] == 49


def test_idle_templates_of_other_exporters_do_not_help_one_with_too_many() -> None:
    shard = Shard(templates_per_exporter=10, templates=1000)
    shard.feed([message(templates(*range(256, 266)))] * 2, [1, 2])
    shard.now += 1
    shard.feed([message(templates(300))], [1])
    for _ in range(2):
        shard.now += IDLE
        shard.feed([message(e.flow_set(n, bytes(16))) for n in range(256, 266)])
        shard.feed([message(templates(301))], [1])
    accounts = shard.accounts()
    assert "templates_expired" not in accounts
    assert accounts["templates_refused"] == 3


def test_fields_of_idle_templates_give_room() -> None:
    layout = Layout(["packets", "bytes", "_frame", "_packet"])
    gone: list[TemplateKey] = []
    known = Templates(layout, whole_seconds=False, field_limit=20, idle_ns=10, expired=gone.append)
    keys = [TemplateKey(1, 0, 10, 256 + n) for n in range(4)]
    shapes = [Template(key.id, tuple(TemplateField(n, 4) for _ in range(8)))
              for n, key in enumerate(keys, 1)]  # fmt: skip
    assert known.put(keys[0], shapes[0], 0)
    assert known.put(keys[1], shapes[1], 0)
    assert not known.put(keys[2], shapes[2], 0)
    assert not known.put(keys[2], shapes[2], 9)
    assert known.put(keys[2], shapes[2], 10)
    assert gone == [keys[0]]
    known._compact()
    assert known.put(keys[3], shapes[3], 10)
    assert gone == keys[:2]
    assert not known.put(keys[0], shapes[0], 19)


def test_redefinitions_leave_nothing_behind() -> None:
    known = Templates(
        Layout(["packets", "bytes", "_frame", "_packet"]), whole_seconds=False, limit=20
    )
    for n in range(500):
        key = TemplateKey(1, n % 3, 10, 256)
        assert known.put(key, Template(256, (TemplateField(1, 4), TemplateField(1000 + n, 4))), 0)
        found = known.index.get(1 << 32 | n % 3, 10 << 16 | 256)
        assert found is not None
        assert known.compiled[found].template.fields[1].element == 1000 + n
    assert len(known) == 3
    assert len(known.compiled) <= 41
    assert len(known._uses) == 3


SHAPES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 8), st.booleans()), max_size=60
)


@given(SHAPES)
def test_fields_of_different_shapes(steps: list[tuple[int, int, int, bool]]) -> None:
    layout = Layout(["packets", "bytes", "_frame", "_packet"])
    known = Templates(layout, whole_seconds=False, field_limit=20)
    for number, element, fields, withdraw in steps:
        key = TemplateKey(1, 0, 10, 256 + number)
        template = Template(key.id, tuple(TemplateField(element + 1, 4) for _ in range(fields)))
        if withdraw:
            known.withdraw(key)
            continue
        shapes = {t.fields for k, t in known if k != key}
        fits = template.fields in {t.fields for _, t in known} or (
            sum(map(len, {t.fields for _, t in known})) + fields <= 20
        )
        assert known.put(key, template, 0) == fits
        if fits:
            assert known.get(key) == template
            shapes.add(template.fields)
            assert known._fields == sum(map(len, shapes)) <= 20
    # Templates of a shape share its fields.
    held: dict[tuple[TemplateField, ...], int] = {}
    for _, t in known:
        assert held.setdefault(t.fields, id(t.fields)) == id(t.fields)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_sets_of_unknown_templates(size: int) -> None:
    shard = Shard(hold_octets_per_exporter=20_000, hold_octets=50_000)
    data = e.flow_set(999, bytes(size), boundary=1)
    for _ in range(5):
        shard.feed([message(*[data] * 20)] * 100, [x % 10 for x in range(100)])
    accounts = shard.accounts()
    hold = shard.collector.decoder.hold
    assert accounts["sets_held"] == 10_000
    assert 0 < shard.collector.sets_held <= 50_000 // (SET_COST + size)
    assert hold.octets <= 50_000
    assert max(hold._octets.values()) <= 20_000
    shard.collector.hand_over(NOW * 2)
    assert (len(hold), hold.octets, len(hold._octets)) == (0, 0, 0)
    assert shard.accounts()["sets_expired"] == 10_000 - accounts["sets_evicted"]


def test_sets_without_octets() -> None:
    """16,000 of them in a datagram: not held, not looked at, not an error."""
    shard = Shard()
    shard.feed([message(*[struct.pack("!HH", n, 4)] * 16_000) for n in (2, 3, 256)])
    assert shard.accounts() == {"datagrams": 3, "decoded": 3}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=2)), max_size=80), st.integers(1, 9)
)
def test_remembered_sets(told: list[tuple[int, bytes]], limit: int) -> None:
    known, twin = Remembered(limit), set[tuple[int, bytes]]()
    for domain, raw in told:
        place, digest = (1, domain, 10), Remembered.digest(2, raw)
        if raw == b"\0":
            known.forget(place)
            twin = {(d, r) for d, r in twin if d != domain}
            continue
        assert known.knows(place, digest) == ((domain, raw) in twin)
        assert not known.knows(place, Remembered.digest(3, raw))
        if len(twin) >= limit:
            twin.clear()
        known.add(place, digest)
        twin.add((domain, raw))
        assert len(known) == len(twin) <= limit


def test_bad_template_sets_are_not_remembered() -> None:
    shard = Shard()
    for domain in range(300):
        shard.feed([message(e.flow_set(2, b"\1\0\0\2\0\1\0\4"), domain=domain)])
    assert len(shard.collector.decoder._remembered) == 0
    assert len(shard.collector.decoder._remembered._sets) == 0
    assert shard.accounts()["bad_template"] == 300


@pytest.mark.parametrize("count", [MAX_FIELDS + 1, 16_000, 65_535])
def test_templates_of_very_many_fields(count: int) -> None:
    shard = Shard()
    specifiers = (b"\0\1\0\1" * count)[:65_000]
    shard.feed([message(e.flow_set(2, struct.pack("!HH", 256, count) + specifiers))])
    accounts = shard.accounts()
    assert (accounts["bad_template"], len(shard.collector.decoder.templates)) == (1, 0)


def test_the_longest_template_there_may_be() -> None:
    shard = Shard()
    fields = tuple((1000 + n, 1, 0) for n in range(MAX_FIELDS))
    shard.feed([message(templates(256, fields=fields), e.flow_set(256, bytes(3 * MAX_FIELDS)))])
    assert shard.accounts()["records"] == 3


def test_records_of_one_octet(monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 records a datagram become columns in portions, not all at once."""
    monkeypatch.setattr(extract, "PORTION", 100_000)
    shard = Shard()
    seen: list[int] = []
    offer = shard.collector._offer

    def watch(parts: Iterator[Columns]) -> Iterator[Columns]:
        for columns in parts:
            seen.append(columns.n)
            yield columns

    monkeypatch.setattr(shard.collector, "_offer", lambda parts: offer(watch(parts)))
    data = message(e.flow_set(256, bytes(60_000)))
    shard.feed([message(templates(256, fields=((4, 1, 0),))), *[data] * 20])
    assert shard.accounts()["records"] == sum(seen) == 20 * 60_000
    assert len(seen) > 1
    assert max(seen) <= 160_000


def test_a_set_that_changes_its_own_templates() -> None:
    """Defined, redefined, withdrawn and defined again within a set, and that in a loop."""
    shard = Shard()
    other = ((8, 4, 0), (1, 8, 0))
    loop = [templates(256), templates(256, fields=other), e.ipfix_withdrawal_set(256)] * 5
    data = e.flow_set(256, bytes(16))
    mixed = e.flow_set(2, templates(256)[4:] + templates(256, fields=other)[4:])
    shard.feed([message(*[part for s in loop for part in (s, data)], mixed, data)] * 3)
    accounts = shard.accounts()
    # Sixteen octets are one record of the first shape, one of twelve of the other.
    assert accounts["records"] == 3 * (5 + 5 + 5 + 1)
    assert accounts["sets_held"] == accounts["sets_held_decoded"] == 15
    assert shard.collector.sets_held == 0


def test_facts_and_their_texts() -> None:
    texts = Interner()
    store = Options(texts, limit=100, octets=3000)
    for n in range(1000):
        store.store(n % 7, n % 5, Topic.INTERFACE, n, bytes(1000))
        store.store(1, 1, Topic.INTERFACE, 0, bytes(n))
    assert len(store) <= 100
    assert store.octets <= 3000
    assert store.octets == sum(len(v) for v in store._facts.values() if isinstance(v, bytes))
    assert store.refused > 0


def test_texts_in_options_of_a_spoofer() -> None:
    """Long names of many interfaces: the interner refuses, the shard goes on."""
    shard = Shard()
    options = e.ipfix_options_template_set(
        e.TemplateSpec(300, ((10, 4, 0), (82, e.VARIABLE, 0)), scope_count=1)
    )
    shard.collector._texts.octets = 100_000
    for first in range(0, 200, 10):
        records = b"".join(
            (first + n).to_bytes(4) + b"\xff" + (2000).to_bytes(2) + bytes([65 + n]) * 2000
            for n in range(10)
        )
        shard.feed([message(options, e.flow_set(300, records, boundary=1))])
    assert shard.accounts()["option_records"] == 200
    assert int(shard.collector._texts._state[1]) <= 100_000


@given(st.lists(st.binary(max_size=3), max_size=5))
def test_datagrams_of_almost_nothing(payloads: list[bytes]) -> None:
    shard = Shard()
    shard.feed(payloads)
    accounts = shard.accounts()
    assert accounts.get("short_header", 0) == accounts.get("datagrams", 0) == len(payloads)
