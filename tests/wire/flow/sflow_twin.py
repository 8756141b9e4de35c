"""A slow and plain reading of sFlow datagrams, to hold the kernels against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flowray.wire.flow.dissect import Tunnel
from flowray.wire.flow.sflow import COUNTER_KEYS, CounterType, Malformed
from tests.wire.flow.dissect_twin import Frame

MAPPED = 0xFFFF << 32
OLD_COUNTERS = {1: 88, 2: 140, 3: 160, 4: 88, 5: 168, 6: 88, 7: 28}
WIDE = {"ifSpeed", "ifInOctets", "ifOutOctets", "octets"}
Row = dict[str, int]


class Fault(Exception):  # noqa: N818
    """Reading ends here, with a cause."""


class Reader:
    """Words of XDR; `fault` is raised where they end."""

    def __init__(self, data: bytes, fault: Malformed) -> None:
        self.data, self.fault = data, fault

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise Fault(self.fault)
        head, self.data = self.data[:size], self.data[size:]
        return head

    def word(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def words(self, count: int) -> list[int]:
        if 4 * count > len(self.data):
            raise Fault(self.fault)
        return [self.word() for _ in range(count)]

    def opaque(self, *, strict: bool = False) -> bytes:
        """Opaque data; its padding must be there if `strict`."""
        data = self.take(self.word())
        padding = -len(data) % 4
        self.take(padding if strict else min(padding, len(self.data)))
        return data

    def address(self) -> int:
        kind = self.word()
        if kind not in (0, 1, 2):
            raise Fault(self.fault)
        data = self.take((0, 4, 16)[kind])
        return int.from_bytes(data, "big") | (MAPPED if kind == 1 else 0)


@dataclass
class Datagram:
    """What a datagram holds."""

    cause: int = 0
    header: tuple[int, ...] = (0, 0, 0, 0, 0)  # version, agent, sub-agent, sequence, uptime
    flows: list[Row] = field(default_factory=list)
    blocks: list[Row] = field(default_factory=list)
    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])


def interface(form: int, value: int) -> int:
    return value if form == 0 else (form & 3) << 30 | value & 0x3FFFFFFF


def fixed(
    row: Row, rate: int, source: tuple[int, int], inside: int, outside: int, form: int
) -> None:
    row.update(packets=1, flows=1, _rate=rate, sampling_rate=rate)
    row.update(in_iface=inside, out_iface=outside)
    if form == 1:
        row["fwd_status"] = 128
    row["sampling_direction"] = 255
    if source[0] == 0 and source[1] == inside:
        row["sampling_direction"] = 0
    elif source[0] == 0 and (source[1] == outside or form == 2):
        row["sampling_direction"] = 1


class Sample:
    """Fills a row from records, in any order."""

    def __init__(self, row: Row, version: int, tunnels: Tunnel) -> None:
        self.row, self.version, self.tunnels = row, version, tunnels
        self.frame_length = 0
        self.status = -1
        self.hops: dict[int, int] = {}
        self.vlans = (0, 0, 0)

    def record(self, kind: int, data: bytes) -> None:
        method = {
            1: self.header, 1001: self.switch, 1002: self.router, 1003: self.gateway,
            1006: self.mpls, 1007: self.nat, 1020: self.nat_port,
        }.get(kind)  # fmt: skip
        if method is None and self.status == -1:
            method = {2: self.ethernet, 3: self.ip, 4: self.ip}.get(kind)
        if method:
            method(Reader(data, Malformed.RECORD_OVERRUN))

    def header(self, r: Reader) -> None:
        if len(r.data) < (16 if self.version == 5 else 12):
            raise Fault(r.fault)
        link, self.frame_length = r.words(2)
        if self.version == 5:
            r.word()
        size = r.word()
        frame = Frame(r.data[:size], self.tunnels, 4789)
        self.status = frame.read(link)
        if "length" in frame.out:
            frame.out["bytes"] = frame.out.pop("length")
        self.row.update(frame.out)
        if size > len(r.data):
            raise Fault(r.fault)

    def ethernet(self, r: Reader) -> None:
        if len(r.data) < 20:
            raise Fault(r.fault)
        mac = 8 if len(r.data) >= 24 else 6
        self.frame_length = r.word()
        self.row["src_mac"] = int.from_bytes(r.take(mac)[:6], "big")
        self.row["dst_mac"] = int.from_bytes(r.take(mac)[:6], "big")
        self.row["etype"] = r.word() & 0xFFFF

    def ip(self, r: Reader) -> None:
        octets = 16 if self.is_v6 else 4
        if len(r.data) < 24 + 2 * octets:
            raise Fault(r.fault)
        length, proto = r.words(2)
        mapped = 0 if octets == 16 else MAPPED
        hosts = [int.from_bytes(r.take(octets), "big") | mapped for _ in range(2)]
        source, target, flags, tos = r.words(4)
        self.row.update(
            bytes=length, proto=proto & 255, src_host=hosts[0], dst_host=hosts[1],
            src_port=source & 65535, dst_port=target & 65535, tcpflags=flags & 4095, tos=tos & 255,
            etype=0x86DD if octets == 16 else 0x0800,
        )  # fmt: skip

    is_v6 = False

    def hop(self, rank: int, r: Reader) -> None:
        before = r.data
        address = r.address()
        if any(before[4 : len(before) - len(r.data)]) and rank not in self.hops:
            self.hops[rank] = address

    def switch(self, r: Reader) -> None:
        vlans = r.words(4)
        self.vlans = (vlans[0], vlans[1], vlans[2])

    def router(self, r: Reader) -> None:
        self.hop(2, r)
        masks = r.words(2)
        self.row.update(src_mask=masks[0] & 255, dst_mask=masks[1] & 255)

    def gateway(self, r: Reader) -> None:
        if self.version == 5:
            self.hop(3, r)
        _, source, peer = r.words(3)
        self.row.update(src_as=source, peer_src_as=peer)
        path: list[int] = []
        if self.version == 2:
            path = r.words(r.word())
        else:
            for _ in range(r.word()):
                r.word()
                path += r.words(r.word())
        if path:
            self.row.update(peer_dst_as=path[0], dst_as=path[-1])

    def mpls(self, r: Reader) -> None:
        self.hop(1, r)
        stack = r.words(r.word())
        if not self.row.get("_mpls_1"):
            self.row.update({f"_mpls_{i}": entry >> 8 for i, entry in enumerate(stack[:10], 1)})

    def nat(self, r: Reader) -> None:
        for name in ("post_nat_src_host", "post_nat_dst_host"):
            kind = r.data[3:4]
            address = r.address()
            if kind != b"\x00":
                self.row[name] = address

    def nat_port(self, r: Reader) -> None:
        source, target = r.words(2)
        self.row.update(post_nat_src_port=source & 65535, post_nat_dst_port=target & 65535)

    def finish(self) -> None:
        if not self.row.get("bytes"):
            self.row["bytes"] = self.frame_length
        if self.hops:
            self.row["peer_dst_ip"] = self.hops[max(self.hops)]
        source, priority, target = self.vlans
        if 0 < source < 4096:
            self.row.update(vlan=source, in_vlan=source)
            if priority < 8:
                self.row["cos"] = priority
        if 0 < target < 4096:
            self.row["out_vlan"] = target
        self.row["_status"] = int(self.status)


class Twin:
    def __init__(self, tunnels: Tunnel) -> None:
        self.tunnels = tunnels

    def read(self, payload: bytes) -> Datagram:
        self.found = Datagram()
        r = Reader(payload, Malformed.SHORT_HEADER)
        try:
            self.version, count = self.header(r)
            r.fault = Malformed.TRUNCATED
            for _ in range(count):
                self.sample(r)
        except Fault as fault:
            self.found.cause = int(fault.args[0])
        self.found.cause = self.found.cause or int(self.record_fault)
        return self.found

    record_fault = 0

    def header(self, r: Reader) -> tuple[int, int]:
        self.record_fault = 0
        if len(r.data) < 8:
            raise Fault(r.fault)
        version, kind = r.words(2)
        if version not in (2, 4, 5):
            raise Fault(Malformed.BAD_VERSION)
        if kind not in (1, 2):
            raise Fault(Malformed.BAD_ADDRESS_TYPE)
        agent = int.from_bytes(r.take(4 if kind == 1 else 16), "big") | (MAPPED if kind == 1 else 0)
        sub = r.word() if version == 5 else 0
        sequence, uptime, count = r.words(3)
        self.found.header = (version, agent, sub, sequence, uptime)
        return version, count

    def sample(self, r: Reader) -> None:
        if self.version != 5:
            return self.old_sample(r)
        kind, size = r.words(2)
        if size > len(r.data):
            raise Fault(Malformed.SAMPLE_OVERRUN)
        body = r.take(size)
        r.take(min(-size % 4, len(r.data)))
        least = {1: 32, 2: 12, 3: 44, 4: 16, 5: 32}.get(kind)
        if least is None:
            self.found.counts[3] += 1
        elif size < least:
            self.found.cause = Malformed.SHORT_SAMPLE
        elif kind in (2, 4):
            self.found.counts[1] += 1
            self.counter(Reader(body, Malformed.RECORD_OVERRUN), expanded=kind == 4)
        else:
            self.found.counts[2 if kind == 5 else 0] += 1
            self.flow(Reader(body, Malformed.RECORD_OVERRUN), kind)
        return None

    def flow(self, r: Reader, kind: int) -> None:
        row: Row = {}
        if kind == 1:
            _, source, rate, _, _, inside, outside = r.words(7)
            fixed(row, rate, (source >> 24, source & 0xFFFFFF), inside, outside, outside >> 30)
        elif kind == 3:
            w = r.words(10)
            ports = interface(w[6], w[7]), interface(w[8], w[9])
            fixed(row, w[3], (w[1], w[2]), *ports, w[8])
        else:
            _, kind_of, index, _, inside, outside, _ = r.words(7)
            fixed(row, 1, (kind_of, index), inside, outside, 1)
        sample = Sample(row, 5, self.tunnels)
        self.records(r, sample)
        sample.finish()
        self.found.flows.append(row)

    def tagged(self, r: Reader) -> Iterator[tuple[int, bytes]]:
        """Records with a format and a length, up to their count or to where they end."""
        for _ in range(r.word()):
            try:
                kind, body = r.word(), r.opaque()
            except Fault as fault:
                self.record_fault = fault.args[0]
                return
            yield kind, body

    def records(self, r: Reader, sample: Sample) -> None:
        for kind, body in self.tagged(r):
            sample.is_v6 = kind == 4
            try:
                sample.record(kind, body)
            except Fault as fault:
                self.record_fault = fault.args[0]

    def counter(self, r: Reader, *, expanded: bool) -> None:
        sequence, *source = r.words(3 if expanded else 2)
        index = source[1] if expanded else source[0] & 0xFFFFFF
        for kind, body in self.tagged(r):
            if kind not in (1, 2, 5):
                continue
            keys = COUNTER_KEYS[CounterType(kind)]
            b = Reader(body, r.fault)
            try:
                values = [int.from_bytes(b.take(8 if key in WIDE else 4), "big") for key in keys]
            except Fault:
                continue  # an older or shorter block than the one we know
            block = {"sf_cnt_type": kind, "source_id_index": index, "sflow_cnt_seq": sequence}
            self.found.blocks.append(block | dict(zip(keys, values, strict=True)))

    def old_sample(self, r: Reader) -> None:
        kind = r.word()
        r.fault = Malformed.SAMPLE_OVERRUN
        if kind == 1:
            self.old_flow(r)
            self.found.counts[0] += 1
        elif kind == 2:
            counters = r.words(4)[3]
            if counters not in OLD_COUNTERS:
                raise Fault(Malformed.BAD_SAMPLE)
            r.take(OLD_COUNTERS[counters])
            self.found.counts[1] += 1
        else:
            raise Fault(Malformed.BAD_SAMPLE)
        r.fault = Malformed.TRUNCATED

    def old_flow(self, r: Reader) -> None:
        row: Row = {}
        _, source, rate, _, _, inside, outside = r.words(7)
        fixed(row, rate, (source >> 24, source & 0xFFFFFF), inside, outside, outside >> 30)
        sample = Sample(row, self.version, self.tunnels)
        for kind, body in self.old_records(r):
            sample.is_v6 = kind == 4
            sample.record(kind, body)
        sample.finish()
        self.found.flows.append(row)

    def old_records(self, r: Reader) -> list[tuple[int, bytes]]:
        kind = r.word()
        records = []
        if kind == 1:
            whole = r.data
            r.words(2)
            r.opaque(strict=True)
            records.append((1, whole[: len(whole) - len(r.data)]))
        elif kind in (2, 3):
            records.append((kind + 1, r.take(32 if kind == 2 else 56)))
        else:
            raise Fault(r.fault)
        for _ in range(r.word()):
            kind = r.word()
            whole = r.data
            self.skip_extension(r, kind)
            records.append((1000 + kind, whole[: len(whole) - len(r.data)]))
        return records

    def skip_extension(self, r: Reader, kind: int) -> None:
        if kind == 1:
            r.words(4)
        elif kind == 2:
            r.address()
            r.words(2)
        elif kind == 3:
            r.words(3)
            if self.version == 2:
                r.words(r.word())
                return
            for _ in range(r.word()):
                r.word()
                r.words(r.word())
            r.words(r.word())
            r.word()
        elif kind == 4:
            r.opaque(strict=True)
            r.opaque(strict=True)
        elif kind == 5:
            r.word()
            r.opaque(strict=True)
        else:
            raise Fault(r.fault)
