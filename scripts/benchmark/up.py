"""`flowray up` that says when its first packet is in the ledger: `up CONFIG`, until INT or TERM."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from benchmark.counted import COUNTED, LOOK_SECONDS
from cluster.replay import load_program
from cluster.up import report, started


def main() -> None:
    config = Path(sys.argv[1])
    stop = threading.Event()
    with started(load_program(config), str(config), None, stop) as live:
        shard = _shard()
        while not stop.wait(LOOK_SECONDS):
            if shard()["views"]:
                print(COUNTED, flush=True)
                break
        stop.wait()
        end = live.drain()
    report(end, as_json=True)


def _shard() -> Any:
    """Asks the only shard for its ledger."""
    import ray

    from actors.naming import NAMESPACE
    from cluster.live import actor_names

    (name,) = (name for name in actor_names() if name.startswith("ingest/"))
    actor: Any = ray.get_actor(name, NAMESPACE)
    return lambda: ray.get(actor.ledger.remote(), timeout=30)


if __name__ == "__main__":
    main()
