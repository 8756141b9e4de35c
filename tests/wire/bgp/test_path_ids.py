"""Path identifiers that were negotiated and may not be there."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp.families import FAMILIES, Shape
from flowray.wire.bgp.path_id_kernels import find_path_ids, fits
from tests.wire.bgp.encode_bmp import update

V4, V6, LABELED, VPN = 0, 1, 4, 6
OF_PREFIXES = [f.index for f in FAMILIES if f.shape <= Shape.VPN]


def prefix_nlri(family: int, bits: int, address: bytes, labels: list[int], path_id: int) -> bytes:
    """One NLRI; a path id below 0 is left out."""
    shape, width = FAMILIES[family].shape, FAMILIES[family].address_octets
    bits = min(bits, width * 8)
    number = int.from_bytes(address[:width].ljust(width, b"\0"))
    number &= ~((1 << (width * 8 - bits)) - 1)
    head = b""
    if shape != Shape.PREFIX:
        stack = [label << 4 for label in labels] + [labels[-1] << 4 | 1]
        head = b"".join((label & 0xFFFFFF or 0x10).to_bytes(3) for label in stack)
    if shape == Shape.VPN:
        head += bytes(8)
    value = head + number.to_bytes(width)[: (bits + 7) // 8]
    before = b"" if path_id < 0 else struct.pack(">I", path_id)
    return before + bytes((len(head) * 8 + bits,)) + value


def naive_fits(data: bytes, family: int, octets: int) -> bool:
    shape, width = FAMILIES[family].shape, FAMILIES[family].address_octets
    while data:
        if len(data) <= octets:
            return False
        data = data[octets:]
        bits, data = data[0], data[1:]
        value, data = data[: (bits + 7) // 8], data[(bits + 7) // 8 :]
        if len(value) < (bits + 7) // 8:
            return False
        if shape != Shape.PREFIX:
            while True:
                if bits < 24:
                    return False
                label, value, bits = int.from_bytes(value[:3]), value[3:], bits - 24
                if label & 1 or label in (0, 0x800000):
                    break
        if shape == Shape.VPN:
            value, bits = value[8:], bits - 64
        if not 0 <= bits <= width * 8:
            return False
        if bits % 8 and value[-1] & (0xFF >> bits % 8):
            return False
    return True


def array(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(bytearray(data), np.uint8)


nlri_lists = st.builds(
    lambda family, rows, ids: (
        family,
        b"".join(
            prefix_nlri(family, bits, address, labels, path_id if ids else -1)
            for bits, address, labels, path_id in rows
        ),
    ),
    st.sampled_from([V4, V6, LABELED, VPN]),
    st.lists(
        st.tuples(
            st.integers(0, 128),
            st.binary(min_size=16, max_size=16),
            st.lists(st.integers(1, 0xFFFFF), min_size=1, max_size=2),
            st.integers(0, 0xFFFFFFFF),
        ),
        max_size=4,
    ),
    st.booleans(),
)


@given(nlri_lists, st.sampled_from([0, 4]), st.binary(max_size=3))
def test_fit(nlri: tuple[int, bytes], octets: int, more: bytes) -> None:
    family, data = nlri[0], nlri[1] + more
    row = FAMILIES[family]
    shape, most = int(row.shape), row.address_octets * 8
    found = fits(array(data), 0, len(data), octets, shape, most)
    assert found == naive_fits(data, family, octets)


@given(st.sampled_from(OF_PREFIXES), st.binary(max_size=40), st.sampled_from([0, 4]))
def test_fit_of_random_octets(family: int, data: bytes, octets: int) -> None:
    row = FAMILIES[family]
    shape, most = int(row.shape), row.address_octets * 8
    assert fits(array(data), 0, len(data), octets, shape, most) == naive_fits(data, family, octets)


def attribute(kind: int, value: bytes) -> bytes:
    return bytes((0x90, kind)) + struct.pack(">H", len(value)) + value


def mp(family: int, data: bytes, *, reach: bool) -> bytes:
    head = struct.pack(">HB", FAMILIES[family].afi, FAMILIES[family].safi)
    if reach:
        return attribute(14, head + b"\x04\xc0\x00\x02\x01\x00" + data)
    return attribute(15, head + data)


def message(withdrawn: bytes, attributes: bytes, nlri: bytes) -> bytes:
    sized = (struct.pack(">H", len(part)) + part for part in (withdrawn, attributes))
    return update(b"".join(sized) + nlri)


def judge(
    messages: list[bytes], plain: list[int], negotiated: int, peers: list[int] | None = None
) -> tuple[list[int], list[int]]:
    length = np.array([len(m) for m in messages], np.int64)
    known, add_path = np.array(plain, np.uint64), np.full(len(messages), negotiated, np.uint64)
    find_path_ids(
        array(b"".join(messages)),
        np.cumsum(length) - length,
        length,
        np.array(peers or [0] * len(messages), np.int64),
        known,
        add_path,
    )
    return add_path.tolist(), known.tolist()


@given(
    st.lists(
        st.tuples(st.integers(0, 1), nlri_lists, nlri_lists, st.booleans(), st.booleans()),
        max_size=6,
    ),
    st.integers(0, 0xFF),
)
def test_messages(
    rows: list[tuple[int, tuple[int, bytes], tuple[int, bytes], bool, bool]], negotiated: int
) -> None:
    messages, expected, plain = [], [], [0, 0]
    for peer, (family, data), (other, more), reach, classic in rows:
        attributes = attribute(1, b"\0") + mp(family, data, reach=reach)
        withdrawn = more if classic and other == V4 else b""
        messages.append(message(withdrawn, attributes, withdrawn))
        present = {family: [data]} if data else {}
        if withdrawn:
            present.setdefault(V4, []).append(withdrawn)
        for number, parts in present.items():
            bit = 1 << number & negotiated
            with_ids = all(naive_fits(part, number, 4) for part in parts)
            without = all(naive_fits(part, number, 0) for part in parts)
            if with_ids != without:
                plain[peer] = plain[peer] & ~bit if with_ids else plain[peer] | bit
        expected.append(negotiated & ~plain[peer])
    assert judge(messages, [0, 0], negotiated, [row[0] for row in rows]) == (expected, plain)


def test_one_update_tells_how_the_next_are_read() -> None:
    one = message(b"", b"", prefix_nlri(V4, 16, b"\x0a\x01", [], -1))
    pair = message(
        b"",
        b"",
        prefix_nlri(V4, 24, b"\xc0\xa8\x01", [], -1) + prefix_nlri(V4, 24, b"\xc0\xa8\x02", [], -1),
    )
    identified = message(b"", b"", prefix_nlri(V4, 16, b"\x0a\x01", [], 1))
    assert judge([pair, one, pair, identified, pair], [0], 1) == ([1, 0, 0, 1, 1], [0])
    assert judge([one], [0], 0) == ([0], [0])


@given(st.binary(max_size=80))
def test_random_updates(data: bytes) -> None:
    judge([update(data)], [0], 0xFFFF)
