"""The router's side of the RPKI-to-Router protocol (RFC 6810 version 0, RFC 8210 version 1).

`RtrSession` is the protocol without input and output; `rtr_client` puts it on a connection.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np

from flowray.rib.roa import RoaSet
from flowray.rib.rtr_payloads import Payloads, PayloadsError, Taken

__all__ = [
    "Connect",
    "Disconnect",
    "ErrorCode",
    "Output",
    "Publish",
    "RtrSession",
    "Send",
]

SECOND = 1_000_000_000
NEVER = (1 << 63) - 1
"""A time that does not come."""

LATEST_VERSION = 1


class ErrorCode(IntEnum):
    """Why a PDU is not accepted (RFC 8210 section 12)."""

    CORRUPT_DATA = 0
    INTERNAL_ERROR = 1
    NO_DATA_AVAILABLE = 2
    INVALID_REQUEST = 3
    UNSUPPORTED_VERSION = 4
    UNSUPPORTED_PDU = 5
    UNKNOWN_WITHDRAWAL = 6
    DUPLICATE_ANNOUNCEMENT = 7
    UNEXPECTED_VERSION = 8


class _Pdu(IntEnum):
    SERIAL_NOTIFY = 0
    SERIAL_QUERY = 1
    RESET_QUERY = 2
    CACHE_RESPONSE = 3
    IPV4_PREFIX = 4
    IPV6_PREFIX = 6
    END_OF_DATA = 7
    CACHE_RESET = 8
    ROUTER_KEY = 9
    ERROR_REPORT = 10


_HEADER = 8
_LONGEST = 65536  # octets of a PDU believed: an error report holds another PDU and a text
_LENGTHS = {  # octets, from and to
    _Pdu.SERIAL_NOTIFY: (12, 12),
    _Pdu.CACHE_RESPONSE: (8, 8),
    _Pdu.IPV4_PREFIX: (20, 20),
    _Pdu.IPV6_PREFIX: (32, 32),
    _Pdu.END_OF_DATA: (12, 24),
    _Pdu.CACHE_RESET: (8, 8),
    _Pdu.ROUTER_KEY: (32, _LONGEST),
    _Pdu.ERROR_REPORT: (16, _LONGEST),
}
_PREFIXES = (_Pdu.IPV4_PREFIX, _Pdu.IPV6_PREFIX)
_END_OF_DATA = {0: 12, 1: 24}  # octets by version
_QUOTED = 1024  # octets of a PDU that an error report of ours quotes at most

# Seconds (RFC 8210 section 6): default, and what a cache may set.
_REFRESH = (3600, 1, 86400)
_RETRY = (600, 1, 7200)
_EXPIRE = (7200, 600, 172800)

_ANSWER = 60 * SECOND  # a cache that is silent for so long amid an answer is given up
_FIRST_DELAY = SECOND  # before connecting anew; doubled up to the retry interval


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection; then comes `connected` or `closed`."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send these octets."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection, for this reason; `closed` need not be called."""

    reason: str


@dataclass(frozen=True, slots=True)
class Publish:
    """These payloads are in force from now on: `serial` of the cache, None if it is not heard."""

    roas: RoaSet
    serial: int | None


Output: TypeAlias = Connect | Send | Disconnect | Publish


