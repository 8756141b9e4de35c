"""Tables of the past: what a group saved, kept by the time that it is of."""

from __future__ import annotations

from datetime import UTC, datetime

from flowray.clock import Clock
from flowray.rib.glass_answers import Moment
from flowray.rib.looking_glass import asking
from flowray.rib.restore import restore
from flowray.rib.rib import Rib
from flowray.rib.route_query import QueryError
from flowray.settings.quantities import duration_ns
from flowray.state.store import Store
from flowray.views.checkpoint import Checkpoint, CheckpointError

__all__ = ["TableHistory", "read_saved", "read_time"]

SECOND = 1_000_000_000

_FORM = "%Y%m%dT%H%M%SZ"
_SUFFIX = ".bin"


class TableHistory:
    """What was saved last (an object of the store that is replaced each time), and of what was
    saved before the first of each period of `every_ns`, the newest `keep` of them.
    """

    def __init__(
        self, saved: Checkpoint, store: Store, folder: str, every_ns: int, keep: int, clock: Clock
    ) -> None:  # fmt: skip
        self._saved, self._store, self._folder = saved, store, f"{folder}/"
        self._every_ns, self._keep = every_ns, keep
        self._clock = clock
        self._saved_ns: int | None = None

    def note(self, saved_ns: int) -> None:
        """What was saved last is of this time."""
        self._saved_ns = saved_ns

    def add(self, now_ns: int) -> None:
        """Tables of this time were saved. Raises OSError."""
        self.note(now_ns)
        found = self._kept()
        period = now_ns // self._every_ns
        if self._keep and not (found and found[-1][0] // self._every_ns >= period):
            name = datetime.fromtimestamp(now_ns // SECOND, UTC).strftime(_FORM)
            self._store.copy(self._saved.name, f"{self._folder}{name}{_SUFFIX}")
            found = self._kept()
        for _, old in found[: max(len(found) - self._keep, 0)]:
            self._store.delete(old.name)

    def at(self, text: str) -> Moment:
        """The newest tables from before a time as operators write it (`read_time`).

        Raises QueryError if there are none, or what is there cannot be read.
        """
        time_ns = read_time(text, self._clock())
        try:
            files = [*self._kept(), *self._newest()]
        except OSError as error:
            raise QueryError(f"tables of the past cannot be listed: {error}") from None
        found = [(of_ns, file) for of_ns, file in files if of_ns <= time_ns]
        if not found:
            kept = f"the oldest are of {_text(files[0][0])}" if files else "none are kept"
            raise QueryError(f"time: found {text[:100]!r}, of which there are no tables: {kept}")
        of_ns, file = found[-1]
        try:
            return Moment(asking(read_saved(file)), of_ns)
        except (CheckpointError, OSError) as error:
            raise QueryError(f"tables of {_text(of_ns)} cannot be read: {error}") from None

    def _newest(self) -> list[tuple[int, Checkpoint]]:
        """Time (ns) and place of what was saved last, if anything was."""
        return [] if self._saved_ns is None else [(self._saved_ns, self._saved)]

    def _kept(self) -> list[tuple[int, Checkpoint]]:
        """The same of all from before, the oldest first."""
        found = []
        for name in self._store.names(self._folder):
            text = name.removeprefix(self._folder).removesuffix(_SUFFIX)
            try:
                time = datetime.strptime(text, _FORM).replace(tzinfo=UTC)
            except ValueError:
                continue
            found.append((int(time.timestamp()) * SECOND, Checkpoint(self._store, name)))
        return sorted(found, key=lambda pair: pair[0])


def read_saved(saved: Checkpoint) -> Rib:
    """A RIB as it was saved. Raises CheckpointError, OSError."""
    state = saved.load()
    if state is None:
        raise FileNotFoundError(f"{saved} is gone")
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
