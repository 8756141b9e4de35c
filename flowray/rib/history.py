"""Tables of the past: what a group saved, kept by the time that it is of."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from flowray.clock import Clock
from flowray.rib.glass_answers import Moment
from flowray.rib.looking_glass import asking
from flowray.rib.restore import restore
from flowray.rib.rib import Rib
from flowray.rib.route_query import QueryError
from flowray.settings.quantities import duration_ns
from flowray.views.checkpoint import Checkpoint, CheckpointError

__all__ = ["TableHistory", "read_saved", "read_time"]

SECOND = 1_000_000_000

_FORM = "%Y%m%dT%H%M%SZ"
_SUFFIX = ".bin"


class TableHistory:
    """What was saved last (`saved`, a file that is replaced each time), and of what was saved
    before the first of each period of `every_ns`, the newest `keep` of them.

    Those are links, so that keeping one costs nothing until the file is replaced.
    """

    def __init__(
        self, saved: Path, directory: Path, every_ns: int, keep: int, clock: Clock
    ) -> None:  # fmt: skip
        self._saved, self._directory = saved, directory
        self._every_ns, self._keep = every_ns, keep
        self._clock = clock

    def add(self, now_ns: int) -> None:
        """Tables of this time were saved. Raises OSError."""
        os.utime(self._saved, ns=(now_ns, now_ns))
        files = self._kept()
        period = now_ns // self._every_ns
        if self._keep and not (files and files[-1][0] // self._every_ns >= period):
            self._directory.mkdir(parents=True, exist_ok=True)
            name = datetime.fromtimestamp(now_ns // SECOND, UTC).strftime(_FORM)
            os.link(self._saved, self._directory / f"{name}{_SUFFIX}")
            files = self._kept()
        for _, file in files[: max(len(files) - self._keep, 0)]:
            file.unlink(missing_ok=True)

    def at(self, text: str) -> Moment:
        """The newest tables from before a time as operators write it (`read_time`).

        Raises QueryError if there are none, or what is there cannot be read.
        """
        time_ns = read_time(text, self._clock())
        files = [*self._kept(), *self._newest()]
        found = [(of_ns, file) for of_ns, file in files if of_ns <= time_ns]
        if not found:
            kept = f"the oldest are of {_text(files[0][0])}" if files else "none are kept"
            raise QueryError(f"time: found {text[:100]!r}, of which there are no tables: {kept}")
        of_ns, file = found[-1]
        try:
            return Moment(asking(read_saved(file)), of_ns)
        except (CheckpointError, OSError) as error:
            raise QueryError(f"tables of {_text(of_ns)} cannot be read: {error}") from None

    def _newest(self) -> list[tuple[int, Path]]:
        """Time (ns) and file of what was saved last, if anything was."""
        try:
            return [(self._saved.stat().st_mtime_ns, self._saved)]
        except FileNotFoundError:
            return []

    def _kept(self) -> list[tuple[int, Path]]:
        """The same of all from before, the oldest first."""
        found = []
        for file in self._directory.glob(f"*{_SUFFIX}"):
            try:
                time = datetime.strptime(file.stem, _FORM).replace(tzinfo=UTC)
            except ValueError:
                continue
            found.append((int(time.timestamp()) * SECOND, file))
        return sorted(found)


def read_saved(path: Path) -> Rib:
    """A RIB as it was saved. Raises CheckpointError, OSError."""
    state = Checkpoint(path).load()
    if state is None:
        raise FileNotFoundError(f"{path} is gone")
    rib = Rib()
    restore(rib, state)
    for tables in rib.peers():
        # They were true at the time that is asked about.
        tables.session, tables.stale = True, False
    return rib


def _text(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: str, now_ns: int) -> int:
    """Nanoseconds since the epoch of a time: RFC 3339 (UTC without an offset), seconds since the
    epoch, or how long ago (`90m`). Raises QueryError.
    """
    if text.isdecimal():
        return int(text) * SECOND
    try:
        return now_ns - duration_ns(text)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        allowed = "now, 2026-11-25T08:00, seconds since the epoch, or how long ago, such as 90m"
        raise QueryError(f"time: found {text[:100]!r}, allowed {allowed}") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()) * SECOND
