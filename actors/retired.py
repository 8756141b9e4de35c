"""What a supervisor must not forget: the accounts of shards that are gone, how many are wanted, and
which nodes shall be empty.
"""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from typing import Any

from flowray.fleet.placement import Site
from flowray.ingest.ledger import Snapshot, merge_snapshots
from flowray.state.store import Store, patiently

log = logging.getLogger(__name__)

NAME = "retired.json"

SUMMED = ("sets_held", "kernel_drops", "cpu_seconds")


class Retired:
    """Kept in the state store until the run ends in order. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Waits for a store that is away."""
        self._store = store
        self._lock = threading.Lock()
        self._stored = True
        self._kept: dict[str, Any] = {
            "ledger": {"exporters": {}, "views": {}},
            "sums": dict.fromkeys(SUMMED, 0),
            "shards": None,
            "by_node": {},
            "empty_nodes": [],
            "given_up": {},
            "finished": {},
        }
        content = patiently("supervisor", lambda: store.read(NAME))
        with suppress(ValueError):
            self._kept |= json.loads(content or b"{}")

    @property
    def ledger(self) -> Snapshot:
        """The accounts of shards that are gone."""
        return merge_snapshots([self._kept["ledger"], *(f["ledger"] for f in self._told())])

    @property
    def sums(self) -> dict[str, float]:
        """Their other figures, by the names in `SUMMED`."""
        told = [self._kept["sums"], *self._told()]
        return {name: sum(figures[name] for figures in told) for name in SUMMED}

    def _told(self) -> list[dict[str, Any]]:
        """The figures of shards that were given up, of those that had told any."""
        return [figures for figures in self._kept["given_up"].values() if figures is not None]

    @property
    def given_up(self) -> list[str]:
        """Shards that went with their node: their accounts are as they were last heard."""
        return [place.split()[0] for place in self._kept["given_up"]]

    @property
    def empty_nodes(self) -> set[str]:
        """Ids of nodes that the operator drained."""
        return set(self._kept["empty_nodes"])

    @property
    def fixed(self) -> bool:
        """Whether the operator said how many shards each node shall have."""
        return self._kept["shards"] is not None

    @property
    def aggregators(self) -> list[dict[str, Any]]:
        """The last figures of aggregators that finished, with their ledgers."""
        return list(self._kept["finished"].values())

    def wanted(self, site: Site) -> int:
        """Shards that a node shall have: as asked for, as its load wants, or the least."""
        if self._kept["shards"] is not None:
            return int(self._kept["shards"])
        asked: int = self._kept["by_node"].get(site.node.name, site.least)
        return max(site.least, min(asked, site.most))

    def add(self, figures: dict[str, Any]) -> None:
        """Add the last figures of a shard."""
        with self._lock:
            self._kept["ledger"] = merge_snapshots([self._kept["ledger"], figures["ledger"]])
            sums = self._kept["sums"]
            self._kept["sums"] = {name: n + figures[name] for name, n in sums.items()}
            self._keep()

    def give_up(self, name: str, figures: dict[str, Any] | None) -> None:
        """Note that a shard is gone, with the figures that it told last, if it told any."""
        place = f"{name} {figures['incarnation'] if figures else ''}"
        self._note("given_up", {**self._kept["given_up"], place: figures})

    def back(self, name: str, incarnation: str) -> bool:
        """Note that a shard runs; whether it is one that was given up. It went on from the ring of
        that one, so it tells its accounts itself.
        """
        place, given_up = f"{name} {incarnation}", self._kept["given_up"]
        if place not in given_up:
            return False
        self._note("given_up", {p: f for p, f in given_up.items() if p != place})
        return True

    def finished(self, name: str, figures: dict[str, Any]) -> None:
        """Note the last figures of an aggregator; those told first count."""
        if name not in self._kept["finished"]:
            self._note("finished", {**self._kept["finished"], name: figures})

    def want(self, shards: int) -> None:
        """Note how many shards each node shall have."""
        self._note("shards", shards)

    def want_on(self, node: str, shards: int) -> None:
        """Note how many shards a node's load asks for."""
        self._note("by_node", {**self._kept["by_node"], node: shards})

    def empty(self, node_id: str) -> None:
        """Note that a node shall be empty."""
        self._note("empty_nodes", sorted(self.empty_nodes | {node_id}))

    def _note(self, name: str, value: Any) -> None:
        with self._lock:
            self._kept[name] = value
            self._keep()

    def retry(self) -> None:
        """Store what could not be stored."""
        with self._lock:
            if not self._stored:
                self._keep()

    def _keep(self) -> None:
        try:
            self._store.replace(NAME, json.dumps(self._kept).encode())
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
