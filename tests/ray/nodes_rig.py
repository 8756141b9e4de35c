"""A Ray cluster of several simulated nodes with a flowray on it, in a process of its own: a process
can be connected to one cluster only, and that of the tests has the session's.

The process takes a JSON line (method and arguments) for each call and answers with one.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.ingest.live_rig import wait_for

COLLECTORS = {"n1": "127.0.0.2", "n2": "127.0.0.3"}
"""Nodes beside the head, and the address that each collects on (its label flow.ip)."""


class Nodes:
    """The tests' side."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, method: str, *arguments: Any) -> Any:
        """Have the process do something; raises RuntimeError with what went wrong there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the cluster's process has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.call("status")
        return status

    def pid(self, name: str) -> int | None:
        """Process of an actor, None while it has none."""
        with suppress(RuntimeError):
            return int(self.call("pid", name))
        return None

    def healthy(self, kind: str = "shards") -> dict[str, dict[str, Any]]:
        """Members that are healthy, by name."""
        found = self.status()[kind]
        return {name: m for name, m in found.items() if m["state"] == "healthy"}

    def on(self, node: str) -> list[str]:
        """Names of healthy shards of a node."""
        return [name for name in self.healthy() if name.split("/")[1] == node]

    def wait_healthy(self, shards: int) -> None:
        wait_for(lambda: len(self.healthy()) == shards, f"{shards} shards", 90)


@contextmanager
def nodes(*names: str, redis: str = "") -> Iterator[Nodes]:
    """A head and these collectors; with `redis` (HOST:PORT), GCS keeps its tables there."""
    with tempfile.TemporaryDirectory(prefix="ry", dir="/tmp", ignore_cleanup_errors=True) as short:
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_TMPDIR": short,
        }
        (Path(short) / "ray").mkdir()
        if redis:
            environment |= {"RAY_REDIS_ADDRESS": redis, "RAY_external_storage_namespace": short}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray.nodes_rig", *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).resolve().parents[2],
        )
        try:
            one = Nodes(process)
            one.call("nodes")
            yield one
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


class Server:
    """The process: methods are what `Nodes.call` may ask for."""

    def __init__(self, names: list[str], stack: ExitStack) -> None:
        import ray
        from ray.cluster_utils import Cluster

        from cluster.runtime import HEALTH

        self._stack = stack
        self._cluster = Cluster(shutdown_at_exit=False)
        stack.callback(self._cluster.shutdown)
        self._nodes: dict[str, Any] = {}
        self._add("head", {}, _system_config=HEALTH, dashboard_port=free_port())
        for name in names:
            self.add(name)
        ray.init(
            address=self._cluster.address,
            namespace="flowray",
            log_to_driver=False,
            logging_level="ERROR",
        )
        stack.callback(ray.shutdown)
        self._live: Any = None

    def _add(self, name: str, labels: dict[str, str], **options: Any) -> None:
        self._nodes[name] = self._cluster.add_node(
            node_name=name,
            num_cpus=2,
            object_store_memory=128 << 20,
            include_dashboard=False,
            labels=labels,
            **options,
        )

    def add(self, name: str) -> None:
        """Start a node."""
        self._add(name, {"role": "collector", "flow.ip": COLLECTORS[name]})

    def kill_node(self, name: str) -> None:
        """End a node as a power cut does."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def kill_gcs(self) -> None:
        """End GCS, the head's directory of everything."""
        self._cluster.head_node.kill_gcs_server()

    def start_gcs(self) -> None:
        """Start GCS again."""
        self._cluster.head_node.start_gcs_server()

    def nodes(self) -> list[str]:
        return list(self._nodes)

    def address(self) -> str:
        return str(self._cluster.address)

    def up(self, content: dict[str, Any]) -> dict[str, Any]:
        """Start flowray with a configuration; its status when it is ready."""
        from cluster.live import running
        from cluster.topology import plan_of, with_ports
        from flowray.settings.compile import compile_settings
        from flowray.settings.load import parse_settings

        settings = with_ports(parse_settings(content, "test"))
        plan = plan_of(compile_settings(settings, "test"), "test")
        self._up = self._stack.enter_context(ExitStack())
        self._live = self._up.enter_context(running(plan))
        status: dict[str, Any] = self._live.wait_ready()
        return status

    def down(self) -> dict[str, Any]:
        """Drain all and end it; the summary."""
        summary: dict[str, Any] = self._live.drain()
        self._up.close()
        return summary

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._live.status()
        return status

    def supervisor(self, method: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self._live.supervisor, method).remote(*arguments), timeout=60)

    def pid(self, name: str) -> int:
        """Process of an actor."""
        import ray

        def pid(_: Any) -> int:
            return os.getpid()

        actor = ray.get_actor(name, "flowray")
        return int(ray.get(actor.__ray_call__.remote(pid), timeout=30))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Ctrl-C is for the tests; they end us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ExitStack() as stack:
        server = Server(sys.argv[1:], stack)
        for line in sys.stdin:
            method, *arguments = json.loads(line)
            try:
                answer = {"result": getattr(server, method)(*arguments)}
            except Exception as error:  # noqa: BLE001 - it is the caller's
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
