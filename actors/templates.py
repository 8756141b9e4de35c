"""The template store as an actor."""

from __future__ import annotations

import threading
from typing import Any

import ray

from actors.metrics import STORE, Meter
from actors.naming import as_actor
from flowray.ingest.knowledge import Entry, KnowledgeStore
from flowray.state.store import open_store

STORE_SECONDS = 1.0
"""How often what could not be stored is tried again."""


class Templates:
    """See `flowray.ingest.knowledge.KnowledgeStore`."""

    def __init__(self, state: str) -> None:
        self._at = open_store(state)
        self._store = KnowledgeStore(self._at)
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="store", daemon=True).start()
        self._meter = Meter(STORE, {}, self._figures)

    def _run(self) -> None:
        while not self._stop.wait(STORE_SECONDS):
            self._store.store_pending()

    def __repr__(self) -> str:
        return f"Templates({self._at})"

    @ray.method(concurrency_group="control")
    def publish(self, entries: list[Entry]) -> int:
        """Add news; they survive a crash, unless the state store is away."""
        return self._store.publish(entries)

    @ray.method(concurrency_group="control")
    def since(self, epoch: str, generation: int) -> tuple[str, int, list[Entry]]:
        """Entries newer than a generation."""
        return self._store.since(epoch, generation)

    @ray.method(concurrency_group="control")
    def entries(self) -> list[Entry]:
        """All entries."""
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
            "pending": store.pending,
            "errors": store.errors,
            "last_error": store.last_error,
        }

    def __ray_shutdown__(self) -> None:
        self._stop.set()
        self._store.store_pending()


TemplatesActor = as_actor(Templates)
