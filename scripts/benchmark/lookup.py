"""Batch look-ups in a full table, on one core."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.context import Bench
from benchmark.processes import Cost, cheapest
from benchmark.report import Figure, Section, Verdict
from benchmark.router import full_table
from flowray.generate.routes import RoutingTable
from flowray.rib.lpm import Forest, build, look_up

BATCH = 1 << 16
BATCHES = 64
ONE_BY_ONE = 200_000
"""Addresses that are looked up one at a time, by libraries that know no batches."""

TARGETS = {4: 20, 6: 10}
SEED = 1

U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Questions:
    """Addresses (n,), each inside a route drawn at random; and all routes, of one version."""

    version: int
    table: RoutingTable
    rows: npt.NDArray[np.int64]
    hi: U64
    lo: U64

    @classmethod
    def of(cls, table: RoutingTable, version: int, count: int) -> Questions:
        v4 = (table.hi == 0) & (table.lo >> np.uint64(32) == np.uint64(0xFFFF))
        rows = np.flatnonzero(v4 == (version == 4))
        rng = np.random.default_rng([SEED, version])
        drawn = rng.choice(rows, count)
        host_hi, host_lo = rng.integers(0, 1 << 64, (2, count), np.uint64)
        bits = table.plen[drawn].astype(np.uint64) + np.uint64(96 if version == 4 else 0)
        hi = table.hi[drawn] | (host_hi & ~_mask(bits))
        lo = table.lo[drawn] | (host_lo & ~_mask(np.maximum(bits, np.uint64(64)) - np.uint64(64)))
        return cls(version, table, rows, hi, lo)

    def networks(self) -> list[str]:
        """The routes as texts."""
        t, out = self.table, []
        for row in self.rows.tolist():
            words = int(t.hi[row]) << 64 | int(t.lo[row])
            if self.version == 4:
                out.append(str(IPv4Network((words & 0xFFFFFFFF, int(t.plen[row])))))
            else:
                out.append(str(IPv6Network((words, int(t.plen[row])))))
        return out

    def addresses(self, count: int) -> list[bytes]:
        """The first addresses in network byte order, 4 or 16 octets each."""
        words = np.stack((self.hi[:count], self.lo[:count]), axis=1).astype(">u8").tobytes()
        octets = (words[i : i + 16] for i in range(0, len(words), 16))
        return [o[12:] if self.version == 4 else o for o in octets]


def _mask(bits: U64) -> U64:
    """Words with the upper `bits` set, 0 to 64 or more."""
    full, none = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0)
    clear = np.uint64(64) - np.clip(bits, np.uint64(1), np.uint64(64))
    return np.where(bits == 0, none, full << clear)


def lookup(bench: Bench) -> Section:
    """Batch look-ups."""
    section = Section(
        f"longest-prefix match, {bench.routes:,} IPv4 and {bench.routes // 5:,} IPv6 routes,"
        f" random routes' addresses, batches of {BATCH:,} (one thread)"
    )
    table = full_table(bench.routes)
    for version, target in TARGETS.items():
        asked = Questions.of(table, version, BATCH * BATCHES)
        own = _flowray(asked, bench.repeats)
        section.figures.append(own)
        what = f"IPv{version}, look-ups a CPU second"
        section.verdicts.append(Verdict.at_least(what, own.rate / 1e6, target, " M"))
        for name, program in LIBRARIES.items():
            try:
                section.figures.append(program(asked, bench.repeats))
            except ImportError:
                if version == min(TARGETS):
                    section.notes.append(f"{name} is missing: pip install {name}")
    return section


def _timed(work: Callable[[], None], repeats: int) -> Cost:
    costs = []
    for _ in range(repeats + 1):
        cpu, wall = time.thread_time(), time.monotonic()
        work()
        costs.append(Cost(time.thread_time() - cpu, time.monotonic() - wall))
    return cheapest(costs[1:])


def _flowray(asked: Questions, repeats: int) -> Figure:
    rows, t = asked.rows, asked.table
    payload = np.arange(len(rows), dtype=np.uint32)
    intervals = build(asked.version, t.hi[rows], t.lo[rows], t.plen[rows], payload)
    pair = (intervals, None) if asked.version == 4 else (None, intervals)
    forest = Forest([pair])
    number = np.zeros(BATCH, np.int64)

    def work() -> None:
        for i in range(0, len(asked.hi), BATCH):
            look_up(forest, number, asked.hi[i : i + BATCH], asked.lo[i : i + BATCH])

    extra = {"octets_a_route": round(forest.nbytes / len(rows), 1)}
    name = f"flowray, IPv{asked.version}"
    return Figure(name, _timed(work, repeats), len(asked.hi), extra)


def _one_by_one(name: str, asked: Questions, repeats: int, find: Callable[[bytes], Any]) -> Figure:
    addresses = asked.addresses(ONE_BY_ONE)

    def work() -> None:
        _each(find, addresses)

    return Figure(f"{name}, IPv{asked.version}", _timed(work, repeats), len(addresses))


def _each(find: Callable[[bytes], Any], addresses: Sequence[bytes]) -> None:
    for address in addresses:
        find(address)


def _py_radix(asked: Questions, repeats: int) -> Figure:
    tree: Any = importlib.import_module("radix").Radix()
    for network in asked.networks():
        tree.add(network)
    return _one_by_one("py-radix", asked, repeats, lambda packed: tree.search_best(packed=packed))


def _pytricia(asked: Questions, repeats: int) -> Figure:
    bits = 32 if asked.version == 4 else 128
    trie: Any = importlib.import_module("pytricia").PyTricia(bits)
    for number, network in enumerate(asked.networks()):
        trie.insert(network, number)
    return _one_by_one("pytricia", asked, repeats, trie.get)


LIBRARIES: dict[str, Callable[[Questions, int], Figure]] = {
    "py-radix": _py_radix,
    "pytricia": _pytricia,
}
