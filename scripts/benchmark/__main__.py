"""scripts/bench: the table of targets, measured."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmark.batch import pcap
from benchmark.context import Bench, bench
from benchmark.joined import joined
from benchmark.lookup import lookup
from benchmark.onray import on_ray
from benchmark.processes import ROOT
from benchmark.rate import rates
from benchmark.report import Section, machine, show
from benchmark.scaling import scaling
from benchmark.start import start
from benchmark.stored import grouping, records
from benchmark.tables import one_table, ten_peers
from benchmark.udp import udp

ROWS: dict[str, Callable[[Bench], Section]] = {
    "pcap": pcap,
    "live": udp,
    "rate": rates,
    "stored": records,
    "grouping": grouping,
    "ray": on_ray,
    "scaling": scaling,
    "start": start,
    "routes": one_table,
    "tenpeers": ten_peers,
    "lookup": lookup,
    "joined": joined,
}

LINE = 150
"""Columns of output that goes to no terminal."""

USAGE = """\
Measures flowray beside nfacctd and nfcapd + nfdump (apt-get install pmacct nfdump): the same
generated records, in one run, in turn. CPU seconds are user and system time of all processes of a
program; of several repeats the one with least CPU counts, for what else runs here only adds to it.
What a program costs over next to nothing (its start and end) is measured apart and taken off, for
all alike."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/bench", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=",".join(ROWS), help="which, of %(default)s")
    parser.add_argument("--records", type=int, default=4_000_000, help="default %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="default %(default)s")
    parser.add_argument("--rate", type=float, default=30_000, help="datagrams a second, live")
    parser.add_argument(
        "--routes",
        type=int,
        default=1_000_000,
        help="IPv4 routes of full tables, default %(default)s",
    )
    parser.add_argument(
        "--quick", action="store_true", help="400,000 records, 100,000 routes, once: does it run?"
    )
    parser.add_argument("--json", type=Path, help="default bench-<date>.json")
    options = parser.parse_args()
    options.rows = options.rows.split(",")
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"--rows: found {', '.join(unknown)}, allowed {', '.join(ROWS)}")
    if options.quick:
        options.records, options.repeats, options.routes = 400_000, 1, 100_000
    return options


def main() -> int:
    options = arguments()
    console = Console(width=None if sys.stdout.isatty() else LINE)
    begun = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    target = options.json or ROOT / f"bench-{begun[:10]}.json"
    where = machine()
    peers = "; ".join(str(version) for version in where["peers"].values())
    console.print(f"{where['cpu']}, {where['cores']} cores; {peers}", highlight=False)
    sections: dict[str, Section] = {}
    with bench(options.records, options.repeats, options.rate, options.routes) as run:
        console.print(f"{run.records:,} records, {run.repeats} repeats", highlight=False)
        for name in options.rows:
            with console.status(ROWS[name].__doc__ or name):
                sections[name] = ROWS[name](run)
            show(sections[name], console)
            result = {
                "begun": begun,
                "machine": where,
                "records": options.records,
                "repeats": options.repeats,
                "rate": options.rate,
                "routes": options.routes,
                "rows": {n: section.to_dict() for n, section in sections.items()},
            }
            target.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"\nwritten to {target}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
