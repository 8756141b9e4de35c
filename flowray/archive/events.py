"""What a shard is told beside datagrams, in order with them: the rest of what its rows follow from.

Between two datagrams a shard may begin to join with other routes, learn what an exporter told
another shard, or stop waiting for that. An `Event` stands before the datagram whose number is its
`sequence`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import pyarrow as pa

__all__ = ["SCHEMA", "Event", "EventKind", "events_of", "read_lines", "table_of"]


class EventKind(StrEnum):
    """What happened."""

    BEGUN = "begun"
    """A shard begins, knowing nothing."""
    ADOPTED = "adopted"
    """It goes on from a shard that was killed, of life `epoch`, as of where that one's archive
    stood when it last handed over: datagram `generation`, event `began_ns`. What that one received
    after it follows here.
    """
    ROUTES = "routes"
    """Flows join snapshot `generation` of `epoch` of a `group` from here on."""
    LOST = "lost"
    """Nobody keeps the routes of a `group` true any more."""
    TOLD = "told"
    """An exporter told something new (`text`): it is in its datagrams."""
    INSTALLED = "installed"
    """Something that an exporter told (`text`) was learned from the store at `began_ns`."""
    PULLED = "pulled"
    """All that the store told to a pull that began at `began_ns` is installed."""
    SETTLED = "settled"
    """Data whose wait for options is over was decoded."""
    EXPIRED = "expired"
    """Held data older than the bound at `began_ns` was given up."""
    GIVEN_UP = "given_up"
    """The shard ends: nothing waits any longer."""


@dataclass(frozen=True, slots=True)
class Event:
    """One of them, at `time_ns`: event `number` of a shard's life. `text` is JSON as the template
    store has it.
    """

    number: int
    sequence: int
    time_ns: int
    kind: EventKind
    group: str = ""
    epoch: str = ""
    generation: int = 0
    began_ns: int = 0
    text: str = ""

    def line(self) -> bytes:
        """As a line of the spool."""
        told = {name: value for name, value in asdict(self).items() if value != ""}
        return json.dumps(told, separators=(",", ":")).encode() + b"\n"


SCHEMA: Final = pa.schema(
    [
        ("number", pa.uint64()),
        ("sequence", pa.uint64()),
        ("time_ns", pa.int64()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("group", pa.string()),
        ("epoch", pa.string()),
        ("generation", pa.uint64()),
        ("began_ns", pa.int64()),
        ("text", pa.string()),
    ]
)


def read_lines(path: Path) -> list[Event]:
    """The events in a file of the spool, up to a line that is cut off. Raises OSError."""
    events = []
    for line in path.read_bytes().splitlines():
        try:
            told = json.loads(line)
            events.append(Event(**{**told, "kind": EventKind(told["kind"])}))
        except (ValueError, TypeError, KeyError):
            break
    return events


def table_of(events: Iterable[Event]) -> pa.Table:
    """Events as a table of `SCHEMA`."""
    return pa.Table.from_pylist([asdict(event) for event in events], SCHEMA)


def events_of(table: pa.Table) -> Iterator[Event]:
    """The events of a table. Raises ValueError for kinds that are not known."""
    for row in table.select(SCHEMA.names).to_pylist():
        yield Event(**{**row, "kind": EventKind(row["kind"])})
