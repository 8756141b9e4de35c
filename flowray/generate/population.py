"""Who talks to whom: networks, hosts and applications that generated traffic is drawn from.

Customers are on one side, the rest of the internet on the other. Addresses come from space that
nobody routes (RFC 6598 and RFC 1918 for IPv4, the documentation prefixes of RFC 3849 and RFC 9637
for IPv6), AS numbers from RFC 6996, so that a demonstration says nothing about real networks. The
same seed always gives the same world.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowray.generate.rows import I64, U64, V4_MAPPED

LOCAL_AS = 64512
FIRST_AS16, FIRST_AS32 = 64513, 4_200_000_000
AS16_SHARE = 0.6
CUSTOMERS_V4, INTERNET_V4 = 0x6440_0000, 0x0A00_0000  # 100.64.0.0/10, 10.0.0.0/8
CUSTOMERS_V6, INTERNET_V6 = 0x2001_0DB8 << 32, 0x3FFF_0000 << 32  # 2001:db8::/32, 3fff::/20
MASK_V4, MASK_V6 = (18, 24), (36, 48)
ZIPF_INTERNET, ZIPF_CUSTOMERS = 1.1, 0.7
MAX_DURATION_MS = 60_000
EPHEMERAL = (32768, 61000)


class Application(NamedTuple):
    """Share of flows, server port, and mean packet sizes (bytes) towards and from the client."""

    name: str
    proto: int
    port: int
    share: float
    down: int
    up: int
    packets: float


APPLICATIONS: tuple[Application, ...] = (
    Application("https", 6, 443, 0.40, 1180, 140, 24.0),
    Application("quic", 17, 443, 0.20, 1120, 130, 30.0),
    Application("dns", 17, 53, 0.13, 190, 74, 1.2),
    Application("http", 6, 80, 0.06, 900, 160, 10.0),
    Application("rtp", 17, 3478, 0.03, 420, 400, 80.0),
    Application("bittorrent", 17, 6881, 0.03, 950, 600, 20.0),
    Application("ntp", 17, 123, 0.03, 76, 76, 1.0),
    Application("ssh", 6, 22, 0.02, 240, 180, 12.0),
    Application("imaps", 6, 993, 0.02, 700, 150, 9.0),
    Application("smtp", 6, 25, 0.02, 130, 800, 12.0),
    Application("wireguard", 17, 51820, 0.02, 900, 300, 40.0),
    Application("game", 17, 27015, 0.02, 160, 90, 60.0),
    Application("esp", 50, 0, 0.01, 880, 300, 40.0),
    Application("bgp", 6, 179, 0.005, 120, 100, 3.0),
    Application("gre", 47, 0, 0.005, 800, 300, 30.0),
)
PORTLESS = (47, 50)
TCP_FLAGS = np.array([0x1B, 0x1B, 0x1A, 0x18, 0x10, 0x02, 0x14, 0x1F], np.uint64)
TOS = np.array([0, 0, 0, 0, 0, 0x28, 0x48, 0x68, 0x88, 0xB8], np.uint64)
ATTACK_PORT, ATTACK_BYTES = 123, 468


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The address plan: prefix i is `hi[i]`, `lo[i]` (words) / `length[i]`, of AS `asn[i]`."""

    hi: U64
    lo: U64
    length: U64
    asn: U64
    v6: npt.NDArray[np.bool_]
    local: npt.NDArray[np.bool_]

    def network(self, index: int) -> IPv4Network | IPv6Network:
        """The prefix as a network object."""
        length = int(self.length[index])
        if self.v6[index]:
            return IPv6Network((int(self.hi[index]) << 64, length))
        return IPv4Network((int(self.lo[index]) & 0xFFFFFFFF, length))


@dataclass(frozen=True, slots=True)
class Flows:
    """Flows to be encoded, columns (n,).

    `*_prefix` index `Prefixes`, `application` indexes `APPLICATIONS`, `outbound` is set for what
    customers send, times are ms since the epoch.
    """

    v6: npt.NDArray[np.bool_]
    src_hi: U64
    src_lo: U64
    dst_hi: U64
    dst_lo: U64
    src_prefix: I64
    dst_prefix: I64
    src_port: U64
    dst_port: U64
    proto: U64
    tos: U64
    tcpflags: U64
    packets: U64
    octets: U64
    start_ms: I64
    end_ms: I64
    application: I64
    outbound: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.v6)

    def take(self, index: npt.NDArray[Any] | slice) -> Flows:
        """The rows at `index` (positions or mask)."""
        return Flows(**{column.name: getattr(self, column.name)[index] for column in fields(self)})

    @classmethod
    def joined(cls, *parts: Flows) -> Flows:
        """All rows of `parts`."""
        return cls(
            **{
                column.name: np.concatenate([getattr(part, column.name) for part in parts])
                for column in fields(cls)
            }
        )


