"""Writing captures: UDP datagrams with all their headers, or ready-made frames."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flowray.wire.packets import address_words
from flowray.wire.pcap_writer_kernels import frame_datagrams, frame_sizes

__all__ = ["PcapWriter"]

_MAGIC = {True: 0xA1B23C4D, False: 0xA1B2C3D4}  # by: fractions are nanoseconds
_LINK = {True: 1, False: 101}  # by: with Ethernet header
_SNAP_LENGTH = 262144
_PAYLOAD_LIMIT = 65535 - 20 - 8  # what an IPv4 datagram without options holds
_SLICE = 8192  # datagrams framed at a time, so that memory stays small

Addresses = str | Sequence[str]
Numbers = int | Sequence[int] | NDArray[np.integer]


class PcapWriter:
    """Writes a little-endian pcap file of Ethernet or, with ``ethernet=False``, raw IP packets.

    Time stamps keep nanoseconds or, with ``nanoseconds=False``, are cut to microseconds.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, nanoseconds: bool = True, ethernet: bool = True
    ) -> None:
        self._tick_ns = 1 if nanoseconds else 1000
        self._ethernet = ethernet
        self._words: dict[str, tuple[int, int]] = {}
        self._file = Path(path).open("wb")  # noqa: SIM115 (closed by close)
        header = (_MAGIC[nanoseconds], 2, 4, 0, 0, _SNAP_LENGTH, _LINK[ethernet])
        self._file.write(struct.pack("<IHHiIII", *header))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def write_udp(
        self,
        src: Addresses,
        sport: Numbers,
        dst: Addresses,
        dport: Numbers,
        payloads: Sequence[bytes],
        times_ns: Numbers,
    ) -> None:
        """Write n UDP datagrams, with valid lengths and checksums.

        Addresses (text, IPv4 or IPv6), ports and times (ns since the epoch) are one for all or n.
        Raises ValueError for an address that is none or whose peer is of the other family, a port
        or time out of range, a payload over 65507 bytes, or counts that differ.
        """
        n = len(payloads)
        length = np.fromiter(map(len, payloads), np.int64, n)
        if n and int(length.max()) > _PAYLOAD_LIMIT:
            raise ValueError(f"payload: found {length.max()} bytes, allowed {_PAYLOAD_LIMIT}")
        source, target = self._addresses("src", src, n), self._addresses("dst", dst, n)
        from_port = _numbers("sport", sport, n, 65535)
        to_port = _numbers("dport", dport, n, 65535)
        time_ns = _numbers("times_ns", times_ns, n, ((1 << 32) - 1) * 1_000_000_000)
        if (_is_v4(source) != _is_v4(target)).any():
            raise ValueError("addresses: found IPv4 and IPv6 in one packet, allowed one family")
        for start in range(0, n, _SLICE):
            part = slice(start, start + _SLICE)
            blob = np.frombuffer(bytearray().join(payloads[part]), np.uint8)
            sizes = frame_sizes(source[part], length[part], self._ethernet)
            out = np.zeros(int(sizes.sum()), np.uint8)
            frame_datagrams(
                source[part], target[part], from_port[part], to_port[part], time_ns[part], blob,
                length[part], self._tick_ns, self._ethernet, out,
            )  # fmt: skip
            self._file.write(out.data)

    def write_frames(
        self,
        frames: Sequence[bytes],
        times_ns: Numbers,
        wire_lengths: Sequence[int] | None = None,
    ) -> None:
        """Write n frames as they are; `wire_lengths` are their lengths before they were cut."""
        times = _numbers("times_ns", times_ns, len(frames), ((1 << 32) - 1) * 1_000_000_000)
        wires: Iterable[int] = map(len, frames) if wire_lengths is None else wire_lengths
        for frame, time_ns, wire in zip(frames, times.tolist(), wires, strict=True):
            seconds, nanos = divmod(time_ns, 1_000_000_000)
            self._file.write(
                struct.pack("<IIII", seconds, nanos // self._tick_ns, len(frame), wire)
            )
            self._file.write(frame)

    def _addresses(self, name: str, texts: Addresses, n: int) -> NDArray[np.uint64]:
        """(n, 2) uint64 words of one address for all, or of n."""
        if isinstance(texts, str):
            return np.broadcast_to(np.array(address_words(texts), np.uint64), (n, 2)).copy()
        if len(texts) != n:
            raise ValueError(f"{name}: found {len(texts)} addresses, allowed 1 or {n}")
        # Few addresses stand in many packets: each is parsed once.
        for text in set(texts) - self._words.keys():
            self._words[text] = address_words(text)
        return np.array([self._words[text] for text in texts], np.uint64).reshape(n, 2)


def _is_v4(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    v4: NDArray[np.bool_] = (words[:, 0] == 0) & (words[:, 1] >> np.uint64(32) == 0xFFFF)
    return v4


def _numbers(name: str, values: Numbers, n: int, limit: int) -> NDArray[np.int64]:
    """(n,) int64 out of one number for all, or of n; ValueError beyond 0..limit."""
    given = np.asarray(values, np.int64)
    if given.ndim and len(given) != n:
        raise ValueError(f"{name}: found {len(given)} numbers, allowed 1 or {n}")
    wrong = given[(given < 0) | (given > limit)]
    if wrong.size:
        raise ValueError(f"{name}: found {wrong.flat[0]}, allowed 0 to {limit}")
    return np.broadcast_to(given, (n,)).copy()
