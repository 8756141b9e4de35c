from __future__ import annotations

import ipaddress
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.errors import CaptureError, ConfigError, FlowrayError
from flowray.wire.packets import OVERFLOW_EXPORTER, Exporters, PacketBatch

WORD = (1 << 64) - 1


@given(st.lists(st.lists(st.integers(0, 40) | st.integers(0, 2**128 - 1))), st.integers(1, 30))
def test_exporters_number_addresses_like_a_dict(calls: list[list[int]], limit: int) -> None:
    exporters = Exporters(limit)
    known = {0: 0}
    overflowed = 0
    for values in calls:
        expected = []
        for value in values:
            if value not in known and len(known) <= limit:
                known[value] = len(known)
            overflowed += value not in known
            expected.append(known.get(value, OVERFLOW_EXPORTER))
        hi = np.array([value >> 64 for value in values], np.uint64)
        lo = np.array([value & WORD for value in values], np.uint64)
        assert exporters.intern(hi, lo).tolist() == expected
    assert len(exporters) == len(known)
    assert exporters.overflowed == overflowed
    assert [int(h) << 64 | int(low) for h, low in zip(exporters.hi, exporters.lo, strict=True)] == [
        *known
    ]


@given(st.ip_addresses())
def test_address_texts(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    exporters = Exporters()
    number = exporters.intern_one(str(address))
    mapped = getattr(address, "ipv4_mapped", None)
    expected = "::" if address == ipaddress.ip_address("::") else str(mapped or address)
    assert exporters.address(number) == expected


def test_the_overflow_exporter() -> None:
    exporters = Exporters(limit=2)
    assert [exporters.intern_one(f"10.0.0.{i}") for i in (1, 2, 3, 2)] == [1, 2, 0, 2]
    assert exporters.address(OVERFLOW_EXPORTER) == "::"
    assert exporters.overflowed == 1
    assert exporters.intern_one("::") == OVERFLOW_EXPORTER
    assert exporters.overflowed == 1


def test_wrong_arguments() -> None:
    exporters = Exporters()
    with pytest.raises(ValueError, match="does not appear to be"):
        exporters.intern_one("router1")
    with pytest.raises(IndexError, match="exporter id: found 1, allowed 0 to 0"):
        exporters.address(1)
    with pytest.raises(ValueError, match="limit of exporters: found 0"):
        Exporters(0)
    with pytest.raises(ValueError, match="found 1 high and 2 low"):
        exporters.intern(np.zeros(1, np.uint64), np.zeros(2, np.uint64))


def batch(payloads: list[bytes], first: int, *, port: bool) -> PacketBatch:
    length = np.array([len(one) for one in payloads], np.int64)
    n = len(payloads)
    return PacketBatch(
        np.frombuffer(bytearray(b"".join(payloads)), np.uint8),
        np.cumsum(length) - length,
        length,
        np.arange(first, first + n, dtype=np.uint32),
        np.arange(first, first + n, dtype=np.int64),
        np.arange(first, first + n).astype(np.uint16) if port else None,
    )


@given(
    st.lists(st.lists(st.binary(max_size=6), min_size=1), min_size=1),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_gather_copies_rows_in_order(
    groups: list[list[bytes]], rng: random.Random, port: bool
) -> None:
    parts, first = [], 0
    for group in groups:
        parts.append(batch(group, first, port=port))
        first += len(group)
    flat = [one for group in groups for one in group]
    order = list(range(first))
    rng.shuffle(order)
    made = PacketBatch.gather(parts, np.array(order, np.int64))
    assert [made.payload(i) for i in range(len(made))] == [flat[i] for i in order]
    assert made.exporter.tolist() == order
    assert made.arrival.tolist() == order
    assert (made.port is None) != port
    assert made.exporter.dtype == np.uint32


def test_slices_share_the_buffer() -> None:
    whole = batch([b"a", b"bc", b"d"], 0, port=True)
    part = whole.slice(1, 3)
    assert [part.payload(i) for i in range(len(part))] == [b"bc", b"d"]
    assert part.buf is whole.buf
    assert part.port is not None
    assert len(whole.slice(3, 9)) == 0


def test_config_error_is_one_line_and_survives_pickling() -> None:
    error = ConfigError(
        "flowray.yaml", "views[0].keys", "'src_hots'", "one of\n src_host, dst_host"
    )
    line = "flowray.yaml: views[0].keys: found 'src_hots', allowed one of src_host, dst_host"
    assert str(error) == line
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ConfigError)
    assert isinstance(again, FlowrayError)
    assert (str(again), again.place) == (line, "views[0].keys")
    assert str(CaptureError("a: b")) == "a: b"