class _Hosts(NamedTuple):
    """Hosts of one side and family, popular ones first; `cumulative` popularity goes up to 1."""

    hi: U64
    lo: U64
    prefix: I64
    cumulative: npt.NDArray[np.float64]

    def draw(self, rng: np.random.Generator, count: int) -> I64:
        found = np.searchsorted(self.cumulative, rng.random(count))
        return np.minimum(found, len(self.hi) - 1)


class Population:
    """Prefixes, hosts and the applications between them, fixed by `seed`."""

    def __init__(
        self, seed: int, *, internet: int = 400, customers: int = 48, hosts: int = 20_000
    ) -> None:
        """Prefixes (`internet`, `customers`) are per family, as are `hosts` on the internet."""
        rng = np.random.default_rng([seed, 0x9E37])
        asn = _as_numbers(rng, internet)
        plan = [
            _subnets(
                rng, CUSTOMERS_V4, 10, customers, np.full(customers, LOCAL_AS), v6=False, local=True
            ),
            _subnets(
                rng, CUSTOMERS_V6, 32, customers, np.full(customers, LOCAL_AS), v6=True, local=True
            ),
            _subnets(rng, INTERNET_V4, 8, internet, asn, v6=False, local=False),
            _subnets(rng, INTERNET_V6, 20, internet, asn, v6=True, local=False),
        ]
        self.prefixes = Prefixes(
            **{
                column.name: np.concatenate([getattr(part, column.name) for part in plan])
                for column in fields(Prefixes)
            }
        )
        self._hosts = {
            (v6, local): self._populate(
                rng,
                v6,
                local,
                hosts // 4 if local else hosts,
                ZIPF_CUSTOMERS if local else ZIPF_INTERNET,
            )
            for v6 in (False, True)
            for local in (False, True)
        }
        self._application_share = np.cumsum([row.share for row in APPLICATIONS])
        self._application = {
            name: np.array([getattr(row, name) for row in APPLICATIONS], np.float64)
            for name in ("proto", "port", "down", "up", "packets")
        }

    def _populate(
        self, rng: np.random.Generator, v6: bool, local: bool, count: int, exponent: float
    ) -> _Hosts:
        table = self.prefixes
        own = np.flatnonzero((table.v6 == v6) & (table.local == local))
        prefix = own[rng.integers(0, len(own), count)]
        free = (64.0 if v6 else 32.0) - table.length[prefix].astype(np.float64)
        host = (rng.random(count) * (2.0**free - 2)).astype(np.uint64) + np.uint64(1)
        hi = table.hi[prefix] | (host if v6 else np.uint64(0))
        lo = rng.integers(1, 1 << 63, count, np.uint64) if v6 else table.lo[prefix] | host
        weight = np.arange(1, count + 1, dtype=np.float64) ** -exponent
        return _Hosts(hi, lo, prefix, np.cumsum(weight) / weight.sum())

    def draw(
        self, rng: np.random.Generator, count: int, now_ms: int, *, v6_share: float = 0.3
    ) -> Flows:
        """`count` flows that ended by `now_ms` (ms since the epoch)."""
        v6 = rng.random(count) < v6_share
        outbound = rng.random(count) < 0.45
        application = np.searchsorted(
            self._application_share / self._application_share[-1], rng.random(count)
        )
        packets = np.maximum(
            1, rng.lognormal(np.log(self._application["packets"][application]), 1.0)
        ).astype(np.uint64)
        size = np.where(
            outbound, self._application["up"][application], self._application["down"][application]
        )
        size = np.clip(size * rng.lognormal(0.0, 0.25, count), 64, 1480).astype(np.uint64)
        proto = self._application["proto"][application].astype(np.uint64)
        server = self._application["port"][application].astype(np.uint64)
        client = rng.integers(*EPHEMERAL, count).astype(np.uint64)
        client[np.isin(proto, PORTLESS)] = 0
        duration = np.minimum(rng.exponential(400.0, count) * packets, MAX_DURATION_MS)
        end = now_ms - rng.integers(0, 1000, count)
        return Flows(
            v6=v6,
            **self._ends(rng, v6, outbound),
            src_port=np.where(outbound, client, server),
            dst_port=np.where(outbound, server, client),
            proto=proto,
            tos=TOS[rng.integers(0, len(TOS), count)],
            tcpflags=np.where(
                proto == 6, TCP_FLAGS[rng.integers(0, len(TCP_FLAGS), count)], np.uint64(0)
            ),
            packets=packets,
            octets=packets * size,
            start_ms=end - np.where(packets > 1, duration, 0).astype(np.int64),
            end_ms=end,
            application=application.astype(np.int64),
            outbound=outbound,
        )

    def _ends(
        self,
        rng: np.random.Generator,
        v6: npt.NDArray[np.bool_],
        outbound: npt.NDArray[np.bool_],
    ) -> dict[str, Any]:
        """Source and destination columns: a customer and a host on the internet."""
        sides: dict[bool, tuple[U64, U64, I64]] = {}
        for local in (True, False):
            hi, lo = np.zeros(len(v6), np.uint64), np.zeros(len(v6), np.uint64)
            prefix = np.zeros(len(v6), np.int64)
            for family in (False, True):
                rows = np.flatnonzero(v6 == family)
                hosts = self._hosts[family, local]
                chosen = hosts.draw(rng, len(rows))
                hi[rows], lo[rows] = hosts.hi[chosen], hosts.lo[chosen]
                prefix[rows] = hosts.prefix[chosen]
            sides[local] = hi, lo, prefix
        ends: dict[str, Any] = {}
        for i, name in enumerate(("hi", "lo", "prefix")):
            ends[f"src_{name}"] = np.where(outbound, sides[True][i], sides[False][i])
            ends[f"dst_{name}"] = np.where(outbound, sides[False][i], sides[True][i])
        return ends

    def attack(self, rng: np.random.Generator, count: int, now_ms: int, victim: int) -> Flows:
        """`count` flows of an NTP amplification towards one customer, the `victim`-th."""
        flows = self.draw(rng, count, now_ms, v6_share=0.0)
        inbound = np.zeros(count, np.bool_)
        ends = self._ends(rng, inbound, inbound)
        hosts = self._hosts[False, True]
        target = victim % len(hosts.hi)
        ends["dst_lo"] = np.full(count, hosts.lo[target])
        ends["dst_prefix"] = np.full(count, hosts.prefix[target])
        ntp = next(i for i, row in enumerate(APPLICATIONS) if row.name == "ntp")
        packets = flows.packets * np.uint64(10)
        kept = {column.name: getattr(flows, column.name) for column in fields(flows)}
        changed = {
            "src_port": np.full(count, ATTACK_PORT, np.uint64),
            "dst_port": rng.integers(1024, 65536, count).astype(np.uint64),
            "proto": np.full(count, 17, np.uint64),
            "tcpflags": np.zeros(count, np.uint64),
            "packets": packets,
            "octets": packets * np.uint64(ATTACK_BYTES),
            "application": np.full(count, ntp, np.int64),
            "outbound": inbound,
        }
        return Flows(**{**kept, **ends, **changed})


