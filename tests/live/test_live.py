"""Open windows in a real Redis: what is there, for how long, and what happens while it is not."""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flowray.live import connect as connecting
from flowray.live import newest as reading
from flowray.live.layout import Layout
from flowray.live.rows import RowForm
from flowray.sinks.jsonl import to_jsonl
from flowray.sinks.render import render
from tests.ingest.live_rig import wait_for
from tests.live.rig import Live
from tests.redis_rig import RedisServer

pytestmark = pytest.mark.peers

Start = Callable[..., RedisServer]
COUNTERS = ("packets", "bytes", "flows")
HEAD = Layout("flowray", "talkers", 0).head


@pytest.fixture
def server(redis_server: Start) -> RedisServer:
    return redis_server()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as one:
        yield one


def totals(client: redis.Redis, partition: int = 0) -> list[dict[str, int]]:
    key = Layout("flowray", "talkers", partition).totals
    return [json.loads(text) for text in client.zrange(key, 0, -1)]


def test_rows_are_those_of_the_sinks(server: RedisServer, client: redis.Redis) -> None:
    live = Live(server.url, top=20)
    live.offer(seed=1)
    live.offer(seed=2)
    live.write()
    window = client.hget(HEAD, "newest")
    rows = client.hgetall(f"{window}:rows")
    told = {name: int(value) for name, value in client.hgetall(window).items()}
    live.aggregations[0].finish()
    ((_, table),) = live.sinks[0].tables.items()
    form = RowForm.of(live.program, "talkers")
    start = int(table["_window"][0].as_py())
    rendered = render(table, form.fields, form.encoding, (start, start + 3600 * 10**9))
    lines = to_jsonl(rendered).to_pybytes().decode().splitlines()
    assert set(rows.values()) <= set(lines)
    assert told["start"] == start // 10**6
    assert told["end"] == told["start"] + 3_600_000
    assert told["rows"] == len(lines) > 20
    by_size = {
        name: sorted((json.loads(x)[name] for x in lines), reverse=True) for name in COUNTERS
    }
    leading = set()
    for name in COUNTERS:
        found = client.zrevrange(f"{window}:{name}", 0, -1, withscores=True)
        assert [score for _, score in found] == by_size[name][:20]
        assert [json.loads(rows[i])[name] for i, _ in found] == by_size[name][:20]
        assert told[name] == sum(by_size[name])
        leading |= {i for i, _ in found}
    assert leading == set(rows)
    assert live.publishers[0].status()["live"] == "written"


@pytest.mark.parametrize("partitions", [1, 3])
def test_redis_and_aggregators_give_the_same(server: RedisServer, partitions: int) -> None:
    live = Live(server.url, partitions)
    live.offer()
    live.write()
    for by in COUNTERS:  # nearly all rows have few flows: those are equal
        for n in (1, 7, 100):
            asked = live.asked
            first = live.newest("talkers", n, by)
            assert live.asked == asked
            again = reading.NewestRows(live.program, live.ask)
            again._client = None
            second = again("talkers", n, by)
            assert (first.source, second.source) == ("redis", "aggregators")
            assert (first.start, first.rows) == (second.start, second.rows)
            assert len(first.rows) == n
    assert live.newest("talkers", 101, "bytes").source == "aggregators"


def test_no_open_window(server: RedisServer) -> None:
    live = Live(server.url)
    assert live.newest("talkers", 1, "bytes") is None
    assert live.asked == 1  # nothing was written yet
    live.write()
    assert live.newest("talkers", 1, "bytes") is None
    assert live.asked == 1


def test_a_partition_that_is_missing_or_old_is_asked_for(
    server: RedisServer, client: redis.Redis
) -> None:
    live = Live(server.url, 2)
    live.offer()
    live.write()
    other = Layout("flowray", "talkers", 1).head
    assert live.newest("talkers", 1, "bytes").source == "redis"
    client.pexpire(other, (3600 - 181) * 1000)  # as if written so long ago
    assert live.newest("talkers", 1, "bytes").source == "aggregators"
    live.write()
    assert live.newest("talkers", 1, "bytes").source == "redis"
    client.delete(other)
    assert live.newest("talkers", 1, "bytes").source == "aggregators"


