"""The nodes of the Ray cluster as they are now: one look at a time, taken by the supervisor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.plan import Plan
from flowray.fleet.placement import Node, Site, sites

INGEST_RESOURCE = "ingest"
HEAD_RESOURCE = "node:__internal_head__"
"""What Ray gives to the node of GCS, of which there is one; a new one, if another takes over."""

ON_HEAD: dict[str, Any] = {"resources": {HEAD_RESOURCE: 0.001}}
"""Places an actor on the head, wherever else there is room. A node affinity would not do: with a
soft one Ray starts a crashed actor again where it likes, a hard one ends with that head.
"""


@dataclass(frozen=True, slots=True)
class Survey:
    """Nodes that are alive, by id; those that collect, by name; what is missing, a line each; ids
    of nodes that are to be emptied.
    """

    nodes: Mapping[str, Node]
    sites: Mapping[str, Site]
    missing: tuple[str, ...] = ()
    leaving: frozenset[str] = frozenset()

    def named(self, name: str) -> Node | None:
        """The node of a name, if it is alive."""
        return next((node for node in self.nodes.values() if node.name == name), None)

    def reports(
        self, actors: Counter[str], wanted: Callable[[Site], int]
    ) -> dict[str, dict[str, Any]]:
        """For `flowray status`, by name. `actors`: their number by node id."""
        return {n.name: self._report(n, actors[n.id], wanted) for n in self.nodes.values()}

    def _report(self, node: Node, actors: int, wanted: Callable[[Site], int]) -> dict[str, Any]:
        site, leaves = self.sites.get(node.name), node.id in self.leaving
        stays = "collects" if site else "serves"
        return {
            "id": node.id,
            "state": ("draining" if actors else "drained") if leaves else stays,
            "address": node.address,
            "labels": dict(node.labels),
            "actors": actors,
            "listen": list(site.listen) if site else [],
            "wanted_shards": wanted(site) if site and not leaves else 0,
        }


class Nodes:
    """Keeps the names of nodes: each has its own, whatever becomes of the others."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def survey(self, plan: Plan, drained: set[str]) -> Survey:
        """Look at the cluster. `drained`: ids of nodes that the operator wants empty."""
        nodes = self._alive()
        cluster, listen = plan.settings.cluster, plan.settings.listen
        found, missing = sites(list(nodes.values()), cluster, listen.flows, plan.shards)
        leaving = (drained | _drained_by_ray()) & nodes.keys()
        return Survey(nodes, found, tuple(missing), frozenset(leaving))

    def _alive(self) -> dict[str, Node]:
        listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        alive = {str(node["NodeID"]): node for node in listed if node["Alive"]}
        for gone in self._names.keys() - alive.keys():
            del self._names[gone]
        for node_id in sorted(alive):
            if node_id not in self._names:
                name = str(alive[node_id]["NodeName"])
                taken = name in self._names.values()
                self._names[node_id] = f"{name}-{node_id[:6]}" if taken else name
        return {node_id: self._node(node_id, alive[node_id]) for node_id in sorted(alive)}

    def _node(self, node_id: str, told: dict[str, Any]) -> Node:
        resources = told["Resources"]
        return Node(
            node_id,
            self._names[node_id],
            told["NodeManagerHostname"],
            told["NodeManagerAddress"],
            int(resources.get("CPU", 0)),
            dict(told.get("Labels", {})),
            resources.get(INGEST_RESOURCE, 0) > 0,
            HEAD_RESOURCE in resources,
        )


def _drained_by_ray() -> set[str]:
    """Nodes of which Ray said that they will go (autoscaler, preemption). The call is not public:
    Ray Serve uses it for the same purpose.
    """
    client: Any = getattr(ray._private.worker.global_worker, "gcs_client")  # noqa: B009, SLF001
    return set(client.get_draining_nodes(timeout=2))


def on(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Place an actor on a node, nowhere else."""
    return NodeAffinitySchedulingStrategy(node_id, soft=False)
