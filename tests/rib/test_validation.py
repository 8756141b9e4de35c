"""Validation states in snapshots stay right through changes of routes and of payloads."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowray.rib.lpm import MISSING, look_up
from flowray.rib.peers import Peer
from flowray.rib.rib import Rib
from flowray.rib.snapshot import MANY_PATHS, Instance, Publisher, Snapshot
from flowray.wire.packets import address_words
from tests.ingest.join_twin import SEQUENCE, Attrs, Network, Roa, Route, TwinPeer
from tests.ingest.test_join import ADDRESSES, NETWORKS, apply, roa_set

attrs = st.builds(
    Attrs, next_hop=st.just("192.0.2.1"), path=st.sampled_from((((SEQUENCE, (64500,)),), ()))
)
changes = st.lists(st.tuples(st.sampled_from(NETWORKS), st.integers(0, 1), attrs), max_size=6)
payloads = st.none() | st.lists(
    st.builds(Roa, network=st.sampled_from(NETWORKS), longest=st.just(128), asn=st.just(64500)).map(
        lambda r: Roa(r.network, r.network.max_prefixlen, r.asn)
    ),
    max_size=3,
)


def peer(told: list[tuple[Network, int, Attrs]], add_path: bool) -> TwinPeer:
    routes = {(0, n, i * add_path): Route(0, n, i * add_path, a) for n, i, a in told}
    return TwinPeer("192.0.2.1", Peer("bgp", "", 0, "", "", 0).view, add_path, routes)


def answers(s: Snapshot) -> list[Any]:
    """What is found for some addresses: of lists all that they hold."""
    words = np.array([address_words(a) for a in ADDRESSES], np.uint64).T
    table = np.full(len(ADDRESSES), s.instances.get(Instance(0, 0), 1 << 62))
    found, plen = look_up(s.forest, table, words[0], words[1])
    listed = []
    for payload, length in zip(found.tolist(), plen.tolist(), strict=True):
        if payload != MISSING and payload & MANY_PATHS:
            number = payload & ~MANY_PATHS
            paths = s.paths[s.path_begin[number] : s.path_begin[number + 1]]
            listed.append((paths.tolist(), length))
        else:
            listed.append(([payload], length))
    return listed


@given(st.lists(st.tuples(changes, payloads), min_size=1, max_size=4), st.booleans())
def test_kept_states_are_those_of_a_snapshot_made_anew(
    rounds: list[tuple[list[tuple[Network, int, Attrs]], list[Roa] | None]], add_path: bool
) -> None:
    rib = Rib()
    number = rib.open(Peer("bgp", "192.0.2.1", 179, "192.0.2.1", "192.0.2.1", 64496))
    publisher, before = Publisher(rib, "a"), None
    for told, roas in rounds:
        apply(rib, number, peer(told, add_path))
        if roas != before:
            before = roas
            publisher.validate_with(None if roas is None else roa_set(roas), 64999)
        fresh = Publisher(rib, "b")
        fresh.validate_with(None if roas is None else roa_set(roas), 64999)
        kept = publisher.publish(0)
        assert kept.validated == (roas is not None)
        assert answers(kept) == answers(fresh.publish(0))


def test_states_of_a_table_of_both_kinds() -> None:
    rib = Rib()
    number = rib.open(Peer("bgp", "192.0.2.1", 179, "192.0.2.1", "192.0.2.1", 64496))
    net = ip_network("198.51.100.0/24")
    good, bad = (Attrs("192.0.2.1", ((SEQUENCE, (asn,)),)) for asn in (64500, 64501))
    apply(rib, number, peer([(net, 0, bad), (net, 1, good)], add_path=True))
    publisher = Publisher(rib, "a")
    publisher.validate_with(roa_set([Roa(net, 24, 64500)]))
    assert (publisher.publish(0).paths >> 28).tolist() == [2, 1]
