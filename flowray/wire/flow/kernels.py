"""Compiled loops of flow decoding: list the sets of messages, fill columns from their records.

Nothing here reads outside a datagram: the scan admits only sets that lie inside their message, and
the extraction only records that lie inside their set.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from flowray.hashing import Word, index_touch
from flowray.wire.octets import u8, u16, u32, u64

I64: TypeAlias = npt.NDArray[np.int64]
U64: TypeAlias = npt.NDArray[np.uint64]
U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]

# Protocols, by the first octets of a datagram.
UNKNOWN, V5, V9, IPFIX, SFLOW = 0, 5, 9, 10, 64

# Set kinds.
SET_DATA, SET_TEMPLATE, SET_OPTIONS_TEMPLATE = 0, 1, 2

# Why a message is malformed (index into ledger.MALFORMED).
OK, SHORT_HEADER, UNKNOWN_VERSION, BAD_COUNT, BAD_LENGTH, BAD_SET_LENGTH = 0, 1, 2, 3, 4, 5

# Columns of the per-datagram header table.
H_VERSION, H_CAUSE, H_SEQUENCE, H_DOMAIN, H_EXPORT, H_UPTIME, H_SAMPLING, H_RECORDS = range(8)
HEADER_COLUMNS = 8

# What `take_headers` takes beside columns of the header table.
EXPORTER, ARRIVAL = -1, -2

# Columns of the set table.
S_PACKET, S_KIND, S_ID, S_OFFSET, S_LENGTH, S_TEMPLATE = range(6)
SET_COLUMNS = 6

NS = 1_000_000_000
NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970 (RFC 5905)."""

UNSET_V4 = np.uint64(0xFFFF00000000)

NEAR = 512
"""Records that all fields are taken from before the next ones: their octets are then read from
memory once.
"""


@njit(cache=True, nogil=True)
def scan(
    buf: U8, offset: I64, length: I64, begin: Word, header: I64, sets: I64
) -> tuple[Word, Word]:
    """List the sets of messages from `begin` on, until `sets` (k, SET_COLUMNS) is full.

    Fills header (n, HEADER_COLUMNS) of each message walked. Returns (sets listed, index of the
    first message not walked). A message whose walk meets an impossible length keeps the sets before
    it; its cause tells.
    """
    k = 0
    for i in range(begin, offset.size):
        p, size = offset[i], length[i]
        # v5 has one set; a v9 or IPFIX set takes 4 octets at least.
        if k + size // 4 + 1 > sets.shape[0]:
            return k, i
        for c in range(HEADER_COLUMNS):
            header[i, c] = 0
        if size < 4:
            header[i, H_CAUSE] = SHORT_HEADER
            continue
        version = np.int64(u16(buf, p))
        header[i, H_VERSION] = version
        if version == V9:
            if size < 20:
                header[i, H_CAUSE] = SHORT_HEADER
                continue
            header[i, H_UPTIME] = np.int64(u32(buf, p + 4))
            header[i, H_EXPORT] = np.int64(u32(buf, p + 8)) * NS
            header[i, H_SEQUENCE] = np.int64(u32(buf, p + 12))
            header[i, H_DOMAIN] = np.int64(u32(buf, p + 16))
            q, end = p + 20, p + size
        elif version == IPFIX:
            if size < 16:
                header[i, H_CAUSE] = SHORT_HEADER
                continue
            declared = np.int64(u16(buf, p + 2))
            if declared < 16 or declared > size:
                header[i, H_CAUSE] = BAD_LENGTH
                continue
            header[i, H_EXPORT] = np.int64(u32(buf, p + 4)) * NS
            header[i, H_SEQUENCE] = np.int64(u32(buf, p + 8))
            header[i, H_DOMAIN] = np.int64(u32(buf, p + 12))
            q, end = p + 16, p + declared
        elif version == V5:
            if size < 24:
                header[i, H_CAUSE] = SHORT_HEADER
                continue
            count = np.int64(u16(buf, p + 2))
            if count == 0 or 24 + 48 * count > size:
                header[i, H_CAUSE] = BAD_COUNT
                continue
            header[i, H_UPTIME] = np.int64(u32(buf, p + 4))
            header[i, H_EXPORT] = np.int64(u32(buf, p + 8)) * NS + np.int64(u32(buf, p + 12)) % NS
            header[i, H_SEQUENCE] = np.int64(u32(buf, p + 16))
            header[i, H_DOMAIN] = np.int64(u16(buf, p + 20))
            header[i, H_SAMPLING] = np.int64(u16(buf, p + 22)) & 0x3FFF
            sets[k, S_PACKET], sets[k, S_KIND], sets[k, S_ID] = i, SET_DATA, 0
            sets[k, S_OFFSET], sets[k, S_LENGTH], sets[k, S_TEMPLATE] = p + 24, 48 * count, 0
            k += 1
            continue
        elif version == 0:
            header[i, H_VERSION] = SFLOW
            continue
        else:
            header[i, H_CAUSE] = UNKNOWN_VERSION
            continue
        while q + 4 <= end:
            set_id, octets = np.int64(u16(buf, q)), np.int64(u16(buf, q + 2))
            if octets < 4 or q + octets > end:
                # v9 has no message length: what follows the last set may be padding to a fixed
                # datagram size.
                if not (version == V9 and set_id == 0 and octets == 0):
                    header[i, H_CAUSE] = BAD_SET_LENGTH
                break
            kind = -1
            if set_id >= 256:
                kind = SET_DATA
            elif set_id == (0 if version == V9 else 2):
                kind = SET_TEMPLATE
            elif set_id == (1 if version == V9 else 3):
                kind = SET_OPTIONS_TEMPLATE
            if kind >= 0 and octets > 4:
                sets[k, S_PACKET], sets[k, S_KIND], sets[k, S_ID] = i, kind, set_id
                sets[k, S_OFFSET], sets[k, S_LENGTH], sets[k, S_TEMPLATE] = q + 4, octets - 4, -1
                k += 1
            q += octets
    return k, offset.size


