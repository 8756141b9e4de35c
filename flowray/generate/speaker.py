"""A BGP speaker that announces generated routes: it connects, opens the session, and sends."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from flowray.generate.routes import PEER_AS

_MARKER: Final = b"\xff" * 16
_HEADER = struct.Struct(">16sHB")
_OPEN, _UPDATE, _NOTIFICATION, _KEEPALIVE = 1, 2, 3, 4
_AS_TRANS = 23456

ANSWER_SECONDS = 30.0


def _message(kind: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(_MARKER, _HEADER.size + len(body), kind) + body


KEEPALIVE: Final = _message(_KEEPALIVE)

END_OF_RIB: Final = _message(_UPDATE, bytes(4)) + _message(
    _UPDATE, bytes.fromhex("0000 0006 800f03 000201")
)
"""No more initial routes (RFC 4724 section 2), of IPv4 and of IPv6."""


def open_message(asn: int, bgp_id: str) -> bytes:
    """An OPEN without timers (hold time 0, RFC 4271 section 4.4) for IPv4 and IPv6 unicast, AS
    numbers in four octets.
    """
    capabilities = b"".join(
        bytes((code, len(value))) + value
        for code, value in (
            (1, bytes.fromhex("00010001")),
            (1, bytes.fromhex("00020001")),
            (65, asn.to_bytes(4)),
        )
    )
    two_octets = asn if asn < 1 << 16 else _AS_TRANS
    fixed = struct.pack(">BHH4s", 4, two_octets, 0, IPv4Address(bgp_id).packed)
    parameter = bytes((2, len(capabilities))) + capabilities
    return _message(_OPEN, fixed + bytes((len(parameter),)) + parameter)


class Speaker:
    """A session from `source` (any 127.0.0.x on loopback) to a collector, established.

    Raises OSError if there is no connection, ConnectionError if it is not wanted.
    """

    def __init__(
        self,
        target: tuple[str, int],
        source: str = "",
        *,
        asn: int = PEER_AS,
        bgp_id: str = "198.51.100.1",
    ) -> None:
        local = (source, 0) if source else None
        self._socket = socket.create_connection(target, ANSWER_SECONDS, local)
        try:
            self._socket.sendall(open_message(asn, bgp_id))
            self._expect(_OPEN)
            self._socket.sendall(KEEPALIVE)
            self._expect(_KEEPALIVE)
        except BaseException:
            self.close()
            raise
        self._socket.settimeout(None)

    def _expect(self, wanted: int) -> None:
        _, size, kind = _HEADER.unpack(self._read(_HEADER.size))
        body = self._read(size - _HEADER.size)
        if kind != wanted:
            told = body.hex() if kind == _NOTIFICATION else "nothing more"
            raise ConnectionError(f"BGP message {wanted} expected, found {kind}: {told}")

    def _read(self, count: int) -> bytes:
        read = bytearray()
        while len(read) < count:
            if not (more := self._socket.recv(count - len(read))):
                raise ConnectionError("the collector closed the connection")
            read += more
        return bytes(read)

    def send(self, octets: bytes | npt.NDArray[np.uint8]) -> None:
        """Send whole messages; waits while the collector does not take them."""
        self._socket.sendall(memoryview(octets))

    def close(self) -> None:
        """End the session."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
