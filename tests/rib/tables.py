"""A RIB fed with UPDATE messages of our own, and a thread that owns it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from flowray.rib.peers import Peer, PolicyView
from flowray.rib.rib import Rib
from flowray.wire.bgp.events import Contexts, Updates
from flowray.wire.bgp.update import parse_updates

T = TypeVar("T")

EVERY_FAMILY = 0xFFFFFFFFFFFFFFFF


def bgp_peer(address: str = "192.0.2.1", asn: int = 64496) -> Peer:
    return Peer("bgp", address, 179, address, "198.51.100.1", asn)


def bmp_peer(
    address: str = "192.0.2.9",
    router: str = "203.0.113.1",
    view: PolicyView = PolicyView.ADJ_RIB_IN_POST,
    rd: int = 0,
) -> Peer:
    kind = 1 if rd else 0
    return Peer("bmp", router, 50000, address, "198.51.100.9", 64499, view, kind, rd)


def feed(rib: Rib, number: int, *messages: bytes, add_path: bool = False) -> None:
    """Apply UPDATE messages of a peer."""
    length = np.array([len(m) for m in messages], np.int64)
    updates = Updates(
        np.frombuffer(b"".join(messages), np.uint8),
        np.cumsum(length) - length,
        length,
        np.zeros(len(messages), np.int64),
        np.zeros(len(messages), np.int64),
    )
    paths = EVERY_FAMILY if add_path else 0
    contexts = Contexts(np.ones(1, np.bool_), np.array([paths], np.uint64))
    parsed = parse_updates(updates, contexts, rib.store)
    assert not parsed.verdict.any(), "tests encode well"
    peers = np.full(len(messages), number, np.int64)
    rib.apply(peers, parsed.events, updates.buf, contexts.add_path[updates.context])


class RibThread:
    """Owns a RIB: runs what is put to it, one after the other."""

    def __init__(self) -> None:
        self.rib = Rib()
        self.questions = 0
        self._work: queue.Queue[tuple[Callable[[Rib], Any], Future[Any]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            question, answer = item
            try:
                answer.set_result(question(self.rib))
            except Exception as error:  # noqa: BLE001 - told to who asks
                answer.set_exception(error)

    def ask(self, question: Callable[[Rib], T], /) -> T:
        answer: Future[T] = Future()
        self.questions += 1
        self._work.put((question, answer))
        return answer.result(60)

    @contextmanager
    def running(self) -> Iterator[RibThread]:
        self._thread.start()
        try:
            yield self
        finally:
            self._work.put(None)
            self._thread.join()
