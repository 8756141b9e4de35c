"""The template store: every template and options fact that any shard learned, durable, handed out
as news.

Entries are JSON objects, one a line in the file: who told it, in which domain, when, and the
template or the fact. Shards ask for what is new since a generation. A store that came back numbers
its entries anew and says so by another epoch; shards then get all once more, which is harmless.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from io import BufferedWriter
from pathlib import Path
from typing import Any, TypeAlias

from flowray.clock import Clock, wall_clock
from flowray.ingest.decode import Learned
from flowray.ingest.templates import TemplateKey
from flowray.views.checkpoint import replace_file
from flowray.wire.flow.template import Template, TemplateField

log = logging.getLogger(__name__)

Entry: TypeAlias = dict[str, Any]
Subject: TypeAlias = tuple[Any, ...]

LIMIT = 1 << 18
"""Entries at most: a flood of spoofed templates does not grow the store beyond."""


def to_entry(address: str, learned: Learned) -> Entry:
    """What an exporter told, as a JSON-able object."""
    key = learned.key
    entry: Entry = {
        "exporter": address,
        "domain": key.domain,
        "version": key.version,
        "at": learned.at,
    }
    if learned.template is not None:
        t = learned.template
        entry["template"] = [t.id, t.scope_count, [[f.element, f.length, f.pen] for f in t.fields]]
    if learned.fact is not None:
        topic, number, value = learned.fact
        told = value if isinstance(value, int) else value.hex()
        entry["fact"] = [int(topic), number, told]
    return entry


def from_entry(entry: Entry) -> tuple[str, Learned]:
    """The exporter's address and what it told; its number is 0, for each shard numbers them anew.
    Raises KeyError, ValueError or TypeError for what `to_entry` did not make.
    """
    template = fact = None
    number = 0
    if "template" in entry:
        number, scopes, fields = entry["template"]
        template = Template(number, tuple(TemplateField(*f) for f in fields), scopes)
    if "fact" in entry:
        topic, about, told = entry["fact"]
        fact = topic, about, bytes.fromhex(told) if isinstance(told, str) else told
    key = TemplateKey(0, entry["domain"], entry["version"], number)
    return entry["exporter"], Learned(key, template, fact, entry["at"])


def subject_of(entry: Entry) -> Subject:
    """What an entry is about: a later one of the same subject replaces it."""
    about = entry["template"][:1] if "template" in entry else entry["fact"][:2]
    return (entry["exporter"], entry["domain"], entry["version"], "fact" in entry, *about)


class KnowledgeStore:
    """All entries by subject; the later told one replaces the earlier. Not thread-safe."""

    def __init__(self, path: Path, *, limit: int = LIMIT, clock: Clock = wall_clock) -> None:
        """Read what is stored and begin to add. Raises OSError."""
        self._path = path
        self._limit = limit
        self.epoch = f"{clock():016x}"
        self._entries: dict[Subject, tuple[int, Entry]] = {}
        self.generation = 0
        self.refused = 0
        self._lines = 0
        for entry in self._read():
            self._take(entry)
        self._file = self._compact()

    def __len__(self) -> int:
        return len(self._entries)

    def _read(self) -> Iterator[Entry]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for n, line in enumerate(file, 1):
                try:
                    entry = json.loads(line)
                    from_entry(entry)
                except (ValueError, KeyError, TypeError):
                    # The last line, if power failed while it was written; its shard tells it again.
                    log.warning("%s: line %d is damaged and left out", self._path, n)
                    continue
                yield entry

    def _take(self, entry: Entry) -> bool:
        subject = subject_of(entry)
        known = self._entries.get(subject)
        if known is not None and known[1]["at"] >= entry["at"]:
            return False
        if known is None and len(self._entries) >= self._limit:
            self.refused += 1
            return False
        self.generation += 1
        self._entries.pop(subject, None)  # so that entries stand in order of their generation
        self._entries[subject] = self.generation, entry
        return True

    def _compact(self) -> BufferedWriter:
        """Write the file anew, without what was replaced; it stays open for additions."""
        content = b"".join(_line(entry) for _, entry in self._entries.values())
        replace_file(self._path, content)
        self._lines = len(self._entries)
        return self._path.open("ab")

    def publish(self, entries: Iterable[Entry]) -> int:
        """Add news; returns the generation. Then they survive a crash. Raises OSError."""
        news = [entry for entry in entries if self._take(entry)]
        if news:
            self._file.write(b"".join(map(_line, news)))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._lines += len(news)
            if self._lines > 2 * len(self._entries) + 1024:
                self._file.close()
                self._file = self._compact()
        return self.generation

    def since(self, epoch: str, generation: int) -> tuple[str, int, list[Entry]]:
        """Entries newer than a generation of an epoch, all if the epoch is another: (epoch,
        generation, entries), in order of learning.
        """
        if epoch != self.epoch:
            generation = 0
        news: list[Entry] = []
        for number, entry in reversed(self._entries.values()):
            if number <= generation:
                break
            news.append(entry)
        news.reverse()
        return self.epoch, self.generation, news

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        return [entry for _, entry in self._entries.values()]

    def close(self) -> None:
        """Close the file; all is stored already."""
        self._file.close()


def _line(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


class Outbox:
    """News on its way to the store, in order, until the store has it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def put(self, entries: Iterable[Entry]) -> None:
        """Add news."""
        with self._lock:
            self._entries.extend(entries)

    def entries(self) -> list[Entry]:
        """All that the store may not have."""
        with self._lock:
            return list(self._entries)

    def published(self, n: int) -> None:
        """The store has the first n."""
        with self._lock:
            for _ in range(n):
                self._entries.popleft()
