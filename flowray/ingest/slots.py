"""Slots for datagrams in one buffer, filled by recvmmsg(2): no copy and no Python per datagram."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket

import numpy as np
import numpy.typing as npt

HEAD = 2048
"""Octets of a slot: what nearly every datagram fits in."""

FULL = 1 << 16
"""Octets of the place that a longer datagram goes to: any UDP payload fits."""

NAME = 28
"""Octets of a struct sockaddr_in6, the longer of the two kinds."""

MSG_DONTWAIT = 0x40

# struct iovec, and struct mmsghdr with its struct msghdr, as on 64-bit Linux.
_IOVEC = np.dtype([("base", np.uint64), ("length", np.uint64)])
_MMSGHDR = np.dtype(
    [
        *(("name", np.uint64), ("name_length", np.uint64), ("iov", np.uint64)),
        *(("iov_length", np.uint64), ("control", np.uint64), ("control_length", np.uint64)),
        *(("flags", np.uint64), ("received", np.uint64)),
    ]
)
_LIBC = ctypes.CDLL(None, use_errno=True)
_QUIET = frozenset((errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED))
"""What recvmmsg says when there is nothing to take, or repeats of what ICMP told."""


class Slots:
    """`n` slots of HEAD octets side by side, so that usual datagrams lie dense in the cache.

    What does not fit in a slot is continued by the kernel in a place of FULL octets, untouched
    memory until then, and its beginning is copied in front of it. `buf` (n * (HEAD + FULL),) uint8
    holds all; every `receive` uses it again.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._tails = n * HEAD
        self._memory = mmap.mmap(-1, n * (HEAD + FULL))
        # With huge pages one long datagram would make 2 MiB of the second part resident.
        self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.buf: npt.NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8)
        self._heads = self.buf[: self._tails].reshape(n, HEAD)
        self._places = self.buf[self._tails :].reshape(n, FULL)
        self._names = np.zeros((n, NAME), np.uint8)
        slot = np.arange(n, dtype=np.uint64)
        base = np.uint64(self.buf.ctypes.data)
        self._vectors = np.zeros((n, 2), _IOVEC)
        self._vectors["base"][:, 0] = base + slot * np.uint64(HEAD)
        self._vectors["length"][:, 0] = HEAD
        self._vectors["base"][:, 1] = base + np.uint64(self._tails + HEAD) + slot * np.uint64(FULL)
        self._vectors["length"][:, 1] = FULL - HEAD
        self._headers = np.zeros(n, _MMSGHDR)
        self._headers["name"] = np.uint64(self._names.ctypes.data) + slot * np.uint64(NAME)
        self._headers["iov"] = np.uint64(self._vectors.ctypes.data) + slot * np.uint64(32)
        self._headers["iov_length"] = 2

    def receive(self, fd: int, first: int) -> int:
        """Take what waits at a socket into the slots from `first` on; how many datagrams.

        Raises OSError.
        """
        if first >= self.n:
            return 0
        self._headers["name_length"][first:] = NAME
        count: int = _LIBC.recvmmsg(
            ctypes.c_int(fd),
            ctypes.c_void_p(self._headers.ctypes.data + first * _MMSGHDR.itemsize),
            ctypes.c_uint(self.n - first),
            ctypes.c_int(MSG_DONTWAIT),
            None,
        )
        if count < 0:
            code = ctypes.get_errno()
            if code in _QUIET:
                return 0
            raise OSError(code, f"recvmmsg: {os.strerror(code)}")
        return count

    def payloads(self, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Offset and length (n,) of the first n datagrams in `buf`."""
        length = (self._headers["received"][:n] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        offset = np.arange(n, dtype=np.int64) * HEAD
        long = np.flatnonzero(length > HEAD)
        if long.size:
            self._places[long, :HEAD] = self._heads[long]
            offset[long] = self._tails + long * FULL
        return offset, length

    def addresses(
        self, first: int, stop: int, family: int
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Words (hi, lo) of the senders of datagrams first..stop-1 from a socket of this family."""
        names = self._names[first:stop]
        if family == socket.AF_INET6:
            words = np.ascontiguousarray(names[:, 8:24]).view(">u8").astype(np.uint64)
            return words[:, 0].copy(), words[:, 1].copy()
        v4 = np.ascontiguousarray(names[:, 4:8]).view(">u4")[:, 0].astype(np.uint64)
        return np.zeros_like(v4), v4 | np.uint64(0xFFFF << 32)