@njit(cache=True, nogil=True)
def resolve(
    sets: I64, begin: Word, header: I64, exporter: npt.NDArray[np.uint32], keys: U64, values: U64,
    used: U8,
) -> None:  # fmt: skip
    """Write the template number of each data set from `begin` on, -1 where the exporter has told
    none. The templates count as used. A run of sets of one template is looked up once.
    """
    last_a, last_b, number = np.uint64(0), np.uint64(0), np.int64(-1)  # no set has a b of 0
    for k in range(begin, sets.shape[0]):
        if sets[k, S_KIND] != SET_DATA or sets[k, S_ID] < 256:
            continue
        i = sets[k, S_PACKET]
        a = np.uint64(exporter[i]) << np.uint64(32) | np.uint64(header[i, H_DOMAIN])
        b = np.uint64(header[i, H_VERSION] << 16 | sets[k, S_ID])
        if a != last_a or b != last_b:
            v = index_touch(keys, values, used, a, b)
            number = np.int64(-1) if v == np.uint64(0xFFFFFFFFFFFFFFFF) else np.int64(v)
            last_a, last_b = a, b
        sets[k, S_TEMPLATE] = number


@njit(cache=True, nogil=True, inline="always")
def _uint(buf: U8, p: Word, width: Word) -> Word:
    """Big-endian unsigned of up to 8 octets; of longer fields the last 8."""
    v = np.uint64(0)
    if width == 4:
        v = u32(buf, p)
    elif width >= 8:
        v = u64(buf, p + width - 8)
    elif width == 2:
        v = u16(buf, p)
    else:
        for j in range(width):
            v = (v << np.uint64(8)) | u8(buf, p + j)
    return v


@njit(cache=True, nogil=True, inline="always")
def _nanoseconds(base: Word, more: Word, unit: Word) -> Word:
    """(base + more) * unit, or -1 if that, or what it is made of, is beyond an int64."""
    last = 0x7FFFFFFFFFFFFFFF // unit
    if base < 0 or more < 0 or base > last or more > last - base:
        return -1
    return (base + more) * unit


