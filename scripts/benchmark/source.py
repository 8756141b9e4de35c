"""A sender in a process of its own: reads a capture once, then sends as it is told on its input."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmark.processes import ENVIRONMENT, PYTHON
from flowray.generate.capture import read_capture
from flowray.generate.rows import Datagrams
from flowray.generate.send import Sender


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent; `cpu` of the sending process."""

    datagrams: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Datagrams a second."""
        return self.datagrams / self.seconds if self.seconds else 0.0


class Source:
    """The sender, seen from the process that measures."""

    def __init__(self, capture: Path) -> None:
        self._process = subprocess.Popen(
            [str(PYTHON), "-m", "benchmark.source", str(capture)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        self.datagrams = int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the sender ended")
        return line

    def send(
        self,
        port: int,
        *,
        rate: float,
        skip: int = 0,
        limit: int | None = None,
        seconds: float | None = None,
        ports: int = 1,
    ) -> Sent:
        """Send all datagrams but the first `skip`, at most `limit`, once; with `seconds`, again and
        again for so long. They leave from so many source `ports`, in turn.
        """
        assert self._process.stdin is not None
        order: dict[str, Any] = {"port": port, "rate": rate, "skip": skip, "limit": limit}
        order |= {"seconds": seconds, "ports": ports}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Sent(**json.loads(self._answer()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _send(
    datagrams: Datagrams,
    port: int,
    rate: float,
    skip: int,
    limit: int | None,
    seconds: float | None,
    ports: int,
) -> Sent:
    chosen = datagrams.take(slice(skip, None))
    if ports > 1:
        turn = np.arange(len(chosen), dtype=np.uint32) % ports
        chosen = replace(chosen, exporter=turn)
    sent = 0
    start, cpu = time.monotonic(), time.process_time()
    with Sender("127.0.0.1", port, ["127.0.0.1"] * ports) as sender:
        while True:
            left = None if seconds is None else seconds - (time.monotonic() - start)
            sent += sender.send(chosen, rate=rate, limit=limit, seconds=left).sent
            if left is None or left <= 0:
                break
    return Sent(sent, time.monotonic() - start, time.process_time() - cpu)


def main() -> None:
    datagrams = read_capture(sys.argv[1])
    print(len(datagrams), flush=True)
    for line in sys.stdin:
        sent = _send(datagrams, **json.loads(line))
        result = {"datagrams": sent.datagrams, "seconds": sent.seconds, "cpu": sent.cpu}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
