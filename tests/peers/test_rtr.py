"""A real RPKI cache, over loopback: the payloads of its file, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from flowray.rib.roa import RoaSet, RoaState
from flowray.rib.rtr import RtrSession
from flowray.rib.rtr_client import RtrClient
from flowray.wire.packets import address_words

pytestmark = pytest.mark.peers

PATIENCE_S = 60.0


def write(path: Path, *asns: int) -> None:
    roas = [
        {"asn": f"AS{asn}", "prefix": prefix, "maxLength": longest, "ta": "test"}
        for asn in asns
        for prefix, longest in (("192.0.2.0/24", 26), ("2001:db8::/32", 48))
    ]
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps({"roas": roas, "metadata": {"vrps": len(roas)}}))
    aside.replace(path)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def state(roas: RoaSet, asn: int, prefix: str) -> int:
    address, _, bits = prefix.partition("/")
    hi, lo = address_words(address)
    words = np.array([hi], np.uint64), np.array([lo], np.uint64)
    (found,) = roas.validate(*words, np.array([bits], np.uint8), np.array([asn], np.uint32))
    return int(found)


@asynccontextmanager
async def running(client: RtrClient) -> AsyncIterator[None]:
    task = asyncio.create_task(client.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Cache:
    """A stayrtr that serves a file on a port."""

    def __init__(self, program: Path, folder: Path, version: int) -> None:
        self.file = folder / "roas.json"
        self.port = free_port()
        self._command = [
            str(program), "-cache", str(self.file), "-checktime=false", "-protocol", str(version),
            "-bind", f"127.0.0.1:{self.port}", "-metrics.addr", f"127.0.0.1:{free_port()}",
            "-refresh", "1",
        ]  # fmt: skip
        self._log = folder / "stayrtr.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("asked", [0, 1])
def test_stayrtr(tmp_path: Path, peer: Callable[[str], Path], version: int, asked: int) -> None:
    cache = Cache(peer("stayrtr"), tmp_path, version)
    write(cache.file, 64496)
    told: asyncio.Queue[RoaSet] = asyncio.Queue()
    session = RtrSession(version=asked)

    async def talk() -> None:
        async with running(RtrClient("127.0.0.1", cache.port, told.put_nowait, session)):
            # The cache is not there yet: the client comes again.
            cache.start()
            roas = await told.get()
            assert session.version == min(asked, version)
            assert len(roas) == 2
            assert state(roas, 64496, "192.0.2.0/26") == RoaState.VALID
            assert state(roas, 64497, "192.0.2.0/26") == RoaState.INVALID
            assert state(roas, 64496, "2001:db8::/49") == RoaState.INVALID
            assert state(roas, 64496, "198.51.100.0/24") == RoaState.UNKNOWN
            # A change is notified, and asked for.
            before = session.serial, session.session_id
            write(cache.file, 64496, 64497)
            roas = await told.get()
            assert (session.serial > before[0], session.session_id) == (True, before[1])
            assert len(roas) == 4
            assert state(roas, 64497, "192.0.2.0/26") == RoaState.VALID
            write(cache.file, 64497)
            roas = await told.get()
            assert len(roas) == 2
            assert state(roas, 64496, "2001:db8::/32") == RoaState.INVALID
            # Another cache on the same port knows nothing of the session.
            cache.stop()
            write(cache.file, 64499)
            cache.start()
            while state(roas, 64499, "2001:db8::/32") != RoaState.VALID:
                roas = await told.get()
            assert len(roas) == 2

    try:
        asyncio.run(asyncio.wait_for(talk(), PATIENCE_S))
    finally:
        cache.stop()
