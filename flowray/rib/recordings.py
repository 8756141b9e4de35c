"""What a recording of a session does not tell: where a message begins if the beginning of the
stream was not captured, and how the routers encoded what they told if the OPEN of only one of them,
or of none, is there.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from flowray.route_fields import Protocol
from flowray.wire.bgp.events import Contexts, Updates
from flowray.wire.bgp.message_kernels import HEADER
from flowray.wire.bgp.messages import EXTENDED_LIMIT, MessageType
from flowray.wire.bgp.path_id_kernels import find_path_ids

__all__ = ["RecordedEncoding", "Search", "as_octets"]

_MARKER: Final = b"\xff" * 16
_BMP_HEADER = 6
_BMP_VERSIONS, _BMP_TYPES = (3, 4), range(7)

_AS_PATH = 2
_EXTENDED_LENGTH = 0x10
_SEGMENT_TYPES = range(1, 5)
_LOOKED_AT = 256  # UPDATEs of a batch
_TYPES = frozenset(MessageType)


class Search:
    """Looks for the first message of a stream that begins anywhere; at most a message is kept."""

    def __init__(self, protocol: Protocol, most: int) -> None:
        """`most`: octets of the longest message."""
        self._protocol, self._most = protocol, most
        self._data = b""
        self.skipped = 0
        """Octets before the first message."""

    def feed(self, data: bytes) -> bytes | None:
        """All octets from the first message on, once it is found."""
        self._data += data
        at = _find_bgp(self._data) if self._protocol == "bgp" else self._find_bmp()
        found = at < len(self._data)
        self.skipped += at
        self._data = self._data[at:]
        if not found or len(self._data) < HEADER:
            return None
        return self._data

    def _find_bmp(self) -> int:
        """Where a header is that another one follows, as far as can be seen."""
        data = self._data
        for at in range(len(data)):
            if data[at] in _BMP_VERSIONS and self._is_bmp(at):
                return at
        return len(data)

    def _is_bmp(self, at: int) -> bool:
        data = self._data
        for _ in range(2):
            head = data[at : at + _BMP_HEADER]
            length = int.from_bytes(head[1:5])
            if len(head) < _BMP_HEADER:
                return True
            if head[0] not in _BMP_VERSIONS or head[5] not in _BMP_TYPES:
                return False
            if not _BMP_HEADER <= length <= self._most:
                return False
            at += length
        return True


def _find_bgp(data: bytes) -> int:
    """Where a marker is, or may begin at the end, that a header goes on from."""
    at = data.find(_MARKER)
    while at >= 0:
        head = data[at : at + HEADER]
        if len(head) < HEADER:
            return at
        length = int.from_bytes(head[16:18])
        if HEADER <= length <= EXTENDED_LIMIT and head[18] in _TYPES:
            return at
        at = data.find(_MARKER, at + 1)
    return len(data.rstrip(b"\xff"))


def as_octets(message: bytes) -> Literal[2, 4] | None:
    """How many octets AS numbers take in the AS_PATH of an UPDATE (RFC 6793), if it can be only
    one.
    """
    path = _as_path(message)
    if path is None:
        return None
    two, four = _fits(path, 2), _fits(path, 4)
    if two == four:
        return None
    return 2 if two else 4


def _as_path(message: bytes) -> bytes | None:
    """The value of the AS_PATH, if there is one that is not empty."""
    at = HEADER + 2 + int.from_bytes(message[HEADER : HEADER + 2])
    end = min(at + 2 + int.from_bytes(message[at : at + 2]), len(message))
    at += 2
    while at + 3 <= end:
        wide = message[at] & _EXTENDED_LENGTH
        value = at + 4 if wide else at + 3
        after = value + int.from_bytes(message[at + 2 : value])
        if message[at + 1] == _AS_PATH:
            return message[value:after] if value < after <= end else None
        at = after
    return None


def _fits(path: bytes, octets: int) -> bool:
    at = 0
    while at + 2 <= len(path):
        if path[at] not in _SEGMENT_TYPES or not path[at + 1]:
            return False
        at += 2 + path[at + 1] * octets
    return at == len(path)


class RecordedEncoding:
    """How the peer of a recorded session encodes, as far as UPDATEs show it.

    What its own OPEN offers counts as agreed, as if the other router had offered it, too, until an
    AS_PATH fits AS numbers of the other size alone, or NLRI path identifiers of none.
    """

    def __init__(self, offered: Contexts) -> None:
        """`offered`: of one row."""
        self._four = bool(offered.four_octets[0])
        self._add_path = np.uint64(offered.add_path[0])
        self._known = False
        self._plain = np.zeros(1, np.uint64)

    def contexts(self, updates: Updates) -> Contexts:
        """One row for each of `updates`, whose `context` is made to tell which."""
        n = len(updates)
        if not self._known:
            self._learn(updates)
        add_path = np.full(n, self._add_path, np.uint64)
        if self._add_path:
            peer = np.zeros(n, np.int64)
            find_path_ids(
                updates.buf, updates.offset, updates.length, peer, self._plain, add_path
            )  # fmt: skip
        updates.context[:] = np.arange(n)
        return Contexts(np.full(n, self._four), add_path)

    def _learn(self, updates: Updates) -> None:
        some = slice(_LOOKED_AT)
        rows = zip(updates.offset[some].tolist(), updates.length[some].tolist(), strict=True)
        for at, octets in rows:
            found = as_octets(updates.buf[at : at + octets].tobytes())
            if found is not None:
                self._known, self._four = True, found == 4
                return
