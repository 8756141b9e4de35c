"""The Redis servers of tests: AUTH, TLS, and a life after kill -9."""

from collections.abc import Callable

import pytest
import redis

from tests.redis_rig import RedisServer

pytestmark = pytest.mark.peers


def test_auth_and_tls(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server(password="secret", tls=True)
    with server.client() as client:
        assert client.ping()
    with pytest.raises(redis.ConnectionError), redis.Redis(port=server.port) as plain:
        plain.ping()


def test_what_was_written_is_there_after_kill(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server(persist=True)
    with server.client() as client:
        client.set("a", "1")
    server.kill()
    server.start()
    with server.client() as client:
        assert client.get("a") == "1"
