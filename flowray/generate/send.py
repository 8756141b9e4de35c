"""UDP sender: prebuilt datagrams at a steady rate, from several source addresses.

`sendmmsg(2)` is called through ctypes (which releases the GIL) on message headers that numpy lays
out for all datagrams at once, so a datagram costs no Python.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from flowray.generate.rows import Datagrams

MAX_BURST = 64
BURSTS_PER_SECOND = 1000
SEND_BUFFER = 4 << 20
RETRIES = 1000
RETRY_SECONDS = 0.0005
_BUSY = (errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM)
_IGNORED = (errno.EINTR, errno.ECONNREFUSED)

# struct iovec, and struct mmsghdr with its struct msghdr, as on 64-bit Linux.
_IOVEC = np.dtype([("base", np.uint64), ("length", np.uint64)])
_MMSGHDR = np.dtype(
    [
        *(("name", np.uint64), ("name_length", np.uint64), ("iov", np.uint64)),
        *(("iov_length", np.uint64), ("control", np.uint64), ("control_length", np.uint64)),
        *(("flags", np.uint64), ("sent", np.uint64)),
    ]
)
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class SendResult:
    """What a run of sending did; `cpu_seconds` are those of the sending thread."""

    sent: int
    octets: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Datagrams per second."""
        return self.sent / self.seconds if self.seconds else 0.0


class Sender:
    """UDP sockets connected to one collector, one for each source address.

    `source_addresses` are local addresses to bind to (on loopback any 127.0.0.x); a datagram of
    exporter i leaves from the i-th, modulo their number. An address may be given several times:
    every entry has its own source port. Raises OSError if one cannot be bound.
    """

    def __init__(self, address: str, port: int, source_addresses: Sequence[str] = ()) -> None:
        family, _, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
        self._sockets: list[socket.socket] = []
        try:
            for source in source_addresses or ("",):
                self._sockets.append(_connected(family, source, target))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(
        self,
        datagrams: Datagrams | Sequence[bytes],
        *,
        rate: float | None = None,
        limit: int | None = None,
        seconds: float | None = None,
        exporter: int = 0,
    ) -> SendResult:
        """Send in order, `rate` datagrams a second, or as fast as possible if None.

        Stops after `limit` datagrams or `seconds`. The schedule is absolute: a delay is caught up,
        not carried along. A sequence of bytes leaves from the source of `exporter`. That nobody
        listens (ECONNREFUSED) is not an error. Raises OSError for any other failure.
        """
        batch = datagrams if isinstance(datagrams, Datagrams) else Datagrams.of(datagrams, exporter)
        batch = batch.take(slice(0, limit))
        burst = _burst_size(rate)
        headers, keep = _headers(batch)
        order, runs = _runs(batch.exporter % len(self._sockets), burst)
        headers = headers[order]
        sent = 0
        cpu, start = time.thread_time(), time.monotonic()
        deadline = start + seconds if seconds is not None else float("inf")
        for first, stop, source, index in runs:
            if not _await(start + index * burst / rate if rate else 0.0, deadline):
                break
            sent += _send_all(self._sockets[source].fileno(), headers[first:stop])
        elapsed, used = time.monotonic() - start, time.thread_time() - cpu
        del keep
        return SendResult(sent, int(batch.length[order[:sent]].sum()), elapsed, used)


def _connected(family: int, source: str, target: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if source:
            sock.bind((source, 0))
        sock.connect(target)
    except OSError:
        sock.close()
        raise
    return sock


def _burst_size(rate: float | None) -> int:
    """Small bursts: what a millisecond holds, so that the receive buffer is never hit by more."""
    return MAX_BURST if rate is None else int(min(MAX_BURST, max(1, rate / BURSTS_PER_SECOND)))


def _headers(batch: Datagrams) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A message header for each datagram, (n,), and the I/O vectors that must outlive them."""
    vectors = np.zeros(len(batch), _IOVEC)
    vectors["base"] = batch.buffer.ctypes.data + batch.offset
    vectors["length"] = batch.length
    headers = np.zeros(len(batch), _MMSGHDR)
    headers["iov"] = vectors.ctypes.data + np.arange(len(batch)) * _IOVEC.itemsize
    headers["iov_length"] = 1
    return headers, vectors


def _runs(
    source: npt.NDArray[Any], burst: int
) -> tuple[npt.NDArray[np.int64], Iterator[tuple[int, int, int, int]]]:
    """The order of sending, and its runs (first, stop, source, number of the burst).

    Within a burst datagrams are ordered by source, since a system call serves one socket.
    """
    number = np.arange(len(source)) // burst
    order = np.lexsort((source, number))
    source = source[order]
    changes = (source[1:] != source[:-1]) | (number[1:] != number[:-1])
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(source)), np.bool_), changes]))
    stops = np.append(starts, len(source))[1:]
    columns = (starts, stops, source[starts], number[starts])
    return order, zip(*(column.tolist() for column in columns), strict=True)


def _await(due: float, deadline: float) -> bool:
    """Sleep until `due`; False if the deadline comes first."""
    now = time.monotonic()
    if now >= deadline or due >= deadline:
        return False
    if due > now:
        time.sleep(due - now)
    return True


def _send_all(fd: int, headers: npt.NDArray[Any]) -> int:
    """Send all of a run; returns their number."""
    done = failures = 0
    while done < len(headers):
        address = ctypes.c_void_p(headers.ctypes.data + done * _MMSGHDR.itemsize)
        count = _LIBC.sendmmsg(fd, address, ctypes.c_uint(len(headers) - done), 0)
        if count > 0:
            done += count
            failures = 0
            continue
        code = ctypes.get_errno()
        failures += 1
        if code not in (*_BUSY, *_IGNORED) or failures > RETRIES:
            raise OSError(code, f"sendmmsg: {os.strerror(code)}")
        if code in _BUSY:
            time.sleep(RETRY_SECONDS)
    return done


def main() -> None:
    """Send the UDP payloads of a capture: the command line of this module."""
    import argparse
    import json

    from flowray.generate.capture import read_capture

    parser = argparse.ArgumentParser("flowray.generate.send", description=main.__doc__)
    parser.add_argument("--to", required=True, help="address:port of the collector")
    parser.add_argument("--pcap", required=True, help="capture to read")
    parser.add_argument("--rate", type=float, help="datagrams a second; default: no limit")
    parser.add_argument("--limit", type=int, help="stop after as many datagrams")
    parser.add_argument("--seconds", type=float, help="stop after as many seconds")
    parser.add_argument("--port", type=int, action="append", help="only this destination port")
    parser.add_argument(
        "--source", action="append", default=[], help="source address; repeat for several exporters"
    )
    options = parser.parse_args()
    address, _, port = options.to.rpartition(":")
    datagrams = read_capture(options.pcap, ports=options.port)
    with Sender(address.strip("[]"), int(port), options.source) as sender:
        result = sender.send(
            datagrams, rate=options.rate, limit=options.limit, seconds=options.seconds
        )
    print(
        json.dumps(
            {
                "sent": result.sent,
                "bytes": result.octets,
                "seconds": round(result.seconds, 3),
                "rate": round(result.rate),
                "cpu_seconds": round(result.cpu_seconds, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
