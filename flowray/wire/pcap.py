"""Reading captures (pcap and pcapng, also gzipped) into batches of UDP and TCP payloads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from flowray.errors import CaptureError
from flowray.wire import frame_kernels as frames
from flowray.wire import pcap_kernels as kernels
from flowray.wire.capture_chunk import Chunk
from flowray.wire.capture_links import LINKS, interface_row
from flowray.wire.capture_merge import merge_captures
from flowray.wire.capture_source import open_source
from flowray.wire.fragments import Fragment, Reassembler
from flowray.wire.packets import Exporters, PacketBatch
from flowray.wire.pcap_writer import PcapWriter
from flowray.wire.segments import Batch

__all__ = ["CaptureReader", "CaptureReport", "PcapWriter", "merge_captures", "read_packets"]

_CLASSIC = {  # magic as it stands in the file: (big endian, ns per tick of the fraction)
    b"\xa1\xb2\xc3\xd4": (1, 1000),
    b"\xd4\xc3\xb2\xa1": (0, 1000),
    b"\xa1\xb2\x3c\x4d": (1, 1),
    b"\x4d\x3c\xb2\xa1": (0, 1),
}
_SECTION = b"\x0a\x0d\x0d\x0a"
_SECTION_KIND = 0x0A0D0D0A

_LISTED_ROWS = 1024  # fragments and segments between two returns of a walk
_CHUNK_BYTES = 128 << 20  # of capture per batch at most, which bounds what a gathered batch copies


@dataclass(slots=True)
class CaptureReport:
    """What a capture held; complete when the reader is exhausted, growing until then.

    ``packets + reassembled`` equals ``datagrams + segments + acknowledgements + not_udp +
    other_port + fragments + malformed + unknown_link``.
    """

    packets: int = 0  # records of the capture
    datagrams: int = 0  # UDP payloads delivered
    segments: int = 0  # TCP segments delivered
    acknowledgements: int = 0  # TCP segments to a wanted port that have nothing to deliver
    bytes: int = 0  # of the payloads delivered
    not_udp: int = 0  # nor TCP to a port that was asked for
    other_port: int = 0  # UDP to a port that was not asked for
    fragments: int = 0  # packets that were IP fragments
    reassembled: int = 0  # IP datagrams joined from fragments
    fragments_unused: int = 0  # fragments of datagrams that never got complete, and duplicates
    truncated: int = 0  # datagrams and segments delivered short, for the capture had cut them
    malformed: int = 0  # headers cut or contradicting themselves
    unknown_link: int = 0  # packets of an interface whose link type is not understood
    cut_off: bool = False  # the file ends, or stops making sense, within a record
    fault: str = ""  # where and why, if cut_off
    bytes_read: int = 0  # of the file, for progress
    total_bytes: int = 0  # of the file, 0 if unknown (a pipe)


_B = TypeVar("_B", bound=Batch)


class CaptureReader(Generic[_B]):
    """Iterates once over the UDP payloads of a capture, as `PacketBatch`es in capture order.

    With `tcp_ports`, TCP segments to these destination ports come as well, as `SegmentBatch`es; a
    batch ends where the kind changes.

    Reads pcap (microseconds and nanoseconds, both byte orders) and pcapng (any number of sections
    and interfaces), by content also gzipped or from a pipe.  A regular file is mapped and batches
    point into it; it must not shrink meanwhile.  Senders are numbered by `exporters`.  `ports` are
    the destination ports wanted, None for all.  IP fragments are joined.  Arrival times never
    decrease: a packet earlier than its predecessor counts as simultaneous.

    Raises CaptureError, on creation, for a file that is missing, empty or not a capture.  One that
    is cut off gives what it holds and says so in `report`.
    """

    @overload
    def __init__(
        self: CaptureReader[PacketBatch],
        path: str | os.PathLike[str],
        exporters: Exporters,
        ports: frozenset[int] | None = None,
        packets_per_batch: int = 65536,
    ) -> None: ...

    @overload
    def __init__(
        self: CaptureReader[Batch],
        path: str | os.PathLike[str],
        exporters: Exporters,
        ports: frozenset[int] | None = None,
        packets_per_batch: int = 65536,
        *,
        tcp_ports: frozenset[int],
    ) -> None: ...

    def __init__(
        self,
        path: str | os.PathLike[str],
        exporters: Exporters,
        ports: frozenset[int] | None = None,
        packets_per_batch: int = 65536,
        *,
        tcp_ports: frozenset[int] = frozenset(),
    ) -> None:
        if packets_per_batch < 1:
            raise ValueError(f"packets per batch: found {packets_per_batch}, allowed 1 or more")
        self.path = os.fspath(path)
        self._exporters = exporters
        self._capacity = packets_per_batch
        self._ports = np.concatenate([_port_set(ports), _port_set(tcp_ports)])
        self._state: NDArray[np.int64] = np.zeros(frames.STATE_WORDS, np.int64)
        self._state[frames.TCP] = bool(tcp_ports)
        self._counters: NDArray[np.int64] = np.zeros(frames.OUTCOMES, np.int64)
        self._listed: NDArray[np.uint64] = np.empty((_LISTED_ROWS, frames.LISTED_WORDS), np.uint64)
        self._interfaces: NDArray[np.int64] = np.zeros((1, 6), np.int64)
        self._interface_count = 0
        self._reassembler = Reassembler()
        self._snapped_fragments = 0
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
        report.segments = int(counters[frames.SEGMENT])
        report.acknowledgements = int(counters[frames.ACKNOWLEDGEMENT])
        report.not_udp = int(counters[frames.NOT_UDP])
        report.other_port = int(counters[frames.OTHER_PORT])
        report.fragments = int(counters[frames.FRAGMENT])
        report.truncated = int(counters[frames.TRUNCATED])
        report.malformed = int(counters[frames.MALFORMED])
        report.unknown_link = int(counters[frames.UNKNOWN_LINK])
        report.fragments_unused = self._reassembler.unused + self._snapped_fragments
        return report

    def __iter__(self) -> Iterator[_B]:
        """Batches of at least one datagram or segment, about `packets_per_batch` at most."""
        try:
            yield from cast("Iterator[_B]", self._batches())
        finally:
            self.close()

    def _batches(self) -> Iterator[Batch]:
        if self._closed:
            return
        chunk = self._new_chunk()
        while True:
            stop = self._walk(
                self._source.data, self._state, self._interfaces[: self._interface_count],
                self._ports, chunk.offset, chunk.length, chunk.arrival, chunk.port, chunk.hi,
                chunk.lo, self._listed, self._counters,
            )  # fmt: skip
            self._take_listed(chunk)
            position = int(self._state[frames.POSITION])
            self._report.bytes_read = self._source.bytes_read(position)
            if stop == kernels.CONTROL:
                self._describe(position)
                continue
            if stop == kernels.FULL and not self._is_full(chunk):
                continue  # only the list was full
            count = int(self._state[frames.COUNT])
            for batch in chunk.batches(self._source.data, count, self._exporters):
                self._report.bytes += int(batch.length.sum())
                yield batch
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
        if link not in LINKS:
            allowed = ", ".join(map(str, sorted(LINKS)))
            raise CaptureError(f"{self.path}: found link type {link}, allowed {allowed}")
        self._state[frames.BIG] = big
        self._state[frames.POSITION] = 24
        self._add_interface((*LINKS[link], 0, tick_ns, 0, 0))

    def _describe(self, position: int) -> None:
        """Take the section header or interface description, complete, at `position`."""
        data = self._source.data
        order = ">u4" if self._state[frames.BIG] else "<u4"
        kind, size = (int(word) for word in data[position : position + 8].view(order))
        if kind == _SECTION_KIND:
            self._interface_count = 0
        else:
            body = data[position + 8 : position + size - 4].tobytes()
            self._add_interface(interface_row(body, big=bool(self._state[frames.BIG])))
        self._state[frames.POSITION] = position + size

    def _add_interface(self, row: tuple[int, ...]) -> None:
        if self._interface_count == len(self._interfaces):
            self._interfaces = np.concatenate([self._interfaces, np.zeros_like(self._interfaces)])
        self._interfaces[self._interface_count] = row
        self._interface_count += 1

    def _new_chunk(self) -> Chunk:
        state = self._state
        state[frames.COUNT] = 0
        state[frames.LIMIT] = state[frames.POSITION] + _CHUNK_BYTES
        # A datagram takes more than 16 bytes of file: a small file needs no big arrays.
        left = len(self._source.data) - int(state[frames.POSITION])
        return Chunk(min(self._capacity, left // 16 + 1))

    def _is_full(self, chunk: Chunk) -> bool:
        state = self._state
        full = max(state[frames.COUNT], chunk.segments) >= self._capacity
        return bool(full or state[frames.POSITION] >= state[frames.LIMIT])

    def _more(self, position: int) -> None:
        self._source.more(position)
        self._state[frames.POSITION] = 0

    def _take_listed(self, chunk: Chunk) -> None:
        """Take up the list of a walk: join the fragments, keep the segments."""
        count = int(self._state[frames.LISTED])
        if not count:
            return
        self._state[frames.LISTED] = 0
        listed = self._listed[:count]
        places = chunk.reserve(listed)
        segments = listed[:, 0] == frames.LISTED_SEGMENT
        if segments.any():
            chunk.add_segments(places[segments], listed[segments], self._source.data)
        for place, row in zip(places[~segments].tolist(), listed[~segments].tolist(), strict=True):
            self._join(chunk, place, row)

    def _join(self, chunk: Chunk, place: int, row: list[int]) -> None:
        """Hand a fragment to the reassembler, and keep the datagram if one comes out."""
        _, _, time_ns, hi, lo, to_hi, to_lo, ident, protocol, offset, more, at, size, cut = row
        if cut:
            self._snapped_fragments += 1  # would leave a hole that nothing ever fills
            return
        payload = self._source.data[at : at + size].tobytes()
        key = (hi, lo, to_hi, to_lo, ident)
        whole = self._reassembler.add(Fragment(key, time_ns, protocol, offset, bool(more), payload))
        if whole is not None:
            self._report.reassembled += 1
            self._keep(chunk, place, time_ns, hi, lo, *whole)

    def _keep(
        self, chunk: Chunk, place: int, time_ns: int, hi: int, lo: int, protocol: int, body: bytes
    ) -> None:
        data = np.frombuffer(bytearray(body), np.uint8)
        outcome, at, size, port = frames.dissect_transport(
            data, 0, len(data), len(data), protocol, self._ports
        )
        if outcome == frames.FRAGMENT:  # a fragment within a datagram made of fragments
            outcome = frames.MALFORMED
        elif outcome == frames.SEGMENT:
            listed, state = (
                np.zeros((1, frames.LISTED_WORDS), np.uint64),
                np.zeros_like(self._state),
            )
            state[frames.CLOCK] = time_ns
            outcome = frames.list_segment(
                data, listed, state, np.uint64(hi), np.uint64(lo), at, len(data), at + size
            )
            if outcome == frames.SEGMENT:
                chunk.add_segments(np.array([place]), listed, data)
        elif outcome == frames.DATAGRAM:
            chunk.add_datagram(place, time_ns, hi, lo, int(port), body[at : at + size])
        self._counters[outcome] += 1

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
