"""NetFlow and IPFIX messages read naively, octet by octet, in plain Python."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flowray.wire.flow import kernels as k
from flowray.wire.flow.plan import Op

NS = 10**9
LAST = (1 << 63) - 1
V4 = 0xFFFF << 32


@dataclass
class Message:
    """Header row of a datagram and its sets (kind, set id, offset, length)."""

    header: list[int] = field(default_factory=lambda: [0] * k.HEADER_COLUMNS)
    sets: list[tuple[int, int, int, int]] = field(default_factory=list)


def scan(data: bytes) -> Message:
    """One datagram. Offsets count from its first octet."""
    m = Message()
    h = m.header
    if len(data) < 4:
        h[k.H_CAUSE] = k.SHORT_HEADER
        return m
    version = h[k.H_VERSION] = int.from_bytes(data[:2])
    least = {5: 24, 9: 20, 10: 16}.get(version)
    if version == 0:
        h[k.H_VERSION] = k.SFLOW
        return m
    if least is None:
        h[k.H_CAUSE] = k.UNKNOWN_VERSION
        return m
    if len(data) < least:
        h[k.H_CAUSE] = k.SHORT_HEADER
        return m
    if version == 5:
        _, count, uptime, seconds, nanos, sequence, engine, sampling = struct.unpack(
            "!HHIIIIHH", data[:24]
        )
        if not 0 < count <= (len(data) - 24) // 48:
            h[k.H_CAUSE] = k.BAD_COUNT
            return m
        h[k.H_UPTIME], h[k.H_SEQUENCE], h[k.H_DOMAIN] = uptime, sequence, engine
        h[k.H_EXPORT], h[k.H_SAMPLING] = seconds * NS + nanos % NS, sampling % (1 << 14)
        m.sets.append((k.SET_DATA, 0, 24, 48 * count))
        return m
    if version == 9:
        _, _, uptime, seconds, sequence, domain = struct.unpack("!HHIIII", data[:20])
        end, kinds = len(data), {0: k.SET_TEMPLATE, 1: k.SET_OPTIONS_TEMPLATE}
        h[k.H_UPTIME] = uptime
    else:
        _, end, seconds, sequence, domain = struct.unpack("!HHIII", data[:16])
        kinds = {2: k.SET_TEMPLATE, 3: k.SET_OPTIONS_TEMPLATE}
        if not 16 <= end <= len(data):
            h[k.H_CAUSE] = k.BAD_LENGTH
            return m
    h[k.H_EXPORT], h[k.H_SEQUENCE], h[k.H_DOMAIN] = seconds * NS, sequence, domain
    at = least
    while at + 4 <= end:
        number, size = struct.unpack("!HH", data[at : at + 4])
        if size < 4 or at + size > end:
            if (version, number, size) != (9, 0, 0):
                h[k.H_CAUSE] = k.BAD_SET_LENGTH
            break
        kind = k.SET_DATA if number >= 256 else kinds.get(number)
        if kind is not None and size > 4:
            m.sets.append((kind, number, at + 4, size - 4))
        at += size
    return m


@dataclass
class Records:
    """(octet, length) of the fields of each record; whether the set ends amiss."""

    places: list[list[tuple[int, int]]]
    overrun: bool


def records(data: bytes, at: int, size: int, lengths: Sequence[int]) -> Records:
    """The records of a set; fields of 0xFFFF octets vary in length (RFC 7011 section 7)."""
    end = at + size
    least = sum(1 if n == 0xFFFF else n for n in lengths)
    found: list[list[tuple[int, int]]] = []
    while at + least <= end:
        places = list(_places(data, at, lengths))
        after = sum(places[-1])
        whole = len(places) == len(lengths) and after <= end
        if not whole:
            return Records(found, overrun=True)
        found.append(places)
        at = after
    return Records(found, overrun=False)


def _places(data: bytes, at: int, lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    for n in lengths:
        size = n
        if n == 0xFFFF:
            size, at = int.from_bytes(data[at : at + 1]), at + 1
            if size == 255:
                size, at = int.from_bytes(data[at : at + 2]), at + 2
        yield at, size
        at += size


def number(data: bytes, at: int, size: int) -> int:
    """The last eight octets of a field as a number."""
    return int.from_bytes(data[at : at + size][-8:])


def time(op: int, v: int, size: int, header: Sequence[int], boot: int, *, cut: bool) -> int:
    """Nanoseconds of a time field; 0 if it is unknown or beyond what an int64 holds."""
    export, uptime = header[k.H_EXPORT], header[k.H_UPTIME]
    if op == Op.UPTIME and header[k.H_VERSION] == 10:
        if uptime == 0:
            return export
        t = (uptime + v) * 10**6
    elif op == Op.UPTIME:
        age = (uptime - v) % (1 << 32)
        age -= (age >> 31) << 32
        t = export - age * 10**6
        if cut:
            t = (export // NS - age // 1000) * NS
    elif op == Op.NTP:
        if size != 8 or v == 0:
            return 0
        era = 0 if v >> 63 else 1 << 32  # from 2036 on (RFC 4330 section 3)
        t = ((v >> 32) + era - 2_208_988_800) * NS + ((v % (1 << 32)) * NS >> 32)
    elif op == Op.BEFORE_EXPORT_US:
        t = export - v * 1000
    else:
        unit = {Op.SECONDS: NS, Op.MILLISECONDS: 10**6, Op.SINCE_BOOT: 10**6}[Op(op)]
        t = (v + (boot if op == Op.SINCE_BOOT else 0)) * unit
    if not 0 <= t <= LAST:
        return 0
    return t - t % NS if cut else t


def decode(
    data: bytes,
    places: list[tuple[int, int]],
    ops: Sequence[Sequence[int]],
    header: Sequence[int],
    *,
    variable: bool,
) -> dict[int, int]:
    """The words that a plan's ops make of one record, by word row."""
    words: dict[int, int] = {}
    begin = places[0][0]

    def place(where: int, width: int) -> tuple[int, int]:
        return places[where] if variable else (begin + where, width)

    for op, where, width, dest, only_unset, argument in ops:
        at, size = (begin, 0) if op == Op.CONSTANT else place(where, width)
        high, low = words.get(dest, 0), words.get(dest + 1, 0)
        if op in {Op.IPV4, Op.IPV6}:
            if size != {Op.IPV4: 4, Op.IPV6: 16}[Op(op)]:
                continue
            raw = int.from_bytes(data[at : at + size])
            if only_unset and (high or low not in {0, V4} or not raw):
                continue
            value = V4 | raw if op == Op.IPV4 else raw
            words[dest], words[dest + 1] = value >> 64, value % (1 << 64)
        elif only_unset and high:
            continue
        elif op == Op.UINT:
            words[dest] = number(data, at, size)
        elif op == Op.LOCATION:
            words[dest] = at << 16 | size
        elif op == Op.CONSTANT:
            words[dest] = argument
        else:
            boot = 0
            if op == Op.SINCE_BOOT:
                boot = number(data, *place(argument >> 17, argument >> 1 & 0xFFFF))
            words[dest] = time(
                op, number(data, at, size), size, header, boot, cut=bool(argument & 1)
            )
    return words
