"""The command line: `flowray VERB`. Verbs import what they need when they run, so that help is
quick.
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flowray.errors import FlowrayError
from flowray.garbage import rarely_searched

app = typer.Typer(
    name="flowray",
    help="Network telemetry collector on Ray: flows in, the views you asked for out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None, typer.Option("-c", "--config", help="Configuration file (flowray.yaml).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]

rib = typer.Typer(help="Look into the tables of routes.", no_args_is_help=True)
app.add_typer(rib, name="rib")

state = typer.Typer(help="Look at snapshots of the state.", no_args_is_help=True)
app.add_typer(state, name="state")

Address = Annotated[
    str | None,
    typer.Option(help="Where the looking glass answers; else as configured.", metavar="HOST:PORT"),
]
TableFile = Annotated[
    Path | None, typer.Option("--file", help="Ask an MRT file or saved tables instead.")
]
PeerOption = Annotated[str, typer.Option(help="Address of the peer or its router.")]
RdOption = Annotated[str, typer.Option(help="Route distinguisher, or global.")]

EXIT_OPERATOR_ERROR = 2


class Format(StrEnum):
    """File kinds of `replay --out`."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


@app.command()
def replay(
    inputs: Annotated[
        list[str],
        typer.Argument(help="pcap, pcapng or MRT files, or an archive.", show_default=False),
    ],
    config: Config = None,
    out: Annotated[
        Path | None, typer.Option(help="Write every view to DIR/<view>.<format> instead.")
    ] = None,
    kind: Annotated[Format, typer.Option("--format", help="With --out.")] = Format.jsonl,
    workers: Annotated[
        int, typer.Option(min=0, help="Ray actors, by exporter; 0 runs in this process.")
    ] = 0,
    begin: Annotated[
        str, typer.Option("--from", help="Of an archive, from this time on (UTC, or 90m ago).")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Of an archive, before this time.")] = "",
    exporter: Annotated[
        list[str] | None, typer.Option(help="Of an archive, this exporter; again: another one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run captures or an archive through the configuration on their time: the same rows as live."""
    from cluster.replay import Wanted, run

    wanted = Wanted(begin, end, tuple(exporter or ()))
    run(inputs, config, out, kind.value, workers, wanted, as_json=as_json)


@app.command()
def up(
    config: Config = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="A Ray cluster that runs already (or RAY_ADDRESS, or cluster.address);"
            " else one of its own."
        ),
    ] = None,
    from_state: Annotated[
        str | None,
        typer.Option(help="Start from a snapshot: its name, latest, or where it is and its name."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start and stay until Ctrl-C or `flowray down`; then drain and print the summary."""
    from cluster.up import up as run

    run(config, address, from_state, as_json=as_json)


@app.command()
def down(config: Config = None, as_json: Json = False) -> None:
    """Stop what runs with this configuration's state path: it drains and ends."""
    from cluster.up import down as run

    run(config, as_json=as_json)


@app.command()
def drain(
    config: Config = None,
    node: Annotated[
        str | None,
        typer.Option(help="Empty this node alone: others take over first, nothing is lost."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Stop receiving, close all windows, commit them; `flowray down` ends it."""
    from cluster.up import drain as run

    run(config, node, as_json=as_json)


@app.command()
def reload(
    config: Config = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Have what runs go on with a changed configuration; SIGHUP to `flowray up` does it, too."""
    from cluster.reload import reload as run

    run(config, dry_run=dry_run, as_json=as_json)


@app.command()
def status(config: Config = None, as_json: Json = False) -> None:
    """Show what runs and how it is."""
    from cluster.look import status as run

    run(config, as_json=as_json)


@app.command()
def top(
    view: Annotated[str, typer.Argument(help="Name of the view.", show_default=False)],
    config: Config = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Rows.")] = 20,
    by: Annotated[str, typer.Option(help="Counter to sort by.")] = "bytes",
    once: Annotated[bool, typer.Option("--once", help="Print once.")] = False,
    as_json: Json = False,
) -> None:
    """Show the biggest rows of a view's newest open window."""
    from cluster.look import top as run

    run(config, view, n, by, once=once, as_json=as_json)


@app.command()
def templates(config: Config = None, as_json: Json = False) -> None:
    """List the templates and options facts that exporters told."""
    from cluster.look import templates as run

    run(config, as_json=as_json)


@app.command()
def ledger(config: Config = None, as_json: Json = False) -> None:
    """Show the accounts: where every datagram and record ended."""
    from cluster.look import ledger as run

    run(config, as_json=as_json)


@state.command("ls")
def state_ls(config: Config = None, as_json: Json = False) -> None:
    """List the snapshots of the state."""
    from cluster.state import ls as run

    run(config, as_json=as_json)


@state.command("show")
def state_show(
    name: Annotated[str, typer.Argument(help="Name of the snapshot.")] = "latest",
    view: Annotated[str | None, typer.Option(help="Show the rows that this view had open.")] = None,
    n: Annotated[int, typer.Option("-n", min=0, help="Rows at most; 0: all.")] = 20,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what a snapshot holds: its parts, or the open rows of a view."""
    from cluster.state import show as run

    run(config, name, view, n, as_json=as_json)


@rib.command("peers")
def rib_peers(
    config: Config = None, address: Address = None, file: TableFile = None, as_json: Json = False
) -> None:
    """List the peers and their tables."""
    from cluster.rib import Source
    from cluster.rib import peers as run

    run(Source(config, address, file), as_json=as_json)


@rib.command("lookup")
def rib_lookup(
    ip: Annotated[str, typer.Argument(help="Address or prefix.", show_default=False)],
    peer: PeerOption = "",
    rd: RdOption = "",
    everything: Annotated[
        bool, typer.Option("--all", help="All matching prefixes, not only the longest.")
    ] = False,
    config: Config = None,
    address: Address = None,
    file: TableFile = None,
    as_json: Json = False,
) -> None:
    """Show the routes that match an address best, of each table."""
    from cluster.rib import Source
    from cluster.rib import lookup as run

    run(Source(config, address, file), ip, peer, rd, everything=everything, as_json=as_json)


@rib.command("routes")
def rib_routes(
    peer: PeerOption = "",
    prefix: Annotated[str, typer.Option(help="Prefix of the route.")] = "",
    longer: Annotated[bool, typer.Option("--longer", help="Also those inside it.")] = False,
    as_path: Annotated[
        str, typer.Option(help="Regular expression (RE2); _ is a border between numbers.")
    ] = "",
    community: Annotated[
        list[str] | None, typer.Option(help="64496:1, 64496:1:2, RT:64496:1; again: all of them.")
    ] = None,
    rd: RdOption = "",
    family: Annotated[str, typer.Option(help="Name, or AFI/SAFI.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Routes at most; 0: all.")] = 1000,
    config: Config = None,
    address: Address = None,
    file: TableFile = None,
    as_json: Json = False,
) -> None:
    """List the routes that meet all conditions."""
    from cluster.rib import Source
    from cluster.rib import routes as run
    from flowray.pb import rib_pb2 as pb

    request = pb.RoutesRequest(
        peer=peer,
        prefix=prefix,
        longer=longer,
        as_path=as_path,
        communities=community,
        rd=rd,
        family=family,
        limit=limit,
    )
    run(Source(config, address, file), request, as_json=as_json)


@rib.command("diff")
def rib_diff(
    before: Annotated[str, typer.Argument(help="Time, or file.", show_default=False)],
    after: Annotated[str, typer.Argument(help="Time, now, or file.", show_default=False)],
    peer: PeerOption = "",
    config: Config = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show which routes came, went or changed from one time to another."""
    from cluster.rib import Source
    from cluster.rib import diff as run

    run(Source(config, address), before, after, peer, as_json=as_json)


@app.command()
def demo(
    seconds: Annotated[
        str, typer.Option("--for", help="End by itself after this time (30s, 5m).")
    ] = "",
    rate: Annotated[int, typer.Option(min=1, help="Records a second, mean of a day.")] = 5000,
    routes: Annotated[
        str,
        typer.Option(help="BGP tables of the exporters: some (ten thousand), full (a million)."),
    ] = "some",
    as_json: Json = False,
) -> None:
    """Run it all on generated exporters and routers and watch it: nothing to set up."""
    from cluster.demo import run

    run(seconds, rate, routes, as_json=as_json)


@app.command()
def check(config: Annotated[Path, typer.Argument(help="Configuration file.")]) -> None:
    """Say what a configuration would run, or what is wrong with it."""
    from cluster.check import describe
    from cluster.replay import load_program
    from flowray.rib.roa import load_roas
    from flowray.views.filter import FilterError

    try:
        program = load_program(config)
        if (roas := program.settings.routes.rpki.roas) is not None:
            load_roas(roas)
    except FilterError as error:
        typer.echo(error.caret, err=True)
        raise
    typer.echo("\n".join(describe(program)))


@app.command()
def schema(
    config: Config = None,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a page of docs.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="List metrics instead.")] = False,
) -> None:
    """List the fields that views may name, or the metrics that are exported."""
    if metrics:
        from cluster.metrics import markdown as metrics_page
        from cluster.metrics import rows as metric_rows

        found = metric_rows()
        lines = "\n".join(f"{m['name']:42} {m['kind']:8} {m['description']}" for m in found)
        page_or_lines = metrics_page() if markdown else lines + "\n"
        typer.echo(json.dumps(found) if as_json else page_or_lines, nl=as_json)
        return
    from cluster.schema import markdown as page
    from cluster.schema import rows, text
    from flowray.fields import REGISTRY
    from flowray.settings.compile import compile_settings
    from flowray.settings.load import load_settings

    registry = REGISTRY
    if config is not None:
        registry = compile_settings(load_settings(config), str(config)).registry
    if markdown:
        typer.echo(page(registry), nl=False)
        return
    typer.echo(json.dumps(rows(registry)) if as_json else text(registry))


@app.command()
def warmup() -> None:
    """Compile the kernels; scripts/setup does it once."""
    from cluster.warmup import warm_up

    warm_up()


def fail(line: str) -> None:
    """One line to standard error, exit 2."""
    typer.echo(line, err=True)
    sys.exit(EXIT_OPERATOR_ERROR)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. An operator's mistake is one line and exit 2."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # There is no linear algebra here, and its threads spin for 0.1 s when numpy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with rarely_searched():
        try:
            app(arguments)
        except FlowrayError as error:
            fail(f"flowray: {error}")
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
