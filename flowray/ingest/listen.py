"""UDP sockets of a shard: opened so that shards share ports, watched for what the kernel drops,
closed without loss.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from flowray.errors import FlowrayError

# socket(7) on Linux; the module `socket` lacks these two.
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")
_RMEM_ALLOC, _RCVBUF, _DROPS = 0, 1, 8

_WORD = 0xFFFFFFFF
_DISCARD = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
_DISCARD_PORT = 9


class ListenError(FlowrayError):
    """A socket cannot be opened."""


@dataclass(slots=True)
class Listener:
    """A bound UDP socket. `address` is udp://ADDRESS:PORT with the port that it got."""

    address: str
    port: int
    socket: socket.socket
    family: int
    drops: int = 0
    _told: int = 0

    def watch(self) -> float:
        """The share of the receive buffer in use, 0 to 1; brings `drops`, the datagrams lost by the
        kernel, up to date.
        """
        info = _MEMINFO.unpack(self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))
        self.drops += info[_DROPS] - self._told & _WORD
        self._told = info[_DROPS]
        return float(info[_RMEM_ALLOC] / max(info[_RCVBUF], 1))

    def turn_away(self) -> None:
        """Let the kernel steer new datagrams to other sockets of the port; what is queued here
        stays readable.

        A connected socket gets datagrams of its peer alone, and Linux passes it over when it picks
        one of the sockets that share a port (since 5.4).
        """
        with suppress(OSError):
            self.socket.connect((_DISCARD[socket.AddressFamily(self.family)], _DISCARD_PORT))

    def close(self) -> None:
        """Close it; what is queued is lost."""
        self.socket.close()


def listen(url: str, buffer_octets: int) -> Listener:
    """Open a socket at udp://ADDRESS:PORT, shared with other shards. [::] takes IPv4 as well.

    Raises ListenError.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "::", parts.port or 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _open(family, host, port, buffer_octets)
    except OSError as error:
        if host == "::":
            with suppress(OSError):  # a host without IPv6
                return _open(socket.AF_INET, "0.0.0.0", port, buffer_octets)  # noqa: S104
        raise ListenError(f"cannot listen on {url}: {error.strerror or error}") from None


def _open(family: int, host: str, port: int, buffer_octets: int) -> Listener:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _set_buffer(sock, buffer_octets)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    bound: int = sock.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    return Listener(f"udp://{shown}:{bound}", bound, sock, family)


def _set_buffer(sock: socket.socket, octets: int) -> None:
    """Past net.core.rmem_max where we may, else up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, octets)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)