class _PduError(Exception):
    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class RtrSession:
    """One cache, connection after connection. Times are ns of a clock that does not run backwards.

    Payloads stay in force while connections come and go, until the expire interval has passed
    without an answer. At most `limit` payloads are kept: a cache that sends more is given up.
    """

    def __init__(self, *, version: int = LATEST_VERSION, limit: int = 4_000_000) -> None:
        if not 0 <= version <= LATEST_VERSION:
            raise ValueError(f"RTR version: found {version}, allowed 0 to {LATEST_VERSION}")
        self.version = version
        self.limit = limit
        self.session_id: int | None = None
        self.serial = 0
        self.payloads = Payloads()
        self._buffer = b""
        self._at = 0  # in it
        self._online = False
        self._agreed = False  # whether the cache has shown that it speaks `version`
        self._parts: list[Taken] | None = None  # what an answer has brought so far
        self._pending = 0  # rows of it
        self._reset = False  # whether the answer is to a Reset Query
        self._refresh, self._retry, self._expire = _REFRESH[0], _RETRY[0], _EXPIRE[0]
        self._delay = _FIRST_DELAY
        self._connect_at = 0
        self._refresh_at = self._answer_by = self._expire_at = NEVER

    @property
    def wake_ns(self) -> int:
        """When to call `tick` at the latest."""
        return min(self._connect_at, self._refresh_at, self._answer_by, self._expire_at)

    # -- what happens to it

    def tick(self, now_ns: int) -> list[Output]:
        """Do what is due."""
        out: list[Output] = []
        if now_ns >= self._expire_at:
            self._forget(out)
            if self._answer_by != NEVER and not self._reset:
                self._give_up(out, now_ns, "payloads have expired amid an answer about changes")
        if now_ns >= self._answer_by:
            self._give_up(out, now_ns, "no answer from the cache")
        if now_ns >= self._refresh_at:
            self._query(out, now_ns)
        if now_ns >= self._connect_at:
            self._connect_at = NEVER
            out.append(Connect())
        return out

    def connected(self, now_ns: int) -> list[Output]:
        """The connection is there."""
        self._online, self._agreed = True, False
        out: list[Output] = []
        self._query(out, now_ns)
        return out

    def closed(self, now_ns: int) -> list[Output]:
        """The connection has gone, or could not be opened."""
        self._go_offline(now_ns)
        return []

    def receive(self, data: bytes, now_ns: int) -> list[Output]:
        """Take what the cache sent; after `Disconnect` it is not heard any more."""
        out: list[Output] = []
        if not self._online:
            return out
        self._buffer += data
        if self._answer_by != NEVER:
            self._answer_by = now_ns + _ANSWER
        try:
            while self._take(out, now_ns):
                pass
        except _PduError as error:
            self._report(out, error.code, str(error))
            self._give_up(out, now_ns, f"{error} (error {error.code})")
        self._buffer, self._at = self._buffer[self._at :], 0
        return out

    # -- PDUs

    def _take(self, out: list[Output], now_ns: int) -> bool:
        """Take a PDU, or a run of prefixes; False if there is no whole one, or nobody to hear."""
        if not self._online or len(self._buffer) - self._at < _HEADER:
            return False
        version, kind, field, octets = struct.unpack_from(">BBHI", self._buffer, self._at)
        self._check_version(version, kind)
        if kind not in _LENGTHS:
            raise _PduError(ErrorCode.UNSUPPORTED_PDU, f"PDU type {kind}")
        pdu = _Pdu(kind)
        shortest, longest = _LENGTHS[pdu]
        if not shortest <= octets <= longest:
            raise _PduError(ErrorCode.CORRUPT_DATA, f"{octets} octets of {pdu.name}")
        if len(self._buffer) - self._at < octets:
            return False
        if pdu in _PREFIXES:
            self._take_prefixes(pdu)
            return True
        body = self._buffer[self._at + _HEADER : self._at + octets]
        self._dispatch(out, now_ns, pdu, field, body)
        self._at += octets
        return True

    def _check_version(self, version: int, kind: int) -> None:
        """Speak an earlier version if the first answer has one (RFC 8210 section 7)."""
        if version == self.version:
            self._agreed = self._agreed or kind != _Pdu.SERIAL_NOTIFY
        elif kind == _Pdu.ERROR_REPORT:
            pass
        elif not self._agreed and version < self.version:
            if kind != _Pdu.SERIAL_NOTIFY:
                self.version, self._agreed = version, True
        else:
            agreed, other = ErrorCode.UNEXPECTED_VERSION, ErrorCode.UNSUPPORTED_VERSION
            raise _PduError(agreed if self._agreed else other, f"version {version}")

    def _dispatch(self, out: list[Output], now_ns: int, pdu: _Pdu, field: int, body: bytes) -> None:
        match pdu:
            case _Pdu.SERIAL_NOTIFY:
                if self._agreed and self._answer_by == NEVER:
                    self._query(out, now_ns)
            case _Pdu.CACHE_RESPONSE:
                self._begin_answer(out, field)
            case _Pdu.END_OF_DATA:
                self._end_answer(out, now_ns, field, body)
            case _Pdu.CACHE_RESET:
                if self._answer_by == NEVER or self._reset or self._parts is not None:
                    raise _PduError(ErrorCode.CORRUPT_DATA, "unexpected CACHE_RESET")
                self.session_id = None
                self._query(out, now_ns)
            case _Pdu.ERROR_REPORT:
                self._hear_error(out, now_ns, field, body)
            case _:  # ROUTER_KEY: of no use for the origin of routes
                pass

    def _take_prefixes(self, pdu: _Pdu) -> None:
        if self._parts is None:
            raise _PduError(ErrorCode.CORRUPT_DATA, f"unexpected {pdu.name}")
        left = np.frombuffer(self._buffer, np.uint8, offset=self._at)
        taken, octets = Taken.of(left, self.version)
        if not octets:
            raise _PduError(ErrorCode.CORRUPT_DATA, f"malformed {pdu.name}")
        self._pending += len(taken)
        if self._pending > self.limit + len(self.payloads):
            raise _PduError(ErrorCode.INTERNAL_ERROR, f"more than {self.limit} payloads")
        self._parts.append(taken)
        self._at += octets

    def _begin_answer(self, out: list[Output], session_id: int) -> None:
        if self._answer_by == NEVER or self._parts is not None:
            raise _PduError(ErrorCode.CORRUPT_DATA, "unexpected CACHE_RESPONSE")
        if not self._reset and session_id != self.session_id:
            # RFC 8210 section 5.1: what is held is of another session.
            self._forget(out)
            raise _PduError(ErrorCode.CORRUPT_DATA, f"session {session_id}")
        self.session_id = session_id
        self._parts, self._pending = [], 0

    def _end_answer(self, out: list[Output], now_ns: int, session_id: int, body: bytes) -> None:
        if self._parts is None or session_id != self.session_id:
            raise _PduError(ErrorCode.CORRUPT_DATA, "unexpected END_OF_DATA")
        if len(body) + _HEADER != _END_OF_DATA[self.version]:
            raise _PduError(ErrorCode.CORRUPT_DATA, f"{len(body) + _HEADER} octets of END_OF_DATA")
        before = Payloads() if self._reset else self.payloads
        try:
            payloads = before.changed(self._parts)
        except PayloadsError as error:
            duplicate = ErrorCode.DUPLICATE_ANNOUNCEMENT
            code = duplicate if error.announced else ErrorCode.UNKNOWN_WITHDRAWAL
            raise _PduError(code, f"payload {error}") from error
        if len(payloads) > self.limit:
            raise _PduError(ErrorCode.INTERNAL_ERROR, f"more than {self.limit} payloads")
        changed = self._reset or self._pending > 0
        self.payloads, self._parts = payloads, None
        (self.serial,) = struct.unpack_from(">I", body)
        if self.version >= 1:
            self._set_intervals(*struct.unpack_from(">III", body, 4))
        self._delay, self._answer_by = _FIRST_DELAY, NEVER
        self._refresh_at = now_ns + self._refresh * SECOND
        self._expire_at = now_ns + self._expire * SECOND
        if changed:
            out.append(Publish(payloads.roas(), self.serial))

    def _set_intervals(self, refresh: int, retry: int, expire: int) -> None:
        """Those of the cache, within what RFC 8210 section 6 allows."""
        self._refresh = min(max(refresh, _REFRESH[1]), _REFRESH[2])
        self._retry = min(max(retry, _RETRY[1]), _RETRY[2])
        least = max(_EXPIRE[1], self._refresh + 1, self._retry + 1)
        self._expire = min(max(expire, least), _EXPIRE[2])

    def _hear_error(self, out: list[Output], now_ns: int, code: int, body: bytes) -> None:
        """RFC 8210 sections 5.11 and 7."""
        version = self._buffer[self._at]
        if code == ErrorCode.NO_DATA_AVAILABLE:
            self._answer_by, self._parts = NEVER, None
            self._refresh_at = now_ns + self._retry * SECOND
            return
        if code == ErrorCode.UNSUPPORTED_VERSION and self.version > 0 and not self._agreed:
            self.version = min(version, self.version - 1)
            self._delay = _FIRST_DELAY
        (quoted,) = struct.unpack_from(">I", body)
        text = body[8 + quoted :][:200].decode("utf-8", "replace").rstrip("\0")
        self._give_up(out, now_ns, f"the cache reports error {code}: {text!r}")

    # -- what it does

    def _query(self, out: list[Output], now_ns: int) -> None:
        self._refresh_at = NEVER
        self._answer_by = now_ns + _ANSWER
        self._parts = None
        self._reset = self.session_id is None
        if self.session_id is None:
            pdu = struct.pack(">BBHI", self.version, _Pdu.RESET_QUERY, 0, 8)
        else:
            head = struct.pack(">BBHI", self.version, _Pdu.SERIAL_QUERY, self.session_id, 12)
            pdu = head + struct.pack(">I", self.serial)
        out.append(Send(pdu))

    def _report(self, out: list[Output], code: ErrorCode, text: str) -> None:
        """Error Report about the PDU that stands first in the buffer; never about another one."""
        pdu = self._buffer[self._at :]
        if pdu[1] == _Pdu.ERROR_REPORT:
            return
        quoted = pdu[: min(int.from_bytes(pdu[4:8], "big"), _QUOTED)]
        told = text.encode()
        size = 16 + len(quoted) + len(told)
        head = struct.pack(">BBHII", self.version, _Pdu.ERROR_REPORT, code, size, len(quoted))
        out.append(Send(head + quoted + struct.pack(">I", len(told)) + told))

    def _give_up(self, out: list[Output], now_ns: int, reason: str) -> None:
        """Close the connection; what was learnt incompletely is asked for anew."""
        if self._online:
            out.append(Disconnect(reason))
        self._go_offline(now_ns)

    def _go_offline(self, now_ns: int) -> None:
        if self._answer_by != NEVER:
            # Ask for everything next time: a cache that has begun a new session, and so does not
            # know the one it is asked about, may report an error or just close (seen of StayRTR).
            self.session_id = None
        self._online, self._parts, self._buffer, self._at = False, None, b"", 0
        self._refresh_at = self._answer_by = NEVER
        self._connect_at = now_ns + self._delay
        self._delay = min(2 * self._delay, self._retry * SECOND)

    def _forget(self, out: list[Output]) -> None:
        """Payloads that no cache vouches for any more validate nothing. The next query is for all,
        unless one is being answered.
        """
        self._expire_at = NEVER
        self.payloads = Payloads()
        if not self._reset or self._answer_by == NEVER:
            self.session_id = None
        out.append(Publish(RoaSet.empty(), None))
