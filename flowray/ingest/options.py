"""What exporters tell in options data: sampling, interface names, VRFs, applications, their own
address and boot time.

Options records are rare and go through Python; what they tell is read back by columns through one
`Index`. Keys are (exporter << 32 | domain, topic << 56 | id); each fact is also stored for the
exporter as a whole, which serves where an exporter sends options in one observation domain and data
in another.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import TypeAlias

import numpy as np

from flowray.field import Element
from flowray.hashing import MISSING, U64, Index, Interner
from flowray.wire.bgp.distinguisher import rd_text
from flowray.wire.flow.template import Template

ANY_DOMAIN = 0xFFFFFFFF
"""Domain number under which facts are stored for the exporter as a whole."""

MAX_RATE = 0xFFFFFFFF
BOOT_ELEMENT = 160

V4_MAPPED = bytes(10) + b"\xff\xff"
"""What an IPv4 address has in front when it is written as an IPv6 one (RFC 4291 2.5.5.2)."""

Fact: TypeAlias = tuple[int, int, int | bytes]
"""(topic, id, value)"""


class Topic(IntEnum):
    """What a fact is about."""

    SAMPLER = 1
    DEFAULT_RATE = 2
    INTERFACE = 3
    VRF_NAME = 4
    VRF_RD = 5
    APPLICATION = 6
    BOOT = 7
    RD_TOLD = 8
    EXPORTER = 9
    INTERFACE_RATE = 10
    AGREED_RATE = 11


_RATES = (Topic.SAMPLER, Topic.INTERFACE_RATE)
"""Topics of which AGREED_RATE is made: the rate of a domain all of whose samplers have the same. It
serves records that name no sampler; nobody tells or shares it.
"""


_TELLING: frozenset[Element] = frozenset(
    (34, 50, 82, 90, 94, 96, 130, 131, 160, 236, 305, 307, 309, 311)
)
"""Elements without which an options record changes no table."""


def tells_anything(template: Template) -> bool:
    """Whether records of an options template can change a table."""
    return any(f.pen == 0 and f.element in _TELLING for f in template.fields)


def sampling_rate(values: Mapping[Element, int], probability: float = 0.0) -> int:
    """The rate 1:n told by a record, 0 if none.

    Size and population (RFC 5477 section 8.2.5, 8.2.6) win over packet interval and space (8.2.2,
    8.2.3), these over their likes in microseconds (8.2.4, 307 and 308) and the probability that a
    packet is taken (311), these over the elements of NetFlow v9.
    """
    size, population = values.get(309, 0), values.get(310, 0)
    if size and population:
        return min(round(population / size), MAX_RATE)
    if interval := values.get(305, 0):
        # RFC 5477: interval packets are taken, then space packets are not. Exporters that tell no
        # space mean 1 in interval.
        if 306 not in values:
            return min(interval, MAX_RATE)
        return min(round((interval + values[306]) / interval), MAX_RATE)
    if (interval := values.get(307, 0)) and 308 in values:
        return min(round((interval + values[308]) / interval), MAX_RATE)
    if probability > 1 / MAX_RATE:
        return max(round(1 / probability), 1)
    return min(values.get(34, 0) or values.get(50, 0), MAX_RATE)


def text(raw: bytes) -> bytes:
    """A string field up to its first NUL: what follows is padding, or what the buffer held."""
    return raw.partition(b"\x00")[0].strip()


def without_padding(texts: Interner, ids: U64) -> U64:
    """(n,) ids of texts up to their first NUL: a field of fixed length is filled up with them."""
    distinct, inverse = np.unique(ids, return_inverse=True)
    whole = [texts[int(i)] for i in distinct]
    if not any(b"\x00" in value for value in whole):
        return ids
    return texts.add_all(value.partition(b"\x00")[0] for value in whole)[inverse]


def record_values(template: Template, raw: bytes) -> Iterator[dict[Element, bytes]]:
    """The fields of each options record in a set body. Stops at padding or at a record that
    overruns the set.
    """
    at = 0
    while at + template.least_size <= len(raw):
        values: dict[Element, bytes] = {}
        for f in template.fields:
            length = f.length
            if length == 0xFFFF:
                if at >= len(raw):
                    return
                length, at = raw[at], at + 1
                if length == 255:
                    if at + 2 > len(raw):
                        return
                    length, at = int.from_bytes(raw[at : at + 2]), at + 2
            if at + length > len(raw):
                return
            if f.pen == 0:
                values.setdefault(f.element, raw[at : at + length])
            at += length
        yield values


class Options:
    """The facts of all exporters of a shard: at most `limit`, and `octets` of text in them."""

    def __init__(self, texts: Interner, limit: int = 1 << 20, octets: int = 64 << 20) -> None:
        self._texts = texts
        self._limit = limit
        self._octets_limit = octets
        self.octets = 0
        self._facts: dict[tuple[int, int, int, int], int | bytes] = {}
        self.index = Index(1024)
        self.refused = 0
        self._topics: set[int] = set()
        self._rates: dict[tuple[int, int], Counter[int]] = {}

    def knows(self, topic: Topic) -> bool:
        """Whether any exporter told a fact of this topic."""
        return topic in self._topics

    def __len__(self) -> int:
        return len(self._facts)

    def news(self, exporter: int, domain: int, values: Mapping[Element, bytes]) -> list[Fact]:
        """Facts of one record that differ from what is stored. Nothing is stored yet."""
        return [
            fact
            for fact in facts(values)
            if self._facts.get((exporter, domain, fact[0], fact[1])) != fact[2]
        ]

    def get(self, exporter: int, domain: int, topic: int, key: int) -> int | bytes | None:
        """What the exporter told of one thing in one domain."""
        return self._facts.get((exporter, domain, topic, key))

    def store(self, exporter: int, domain: int, topic: int, key: int, value: int | bytes) -> None:
        """Store a fact for the domain and for the exporter as a whole."""
        for d in {domain, ANY_DOMAIN}:
            place = (exporter, d, topic, key)
            old = self._facts.get(place)
            octets = self.octets + _octets(value) - _octets(old)
            if (old is None and len(self._facts) >= self._limit) or octets > self._octets_limit:
                self.refused += 1
                continue
            self.octets = octets
            self._facts[place] = value
            self._topics.add(topic)
            if topic in _RATES:
                self._agree((exporter, d), old, value)
            self._put(place, value)

    def _agree(self, place: tuple[int, int], old: int | bytes | None, new: int | bytes) -> None:
        """Note that one of the samplers at a place has another rate now."""
        rates = self._rates.setdefault(place, Counter())
        if isinstance(old, int):
            rates[old] -= 1
            if not rates[old]:
                del rates[old]
        rates[int(new)] += 1
        self._topics.add(Topic.AGREED_RATE)

    def _put(self, place: tuple[int, int, int, int], value: int | bytes) -> None:
        exporter, domain, topic, key = place
        word = value if isinstance(value, int) else self._texts.add(value)
        self.index.put(exporter << 32 | domain, topic << 56 | key & (1 << 56) - 1, word)
        if topic in _RATES:
            rates = self._rates[exporter, domain]
            agreed = next(iter(rates)) if len(rates) == 1 else 0
            self.index.put(exporter << 32 | domain, Topic.AGREED_RATE << 56, agreed)

    def rebuild(self, texts: Interner) -> None:
        """Intern all text facts anew (after the interner was replaced)."""
        self._texts = texts
        self.index = Index(len(self._facts) + 64)
        for place, value in self._facts.items():
            self._put(place, value)

    def items(self) -> Iterator[tuple[int, int, int, int, int | bytes]]:
        """All facts told by domain: (exporter, domain, topic, id, value)."""
        for (exporter, domain, topic, key), value in self._facts.items():
            if domain != ANY_DOMAIN:
                yield exporter, domain, topic, key, value

    def look_up(self, exporter: U64, domain: U64, topic: Topic, key: U64) -> U64:
        """(n,) values; the fact of the domain, else that of the exporter, else MISSING."""
        if topic not in self._topics:
            return np.full(key.size, MISSING, np.uint64)
        b = np.uint64(topic << 56) | key & np.uint64((1 << 56) - 1)
        base = exporter << np.uint64(32)
        out = self.index.get_many(base | domain, b)
        unknown = out == MISSING
        if unknown.any():
            where = np.flatnonzero(unknown)
            out[where] = self.index.get_many(base[where] | np.uint64(ANY_DOMAIN), b[where])
        return out


def _float(raw: bytes) -> float:
    """A float64, or a float32 by reduced-size encoding (RFC 7011 section 6.2); 0 if it is none."""
    form = {4: "!f", 8: "!d"}.get(len(raw))
    return float(struct.unpack(form, raw)[0]) if form else 0.0


def _octets(value: int | bytes | None) -> int:
    return len(value) if isinstance(value, bytes) else 0


def facts(values: Mapping[Element, bytes]) -> Iterator[Fact]:
    """What one options record tells."""
    numbers = {e: int.from_bytes(v[-8:]) for e, v in values.items()}
    interface = next((numbers[e] for e in (10, 14, 252, 253) if e in numbers), None)
    if rate := sampling_rate(numbers, _float(values.get(311, b""))):
        sampler = next((numbers[e] for e in (302, 48) if e in numbers), None)
        if sampler is not None:
            yield Topic.SAMPLER, sampler, rate
        elif interface is not None:
            yield Topic.INTERFACE_RATE, interface, rate
        else:
            yield Topic.DEFAULT_RATE, 0, rate
    if 82 in values and interface is not None:
        yield Topic.INTERFACE, interface, text(values[82])
    vrf = next((numbers[e] for e in (234, 235) if e in numbers), None)
    if vrf is not None:
        if 236 in values:
            yield Topic.VRF_NAME, vrf, text(values[236])
        if 90 in values:
            yield Topic.VRF_RD, vrf, rd_text(numbers[90]).encode()
            yield Topic.RD_TOLD, 0, 1
    if 95 in values and (96 in values or 94 in values):
        yield Topic.APPLICATION, numbers[95], text(values.get(96) or values.get(94, b""))
    address = next((values[e] for e in (130, 131) if numbers.get(e)), None)
    if address is not None:
        yield Topic.EXPORTER, 0, (V4_MAPPED + address)[-16:]
    if numbers.get(BOOT_ELEMENT):
        yield Topic.BOOT, 0, numbers[BOOT_ELEMENT]
