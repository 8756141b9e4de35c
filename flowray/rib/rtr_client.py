"""An `RtrSession` on a TCP connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from flowray.rib.roa import RoaSet
from flowray.rib.rtr import Connect, Disconnect, Output, Publish, RtrSession, Send

__all__ = ["RtrClient"]

log = logging.getLogger(__name__)

_READ = 1 << 20
_CONNECT_S = 30.0


class RtrClient:
    """Keeps a connection to a cache and hands its payloads on as they change.

    `publish` is called with the payloads in force: those of the cache, or none when they have
    expired. Run it as a task; cancelling the task closes the connection.
    """

    def __init__(
        self, host: str, port: int, publish: Callable[[RoaSet], None], session: RtrSession
    ) -> None:
        self.cache = f"{host}:{port}"
        self._host, self._port = host, port
        self._publish = publish
        self._session = session
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Run until cancelled."""
        session = self._session
        try:
            while True:
                await self._do(session.tick(time.monotonic_ns()))
                try:
                    async with asyncio.timeout(self._seconds_to_wake()):
                        data = await self._read()
                except TimeoutError:
                    continue
                if data:
                    await self._do(session.receive(data, time.monotonic_ns()))
                else:
                    log.warning("rtr cache %s: the connection was closed", self.cache)
                    self._close()
                    await self._do(session.closed(time.monotonic_ns()))
        finally:
            self._close()

    def _seconds_to_wake(self) -> float:
        return max(0.0, (self._session.wake_ns - time.monotonic_ns()) / 1e9)

    async def _read(self) -> bytes:
        """Octets of the cache, none if it has closed; waits for ever without a connection."""
        if self._reader is None:
            await asyncio.Event().wait()
        assert self._reader is not None
        try:
            return await self._reader.read(_READ)
        except OSError:
            return b""

    async def _do(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Connect():
                    await self._do(await self._connect())
                case Send(data):
                    if self._writer is not None:
                        self._writer.write(data)
                case Publish(roas):
                    self._publish(roas)
                case Disconnect(reason):
                    log.warning("rtr cache %s: %s", self.cache, reason)
                    self._close()

    async def _connect(self) -> list[Output]:
        try:
            async with asyncio.timeout(_CONNECT_S):
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        except OSError as error:  # a TimeoutError is one
            log.warning("rtr cache %s: %s", self.cache, error.strerror or "no connection")
            return self._session.closed(time.monotonic_ns())
        return self._session.connected(time.monotonic_ns())

    def _close(self) -> None:
        """Close the connection; what was written before is still sent."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
