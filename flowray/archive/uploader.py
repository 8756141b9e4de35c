"""The way of files from the spool of a process to their place: in order, repeated until it is done.

What waits when the process ends stays in the spool, and its successor goes on with it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from flowray.archive.place import Place

__all__ = ["Load", "Uploader"]

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts while the place cannot be reached."""

Build = Callable[[], Sequence[tuple[Path, str]]]
"""Makes files as they are kept out of what was spooled: local paths, and their names. May be called
again.
"""


@dataclass(slots=True)
class Load:
    """What one file or some that belong together are made of: `raw` are removed when all is at its
    place.
    """

    raw: Sequence[Path]
    build: Build
    octets: int


class Uploader:
    """One thread that takes loads to a place."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._loads: deque[Load] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self.octets = 0
        """Octets in the spool that wait."""
        self.files = 0
        self.stored = 0
        """Octets of the files at their place."""
        self.failures = 0
        self.last_error = ""
        self._thread = threading.Thread(target=self._run, name=f"{name}-upload", daemon=True)
        self._thread.start()

    def submit(self, load: Load) -> None:
        """Take a load."""
        with self._ready:
            self._loads.append(load)
            self.octets += load.octets
            self._ready.notify()

    @property
    def waiting(self) -> int:
        """Loads that are not at their place."""
        return len(self._loads)

    def close(self, timeout: float) -> bool:
        """Deliver what waits; whether it was all. What fails, or takes longer, is left."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(timeout)
        return not self._loads

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._ready:
                while not self._loads and not self._closing:
                    self._ready.wait()
                if not self._loads:
                    return
                load = self._loads[0]
            if self._delivered(load):
                pause = FIRST_PAUSE
                with self._ready:
                    self._loads.popleft()
                    self.octets -= load.octets
                continue
            with self._ready:
                if self._closing:
                    return
                self._ready.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _delivered(self, load: Load) -> bool:
        try:
            for path, name in load.build():
                size = path.stat().st_size
                self._place.put(path, name)
                self.files += 1
                self.stored += size
            for raw in load.raw:
                raw.unlink(missing_ok=True)
        except (OSError, ValueError, pa.ArrowException) as error:
            self.failures += 1
            if str(error) != self.last_error:
                self.last_error = str(error)
                log.error("archive %s: %s; it is tried again", self._place, error)  # noqa: TRY400 - a line, not a trace
            return False
        self.last_error = ""
        return True
