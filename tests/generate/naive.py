"""A plain parser of everything that the generator writes, record by record, to check it against.

It knows only as much of the protocols as the generator uses, and asserts instead of recovering.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flowray.generate.truth import Truth

VARIABLE = 65535


class Row(NamedTuple):
    exporter: str
    src: str
    dst: str
    src_port: int
    dst_port: int
    proto: int
    in_iface: int
    out_iface: int
    packets: int
    octets: int
    sampling: int
    start_ms: int
    end_ms: int


def text(hi: int, lo: int) -> str:
    address = ipaddress.IPv6Address(hi << 64 | lo)
    return str(address.ipv4_mapped or address)


def truth_rows(truth: Truth) -> Counter[Row]:
    columns = [getattr(truth, name).tolist() for name in truth.__slots__]
    rows: Counter[Row] = Counter()
    for values in zip(*columns, strict=True):
        row = dict(zip(truth.__slots__, values, strict=True))
        rows[
            Row._make(
                (
                    text(row["exporter_hi"], row["exporter_lo"]),
                    text(row["src_hi"], row["src_lo"]),
                    text(row["dst_hi"], row["dst_lo"]),
                    *(row[name] for name in Row._fields[3:]),
                )
            )
        ] += 1
    return rows


@dataclass
class State:
    """What is known of one exporter."""

    templates: dict[int, tuple[list[tuple[int, int, int]], int]] = field(default_factory=dict)
    sequence: int | None = None
    sampling: dict[int, int] = field(default_factory=dict)  # by selector, 0 = the exporter
    names: dict[int, bytes] = field(default_factory=dict)
    vrfs: dict[int, bytes] = field(default_factory=dict)
    raw: list[dict[tuple[int, int], bytes]] = field(default_factory=list)
    sample_sequence: dict[int, int] = field(default_factory=dict)
    counters: dict[int, tuple[int, ...]] = field(default_factory=dict)


class Parser:
    """Datagrams with their exporter in; data records in `rows`, the rest in `states`."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.rows: Counter[Row] = Counter()

    def feed(self, exporter: str, data: bytes) -> None:
        state = self.states.setdefault(exporter, State())
        version = struct.unpack_from(">H", data)[0]
        if version == 0:
            self._sflow(exporter, state, data)
        else:
            {5: self._v5, 9: self._v9, 10: self._ipfix}[version](exporter, state, data)

    @staticmethod
    def _follow(state: State, sequence: int, step: int) -> None:
        assert state.sequence is None or state.sequence == sequence
        state.sequence = (sequence + step) & 0xFFFFFFFF

    def _v5(self, exporter: str, state: State, data: bytes) -> None:
        _, count, uptime, secs, nsecs, sequence, _, _, sampling = struct.unpack_from(
            ">HHIIIIBBH", data
        )
        assert len(data) == 24 + 48 * count
        assert nsecs == 0
        self._follow(state, sequence, count)
        boot = secs * 1000 - uptime
        for i in range(count):
            f = struct.unpack_from(">IIIHHIIIIHHBBBBHHBBH", data, 24 + 48 * i)
            addresses = [str(ipaddress.IPv4Address(value)) for value in f[:2]]
            self.rows[
                Row._make(
                    (
                        exporter,
                        *addresses,
                        f[9],
                        f[10],
                        f[13],
                        f[3],
                        f[4],
                        f[5],
                        f[6],
                        sampling & 0x3FFF,
                        boot + f[7],
                        boot + f[8],
                    )
                )
            ] += 1

    def _v9(self, exporter: str, state: State, data: bytes) -> None:
        _, count, uptime, secs, sequence, _ = struct.unpack_from(">HHIIII", data)
        self._follow(state, sequence, 1)
        found = self._sets(exporter, state, data, 20, (0, 1), secs * 1000 - uptime)
        assert sum(found) == count

    def _ipfix(self, exporter: str, state: State, data: bytes) -> None:
        _, length, _, sequence, _ = struct.unpack_from(">HHIII", data)
        assert length == len(data)
        _, records = self._sets(exporter, state, data, 16, (2, 3), 0)
        self._follow(state, sequence, records)

    def _sets(
        self, exporter: str, state: State, data: bytes, at: int, ids: tuple[int, int], boot: int
    ) -> tuple[int, int]:
        templates = records = 0
        while at < len(data):
            set_id, length = struct.unpack_from(">HH", data, at)
            assert length >= 4
            body = data[at + 4 : at + length]
            assert at + length <= len(data)
            at += length
            if set_id in ids:
                templates += self._templates(state, body, options=set_id == ids[1], v9=ids[0] == 0)
            else:
                records += self._records(exporter, state, set_id, body, boot)
        assert at == len(data)
        return templates, records

    @staticmethod
    def _templates(state: State, body: bytes, *, options: bool, v9: bool) -> int:
        at = count = 0
        while at + 4 <= len(body):
            template, fields = struct.unpack_from(">HH", body, at)
            if template == 0:
                break
            at += 4
            scopes = 0
            if options:
                extra = struct.unpack_from(">H", body, at)[0]
                at += 2
                scopes, fields = (fields // 4, (fields + extra) // 4) if v9 else (extra, fields)
            specs = []
            for _ in range(fields):
                element, length = struct.unpack_from(">HH", body, at)
                at += 4
                pen = 0
                if element & 0x8000 and not v9:
                    pen = struct.unpack_from(">I", body, at)[0]
                    at += 4
                specs.append((element & 0x7FFF, length, pen))
            state.templates[template] = specs, scopes
            count += 1
        assert not any(body[at:])
        return count

    def _records(self, exporter: str, state: State, set_id: int, body: bytes, boot: int) -> int:
        specs, scopes = state.templates[set_id]
        shortest = sum(1 if length == VARIABLE else length for _, length, _ in specs)
        at = count = 0
        while len(body) - at >= shortest:
            values: dict[tuple[int, int], bytes] = {}
            for i, (element, length, pen) in enumerate(specs):
                size = length
                if length == VARIABLE:
                    size = body[at]
                    at += 1
                    if size == 255:
                        size = int.from_bytes(body[at : at + 2], "big")
                        at += 2
                key = (-element, pen) if i < scopes else (element, pen)
                values[key] = body[at : at + size]
                at += size
            count += 1
            state.raw.append(values)
            if scopes:
                self._option(state, values)
            else:
                self._flow(exporter, state, values, boot)
        assert not any(body[at:])
        assert len(body) - at < 4
        return count

    @staticmethod
    def _option(state: State, values: dict[tuple[int, int], bytes]) -> None:
        number = {key[0]: int.from_bytes(raw, "big") for key, raw in values.items()}
        if 305 in number:
            rate = (number[305] + number[306]) // number[305]
            state.sampling[number.get(-302, 0)] = rate
        if 50 in number:
            state.sampling[number[48]] = number[50]
        if 34 in number:
            state.sampling[0] = number[34]
        if 82 in number:
            iface = number.get(-10, number.get(10, 0))
            state.names[iface] = values[82, 0].rstrip(b"\0")
        if 236 in number:
            vrf = number.get(-234, number.get(234, 0))
            state.vrfs[vrf] = values[236, 0].rstrip(b"\0")

    def _flow(
        self, exporter: str, state: State, values: dict[tuple[int, int], bytes], boot: int
    ) -> None:
        number = {key[0]: int.from_bytes(raw, "big") for key, raw in values.items() if not key[1]}
        src, dst = (
            str(ipaddress.ip_address(values.get((v4, 0), values.get((v6, 0), b""))))
            for v4, v6 in ((8, 27), (12, 28))
        )
        start = number[152] if 152 in number else boot + number[22]
        end = number[153] if 153 in number else boot + number[21]
        selector = number.get(302, number.get(48, 0))
        self.rows[
            Row._make(
                (
                    exporter,
                    src,
                    dst,
                    *(number[element] for element in (7, 11, 4, 10, 14, 2, 1)),
                    state.sampling.get(selector, 1),
                    start,
                    end,
                )
            )
        ] += 1

    def _sflow(self, exporter: str, state: State, data: bytes) -> None:
        version, kind = struct.unpack_from(">II", data)
        assert version == 5
        size = {1: 4, 2: 16}[kind]
        assert str(ipaddress.ip_address(data[8 : 8 + size])) == exporter
        _, sequence, _, samples = struct.unpack_from(">IIII", data, 8 + size)
        self._follow(state, sequence, 1)
        at = 24 + size
        for _ in range(samples):
            sample, length = struct.unpack_from(">II", data, at)
            body = data[at + 8 : at + 8 + length]
            at += 8 + length
            if sample in (1, 3):
                self._flow_sample(exporter, state, body, expanded=sample == 3)
            else:
                self._counter_sample(state, body, expanded=sample == 4)
        assert at == len(data)

    def _flow_sample(self, exporter: str, state: State, body: bytes, *, expanded: bool) -> None:
        layout = ">IIIIIIIIIII" if expanded else ">IIIIIIII"
        f = struct.unpack_from(layout, body)
        sequence = f[0]
        source, rate, pool = (f[2], f[3], f[4]) if expanded else (f[1], f[2], f[3])
        in_iface, out_iface = (f[7], f[9]) if expanded else (f[5], f[6])
        assert sequence == state.sample_sequence.get(source, 0) + 1
        assert pool == sequence * rate
        state.sample_sequence[source] = sequence
        records = self._xdr_records(body, struct.calcsize(layout), f[-1])
        assert set(records) == {1, 1001, 1002, 1003}
        flow = self._frame(records[1])
        self.rows[
            Row._make((exporter, *flow[:5], in_iface, out_iface, 1, flow[5], rate, 0, 0))
        ] += 1

    @staticmethod
    def _xdr_records(body: bytes, at: int, count: int) -> dict[int, bytes]:
        records: dict[int, bytes] = {}
        for _ in range(count):
            kind, length = struct.unpack_from(">II", body, at)
            assert length % 4 == 0
            records[kind] = body[at + 8 : at + 8 + length]
            assert len(records[kind]) == length
            at += 8 + length
        assert at == len(body)
        return records

    @staticmethod
    def _frame(record: bytes) -> tuple[Any, ...]:
        protocol, frame_length, stripped, size = struct.unpack_from(">IIII", record)
        assert (protocol, stripped) == (1, 4)
        frame = record[16 : 16 + size]
        at = 12
        ethertype = struct.unpack_from(">H", frame, at)[0]
        if ethertype == 0x8100:
            at += 4
            ethertype = struct.unpack_from(">H", frame, at)[0]
        at += 2
        if ethertype == 0x0800:
            header = frame[at : at + 20]
            words = struct.unpack(">10H", header)
            total = sum(words)
            total = (total & 0xFFFF) + (total >> 16)
            assert total == 0xFFFF
            assert words[1] + at + 4 == frame_length
            proto, src, dst, at = header[9], header[12:16], header[16:20], at + 20
        else:
            header = frame[at : at + 40]
            assert ethertype == 0x86DD
            assert header[0] >> 4 == 6
            assert struct.unpack_from(">H", header, 4)[0] + 40 + at + 4 == frame_length
            proto, src, dst, at = header[6], header[8:24], header[24:40], at + 40
        ports = struct.unpack_from(">HH", frame, at) if proto in (6, 17) else (0, 0)
        addresses = [str(ipaddress.ip_address(raw)) for raw in (src, dst)]
        return (*addresses, *ports, proto, frame_length)

    def _counter_sample(self, state: State, body: bytes, *, expanded: bool) -> None:
        at = 16 if expanded else 12
        records = self._xdr_records(body, at, struct.unpack_from(">I", body, at - 4)[0])
        generic = struct.unpack(">IIQIIQIIIIIIQIIIIII", records[1])
        assert len(records[2]) == 13 * 4
        state.counters[generic[0]] = generic
