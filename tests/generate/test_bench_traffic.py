from __future__ import annotations

import numpy as np
import pytest

from flowray.generate import MIX, SHAPES, Truth, bench_traffic
from flowray.generate.bench import BENCH_TEMPLATE
from flowray.generate.rows import Datagrams
from tests.generate.naive import Parser, truth_rows


def parsed(datagrams: Datagrams) -> Parser:
    parser = Parser()
    exporters = datagrams.exporter.tolist()
    for exporter, datagram in zip(exporters, datagrams, strict=True):
        parser.feed(datagrams.addresses[exporter], datagram)
    return parser


def keys(truth: Truth) -> int:
    columns = ("src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port", "proto")
    return len(truth.sums(columns))


def test_the_plain_shape() -> None:
    assert len(BENCH_TEMPLATE.fields) == 18
    assert BENCH_TEMPLATE.record_bytes == 69
    truth: list[Truth] = []
    datagrams = bench_traffic(10_007, 20, 1500, template_every=100, truth=truth)
    data = datagrams.length == 1400
    assert data.sum() == 500
    assert (datagrams.length < 100).sum() == 6  # templates
    assert (np.diff(datagrams.time_ns) >= 0).all()
    known = Truth.joined(truth)
    assert len(known) == 10_007
    assert keys(known) == 1500
    assert parsed(datagrams).rows == truth_rows(known)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_from_two_exporters(shape: str) -> None:
    truth: list[Truth] = []
    datagrams = bench_traffic(
        3001, 17, 500, seed=4, mix={shape: 1}, exporters=2, template_every=30, truth=truth
    )
    known = Truth.joined(truth)
    assert len(known) == 3001
    assert keys(known) == 500
    assert parsed(datagrams).rows == truth_rows(known)
    assert datagrams.addresses == ("192.0.2.1", "192.0.2.2")
    assert datagrams.length.max() <= 1472


def test_a_mixture() -> None:
    truth: list[Truth] = []
    datagrams = bench_traffic(20_000, 20, 2000, mix=MIX, truth=truth)
    known = Truth.joined(truth)
    assert len(known) == 20_000
    assert abs(keys(known) - 2000) < 10
    assert parsed(datagrams).rows == truth_rows(known)
    assert len(datagrams.addresses) == len(MIX)
    assert (np.diff(datagrams.time_ns) >= 0).all()
    first = datagrams.exporter[: len(datagrams) // 10]
    assert len(set(first.tolist())) == len(MIX)


def test_the_seed_decides_every_byte() -> None:
    one, same, other = (bench_traffic(2000, distinct=100, seed=s, mix=MIX) for s in (1, 1, 2))
    assert list(one) == list(same)
    assert list(one) != list(other)


def test_fewer_records_than_keys() -> None:
    truth: list[Truth] = []
    bench_traffic(50, distinct=1000, truth=truth)
    assert keys(Truth.joined(truth)) == 50


def test_unknown_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="netflow-7"):
        bench_traffic(10, mix={"netflow-7": 1})
