"""What a supervisor must not forget: the accounts of shards that are gone, how many are wanted."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from flowray.ingest.ledger import Snapshot, merge_snapshots
from flowray.views.checkpoint import replace_file

SUMMED = ("sets_held", "kernel_drops", "cpu_seconds")


class Retired:
    """Kept in a file until the run ends in order. Thread-safe."""

    def __init__(self, path: Path, shards: int) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.ledger: Snapshot = {"exporters": {}, "views": {}}
        self.sums: dict[str, float] = dict.fromkeys(SUMMED, 0)
        self.shards = shards
        with suppress(FileNotFoundError, ValueError, KeyError):
            kept = json.loads(path.read_bytes())
            self.ledger, self.sums, self.shards = kept["ledger"], kept["sums"], kept["shards"]

    def add(self, figures: dict[str, Any]) -> None:
        """Add the last figures of a shard."""
        with self._lock:
            self.ledger = merge_snapshots([self.ledger, figures["ledger"]])
            self.sums = {name: n + figures[name] for name, n in self.sums.items()}
            self._store()

    def want(self, shards: int) -> None:
        """Note how many shards a node shall have."""
        with self._lock:
            self.shards = shards
            self._store()

    def _store(self) -> None:
        kept = {"ledger": self.ledger, "sums": self.sums, "shards": self.shards}
        replace_file(self._path, json.dumps(kept).encode())

    def forget(self) -> None:
        """The run has ended in order: the next one begins anew."""
        with self._lock:
            self._path.unlink(missing_ok=True)
