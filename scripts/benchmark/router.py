"""Routers in a process of their own: `router ROUTES`, then as they are told on its input.

All have full tables of so many routes of IPv4 and a fifth as many of IPv6 (and those that cover
generated traffic): the same prefixes, with paths of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmark.processes import ENVIRONMENT, PYTHON
from flowray.generate.population import Population
from flowray.generate.routes import (
    Messages,
    RoutingTable,
    peer_as,
    routing_table,
    seen_by,
    updates,
)
from flowray.generate.speaker import END_OF_RIB, Speaker

SEED = 1
FEW = 600
"""Routes that make a collector load all that it needs."""

CHURN_TICK = 0.01


@dataclass(frozen=True, slots=True)
class Announced:
    """What was sent, and how long it took until the last octet was in the socket."""

    updates: int
    routes: int
    octets: int
    seconds: float


class Routers:
    """The routers, seen from the process that measures."""

    def __init__(self, routes: int) -> None:
        self._process = subprocess.Popen(
            [str(PYTHON), "-m", "benchmark.router", str(routes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the routers ended")
        return json.loads(line)

    def _order(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def connect(self, port: int, count: int = 1) -> None:
        """Open the sessions of so many routers."""
        self._order(order="connect", port=port, count=count)

    def announce(self, *, few: bool = False) -> Announced:
        """Have all connected ones announce their table, or the first routes of it."""
        return Announced(**self._order(order="announce", few=few))

    def churn(self, rate: float, seconds: float) -> Announced:
        """Have the connected ones, in turn, announce routes anew with other paths, `rate` UPDATEs a
        second in all.
        """
        return Announced(**self._order(order="churn", rate=rate, seconds=seconds))

    def leave(self) -> None:
        """End all sessions."""
        self._order(order="leave")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def full_table(routes: int) -> RoutingTable:
    """The table of the first router."""
    return routing_table(SEED, routes, routes // 5, Population(SEED).prefixes)


class _Site:
    """All routers, in the process of their own."""

    def __init__(self, table: RoutingTable) -> None:
        self._table = table
        self._speakers: list[Speaker] = []

    def connect(self, port: int, count: int) -> None:
        self._speakers = [
            Speaker(
                ("127.0.0.1", port),
                f"127.0.1.{number + 1}",
                asn=peer_as(number),
                bgp_id=f"127.0.1.{number + 1}",
            )
            for number in range(count)
        ]

    def announce(self, *, few: bool) -> Announced:
        rows = None
        if few:
            rows = np.flatnonzero(np.arange(len(self._table)) % (len(self._table) // FEW) == 0)
        sent = [
            _sent(speaker, updates(seen_by(self._table, number), rows), END_OF_RIB)
            for number, speaker in enumerate(self._speakers)
        ]
        return _sum(sent, len(self._table) if rows is None else len(rows))

    def churn(self, rate: float, seconds: float) -> Announced:
        count = int(rate * seconds)
        groups = len(self._table.origin)
        drawn = np.random.default_rng(SEED).integers(0, groups, count)
        first = np.searchsorted(self._table.group, drawn)
        last = np.searchsorted(self._table.group, drawn, "right")
        # One route of each group, whichever: an UPDATE in the life of a table tells of few.
        rows = first + (last - first) // 2
        other = seen_by(self._table, len(self._speakers))
        messages = updates(other, rows)
        begin = time.monotonic()
        for done in range(0, len(messages), step := max(1, int(rate * CHURN_TICK))):
            time.sleep(max(0.0, begin + done / rate - time.monotonic()))
            speaker = self._speakers[done // step % len(self._speakers)]
            speaker.send(_octets(messages, done, min(done + step, len(messages))))
        return Announced(
            len(messages), len(rows), int(messages.length.sum()), time.monotonic() - begin
        )

    def leave(self) -> None:
        for speaker in self._speakers:
            speaker.close()
        self._speakers = []


def _octets(messages: Messages, first: int, end: int) -> bytes:
    start, stop = messages.offset[first], messages.offset[end - 1] + messages.length[end - 1]
    return messages.buf[start:stop].tobytes()


def _sent(speaker: Speaker, messages: Messages, end: bytes) -> Announced:
    begin = time.monotonic()
    speaker.send(messages.buf)
    speaker.send(end)
    return Announced(len(messages), 0, messages.buf.size, time.monotonic() - begin)


def _sum(sent: Sequence[Announced], routes: int) -> Announced:
    return Announced(
        sum(one.updates for one in sent),
        routes * len(sent),
        sum(one.octets for one in sent),
        sum(one.seconds for one in sent),
    )


def main() -> None:
    site = _Site(full_table(int(sys.argv[1])))
    print(json.dumps(True), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(site, order.pop("order"))(**order)
        print(json.dumps(answer and asdict(answer)), flush=True)
    site.leave()


if __name__ == "__main__":
    main()
