"""Compiled walks over BMP against their plain twins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.wire.bgp import bmp_kernels as kernels
from flowray.wire.bgp.bmp import read_tlvs
from flowray.wire.bgp.bmp_route_tlvs import read_route_tlvs
from tests.wire.bgp import bmp_twin as twin
from tests.wire.bgp import encode_bmp as make
from tests.wire.bgp.encode_bmp import Peer

SEED = np.uint64(1)

lengths = st.integers(0, 0xFFFF).map(lambda n: n.to_bytes(2))
updates = st.one_of(
    st.builds(make.update, st.binary(max_size=20)),
    st.builds(make.bgp, st.integers(0, 5), st.binary(max_size=20)),
    st.builds(lambda length: make.MARKER + length + b"\x02" + bytes(30), lengths),
    st.binary(max_size=40),
)
tlvs = st.one_of(
    st.builds(make.tlv, st.integers(0, 8), updates, index=st.integers(0, 3)),
    st.builds(make.tlv, st.integers(0, 0x7FFF), st.binary(max_size=8), index=st.just(0)),
    st.builds(lambda length: b"\x00\x01" + length + b"\x00\x00abcdef", lengths),
)
peers = st.builds(
    Peer,
    peer_type=st.sampled_from([0, 1, 3]),
    flags=st.sampled_from([0, 0x20, 0x40]),
    distinguisher=st.integers(0, 3),
    seconds=st.sampled_from([0, 1, 0xFFFF_FFFF]),
    micros=st.sampled_from([0, 999_999, 0xFFFF_FFFF]),
)
routes = st.one_of(
    st.builds(make.route_monitoring, peers, updates),
    st.builds(
        lambda peer, items: make.route_monitoring_v4(peer, *items),
        peers,
        st.lists(tlvs, max_size=4),
    ),
    st.builds(make.route_monitoring_v4, peers, updates),
    st.builds(lambda body: make.message(0, body), st.binary(max_size=41)),
)


def _array(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(bytearray(data), np.uint8)


@given(
    st.lists(
        st.one_of(
            st.builds(make.message, st.integers(0, 255), st.binary(max_size=30)),
            st.builds(make.message, st.just(4), st.just(b""), st.integers(0, 5)),
            st.binary(max_size=8),
            st.just(b"\x03\x00\x00\x00\x05\x00"),
        ),
        max_size=8,
    ),
    st.integers(6, 40),
)
def test_framing(parts: list[bytes], limit: int) -> None:
    data = b"".join(parts)
    expected, end, why = twin.frame(data, limit)
    buf = _array(data)
    count, stop, cause = kernels.count_messages(buf, limit)
    assert (count, stop, cause) == (len(expected), end, why)
    offset, length = np.empty(count, np.int64), np.empty(count, np.int64)
    kind = np.empty(count, np.uint8)
    kernels.list_messages(buf, offset, length, kind)
    rows = zip(offset.tolist(), length.tolist(), kind.tolist(), strict=True)
    assert list(rows) == expected


@given(st.lists(routes, max_size=12), st.data())
def test_route_monitoring(messages: list[bytes], data: st.DataObject) -> None:
    headers = sorted({m[6:40] for m in messages if len(m) >= 48})
    numbers = {header: data.draw(st.integers(-1, 3)) for header in headers}
    contexts = [(0, 1), (-1, -1), (2, -1), (5, 6)]
    n = len(messages)
    buf = _array(b"".join(messages))
    length = np.array([len(m) for m in messages], np.int64)
    offset = np.cumsum(length) - length
    peer, context = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    time_ns, verdict = np.zeros(n, np.int64), np.zeros(n, np.uint8)
    table = np.zeros((32, kernels.HEADER_COLUMNS), np.uint64)
    at, entered = 0, 0
    while True:
        at = int(
            kernels.find_peers(
                buf,
                offset,
                length,
                at,
                table,
                SEED,
                np.array(contexts, np.int64),
                peer,
                context,
                time_ns,
                verdict,
            )
        )
        if at == n:
            break
        kernels.add_header(table, SEED, buf, offset[at] + 6, numbers[messages[at][6:40]])
        entered += 1
    assert entered == len(headers)
    update, octets = np.zeros(n, np.int64), np.zeros(n, np.int64)
    kind, more = np.zeros(n, np.int64), np.zeros(n, np.bool_)
    kernels.find_updates(buf, offset, length, update, octets, kind, more, verdict)
    for i, message in enumerate(messages):
        number, route = twin.find_route(message, numbers, contexts)
        assert (peer[i], verdict[i]) == (number, route.verdict)
        if route.verdict != kernels.GOOD:
            continue
        assert buf[update[i] : update[i] + octets[i]].tobytes() == route.update
        assert (kind[i], more[i]) == (route.kind, route.more)
        assert (context[i], time_ns[i]) == (route.context, route.time_ns)


marking = st.builds(
    make.tlv,
    st.sampled_from([5, 9, 0x8005]),
    st.one_of(
        st.integers(0, 0xFFFF).map(lambda n: n.to_bytes(4)),
        st.integers(0, 0xFF_FFFF).map(lambda n: n.to_bytes(6)),
        st.binary(max_size=7),
    ),
    index=st.sampled_from([0, 1, 2, 0x8001]),
)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 4, 7, 8]), st.lists(marking, max_size=3), st.integers(0, 3)),
        max_size=6,
    ),
    st.sampled_from([None, 9]),
)
def test_path_marks(messages: list[tuple[int, list[bytes], int]], override: int | None) -> None:
    pdu = make.update()
    bodies = [
        b"".join([*items[:place], make.tlv(kind, pdu, index=0), *items[place:]])
        for kind, items, place in messages
    ]
    n = len(bodies)
    length = np.array([len(body) for body in bodies], np.int64)
    begin = np.cumsum(length) - length
    update = begin + np.array([body.find(pdu) for body in bodies], np.int64)
    room = int(length.sum()) // 10
    row, index, reason = (np.zeros(room, np.int64) for _ in range(3))
    status, plain = np.zeros(room, np.uint32), np.zeros(n, np.bool_)
    kinds = np.array([kind for kind, _, _ in messages], np.int64)
    count = kernels.find_marks(
        _array(b"".join(bodies)),
        begin,
        begin + length,
        update,
        kinds,
        -1 if override is None else override,
        plain,
        row,
        index,
        status,
        reason,
    )
    expected = []
    for i, (kind, items, _) in enumerate(messages):
        tlvs = read_tlvs(b"".join(items), version=4, indexed=True) if _whole(items) else ()
        told = read_route_tlvs(tlvs, kind, override)
        grouped = any((tlv.index or 0) & 0x8000 for tlv in tlvs)
        assert plain[i] == (_whole(items) and not told.others and not grouped)
        if plain[i]:
            expected += [(i, m.index, m.status, m.reason) for m in told.marks]
    columns = (row, index, status, reason)
    rows = zip(*(column[:count].tolist() for column in columns), strict=True)
    assert [(*r[:3], None if r[3] < 0 else r[3]) for r in rows] == expected


def _whole(items: list[bytes]) -> bool:
    """Whether each has room for the enterprise number that its type asks for."""
    return all(item[0] < 0x80 or len(item) >= 10 for item in items)
