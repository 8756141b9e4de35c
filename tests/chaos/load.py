"""Steady load: exporters with numbered records, each sending to one node after another."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from flowray.generate.numbered import NumberedExporter
from flowray.generate.send import Sender

MOVE_SECONDS = 3.0
"""How long an exporter sends to the same node."""

TURN_SECONDS = 0.2
LAST_SECONDS = 1.0


@dataclass
class Load:
    """`rate` datagrams a second altogether, from `start` to `stop`, to (address, port) `targets`.

    What `alive` says is not up is not sent to: a balancer in front would know, soon after.
    """

    targets: Sequence[tuple[str, int]]
    rate: float
    exporters: list[NumberedExporter] = field(default_factory=list)
    seed: int = 1
    sent: int = 0
    error: BaseException | None = None

    def __post_init__(self) -> None:
        if not self.exporters:
            protocols = ("ipfix", "v5", "ipfix", "v5")
            self.exporters = [
                NumberedExporter(f"127.0.8.{n}", protocol)
                for n, protocol in enumerate(protocols, 1)
            ]
        self._random = random.Random(self.seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        addresses = [exporter.address for exporter in self.exporters]
        self._senders = [Sender(host, port, addresses) for host, port in self.targets]

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End with a datagram of every exporter to every target, so that what was lost before it
        shows in sequence numbers. Raises what went wrong while sending.
        """
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error
        for target in range(len(self._senders)):
            time.sleep(LAST_SECONDS)
            for number in range(len(self.exporters)):
                self._send(number, target, 1)
        for sender in self._senders:
            sender.close()

    def _run(self) -> None:
        try:
            self._send_on()
        except BaseException as error:  # noqa: BLE001 - told when it is stopped
            self.error = error

    def _send_on(self) -> None:
        began = time.monotonic()
        moved = 0.0
        target = [0] * len(self.exporters)
        while not self._stop.is_set():
            now = time.monotonic()
            if now - moved >= MOVE_SECONDS:
                moved = now
                target = [self._random.randrange(len(self._senders)) for _ in self.exporters]
            due = int((now - began) * self.rate) - self.sent
            each = max(due // len(self.exporters), 0)
            for number, where in enumerate(target):
                self._send(number, where, each)
            self._stop.wait(TURN_SECONDS)

    def _send(self, number: int, target: int, count: int) -> None:
        if not count:
            return
        datagrams = self.exporters[number].datagrams(count, time.time_ns(), number)
        self.sent += self._senders[target].send(datagrams, exporter=number).sent
