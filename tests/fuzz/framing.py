"""A sequence of datagrams as one fuzz input, and a mutator that knows what it is made of.

Each datagram is preceded by four octets: length (2, network order), exporter (1), and what happens
after it (1): bit 0 hands the open partials over, bits 1 to 7 let that many minutes pass.
"""

import random
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

HEAD = struct.Struct("!HBB")
MAX_DATAGRAMS = 64


class Datagram(NamedTuple):
    payload: bytes
    exporter: int = 0
    after: int = 0


def pack(datagrams: Iterable[Datagram]) -> bytes:
    return b"".join(
        HEAD.pack(len(d.payload[:0xFFFF]), d.exporter, d.after) + d.payload[:0xFFFF]
        for d in datagrams
    )


def unpack(data: bytes) -> list[Datagram]:
    """The datagrams of an input; the last one may be cut short."""
    found: list[Datagram] = []
    at = 0
    while at + HEAD.size <= len(data) and len(found) < MAX_DATAGRAMS:
        size, exporter, after = HEAD.unpack_from(data, at)
        at += HEAD.size
        found.append(Datagram(data[at : at + size], exporter, after))
        at += size
    return found


Bytes = Callable[[bytes, int], bytes]
"""Mutates plain octets: (data, most octets of the result)."""


def scatter(data: bytes, most: int) -> bytes:
    """A plain mutator for where libFuzzer's is not at hand; uses the state of `random`."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(out) + 1)
        how = random.randrange(5)
        if how == 0:
            out[at : at + 1] = random.randbytes(1)
        elif how == 1:
            out[at : at + 2] = random.choice((b"\0\0", b"\xff\xff", b"\0\4", b"\1\0", b"\1\1"))
        elif how == 2:
            del out[at : at + random.randrange(1, 9)]
        elif how == 3:
            out[at:at] = random.randbytes(random.randrange(1, 9))
        elif out:
            begin = random.randrange(len(out))
            out[at:at] = out[begin : begin + random.randrange(1, 64)]
    return bytes(out[:most])


def mutate(data: bytes, most: int, seed: int, octets: Bytes = scatter) -> bytes:
    """One datagram changed, dropped, doubled, moved, or given to another exporter; lengths mostly
    kept true.
    """
    rng = random.Random(seed)
    datagrams = unpack(data)
    if not datagrams or rng.random() < 0.05:
        return octets(data, most)
    i = rng.randrange(len(datagrams))
    how = rng.randrange(10)
    if how == 0:
        del datagrams[i]
    elif how == 1:
        datagrams.insert(rng.randrange(len(datagrams) + 1), datagrams[i])
    elif how == 2:
        j = rng.randrange(len(datagrams))
        datagrams[i], datagrams[j] = datagrams[j], datagrams[i]
    elif how == 3:
        datagrams[i] = datagrams[i]._replace(exporter=rng.randrange(5), after=rng.randrange(256))
    elif how == 4:
        datagrams[i] = datagrams[i]._replace(payload=_edit_sets(datagrams[i].payload, rng))
    else:
        payload = octets(datagrams[i].payload, min(most, 0xFFFF))
        if rng.random() < 0.8:
            payload = _true_lengths(payload)
        datagrams[i] = datagrams[i]._replace(payload=payload)
    return pack(datagrams)[:most]


_SET_BEGINS = {9: 20, 10: 16}
"""Where the first set of a message is, by version."""


def _sets(payload: bytes) -> tuple[bytes, list[bytes]] | None:
    """Header and sets of a NetFlow v9 or IPFIX message; the last set takes what is left."""
    begin = _SET_BEGINS.get(int.from_bytes(payload[:2]))
    if begin is None or len(payload) < begin + 4:
        return None
    sets = []
    at = begin
    while at + 4 <= len(payload):
        size = int.from_bytes(payload[at + 2 : at + 4])
        if size < 4 or at + size > len(payload):
            size = len(payload) - at
        sets.append(payload[at : at + size])
        at += size
    return payload[:begin], sets


def _join(header: bytes, sets: Iterable[bytes]) -> bytes:
    body = b"".join(s[:2] + len(s).to_bytes(2) + s[4:] for s in sets)
    if header[:2] == b"\0\x0a":
        header = header[:2] + (len(header) + len(body) & 0xFFFF).to_bytes(2) + header[4:]
    return header + body


def _true_lengths(payload: bytes) -> bytes:
    parts = _sets(payload)
    return payload if parts is None else _join(*parts)


def _edit_sets(payload: bytes, rng: random.Random) -> bytes:
    """Sets dropped, doubled, moved, or renumbered; fields of template sets exchanged."""
    parts = _sets(payload)
    if parts is None:
        return payload
    header, sets = parts
    i = rng.randrange(len(sets))
    how = rng.randrange(5)
    if how == 0:
        del sets[i]
    elif how == 1:
        sets.insert(rng.randrange(len(sets) + 1), sets[i])
    elif how == 2:
        number = rng.choice((0, 1, 2, 3, 255, 256, 257, 258, 260, 512))
        sets[i] = number.to_bytes(2) + sets[i][2:]
    elif len(sets[i]) >= 12:
        specifier = rng.randrange(1, len(sets[i]) // 4)
        element = rng.choice(ELEMENTS) if how == 3 else rng.randrange(1 << 15)
        length = rng.choice((0, 1, 2, 3, 4, 6, 8, 9, 16, 64, 0xFFFF))
        field = element.to_bytes(2) + length.to_bytes(2)
        sets[i] = sets[i][: 4 * specifier] + field + sets[i][4 * specifier + 4 :]
    return _join(header, sets)


ELEMENTS = [
    *(1, 2, 3, 4, 7, 8, 10, 11, 12, 14, 21, 22, 23, 27, 34, 48, 50, 56, 58, 61, 70, 71, 82, 85, 90),
    *(95, 96, 104, 150, 152, 154, 156, 158, 160, 225, 231, 232, 234, 236, 298, 299, 302, 305, 306),
    *(309, 310, 313, 315, 322, 323, 351),
]
"""Elements that the decoder treats in ways of their own."""
