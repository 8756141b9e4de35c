"""GCS, Ray's directory of everything, dies and comes back with its tables from Redis."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ingest.live_rig import generated, send, wait_for
from tests.ray.nodes_rig import nodes
from tests.ray.test_nodes import check, content, pids, port_of, rows
from tests.redis_rig import RedisServer

pytestmark = pytest.mark.ray


def test_flowray_goes_on_while_gcs_is_away(
    redis_server: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = redis_server()
    with nodes(redis=f"127.0.0.1:{server.port}") as cluster:
        settings = content(tmp_path, nodes=[], node_grace="10s")
        settings["listen"] = {"flows": ["udp://127.0.0.1:0"]}
        port = port_of(cluster.call("up", settings), "head")
        wait_for(lambda: len(cluster.healthy("aggregators")) == 2, "aggregators", 90)
        before = pids(cluster.status())
        sent = 0

        def received() -> bool:
            return sum(s["datagrams"] for s in cluster.status()["shards"].values()) == sent

        specs, batches, truth = generated(2)
        third = len(batches) // 3
        sent += send(port, specs, batches[:third])
        wait_for(received, "datagrams", 60)
        cluster.call("kill_gcs")
        stored = len(rows(tmp_path, "raw"))
        sent += send(port, specs, batches[third : 2 * third])

        wait_for(lambda: len(rows(tmp_path, "raw")) > stored, "rows without GCS")
        cluster.call("start_gcs")
        sent += send(port, specs, batches[2 * third :])
        wait_for(received, "datagrams", 60)
        assert pids(cluster.status()) == before
        check(cluster.call("down"), sent, truth)
    assert len(rows(tmp_path, "raw")) == len(truth)
