"""A variant of a case, driven over real sockets: feeds connect from the addresses that they present
themselves with, in a network namespace of this process's own.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pyarrow as pa

from flowray.ingest.delivery import LocalTransport
from flowray.ingest.knowledge import KnowledgeStore
from flowray.ingest.ledger import merge_snapshots, problems
from flowray.ingest.shard import Shard
from flowray.rib.service import RouteService
from flowray.rib.snapshot import Snapshot
from flowray.rib.streams import Stream
from flowray.settings.compile import Program
from flowray.sinks.base import Commit
from flowray.state.store import open_store
from flowray.views.aggregation import Aggregation
from flowray.wire.packets import Exporters, PacketBatch, address_text
from flowray.wire.pcap import merge_captures
from flowray.wire.segments import SegmentBatch
from tests.conformance.case import Case, Step
from tests.conformance.compare import Record
from tests.conformance.drive import _STEPS, OPTIONAL, Driver, Lines
from tests.conformance.feeds import PROTOCOLS, Playing, play
from tests.conformance.translate import STREAMS, VIEW, compile_variant
from tests.ingest.live_rig import wait_for

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_PATIENCE_S = 60.0

_CONNECTION = tuple[str, str, int]
"""Protocol, address and port of a session."""


def in_namespace(addresses: list[str], work: Callable[[], T]) -> T:
    """Do something in a thread whose network is a loopback of its own, with addresses. The threads
    that it starts share it, and it is gone with them.
    """

    def begin() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        commands = [["link", "set", "lo", "up"]]
        commands += [["addr", "add", address, "dev", "lo"] for address in addresses]
        for command in commands:
            subprocess.run(["ip", *command], check=True, capture_output=True)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(begin).result()
        return thread.submit(work).result()


def why_not() -> str:
    """Why there can be no namespace here; empty if there can be one."""
    if os.geteuid() != 0:
        return "a network namespace needs root: run the tests as root"
    try:
        in_namespace([], lambda: None)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespace here ({error}): it needs CAP_SYS_ADMIN, and iproute2"
    return ""


class _Queued(Lines):
    """Rows that one thread commits and another one takes."""

    def __init__(self, program: Program, name: str, driver: LiveDriver) -> None:
        super().__init__(program, name, driver.directory)
        self._queue: deque[tuple[Commit, pa.Table]] = deque()

    def commit(self, commit: Commit, table: pa.Table) -> None:
        self._queue.append((commit, table))

    def take(self) -> list[Record]:
        while self._queue:
            super().commit(*self._queue.popleft())
        return super().take()


@dataclass
class LiveDriver(Driver):
    """A driver whose feeds come over sockets; its clock begins with that of the captures."""

    stack: ExitStack = field(default_factory=ExitStack)
    connections: dict[_CONNECTION, socket.socket] = field(default_factory=dict)
    sent: dict[_CONNECTION, int] = field(default_factory=dict)
    refused: set[_CONNECTION] = field(default_factory=set)
    datagrams: int = 0
    service: RouteService = field(init=False)
    shard: Shard | None = None

    def _start(self) -> None:
        program = compile_variant(self.case, self.variant, self.maps, self.directory)
        self.sinks = {name: _Queued(program, name, self) for name in (VIEW, *program.streams)}
        self._set(1)
        streams = {name: Stream(name, [self.sinks[name]]) for name in program.streams}
        group = program.settings.route_groups[0]
        self.service = RouteService(program, group, streams, clock=self.now)
        self.service.start()
        self.stack.callback(self.service.stop)
        self._udp = sorted({t.dst_port for f in self.case.feeds for t in f.take if t.l4 == "udp"})
        if self._udp:
            self._start_shard(program)

    def _start_shard(self, program: Program) -> None:
        self._aggregation = Aggregation(program.views[0], [self.sinks[VIEW]])
        self._aggregation.expect(["s"])
        store = KnowledgeStore(open_store(self.directory))
        self.shard = Shard(
            program, "s", LocalTransport([self._aggregation]), store, routes=self,
            listen=[f"udp://0.0.0.0:{port}" for port in self._udp], clock=self.now,
        )  # fmt: skip
        self.shard.start()
        self.stack.callback(self.shard.close)

    def _set(self, clock: int) -> None:
        self.clock, self._set_ns = clock, time.monotonic_ns()

    def now(self) -> int:
        """Capture time of the first packet, and what has passed since it was sent."""
        return self.clock + time.monotonic_ns() - self._set_ns

    def newest(self, group: str, epoch: str, generation: int) -> Snapshot | None:
        """The routes of the group, for the shard."""
        del group
        return self.service.newest(epoch, generation)

    def run(self) -> None:
        own = {
            "replay": self.feed,
            "hang_up": self.hang_up,
            "expect_no_problems": self.expect_no_problems,
        }
        with self.stack:
            for step in self.case.steps:
                own.get(step.do, partial(_STEPS[step.do], self))(step)

    # -- steps

    def feed(self, step: Step) -> None:
        exporters, senders = Exporters(), _Senders(self.stack)
        playing: list[Playing] = []
        for feed in map(self.case.feed, step.feeds):
            listed = play(self.case, feed, exporters, self.ports)
            assert all(isinstance(p, Playing) for p in listed), "no feed of these is repeated"
            playing += [p for p in listed if isinstance(p, Playing)]
        for batch in merge_captures([*playing]):
            for i in range(len(batch)):
                if not self.sent and not self.datagrams:
                    self._set(int(batch.arrival[i]))
                if isinstance(batch, SegmentBatch):
                    self._send(batch, i)
                    continue
                self._follow()
                number = int(batch.exporter[i])
                address = address_text(int(exporters.hi[number]), int(exporters.lo[number]))
                senders.send(address, self._udp[0], batch, i)
                self.datagrams += 1
        for one in playing:
            for s in one.sessions:
                place = s.protocol, s.address, s.port
                if place not in self.refused:
                    self.sessions[one.feed.id][s] = None
        self.captures = [p.reader.report.fault for p in playing if p.reader.report.cut_off]
        self._all_read()
        if self.shard is not None:
            shard = self.shard
            wait_for(
                lambda: shard.figures()["datagrams"] == self.datagrams, "datagrams", _PATIENCE_S
            )
            self.figures = shard.drain(final=True)
            self._aggregation.finish()
            self.rows = self.sinks[VIEW].take()
        self._take()

    def _send(self, batch: SegmentBatch, i: int) -> None:
        """Send a segment's payload over its session, which is opened for the first one."""
        payload = batch.payload(i)
        address = address_text(int(batch.source_hi[i]), int(batch.source_lo[i]))
        place = PROTOCOLS[batch.port[i]], address, int(batch.source_port[i])
        if not payload or place in self.refused:
            return
        if place not in self.connections:
            # Sessions begin one after another: which of two is refused is no accident.
            self._all_read()
            self.connections[place] = self._connect(*place)
            self.sent[place] = 0
        try:
            self.connections[place].sendall(payload)
            self.sent[place] += len(payload)
        except OSError:
            self._refused(place)

    def _connect(self, protocol: str, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = self.stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.bind((address, port))
        sock.settimeout(_PATIENCE_S)
        sock.connect((address, self._status()["listeners"][protocol]["port"]))
        return sock

    def _status(self) -> dict[str, dict[str, dict[str, int]]]:
        """Figures of now."""
        self.service.ask(self.service._note)
        return self.service.status()

    def _all_read(self) -> None:
        """Wait until the service has read all that was sent, or refused it."""

        def done() -> bool:
            self._find_refused()
            want = dict.fromkeys(PROTOCOLS, 0)
            for place, octets in self.sent.items():
                if place not in self.refused:
                    want[place[0]] += octets
            listeners = self._status()["listeners"]
            return all(listeners[name]["octets_received"] == want[name] for name in listeners)

        wait_for(done, "end of reading", _PATIENCE_S)

    def _find_refused(self) -> None:
        """Sessions that the service has closed."""
        for place, sock in self.connections.items():
            if place not in self.refused and _is_closed(sock):
                self._refused(place)

    def _refused(self, place: _CONNECTION) -> None:
        self.refused.add(place)
        self.connections[place].close()

    def _follow(self) -> None:
        """Have the shard join with all the routes that there are."""
        if self.shard is None or self._followed == sum(self.sent.values()):
            return
        self._all_read()
        service, shard = self.service, self.shard

        def published() -> bool:
            return service._published == service.look(lambda c: c.rib.generation)

        def joined() -> bool:
            snapshot, group = self.service.newest("", 0), service.group.name
            have = shard.figures()["joined"].get(group, {"generation": 0})["generation"]
            return snapshot is None or have == snapshot.generation

        wait_for(published, "snapshot", _PATIENCE_S)
        wait_for(joined, "snapshot in the shard", _PATIENCE_S)
        self._followed = sum(self.sent.values())

    _followed = 0

    def _take(self) -> None:
        """Keep the records of the streams that the case expects something of."""
        streams = self.service._collector._streams.values()
        self.service.look(lambda collector: collector.flush(self.now()))
        wait_for(lambda: not any(stream.waiting for stream in streams), "rows", _PATIENCE_S)
        wanted = {step.stream for step in self.case.steps if step.do == "expect"}
        for stream in self.variant.collector.streams:
            if stream in STREAMS:
                rows = self.sinks[STREAMS[stream]].take()
                if stream in wanted:
                    self.streams[stream] += [r for r in rows if r.get("event_type") != OPTIONAL]

    def hang_up(self, step: Step) -> None:
        for feed in step.feeds:
            for s in self.sessions.pop(feed, ()):
                self._hang_up(self.connections[s.protocol, s.address, s.port])
                self.closed += 1

        def none_left() -> bool:
            return not any(one["sessions"] for one in self._status()["listeners"].values())

        wait_for(none_left, "end of sessions", _PATIENCE_S)
        self._take()

    def _hang_up(self, sock: socket.socket) -> None:
        """An orderly close: what the other end has said is read first."""
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 16):
                pass
        sock.close()

    def expect_no_problems(self, step: Step) -> None:
        if self.shard is None:
            return
        ledger = merge_snapshots([self.figures["ledger"], self._aggregation.ledger()])
        self.faults += problems(ledger, held=self.figures["sets_held"])
        drops = self.figures["kernel_drops"], self.figures["errors"]
        if any(drops):
            self.faults.append(f"{drops[0]} datagrams dropped, {drops[1]} errors")


@dataclass
class _Senders:
    """A UDP socket an exporter."""

    stack: ExitStack
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    def send(self, address: str, port: int, batch: PacketBatch, i: int) -> None:
        if address not in self.sockets:
            sock = self.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((address, 0))
            self.sockets[address] = sock
        start = int(batch.offset[i])
        payload = batch.buf[start : start + int(batch.length[i])].tobytes()
        self.sockets[address].sendto(payload, (address, port))


def _is_closed(sock: socket.socket) -> bool:
    """Whether the other end has closed; what it has said is thrown away."""
    try:
        while select.select([sock], [], [], 0)[0]:
            if not sock.recv(1 << 16):
                return True
    except OSError:
        return True
    return False


def addresses_of(case: Case) -> list[str]:
    """The addresses that feeds present themselves with, as `ip addr add` takes them."""
    return sorted(
        {f"{a}/{128 if ':' in a else 32}" for a in (f.exporter.present_as for f in case.feeds)}
    )
