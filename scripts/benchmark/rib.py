"""A RIB group in a process, without Ray: `rib CONFIG`, until INT or TERM.

At USR1 it prints a line of figures, a JSON object: those of the group, how far its newest
snapshot was behind the tables at most since the last line, and how often that was looked at.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from benchmark.counted import LOOK_SECONDS
from cluster.replay import load_program
from flowray.garbage import rarely_searched
from flowray.rib.service import RouteService

LOOK = 10 * LOOK_SECONDS
SIGNALS = (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    program = load_program(Path(sys.argv[1]))
    service = RouteService(program, program.settings.route_groups[0], {})
    service.start()
    oldest, looks = 0.0, 0
    while True:
        caught = signal.sigtimedwait(SIGNALS, LOOK)
        lag = service.status()["snapshot_lag_seconds"]
        oldest, looks = max(oldest, lag), looks + 1
        if caught is None:
            continue
        if caught.si_signo != signal.SIGUSR1:
            break
        figures = {**service.status(), "oldest_seconds": round(oldest, 3), "looks": looks}
        print(json.dumps(figures), flush=True)
        oldest, looks = 0.0, 0
    service.stop()


if __name__ == "__main__":
    with rarely_searched():
        main()
