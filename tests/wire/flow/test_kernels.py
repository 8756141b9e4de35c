"""Compiled loops of flow decoding against their naive twins."""

import random
from ipaddress import IPv4Address, IPv6Address, ip_network

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.columns import Layout
from flowray.fields import REGISTRY
from flowray.generate import encode as e
from flowray.hashing import Index
from flowray.wire.flow import kernels as k
from flowray.wire.flow.plan import Plan, compile_plan, reversible
from flowray.wire.flow.template import REVERSE_PEN, VARIABLE, Template, TemplateField
from tests.wire.flow import flow_twin as twin

EVERYTHING = Layout(REGISTRY)


def laid_out(datagrams: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Datagrams end to end: nothing behind the last one, so reading past it is out of bounds."""
    length = np.array([len(d) for d in datagrams], np.int64)
    return np.frombuffer(b"".join(datagrams), np.uint8), np.cumsum(length) - length, length


# Scan


def message_parts() -> st.SearchStrategy[list[bytes]]:
    body = st.binary(max_size=12)
    honest = st.builds(e.flow_set, st.integers(0, 300), body, st.sampled_from([1, 4]))
    lying = st.builds(
        lambda n, size, b: n.to_bytes(2) + size.to_bytes(2) + b,
        st.sampled_from([0, 1, 2, 3, 256]),
        st.integers(0, 40),
        body,
    )
    return st.lists(st.one_of(honest, lying), max_size=6)


def datagrams() -> st.SearchStrategy[bytes]:
    u32 = st.integers(0, (1 << 32) - 1)
    v9 = st.builds(
        lambda sets, a, b, c, d: e.v9_message(
            sets, count=1, uptime_ms=a, unix_secs=b, sequence=c, source_id=d
        ),
        message_parts(), u32, u32, u32, u32,
    )  # fmt: skip
    ipfix = st.builds(
        lambda sets, t, s, d, lie: _with_length(
            e.ipfix_message(sets, export_time=t, sequence=s, domain=d), lie
        ),
        message_parts(), u32, u32, u32, st.sampled_from([0, 0, 0, -20, -1, 1, 9]),
    )  # fmt: skip
    v5 = st.builds(
        lambda count, body: b"\0\5" + count.to_bytes(2) + body,
        st.integers(0, 4), st.one_of(st.binary(max_size=250), st.just(bytes(range(212)))),
    )  # fmt: skip
    whole = st.one_of(v9, ipfix, v5)
    cut = st.tuples(whole, st.integers(0, 60)).map(lambda t: t[0][: t[1]])
    return st.one_of(whole, whole, cut, st.binary(max_size=40))


def _with_length(message: bytes, lie: int) -> bytes:
    return message[:2] + max(0, len(message) + lie).to_bytes(2) + message[4:]


@given(st.lists(datagrams(), max_size=8), st.integers(64, 70))
def test_scan(messages: list[bytes], room: int) -> None:
    buf, offset, length = laid_out(messages)
    header = np.full((len(messages), k.HEADER_COLUMNS), 99, np.int64)
    room = max(room, int(length.max(initial=0)) // 4 + 1)
    found: list[list[int]] = []
    done = 0
    while done < len(messages):
        sets = np.empty((room, k.SET_COLUMNS), np.int64)
        count, after = k.scan(buf, offset, length, done, header, sets)
        assert after > done
        found += sets[:count].tolist()
        done = after
    expected = [twin.scan(m) for m in messages]
    for i, m in enumerate(expected):
        if m.header[k.H_CAUSE] in {k.SHORT_HEADER, k.UNKNOWN_VERSION, k.BAD_LENGTH, k.BAD_COUNT}:
            columns = [k.H_VERSION, k.H_CAUSE]
        else:
            columns = list(range(k.HEADER_COLUMNS))
        assert [header[i, c] for c in columns] == [m.header[c] for c in columns]
    assert [row[:5] for row in found] == [
        [i, kind, number, int(offset[i]) + at, size]
        for i, m in enumerate(expected)
        for kind, number, at, size in m.sets
    ]


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(256, 258)), st.integers(0, 9)
    ),
    st.lists(
        st.tuples(
            st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(256, 259)),
            st.integers(1, 3),
        ).map(lambda run: [run[0]] * run[1]),
        max_size=20,
    ).map(lambda runs: [place for run in runs for place in run]),
    st.integers(0, 5),
)
def test_resolve(
    known: dict[tuple[int, int, int], int], asked: list[tuple[int, int, int]], begin: int
) -> None:
    index = Index()
    for (exporter, domain, number), value in known.items():
        index.put(exporter << 32 | domain, 10 << 16 | number, value)
    sets = np.zeros((len(asked), k.SET_COLUMNS), np.int64)
    header = np.zeros((len(asked), k.HEADER_COLUMNS), np.int64)
    sets[:, k.S_PACKET] = np.arange(len(asked))
    sets[:, k.S_ID] = [number for _, _, number in asked]
    sets[:, k.S_TEMPLATE] = -7
    header[:, k.H_DOMAIN] = [domain for _, domain, _ in asked]
    header[:, k.H_VERSION] = 10
    ids = np.array([x for x, _, _ in asked], np.uint32)
    k.resolve(sets, begin, header, ids, *index.arrays)
    expected = [-7 if i < begin else known.get(place, -1) for i, place in enumerate(asked)]
    assert sets[:, k.S_TEMPLATE].tolist() == expected


# Records

ELEMENTS = sorted(
    {
        (0, x) if isinstance(x, int) else x
        for f in REGISTRY.values()
        for group in f.elements
        for x in group
    }
    | {(0, n) for n in (*range(150, 161), 21, 22, 322, 323, 210)}
    | {(REVERSE_PEN, n) for n in (1, 2, 4, 6, 85, 86)}
    | {(0, 232), (0, 299), (0, 5000), (99, 1)}
)  # fmt: skip


def random_template(rng: random.Random, *, variable: bool) -> Template:
    sizes = (1, 2, 3, 4, 4, 4, 8, 8, 16, 16, 5, 9, 20, 0)
    fields = [
        TemplateField(element, rng.choice(sizes), pen)
        for pen, element in rng.choices(ELEMENTS, k=rng.randrange(1, 30))
    ]
    if variable:
        for i in range(len(fields)):
            if rng.random() < 0.3:
                fields[i] = TemplateField(fields[i].element, VARIABLE, fields[i].pen)
        fields[0] = TemplateField(fields[0].element, VARIABLE, fields[0].pen)
    fields.append(TemplateField(210, 1))
    return Template(256, tuple(fields))


def octets(rng: random.Random, n: int) -> bytes:
    """Random octets, often zero or small, so that unset values and near times come up."""
    how = rng.randrange(4)
    if how == 0:
        return bytes(n)
    if how == 1 and n:
        return bytes(n - 1) + rng.randbytes(1)
    return rng.randbytes(n)


def random_record(rng: random.Random, template: Template) -> bytes:
    raw = b""
    for f in template.fields:
        if f.length != VARIABLE:
            raw += octets(rng, f.length)
            continue
        size = rng.choice((0, 1, 4, 4, 8, 16, 16, 30, 254, 255, 300))
        long = size >= 255 or rng.random() < 0.2
        raw += (b"\xff" + size.to_bytes(2) if long else bytes([size])) + octets(rng, size)
    return raw


def random_header(rng: random.Random, packet: int) -> list[int]:
    row = [0] * k.HEADER_COLUMNS
    row[k.H_VERSION] = rng.choice((5, 9, 10))
    row[k.H_EXPORT] = rng.choice((0, 5, rng.randrange(1 << 32))) * 10**9 + packet
    row[k.H_UPTIME] = rng.choice((0, rng.randrange(1 << 32)))
    return row


class Case:
    """Sets of one template in a buffer, some cut short or with padding behind their records."""

    def __init__(self, rng: random.Random, *, variable: bool) -> None:
        self.template = random_template(rng, variable=variable)
        reverse = reversible(self.template) and rng.random() < 0.5
        self.plan: Plan = compile_plan(
            self.template, EVERYTHING, reverse=reverse, whole_seconds=rng.random() < 0.3
        )
        self.header = [random_header(rng, i) for i in range(3)]
        data, rows = b"", []
        for _ in range(rng.randrange(5)):
            body = b"".join(random_record(rng, self.template) for _ in range(rng.randrange(4)))
            if rng.random() < 0.4:
                body = body[: rng.randrange(len(body) + 1)] + rng.randbytes(rng.randrange(3))
            data += rng.randbytes(rng.randrange(3))
            rows.append((rng.randrange(3), k.SET_DATA, 256, len(data), len(body), 0))
            data += body
        self.data = data
        self.sets = np.array(rows, np.int64).reshape(-1, k.SET_COLUMNS)
        self.chosen = np.array(
            [i for i in range(len(rows)) if rng.random() < 0.8], np.int64
        ).reshape(-1)

    def expected(self) -> tuple[list[tuple[int, dict[int, int]]], list[list[int]]]:
        """(packet, words by row) of each record, and the header rows afterwards."""
        lengths = self.plan.widths.tolist()
        header = [row.copy() for row in self.header]
        found = []
        for s in self.chosen.tolist():
            packet, _, _, at, size, _ = self.sets[s].tolist()
            r = twin.records(self.data, at, size, lengths)
            for places in r.places:
                words = twin.decode(
                    self.data, places, self.plan.ops.tolist(), self.header[packet],
                    variable=self.plan.variable,
                )  # fmt: skip
                found.append((packet, words))
            header[packet][k.H_RECORDS] += len(r.places)
            if r.overrun and header[packet][k.H_CAUSE] == k.OK:
                header[packet][k.H_CAUSE] = k.BAD_SET_LENGTH
        return found, header

    def check(self) -> None:
        expected, header_after = self.expected()
        plan, buf = self.plan, np.frombuffer(self.data, np.uint8)
        packet_row = EVERYTHING.index("_packet")
        header = np.array(self.header, np.int64)
        words = np.full((EVERYTHING.words, len(expected) + 2), 77, np.uint64)
        if plan.variable:
            # Room for that many is what the caller has made.
            octets = self.sets[self.chosen, k.S_LENGTH]
            assert len(expected) <= (octets // plan.record_size).sum()
            end = k.extract_variable(
                buf, self.sets, self.chosen, plan.widths, plan.record_size, plan.ops, plan.unset,
                header, words, packet_row,
            )  # fmt: skip
        else:
            end = k.extract_fixed(
                buf,
                self.sets,
                self.chosen,
                plan.record_size,
                plan.ops,
                plan.unset,
                header,
                words,
                packet_row,
            )
        assert end == len(expected)
        assert header.tolist() == header_after
        assert (words[:, end:] == 77).all()
        unset = set(plan.unset.tolist()) - {packet_row}
        for r, (packet, filled) in enumerate(expected):
            assert words[packet_row, r] == packet
            assert not unset & filled.keys()
            for row in range(EVERYTHING.words):
                if row != packet_row:
                    assert words[row, r] == (0 if row in unset else filled[row]), row


@given(st.integers(0, 1 << 64))
def test_extract_fixed(seed: int) -> None:
    Case(random.Random(seed), variable=False).check()


@given(st.integers(0, 1 << 64))
def test_extract_variable(seed: int) -> None:
    Case(random.Random(seed), variable=True).check()


def test_boot_time_of_reduced_size_ends_the_buffer() -> None:
    """Nothing stands behind the boot time: reading eight octets of it is out of bounds."""
    template = Template(256, (TemplateField(22, 4), TemplateField(160, 4)))
    plan = compile_plan(template, EVERYTHING)
    raw = np.frombuffer((5).to_bytes(4) + (7).to_bytes(4), np.uint8)
    sets = np.array([[0, k.SET_DATA, 256, 0, 8, 0]], np.int64)
    header = np.array([[10, 0, 0, 0, 10**18, 0, 0, 0]], np.int64)
    words = np.zeros((EVERYTHING.words, 1), np.uint64)
    k.extract_fixed(raw, sets, np.array([0]), 8, plan.ops, plan.unset, header, words, 0)
    assert words[EVERYTHING.index("timestamp_start"), 0] == 12 * 10**6


# Columns


@given(
    st.lists(
        st.lists(st.one_of(st.just(0), st.integers(0, (1 << 24) - 1)), min_size=10, max_size=10),
        max_size=5,
    )
)
def test_stack_labels(stacks: list[list[int]]) -> None:
    n = len(stacks)
    words = np.zeros((12, n), np.uint64)
    words[1:11] = np.array(stacks, np.uint64).reshape(n, 10).T
    raw, location = np.zeros(40 * n, np.uint8), np.zeros(n, np.uint64)
    k.stack_labels(words, 1, n, raw, location)
    for entries, place in zip(stacks, location.tolist(), strict=True):
        value = raw[place >> 16 :][: place & 0xFFFF].tobytes()
        present = [entry for entry in entries if entry]
        assert value == b"".join(
            bytes([i]) + (entry >> 4).to_bytes(3) for i, entry in enumerate(present)
        )


ADDRESS = st.one_of(
    st.integers(0, (1 << 32) - 1).map(lambda n: 0xFFFF << 32 | n),
    st.integers(0, (1 << 128) - 1),
    st.just(0),
)


@given(st.lists(st.tuples(ADDRESS, st.one_of(st.integers(0, 140), st.integers(0, (1 << 64) - 1)))))
def test_mask_address(rows: list[tuple[int, int]]) -> None:
    words = np.zeros((5, len(rows)), np.uint64)
    for r, (address, mask) in enumerate(rows):
        words[:3, r] = address >> 64, address % (1 << 64), mask
    k.mask_address(words, 0, 2, 3, len(rows))
    for r, (address, mask) in enumerate(rows):
        v4 = IPv6Address(address).ipv4_mapped
        host: IPv4Address | IPv6Address = v4 if v4 is not None else IPv6Address(address)
        network = ip_network((host, min(mask, host.max_prefixlen)), strict=False)
        expected = int(network.network_address) | (0xFFFF << 32 if v4 is not None else 0)
        assert int(words[3, r]) << 64 | int(words[4, r]) == expected


# Columns of the datagram


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(0, 4))
def test_take_headers(packets: list[int], others: int) -> None:
    rng = np.random.default_rng(others)
    exporter, arrival = rng.integers(0, 9, 5).astype(np.uint32), rng.integers(0, 99, 5)
    header = rng.integers(0, 99, (5, k.HEADER_COLUMNS))
    words = np.full((5, len(packets) + 1), 77, np.uint64)
    words[2, :-1] = packets
    taken = np.array([[k.EXPORTER, 0], [k.H_DOMAIN, 4], [k.ARRIVAL, 3]])
    k.take_headers(words, len(packets), 2, exporter, arrival, header, taken)
    for r, i in enumerate(packets):
        assert words[:, r].tolist() == [exporter[i], 77, i, arrival[i], header[i, k.H_DOMAIN]]
    assert words[:, -1].tolist() == [77] * 5


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
def test_rates_with_default(records: list[tuple[int, int]]) -> None:
    default = np.array([0, 10, 20], np.uint64)
    rate = np.array([told for told, _ in records], np.uint64)
    packet = np.array([7 + i for _, i in records], np.int64)
    applied = np.empty(len(records), np.uint64)
    k.rates_with_default(rate, default, packet, 7, applied)
    assert applied.tolist() == [told or 10 * i for told, i in records]