@njit(cache=True, nogil=True, inline="always")
def _time(
    told: Word, width: Word, op: Word, argument: Word, boot: Word, version: Word, export: Word,
    uptime: Word,
) -> Word:  # fmt: skip
    """Nanoseconds since the epoch of one time element, 0 for what no int64 holds.

    told: its value. argument: bit 0 for whole seconds; of the boot time 16 bits of width, then its
    place. version, export, uptime: of the message header. Takes no arrays: numba counts references
    to those that a function with many branches is given, at every call.
    """
    v = np.int64(told)
    cut = argument & 1
    t = np.int64(0)
    if op == 9:  # UPTIME
        if version == IPFIX:
            # The decoder puts the boot time told by options (ms) where v9 has the uptime.
            t = _nanoseconds(uptime, v, 1_000_000) if uptime != 0 else export
            cut &= np.int64(uptime != 0)
        else:
            age = (uptime - v) & 0xFFFFFFFF
            if age >= 0x80000000:  # the flow ends after the header's clock, or the uptime wrapped
                age -= 0x100000000
            t = (export // NS - age // 1000) * NS if cut else export - age * 1_000_000
    elif op == 5:
        t = _nanoseconds(0, v, NS)
    elif op == 6:
        t = _nanoseconds(0, v, 1_000_000)
    elif op == 7:
        if width == 8 and v != 0:
            seconds = ((v >> 32) & 0xFFFFFFFF) - NTP_EPOCH
            if v > 0:  # the top bit is clear: era 1, from 2036 on (RFC 4330 section 3)
                seconds += 0x100000000
            t = seconds * NS + (((v & 0xFFFFFFFF) * NS) >> 32)
    elif op == 8:
        age = _nanoseconds(0, v, 1000)
        t = export - age if age >= 0 else age
    else:  # SINCE_BOOT
        t = _nanoseconds(boot, v, 1_000_000)
    if t < 0:
        t = np.int64(0)
    return t - t % NS if cut else t


@njit(cache=True, nogil=True, inline="always")
def _store(
    buf: U8, p: Word, width: Word, op: Word, only_unset: Word, argument: Word, boot: Word,
    header: I64, i: Word, words: U64, dest: Word, r: Word,
) -> None:  # fmt: skip
    """Apply one op to one record; i is its datagram."""
    if op == 1 or op == 2:
        hi = _uint(buf, p, 8) if op == 2 else np.uint64(0)
        lo = _uint(buf, p + 8, 8) if op == 2 else np.uint64(0xFFFF00000000) | u32(buf, p)
        old_hi, old_lo = words[dest, r], words[dest + 1, r]
        unset = old_hi == 0 and (old_lo == 0 or old_lo == np.uint64(0xFFFF00000000))
        told = hi | lo != 0 if op == 2 else lo != np.uint64(0xFFFF00000000)
        if not only_unset or (unset and told):
            words[dest, r], words[dest + 1, r] = hi, lo
    elif not only_unset or words[dest, r] == 0:
        if op == 0:
            words[dest, r] = _uint(buf, p, width)
        elif op == 3:
            words[dest, r] = np.uint64(p) << np.uint64(16) | np.uint64(width)
        elif op == 4:
            words[dest, r] = np.uint64(argument)
        else:
            told = _uint(buf, p, width)
            words[dest, r] = np.uint64(
                _time(
                    told, width, op, argument, boot, header[i, H_VERSION], header[i, H_EXPORT],
                    header[i, H_UPTIME],
                )
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _clear(words: U64, unset: I64, packet_row: Word, n: Word) -> None:
    """Zero the first n words of the rows that no op fills."""
    for u in range(unset.size):
        if unset[u] != packet_row:
            words[unset[u], :n] = 0


# The loops over one field of many records. Each is a function of its own: in a larger one they are
# not vectorised.


@njit(cache=True, nogil=True)
def _uints(buf: U8, start: I64, place: Word, width: Word, out: U64) -> None:
    if width == 4:
        for r in range(start.size):
            out[r] = u32(buf, start[r] + place)
    elif width == 2:
        for r in range(start.size):
            out[r] = u16(buf, start[r] + place)
    elif width == 1:
        for r in range(start.size):
            out[r] = u8(buf, start[r] + place)
    elif width >= 8:
        for r in range(start.size):
            out[r] = u64(buf, start[r] + place + width - 8)
    else:
        for r in range(start.size):
            out[r] = _uint(buf, start[r] + place, width)


@njit(cache=True, nogil=True)
def _ipv4s(buf: U8, start: I64, place: Word, high: U64, low: U64) -> None:
    high[: start.size] = 0
    for r in range(start.size):
        low[r] = np.uint64(0xFFFF00000000) | u32(buf, start[r] + place)


@njit(cache=True, nogil=True)
def _times(
    buf: U8, start: I64, place: Word, width: Word, op: Word, only_unset: Word, argument: Word,
    header: I64, packet: U64, out: U64,
) -> None:  # fmt: skip
    boot = np.int64(0)
    for r in range(start.size):
        if only_unset and out[r] != 0:
            continue
        i = packet[r]
        if op == 10:
            boot = np.int64(_uint(buf, start[r] + (argument >> 17), argument >> 1 & 0xFFFF))
        out[r] = np.uint64(
            _time(
                _uint(buf, start[r] + place, width), width, op, argument, boot,
                header[i, H_VERSION], header[i, H_EXPORT], header[i, H_UPTIME],
            )
        )  # fmt: skip


@njit(cache=True, nogil=True)
def _whole_times(buf: U8, start: I64, place: Word, unit: Word, cut: Word, out: U64) -> None:
    """Times of 8 octets in seconds or milliseconds, by far the most common kinds."""
    last = np.uint64(0x7FFFFFFFFFFFFFFF // unit)
    step = np.uint64(unit)
    for r in range(start.size):
        told = u64(buf, start[r] + place)
        out[r] = told * step if told <= last else np.uint64(0)
    if cut:
        for r in range(start.size):
            out[r] -= out[r] % np.uint64(NS)


@njit(cache=True, nogil=True)
def _extract_block(
    buf: U8, start: I64, begin: Word, ops: I64, header: I64, words: U64, packet_row: Word
) -> None:
    """All ops on the records that begin at `start`, which go to words from column `begin` on."""
    n = start.size
    end = begin + n
    packet = words[packet_row, begin:end]
    for o in range(ops.shape[0]):
        op, place, width, dest = ops[o, 0], ops[o, 1], ops[o, 2], ops[o, 3]
        only_unset, argument = ops[o, 4], ops[o, 5]
        out = words[dest, begin:end]
        if op == 0 and not only_unset:
            _uints(buf, start, place, width, out)
        elif op == 1 and not only_unset:
            _ipv4s(buf, start, place, out, words[dest + 1, begin:end])
        elif op == 2 and not only_unset:
            _uints(buf, start, place, 8, out)
            _uints(buf, start, place + 8, 8, words[dest + 1, begin:end])
        elif op == 4 and not only_unset:
            out[:] = np.uint64(argument)
        elif (op == 5 or op == 6) and width == 8 and not only_unset:
            unit = NS if op == 5 else 1_000_000
            _whole_times(buf, start, place, unit, argument & 1, out)
        elif op >= 5:
            _times(buf, start, place, width, op, only_unset, argument, header, packet, out)
        else:
            for r in range(n):
                i = np.int64(packet[r])
                _store(
                    buf, start[r] + place, width, op, only_unset, argument, 0, header, i, words,
                    dest, begin + r,
                )  # fmt: skip


@njit(cache=True, nogil=True)
def extract_fixed(
    buf: U8, sets: I64, chosen: I64, record_size: Word, ops: I64, unset: I64, header: I64,
    words: U64, packet_row: Word,
) -> Word:  # fmt: skip
    """Decode the sets chosen (indices) whose records all take `record_size` octets; returns the
    records. Word rows in `unset` become zero.
    """
    rows = 0
    for c in range(chosen.size):
        rows += sets[chosen[c], S_LENGTH] // record_size
    start = np.empty(rows, np.int64)
    packet = words[packet_row]
    row = 0
    for c in range(chosen.size):
        s = chosen[c]
        i, p = sets[s, S_PACKET], sets[s, S_OFFSET]
        count = sets[s, S_LENGTH] // record_size
        header[i, H_RECORDS] += count
        for r in range(count):
            start[row + r] = p + r * record_size
        packet[row : row + count] = np.uint64(i)
        row += count
    _clear(words, unset, packet_row, rows)
    for begin in range(0, rows, NEAR):
        end = min(begin + NEAR, rows)
        _extract_block(buf, start[begin:end], begin, ops, header, words, packet_row)
    return rows


@njit(cache=True, nogil=True)
def _walk(buf: U8, p: Word, end: Word, widths: I64) -> Word:
    """End of the record that begins at p, or -1 if it overruns the set (RFC 7011 section 7)."""
    for f in range(widths.size):
        width = widths[f]
        if width == 0xFFFF:
            if p + 1 > end:
                return -1
            width = np.int64(buf[p])
            p += 1
            if width == 255:
                if p + 2 > end:
                    return -1
                width = np.int64(u16(buf, p))
                p += 2
        p += width
        if p > end:
            return -1
    return p


@njit(cache=True, nogil=True)
def extract_variable(
    buf: U8, sets: I64, chosen: I64, widths: I64, least: Word, ops: I64, unset: I64, header: I64,
    words: U64, packet_row: Word,
) -> Word:  # fmt: skip
    """As `extract_fixed`, for fields of variable length; ops name fields by ordinal."""
    row = 0
    place = np.zeros(widths.size, np.int64)
    size = np.zeros(widths.size, np.int64)
    for c in range(chosen.size):
        s = chosen[c]
        i = sets[s, S_PACKET]
        p = sets[s, S_OFFSET]
        end = p + sets[s, S_LENGTH]
        while p + least <= end:
            after = _walk(buf, p, end, widths)
            if after < 0:
                if header[i, H_CAUSE] == OK:
                    header[i, H_CAUSE] = BAD_SET_LENGTH
                break
            for f in range(widths.size):
                width = widths[f]
                if width == 0xFFFF:
                    width = np.int64(buf[p])
                    p += 1
                    if width == 255:
                        width = np.int64(u16(buf, p))
                        p += 2
                place[f], size[f] = p, width
                p += width
            for o in range(ops.shape[0]):
                op, f, dest = ops[o, 0], ops[o, 1], ops[o, 3]
                width = size[f]
                if (op == 1 and width != 4) or (op == 2 and width != 16):
                    continue
                boot = np.int64(0)
                if op == 10:
                    told = ops[o, 5] >> 17
                    boot = np.int64(_uint(buf, place[told], size[told]))
                _store(
                    buf, place[f], width, op, ops[o, 4], ops[o, 5], boot, header, i, words, dest,
                    row,
                )  # fmt: skip
            words[packet_row, row] = np.uint64(i)
            header[i, H_RECORDS] += 1
            row += 1
    _clear(words, unset, packet_row, row)
    return row


@njit(cache=True, nogil=True)
def take_headers(
    words: U64, n: Word, packet_row: Word, exporter: U32, arrival: I64, header: I64, taken: I64
) -> None:
    """Copy what a record has of its datagram. taken (m, 2): column of the header table, or one of
    EXPORTER and ARRIVAL; word row.
    """
    packet = words[packet_row]
    for t in range(taken.shape[0]):
        column, row_words = taken[t, 0], words[taken[t, 1]]
        if column == -1:
            for r in range(n):
                row_words[r] = exporter[packet[r]]
        elif column == -2:
            for r in range(n):
                row_words[r] = np.uint64(arrival[packet[r]])
        else:
            for r in range(n):
                row_words[r] = np.uint64(header[packet[r], column])


@njit(cache=True, nogil=True)
def rates_with_default(rate: U64, default: U64, packet: I64, first: Word, applied: U64) -> None:
    """Sampling rates (n,) that apply: the record's, else default[packet - first] of its message."""
    for r in range(rate.size):
        applied[r] = rate[r] if rate[r] != 0 else default[packet[r] - first]


@njit(cache=True, nogil=True)
def stack_labels(words: U64, first: Word, n: Word, raw: U8, location: U64) -> None:
    """Compact ten MPLS stack entries (label 20 bits, exp 3, bottom 1) a record into the value of a
    LABELS field.

    Entries that are zero are not there. Four octets a label: its position, the label in 3 octets.
    raw holds 40 octets a record; location (n,) tells offset << 16 | length in it.
    """
    for r in range(n):
        p = r * 40
        k = 0
        for e in range(10):
            entry = words[first + e, r]
            if entry == 0:
                continue
            label = entry >> np.uint64(4)
            raw[p + 4 * k] = k
            raw[p + 4 * k + 1] = np.uint8((label >> np.uint64(16)) & np.uint64(0xFF))
            raw[p + 4 * k + 2] = np.uint8((label >> np.uint64(8)) & np.uint64(0xFF))
            raw[p + 4 * k + 3] = np.uint8(label & np.uint64(0xFF))
            k += 1
        location[r] = np.uint64(p) << np.uint64(16) | np.uint64(4 * k)


@njit(cache=True, nogil=True)
def mask_address(words: U64, source: Word, mask: Word, dest: Word, n: Word) -> None:
    """Write the network of an address; the mask counts bits of the address's own family. Mask 0
    gives the zero address of the family.
    """
    ones = np.uint64(0xFFFFFFFFFFFFFFFF)
    for r in range(n):
        hi, lo = words[source, r], words[source + 1, r]
        bits: Word = np.int64(min(words[mask, r], np.uint64(128)))
        if hi == 0 and (lo >> np.uint64(32)) == np.uint64(0xFFFF):
            bits = min(bits, 32) + 96
        bits = min(bits, 128)
        if bits <= 64:
            words[dest, r] = hi & (ones << np.uint64(64 - bits)) if bits > 0 else np.uint64(0)
            words[dest + 1, r] = 0
        else:
            words[dest, r] = hi
            keep = ones if bits == 128 else ones << np.uint64(128 - bits)
            words[dest + 1, r] = lo & keep
