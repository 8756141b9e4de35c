"""Names and options of all actors. Imports no Ray: that reads its settings from the environment
when it is imported, so the environment comes first (`cluster.runtime`).
"""

from __future__ import annotations

from typing import Any, Final

NAMESPACE: Final = "flowray"
TEMPLATES: Final = "templates"
SUPERVISOR: Final = "supervisor"
GATEWAY: Final = "gateway"

READY_SERVICE: Final = "flowray.ready"
"""Name in grpc.health.v1 of whether all of it works; the empty name says that the gateway lives."""

CONTROL: Final = {"control": 4}
"""Concurrency group of the methods that look at an actor or direct it: never behind data."""

ENVIRONMENT: Final = {
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_IO_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Of every worker: an actor works in its own threads, of which it has few."""


def as_actor(kind: type) -> Any:
    """The Ray actor of a class: takes no CPU resource, comes back after a crash."""
    import ray

    remote: Any = ray.remote
    return remote(
        num_cpus=0, max_restarts=-1, enable_task_events=False, concurrency_groups=CONTROL
    )(kind)


def named(name: str) -> dict[str, Any]:
    """Options of an actor that is found by name and outlives whoever made it."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
    }


def here() -> dict[str, str]:
    """The node that an actor runs on, for its status."""
    import ray

    return {"node_id": ray.get_runtime_context().get_node_id()}


def ingest_name(node: str, number: int) -> str:
    """Name of a shard."""
    return f"ingest/{node}/{number}"


def rib_name(group: str) -> str:
    """Name of a RIB group."""
    return f"rib/{group}"


def aggregate_name(view: str, partition: int) -> str:
    """Name of an aggregator."""
    return f"aggregate/{view}/{partition}"
