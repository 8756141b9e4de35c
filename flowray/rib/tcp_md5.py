"""TCP-MD5 (RFC 2385) on Linux: passwords of peers for a listening socket, and the file of them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

from flowray.errors import ConfigError

LONGEST_PASSWORD: Final = 80
"""Octets of the longest password that the kernel takes."""

# tcp(7) and <linux/tcp.h>; the module `socket` lacks them.
_TCP_MD5SIG_EXT = 32
_WITH_PREFIX = 1
_KEY = struct.Struct("=128sBBHi80s")
_V4 = struct.Struct("=HH4s8x")
_V6 = struct.Struct("=HHI16sI")
_V4_MAPPED = bytes(10) + b"\xff\xff"


def set_password(sock: socket.socket, prefix: str, password: bytes) -> None:
    """Take connections from a prefix only if their segments are signed with this password.

    Of prefixes that contain an address the longest counts. A socket of IPv6 takes prefixes of
    IPv4, too. Raises OSError where the kernel cannot do it, and for a password that is empty or
    longer than LONGEST_PASSWORD.
    """
    network = ip_network(prefix, strict=False)
    address = _sockaddr(network, sock.family)
    key = _KEY.pack(address, _WITH_PREFIX, network.prefixlen, len(password), 0, password)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG_EXT, key)


def _sockaddr(network: IPv4Network | IPv6Network, family: int) -> bytes:
    packed = network.network_address.packed
    if family == socket.AF_INET:
        return _V4.pack(socket.AF_INET, 0, packed)
    if network.version == 4:
        packed = _V4_MAPPED + packed  # the prefix length stays that of IPv4
    return _V6.pack(socket.AF_INET6, 0, 0, packed, 0)


def load_passwords(path: Path) -> dict[str, bytes]:
    """Passwords by prefix from a file with ``address, password`` or ``prefix, password`` a line;
    comments begin with ``!`` or ``#``. Raises ConfigError, which names the line but no password.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "passwords", str(error), "a readable text file") from None
    passwords: dict[str, bytes] = {}
    for n, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip()[0] in "!#":
            continue
        prefix, password = _password(f"{path}:{n}", line)
        passwords[prefix] = password
    return passwords


def _password(place: str, line: str) -> tuple[str, bytes]:
    prefix, _, text = line.partition(",")
    try:
        network = ip_network(prefix.strip(), strict=False)
    except ValueError:
        allowed = "an address or prefix, a comma, the password"
        raise ConfigError(place, "prefix", repr(prefix.strip()), allowed) from None
    password = text.strip().encode()
    if not 0 < len(password) <= LONGEST_PASSWORD:
        allowed = f"1 to {LONGEST_PASSWORD} octets"
        raise ConfigError(place, "password", f"{len(password)} octets", allowed)
    return str(network), password


def passwords_for(family: int, passwords: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of the passwords that a socket of this address family can need."""
    if family == socket.AF_INET6:
        return dict(passwords)
    return {p: word for p, word in passwords.items() if ip_network(p).version == 4}
