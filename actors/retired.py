"""What a supervisor must not forget: the accounts of shards that are gone, how many are wanted."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from typing import Any

from flowray.ingest.ledger import Snapshot, merge_snapshots
from flowray.state.store import Store, patiently

log = logging.getLogger(__name__)

NAME = "retired.json"

SUMMED = ("sets_held", "kernel_drops", "cpu_seconds")


class Retired:
    """Kept in the state store until the run ends in order. Thread-safe."""

    def __init__(self, store: Store, shards: int) -> None:
        """Waits for a store that is away."""
        self._store = store
        self._lock = threading.Lock()
        self._stored = True
        self.ledger: Snapshot = {"exporters": {}, "views": {}}
        self.sums: dict[str, float] = dict.fromkeys(SUMMED, 0)
        self.shards = shards
        content = patiently("supervisor", lambda: store.read(NAME))
        with suppress(ValueError, KeyError):
            kept = json.loads(content or b"")
            self.ledger, self.sums, self.shards = kept["ledger"], kept["sums"], kept["shards"]

    def add(self, figures: dict[str, Any]) -> None:
        """Add the last figures of a shard."""
        with self._lock:
            self.ledger = merge_snapshots([self.ledger, figures["ledger"]])
            self.sums = {name: n + figures[name] for name, n in self.sums.items()}
            self._keep()

    def want(self, shards: int) -> None:
        """Note how many shards a node shall have."""
        with self._lock:
            self.shards = shards
            self._keep()

    def retry(self) -> None:
        """Store what could not be stored."""
        with self._lock:
            if not self._stored:
                self._keep()

    def _keep(self) -> None:
        kept = {"ledger": self.ledger, "sums": self.sums, "shards": self.shards}
        try:
            self._store.replace(NAME, json.dumps(kept).encode())
            self._stored = True
        except OSError as error:
            if self._stored:
                log.warning("the accounts of drained shards are not stored yet: %s", error)
            self._stored = False

    def forget(self) -> None:
        """The run has ended in order: the next one begins anew."""
        with self._lock:
            try:
                self._store.delete(NAME)
            except OSError as error:
                log.warning("the next run will begin with the accounts of this one: %s", error)
