"""A slow and plain reading of sampled frames, written from the RFCs, to hold the kernel against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flowray.wire.flow.dissect import Status, Tunnel

ETHERNET, PPP, MPLS = "ethernet", "ppp", "mpls"
IPV4, IPV6 = 0x0800, 0x86DD
ETYPES = {0x6558: ETHERNET, 0x880B: PPP, 0x8847: MPLS, 0x8848: MPLS}
TAGS = (0x8100, 0x88A8, 0x9100, 0x9200)
PPP_PROTOCOLS = {0x21: IPV4, 0x57: IPV6, 0x281: 0x8847, 0x283: 0x8847}
LINKS: dict[int, Any] = {1: 0x6558, 7: 0x880B, 14: 0x880B, 11: IPV4, 12: IPV6, 13: 0x8847}
PORTS = (6, 17, 33, 132, 136)
EXTENSIONS = {0: 8, 43: 8, 60: 8, 135: 8, 139: 8, 140: 8, 51: 4}
MAPPED = 0xFFFF << 32


class Stop(Exception):  # noqa: N818
    """Reading ends here, with a status."""


def number(data: bytes, start: int, size: int) -> int:
    if len(data) < start + size:
        raise Stop(Status.TRUNCATED)
    return int.from_bytes(data[start : start + size], "big")


@dataclass
class Packet:
    """One IP packet: its fields by plain name, and where its transport header is."""

    fields: dict[str, int] = field(default_factory=dict)
    status: Status = Status.OK
    transport: bytes | None = None
    length: int = 0


class Frame:
    def __init__(self, data: bytes, tunnels: Tunnel, vxlan_port: int) -> None:
        self.data, self.tunnels, self.vxlan_port = data, tunnels, vxlan_port
        self.out: dict[str, int] = {}

    def read(self, link: int) -> Status:
        try:
            return self._read(link)
        except Stop as stop:
            return Status(stop.args[0])

    def _read(self, link: int) -> Status:
        kind, data = LINKS.get(link, 0), self.data
        for depth in range(5):
            kind, data = self.link(kind, data, nested=depth > 0)
            packet = (v4 if kind == IPV4 else v6)(data)
            inner = None
            if packet.transport is not None and depth < 4:
                inner = self.inside(packet.fields["proto"], packet.transport)
            if inner is None:
                if packet.length:
                    self.out["length"] = packet.length
                cut = transport(packet)
                self.out.update(packet.fields)
                return packet.status or cut
            if depth == 0:
                transport(packet)
                self.out.update({f"tunnel_{k}": v for k, v in packet.fields.items()})
                if link == 1:
                    self.out["tunnel_dst_mac"] = number(self.data, 0, 6)
                    self.out["tunnel_src_mac"] = number(self.data, 6, 6)
            kind, data, ids = inner
            self.out.update(ids)
        raise AssertionError

    def link(self, kind: int, data: bytes, *, nested: bool) -> tuple[int, bytes]:
        tags = 0
        stacked = False
        for _ in range(16):
            if kind not in (0x6558, 0x880B) and kind >= 0x600:
                self.out["etype"] = kind
            if kind in (IPV4, IPV6):
                return kind, data
            if ETYPES.get(kind) == ETHERNET:
                if not stacked:
                    if nested:
                        for name in ("vlan", "in_vlan", "in_cvlan", "cos"):
                            self.out[name] = 0
                    self.out["dst_mac"] = number(data, 0, 6)
                    self.out["src_mac"] = number(data, 6, 6)
                kind, data = number(data, 12, 2), data[14:]
                if kind < 0x600:
                    if number(data, 0, 8) >> 16 != 0xAAAA03000000:
                        raise Stop(Status.UNSUPPORTED)
                    kind, data = number(data, 6, 2), data[8:]
            elif kind in TAGS:
                tag, kind = number(data, 0, 2), number(data, 2, 2)
                if not stacked and tags == 0:
                    self.out.update(vlan=tag & 4095, in_vlan=tag & 4095, cos=tag >> 13)
                elif not stacked and tags == 1:
                    self.out["in_cvlan"] = tag & 4095
                tags += 1
                data = data[4:]
            elif ETYPES.get(kind) == MPLS:
                kind, data = self.labels(data, named=not stacked, nested=nested)
                stacked = True
            elif kind == 0x8864:
                number(data, 0, 6)
                kind, data = 0x880B, data[6:]
            elif ETYPES.get(kind) == PPP:
                kind, data = ppp(data)
            else:
                raise Stop(Status.UNSUPPORTED)
        raise Stop(Status.TOO_DEEP)

    def labels(self, data: bytes, *, named: bool, nested: bool) -> tuple[int, bytes]:
        if named and nested:
            for i in range(1, 11):
                self.out[f"_mpls_{i}"] = 0
        for i in range(1, 33):
            entry, data = number(data, 0, 4), data[4:]
            if named and i <= 10:
                self.out[f"_mpls_{i}"] = entry >> 8
            if entry & 0x100:
                nibble = number(data, 0, 1) >> 4
                if nibble == 1:
                    raise Stop(Status.UNSUPPORTED)
                kind = {4: IPV4, 6: IPV6}.get(nibble, 0x6558)
                return kind, data[4:] if nibble == 0 else data
        raise Stop(Status.TOO_DEEP)

    def inside(self, proto: int, data: bytes) -> tuple[int, bytes, dict[str, int]] | None:
        found: tuple[int, bytes, dict[str, int]] | None = None
        try:
            if proto == 17:
                found = self.over_udp(data)
            elif proto == 47 and Tunnel.GRE in self.tunnels:
                found = gre(data)
            elif Tunnel.IPIP in self.tunnels:
                kind = {4: IPV4, 41: IPV6, 137: 0x8847, 143: 0x6558}.get(proto)
                found = None if kind is None else (kind, data, {})
            if found is None:
                return None
            kind, data, _ = found
            if kind in (IPV4, IPV6):
                (v4 if kind == IPV4 else v6)(data)
            elif kind in (0x6558, 0x8847, 0x8848):
                number(data, 0, 14 if kind == 0x6558 else 4)
            else:
                return None
        except Stop:
            return None
        return found

    def over_udp(self, data: bytes) -> tuple[int, bytes, dict[str, int]] | None:
        port = number(data, 2, 2)
        head = number(data, 8, 8)
        if Tunnel.VXLAN in self.tunnels and port == self.vxlan_port and head >> 59 & 1:
            return 0x6558, data[16:], {"vxlan": head >> 8 & 0xFFFFFF}
        if Tunnel.GENEVE in self.tunnels and port == 6081 and head >> 62 == 0:
            size = 16 + (head >> 56 & 63) * 4
            return head >> 32 & 0xFFFF, data[size:], {"vxlan": head >> 8 & 0xFFFFFF}
        if Tunnel.GTP in self.tunnels and port == 2152:
            return gtp(data[8:])
        return None


def ppp(data: bytes) -> tuple[int, bytes]:
    data = data.removeprefix(b"\xff\x03")
    number(data, 0, 2)
    size = 1 if data[0] & 1 else 2
    kind = PPP_PROTOCOLS.get(number(data, 0, size))
    if kind is None:
        raise Stop(Status.UNSUPPORTED)
    return kind, data[size:]


def gre(data: bytes) -> tuple[int, bytes, dict[str, int]] | None:
    flags, kind = number(data, 0, 2), number(data, 2, 2)
    if flags & 0x4007:
        return None
    checksum, key, sequence = flags >> 15 & 1, flags >> 13 & 1, flags >> 12 & 1
    size = 4 + 4 * (checksum + key + sequence)
    nvgre = kind == 0x6558 and key and not checksum and not sequence
    return kind, data[size:], {"nvgre": number(data, 4, 4) >> 8} if nvgre else {}


def gtp(data: bytes) -> tuple[int, bytes, dict[str, int]] | None:
    flags = number(data, 0, 1)
    if flags >> 4 != 3 or number(data, 1, 1) != 255:
        return None
    rest = data[8:]
    if flags & 7:
        following = number(rest, 3, 1) if flags & 4 else 0
        rest = rest[4:]
        for _ in range(12):
            if not following:
                break
            size = number(rest, 0, 1) * 4
            if not size:
                return None
            following, rest = number(rest, size - 1, 1), rest[size:]
        if following:
            return None
    kind = {4: IPV4, 6: IPV6}.get(number(rest, 0, 1) >> 4)
    return None if kind is None else (kind, rest, {})


def v4(data: bytes) -> Packet:
    number(data, 0, 20)
    size = (data[0] & 15) * 4
    if data[0] >> 4 != 4 or size < 20:
        raise Stop(Status.MALFORMED)
    fields = {
        "proto": data[9],
        "tos": data[1],
        "src_host": MAPPED | number(data, 12, 4),
        "dst_host": MAPPED | number(data, 16, 4),
    }
    total = number(data, 2, 2)
    packet = Packet(fields, length=total)
    if total >= size:
        data = data[:total]
    if number(data, 6, 2) & 0x1FFF:
        return packet
    if len(data) < size:
        packet.status = Status.TRUNCATED
    else:
        packet.transport = data[size:]
    return packet


def v6(data: bytes) -> Packet:
    number(data, 0, 40)
    if data[0] >> 4 != 6:
        raise Stop(Status.MALFORMED)
    payload = number(data, 4, 2)
    first = number(data, 0, 4)
    fields = {
        "tos": first >> 20 & 255,
        "flow_label": first & 0xFFFFF,
        "src_host": number(data, 8, 16),
        "dst_host": number(data, 24, 16),
    }
    packet = Packet(fields, length=payload + 40 if payload else 0)
    rest = data[40 : 40 + payload] if payload else data[40:]
    following = data[6]
    try:
        for _ in range(12):
            if following == 44:
                number(rest, 0, 8)
                following = rest[0]
                if number(rest, 2, 2) >> 3:
                    break
                rest = rest[8:]
            elif following in EXTENSIONS:
                unit = EXTENSIONS[following]
                size = (number(rest, 1, 1) + (2 if unit == 4 else 1)) * unit
                number(rest, 0, size)
                following, rest = rest[0], rest[size:]
            else:
                packet.transport = rest
                break
        else:
            packet.status = Status.TOO_DEEP
    except Stop as stop:
        packet.status = stop.args[0]
    fields["proto"] = following
    return packet


def transport(packet: Packet) -> Status:
    data, proto = packet.transport, packet.fields["proto"]
    if data is None or proto not in PORTS:
        return Status.OK
    try:
        ports = number(data, 0, 4)
        packet.fields.update(src_port=ports >> 16, dst_port=ports & 0xFFFF)
        if proto == 6:
            packet.fields["tcpflags"] = number(data, 12, 2) & 0xFFF
    except Stop as stop:
        return Status(stop.args[0])
    return Status.OK
