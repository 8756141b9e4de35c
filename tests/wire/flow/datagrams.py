"""Builders of sFlow datagrams, versions 5, 4 and 2, and strategies over them."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from tests.wire.flow import frames as f

AGENT = bytes.fromhex("c0000201")
AGENT_V6 = bytes.fromhex("20010db8000000000000000000000009")


def words(*values: int) -> bytes:
    return struct.pack(f"!{len(values)}I", *values)


def opaque(data: bytes) -> bytes:
    return words(len(data)) + data + bytes(-len(data) % 4)


def address(data: bytes = AGENT) -> bytes:
    return words({0: 0, 4: 1, 16: 2}[len(data)]) + data


def tagged(kind: int, body: bytes) -> bytes:
    return words(kind) + opaque(body)


def datagram(*samples: bytes, agent: bytes = AGENT, sequence: int = 7, count: int = -1) -> bytes:
    n = len(samples) if count < 0 else count
    return words(5) + address(agent) + words(3, sequence, 99, n) + b"".join(samples)


def old_datagram(version: int, *samples: bytes, agent: bytes = AGENT) -> bytes:
    return words(version) + address(agent) + words(7, 99, len(samples)) + b"".join(samples)


def flow(*records: bytes, source: int = 1, inside: int = 1, outside: int = 2) -> bytes:
    body = words(11, source, 1000, 500, 0, inside, outside, len(records))
    return tagged(1, body + b"".join(records))


def expanded(
    *records: bytes,
    source: tuple[int, int] = (0, 1),
    inside: tuple[int, int] = (0, 1),
    outside: tuple[int, int] = (0, 2),
) -> bytes:
    body = words(11, *source, 1000, 500, 0, *inside, *outside, len(records))
    return tagged(3, body + b"".join(records))


def drop(*records: bytes, inside: int = 1, outside: int = 0, reason: int = 256) -> bytes:
    body = words(11, 0, 1, 0, inside, outside, reason, len(records))
    return tagged(5, body + b"".join(records))


def header_body(link: int, frame: bytes, length: int, version: int) -> bytes:
    return words(link, length) + (words(4) if version == 5 else b"") + opaque(frame)


def header(frame: bytes, link: int = 1, length: int = 1518) -> bytes:
    return tagged(1, header_body(link, frame, length, 5))


def ethernet(*, padded: bool = True) -> bytes:
    pad = bytes(2 if padded else 0)
    return tagged(2, words(1200) + f.MAC_A + pad + f.MAC_B + pad + words(0x0806))


def ip_body(octets: int, length: int, proto: int, source: int, target: int) -> bytes:
    hosts = bytes(octets - 1) + b"\x01" + bytes(octets - 1) + b"\x02"
    return words(length, proto) + hosts + words(source, target, 0x18, 4)


def switch_body(source: int, priority: int, target: int) -> bytes:
    return words(source, priority, target, 0)


def router_body(hop: bytes, source: int = 24, target: int = 16) -> bytes:
    return address(hop) + words(source, target)


def gateway_body(version: int, hop: bytes, path: list[list[int]]) -> bytes:
    own = (address(hop) if version == 5 else b"") + words(65000, 65001, 65002)
    if version == 2:
        flat = [number for segment in path for number in segment]
        return own + words(len(flat), *flat)
    segments = b"".join(words(2, len(segment), *segment) for segment in path)
    return own + words(len(path)) + segments + words(2, 7, 8, 100)


def mpls_body(hop: bytes, stack: list[int]) -> bytes:
    return address(hop) + words(len(stack), *stack, 1, 0x1100)


def counters(kind: int, values: bytes) -> bytes:
    return tagged(kind, values)


def counter_sample(*blocks: bytes, source: int = 5) -> bytes:
    return tagged(2, words(21, source, len(blocks)) + b"".join(blocks))


def counter_expanded(*blocks: bytes, source: int = 5) -> bytes:
    return tagged(4, words(22, 0, source, len(blocks)) + b"".join(blocks))


def old_flow(packet: bytes, *extensions: bytes, outside: int = 2) -> bytes:
    body = words(1, 11, 1, 1000, 500, 0, 1, outside) + packet
    return body + words(len(extensions)) + b"".join(extensions)


def old_header(frame: bytes, version: int = 4) -> bytes:
    return words(1) + header_body(1, frame, 1518, version)


def old_counters(kind: int, size: int) -> bytes:
    return words(2, 31, 5, 30, kind) + bytes(range(size))


word = st.one_of(st.integers(0, 9), st.integers(0, 0xFFFFFFFF), st.sampled_from([1 << 30, 1 << 31]))
hops = st.sampled_from([b"", AGENT, AGENT_V6, bytes(4), bytes(16)])
paths = st.lists(st.lists(word, max_size=3), max_size=3)
vlans = st.one_of(st.integers(0, 5000), st.just(0xFFFFFFFF))
pair = st.tuples(st.integers(0, 3), word)


def records(version: int) -> dict[int, st.SearchStrategy[bytes]]:
    """Bodies of flow records by version 5 format."""
    bodies = {
        1: st.builds(
            lambda item, length: header_body(item[0], item[1], length, version), f.frames, word
        ),
        3: st.builds(ip_body, st.just(4), word, word, word, word),
        4: st.builds(ip_body, st.just(16), word, word, word, word),
        1001: st.builds(switch_body, vlans, st.integers(0, 9), vlans),
        1002: st.builds(router_body, hops, word, word),
        1003: st.builds(gateway_body, st.just(version), hops, paths),
        1004: st.builds(lambda a, b: opaque(a) + opaque(b), f.short, f.short),
        1005: st.builds(lambda a, b: words(a) + opaque(b), word, f.short),
    }
    if version == 5:
        bodies[2] = st.booleans().map(lambda padded: ethernet(padded=padded)[8:])
        bodies[1006] = st.builds(mpls_body, hops, st.lists(word, max_size=12))
        bodies[1007] = st.builds(lambda a, b: address(a) + address(b), hops, hops)
        bodies[1020] = st.builds(words, word, word)
        bodies[4096 + 1] = f.short
    return bodies


def any_record() -> st.SearchStrategy[bytes]:
    return st.one_of(
        *(body.map(lambda data, kind=kind: tagged(kind, data)) for kind, body in records(5).items())
    )


def any_old_flow(version: int) -> st.SearchStrategy[bytes]:
    bodies = records(version)
    packet = st.one_of(
        bodies[1].map(lambda data: words(1) + data),
        bodies[3].map(lambda data: words(2) + data),
        bodies[4].map(lambda data: words(3) + data),
    )
    extension = st.one_of(
        *(bodies[1000 + k].map(lambda data, k=k: words(k) + data) for k in range(1, 6))
    )
    return st.builds(
        lambda packet, extensions, outside: old_flow(packet, *extensions, outside=outside),
        packet, st.lists(extension, max_size=4), word,
    )  # fmt: skip


lists = st.lists(any_record(), max_size=5)
blocks = st.lists(
    st.builds(
        lambda kind, size: counters(kind, bytes(i * 7 % 256 for i in range(size))),
        st.sampled_from([1, 2, 5, 3, 1001]),
        st.sampled_from([88, 52, 28, 96, 30]),
    ),
    max_size=3,
)
samples = st.one_of(
    st.builds(lambda r, s, i, o: flow(*r, source=s, inside=i, outside=o), lists, word, word, word),
    st.builds(
        lambda r, s, i, o: expanded(*r, source=s, inside=i, outside=o), lists, pair, pair, pair
    ),
    st.builds(lambda r, i, o: drop(*r, inside=i, outside=o), lists, word, word),
    st.builds(lambda b, s: counter_sample(*b, source=s), blocks, word),
    st.builds(lambda b, s: counter_expanded(*b, source=s), blocks, word),
    st.builds(tagged, st.sampled_from([0, 1, 2, 3, 4, 5, 6, 4097]), f.short),
)
agents = st.sampled_from([AGENT, AGENT_V6])
datagrams = st.builds(
    lambda s, agent, more: datagram(*s, agent=agent, count=len(s) + more),
    st.lists(samples, max_size=4), agents, st.sampled_from([0, 0, 0, 1, 0xFFFFFF00]),
)  # fmt: skip


def old_datagrams(version: int) -> st.SearchStrategy[bytes]:
    counter = st.builds(old_counters, st.integers(0, 8), st.sampled_from([28, 88, 140, 160, 168]))
    return st.builds(
        lambda s, agent: old_datagram(version, *s, agent=agent),
        st.lists(any_old_flow(version) | any_old_flow(version) | counter, max_size=4),
        agents,
    )
