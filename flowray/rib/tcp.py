"""Sockets that take TCP connections of routers."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from flowray.ingest.listen import SO_RCVBUFFORCE, ListenError
from flowray.rib.tcp_md5 import passwords_for, set_password

NO_PASSWORDS: Final[Mapping[str, bytes]] = {}


def listen_tcp(
    host: str,
    port: int,
    receive_buffer: int,
    passwords: Mapping[str, bytes] = NO_PASSWORDS,
    *,
    shared: bool = False,
) -> socket.socket:
    """A socket bound to an address, for `asyncio.loop.create_server`; [::] takes IPv4 as well.

    The sockets of its connections have `receive_buffer` octets, and those of peers with TCP-MD5
    `passwords` (by prefix) take only what is signed. `shared`: other sockets of this user may
    listen there too. Raises ListenError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _bound(family, host, port, receive_buffer, passwords, shared=shared)
    except OSError as error:
        if host == "::":
            with suppress(OSError):  # a host without IPv6
                anywhere = "0.0.0.0"  # noqa: S104
                return _bound(
                    socket.AF_INET, anywhere, port, receive_buffer, passwords, shared=shared
                )
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise ListenError(f"cannot listen on {place}: {error.strerror or error}") from None


def _bound(
    family: int,
    host: str,
    port: int,
    receive_buffer: int,
    passwords: Mapping[str, bytes],
    *,
    shared: bool,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _set_buffer(sock, receive_buffer)
        for prefix, password in passwords_for(family, passwords).items():
            set_password(sock, prefix, password)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _set_buffer(sock: socket.socket, octets: int) -> None:
    """Past net.core.rmem_max where we may, else up to it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, octets)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)


def unread(sock: socket.socket) -> int:
    """Octets that the kernel holds for the reader of a connection; 0 if it is closed."""
    try:
        waiting = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    except (OSError, ValueError):
        return 0
    octets: int = struct.unpack("=i", waiting)[0]
    return octets
