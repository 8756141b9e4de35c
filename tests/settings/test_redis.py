"""Redis in the configuration: what is secret is told nowhere."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from cluster.check import describe
from flowray.errors import ConfigError
from flowray.settings.compile import compile_settings
from flowray.settings.load import parse_settings
from flowray.settings.model import Settings
from flowray.settings.redis import Redis

FORM = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// with TLS"


def parsed(redis: Any, **more: Any) -> Settings:
    content = {"views": [{"name": "a", "keys": ["proto"]}], "redis": redis, **more}
    return parse_settings(content, "f")


def redis_of(redis: Any) -> Redis:
    found = parsed(redis).redis
    assert found is not None
    return found


def test_a_url_says_it_all() -> None:
    redis = redis_of("rediss://me:p%40ss@[::1]:7000/3?ca=/etc/ca.pem")
    assert (redis.host, redis.port, redis.database) == ("::1", 7000, 3)
    assert (redis.user, redis.password, redis.tls) == ("me", "p@ss", True)
    assert redis.ca == Path("/etc/ca.pem")
    assert redis.place == "[::1]:7000/3"


def test_a_bare_url_and_a_mapping() -> None:
    bare = redis_of("redis://localhost")
    assert (bare.place, bare.user, bare.password) == ("localhost:6379/0", None, None)
    whole = redis_of({"url": "redis://h/1", "username": "u", "password_file": "/p"})
    assert (whole.place, whole.user, whole.password) == ("h:6379/1", "u", None)
    assert whole.password_file == Path("/p")


def test_secrets_are_shown_nowhere() -> None:
    settings = parsed("redis://:geheim@127.0.0.1:6379/0")
    program = compile_settings(settings, "f")
    said = f"{settings!r} {settings} {settings.model_dump()} {' '.join(describe(program))}"
    assert "geheim" not in said + settings.model_dump_json()
    assert "live views: Redis at 127.0.0.1:6379/0, no TLS; every 1s" in describe(program)
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert again.redis.password == "geheim"


@pytest.mark.parametrize(
    ("redis", "line"),
    [
        ("http://:geheim@h", f"f: redis.url: found another form of URL, allowed {FORM}"),
        ("redis://:geheim@h:port", f"f: redis.url: found another form of URL, allowed {FORM}"),
        ("redis://:geheim@h/zero", f"f: redis.url: found another form of URL, allowed {FORM}"),
        ("redis://:geheim@h?x=1", "f: redis.url: found the parameter x, allowed ca, cert, key"),
        ({"url": ["redis://:geheim@h"]}, f"f: redis.url: found no text, allowed {FORM}"),
        (
            {"url": "redis://:geheim@h", "password_file": "/p"},
            "f: redis.password_file: found a password in the URL too, allowed one of the two",
        ),
        (
            {"url": "redis://u:geheim@h", "username": "v"},
            "f: redis.username: found a user in the URL too, allowed one of the two",
        ),
        (
            "redis://:geheim@h?ca=/c",
            "f: redis.ca: found /c, allowed it with rediss:// alone",
        ),
        (
            {"url": "rediss://:geheim@h?ca=/c", "ca": "/d"},
            "f: redis.ca: found it in the URL too, allowed it at one place",
        ),
        (
            "rediss://:geheim@h?cert=/c",
            "f: redis.key: found nothing, allowed both of cert and key, or none",
        ),
        ({"ca": "/c"}, "f: redis.url: found nothing, allowed this option is required"),
        (
            {"url": "redis://h", "pass": "geheim"},
            "f: redis.pass: found an option that does not exist, allowed url, username,"
            " password_file, ca, cert, key",
        ),
        (5, "f: redis: found 5, allowed a mapping of options"),
    ],
)
def test_mistakes(redis: Any, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(redis)
    assert str(error.value) == line
    assert "geheim" not in line


@pytest.mark.parametrize(
    ("live", "line"),
    [
        ({"top": 0}, "f: live.top: found 0, allowed greater than or equal to 1"),
        (
            {"interval": "10s", "expire": "20s"},
            "f: live.expire: found '20s', allowed at least three times live.interval",
        ),
    ],
)
def test_mistakes_of_live(live: Any, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        parsed("redis://h", live=live)
    assert str(error.value).startswith(line)
