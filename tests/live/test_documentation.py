"""What docs/redis.md tells other programs to do works as it stands there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.rig import Live
from tests.redis_rig import RedisServer

pytestmark = pytest.mark.peers

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "redis.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The only block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.parametrize("partitions", [1, 3])
def test_readers(
    redis_server: Callable[..., RedisServer], peer: Callable[[str], Path], partitions: int
) -> None:
    peer("redis-cli")
    server = redis_server(password="secret")
    live = Live(server.url, partitions)
    live.offer()
    live.write()
    expected = live.newest("talkers", 3, "bytes")
    assert expected.source == "redis"
    told = {**os.environ, "FLOWRAY_REDIS": server.url.replace(":secret", "default:secret")}

    def run(*command: str) -> str:
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60, env=told
        ).stdout

    rows = [json.loads(line) for line in run(sys.executable, "-c", block("python")).splitlines()]
    assert rows == expected.rows
    if partitions == 1:
        lines = run("sh", "-euc", block("sh")).splitlines()
        assert [json.loads(line) for line in lines[-3:]] == expected.rows
        assert {"start", "end", "revision", "rows", "bytes"} <= set(lines)
