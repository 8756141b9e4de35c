"""Slots for datagrams in one memory, filled by recvmmsg(2): no copy and no Python per datagram.

The memory may be a file that outlives the process. All that the kernel writes is in it: payloads,
senders, and the length of each datagram, which is `UNFILLED` before. So a successor sees what its
predecessor had received, even what the kernel filled in the moment of its death.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
from contextlib import suppress

import numpy as np
import numpy.typing as npt

HEAD = 2048
"""Octets of a slot: what nearly every datagram fits in."""

FULL = 1 << 16
"""Octets of the place that a longer datagram goes to: any UDP payload fits."""

NAME = 28
"""Octets of a struct sockaddr_in6, the longer of the two kinds."""

MSG_DONTWAIT = 0x40

UNFILLED = 0xFFFFFFFF
"""Length of a datagram in a slot that is not filled."""

FAR_LIMIT = 64 << 20
"""Octets of places for long datagrams in use at which the slots count as crowded."""

PAGE = 4096
_MAGIC = b"flowslot"
_VERSION = 1
_START = struct.Struct("<8sII")
_BEGUN, _ATTEMPTS = 2, 3  # words of the first page behind _START

# struct iovec, and struct mmsghdr with its struct msghdr, as on 64-bit Linux.
_IOVEC = np.dtype([("base", np.uint64), ("length", np.uint64)])
_MMSGHDR = np.dtype(
    [
        *(("name", np.uint64), ("name_length", np.uint64), ("iov", np.uint64)),
        *(("iov_length", np.uint64), ("control", np.uint64), ("control_length", np.uint64)),
        *(("flags", np.uint64), ("received", np.uint32), ("padding", np.uint32)),
    ]
)
_NAME_ROOM = 32
_LIBC = ctypes.CDLL(None, use_errno=True)
_QUIET = frozenset((errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED))
"""What recvmmsg says when there is nothing to take, or repeats of what ICMP told."""

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


def octets_of(n: int) -> int:
    """Octets of memory for n slots, without those of long datagrams, which take none until used."""
    return _heads_at(n) + n * HEAD


def size_of(n: int) -> int:
    """Octets of a file for n slots; most of it is a hole."""
    return octets_of(n) + n * FULL


def _heads_at(n: int) -> int:
    fixed = PAGE + n * (2 * _MMSGHDR.itemsize + 8 + _NAME_ROOM)
    return -(-fixed // PAGE) * PAGE


def slots_of(memory: mmap.mmap) -> int | None:
    """For how many slots a memory was laid out, None if it was not or in another way."""
    if len(memory) < PAGE:
        return None
    magic, version, n = _START.unpack_from(memory)
    good = magic == _MAGIC and version == _VERSION and 0 < n < 1 << 31
    return n if good and len(memory) == size_of(n) else None


class Slots:
    """`n` slots of HEAD octets side by side, so that usual datagrams lie dense in the cache.

    What does not fit in a slot is continued by the kernel in a place of FULL octets, untouched
    memory until then, and its beginning is copied in front of it. `buf` (n * (HEAD + FULL),) uint8
    holds all.

    Slots are filled in order, until `restart` frees all at once. There are two sets of lengths and
    a restart goes on with the other one, which is all `UNFILLED`: whoever notes somewhere which set
    counts (its `parity`) and only then restarts can be killed at any moment between.
    """

    def __init__(self, n: int, memory: mmap.mmap | None = None, parity: int = 0) -> None:
        """Lay out a memory of `size_of(n)` octets of zeros, anonymous if none is given; or go on
        with one that was laid out: see `adopt`.
        """
        self.n = n
        self.parity = parity
        self._memory = mmap.mmap(-1, size_of(n)) if memory is None else memory
        self._private = memory is None
        # With huge pages one long datagram would make 2 MiB of the second part resident.
        self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        whole: npt.NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8)
        heads_at = _heads_at(n)
        self._tails = n * HEAD
        self.buf = whole[heads_at:]
        self._heads = self.buf[: self._tails].reshape(n, HEAD)
        self._places = self.buf[self._tails :].reshape(n, FULL)
        self._places_at = heads_at + self._tails
        at = PAGE
        of_headers = n * _MMSGHDR.itemsize
        self._headers = whole[at : at + 2 * of_headers].view(_MMSGHDR).reshape(2, n)
        at += 2 * of_headers
        self._arrival = whole[at : at + 8 * n].view(np.int64)
        at += 8 * n
        self._names = whole[at : at + _NAME_ROOM * n].reshape(n, _NAME_ROOM)
        # The names that the kernel writes leave room for it.
        self._ports = self._names.view(np.uint16)[:, NAME // 2]
        self._words = whole[:PAGE].view(np.int64)
        self._far: list[int] = []
        self.used = 0
        if slots_of(self._memory) is None:
            self._clear(0, n)
            self._clear(1, n)
            _START.pack_into(self._memory, 0, _MAGIC, _VERSION, n)
        self._point()

    def _point(self) -> None:
        """Tell the kernel where slots are in this process."""
        n, slot = self.n, np.arange(self.n, dtype=np.uint64)
        base = np.uint64(self.buf.ctypes.data)
        self._vectors = np.zeros((n, 2), _IOVEC)
        self._vectors["base"][:, 0] = base + slot * np.uint64(HEAD)
        self._vectors["length"][:, 0] = HEAD
        self._vectors["base"][:, 1] = base + np.uint64(self._tails + HEAD) + slot * np.uint64(FULL)
        self._vectors["length"][:, 1] = FULL - HEAD
        self._headers["name"] = np.uint64(self._names.ctypes.data) + slot * np.uint64(_NAME_ROOM)
        self._headers["iov"] = np.uint64(self._vectors.ctypes.data) + slot * np.uint64(32)
        self._headers["iov_length"] = 2
        self._headers["control"] = 0
        self._headers["control_length"] = 0

    # -- filling -----------------------------------------------------------------------------------

    @property
    def crowded(self) -> bool:
        """Whether a restart should not wait: few slots are left, or much of them is far away."""
        return 4 * self.used >= 3 * self.n or len(self._far) * FULL >= FAR_LIMIT

    def receive(self, fd: int, limit: int) -> int:
        """Take what waits at a socket into the next slots, `limit` of them at most; how many
        datagrams. Raises OSError.
        """
        room = min(limit, self.n - self.used)
        if room <= 0:
            return 0
        count: int = _LIBC.recvmmsg(
            ctypes.c_int(fd),
            ctypes.c_void_p(self._headers[self.parity, self.used :].ctypes.data),
            ctypes.c_uint(room),
            ctypes.c_int(MSG_DONTWAIT),
            None,
        )
        if count < 0:
            code = ctypes.get_errno()
            if code in _QUIET:
                return 0
            raise OSError(code, f"recvmmsg: {os.strerror(code)}")
        self.used += count
        return count

    def begin(self, now_ns: int) -> None:
        """Note when datagrams are about to be taken: when those arrived that nobody stamps."""
        self._words[_BEGUN] = now_ns

    def stamp(self, first: int, arrival_ns: int, port: int) -> None:
        """Note when the slots from `first` on were filled, and on which port."""
        self._ports[first : self.used] = port
        self._arrival[first : self.used] = arrival_ns

    def restart(self) -> None:
        """Free all slots; the other set of lengths counts from now on."""
        used, old = self.used, self.parity
        self.parity, self.used = 1 - old, 0
        self._clear(old, used)
        self._arrival[:used] = 0
        self._give_back()
        self._words[_ATTEMPTS] = 0

    def _clear(self, parity: int, n: int) -> None:
        self._headers["received"][parity, :n] = UNFILLED
        self._headers["name_length"][parity, :n] = NAME

    def _give_back(self) -> None:
        """Let go of the memory of long datagrams."""
        if not self._far:
            return
        first, last = min(self._far), max(self._far)
        self._far = []
        advice = mmap.MADV_DONTNEED if self._private else mmap.MADV_REMOVE
        with suppress(OSError):  # a file system without holes
            start = self._places_at + first * FULL
            self._memory.madvise(advice, start, (last - first + 1) * FULL)

    # -- what a predecessor left -------------------------------------------------------------------

    def adopt(self) -> int:
        """Go on behind the slots that are filled; their number, the `used` of now.

        A length that no datagram has ends it: what is behind is not trusted.
        """
        length = self._headers["received"][self.parity]
        bad = np.flatnonzero(length > FULL)
        self.used = int(bad[0]) if bad.size else self.n
        other = 1 - self.parity
        # It may have been killed while it cleared these, which are those of before.
        self._clear(other, self.n)
        self._headers["received"][self.parity, self.used :] = UNFILLED
        self._headers["name_length"][self.parity, self.used :] = NAME
        self._arrival[self.used :] = 0
        self._words[_ATTEMPTS] += self.used > 0
        return self.used

    @property
    def attempts(self) -> int:
        """How often what is filled was adopted since the last restart."""
        return int(self._words[_ATTEMPTS])

    def arrivals(self, first: int, stop: int, least_ns: int, most_ns: int) -> I64:
        """When slots were filled (ns), within bounds and never decreasing."""
        found = self._arrival[first:stop]
        found = np.where(found == 0, self._words[_BEGUN], found)
        return np.maximum.accumulate(np.clip(found, least_ns, max(least_ns, most_ns)))

    # -- reading -----------------------------------------------------------------------------------

    def payloads(self, first: int, stop: int) -> tuple[I64, I64]:
        """Offset and length (stop - first,) of datagrams in `buf`."""
        length = self._headers["received"][self.parity, first:stop].astype(np.int64)
        offset = np.arange(first, stop, dtype=np.int64) * HEAD
        long = np.flatnonzero(length > HEAD)
        if long.size:
            slot = long + first
            self._places[slot, :HEAD] = self._heads[slot]
            offset[long] = self._tails + slot * FULL
            self._far += slot.tolist()
        return offset, length

    def ports(self, first: int, stop: int) -> npt.NDArray[np.uint16]:
        """Ports (stop - first,) that datagrams came to, 0 where nobody stamped them."""
        stamped = self._arrival[first:stop] != 0
        return np.where(stamped, self._ports[first:stop], np.uint16(0))

    def addresses(self, first: int, stop: int) -> tuple[U64, U64]:
        """Words (hi, lo) of the senders of datagrams first..stop-1, IPv4 as v4-mapped."""
        names = self._names[first:stop]
        v6 = names.view(np.uint16)[:, 0] == socket.AF_INET6
        if v6.all():
            words = np.ascontiguousarray(names[:, 8:24]).view(">u8").astype(np.uint64)
            return words[:, 0].copy(), words[:, 1].copy()
        v4 = np.ascontiguousarray(names[:, 4:8]).view(">u4")[:, 0].astype(np.uint64)
        hi, lo = np.zeros_like(v4), v4 | np.uint64(0xFFFF << 32)
        if v6.any():
            words = np.ascontiguousarray(names[v6, 8:24]).view(">u8").astype(np.uint64)
            hi[v6], lo[v6] = words[:, 0], words[:, 1]
        return hi, lo
