"""What a sink is: it takes the rows of a commit any number of times and keeps them once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from flowray.errors import FlowrayError

__all__ = ["Commit", "MemorySink", "Sink", "SinkError"]


class SinkError(FlowrayError):
    """Rows could not be stored. The caller keeps the commit and offers it again later."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Identity of a set of rows: what a sink is idempotent under.

    `window_ns` is the start of the window and `window_end_ns` its end, nanoseconds since the epoch;
    None for views without a window, whose commits of a partition are numbered by `sequence`
    instead. `revision` counts the commits of one window and partition: 0 when it closes, then one
    more for each batch of late rows.
    """

    view: str
    window_ns: int | None = None
    window_end_ns: int | None = None
    partition: int = 0
    revision: int = 0
    sequence: int = 0

    @property
    def id(self) -> str:
        """One word that differs for any two commits."""
        window = "-" if self.window_ns is None else str(self.window_ns)
        return f"{self.view}/{window}/p{self.partition}/r{self.revision}/s{self.sequence}"


class Sink(Protocol):
    """Where the rows of one view go. Not thread-safe: one caller commits at a time."""

    def commit(self, commit: Commit, table: pa.Table) -> None:
        """Store the rows of a commit; doing so again with the same id and rows changes nothing.

        `table` is the native table of the view: a column per field, named by primitive. When this
        returns the rows survive a crash. Raises SinkError if they could not be stored.
        """

    def close(self) -> None:
        """Release what is held open. Closing twice is harmless."""


class MemorySink:
    """Keeps native tables by commit id, in the order of commits: for tests and live views."""

    def __init__(self) -> None:
        self.tables: dict[str, pa.Table] = {}
        self.closed = False

    def commit(self, commit: Commit, table: pa.Table) -> None:
        """Keep the table in place of an earlier one of this id."""
        self.tables[commit.id] = table

    def close(self) -> None:
        """Note that the writer is done."""
        self.closed = True
