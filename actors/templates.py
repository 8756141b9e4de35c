"""The template store as an actor."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import ray

from actors.metrics import STORE, Meter
from actors.naming import as_actor
from flowray.ingest.knowledge import Entry, KnowledgeStore


class Templates:
    """See `flowray.ingest.knowledge.KnowledgeStore`."""

    def __init__(self, state: Path) -> None:
        self._path = state / "templates.jsonl"
        self._store = KnowledgeStore(self._path)
        self._lock = threading.Lock()
        self._meter = Meter(STORE, {}, self._figures)

    def __repr__(self) -> str:
        return f"Templates({self._path})"

    @ray.method(concurrency_group="control")
    def publish(self, entries: list[Entry]) -> int:
        """Add news; when this returns they survive a crash."""
        with self._lock:
            return self._store.publish(entries)

    @ray.method(concurrency_group="control")
    def since(self, epoch: str, generation: int) -> tuple[str, int, list[Entry]]:
        """Entries newer than a generation."""
        with self._lock:
            return self._store.since(epoch, generation)

    @ray.method(concurrency_group="control")
    def entries(self) -> list[Entry]:
        """All entries."""
        with self._lock:
            return self._store.entries()

    @ray.method(concurrency_group="control")
    def status(self) -> dict[str, Any]:
        """Figures."""
        return self._figures()

    def _figures(self) -> dict[str, Any]:
        store = self._store
        return {
            "entries": len(store),
            "generation": store.generation,
            "refused": store.refused,
            "epoch": store.epoch,
        }


TemplatesActor = as_actor(Templates)
