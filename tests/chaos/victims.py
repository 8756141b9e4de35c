"""What is killed, and when it is whole again."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.ingest.live_rig import wait_for
from tests.ray.nodes_rig import Nodes
from tests.redis_rig import RedisServer
from tests.s3_rig import S3Server

BACK_SECONDS = 120.0
AWAY_SECONDS = 2.0
"""How long what does not come back by itself is away: a service manager starts it again."""

NODE = "n2"
"""The node that is lost and found again."""


@dataclass
class Scene:
    """All that runs, and chance."""

    nodes: Nodes
    redis: RedisServer
    s3: S3Server
    random: random.Random


Kill = Callable[[Scene], float]
"""Kills one, waits until all is well again; the seconds from one to the other."""


def _actor(kind: str) -> Kill:
    """An actor out of a part of the status; Ray starts it again."""

    def kill(scene: Scene) -> float:
        return _killed(scene, scene.random.choice(sorted(members(scene.nodes.status(), kind))))

    return kill


def _named(name: str) -> Kill:
    return lambda scene: _killed(scene, name)


def _killed(scene: Scene, name: str) -> float:
    pid = scene.nodes.call("pid", name)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: _other(scene.nodes, name, pid), f"new process of {name}", BACK_SECONDS)
    _whole(scene)
    return time.monotonic() - began


def _other(nodes: Nodes, name: str, pid: int) -> bool:
    try:
        return bool(nodes.call("pid", name) != pid)
    except RuntimeError:  # it is on its way
        return False


def members(status: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Name to report of one part of the status."""
    found = status[kind]
    return found if isinstance(found, dict) else {}


def whole(nodes: Nodes, shards: int) -> bool:
    """Whether all of it runs, on as many shards as there were."""
    try:
        status = nodes.status()
    except RuntimeError:
        return False
    kinds = ("shards", "aggregators", "ribs")
    states = [m["state"] for kind in kinds for m in members(status, kind).values()]
    return len(status["shards"]) == shards and set(states) == {"healthy"}


def _whole(scene: Scene) -> None:
    wait_for(lambda: whole(scene.nodes, SHARDS), "all healthy", BACK_SECONDS)


SHARDS = 2
"""One on each collecting node."""


def _node(scene: Scene) -> float:
    scene.nodes.call("kill_node", NODE)
    began = time.monotonic()
    time.sleep(AWAY_SECONDS)
    scene.nodes.call("add", NODE)
    _whole(scene)
    return time.monotonic() - began - AWAY_SECONDS


def _gcs(scene: Scene) -> float:
    scene.nodes.call("kill_gcs")
    time.sleep(AWAY_SECONDS)
    began = time.monotonic()
    scene.nodes.call("start_gcs")
    _whole(scene)
    return time.monotonic() - began


def _redis(scene: Scene) -> float:
    scene.redis.kill()
    time.sleep(AWAY_SECONDS)
    began = time.monotonic()
    scene.redis.start()
    with scene.redis.client() as client:
        wait_for(lambda: client.dbsize() > 0, "live views in Redis", BACK_SECONDS)
    return time.monotonic() - began


def _s3(scene: Scene) -> float:
    scene.s3.kill()
    time.sleep(AWAY_SECONDS)
    began = time.monotonic()
    scene.s3.start()
    _whole(scene)
    return time.monotonic() - began


VICTIMS: dict[str, Kill] = {
    "shard": _actor("shards"),
    "aggregator": _actor("aggregators"),
    "rib": _actor("ribs"),
    "templates": _named("templates"),
    "supervisor": _named("supervisor"),
    "gateway": _named("gateway"),
    "node": _node,
    "gcs": _gcs,
    "redis": _redis,
    "s3": _s3,
}
