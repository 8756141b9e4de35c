"""The verbs as an operator runs them, each in a process of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ingest.live_rig import generated, send, wait_for
from tests.redis_rig import RedisServer

pytestmark = pytest.mark.ray

COMMAND = [sys.executable, "-m", "cluster.cli"]


def flowray(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done


def test_up_and_down_and_everything_between(
    tmp_path: Path, redis_server: Callable[..., RedisServer]
) -> None:
    redis = redis_server(password="geheim")
    config = tmp_path / "flowray.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "listen": {"flows": ["udp://127.0.0.1:0"]},
                "views": [{"name": "hosts", "keys": ["src_host"], "window": "1h"}],
                "redis": redis.url,
                "state": {"path": str(tmp_path / "state"), "ring": str(tmp_path / "ring")},
                "cluster": {"shards": 1, "dashboard": False},
            }
        )
    )
    option = ("-c", str(config))
    log = tmp_path / "log"
    with log.open("w") as errors:
        up = subprocess.Popen(
            [*COMMAND, "up", *option], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        ready = wait_for(lambda: up.poll() is not None or "ready" in log.read_text(), "start", 180)
        assert ready is True, log.read_text()
        assert up.poll() is None, log.read_text()
        assert "already" in flowray("up", *option, code=2).stderr
        port = int(re.search(r"127\.0\.0\.1:(\d+)", log.read_text())[1])
        specs, batches, truth = generated(1)
        sent = send(port, specs, batches)

        def arrived() -> bool:
            status = json.loads(flowray("status", "--json", *option).stdout)
            return sum(s["datagrams"] for s in status["shards"].values()) == sent

        wait_for(arrived, "arrival", 120)
        top = wait_for(
            lambda: json.loads(flowray("top", "hosts", "-n", "3", "--json", *option).stdout), "rows"
        )
        assert len(top) == 3
        assert top[0]["bytes"] >= top[1]["bytes"] >= top[2]["bytes"] > 0
        compare_live_views(redis, option, len(truth))
        assert "no view" in flowray("top", "nothing", *option, code=2).stderr
        entries = json.loads(flowray("templates", "--json", *option).stdout)
        assert {e["exporter"] for e in entries if "template" in e} <= {s.address for s in specs}
        assert any("template" in e for e in entries)
        ledger = json.loads(flowray("ledger", "--json", *option).stdout)
        assert sum(row["datagrams"] for row in ledger["exporters"].values()) == sent
        flowray("down", *option)
        output, _ = up.communicate(timeout=60)
    finally:
        if up.poll() is None:
            up.kill()
            up.wait()
        up.stdout.close()
    assert up.returncode == 0
    assert "geheim" not in log.read_text() + output
    summary = json.loads(output.splitlines()[-1])
    assert summary["balanced"]
    assert summary["records"] == len(truth)
    assert summary["committed"]["hosts"]["flows"] == len(truth)
    assert "nothing runs" in flowray("status", *option, code=2).stderr


def compare_live_views(redis: RedisServer, option: tuple[str, str], records: int) -> None:
    """What Redis shows is what aggregators tell, and those are asked when Redis is gone."""

    def aggregator() -> dict[str, Any]:
        status = json.loads(flowray("status", "--json", *option).stdout)
        return dict(status["aggregators"]["aggregate/hosts/0"])

    with redis.client() as client:

        def counted() -> int:
            window = client.hget("flowray:hosts:0", "newest")
            return int(client.hget(window, "flows") or 0)

        wait_for(lambda: counted() == records, "live view", 60)
        assert client.zrange("flowray:views", 0, -1) == ["hosts"]
    top = ("top", "hosts", "-n", "5", "--by", "packets", "--json", *option)
    first = flowray(*top).stdout
    assert aggregator()["live"] == "written"
    redis.kill()
    assert flowray(*top).stdout == first
    assert len(json.loads(first)) == 5
    down = wait_for(lambda: (a := aggregator())["live_down"] and a, "outage", 90)
    assert down["live_error"].startswith(f"Redis at 127.0.0.1:{redis.port}/0: ")
    assert down["state"] == "healthy"
    redis.start()
    wait_for(lambda: not aggregator()["live_down"], "recovery", 90)


def test_the_demo_ends_by_itself_and_balances() -> None:
    environment = {**os.environ, "TERM": "dumb"}
    done = subprocess.run(
        [*COMMAND, "demo", "--for", "6s", "--rate", "2000"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["balanced"]
    assert summary["sent"]["records"] == summary["records"] > 1000
    assert "talkers" in done.stderr
