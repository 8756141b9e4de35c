"""The template store: every template and options fact that any shard learned, durable, handed out
as news.

Entries are JSON objects, one a line: who told it, in which domain, when, and the
template or the fact. Shards ask for what is new since a generation. A store that came back numbers
its entries anew and says so by another epoch; shards then get all once more, which is harmless.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from flowray.clock import Clock, wall_clock
from flowray.ingest.decode import Learned
from flowray.ingest.templates import TemplateKey
from flowray.state.store import Store, patiently
from flowray.wire.flow.template import Template, TemplateField

log = logging.getLogger(__name__)

Entry: TypeAlias = dict[str, Any]
Subject: TypeAlias = tuple[Any, ...]

LIMIT = 1 << 18
"""Entries at most: a flood of spoofed templates does not grow the store beyond."""

MOST_SEGMENTS = 64
"""Segments at which they are put together into the base."""

FIRST_PAUSE_NS, LONGEST_PAUSE_NS = 1_000_000_000, 30_000_000_000
"""Between tries while the store is away."""


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
    """All entries by subject; the later told one replaces the earlier. Thread-safe.

    Stored are a base and numbered segments of what came since; many segments become a new base.
    While the store is away entries are handed out all the same, and stored when it is back.
    """

    def __init__(
        self,
        store: Store,
        name: str = "templates",
        *,
        limit: int = LIMIT,
        clock: Clock = wall_clock,
    ) -> None:
        """Read what is stored; waits for a store that is away."""
        self._store, self._base, self._segments = store, f"{name}.jsonl", f"{name}/"
        self._limit = limit
        self._clock = clock
        self.epoch = f"{clock():016x}"
        self._entries: dict[Subject, tuple[int, Entry]] = {}
        self.generation = 0
        self.refused = 0
        self.errors = 0
        self.last_error = ""
        self._lock, self._storing = threading.Lock(), threading.Lock()
        self._pending: list[Entry] = []
        self._retry_at = 0
        self._pause_ns = FIRST_PAUSE_NS
        self._listed: list[str] = []
        self._lines = 0
        for entry in patiently("templates", lambda: list(self._read())):
            self._take(entry)
            self._lines += 1
        newest = PurePosixPath(self._listed[-1]).name if self._listed else "0."
        self._number = int(newest.partition(".")[0])

    def __len__(self) -> int:
        return len(self._entries)

    def _read(self) -> Iterator[Entry]:
        self._listed = self._store.names(self._segments)
        for name in (self._base, *self._listed):
            content = self._store.read(name) or b""
            for n, line in enumerate(content.splitlines(), 1):
                try:
                    entry = json.loads(line)
                    from_entry(entry)
                except (ValueError, KeyError, TypeError):
                    log.warning("%s: line %d is damaged and left out", name, n)
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

    def publish(self, entries: Iterable[Entry]) -> int:
        """Add news; returns the generation. They survive a crash when `pending` is 0."""
        with self._lock:
            self._pending += [entry for entry in entries if self._take(entry)]
        self.store_pending()
        return self.generation

    @property
    def pending(self) -> int:
        """Entries that are not stored yet, because the store is away."""
        return len(self._pending)

    def store_pending(self) -> None:
        """Store what is not stored yet, unless it was tried a moment ago."""
        with self._storing:
            if not self._pending or (self._retry_at and self._clock() < self._retry_at):
                return
            try:
                self._write()
                self._retry_at, self._pause_ns = 0, FIRST_PAUSE_NS
            except OSError as error:
                self.errors += 1
                self.last_error = str(error)
                if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                    log.warning("templates are not stored yet: %s", error)
                self._retry_at = self._clock() + self._pause_ns
                self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)

    def _write(self) -> None:
        with self._lock:
            news = list(self._pending)
            entries = self.entries()
        lines = self._lines + len(news)
        if len(self._listed) >= MOST_SEGMENTS or lines > 2 * len(entries) + 1024:
            self._store.replace(self._base, b"".join(map(_line, entries)))
            # A segment that is read once more because it could not be deleted changes nothing.
            self._stored(news, len(entries))
            while self._listed:
                self._store.delete(self._listed[0])
                del self._listed[0]
            return
        name = f"{self._segments}{self._number + 1:012d}.{self.epoch}.jsonl"
        self._store.replace(name, b"".join(map(_line, news)))
        self._number += 1
        self._listed.append(name)
        self._stored(news, lines)

    def _stored(self, news: list[Entry], lines: int) -> None:
        with self._lock:
            del self._pending[: len(news)]
        self._lines = lines

    def since(self, epoch: str, generation: int) -> tuple[str, int, list[Entry]]:
        """Entries newer than a generation of an epoch, all if the epoch is another: (epoch,
        generation, entries), in order of learning.
        """
        if epoch != self.epoch:
            generation = 0
        news: list[Entry] = []
        with self._lock:
            for number, entry in reversed(self._entries.values()):
                if number <= generation:
                    break
                news.append(entry)
            newest = self.generation
        news.reverse()
        return self.epoch, newest, news

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        return [entry for _, entry in list(self._entries.values())]


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
