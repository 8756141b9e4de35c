"""The thread that writes a view's open windows to Redis: whatever becomes of Redis, nothing waits
for it but this thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any, Protocol

from flowray.clock import Clock, wall_clock
from flowray.live.layout import Layout
from flowray.live.rows import RowForm
from flowray.settings.compile import Program
from flowray.views.leading import Leading, Totals

log = logging.getLogger(__name__)

MAX_PAUSE = 30.0
"""Seconds between tries while Redis is away, at most."""

LEAST_SHARE = 0.2
"""Of an interval that passes between two writes, however slow Redis is."""

END_SECONDS = 10.0
"""To write once more at the end."""


class Windows(Protocol):
    """What is written: an `Aggregation`."""

    def leading(self, n: int, windows: int) -> list[Leading]:
        """The first rows of the newest open windows."""

    def take_closed(self) -> list[Totals]:
        """The totals of windows closed since the last call."""


class LivePublisher:
    """Writes at each interval from a thread of its own. Without Redis in the configuration, or for
    a view without windows, it has nothing to do.
    """

    def __init__(
        self,
        program: Program,
        view: str,
        partition: int,
        windows: Windows,
        clock: Clock = wall_clock,
    ) -> None:
        self._settings = program.settings.redis
        self._live = live = program.settings.live
        self._windows = windows
        self._clock = clock
        self._interval = live.interval / 1e9
        self._closed: deque[Totals] = deque(maxlen=live.totals)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.writes = 0
        self.failures = 0
        self.down = False
        self.error = ""
        self.cpu_seconds = 0.0
        plan = next(p for p in program.views if p.name == view)
        self._used = self._settings is not None and plan.windows is not None
        if not self._used or self._settings is None:
            return
        from flowray.live.connect import connect  # the library is slow to import
        from flowray.live.write import LiveWriter

        layout = Layout(live.prefix, view, partition)
        self._client = connect(self._settings)
        self._place = self._settings.place
        self._writer = LiveWriter(layout, plan.partitions, RowForm.of(program, view), live)

    def start(self) -> None:
        """Begin to write."""
        if self._used:
            self._thread = threading.Thread(target=self._run, name="live", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write once more, if Redis is there, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS)
            self._thread = None

    def _run(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            begun = time.monotonic()
            if self.write():
                left = self._interval - (time.monotonic() - begun)
                pause = max(left, LEAST_SHARE * self._interval)
            else:
                pause = min(max(2 * pause, self._interval), MAX_PAUSE)
        if not self.down:
            self.write()
        self._client.close()

    def write(self) -> bool:
        """Write the windows once; whether it went well. What goes wrong is counted, and logged when
        it begins.
        """
        before = time.thread_time()
        try:
            windows = self._windows.leading(self._live.top, self._live.windows)
            self._closed += self._windows.take_closed()
            self._writer.write(self._client, self._clock(), windows, self._closed)
        except Exception as error:  # noqa: BLE001 - the next turn tries again
            self._failed(error)
        else:
            self._closed.clear()
            self.writes += 1
            if self.down:
                log.warning("live views of %s: Redis at %s is back", self._named, self._place)
            self.down, self.error = False, ""
        self.cpu_seconds += time.thread_time() - before
        return not self.down

    @property
    def _named(self) -> str:
        return self._writer.layout.head

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self.error = f"Redis at {self._place}: {type(error).__name__}: {error}"
        if not self.down:
            log.warning("live views of %s: %s", self._named, self.error)
        self.down = True

    def status(self) -> dict[str, Any]:
        """Figures for status and metrics."""
        return {
            "live": ("down" if self.down else "written" if self.writes else "")
            if self._used
            else "",
            "live_writes": self.writes,
            "live_failures": self.failures,
            "live_down": int(self.down),
            "live_error": self.error,
            "live_cpu_seconds": round(self.cpu_seconds, 3),
        }
