"""One address for several RIB actors. Each accepts connections there, as the kernel deals them out,
and passes those of routers that belong to another part on to it, socket and all.

So a router's sessions, however often it connects, come to the same actor, whose tables know it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from flowray.ingest.listen import ListenError
from flowray.wire.packets import address_words

log = logging.getLogger(__name__)

_BACKLOG: Final = 128
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""

PASSED: Final = ("passed_on", "not_taken")
"""Counters of connections that belong to other parts: what those took, and what they did not."""

Protocol = Callable[[], asyncio.BaseProtocol]


def part_of(address: str, parts: int) -> int:
    """The part of a group that a router belongs to, by its address: the same at every start."""
    hi, lo = address_words(address)
    return zlib.crc32((hi << 64 | lo).to_bytes(16)) % parts


class Passage:
    """How accepted connections come from one part to another: over sockets of this host that only
    processes of the same user may use (unix(7), abstract names).
    """

    def __init__(self, place: str, part: int, parts: int) -> None:
        """`place` names what all parts listen on, such as bgp://192.0.2.1:179."""
        self.part = part
        self._parts = parts
        self._place = place
        self._door: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entering: set[asyncio.Task[object]] = set()

    def open(self, adopted: Protocol) -> None:
        """Take what other parts pass on; `adopted` makes the protocol of such a connection.

        Raises ListenError if another process has this part already.
        """
        self._loop = asyncio.get_running_loop()
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.setblocking(False)
        try:
            self._door.bind(self._name(self.part))
        except OSError as error:
            self._door.close()
            raise ListenError(f"{self._place}, part {self.part}: {error.strerror}") from None
        self._door.listen(_BACKLOG)
        self._loop.add_reader(self._door, self._answer, adopted)

    def close(self) -> None:
        """Take nothing more."""
        if self._door is not None and self._loop is not None:
            self._loop.remove_reader(self._door)
            self._door.close()
            self._door = None

    def pass_on(self, transport: asyncio.BaseTransport, router: str) -> bool | None:
        """Give a connection to the part that it belongs to: whether that took it; None if it is
        this part.
        """
        owner = part_of(router, self._parts)
        if owner == self.part:
            return None
        connection: socket.socket = transport.get_extra_info("socket")
        try:
            self._send(connection.fileno(), owner)
        except OSError as error:
            log.warning("%s: part %d cannot take %s: %s", self._place, owner, router, error)
            return False
        return True

    def _name(self, part: int) -> str:
        return f"\0flowray/{self._place}/{part}"

    def _send(self, descriptor: int, owner: int) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as way:
            way.setblocking(False)
            way.connect(self._name(owner))
            if not _ours(way):
                raise PermissionError("it is another user's process")
            socket.send_fds(way, [b"\0"], [descriptor])

    def _answer(self, adopted: Protocol) -> None:
        assert self._door is not None
        assert self._loop is not None
        try:
            way, _ = self._door.accept()
        except OSError:
            return
        way.setblocking(False)
        if not _ours(way):
            way.close()
            return
        # Sent at once by those who connect; who says nothing is not waited for.
        self._loop.add_reader(way, self._enter, way, adopted)

    def _enter(self, way: socket.socket, adopted: Protocol) -> None:
        assert self._loop is not None
        self._loop.remove_reader(way)
        descriptors: list[int] = []
        with way, suppress(OSError):
            _, descriptors, _, _ = socket.recv_fds(way, 1, 1)
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            entering = self._loop.connect_accepted_socket(adopted, connection)
            task: asyncio.Task[object] = self._loop.create_task(entering)
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)


def passed(
    passage: Passage | None, transport: asyncio.Transport, router: str, counts: Counter[str]
) -> bool:
    """Whether a connection that was just made belongs to another part: then it is closed here, and
    counted (see PASSED). One that its part could not take the router makes again.
    """
    took = None if passage is None else passage.pass_on(transport, router)
    if took is None:
        return False
    counts[PASSED[not took]] += 1
    transport.abort()
    return True


def _ours(way: socket.socket) -> bool:
    """Whether the process at the other end is of our user."""
    told = way.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(told)[1]
    return uid == os.geteuid()
