"""Routes in a form that every speaker's can be brought to, and the tables that we hold in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flowray.rib.collector import RouteCollector
from flowray.rib.peers import PolicyView
from flowray.rib.table import RouteTable
from flowray.wire.bgp.attributes import Attributes, decode_attributes
from flowray.wire.bgp.distinguisher import rd_text
from flowray.wire.bgp.nlri import read_nlri
from flowray.wire.packets import address_text
from tests.rib.service_rig import Group

_LABEL = (1 << 20) - 1


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `key` is a prefix, or the fields of another NLRI as JSON. Lists are ascending.

    `path_id` is 0 where paths have no identifiers; what a speaker does not show is left as it is
    here on both sides.
    """

    family: str
    key: str
    rd: str = ""
    path_id: int = 0
    next_hop: str | None = None
    origin: str | None = None
    as_path: str = ""
    med: int | None = None
    local_pref: int | None = None
    communities: tuple[str, ...] = ()
    extended: tuple[str, ...] = ()
    large: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    more: tuple[tuple[str, str], ...] = ()


def key_of(fields: Mapping[str, object]) -> str:
    """The key of an NLRI that is no prefix."""
    return json.dumps(fields, sort_keys=True)


def held(
    group: Group,
    protocol: str = "bgp",
    view: PolicyView = PolicyView.ADJ_RIB_IN_PRE,
    peer: str | None = None,
) -> Counter[Route]:
    """What our tables have of a protocol, a policy view and, if given, one peer (address)."""

    def look(collector: RouteCollector) -> Counter[Route]:
        found: Counter[Route] = Counter()
        for tables in collector.rib.peers():
            told = tables.peer
            if (told.protocol, told.view) != (protocol, view) or peer not in (None, told.address):
                continue
            for table in tables.tables.values():
                found.update(_routes(collector, table))
        return found

    return group.service.look(look)


def _routes(collector: RouteCollector, table: RouteTable) -> list[Route]:
    rows = table.rows()
    nlri = [] if table.family.of_prefixes else table.nlri(rows.nlri)
    routes = []
    for i in range(len(rows)):
        attributes = decode_attributes(collector.rib.store[int(rows.attributes[i])])
        rd = int(rows.rd[i])
        if table.family.of_prefixes:
            key = _prefix(int(rows.hi[i]), int(rows.lo[i]), int(rows.plen[i]))
        else:
            read = read_nlri(table.family, nlri[i])
            key, rd = key_of(read.fields), read.rd
        routes.append(
            Route(
                table.family.name,
                key,
                rd_text(rd) if rd else "",
                int(rows.path_id[i]),
                labels=_labels(int(rows.labels[i])),
                **_shown(attributes),
            )
        )
    return routes


def _prefix(hi: int, lo: int, plen: int) -> str:
    return f"{address_text(int(np.uint64(hi)), int(np.uint64(lo)))}/{plen}"


def _labels(packed: int) -> tuple[int, ...]:
    return tuple(packed >> 20 * i & _LABEL for i in range(min(packed >> 60, 3)))


def _shown(a: Attributes) -> dict[str, object]:
    more = {
        "aigp": a.aigp,
        "aggregator": a.aggregator and "{}:{}".format(*a.aggregator),
        "atomic_aggregate": a.atomic_aggregate or None,
        "originator_id": a.originator_id,
        "cluster_list": " ".join(a.cluster_list) or None,
        "pmsi_tunnel": a.pmsi_tunnel and a.pmsi_tunnel.identifier.hex(),
        "unknown": " ".join(f"{kind}:{value}" for kind, value in a.unknown) or None,
    }
    return {
        "next_hop": a.next_hop_text,
        "origin": a.origin,
        "as_path": a.as_path_text or "",
        "med": a.med,
        "local_pref": a.local_pref,
        "communities": _words(a.communities_text),
        "extended": _words(a.extended_communities_text),
        "large": _words(a.large_communities_text),
        "more": tuple((name, str(value)) for name, value in more.items() if value is not None),
    }


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(sorted((text or "").split()))
