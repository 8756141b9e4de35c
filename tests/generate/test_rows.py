from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowray.generate.rows import Datagrams, Records, address16, pack


@given(st.data())
def test_pack_writes_big_endian_fields(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    widths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
    values = [
        data.draw(st.lists(st.integers(0, 256**width - 1), min_size=count, max_size=count))
        for width in widths
    ]
    columns = [np.array(column, np.uint64) for column in values]
    rows = pack(count, *zip(widths, columns, strict=True))
    for i in range(count):
        naive = b"".join(
            column[i].to_bytes(width, "big") for width, column in zip(widths, values, strict=True)
        )
        assert rows[i].tobytes() == naive


def test_pack_takes_scalars_bytes_and_matrices() -> None:
    matrix = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    rows = pack(2, (2, 7), (3, b"abc"), (3, matrix), (0, b""), (16, 1), (1, b"z"))
    tail = bytes(15) + b"\x01z"
    assert [row.tobytes() for row in rows] == [
        b"\0\7abc\1\2\3" + tail,
        b"\0\7abc\4\5\6" + tail,
    ]


@pytest.mark.parametrize(
    ("width", "value"),
    [
        (1, 256),
        (2, -1),
        (3, np.array([1 << 24])),
        (4, np.array([-1])),
        (1, np.array([256], np.uint16)),
        (9, np.array([1])),
        (2, b"abc"),
        (2, np.zeros((1, 3), np.uint8)),
    ],
)
def test_what_does_not_fit_is_refused(width: int, value: object) -> None:
    with pytest.raises(ValueError):
        pack(1, (width, value))  # type: ignore[arg-type]


def test_no_rows() -> None:
    assert pack(0, (4, np.zeros(0, np.uint64)), (2, 1)).shape == (0, 6)


def test_address16_is_in_network_order() -> None:
    row = address16(np.array([0x20010DB8 << 32], np.uint64), np.array([1], np.uint64))
    assert row.tobytes() == bytes.fromhex("20010db8000000000000000000000001")


def test_records_fit_by_size() -> None:
    records = Records(np.arange(9, dtype=np.uint8), np.array([0, 2, 5, 9]))
    assert [records.fitting(0, room) for room in (1, 2, 4, 5, 9, 100)] == [0, 1, 1, 2, 3, 3]
    assert [records.fitting(1, room) for room in (-4, 3, 7)] == [0, 1, 2]
    assert records.slice(1, 3) == bytes(range(2, 9))


@given(st.lists(st.binary(max_size=20)), st.lists(st.binary(max_size=20)))
def test_datagrams_keep_payloads(first: list[bytes], second: list[bytes]) -> None:
    parts = [Datagrams.of(first, 0, time_ns=5), Datagrams.of(second, 1, time_ns=6)]
    joined = Datagrams.joined(parts, ("a", "b"))
    assert list(joined) == first + second
    assert joined.exporter.tolist() == [0] * len(first) + [1] * len(second)
    assert joined.time_ns.tolist() == [5] * len(first) + [6] * len(second)
    backwards = joined.take(np.arange(len(joined))[::-1])
    assert list(backwards) == (first + second)[::-1]