def _as_numbers(rng: np.random.Generator, count: int) -> U64:
    """AS numbers of `count` prefixes, several prefixes to an AS, some beyond 16 bits."""
    systems = max(1, count // 3)
    small = int(systems * AS16_SHARE)
    numbers = np.concatenate(
        [FIRST_AS16 + np.arange(small), FIRST_AS32 + np.arange(systems - small)]
    ).astype(np.uint64)
    return numbers[np.minimum(rng.geometric(2.0 / systems, count) - 1, systems - 1)]


def _subnets(
    rng: np.random.Generator,
    base: int,
    base_length: int,
    count: int,
    asn: npt.NDArray[Any],
    *,
    v6: bool,
    local: bool,
) -> Prefixes:
    """`count` disjoint prefixes inside `base`, each at the start of its own equal slot."""
    shortest, longest = MASK_V6 if v6 else MASK_V4
    slot_length = base_length + int(np.ceil(np.log2(count)))
    length = rng.integers(max(shortest, slot_length), longest + 1, count).astype(np.uint64)
    slots = np.arange(count, dtype=np.uint64)
    if v6:
        hi, lo = base + (slots << np.uint64(64 - slot_length)), np.zeros(count, np.uint64)
    else:
        hi, lo = (
            np.zeros(count, np.uint64),
            (base + (slots << np.uint64(32 - slot_length))) | V4_MAPPED,
        )
    return Prefixes(
        hi.astype(np.uint64),
        lo.astype(np.uint64),
        length,
        asn.astype(np.uint64),
        np.full(count, v6),
        np.full(count, local),
    )
