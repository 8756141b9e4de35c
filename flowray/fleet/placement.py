"""Which nodes collect, what they listen on and with how many shards; where everything else goes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flowray.settings.cluster import PLACEHOLDER, Cluster, NodeRule, ShardBounds, Shards

NODE_IP = "node_ip"


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster that is alive. `name` is unique and stays the node's own; `cores` is
    what Ray counts on; `collects`: it has the resource `ingest`; `head`: GCS runs there.
    """

    id: str
    name: str
    host: str
    address: str
    cores: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    collects: bool = False
    head: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """A node that collects: where, with how many shards at least and at most, and the labels for
    which it was chosen.
    """

    node: Node
    listen: tuple[str, ...]
    least: int
    most: int
    labels: Mapping[str, str] = field(default_factory=dict)


def fits(node: Node, labels: Mapping[str, str], host: str | None = None) -> bool:
    """Whether a node has all of these labels and the host name, if one is asked for."""
    if host is not None and host not in (node.host, node.name):
        return False
    return all(node.labels.get(name) == value for name, value in labels.items())


def told(labels: Mapping[str, str], host: str | None = None) -> str:
    """What a node must be, in words."""
    words = [f"{name}={value}" for name, value in labels.items()]
    words += [f"host name {host}"] if host else []
    return f"a node with {', '.join(words)}" if words else "a node"


def sites(
    nodes: Sequence[Node], cluster: Cluster, flows: Sequence[str], usual: int
) -> tuple[dict[str, Site], list[str]]:
    """The nodes that collect, by name, and what is missing, a line each.

    A node does what the first rule says that it fits. Without rules those with the resource
    `ingest` collect, the head if none has it. `flows`: addresses of rules that name none; `usual`:
    shards for `auto` on a node whose cores nobody counts.
    """
    if not cluster.nodes:
        chosen = [n for n in nodes if n.collects] or [n for n in nodes if n.head]
        rule = NodeRule()
        return {n.name: _site(n, rule, cluster.shards, flows, usual) for n in chosen}, []
    found: dict[str, Site] = {}
    missing: list[str] = []
    used: set[int] = set()
    for node in nodes:
        fitting = [i for i, r in enumerate(cluster.nodes) if fits(node, r.labels, r.host)]
        if not fitting:
            continue
        used.update(fitting)
        rule = cluster.nodes[fitting[0]]
        unknown = _unknown_labels(node, rule)
        if unknown:
            names = ", ".join(unknown)
            missing.append(f"{node.name} cannot listen: it has no label {names}")
            continue
        found[node.name] = _site(node, rule, cluster.shards, flows, usual)
    missing += [
        f"waiting for {told(rule.labels, rule.host)}"
        for i, rule in enumerate(cluster.nodes)
        if i not in used
    ]
    return found, missing


def _unknown_labels(node: Node, rule: NodeRule) -> list[str]:
    names = [name for url in rule.listen for name in PLACEHOLDER.findall(url)]
    return [name for name in dict.fromkeys(names) if name != NODE_IP and name not in node.labels]


def _site(node: Node, rule: NodeRule, shards: Shards, flows: Sequence[str], usual: int) -> Site:
    least, most = _bounds(shards if rule.shards is None else rule.shards, node, usual)
    listen = tuple(filled(url, node) for url in rule.listen or flows)
    return Site(node, listen, least, most, rule.labels)


def _bounds(shards: Shards, node: Node, usual: int) -> tuple[int, int]:
    automatic = max(node.cores - 1, 1) if node.cores else usual
    if isinstance(shards, ShardBounds):
        most = automatic if shards.max == "auto" else shards.max
        return shards.min, max(most, shards.min)
    number = automatic if shards == "auto" else shards
    return number, number


def filled(url: str, node: Node) -> str:
    """An address with what it leaves to the node filled in."""

    def value(match: re.Match[str]) -> str:
        text = node.address if match[1] == NODE_IP else node.labels[match[1]]
        return f"[{text}]" if ":" in text and not text.startswith("[") else text

    return PLACEHOLDER.sub(value, url)


def room(
    cluster: Cluster, nodes: Iterable[Node], found: Mapping[str, Site], full: Sequence[bool]
) -> list[dict[str, str]]:
    """Labels of nodes to ask an autoscaler for, those that are there included; empty if nothing is
    missing. One for each rule with labels that no node fits, and one like the first if all are
    full.
    """
    there = list(nodes)
    missing = [
        rule.labels
        for rule in cluster.nodes
        if rule.labels and not any(fits(node, rule.labels, rule.host) for node in there)
    ]
    more = [dict(site.labels) for site in list(found.values())[:1]] if full and all(full) else []
    if not missing and not more:
        return []
    return [*(dict(site.labels) for site in found.values()), *missing, *more]


def choose(
    nodes: Sequence[Node],
    labels: Mapping[str, str],
    load: Mapping[str, int],
    avoid: Collection[str] = (),
) -> Node | None:
    """The node for one more actor: that with the fewest (`load` by node id) of those with these
    labels; none of `avoid` (node ids) unless labels leave no other choice. None: no node has them.
    """
    fitting = [node for node in nodes if fits(node, labels)]
    free = [node for node in fitting if node.id not in avoid]
    return min(free, key=lambda node: (load.get(node.id, 0), node.name), default=None)
