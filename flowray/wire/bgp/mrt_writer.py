"""Writing MRT (RFC 6396, RFC 8050): what sessions received, and tables of routes."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from flowray.wire.bgp import mrt_writer_kernels as kernels
from flowray.wire.bgp.events import Contexts, Updates
from flowray.wire.bgp.families import FAMILIES, Family
from flowray.wire.bgp.mrt import MrtPeer, MrtStateChange

__all__ = ["MrtRoutes", "MrtWriter", "Sets", "message_records"]

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

_TABLE_DUMP_V2, _BGP4MP_ET = 13, 17
_PEER_INDEX_TABLE = 1
_STATE_CHANGE_AS4 = 5
_MESSAGE = {  # by (AS numbers of four octets, path identifiers)
    (False, False): 1,
    (True, False): 4,
    (False, True): 8,
    (True, True): 9,
}
_RIB = {(1, 1): 2, (1, 2): 3, (2, 1): 4, (2, 2): 5}
_RIB_GENERIC = 6
_AS_TRANS = 23456  # RFC 6793 section 9
_NUMBERS = np.array([(f.afi, f.safi) for f in FAMILIES], np.int64)
_SESSION_OCTETS = 44
_TABLE_OCTETS = 4 << 20  # written at a time
_PEER_LIMIT = 65535
_MAPPED = 0xFFFF
_LEVEL = 6


class Sets(Protocol):
    """Canonical attribute sets by id: set *i* is ``arena[offset[i] : offset[i + 1]]``."""

    @property
    def arena(self) -> U8:
        """(octets,) of all sets."""

    @property
    def offset(self) -> I64:
        """(sets + 1,)."""


@dataclass(frozen=True, slots=True)
class MrtRoutes:
    """Routes of one family as columns (n,), named as in `RouteEvents`.

    `peer` is a row of the index table. `nlri` has the octets of each route in families that are
    not of prefixes (path identifier excluded), and is empty otherwise.
    """

    peer: I64
    rd: U64
    path_id: U32
    hi: U64
    lo: U64
    plen: U8
    labels: U64
    attributes: U32
    nlri: Sequence[bytes] = ()


class MrtWriter:
    """Writes an MRT file, which gets its name when it is complete.

    As a context manager it closes the file, or discards it if an exception passes. Times are ns
    since the epoch.
    """

    def __init__(self, path: str | os.PathLike[str], *, compress: bool = False) -> None:
        self.path = Path(path)
        self.too_long = 0  # routes left out, for no record holds their attributes
        self._aside = self.path.with_name(f".{self.path.name}.part")
        self._plain = self._aside.open("wb")
        self._file: IO[bytes] | gzip.GzipFile = self._plain
        if compress:
            self._file = gzip.GzipFile("", "wb", _LEVEL, self._plain, mtime=0)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Complete the file and give it its name."""
        self._file.close()
        if not self._plain.closed:
            self._plain.flush()
            os.fsync(self._plain.fileno())
            self._plain.close()
        self._aside.replace(self.path)

    def discard(self) -> None:
        """Leave no file."""
        self._file.close()
        self._plain.close()
        self._aside.unlink(missing_ok=True)

    # -- sessions

    def write_messages(
        self, messages: Updates, contexts: Contexts, peers: Sequence[MrtPeer], peer: I64
    ) -> None:
        """Write n messages, of any type, as BGP4MP_ET; `peer` (n,) indexes `peers`."""
        self._file.write(message_records(messages, contexts, peers, peer).data)

    def write_state_change(self, change: MrtStateChange, peer: MrtPeer) -> None:
        """Write a change of state of a session (its `peer` is not looked at)."""
        body = _session(peer, four=True) + struct.pack(">HH", change.old, change.new)
        seconds, fraction = divmod(change.time_ns, 1_000_000_000)
        self._record(
            seconds, _BGP4MP_ET, _STATE_CHANGE_AS4, struct.pack(">I", fraction // 1000) + body
        )

    # -- tables

    def write_peers(self, time_ns: int, collector_id: int, peers: Sequence[MrtPeer]) -> None:
        """Write the PEER_INDEX_TABLE, before the routes (RFC 6396 section 4.3.1).

        Raises ValueError for more than 65535 peers.
        """
        if len(peers) > _PEER_LIMIT:
            raise ValueError(f"peers: found {len(peers)}, allowed {_PEER_LIMIT}")
        rows = [struct.pack(">IHH", collector_id, 0, len(peers))]
        for peer in peers:
            address = _address(peer.hi, peer.lo)
            kind = 2 | (len(address) == 16)
            rows.append(struct.pack(">BI", kind, peer.bgp_id) + address)
            rows.append(struct.pack(">I", peer.asn))
        seconds = time_ns // 1_000_000_000
        self._record(seconds, _TABLE_DUMP_V2, _PEER_INDEX_TABLE, b"".join(rows))

    def write_routes(self, time_ns: int, family: Family, routes: MrtRoutes, sets: Sets) -> None:
        """Write routes of a family, with `time_ns` for the time at which they came.

        Routes with a path identifier go into records of their own (RFC 8050 section 4).
        """
        base = _RIB.get((family.afi, family.safi), _RIB_GENERIC)
        seconds = time_ns // 1_000_000_000
        form = np.array(
            [family.afi, family.safi, family.shape, family.address_octets, base, seconds], np.int64
        )
        state = np.zeros(kernels.STATE_WORDS, np.int64)
        state[kernels.SEQUENCE] = self._sequence
        longest = int(np.diff(sets.offset).max(initial=0))
        out = np.empty(max(_TABLE_OCTETS, 4 * longest), np.uint8)
        full = True
        if family.of_prefixes:
            routes = _by_nlri(routes)
        else:
            nlri = np.frombuffer(b"".join(routes.nlri), np.uint8)
            ends = np.cumsum([0, *map(len, routes.nlri)])
        while full:
            if family.of_prefixes:
                full = kernels.put_prefixes(
                    routes.peer, routes.rd, routes.path_id, routes.hi, routes.lo, routes.plen,
                    routes.labels, routes.attributes, sets.arena, sets.offset, form, state, out,
                )  # fmt: skip
            else:
                full = kernels.put_opaque(
                    routes.peer, routes.path_id, routes.attributes, nlri, ends, sets.arena,
                    sets.offset, form, state, out,
                )  # fmt: skip
            self._file.write(out[: int(state[kernels.OCTETS])].data)
        self._sequence = int(state[kernels.SEQUENCE])
        self.too_long += int(state[kernels.TOO_LONG])

    def _record(self, seconds: int, kind: int, subtype: int, body: bytes) -> None:
        header = struct.pack(">IHHI", seconds & 0xFFFFFFFF, kind, subtype, len(body))
        self._file.write(header + body)


def message_records(
    messages: Updates, contexts: Contexts, peers: Sequence[MrtPeer], peer: I64
) -> U8:
    """The BGP4MP_ET records (octets,) of n messages of any type; `peer` (n,) indexes `peers`."""
    n = len(messages)
    path_ids = np.zeros(n, np.uint8)
    kernels.uses_path_ids(
        messages.buf, messages.offset, messages.length, messages.context, contexts.add_path,
        _NUMBERS, path_ids,
    )  # fmt: skip
    four = contexts.four_octets[messages.context]
    form = four + 2 * path_ids.astype(np.int64)
    subtype = np.array(
        [_MESSAGE[bool(i & 1), bool(i & 2)] for i in range(4)], np.int64
    )[form]  # fmt: skip
    session, row = np.unique(2 * peer + four, return_inverse=True)
    octets = np.zeros((len(session), _SESSION_OCTETS), np.uint8)
    size = np.zeros(len(session), np.int64)
    for i, key in enumerate(session.tolist()):
        raw = _session(peers[key >> 1], four=bool(key & 1))
        octets[i, : len(raw)] = np.frombuffer(raw, np.uint8)
        size[i] = len(raw)
    out = np.empty(int((messages.length + size[row] + 16).sum()), np.uint8)
    kernels.put_messages(
        messages.buf, messages.offset, messages.length, messages.time_ns, subtype,
        row.astype(np.int64), octets, size, out,
    )  # fmt: skip
    return out


def _by_nlri(routes: MrtRoutes) -> MrtRoutes:
    """The routes so that those of an NLRI stand together, by address; else as they stood."""
    with_ids = routes.path_id > 0
    keys: tuple[npt.NDArray[Any], ...] = (
        with_ids, routes.labels, routes.rd, routes.plen, routes.lo, routes.hi,
    )  # fmt: skip
    told = [key for key in keys if len(key) and (key != key[0]).any()]
    if not told:
        return routes
    order = np.lexsort(told)
    columns = (f.name for f in fields(MrtRoutes) if f.name != "nlri")
    return MrtRoutes(*(getattr(routes, name)[order] for name in columns))


def _session(peer: MrtPeer, *, four: bool) -> bytes:
    """What stands before a message: AS numbers, interface, family, addresses (RFC 6396 section
    4.4.2). A collector that does not tell its address has that of the family that is unset.
    """
    remote = _address(peer.hi, peer.lo)
    local = _address(peer.local_hi, peer.local_lo)
    if len(local) != len(remote):
        local = bytes(len(remote))
    numbers = [peer.asn, peer.local_as]
    if four:
        head = struct.pack(">II", *numbers)
    else:
        head = struct.pack(">HH", *(n if n <= _PEER_LIMIT else _AS_TRANS for n in numbers))
    return head + struct.pack(">HH", 0, 1 if len(remote) == 4 else 2) + remote + local


def _address(hi: int, lo: int) -> bytes:
    """4 octets of an address that is v4-mapped, else 16."""
    if hi == 0 and lo >> 32 == _MAPPED:
        return struct.pack(">I", lo & 0xFFFFFFFF)
    return struct.pack(">QQ", hi, lo)
