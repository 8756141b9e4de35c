"""The listener on real sockets of the loopback, every address of which may be a peer."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

import pytest

from flowray.ingest.listen import ListenError
from flowray.rib.admission import Limits, Refusal
from flowray.rib.bgp_session import (
    BgpSession,
    Ended,
    Established,
    Opened,
    Output,
    UpdatesReceived,
)
from flowray.rib.tcp import listen_tcp
from flowray.rib.tcp_md5 import set_password
from flowray.wire.bgp.messages import (
    KEEPALIVE,
    MARKER,
    MessageType,
    Notification,
    RouteRefresh,
    shutdown_communication,
)
from tests.rib.bgp_peer import comparable, peer_open, plain_open, update
from tests.rib.listener_rig import PATIENCE_S, Feed, has_ipv6, rig

REJECTED = Notification(6, 5).encode()


class AsyncTest(Protocol):
    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]: ...


def on_a_loop(test: AsyncTest) -> Any:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def cancel(task: asyncio.Task[None]) -> None:
    """Before its socket is closed, whose number the next socket may get."""
    task.cancel()
    await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    """The loop goes round until something holds that no event tells."""
    for _ in iter(condition, True):
        await asyncio.sleep(0.001)


async def until_ended(feed: Feed) -> list[Output]:
    outputs = [await feed.told.get()]
    while not isinstance(outputs[-1], Ended):
        outputs.append(await feed.told.get())
    return outputs


@on_a_loop
async def test_a_session_from_accept_to_close() -> None:
    async with rig() as r:
        peer, feed = await r.session("127.0.0.9")
        peer.send(peer_open())
        assert (await peer.message())[18] == MessageType.OPEN
        assert await peer.message() == KEEPALIVE
        updates = [update(4 + i % 100) for i in range(5000)]
        peer.send(KEEPALIVE + b"".join(updates))
        assert (await peer.message())[18] == MessageType.UPDATE  # End-of-RIB
        peer.writer.write_eof()
        outputs = await until_ended(feed)
        assert [type(o) for o in outputs[:2]] == [Opened, Established]
        (received,) = comparable(outputs[2:-1])
        assert [octets for octets, _, _ in received] == updates
        assert outputs[-1] == Ended(0, 0, "the connection was closed", "transport")
        assert (feed.session.peer, feed.session.port) == (
            "127.0.0.9",
            peer.writer.get_extra_info("sockname")[1],
        )
        counters = r.listener.counters()
        assert (counters["accepted"], counters["ended_transport"]) == (1, 1)
        assert (counters["sessions"], counters["established"]) == (0, 0)
        sent = len(peer_open() + KEEPALIVE) + sum(map(len, updates))
        assert counters["octets_received"] == sent


@on_a_loop
async def test_reads_are_bounded() -> None:
    async with rig(read_octets=1000) as r:
        peer, feed = await r.session()
        await peer.establish()
        peer.send(b"".join([update(77)] * 100))
        peer.writer.write_eof()
        batches = [o for o in await until_ended(feed) if isinstance(o, UpdatesReceived)]
        assert sum(len(batch.updates) for batch in batches) == 100
        assert max(batch.updates.buf.size for batch in batches) <= 1000 + 96


@on_a_loop
async def test_a_second_session_of_an_address_is_refused() -> None:
    async with rig() as r:
        first, feed = await r.session()
        await first.establish()
        second = await r.connect()
        second.send(peer_open())
        assert await second.rest() == REJECTED
        assert await r.owner.refusals.get() == ("127.0.0.1", Refusal.DUPLICATE)
        other, _ = await r.session("127.0.0.2")
        await other.establish()
        first.send(update())
        outputs = [await feed.told.get() for _ in range(3)]
        assert isinstance(outputs[2], UpdatesReceived)
        counters = r.listener.counters()
        assert (counters["refused_duplicate"], counters["established"]) == (1, 2)


@on_a_loop
async def test_an_address_may_come_back() -> None:
    async with rig() as r:
        for _ in range(2):
            peer, feed = await r.session()
            await peer.establish()
            peer.close()
            await until_ended(feed)


@on_a_loop
async def test_strangers_learn_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with rig(limits=Limits(allow=("127.0.0.2/31",))) as r:
        stranger = await r.connect("127.0.0.9")
        assert await stranger.rest() == b""
        friend, _ = await r.session("127.0.0.3")
        await friend.establish()
        assert r.owner.refusals.empty()
        assert r.listener.counters()["refused_not_allowed"] == 1
    assert [record.getMessage().partition(" port ")[0] for record in caplog.records] == [
        "bgp peer 127.0.0.9"
    ]


@on_a_loop
async def test_no_more_peers_than_allowed() -> None:
    async with rig(limits=Limits(max_peers=1)) as r:
        first, feed = await r.session("127.0.0.2")
        second = await r.connect("127.0.0.3")
        assert await second.rest() == REJECTED
        assert await r.owner.refusals.get() == ("127.0.0.3", Refusal.TOO_MANY)
        first.close()
        await until_ended(feed)
        third, _ = await r.session("127.0.0.3")
        await third.establish()


@on_a_loop
async def test_a_peer_that_fails_again_and_again_waits(caplog: pytest.LogCaptureFixture) -> None:
    async with rig(limits=Limits(failures=2, back_off_s=60)) as r:
        for _ in range(2):
            peer, feed = await r.session()
            peer.send(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            assert await peer.rest() == Notification(1, 1).encode()
            await until_ended(feed)
        for _ in range(3):
            assert await (await r.connect()).rest() == REJECTED
        r.pass_time(60)
        patient, _ = await r.session()
        await patient.establish()
        counters = r.listener.counters()
        assert (counters["refused_backing_off"], counters["ended_local"]) == (3, 2)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].endswith("connection refused: its sessions failed again and again")


# -- what the owner says


def reset_at_updates(session: BgpSession, output: Output, now_ns: int) -> list[Output]:
    if isinstance(output, UpdatesReceived):
        return session.reset(3, 1, b"why", now_ns, "because")
    return []


@on_a_loop
async def test_what_comes_after_a_reset_is_void() -> None:
    async with rig(answer=reset_at_updates) as r:
        peer, feed = await r.session()
        refresh = RouteRefresh(1, 1, 1).encode()
        request = RouteRefresh(1, 1, 0).encode()
        peer.send(plain_open() + KEEPALIVE + update() + refresh + request + update())
        assert (await peer.rest()).endswith(KEEPALIVE + Notification(3, 1, b"why").encode())
        opened, established, updates, ended = await until_ended(feed)
        assert isinstance(opened, Opened)
        assert isinstance(established, Established)
        assert isinstance(updates, UpdatesReceived)
        assert ended == Ended(3, 1, "because", "local")


def fail_at_updates(session: BgpSession, output: Output, now_ns: int) -> list[Output]:
    if isinstance(output, UpdatesReceived):
        raise ZeroDivisionError
    return []


@on_a_loop
async def test_a_failure_in_the_owner_costs_one_peer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with rig(answer=fail_at_updates) as r:
        peer, feed = await r.session("127.0.0.2")
        other, _ = await r.session("127.0.0.3")
        await other.establish()
        peer.send(plain_open() + KEEPALIVE + update())
        assert (await peer.rest()).endswith(Notification(6, 8).encode())
        ended = (await until_ended(feed))[-1]
        assert ended == Ended(6, 8, "what it sent could not be taken", "local")
        assert r.listener.counters()["established"] == 1
        again, _ = await r.session("127.0.0.2")
        await again.establish()


# -- time


@on_a_loop
async def test_timers_tick() -> None:
    async with rig() as r:
        silent, silent_feed = await r.session("127.0.0.2")
        peer, feed = await r.session("127.0.0.3")
        await peer.establish(plain_open(hold_time_s=90) + KEEPALIVE)
        r.pass_time(60)
        r.listener.tick()
        assert await silent.rest() == Notification(4, 0).encode()
        assert await until_ended(silent_feed) == [Ended(4, 0, "no OPEN within 60 s", "local")]
        assert await peer.message() == KEEPALIVE
        r.pass_time(30)
        r.listener.tick()
        assert await peer.rest() == Notification(4, 0).encode()
        ended = (await until_ended(feed))[-1]
        assert ended == Ended(4, 0, "no message within the hold time of 90 s", "local")


@on_a_loop
async def test_setting_the_clock_ends_no_session() -> None:
    async with rig() as r:
        peer, feed = await r.session()
        await peer.establish(plain_open(hold_time_s=90) + KEEPALIVE)
        for step in (3600, -7200, 10**9):
            r.wall.ns += step * 10**9
            r.listener.tick()
        assert feed.session.state.value == "Established"
        r.pass_time(90)
        r.listener.tick()
        assert (await peer.rest()).endswith(Notification(4, 0).encode())


@on_a_loop
async def test_who_does_not_close_is_hung_up_on() -> None:
    async with rig() as r:
        peer, feed = await r.session()
        peer.send(MARKER + bytes(3))
        await until_ended(feed)
        assert await peer.rest() == Notification(1, 2, bytes(2)).encode()
        assert len(r.listener.lingering) == 1
        r.pass_time(2)
        r.listener.tick()
        await until(lambda: not r.listener.lingering)


@on_a_loop
async def test_a_peer_that_does_not_read_is_given_up() -> None:
    async with rig() as r:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", r.listener.port))
            sock.setblocking(False)
            feed = await r.owner.feeds.get()
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, peer_open() + KEEPALIVE)
            requests = RouteRefresh(1, 1, 0).encode() * 1000

            async def flood() -> None:
                while True:
                    await loop.sock_sendall(sock, requests)

            flooding = asyncio.create_task(flood())
            ended = (await until_ended(feed))[-1]
            await cancel(flooding)
            assert isinstance(ended, Ended)
            assert (ended.code, ended.by) == (8, "local")
            r.pass_time(2)
            r.listener.tick()
            await until(lambda: not r.listener.lingering)


@on_a_loop
async def test_peers_are_told_when_we_stop() -> None:
    async with rig() as r:
        peer, feed = await r.session()
        await peer.establish()
        peer.send(update(50)[:30])
        stopping = asyncio.create_task(r.listener.stop("maintenance"))
        said = await peer.rest()
        assert said.endswith(Notification(6, 2, shutdown_communication("maintenance")).encode())
        peer.close()
        await stopping
        ended = (await until_ended(feed))[-1]
        assert isinstance(ended, Ended)
        assert (ended.code, ended.subcode, ended.by) == (6, 2, "local")
        with pytest.raises(ConnectionRefusedError):
            await r.connect()


# -- addresses and passwords


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on the loopback of this machine")
@on_a_loop
async def test_one_socket_serves_both_families() -> None:
    async with rig(address="::") as r:
        _, four = await r.session("127.0.0.4")
        _, six = await r.session("::1")
        assert (four.session.peer, six.session.peer) == ("127.0.0.4", "::1")


@on_a_loop
async def test_a_port_in_use_is_an_error() -> None:
    async with rig() as r:
        with pytest.raises(ListenError, match=r"cannot listen on 127\.0\.0\.1:"):
            listen_tcp("127.0.0.1", r.listener.port, 1 << 16)


def md5_refused() -> str:
    try:
        with socket.socket() as sock:
            set_password(sock, "127.0.0.1", b"x")
    except OSError as error:
        return f"the kernel does not do TCP-MD5: {error}"
    return ""


def failed_checks() -> int:
    """Segments that the kernel dropped for their signature."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    told = dict(zip(names, values, strict=True))
    return sum(int(told[f"TCPMD5{name}"]) for name in ("NotFound", "Unexpected", "Failure"))


