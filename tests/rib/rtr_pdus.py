"""PDUs of the RPKI-to-Router protocol, made plainly."""

from __future__ import annotations

import struct
from ipaddress import ip_network


def pdu(kind: int, field: int = 0, body: bytes = b"", *, version: int = 1) -> bytes:
    return struct.pack(">BBHI", version, kind, field, 8 + len(body)) + body


def notify(session: int, serial: int) -> bytes:
    return pdu(0, session, struct.pack(">I", serial))


def response(session: int, *, version: int = 1) -> bytes:
    return pdu(3, session, version=version)


def prefix(
    text: str, asn: int, longest: int | None = None, *, announce: bool = True, version: int = 1
) -> bytes:
    network = ip_network(text)
    most = network.prefixlen if longest is None else longest
    head = bytes([announce, network.prefixlen, most, 0])
    body = head + network.network_address.packed + struct.pack(">I", asn)
    return pdu(4 if network.version == 4 else 6, 0, body, version=version)


def end(
    session: int,
    serial: int,
    *,
    version: int = 1,
    refresh: int = 3600,
    retry: int = 600,
    expire: int = 7200,
) -> bytes:
    times = struct.pack(">III", refresh, retry, expire) if version else b""
    return pdu(7, session, struct.pack(">I", serial) + times, version=version)


def error(code: int, quoted: bytes = b"", text: bytes = b"", *, version: int = 1) -> bytes:
    body = struct.pack(">I", len(quoted)) + quoted + struct.pack(">I", len(text)) + text
    return pdu(10, code, body, version=version)


RESET_QUERY = pdu(2)


def serial_query(session: int, serial: int) -> bytes:
    return pdu(1, session, struct.pack(">I", serial))
