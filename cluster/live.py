"""Bringing flowray up, and ending it: what `up`, `down`, `demo` and tests share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from actors.naming import GATEWAY, NAMESPACE, SUPERVISOR, TEMPLATES, named
from actors.plan import Plan
from flowray.errors import FlowrayError
from flowray.ingest.ledger import problems, totals
from flowray.ingest.sequence_runs import without_sequences

READY_SECONDS = 180.0
"""A start takes seconds; where kernels are to be compiled first, on a busy machine, minutes."""
LOOK_SECONDS = 0.2
END_SECONDS = 180.0
_READY = ("healthy", "waiting")


class StartError(FlowrayError):
    """Something of it does not start."""


@dataclass(slots=True)
class Live:
    """A flowray that runs, seen from the process that brought it up. Needs a connection to Ray."""

    plan: Plan
    supervisor: Any
    dashboard: str = ""
    started: float = field(default_factory=time.monotonic)

    def status(self) -> dict[str, Any]:
        """What runs and how it is."""
        import ray

        status: dict[str, Any] = ray.get(self.supervisor.status.remote(), timeout=30)
        return status

    def wait_ready(self, seconds: float = READY_SECONDS) -> dict[str, Any]:
        """Wait until all shards and RIB groups receive for which there are nodes. Raises StartError
        with the reason if they do not.
        """
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            shards = status["shards"].values()
            running = sum(s["state"] == "healthy" for s in shards)
            ribs = status["ribs"].values()
            listening = all(r["state"] in _READY for r in ribs)
            started = bool(shards) or status["waiting"]
            if started and running >= status["wanted_shards"] and listening:
                return status
            members = [*shards, *status["aggregators"].values(), *ribs, status["gateway"]]
            errors = [m["error"] for m in members if m["restarts"] and m["error"]]
            if errors or time.monotonic() > deadline:
                raise StartError(errors[0] if errors else f"not ready after {seconds:.0f} s")
            time.sleep(LOOK_SECONDS)

    def drain(self) -> dict[str, Any]:
        """Drain everything; the summary of the run."""
        import ray

        figures = ray.get(self.supervisor.drain.remote(), timeout=END_SECONDS)
        return summary(figures, time.monotonic() - self.started)

    def stopping(self) -> bool:
        """Whether `flowray down` asked it to stop."""
        import ray

        stopping: bool = ray.get(self.supervisor.stopping.remote(), timeout=30)
        return stopping

    @staticmethod
    def end_all() -> None:
        """End all actors. What is not drained is lost."""
        import ray

        for name in actor_names():
            try:
                ray.kill(ray.get_actor(name, NAMESPACE))
            except ValueError:
                continue


def actor_names() -> list[str]:
    """Names of flowray's actors that run, the supervisor first: it would start the others again."""
    import ray

    entries = ray.util.list_named_actors(all_namespaces=False)
    names = [e if isinstance(e, str) else e["name"] for e in entries]
    ours = [n for n in names if n in (SUPERVISOR, TEMPLATES, GATEWAY) or n.split("/")[0] in _KINDS]
    return sorted(ours, key=lambda name: name != SUPERVISOR)


_KINDS = ("ingest", "aggregate", "rib")


@contextmanager
def running(plan: Plan) -> Iterator[Live]:
    """Bring it up on the Ray that this process is connected to; ends all actors at the end."""
    from actors.nodes import ON_HEAD
    from actors.supervisor import SupervisorActor

    actor = SupervisorActor.options(**named(SUPERVISOR), **ON_HEAD)
    live = Live(plan, actor.remote(plan))
    try:
        yield live
    finally:
        live.end_all()


def summary(figures: dict[str, Any], seconds: float) -> dict[str, Any]:
    """One JSON-able object for the whole run; `problems` is empty if the ledger balances."""
    ledger = figures["ledger"]
    sums = totals(ledger)
    still_open: dict[str, int] = {}
    committed: dict[str, dict[str, int]] = {}
    for a in figures["aggregators"]:
        still_open[a["view"]] = still_open.get(a["view"], 0) + a["open_records"]
        view = committed.setdefault(a["view"], {"rows": 0})
        for name, n in {**a["committed"], "rows": a["rows_committed"]}.items():
            view[name] = view.get(name, 0) + n
    found = problems(ledger, held=figures["sets_held"], open_records=still_open)
    if figures["not_drained"]:
        found.append(f"{figures['not_drained']} shards could not be drained")
    return {
        "datagrams": sums.get("datagrams", 0),
        "records": sums.get("records", 0),
        "rows": sum(view["rows"] for view in committed.values()),
        "seconds": round(seconds, 3),
        "kernel_drops": figures["kernel_drops"],
        "rib_cpu_seconds": round(sum(r["cpu_seconds"] for r in figures["ribs"].values()), 3),
        "shard_cpu_seconds": round(figures["shard_cpu_seconds"], 3),
        "aggregator_cpu_seconds": round(sum(a["cpu_seconds"] for a in figures["aggregators"]), 3),
        "balanced": not found,
        "problems": found,
        "committed": committed,
        "ledger": without_sequences(ledger),
    }
