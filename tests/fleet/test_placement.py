"""Which nodes collect, where and with how many shards; where other actors go."""

from dataclasses import replace

import pytest

from flowray.fleet.placement import Node, choose, filled, sites
from flowray.settings.cluster import Cluster

HEAD = Node("0", "head", "h", "192.0.2.1", cores=4, head=True)
EDGE = Node("1", "edge", "e", "192.0.2.2", cores=8, labels={"role": "collector", "flow.ip": "::2"})
CORE = Node("2", "core", "c", "2001:db8::3", cores=1, labels={"role": "collector"})
NODES = [HEAD, EDGE, CORE]
FLOWS = ["udp://[::]:2055"]


def found(rules: list[dict[str, object]], **cluster: object) -> dict[str, tuple[object, ...]]:
    settings = Cluster.model_validate({"nodes": rules, **cluster})
    places, _ = sites(NODES, settings, FLOWS, usual=2)
    return {name: (site.listen, site.least, site.most) for name, site in places.items()}


def test_without_rules_the_head_collects_unless_others_have_the_resource() -> None:
    assert found([]) == {"head": (("udp://[::]:2055",), 3, 3)}
    willing = [HEAD, replace(EDGE, collects=True)]
    places, missing = sites(willing, Cluster(), FLOWS, usual=2)
    assert (list(places), missing) == (["edge"], [])


def test_a_node_does_what_the_first_rule_says_that_it_fits() -> None:
    rules: list[dict[str, object]] = [
        {"host": "c", "listen": ["udp://{node_ip}:9995"], "shards": 3},
        {"labels": {"role": "collector"}, "shards": {"min": 2, "max": 5}},
        {},
    ]
    assert found(rules, shards=1) == {
        "head": (("udp://[::]:2055",), 1, 1),
        "edge": (("udp://[::]:2055",), 2, 5),
        "core": (("udp://[2001:db8::3]:9995",), 3, 3),
    }


def test_automatic_numbers_follow_the_cores() -> None:
    assert found([{"shards": "auto"}]) == {
        "head": (("udp://[::]:2055",), 3, 3),
        "edge": (("udp://[::]:2055",), 7, 7),
        "core": (("udp://[::]:2055",), 1, 1),
    }
    places, _ = sites([replace(HEAD, cores=0)], Cluster(), FLOWS, usual=2)
    assert places["head"].most == 2
    assert found([{"labels": {"role": "collector"}, "shards": {"min": 2}}])["core"][1:] == (2, 2)


def test_what_is_missing_is_told() -> None:
    settings = Cluster.model_validate(
        {
            "nodes": [
                {"labels": {"flow.ip": "::2"}, "listen": ["udp://{rack}:2055"]},
                {"labels": {"role": "relay", "rack": "7"}, "host": "x"},
            ]
        }
    )
    places, missing = sites(NODES, settings, FLOWS, usual=1)
    assert not places
    assert missing == [
        "edge cannot listen: it has no label rack",
        "waiting for a node with role=relay, rack=7, host name x",
    ]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("udp://{node_ip}:2055", "udp://192.0.2.2:2055"),
        ("udp://{flow.ip}:2055", "udp://[::2]:2055"),
        ("udp://127.0.0.1:2055", "udp://127.0.0.1:2055"),
    ],
)
def test_addresses_are_filled_in(url: str, address: str) -> None:
    assert filled(url, EDGE) == address


def test_an_actor_goes_where_fewest_are_and_labels_fit() -> None:
    load = {"0": 1, "1": 2, "2": 2}
    assert choose(NODES, {}, load) == HEAD
    assert choose(NODES, {"role": "collector"}, load) == CORE
    assert choose(NODES, {}, load, avoid={"0", "2"}) == EDGE
    assert choose(NODES, {"role": "collector"}, load, avoid={"1", "2"}) is None
