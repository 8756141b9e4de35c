"""Traffic of several exporters over time: a day curve, bursts, and datagrams tick by tick."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from ipaddress import ip_address

import numpy as np

from flowray.generate import elements as e
from flowray.generate.exporters import (
    NS_PER_S,
    Exporter,
    ExporterSpec,
    IpfixExporter,
    Netflow5Exporter,
    Netflow9Exporter,
    Style,
)
from flowray.generate.population import Flows, Population
from flowray.generate.samples import SflowExporter
from flowray.generate.truth import Truth

START_NS = 1_700_000_000 * NS_PER_S
TICK_NS = 250_000_000
PEAK_HOUR = 20.5
SWING = 0.6
BURST_CHANCE = 0.08

EDGE = Style(
    v4=(e.IPFIX_V4, e.IPFIX_TEXT),
    v6=(e.IPFIX_V6,),
    options=(e.OPTIONS_SELECTOR, e.OPTIONS_INTERFACES),
)
PROVIDER_EDGE = Style(
    v4=(e.IPFIX_MPLS,),
    v6=(e.IPFIX_PLAIN_V6,),
    options=(e.OPTIONS_DOMAIN, e.OPTIONS_INTERFACES, e.OPTIONS_VRFS),
)
V9_CORE = Style(
    v4=(e.V9_V4,),
    v6=(e.V9_V6,),
    options=(e.V9_OPTIONS_SAMPLER, e.V9_OPTIONS_INTERFACES),
)
V9_PROVIDER_EDGE = Style(
    v4=(e.V9_MPLS,),
    v6=(),
    options=(e.V9_OPTIONS_INTERVAL, e.V9_OPTIONS_INTERFACES, e.V9_OPTIONS_VRFS),
)

KINDS: dict[str, Callable[[ExporterSpec, Population, int], Exporter]] = {
    "ipfix-edge": partial(IpfixExporter, style=EDGE),
    "ipfix-pe": partial(IpfixExporter, style=PROVIDER_EDGE),
    "v9-core": partial(Netflow9Exporter, style=V9_CORE),
    "v9-pe": partial(Netflow9Exporter, style=V9_PROVIDER_EDGE),
    "v5": Netflow5Exporter,
    "sflow": SflowExporter,
    "sflow-expanded": partial(SflowExporter, expanded=True),
}
"""Kinds of exporters by name."""


def default_exporters(count: int = 7, first_address: str = "192.0.2.1") -> tuple[ExporterSpec, ...]:
    """`count` exporters, all kinds in turn, on consecutive addresses."""
    kinds = list(KINDS)
    first = ip_address(first_address)
    return tuple(
        ExporterSpec(
            kind=kinds[i % len(kinds)],
            address=str(first + i),
            name=f"{kinds[i % len(kinds)]}-{i + 1}",
            domain=i * 10,
            sampling=(1000, 512, 100, 2000)[i % 4],
            weight=1.0 / (1 + i % len(kinds)) ** 0.5,
            first_iface=1 + 100 * (i % 3),
        )
        for i in range(count)
    )


def day_factor(time_ns: int) -> float:
    """Traffic at a time of day (UTC) to the mean of the day: highest at 20:30."""
    hour = time_ns / NS_PER_S / 3600 % 24
    return 1 + SWING * math.cos((hour - PEAK_HOUR) / 24 * 2 * math.pi)


@lru_cache(maxsize=1024)
def _burst_of(seed: int, index: int, minute: int) -> tuple[float, float, float, int]:
    """Burst of a minute: start and end second, strength to the rate (0 = none), victim."""
    rng = np.random.default_rng([seed, index, minute])
    start = rng.uniform(0, 40)
    end = start + rng.uniform(5, 20)
    strength = rng.uniform(1, 4) if rng.random() < BURST_CHANCE else 0.0
    return start, end, strength, int(rng.integers(0, 1000))


def burst(seed: int, index: int, time_ns: int) -> tuple[float, int]:
    """Extra traffic of an exporter, to its rate, and the customer that it goes to."""
    seconds = time_ns / NS_PER_S
    start, end, strength, victim = _burst_of(seed, index, int(seconds // 60))
    return (strength if start <= seconds % 60 < end else 0.0), victim


def traffic(
    seed: int,
    exporters: Sequence[ExporterSpec] | None = None,
    *,
    rate: float = 1000.0,
    start_ns: int = START_NS,
    seconds: float | None = None,
    tick_ns: int = TICK_NS,
    population: Population | None = None,
    truth: list[Truth] | None = None,
) -> Iterator[tuple[int, int, list[bytes]]]:
    """Datagrams as (time in ns, index of the exporter, payloads), tick by tick.

    Endless without `seconds`. `rate` is the mean of a day in records/s over all exporters. The same
    arguments give the same bytes. If a list is given as `truth`, the truth of each yielded batch
    that has data is appended to it (whoever runs for long empties it now and then).
    """
    specs = tuple(exporters) if exporters is not None else default_exporters()
    people = population or Population(seed)
    routers = [KINDS[spec.kind](spec, people, start_ns) for spec in specs]
    rngs = [np.random.default_rng([seed, index, 1]) for index in range(len(specs))]
    share = np.array([spec.weight for spec in specs]) / sum(spec.weight for spec in specs)
    owed = np.zeros((len(specs), 2))
    ticks = range(1 << 62) if seconds is None else range(math.ceil(seconds * NS_PER_S / tick_ns))
    for tick in ticks:
        now_ns = start_ns + tick * tick_ns
        base = rate * tick_ns / NS_PER_S * day_factor(now_ns)
        for index, router in enumerate(routers):
            extra, victim = burst(seed, index, now_ns)
            owed[index] += base * share[index] * np.array([1.0, extra])
            due = owed[index].astype(np.int64)
            owed[index] -= due
            flows = _flows(people, rngs[index], due.tolist(), now_ns, router.v6_share, victim)
            datagrams, known = router.export(now_ns, flows)
            if truth is not None and len(known):
                truth.append(known)
            if datagrams:
                yield now_ns, index, datagrams


def _flows(
    people: Population,
    rng: np.random.Generator,
    due: Sequence[int],
    now_ns: int,
    v6_share: float,
    victim: int,
) -> Flows:
    """Normal and burst flows, ended by the last full second (headers tell no more)."""
    now_ms = now_ns // NS_PER_S * 1000
    flows = people.draw(rng, due[0], now_ms, v6_share=v6_share)
    if not due[1]:
        return flows
    return Flows.joined(flows, people.attack(rng, due[1], now_ms, victim))
