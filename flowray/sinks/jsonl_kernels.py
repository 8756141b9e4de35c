"""Compiled assembly of JSON lines: pieces of rows are measured, then written by columns.

A piece is a prefix (`,"key":`) and a value. `present` (n,) tells which rows have it; an empty array
means all. `at` (n,) int64 is where each row continues; every writer moves it on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.sinks.text_kernels import put_decimal

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Present = npt.NDArray[np.bool_]


def _escape_widths() -> U8:
    """Bytes that each byte of a string takes inside a JSON string (RFC 8259 section 7)."""
    widths = np.ones(256, np.uint8)
    widths[:32] = 6
    for byte in b'"\\\b\f\n\r\t':
        widths[byte] = 2
    return widths


def _escape_letters() -> U8:
    """The letter after the backslash where an escape takes two bytes."""
    letters = np.zeros(256, np.uint8)
    for byte, letter in zip(b'"\\\b\f\n\r\t', b'"\\bfnrt', strict=True):
        letters[byte] = letter
    return letters


_WIDTHS = _escape_widths()
_LETTERS = _escape_letters()
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


@njit(nogil=True, cache=True)
def _copy(data: U8, begin: int, end: int, out: U8, at: int) -> int:
    for i in range(begin, end):
        out[at] = data[i]
        at += 1
    return at


@njit(nogil=True, cache=True)
def _put_escaped(data: U8, begin: int, end: int, out: U8, at: int) -> int:
    for i in range(begin, end):
        byte = data[i]
        width = _WIDTHS[byte]
        if width == 1:
            out[at] = byte
            at += 1
            continue
        out[at] = 92
        if width == 2:
            out[at + 1] = _LETTERS[byte]
        else:
            out[at + 1] = 117
            out[at + 2] = 48
            out[at + 3] = 48
            out[at + 4] = _HEX[byte >> 4]
            out[at + 5] = _HEX[byte & 15]
        at += width
    return at


@njit(nogil=True, cache=True)
def measure_constant(width: int, present: Present, widths: I64) -> None:
    """Add `width` to `widths` (n,) where the piece is present."""
    for row in range(len(widths)):
        if len(present) == 0 or present[row]:
            widths[row] += width


@njit(nogil=True, cache=True)
def measure_fragments(offsets: I32, index: I32, present: Present, widths: I64) -> None:
    """Add the widths of the fragments that `index` (n,) names."""
    for row in range(len(widths)):
        if len(present) == 0 or present[row]:
            widths[row] += offsets[index[row] + 1] - offsets[index[row]]


@njit(nogil=True, cache=True)
def measure_numbers(values: U64, present: Present, widths: I64) -> None:
    """Add the digits of `values` (n,)."""
    for row in range(len(widths)):
        if len(present) == 0 or present[row]:
            rest = values[row] // np.uint64(10)
            widths[row] += 1
            while rest > 0:
                rest //= np.uint64(10)
                widths[row] += 1


@njit(nogil=True, cache=True)
def measure_strings(offsets: I32, data: U8, present: Present, widths: I64) -> None:
    """Add the escaped widths of strings, quotes included."""
    for row in range(len(widths)):
        if len(present) == 0 or present[row]:
            width = 2
            for i in range(offsets[row], offsets[row + 1]):
                width += _WIDTHS[data[i]]
            widths[row] += width


@njit(nogil=True, cache=True)
def write_constant(prefix: U8, present: Present, at: I64, out: U8, begin: int, end: int) -> None:
    """Write the prefix into rows begin..end."""
    for row in range(begin, end):
        if len(present) == 0 or present[row]:
            at[row] = _copy(prefix, 0, len(prefix), out, at[row])


@njit(nogil=True, cache=True)
def write_fragments(
    prefix: U8,
    offsets: I32,
    data: U8,
    index: I32,
    present: Present,
    at: I64,
    out: U8,
    begin: int,
    end: int,
) -> None:
    """Write the prefix and the fragment that `index` names, as it is."""
    for row in range(begin, end):
        if len(present) == 0 or present[row]:
            to = _copy(prefix, 0, len(prefix), out, at[row])
            at[row] = _copy(data, offsets[index[row]], offsets[index[row] + 1], out, to)


@njit(nogil=True, cache=True)
def write_numbers(
    prefix: U8, values: U64, present: Present, at: I64, out: U8, begin: int, end: int
) -> None:
    """Write the prefix and the number."""
    for row in range(begin, end):
        if len(present) == 0 or present[row]:
            at[row] = put_decimal(values[row], out, _copy(prefix, 0, len(prefix), out, at[row]))


@njit(nogil=True, cache=True)
def write_strings(
    prefix: U8,
    offsets: I32,
    data: U8,
    present: Present,
    at: I64,
    out: U8,
    begin: int,
    end: int,
) -> None:
    """Write the prefix and the string, quoted and escaped."""
    for row in range(begin, end):
        if len(present) == 0 or present[row]:
            to = _copy(prefix, 0, len(prefix), out, at[row])
            out[to] = 34
            to = _put_escaped(data, offsets[row], offsets[row + 1], out, to + 1)
            out[to] = 34
            at[row] = to + 1


@njit(nogil=True, cache=True)
def escape_all(offsets: I32, data: U8, ends: I64, out: U8) -> None:
    """Quote and escape m strings; `ends` (m + 1,) are the offsets of the results in `out`."""
    for i in range(len(offsets) - 1):
        to = ends[i]
        out[to] = 34
        to = _put_escaped(data, offsets[i], offsets[i + 1], out, to + 1)
        out[to] = 34
