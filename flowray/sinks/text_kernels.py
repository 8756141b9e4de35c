"""Compiled writers of text: each fills the offsets and bytes of an Arrow string column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]

ADDRESS_WIDTH = 39
"""Longest text of an address: eight groups of four digits."""

PREFIX_WIDTH = ADDRESS_WIDTH + 4
"""Longest text of a prefix."""

TIME_WIDTH = 32
"""Room for any rendered time: `2554-07-21T23:34:33.709551615Z` has 30 characters."""

EPOCH, PLAIN, RFC3339 = 0, 1, 2
"""Styles of `times`."""

_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def _octet_texts() -> U8:
    """(256, 4): the digits of each number below 256, and in the last column how many they are."""
    texts = np.zeros((256, 4), np.uint8)
    for value, row in enumerate(texts):
        digits = str(value).encode()
        row[: len(digits)] = list(digits)
        row[3] = len(digits)
    return texts


_OCTETS = _octet_texts()


@njit(nogil=True, cache=True)
def put_decimal(value: np.uint64, out: U8, at: int) -> int:
    """Write a number at `at`; returns where it ends."""
    width = 1
    rest = value // np.uint64(10)
    while rest > 0:
        width += 1
        rest //= np.uint64(10)
    rest = value
    for i in range(at + width - 1, at - 1, -1):
        out[i] = np.uint64(48) + rest % np.uint64(10)
        rest //= np.uint64(10)
    return at + width


@njit(nogil=True, cache=True)
def _put_padded(value: np.uint64, width: int, out: U8, at: int) -> int:
    rest = value
    for i in range(at + width - 1, at - 1, -1):
        out[i] = np.uint64(48) + rest % np.uint64(10)
        rest //= np.uint64(10)
    return at + width


@njit(nogil=True, cache=True)
def _put_hex(value: np.uint64, out: U8, at: int) -> int:
    shift = 60
    while shift > 0 and (value >> np.uint64(shift)) == 0:
        shift -= 4
    while shift >= 0:
        out[at] = _DIGITS[(value >> np.uint64(shift)) & np.uint64(15)]
        at += 1
        shift -= 4
    return at


@njit(nogil=True, cache=True)
def _put_octet(value: np.uint8, out: U8, at: int) -> int:
    """Write a number below 256; up to two bytes behind it are overwritten."""
    out[at] = _OCTETS[value, 0]
    out[at + 1] = _OCTETS[value, 1]
    out[at + 2] = _OCTETS[value, 2]
    return at + int(_OCTETS[value, 3])


@njit(nogil=True, cache=True)
def _put_ipv4(raw: U8, row: int, out: U8, at: int) -> int:
    at = _put_octet(raw[row, 12], out, at)
    out[at] = 46
    at = _put_octet(raw[row, 13], out, at + 1)
    out[at] = 46
    at = _put_octet(raw[row, 14], out, at + 1)
    out[at] = 46
    return _put_octet(raw[row, 15], out, at + 1)


@njit(nogil=True, cache=True)
def _put_ipv6(raw: U8, row: int, out: U8, at: int) -> int:
    """RFC 5952 section 4: the longest run of two or more zero groups, the first such, is `::`."""
    best, length, run = -1, 1, 0
    for i in range(8):
        if raw[row, 2 * i] == 0 and raw[row, 2 * i + 1] == 0:
            run += 1
            if run > length:
                best, length = i - run + 1, run
        else:
            run = 0
    i = 0
    while i < 8:
        if i == best:
            out[at] = 58
            out[at + 1] = 58
            at += 2
            i += length
            continue
        if i > 0 and i != best + length:
            out[at] = 58
            at += 1
        group = np.uint64(raw[row, 2 * i]) << np.uint64(8) | np.uint64(raw[row, 2 * i + 1])
        at = _put_hex(group, out, at)
        i += 1
    return at


@njit(nogil=True, cache=True)
def _zeros(raw: U8, row: int) -> int:
    """How many zero bytes an address begins with."""
    first = 0
    while first < 16 and raw[row, first] == 0:
        first += 1
    return first


@njit(nogil=True, cache=True)
def addresses(raw: U8, unset: U8, offsets: I32, out: U8) -> int:
    """Native addresses as text: IPv4-mapped dotted, else RFC 5952. Returns the bytes written.

    `raw` (n, 16) network order; `unset` (n,) says how all zero is written: 0 as nothing, 4 as
    `0.0.0.0`, 6 as `::`. `offsets` (n + 1,), `out` at least 39 n bytes.
    """
    at = 0
    for row in range(raw.shape[0]):
        offsets[row] = at
        first = _zeros(raw, row)
        if first == 16:
            if unset[row] == 4:
                at = _put_ipv4(raw, row, out, at)
            elif unset[row] == 6:
                at = _put_ipv6(raw, row, out, at)
        elif first == 10 and raw[row, 10] == 255 and raw[row, 11] == 255:
            at = _put_ipv4(raw, row, out, at)
        else:
            at = _put_ipv6(raw, row, out, at)
    offsets[raw.shape[0]] = at
    return at


@njit(nogil=True, cache=True)
def _put_mapped(raw: U8, row: int, out: U8, at: int) -> int:
    """An IPv4-mapped address as `::ffff:192.0.2.1` (RFC 5952 section 5)."""
    for i in range(7):
        out[at + i] = 102 if 2 <= i < 6 else 58
    return _put_ipv4(raw, row, out, at + 7)


@njit(nogil=True, cache=True)
def prefixes(raw: U8, offsets: I32, out: U8) -> int:
    """Prefixes as `192.0.2.0/24` and `2001:db8::/32`. Returns the bytes written.

    `raw` (n, 18): the address in network order, 4 or 6 for its family, length in bits. `offsets`
    (n + 1,), `out` at least PREFIX_WIDTH n bytes.
    """
    at = 0
    for row in range(raw.shape[0]):
        offsets[row] = at
        if raw[row, 16] == 4:
            at = _put_ipv4(raw, row, out, at)
        elif _zeros(raw, row) == 10 and raw[row, 10] == 255 and raw[row, 11] == 255:
            at = _put_mapped(raw, row, out, at)
        else:
            at = _put_ipv6(raw, row, out, at)
        out[at] = 47
        at = put_decimal(np.uint64(raw[row, 17]), out, at + 1)
    offsets[raw.shape[0]] = at
    return at


@njit(nogil=True, cache=True)
def mark_ipv6(raw: U8, family: U8) -> None:
    """Set `family` (n,) to 6 where `raw` (n, 16) is set and not an IPv4-mapped address."""
    for row in range(raw.shape[0]):
        first = _zeros(raw, row)
        if first < 16 and not (first == 10 and raw[row, 10] == 255 and raw[row, 11] == 255):
            family[row] = 6


@njit(nogil=True, cache=True)
def decimals(values: U64, offsets: I32, out: U8) -> int:
    """Numbers as text; `out` holds at least 20 n bytes. Returns the bytes written."""
    at = 0
    for row in range(len(values)):
        offsets[row] = at
        at = put_decimal(values[row], out, at)
    offsets[len(values)] = at
    return at


@njit(nogil=True, cache=True)
def hexadecimals(values: U64, offsets: I32, out: U8) -> int:
    """Numbers as lower-case hexadecimal; `out` holds at least 16 n. Returns the bytes written."""
    at = 0
    for row in range(len(values)):
        offsets[row] = at
        at = _put_hex(values[row], out, at)
    offsets[len(values)] = at
    return at


@njit(nogil=True, cache=True)
def macs(values: U64, offsets: I32, out: U8) -> int:
    """MAC addresses as `xx:xx:xx:xx:xx:xx`; `out` holds 17 n bytes. Returns the bytes written."""
    at = 0
    for row in range(len(values)):
        offsets[row] = at
        shift = 44
        while shift >= 0:
            out[at] = _DIGITS[(values[row] >> np.uint64(shift)) & np.uint64(15)]
            at += 1
            if shift % 8 == 0 and shift > 0:
                out[at] = 58
                at += 1
            shift -= 4
    offsets[len(values)] = at
    return at


@njit(nogil=True, cache=True)
def _put_date(seconds: np.uint64, separator: int, out: U8, at: int) -> int:
    """UTC date and time. The year is counted from March, so that the leap day is its last."""
    one = np.uint64(1)
    of_day = seconds % np.uint64(86400)
    days = seconds // np.uint64(86400) + np.uint64(719468)
    era = days // np.uint64(146097)
    day = days % np.uint64(146097)
    year = (
        day - day // np.uint64(1460) + day // np.uint64(36524) - day // np.uint64(146096)
    ) // np.uint64(365)
    day -= np.uint64(365) * year + year // np.uint64(4) - year // np.uint64(100)
    month = (np.uint64(5) * day + np.uint64(2)) // np.uint64(153)
    day -= (np.uint64(153) * month + np.uint64(2)) // np.uint64(5)
    year += np.uint64(400) * era
    if month >= 10:
        year += one
        month -= np.uint64(9)
    else:
        month += np.uint64(3)
    at = _put_clock(year, month, day + one, 45, 4, out, at)
    out[at] = separator
    hour = of_day // np.uint64(3600)
    minute = of_day // np.uint64(60) % np.uint64(60)
    return _put_clock(hour, minute, of_day % np.uint64(60), 58, 2, out, at + 1)


@njit(nogil=True, cache=True)
def _put_clock(
    a: np.uint64, b: np.uint64, c: np.uint64, separator: int, width: int, out: U8, at: int
) -> int:
    at = _put_padded(a, width, out, at)
    out[at] = separator
    at = _put_padded(b, 2, out, at + 1)
    out[at] = separator
    return _put_padded(c, 2, out, at + 1)


@njit(nogil=True, cache=True)
def times(values: U64, style: int, digits: int, offsets: I32, out: U8) -> int:
    """Nanoseconds since the epoch as text, cut to `digits` decimals. Returns the bytes written.

    EPOCH is `1677577561.000000`, PLAIN `2023-02-28 09:46:01.000000`, RFC3339
    `2023-02-28T09:46:01.000000Z`; 0, which is unknown, has zeros in place of each digit. `out`
    holds at least 32 n bytes.
    """
    at = 0
    billion = np.uint64(1_000_000_000)
    cut = np.uint64(1)
    for _ in range(9 - digits):
        cut *= np.uint64(10)
    for row in range(len(values)):
        offsets[row] = at
        seconds = values[row] // billion
        if style == 0:
            at = put_decimal(seconds, out, at)
        else:
            separator = 32 if style == 1 else 84
            if values[row] == 0:
                zero = np.uint64(0)
                at = _put_clock(zero, zero, zero, 45, 4, out, at)
                out[at] = separator
                at = _put_clock(zero, zero, zero, 58, 2, out, at + 1)
            else:
                at = _put_date(seconds, separator, out, at)
        if digits > 0:
            out[at] = 46
            at = _put_padded(values[row] % billion // cut, digits, out, at + 1)
        if style == 2:
            out[at] = 90
            at += 1
    offsets[len(values)] = at
    return at
