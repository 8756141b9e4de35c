"""A flowray on a head and two collecting nodes, with real Redis servers and a real S3 server."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from flowray.filesystems import filesystem_of
from tests.chaos.victims import SHARDS, Scene, whole
from tests.ingest.live_rig import wait_for
from tests.ray.nodes_rig import COLLECTORS, Nodes, free_port, nodes
from tests.redis_rig import RedisServer
from tests.s3_rig import S3Server

TARGETS = tuple(COLLECTORS.values())
READY_SECONDS = 120.0


def program(name: str) -> Path:
    """Where a program is. Raises FileNotFoundError."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/bin:/usr/local/bin")
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: scripts/services install")
    return Path(found)


class Stage:
    """All of it; ended with the block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.port = free_port()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            tools = program("redis-server"), program("openssl")
            self._views = self._redis(stack, "views", *tools, persist=False)
            gcs = self._redis(stack, "gcs", *tools, persist=True)
            self._s3 = self._store(stack)
            self._nodes: Nodes = stack.enter_context(
                nodes(*COLLECTORS, redis=f"127.0.0.1:{gcs.port}")
            )
            self._nodes.call("up", self._content())
            wait_for(lambda: whole(self._nodes, SHARDS), "all healthy", READY_SECONDS)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _redis(
        self, stack: ExitStack, name: str, server: Path, openssl: Path, *, persist: bool
    ) -> RedisServer:
        directory = self._directory / name
        directory.mkdir()
        one = RedisServer(server, openssl, directory, persist=persist)
        one.start()
        stack.callback(one.kill)
        return one

    def _store(self, stack: ExitStack) -> S3Server:
        server = S3Server(self._directory / "s3")
        if not server.durable:
            raise FileNotFoundError("versitygw is not built: scripts/services install, with Go")
        os.environ.update(server.environment)  # for all processes from here on
        server.start()
        stack.callback(server.kill)
        return server

    def _content(self) -> dict[str, Any]:
        return {
            "listen": {
                "flows": [f"udp://127.0.0.1:{self.port}"],
                "bgp": {"address": f"127.0.0.1:{free_port()}"},
            },
            "views": [
                {"name": "every", "keys": ["peer_src_ip", "src_host"], "sinks": ["lake"]},
                {
                    "name": "windows",
                    "keys": ["peer_src_ip", "proto"],
                    "window": "5s",
                    "sinks": ["lake", "files"],
                },
            ],
            "sinks": {
                "lake": {"type": "parquet", "path": self._s3.uri("lake")},
                "files": {"type": "jsonl", "path": str(self._directory / "files")},
            },
            "redis": self._views.url,
            "state": {"path": self._s3.uri("state"), "checkpoint": "1s"},
            "gateway": {"http": f"127.0.0.1:{free_port()}"},
            "cluster": {
                "nodes": [
                    {
                        "labels": {"role": "collector"},
                        "listen": [f"udp://{{flow.ip}}:{self.port}"],
                        "shards": 1,
                    }
                ],
            },
        }

    def scene(self, seed: int) -> Scene:
        """What is killed."""
        return Scene(self._nodes, self._views, self._s3, random.Random(seed))

    def finish(self) -> dict[str, Any]:
        """Drain and end it; the summary."""
        summary: dict[str, Any] = self._nodes.call("down")
        return summary

    def rows(self, view: str = "every") -> pa.Table:
        """What the lake has of a view."""
        filesystem, path = filesystem_of(self._s3.uri(f"lake/{view}"))
        return ds.dataset(path, filesystem=filesystem, format="parquet").to_table()

    def window_problems(self, committed: int) -> list[str]:
        """The view with windows must have as many flows as the other one has rows."""
        flows = pc.sum(self.rows("windows")["flows"]).as_py()
        return [] if flows == committed else [f"{flows} flows in windows, {committed} rows"]
