"""Reading captures (pcap and pcapng, also gzipped) into batches of UDP payloads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from flowray.errors import CaptureError
from flowray.wire import frame_kernels as frames
from flowray.wire import pcap_kernels as kernels
from flowray.wire.capture_merge import merge_captures
from flowray.wire.capture_source import open_source
from flowray.wire.fragments import Fragment, Reassembler
from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.pcap_writer import PcapWriter

__all__ = ["CaptureReader", "CaptureReport", "PcapWriter", "merge_captures", "read_packets"]

_CLASSIC = {  # magic as it stands in the file: (big endian, ns per tick of the fraction)
    b"\xa1\xb2\xc3\xd4": (1, 1000),
    b"\xd4\xc3\xb2\xa1": (0, 1000),
    b"\xa1\xb2\x3c\x4d": (1, 1),
    b"\x4d\x3c\xb2\xa1": (0, 1),
}
_SECTION = b"\x0a\x0d\x0d\x0a"
_SECTION_KIND = 0x0A0D0D0A

# Link type (https://www.tcpdump.org/linktypes.html): position of the EtherType (-1 none, -2 a BSD
# address family), length of the link header.
_LINKS = {
    0: (-2, 4),  # NULL
    1: (12, 14),  # ETHERNET
    12: (-1, 0),  # raw IP, as numbered by most BSDs
    14: (-1, 0),  # raw IP, as numbered by OpenBSD
    101: (-1, 0),  # RAW
    108: (-2, 4),  # LOOP
    113: (14, 16),  # LINUX_SLL
    228: (-1, 0),  # IPV4
    229: (-1, 0),  # IPV6
    276: (0, 20),  # LINUX_SLL2
}
_UNKNOWN_LINK = (-1, -1)

_FRAGMENT_ROWS = 1024
_CHUNK_BYTES = 128 << 20  # of capture per batch at most, which bounds what a gathered batch copies
_FAR = 1 << 62  # ns; the largest offset of an interface believed


@dataclass(slots=True)
class CaptureReport:
    """What a capture held; complete when the reader is exhausted, growing until then.

    ``packets + reassembled`` equals ``datagrams + not_udp + other_port + fragments + malformed +
    unknown_link``.
    """

    packets: int = 0  # records of the capture
    datagrams: int = 0  # UDP payloads delivered
    bytes: int = 0  # of the payloads delivered
    not_udp: int = 0
    other_port: int = 0  # UDP to a port that was not asked for
    fragments: int = 0  # packets that were IP fragments
    reassembled: int = 0  # IP datagrams joined from fragments
    fragments_unused: int = 0  # fragments of datagrams that never got complete, and duplicates
    truncated: int = 0  # datagrams delivered short, for the capture had cut them
    malformed: int = 0  # headers cut or contradicting themselves
    unknown_link: int = 0  # packets of an interface whose link type is not understood
    cut_off: bool = False  # the file ends, or stops making sense, within a record
    fault: str = ""  # where and why, if cut_off
    bytes_read: int = 0  # of the file, for progress
    total_bytes: int = 0  # of the file, 0 if unknown (a pipe)


class _Chunk:
    """The arrays that one run of a walk fills."""

    def __init__(self, capacity: int) -> None:
        self.offset: NDArray[np.int64] = np.empty(capacity, np.int64)
        self.length: NDArray[np.int64] = np.empty(capacity, np.int64)
        self.arrival: NDArray[np.int64] = np.empty(capacity, np.int64)
        self.port: NDArray[np.uint16] = np.empty(capacity, np.uint16)
        self.hi: NDArray[np.uint64] = np.empty(capacity, np.uint64)
        self.lo: NDArray[np.uint64] = np.empty(capacity, np.uint64)


@dataclass(frozen=True, slots=True)
class _Joined:
    """A datagram made of fragments, to stand before datagram `before` of its chunk."""

    before: int
    time_ns: int
    hi: int
    lo: int
    port: int
    payload: bytes


class CaptureReader:
    """Iterates once over the UDP payloads of a capture, as `PacketBatch`es in capture order.

    Reads pcap (microseconds and nanoseconds, both byte orders) and pcapng (any number of sections
    and interfaces), by content also gzipped or from a pipe.  A regular file is mapped and batches
    point into it; it must not shrink meanwhile.  Senders are numbered by `exporters`.  `ports` are
    the destination ports wanted, None for all.  IP fragments are joined.  Arrival times never
    decrease: a packet earlier than its predecessor counts as simultaneous.

    Raises CaptureError, on creation, for a file that is missing, empty or not a capture.  One that
    is cut off gives what it holds and says so in `report`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        exporters: Exporters,
        ports: frozenset[int] | None = None,
        packets_per_batch: int = 65536,
    ) -> None:
        if packets_per_batch < 1:
            raise ValueError(f"packets per batch: found {packets_per_batch}, allowed 1 or more")
        self.path = os.fspath(path)
        self._exporters = exporters
        self._capacity = packets_per_batch
        self._ports = _port_set(ports)
        self._state: NDArray[np.int64] = np.zeros(frames.STATE_WORDS, np.int64)
        self._counters: NDArray[np.int64] = np.zeros(frames.OUTCOMES, np.int64)
        self._fragments: NDArray[np.uint64] = np.empty(
            (_FRAGMENT_ROWS, frames.FRAGMENT_WORDS), np.uint64
        )
        self._interfaces: NDArray[np.int64] = np.zeros((1, 6), np.int64)
        self._interface_count = 0
        self._reassembler = Reassembler()
        self._snapped_fragments = 0
        self._joined: list[_Joined] = []
        self._walk = kernels.walk_classic
        self._report = CaptureReport()
        self._closed = False
        self._source = open_source(path)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

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
        """Close the file, ending the iteration; batches handed out stay valid."""
        self._closed = True
        self._source.close()

    @property
    def report(self) -> CaptureReport:
        """What was read so far."""
        report, counters = self._report, self._counters
        report.packets = int(counters[frames.PACKETS])
        report.datagrams = int(counters[frames.DATAGRAM])
        report.not_udp = int(counters[frames.NOT_UDP])
        report.other_port = int(counters[frames.OTHER_PORT])
        report.fragments = int(counters[frames.FRAGMENT])
        report.truncated = int(counters[frames.TRUNCATED])
        report.malformed = int(counters[frames.MALFORMED])
        report.unknown_link = int(counters[frames.UNKNOWN_LINK])
        report.fragments_unused = self._reassembler.unused + self._snapped_fragments
        return report

    def __iter__(self) -> Iterator[PacketBatch]:
        """Batches of at least one datagram and about `packets_per_batch` at most."""
        try:
            yield from self._batches()
        finally:
            self.close()

    def _batches(self) -> Iterator[PacketBatch]:
        if self._closed:
            return
        chunk = self._new_chunk()
        while True:
            stop = self._walk(
                self._source.data, self._state, self._interfaces[: self._interface_count],
                self._ports, chunk.offset, chunk.length, chunk.arrival, chunk.port, chunk.hi,
                chunk.lo, self._fragments, self._counters,
            )  # fmt: skip
            self._join_fragments()
            position = int(self._state[frames.POSITION])
            self._report.bytes_read = self._source.bytes_read(position)
            if stop == kernels.CONTROL:
                self._describe(position)
                continue
            if stop == kernels.FULL and not self._is_full():
                continue  # only the list of fragments was full
            if self._state[frames.COUNT] or self._joined:
                yield self._batch(chunk)
                if self._closed:
                    return
            if stop == kernels.DAMAGED or (stop == kernels.STARVED and self._source.final):
                break
            if stop == kernels.STARVED:
                self._more(position)
            chunk = self._new_chunk()
        self._end(stop == kernels.DAMAGED)

    def _begin(self) -> None:
        """Recognise the file by its first bytes."""
        source = self._source
        while len(source.data) < 24 and not source.final:
            source.more(0)
        self._report.total_bytes = source.total_bytes
        head = source.data[:24].tobytes()
        if not head:
            raise CaptureError(f"{self.path}: {source.fault or 'the file is empty'}")
        if head[:4] == _SECTION and self._begin_next_generation(head):
            self._walk = kernels.walk_next_generation
        elif head[:4] in _CLASSIC:
            self._begin_classic(head)
        else:
            found = f"a file that begins with {head[:4].hex(' ')}"
            raise CaptureError(f"{self.path}: found {found}, allowed pcap or pcapng")

    def _begin_next_generation(self, head: bytes) -> bool:
        return head[8:12] in {b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"}

    def _begin_classic(self, head: bytes) -> None:
        big, tick_ns = _CLASSIC[head[:4]]
        if len(head) < 24:
            raise CaptureError(f"{self.path}: found {len(head)} bytes, a pcap header has 24")
        # The upper bits tell of a frame check sequence, which the IP length leaves out anyway.
        link = int.from_bytes(head[20:24], "big" if big else "little") & 0x3FFFFFF
        if link not in _LINKS:
            allowed = ", ".join(map(str, sorted(_LINKS)))
            raise CaptureError(f"{self.path}: found link type {link}, allowed {allowed}")
        self._state[frames.BIG] = big
        self._state[frames.POSITION] = 24
        self._add_interface((*_LINKS[link], 0, tick_ns, 0, 0))

    def _describe(self, position: int) -> None:
        """Take the section header or interface description, complete, at `position`."""
        data = self._source.data
        order = ">u4" if self._state[frames.BIG] else "<u4"
        kind, size = (int(word) for word in data[position : position + 8].view(order))
        if kind == _SECTION_KIND:
            self._interface_count = 0
        else:
            body = data[position + 8 : position + size - 4].tobytes()
            self._add_interface(_interface(body, big=bool(self._state[frames.BIG])))
        self._state[frames.POSITION] = position + size

    def _add_interface(self, row: tuple[int, ...]) -> None:
        if self._interface_count == len(self._interfaces):
            self._interfaces = np.concatenate([self._interfaces, np.zeros_like(self._interfaces)])
        self._interfaces[self._interface_count] = row
        self._interface_count += 1

    def _new_chunk(self) -> _Chunk:
        state = self._state
        state[frames.COUNT] = 0
        state[frames.LIMIT] = state[frames.POSITION] + _CHUNK_BYTES
        # A datagram takes more than 16 bytes of file: a small file needs no big arrays.
        left = len(self._source.data) - int(state[frames.POSITION])
        return _Chunk(min(self._capacity, left // 16 + 1))

    def _is_full(self) -> bool:
        state = self._state
        full = state[frames.COUNT] >= self._capacity
        return bool(full or state[frames.POSITION] >= state[frames.LIMIT])

    def _more(self, position: int) -> None:
        self._source.more(position)
        self._state[frames.POSITION] = 0

    def _batch(self, chunk: _Chunk) -> PacketBatch:
        n = int(self._state[frames.COUNT])
        batch = PacketBatch(
            self._source.data,
            chunk.offset[:n],
            chunk.length[:n],
            self._exporters.intern(chunk.hi[:n], chunk.lo[:n]),
            chunk.arrival[:n],
            chunk.port[:n],
        )
        if self._joined:
            batch = self._insert_joined(batch)
        self._report.bytes += int(batch.length.sum())
        return batch

    def _insert_joined(self, batch: PacketBatch) -> PacketBatch:
        """The batch with the datagrams made of fragments where their last fragment stood."""
        joined, self._joined = self._joined, []
        length = np.array([len(one.payload) for one in joined], np.int64)
        hi = np.array([one.hi for one in joined], np.uint64)
        lo = np.array([one.lo for one in joined], np.uint64)
        side = PacketBatch(
            np.frombuffer(bytearray().join(one.payload for one in joined), np.uint8),
            np.cumsum(length) - length,
            length,
            self._exporters.intern(hi, lo),
            np.array([one.time_ns for one in joined], np.int64),
            np.array([one.port for one in joined], np.uint16),
        )
        # Odd places are those of the batch, even ones the gaps between them.
        places = np.concatenate(
            [np.arange(len(batch)) * 2 + 1, [one.before * 2 for one in joined]]
        ).astype(np.int64)
        return PacketBatch.gather([batch, side], np.argsort(places, kind="stable"))

    def _join_fragments(self) -> None:
        """Hand the listed fragments to the reassembler, and keep the datagrams that come out."""
        count = int(self._state[frames.FRAGMENTS])
        self._state[frames.FRAGMENTS] = 0
        for row in self._fragments[:count].tolist():
            before, time_ns, hi, lo, to_hi, to_lo, ident, *rest = row
            protocol, offset, more, at, size, cut = rest
            if cut:
                self._snapped_fragments += 1  # would leave a hole that nothing ever fills
                continue
            key = (hi, lo, to_hi, to_lo, ident)
            payload = self._source.data[at : at + size].tobytes()
            fragment = Fragment(key, time_ns, protocol, offset, bool(more), payload)
            whole = self._reassembler.add(fragment)
            if whole is not None:
                self._report.reassembled += 1
                self._keep(before, time_ns, hi, lo, *whole)

    def _keep(
        self, before: int, time_ns: int, hi: int, lo: int, protocol: int, payload: bytes
    ) -> None:
        data = np.frombuffer(bytearray(payload), np.uint8)
        outcome, at, size, port = frames.dissect_transport(
            data, 0, len(data), len(data), protocol, self._ports
        )
        if outcome == frames.FRAGMENT:  # a fragment within a datagram made of fragments
            outcome = frames.MALFORMED
        self._counters[outcome] += 1
        if outcome == frames.DATAGRAM:
            self._joined.append(
                _Joined(before, time_ns, hi, lo, int(port), payload[at : at + size])
            )

    def _end(self, damaged: bool) -> None:
        self._reassembler.finish()
        source, report = self._source, self._report
        position = int(self._state[frames.POSITION])
        left = len(source.data) - position
        report.cut_off = damaged or left > 0 or bool(source.fault)
        if report.cut_off:
            why = "damaged record" if damaged else f"cut off, {left} bytes of a record left"
            report.fault = f"{self.path}: byte {source.base + position}: {source.fault or why}"


def read_packets(
    path: str | os.PathLike[str],
    exporters: Exporters,
    ports: frozenset[int] | None = None,
    packets_per_batch: int = 65536,
) -> Iterator[PacketBatch]:
    """The batches of a `CaptureReader` with these arguments; errors are raised by this call."""
    return iter(CaptureReader(path, exporters, ports, packets_per_batch))


def _port_set(ports: frozenset[int] | None) -> NDArray[np.bool_]:
    """(65536,) bool by port number; raises ValueError for a number that is no port."""
    if ports is None:
        return np.ones(65536, np.bool_)
    wrong = sorted(port for port in ports if not 0 <= port <= 65535)
    if wrong:
        raise ValueError(f"port: found {wrong[0]}, allowed 0 to 65535")
    wanted = np.zeros(65536, np.bool_)
    wanted[list(ports)] = True
    return wanted


def _interface(body: bytes, *, big: bool) -> tuple[int, ...]:
    """Row of the interface table from an interface description (pcapng draft, section 4.2)."""
    order: Literal["big", "little"] = "big" if big else "little"
    if len(body) < 8:
        return (*_UNKNOWN_LINK, 0, 1000, 0, 0)
    link = int.from_bytes(body[:2], order)
    snap = int.from_bytes(body[4:8], order)
    options = _options(body[8:], big=big)
    resolution = options.get(9, b"\x06")[:1] or b"\x06"
    seconds = int.from_bytes(options.get(14, b"")[:8], order, signed=True)
    offset_ns = max(-_FAR, min(seconds * 1_000_000_000, _FAR))
    return (*_LINKS.get(link, _UNKNOWN_LINK), *_scale(resolution[0]), offset_ns, snap)


def _options(body: bytes, *, big: bool) -> dict[int, bytes]:
    """Options by code, the first of each (pcapng draft, section 3.5)."""
    order: Literal["big", "little"] = "big" if big else "little"
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(body):
        code = int.from_bytes(body[at : at + 2], order)
        size = int.from_bytes(body[at + 2 : at + 4], order)
        if code == 0:
            break
        found.setdefault(code, body[at + 4 : at + 4 + size])
        at += 4 + (size + 3) // 4 * 4
    return found


def _scale(resolution: int) -> tuple[int, int]:
    """Mode and factor (see `_interface_time`) of an if_tsresol byte: 10 ** -n, or 2 ** -n."""
    exponent = resolution & 0x7F
    if resolution & 0x80:
        return 2, min(exponent, 95)  # finer ones differ by less than a nanosecond
    if exponent <= 9:
        return 0, 10 ** (9 - exponent)
    return 1, 10 ** min(exponent - 9, 18)
