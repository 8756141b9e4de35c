"""Loads of big-endian numbers against int.from_bytes, and their bounds in a checked build."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from flowray.wire import octets


@njit
def load_u8(buf, p):  # noqa: ANN001, ANN201
    return octets.u8(buf, p)


@njit
def load_u16(buf, p):  # noqa: ANN001, ANN201
    return octets.u16(buf, p)


@njit
def load_u32(buf, p):  # noqa: ANN001, ANN201
    return octets.u32(buf, p)


@njit
def load_u64(buf, p):  # noqa: ANN001, ANN201
    return octets.u64(buf, p)


LOADS: dict[int, Callable[..., int]] = {1: load_u8, 2: load_u16, 4: load_u32, 8: load_u64}


@given(st.binary(min_size=8, max_size=40), st.integers(0, 32), st.sampled_from(sorted(LOADS)))
def test_like_from_bytes(raw: bytes, p: int, width: int) -> None:
    p = min(p, len(raw) - width)
    expected = int.from_bytes(raw[p : p + width])
    assert LOADS[width](np.frombuffer(raw, np.uint8), p) == expected


@pytest.mark.parametrize("width", LOADS)
@pytest.mark.parametrize("beyond", [False, True])
def test_out_of_bounds_raises_in_a_checked_build(width: int, beyond: bool) -> None:
    buf = np.arange(16, dtype=np.uint8)
    with pytest.raises(IndexError):
        LOADS[width](buf, 17 - width if beyond else -1)
