"""Kills everything that flowray is made of and stands on, again and again, under steady load; then
reckons record by record. `scripts/chaos --help`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.chaos.load import Load
from tests.chaos.reckoning import Verdict, verdicts
from tests.chaos.stage import TARGETS, Stage
from tests.chaos.victims import VICTIMS, Scene

PAUSE = (0.5, 3.0)
"""Seconds between two kills, at random."""


def main() -> int:
    """0 if nothing was lost but what the ledger declares."""
    options = _options()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos")))
        stage = stack.enter_context(Stage(directory))
        load = Load([(host, stage.port) for host in TARGETS], options.rate, seed=options.seed)
        load.start()
        seconds = run(stage.scene(options.seed), options.kills, options.only)
        load.stop()
        summary = stage.finish()
        found = verdicts(load.exporters, stage.rows(), summary["ledger"])
        report = _report(found, seconds, summary, load, stage)
    print(json.dumps(report) if options.json else _text(report))
    return 1 if report["problems"] else 0


def run(scene: Scene, kills: int, only: list[str]) -> dict[str, list[float]]:
    """Kill so many, each kind as often as any other, in random order; seconds of recovery."""
    kinds = only or list(VICTIMS)
    todo = (kinds * (kills // len(kinds) + 1))[:kills]
    scene.random.shuffle(todo)
    seconds: dict[str, list[float]] = defaultdict(list)
    for number, kind in enumerate(todo, 1):
        time.sleep(scene.random.uniform(*PAUSE))
        seconds[kind].append(VICTIMS[kind](scene))
        print(f"{number}/{kills} {kind}: back in {seconds[kind][-1]:.1f} s", file=sys.stderr)
    return seconds


def _report(
    found: list[Verdict],
    seconds: dict[str, list[float]],
    summary: dict[str, Any],
    load: Load,
    stage: Stage,
) -> dict[str, Any]:
    problems = [p for verdict in found for p in verdict.problems]
    problems += summary["problems"]
    problems += stage.window_problems(sum(v.account.committed for v in found))
    return {
        "kills": sum(map(len, seconds.values())),
        "recovery_seconds": {
            kind: {
                "kills": len(taken),
                "median": round(statistics.median(taken), 2),
                "most": round(max(taken), 2),
            }
            for kind, taken in sorted(seconds.items())
        },
        "datagrams_sent": load.sent,
        "records_sent": sum(v.account.sent for v in found),
        "records_committed": sum(v.account.committed for v in found),
        "records_missing": sum(v.account.missing for v in found),
        "records_declared": sum(v.declared for v in found),
        "records_repeated": sum(v.account.repeated for v in found),
        "kernel_drops": summary["kernel_drops"],
        "problems": problems,
    }


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['kills']} kills"]
    for kind, told in report["recovery_seconds"].items():
        lines.append(
            f"  {kind:<11}{told['kills']:>3} kills, back after {told['median']:.1f} s"
            f" (median), {told['most']:.1f} s at most"
        )
    lines.append(
        "{records_sent} records sent, {records_committed} committed; {records_missing} missing,"
        " {records_declared} declared lost; {records_repeated} twice".format(**report)
    )
    return "\n".join([*lines, *(f"WRONG: {p}" for p in report["problems"])])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--rate", type=float, default=500, help="datagrams a second (default 500)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument(
        *("--only",), action="append", default=[], choices=list(VICTIMS), help="kind; repeat"
    )
    parser.add_argument("--json", action="store_true", help="nothing but one line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
