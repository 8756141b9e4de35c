"""`flowray status`, `top`, `templates` and `ledger`: looking at what runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.live import Live as Screen
from rich.table import Table

from actors.naming import NAMESPACE, TEMPLATES
from cluster.accounts import ledger_tables, live_problems, warnings
from cluster.replay import load_program
from cluster.runtime import supervisor
from cluster.topology import absolute
from flowray.live.newest import Newest, NewestRows
from flowray.settings.compile import Program
from flowray.views.leading import Leading
from flowray.views.view import ViewPlan

ANSWER_SECONDS = 30
REFRESH_SECONDS = 1.0

PIPE_WIDTH = 120
COUNTERS = ("packets", "bytes", "flows")
IN_TITLE = "stamp_inserted"
SHARD_COLUMNS = ("state", "datagrams", "kernel_drops", "lag_seconds", "errors", "restarts")
NODE_COLUMNS = ("state", "address", "actors", "wanted_shards")
RIB_COLUMNS = (
    *("state", "bgp_sessions", "bmp_sessions", "peers", "stale_peers", "routes"),
    *("snapshot_lag_seconds", "restarts"),
)
AGGREGATOR_COLUMNS = (
    *("state", "open_windows", "rows_committed", "outstanding", "outbox_octets"),
    *("behind_seconds", "live"),
)


@contextmanager
def _connected(config: Path | None) -> Iterator[tuple[Program, Any]]:
    program = load_program(config)
    with supervisor(absolute(program.settings)) as actor:
        yield program, actor


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def _get(ref: Any) -> Any:
    import ray

    return ray.get(ref, timeout=ANSWER_SECONDS)


def status(config: Path | None, *, as_json: bool) -> None:
    """What runs and how it is."""
    with _connected(config) as (_, actor):
        found = _get(actor.status.remote())
    if as_json:
        typer.echo(json.dumps(found))
        return
    console = _console()
    if len(found["nodes"]) > 1:
        console.print(_members("node", found["nodes"], NODE_COLUMNS))
    if not found["configuration"]["agreed"]:
        console.print("not all run with the newest configuration yet", style="yellow")
    for line in found["waiting"]:
        console.print(line, style="yellow")
    console.print(_members("shard", found["shards"], SHARD_COLUMNS))
    if found["ribs"]:
        console.print(_members("rib group", found["ribs"], RIB_COLUMNS))
    console.print(_members("aggregator", found["aggregators"], AGGREGATOR_COLUMNS))
    console.print(f"templates and facts: {found['templates'].get('entries', 'unknown')}")
    for line, style in warnings(found):
        console.print(line, style=style)
    for event in found["events"][-5:]:
        console.print(event, style="dim")


def _members(title: str, members: dict[str, Any], columns: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "))
    told = ("error", "last_sink_error", "live_error", "last_error")
    wrong = {n: next(filter(None, map(m.get, told)), "") for n, m in members.items()}
    if any(wrong.values()):
        table.add_column("what is wrong", overflow="fold")
    for name, m in members.items():
        words = [wrong[name]] if any(wrong.values()) else []
        table.add_row(name, *(str(m.get(c, "")) for c in columns), *words)
    return table


def templates(config: Path | None, *, as_json: bool) -> None:
    """Templates and options facts in the store."""
    with _connected(config):
        import ray

        entries = _get(ray.get_actor(TEMPLATES, NAMESPACE).entries.remote())
    if as_json:
        typer.echo(json.dumps(entries))
        return
    table = Table("exporter", "domain", "version", "told", "what")
    for entry in entries:
        told = datetime.fromtimestamp(entry["at"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        where = (entry["exporter"], str(entry["domain"]), str(entry["version"]), told)
        table.add_row(*where, _what(entry))
    _console().print(table)


def _what(entry: dict[str, Any]) -> str:
    if "template" in entry:
        number, scopes, fields = entry["template"]
        kind = "options template" if scopes else "template"
        return f"{kind} {number}: {len(fields)} fields"
    from flowray.ingest.options import Topic

    topic, about, value = entry["fact"]
    shown = bytes.fromhex(value).decode(errors="replace") if isinstance(value, str) else value
    return f"{Topic(topic).name.lower()} {about}: {shown}"


def ledger(config: Path | None, *, as_json: bool) -> None:
    """The accounts: where every datagram and record ended."""
    with _connected(config) as (_, actor):
        found = _get(actor.ledger.remote())
    if as_json:
        wrong = live_problems(found)
        typer.echo(json.dumps({**found, "balanced": not wrong, "problems": wrong}))
        return
    console = _console()
    for table in ledger_tables(found):
        console.print(table)
    wrong = live_problems(found)
    for line in wrong:
        console.print(line, style="red")
    if not wrong:
        console.print("it balances", style="green")


def rows_table(view: str, newest: Newest) -> Table:
    """Rows for a terminal."""
    when = datetime.fromtimestamp(newest.start / 1e9, UTC).strftime("%H:%M:%S")
    table = Table(title=f"{view}, window of {when} UTC", box=box.SIMPLE_HEAD, pad_edge=False)
    names = dict.fromkeys(name for row in newest.rows for name in row if name != IN_TITLE)
    for name in names:
        table.add_column(name, justify="right" if name in COUNTERS else "left", overflow="fold")
    for row in newest.rows:
        table.add_row(*(_cell(name, row.get(name)) for name in names))
    return table


def _cell(name: str, value: Any) -> str:
    if name in COUNTERS:
        return amount(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def amount(value: float) -> str:
    """A number in three figures and a unit: 1.39 G."""
    units = ["", " k", " M", " G", " T", " P"]
    while abs(value) >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g}{units[0]}"


def top(config: Path | None, view: str, n: int, by: str, *, once: bool, as_json: bool) -> None:
    """The biggest rows of a view's newest open window, again and again. Joins Ray only to ask the
    aggregators.
    """
    program = load_program(config)
    console = _console()
    with ExitStack() as joined:
        newest_rows = NewestRows(program, _Asking(program, joined))
        if once or as_json or not console.is_terminal:
            found = newest_rows(view, n, by)
            if as_json:
                typer.echo(json.dumps(found.rows if found else []))
            else:
                console.print(_page(view, found))
            return
        with Screen(console=console, screen=True) as screen:
            while True:
                screen.update(_page(view, newest_rows(view, n, by)))
                time.sleep(REFRESH_SECONDS)


def _page(view: str, newest: Newest | None) -> Table | str:
    return rows_table(view, newest) if newest else "no open window"


class _Asking:
    """Asks aggregators; joins Ray for the first question. Raises NotRunningError."""

    def __init__(self, program: Program, joined: ExitStack) -> None:
        self._program, self._joined = program, joined
        self._connected = False

    def __call__(self, plan: ViewPlan, n: int) -> Sequence[Leading]:
        if not self._connected:
            self._joined.enter_context(supervisor(absolute(self._program.settings)))
            self._connected = True
        from actors.newest import ask_aggregators  # imports Ray, which reads its environment then

        return ask_aggregators(plan, n)
