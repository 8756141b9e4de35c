"""Compiled loops of overlays: which lines of a table are touched by changes of prefixes, and what
these lines are with them. Prefixes and lines are as in `lpm_kernels`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word
from flowray.rib.lpm_kernels import IN_LINE_4, IN_LINE_6, MISSING, fill_lines_4, fill_lines_6

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Low: TypeAlias = npt.NDArray[Any]
Lines: TypeAlias = npt.NDArray[Any]

_DEPTH = 130


@njit(cache=True, nogil=True, inline="always")
def _host(wide: Word, plen: Word) -> Word:
    """The host bits of a prefix, as two words."""
    zero, full = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
    count = (np.int64(128) if wide else np.int64(32)) - np.int64(plen)
    if count >= 64:
        return (zero if count == 64 else full >> np.uint64(128 - count)), full
    return zero, (zero if count == 0 else full >> np.uint64(64 - count))


@njit(cache=True, nogil=True, inline="always")
def _start(wide: Word, lines: Lines, c: Word) -> Word:
    """The address that a line begins at, as two words."""
    if wide:
        return np.uint64(lines[8 * c]), np.uint64(lines[8 * c + 3])
    return np.uint64(0), np.uint64(lines[16 * c])


@njit(cache=True, nogil=True)
def _line_of(wide: Word, lines: Lines, count: Word, h: Word, w: Word) -> Word:
    """The last line that begins at or before an address; the first line begins at 0."""
    first, last = np.int64(0), np.int64(count)
    while last - first > 1:
        middle = (first + last) >> 1
        mh, mw = _start(wide, lines, middle)
        if mh < h or (mh == h and mw <= w):
            first = middle
        else:
            last = middle
    return first


@njit(cache=True, nogil=True)
def touch(
    wide: Word,
    hi: U64,
    lo: Low,
    plen: U8,
    lines: Lines,
    octets: U8,
    marked: Mask,
    touched: Mask,
) -> None:
    """Set touched[c] for each line that changes of these prefixes may change, or that is `marked`
    for what changed before and has addresses of theirs. `octets` are those of `lines` (flat).

    A line of which every interval is of a longer prefix does not depend on a prefix around it.
    """
    count, zero = marked.size, np.uint64(0)
    at, intervals = (np.int64(60), IN_LINE_6) if wide else (np.int64(56), IN_LINE_4)
    for i in range(plen.size):
        h, w = hi[i] if wide else zero, np.uint64(lo[i])
        host_h, host_w = _host(wide, plen[i])
        first = _line_of(wide, lines, count, h, w)
        last = _line_of(wide, lines, count, h | host_h, w | host_w)
        for c in range(first, last + 1):
            hit = marked[c]
            for k in range(intervals):
                hit |= octets[64 * c + at + k] <= plen[i]
            touched[c] |= hit


@njit(cache=True, nogil=True)
def _seek(
    wide: Word, hi: U64, lo: Low, plen: U8, first: Word, last: Word, h: Word, w: Word, length: Word
) -> Word:
    """The first of the prefixes first..last-1 that is not before the given one, or `last`."""
    while first < last:
        middle = (first + last) >> 1
        mw = np.uint64(lo[middle])
        if wide and hi[middle] != h:
            before = hi[middle] < h
        elif mw != w:
            before = mw < w
        else:
            before = plen[middle] < length
        if before:
            first = middle + 1
        else:
            last = middle
    return first


@njit(cache=True, nogil=True, inline="always")
def _is(
    wide: Word, hi: U64, lo: Low, plen: U8, i: Word, last: Word, h: Word, w: Word, length: Word
) -> Word:
    """Whether prefix i, if there is one, is the given one."""
    if i >= last:
        return False
    return plen[i] == length and np.uint64(lo[i]) == w and (not wide or hi[i] == h)


@njit(cache=True, nogil=True)
def _enclosing(
    wide: Word,
    h: Word,
    w: Word,
    present: Mask,
    hi: U64,
    lo: Low,
    plen: U8,
    payload: U32,
    end: Word,
    new_hi: U64,
    new_lo: Low,
    new_plen: U8,
    new_payload: U32,
    new_end: Word,
    value: U32,
    length: U8,
    end_hi: U64,
    end_lo: U64,
) -> Word:
    """The prefixes that contain an address and begin before it, the shortest first, from row 1 on;
    returns the last row. `end` and `new_end` are where prefixes from the address on begin.
    """
    depth, zero, i, j = 0, np.uint64(0), np.int64(0), np.int64(0)
    for n in range(129 if wide else 33):
        host_h, host_w = _host(wide, n)
        if (h & host_h) == zero and (w & host_w) == zero:
            break
        if not present[n]:
            continue
        start_h, start_w = h & ~host_h, w & ~host_w
        j = _seek(wide, new_hi, new_lo, new_plen, j, new_end, start_h, start_w, n)
        if _is(wide, new_hi, new_lo, new_plen, j, new_end, start_h, start_w, n):
            found = new_payload[j]
        else:
            i = _seek(wide, hi, lo, plen, i, end, start_h, start_w, n)
            if not _is(wide, hi, lo, plen, i, end, start_h, start_w, n):
                continue
            found = payload[i]
        if found != MISSING:
            depth += 1
            value[depth], length[depth] = found, n
            end_hi[depth], end_lo[depth] = h | host_h, w | host_w
    return depth


@njit(cache=True, nogil=True)
def measure(
    wide: Word,
    numbers: I64,
    lines: Lines,
    count: Word,
    hi: U64,
    lo: Low,
    plen: U8,
    new_hi: U64,
    new_lo: Low,
    new_plen: U8,
    places: I64,
) -> Word:
    """Where the prefixes of lines begin and end, of the table and of the changes: `places`
    (n, 4); returns the room that `sweep_lines` needs.
    """
    room = 0
    for i in range(numbers.size):
        for end in range(2):
            c = numbers[i] + end
            if c == count:
                places[i, 1], places[i, 3] = plen.size, new_plen.size
                continue
            h, w = _start(wide, lines, c)
            places[i, end] = _seek(wide, hi, lo, plen, 0, plen.size, h, w, 0)
            places[i, 2 + end] = _seek(wide, new_hi, new_lo, new_plen, 0, new_plen.size, h, w, 0)
        room += 2 * (places[i, 1] - places[i, 0] + places[i, 3] - places[i, 2]) + _DEPTH
    return room


@njit(cache=True, nogil=True)
def sweep_lines(
    wide: Word,
    numbers: I64,
    lines: Lines,
    count: Word,
    present: Mask,
    hi: U64,
    lo: Low,
    plen: U8,
    payload: U32,
    new_hi: U64,
    new_lo: Low,
    new_plen: U8,
    new_payload: U32,
    places: I64,
    out_hi: U64,
    out_lo: Low,
    out_payload: U32,
    out_plen: U8,
    begin: I64,
) -> None:
    """The intervals in the lines `numbers` (n,) with the changes, begin[i] and on for each, as
    `lpm_kernels.sweep` would make them. `present` (129,): lengths of prefixes that there are.
    """
    zero, full = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
    top_hi, top_lo = (full, full) if wide else (zero, np.uint64(0xFFFFFFFF))
    value, length = np.full(_DEPTH, MISSING, np.uint32), np.zeros(_DEPTH, np.uint8)
    end_hi, end_lo = np.full(_DEPTH, top_hi, np.uint64), np.full(_DEPTH, top_lo, np.uint64)
    n = 0
    for line in range(numbers.size):
        at_hi, at_lo = _start(wide, lines, numbers[line])
        # The last address of the line.
        z_hi, z_lo = top_hi, top_lo
        if numbers[line] + 1 < count:
            z_hi, z_lo = _start(wide, lines, numbers[line] + 1)
            z_hi, z_lo = z_hi - np.uint64(z_lo == zero), z_lo - np.uint64(1)
        i, i_end, j, j_end = places[line]
        depth = _enclosing(
            wide, at_hi, at_lo, present, hi, lo, plen, payload, i, new_hi, new_lo, new_plen,
            new_payload, j, value, length, end_hi, end_lo,
        )  # fmt: skip
        is_value, is_length, first = value[depth], length[depth], n
        while True:
            # The next prefix of both; a change goes before what it changes.
            last = i == i_end and j == j_end
            h, w, p, told = z_hi, z_lo, np.uint8(0), MISSING
            if not last:
                new = i == i_end
                if not new and j < j_end:
                    bh, nh = (hi[i], new_hi[j]) if wide else (zero, zero)
                    bw, nw = np.uint64(lo[i]), np.uint64(new_lo[j])
                    new = nh < bh or (
                        nh == bh and (nw < bw or (nw == bw and new_plen[j] <= plen[i]))
                    )
                    if nh == bh and nw == bw and new_plen[j] == plen[i]:
                        i += 1
                if new:
                    h, w = new_hi[j] if wide else zero, np.uint64(new_lo[j])
                    p, told = new_plen[j], new_payload[j]
                    j += 1
                    if told == MISSING:
                        continue
                else:
                    h, w = hi[i] if wide else zero, np.uint64(lo[i])
                    p, told = plen[i], payload[i]
                    i += 1
            while True:
                eh, ew = end_hi[depth], end_lo[depth]
                closes = depth > 0 and (eh < h or (eh == h and ew < w))
                if closes:
                    depth -= 1
                    h_2, w_2 = eh + np.uint64(ew == full), ew + np.uint64(1)
                else:
                    h_2, w_2 = h, w
                if h_2 != at_hi or w_2 != at_lo or (last and not closes):
                    if n == first or out_payload[n - 1] != is_value or out_plen[n - 1] != is_length:
                        if wide:
                            out_hi[n] = at_hi
                        out_lo[n], out_payload[n], out_plen[n] = at_lo, is_value, is_length
                        n += 1
                    at_hi, at_lo = h_2, w_2
                if not closes:
                    break
                is_value, is_length = value[depth], length[depth]
            if last:
                break
            depth += 1
            is_value, is_length = told, p
            value[depth], length[depth] = told, p
            host_h, host_w = _host(wide, p)
            end_hi[depth], end_lo[depth] = h | host_h, w | host_w
        begin[line + 1] = n


@njit(cache=True, nogil=True)
def splice(
    wide: Word,
    old_numbers: I64,
    old_begin: U32,
    old: Lines,
    numbers: I64,
    begin: I64,
    hi: U64,
    lo: Low,
    payload: U32,
    plen: U8,
    out_numbers: I64,
    out_begin: U32,
    out: Lines,
) -> Word:
    """Lines (m, width) of an overlay with those of `numbers` (n,) made anew, of their intervals;
    returns how many lines are replaced.
    """
    step, n, i = np.int64(IN_LINE_6 if wide else IN_LINE_4), 0, 0
    out_begin[0] = 0
    for j in range(numbers.size + 1):
        last = j == numbers.size
        while i < old_numbers.size and (last or old_numbers[i] <= numbers[j]):
            if last or old_numbers[i] < numbers[j]:
                a, b, to = (
                    np.int64(old_begin[i]),
                    np.int64(old_begin[i + 1]),
                    np.int64(out_begin[n]),
                )
                out[to : to + b - a] = old[a:b]
                out_numbers[n], out_begin[n + 1] = old_numbers[i], to + b - a
                n += 1
            i += 1
        if last:
            break
        a, b, to = begin[j], begin[j + 1], np.int64(out_begin[n])
        end = to + (b - a + step - 1) // step
        if wide:
            fill_lines_6(hi[a:b], lo[a:b], payload[a:b], plen[a:b], out[to:end])
        else:
            fill_lines_4(lo[a:b], payload[a:b], plen[a:b], out[to:end])
        out_numbers[n], out_begin[n + 1] = numbers[j], end
        n += 1
    return n


@njit(cache=True, nogil=True)
def rank(numbers: I64, marks: U64, ranks: U32) -> None:
    """Bits and ranks of marked lines (sorted): ranks[w] = those before the w-th word of `marks`,
    which holds zeros before.
    """
    i = 0
    for word in range(marks.size):
        ranks[word] = i
        while i < numbers.size and numbers[i] >> 6 == word:
            marks[word] |= np.uint64(1) << np.uint64(numbers[i] & 63)
            i += 1