def test_a_view_that_cannot_be_looked_at(server: RedisServer) -> None:
    live = Live(server.url)
    for view, by, what in (
        ("nothing", "bytes", "there are: talkers, raw"),
        ("raw", "bytes", "has no window"),
        ("talkers", "tcpflags", "it counts: packets, bytes, flows"),
    ):
        with pytest.raises(reading.ViewError, match=what):
            live.newest(view, 1, by)


def test_memory_is_bounded(server: RedisServer, client: redis.Redis) -> None:
    live = Live(server.url, top=50)
    sizes = []
    for turn in range(4):
        live.offer(records=6000, distinct=6000, seed=turn)
        live.write()
        sizes.append(client.dbsize())
    window = client.hget(HEAD, "newest")
    assert int(client.hget(window, "rows")) > 5000
    assert 50 <= client.hlen(f"{window}:rows") <= 3 * 50
    assert all(client.zcard(f"{window}:{name}") == 50 for name in COUNTERS)
    # Head, views and totals; a window, its rows and three orders, in two generations.
    assert sizes == [3 + 5, 3 + 10, 3 + 10, 3 + 10]
    assert all(0 < client.pttl(key) <= 3_600_000 for key in client.scan_iter())


def test_everything_expires(server: RedisServer, client: redis.Redis) -> None:
    live = Live(server.url, interval="100ms", expire="1s")
    live.offer()
    live.write()
    assert client.dbsize() > 0
    wait_for(lambda: client.dbsize() == 0, "expiry")


def test_totals_of_closed_windows_stay(server: RedisServer, client: redis.Redis) -> None:
    live = Live(server.url, totals=2)
    live.offer()
    live.write()
    (first,) = totals(client)
    live.offer(seed=2)
    live.aggregations[0].finish()
    live.write()
    committed = live.aggregations[0].status()["committed"]
    (last,) = totals(client)
    assert {name: last[name] for name in COUNTERS} == committed
    assert first["flows"] < last["flows"]
    assert client.hget(HEAD, "windows") == ""
    live.offer(seed=3)  # late: the next revision
    live.offer(seed=4)
    live.aggregations[0].finish()
    live.write()
    assert [one["revision"] for one in totals(client)] == [0, 1]
    assert (
        sum(one["bytes"] for one in totals(client))
        == live.aggregations[0].status()["committed"]["bytes"]
    )
    live.offer(seed=5)
    live.aggregations[0].finish()
    live.write()
    assert [one["revision"] for one in totals(client)] == [1, 2]


def test_a_change_is_told(server: RedisServer, client: redis.Redis) -> None:
    live = Live(server.url)
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.psubscribe("flowray:*:changes")
        listener.get_message(timeout=5)
        live.offer()
        live.write()
        message = wait_for(lambda: listener.get_message(timeout=1), "message")
    told = json.loads(message["data"])
    assert message["channel"] == "flowray:talkers:changes"
    assert told["windows"] == [client.hget(HEAD, "newest")]
    assert told["generation"] == int(client.hget(HEAD, "generation"))
    assert (told["view"], told["partition"]) == ("talkers", 0)
    assert client.zrange("flowray:views", 0, -1) == ["talkers"]


def test_nobody_sees_half_a_generation(server: RedisServer) -> None:
    live = Live(server.url)
    live.offer()
    live.write()
    stop = threading.Event()
    seen: list[str] = []
    wrong: list[Any] = []

    def read() -> None:
        with server.client() as own:
            while not stop.is_set():
                window = own.hget(HEAD, "newest")
                order = own.zrevrange(f"{window}:flows", 0, -1, withscores=True)
                rows = own.hmget(f"{window}:rows", [i for i, _ in order] or ["none"])
                seen.append(window)
                counts = [None if row is None else json.loads(row)["flows"] for row in rows]
                if counts != [score for _, score in order] or len(order) != 100:
                    wrong.append((window, order, counts))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(12):
        live.offer(records=200, seed=turn)
        live.write()
        # A generation is there until the next but one: whoever is slower looks again.
        enough = len(seen) + 2
        wait_for(lambda: len(seen) >= enough, "reading")  # noqa: B023 - it is called here
    stop.set()
    reader.join()
    assert wrong == []
    assert len(set(seen)) > 8


