from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from flowray.generate import KINDS, ExporterSpec, Population, Truth, default_exporters, traffic
from flowray.generate.population import APPLICATIONS
from flowray.generate.traffic import BURST_CHANCE, START_NS, burst, day_factor
from tests.generate.naive import Parser, truth_rows

SECOND = 10**9


def digest(seed: int) -> str:
    sha = hashlib.sha256()
    for time_ns, exporter, datagrams in traffic(seed, rate=300, seconds=3):
        sha.update(repr((time_ns, exporter, datagrams)).encode())
    return sha.hexdigest()


def test_the_seed_decides_every_byte() -> None:
    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


@pytest.mark.parametrize("kind", KINDS)
def test_truth_is_what_a_naive_parser_reads(kind: str) -> None:
    spec = ExporterSpec(kind, "192.0.2.9", domain=3, sampling=128)
    truth: list[Truth] = []
    parser = Parser()
    for _, _, datagrams in traffic(5, [spec], rate=150, seconds=65, truth=truth):
        for datagram in datagrams:
            assert len(datagram) <= 1400
            parser.feed(spec.address, datagram)
    known = Truth.joined(truth)
    assert len(known) > 10_000
    assert parser.rows == truth_rows(known)
    assert set(known.sampling.tolist()) == {128}


def test_options_name_interfaces_and_vrfs() -> None:
    specs = default_exporters(7)
    parser = Parser()
    for _, exporter, datagrams in traffic(1, specs, rate=50, seconds=1):
        for datagram in datagrams:
            parser.feed(specs[exporter].address, datagram)
    for spec in specs[:4]:
        state = parser.states[spec.address]
        assert state.names == {i: name for i, (name, _) in spec.interfaces.items()}
        assert bool(state.vrfs) == spec.kind.endswith("pe")
    assert parser.states[specs[1].address].vrfs[101] == b"customer-101"


def test_ipv6_exporters_are_possible() -> None:
    specs = [ExporterSpec(kind, "2001:db8::7") for kind in ("ipfix-edge", "sflow")]
    truth: list[Truth] = []
    parsers = [Parser(), Parser()]
    for _, exporter, datagrams in traffic(1, specs, rate=500, seconds=2, truth=truth):
        for datagram in datagrams:
            parsers[exporter].feed("2001:db8::7", datagram)
    rows = parsers[0].rows + parsers[1].rows
    assert rows == truth_rows(Truth.joined(truth))


def test_templates_come_first_and_again_every_minute() -> None:
    spec = ExporterSpec("ipfix-edge", "192.0.2.1")
    with_templates = [
        (time_ns - START_NS) // SECOND
        for time_ns, _, datagrams in traffic(1, [spec], rate=20, seconds=125)
        for datagram in datagrams
        if datagram[16:18] == b"\0\2"
    ]
    assert with_templates == [0, 60, 120]


def test_counters_agree_with_samples() -> None:
    spec = ExporterSpec("sflow", "192.0.2.1", sampling=10)
    truth: list[Truth] = []
    parser = Parser()
    for _, _, datagrams in traffic(1, [spec], rate=200, seconds=20.25, truth=truth):
        for datagram in datagrams:
            parser.feed(spec.address, datagram)
    known = Truth.joined(truth)
    for iface, counters in parser.states[spec.address].counters.items():
        for column, octets, packets in (("in_iface", 5, 6), ("out_iface", 12, 13)):
            rows = getattr(known, column) == iface
            assert counters[octets] == int(known.octets[rows].sum()) * 10
            assert counters[packets] == int(rows.sum()) * 10


def test_rate_follows_the_day_and_bursts() -> None:
    day = [day_factor(START_NS + hour * 3600 * SECOND) for hour in range(24)]
    assert np.isclose(np.mean(day), 1.0)
    assert max(day) / min(day) > 3
    bursts = [burst(1, 0, minute * 60 * SECOND + 35 * SECOND)[0] for minute in range(2000)]
    share = sum(strength > 0 for strength in bursts) / 2000
    assert 0 < share < BURST_CHANCE
    spec = ExporterSpec("v5", "192.0.2.1")
    seed = next(s for s in range(2000) if burst(s, 0, START_NS + 15 * SECOND)[0])
    truth: list[Truth] = []
    for _ in traffic(seed, [spec], rate=1000, seconds=30, truth=truth):
        pass
    ticks = [START_NS + tick * SECOND // 4 for tick in range(120)]
    want = sum(250 * day_factor(at) * (1 + burst(seed, 0, at)[0]) for at in ticks)
    known = Truth.joined(truth)
    assert abs(len(known) - want) <= 2
    _, to_one = np.unique(known.dst_lo, return_counts=True)
    assert to_one.max() > 1000  # the victim


def test_it_goes_on_without_end() -> None:
    ticks = itertools.islice(traffic(1, rate=100), 1000)
    assert sum(len(datagrams) for _, _, datagrams in ticks) > 1000


def test_hosts_are_in_prefixes_and_popularity_is_skewed() -> None:
    people = Population(7)
    table = people.prefixes
    networks = [table.network(i) for i in range(len(table.hi))]
    for family in (4, 6):
        own = sorted(n for n in networks if n.version == family)
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(own))
    flows = people.draw(np.random.default_rng(1), 5000, 10**12)
    assert 0.25 < flows.v6.mean() < 0.35
    for side in ("src", "dst"):
        hi, lo = getattr(flows, f"{side}_hi"), getattr(flows, f"{side}_lo")
        prefix = getattr(flows, f"{side}_prefix")
        bits = table.length[prefix]
        shift = np.where(flows.v6, 64 - bits, 32 - bits).astype(np.uint64)
        word = np.where(flows.v6, hi, lo)
        base = np.where(flows.v6, table.hi[prefix], table.lo[prefix])
        assert (word >> shift == base >> shift).all()
    assert (table.local[flows.src_prefix] == flows.outbound).all()
    assert (table.local[flows.dst_prefix] != flows.outbound).all()
    _, counts = np.unique(flows.src_lo[~flows.outbound], return_counts=True)
    assert counts.max() > 20 * np.median(counts)
    names = {APPLICATIONS[i].name for i in set(flows.application.tolist())}
    assert {"https", "quic", "dns"} <= names
    assert (flows.start_ms <= flows.end_ms).all()
    assert (flows.end_ms <= 10**12).all()


def test_sums_are_exact() -> None:
    truth: list[Truth] = []
    for _ in traffic(2, rate=200, seconds=2, truth=truth):
        pass
    known = Truth.joined(truth)
    want: dict[tuple[int, int], list[int]] = {}
    columns = (known.proto, known.in_iface, known.packets, known.octets, known.sampling)
    for proto, iface, packets, octets, rate in zip(*(c.tolist() for c in columns), strict=True):
        total = want.setdefault((proto, iface), [0, 0, 0])
        for i, value in enumerate((1, packets * rate, octets * rate)):
            total[i] += value
    assert known.sums(["proto", "in_iface"], scaled=True) == {k: tuple(v) for k, v in want.items()}
    assert Truth.joined([]).sums(["proto"]) == {}