@pytest.mark.skipif(bool(md5_refused()), reason=md5_refused())
@pytest.mark.parametrize(
    ("address", "source", "prefix"),
    [
        ("127.0.0.1", "127.0.0.5", "127.0.0.5"),
        ("127.0.0.1", "127.0.0.5", "127.0.0.4/30"),
        pytest.param(
            "::",
            "127.0.0.5",
            "127.0.0.0/8",
            marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine"),
        ),
        pytest.param(
            "::",
            "::1",
            "::/64",
            marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine"),
        ),
    ],
)
@on_a_loop
async def test_passwords(address: str, source: str, prefix: str) -> None:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    target = "::1" if ":" in source else "127.0.0.1"
    loop = asyncio.get_running_loop()
    async with rig(address=address, passwords={prefix: b"secret"}) as r:
        for word in (b"guess", None):
            with socket.socket(family) as wrong:
                wrong.setblocking(False)
                if word is not None:
                    set_password(wrong, target, word)
                wrong.bind((source, 0))
                before = failed_checks()
                connecting = asyncio.create_task(
                    loop.sock_connect(wrong, (target, r.listener.port))
                )
                await until(lambda count=before: failed_checks() > count)
                assert not connecting.done()
                await cancel(connecting)
        with socket.socket(family) as right:
            right.setblocking(False)
            set_password(right, target, b"secret")
            right.bind((source, 0))
            await loop.sock_connect(right, (target, r.listener.port))
            feed = await asyncio.wait_for(r.owner.feeds.get(), PATIENCE_S)
            assert feed.session.peer == source
            await loop.sock_sendall(right, plain_open() + KEEPALIVE)
            assert isinstance(await feed.told.get(), Opened)
            assert isinstance(await feed.told.get(), Established)
        assert isinstance((await until_ended(feed))[-1], Ended)