def test_a_killed_server_stops_nothing(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live(server.url, interval="100ms")
    (publisher,) = live.publishers
    caplog.set_level(logging.WARNING)
    publisher.start()
    live.offer()
    wait_for(lambda: publisher.writes > 1, "writes")
    server.kill()
    wait_for(lambda: publisher.failures > 2, "failures")
    live.offer(seed=2)
    assert live.newest("talkers", 1, "bytes").source == "aggregators"
    live.aggregations[0].finish()
    live.offer(seed=3)
    status = publisher.status()
    assert (status["live"], status["live_down"]) == ("down", 1)
    assert status["live_error"].startswith(f"Redis at 127.0.0.1:{server.port}/0: ")
    before = publisher.writes
    server.start()
    wait_for(lambda: publisher.writes > before, "writes")
    assert publisher.status()["live_error"] == ""
    live.newest._avoid_until = 0
    wait_for(lambda: live.newest("talkers", 1, "bytes").source == "redis", "answer of Redis")
    with server.client() as client:
        assert [one["revision"] for one in totals(client)] == [0, 1]
    live.close()
    told = [r.message for r in caplog.records if "live views" in r.message]
    assert len(told) == 2, told
    assert "is back" in told[1]


def test_a_stopped_server_stops_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "ANSWER_SECONDS", 0.2)
    live = Live(server.url, interval="100ms")
    (publisher,) = live.publishers
    publisher.start()
    live.offer()
    wait_for(lambda: publisher.writes > 0, "writes")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        wait_for(lambda: publisher.failures > 0, "failures")
        live.offer(seed=2)
        assert live.newest("talkers", 1, "bytes").source == "aggregators"
        assert time.monotonic() - begun < 20
    finally:
        os.kill(server.pid, signal.SIGCONT)
    before = publisher.writes
    wait_for(lambda: publisher.writes > before, "writes")
    live.close()


def test_a_full_server_is_an_outage(redis_server: Start) -> None:
    server = redis_server(options=("maxmemory 1mb", "maxmemory-policy noeviction"))
    live = Live(server.url)
    live.offer()
    assert not live.publishers[0].write()
    assert "maxmemory" in live.publishers[0].error
    with server.client() as client:
        assert client.dbsize() == 0


def test_auth_and_tls(redis_server: Start, tmp_path: Path) -> None:
    server = redis_server(password="geheim", tls=True)
    live = Live(server.url)
    live.offer()
    live.write()
    assert live.newest("talkers", 1, "bytes").source == "redis"
    for url, what in (
        (server.url.replace("geheim", "verkehrt"), "AuthenticationError"),
        (server.url.replace(":geheim@", ""), "AuthenticationError"),
        (server.url.partition("?")[0], "CERTIFICATE_VERIFY_FAILED"),
    ):
        wrong = Live(url)
        assert not wrong.publishers[0].write()
        assert what in wrong.publishers[0].error
        assert "geheim" not in wrong.publishers[0].error
        assert "verkehrt" not in wrong.publishers[0].error
    file = tmp_path / "password"
    named = {"url": server.url.replace(":geheim@", ""), "password_file": str(file)}
    by_file = Live(named)
    assert not by_file.publishers[0].write()
    assert str(file) in by_file.publishers[0].error
    file.write_text("geheim\n")
    assert by_file.publishers[0].write()


def test_a_user_with_few_rights(server: RedisServer, client: redis.Redis) -> None:
    rights = ["+@read", "+@write", "+@connection", "+multi", "+exec", "+publish"]
    rules = ["on", ">geheim", "~flowray:*", "&flowray:*", *rights]
    client.execute_command("ACL", "SETUSER", "writer", *rules)
    live = Live(f"redis://writer:geheim@127.0.0.1:{server.port}/0")
    live.offer()
    live.write()
    assert live.newest("talkers", 1, "bytes").source == "redis"
    other = Live(f"redis://writer:geheim@127.0.0.1:{server.port}/0", prefix="other")
    assert not other.publishers[0].write()
    assert "permissions" in other.publishers[0].error
