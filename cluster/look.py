"""`flowray status`, `top`, `templates` and `ledger`: looking at what runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich import box
from rich.console import Console
from rich.live import Live as Screen
from rich.table import Table

from actors.naming import NAMESPACE, TEMPLATES, aggregate_name
from cluster.replay import load_program
from cluster.runtime import supervisor
from cluster.topology import absolute
from flowray.errors import FlowrayError
from flowray.ingest.ledger import problems, totals
from flowray.settings.compile import Program
from flowray.sinks.render import render
from flowray.views.window import WINDOW

ANSWER_SECONDS = 30
REFRESH_SECONDS = 1.0

PIPE_WIDTH = 120
COUNTERS = ("packets", "bytes", "flows")
SHARD_COLUMNS = ("state", "datagrams", "kernel_drops", "lag_seconds", "errors", "restarts")
NODE_COLUMNS = ("state", "address", "actors", "wanted_shards")
RIB_COLUMNS = (
    *("state", "bgp_sessions", "bmp_sessions", "peers", "stale_peers", "routes"),
    *("snapshot_lag_seconds", "restarts"),
)
AGGREGATOR_COLUMNS = ("state", "open_windows", "rows_committed", "outstanding", "behind_seconds")


class ViewError(FlowrayError):
    """A view that cannot be looked at."""


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
    for line in found["waiting"]:
        console.print(line, style="yellow")
    console.print(_members("shard", found["shards"], SHARD_COLUMNS))
    if found["ribs"]:
        console.print(_members("rib group", found["ribs"], RIB_COLUMNS))
    console.print(_members("aggregator", found["aggregators"], AGGREGATOR_COLUMNS))
    console.print(f"templates and facts: {found['templates'].get('entries', 'unknown')}")
    for event in found["events"][-5:]:
        console.print(event, style="dim")


def _members(title: str, members: dict[str, Any], columns: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "))
    wrong = {
        n: m.get("error") or m.get("last_sink_error") or m.get("last_error")
        for n, m in members.items()
    }
    if any(wrong.values()):
        table.add_column("what is wrong", overflow="fold")
    for name, m in members.items():
        words = [wrong[name] or ""] if any(wrong.values()) else []
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
        typer.echo(json.dumps(found))
        return
    console = _console()
    exporters = Table("exporter", "account", "count")
    for address, accounts in sorted(found["exporters"].items()):
        for account, n in accounts.items():
            exporters.add_row(address, account, str(n))
    console.print(exporters)
    views = Table("view", "account", "count")
    for view, accounts in found["views"].items():
        for account, n in accounts.items():
            views.add_row(view, account, str(n))
    console.print(views)
    for line in live_problems(found):
        console.print(line, style="red")


def live_problems(found: dict[str, Any]) -> list[str]:
    """What does not balance in accounts taken while records move: open ones are no problem."""
    still_open = {
        view: max(accounts.get("aggregated", 0) - accounts.get("committed", 0), 0)
        for view, accounts in found["views"].items()
    }
    sums = totals(found)
    ended = sum(sums.get(a, 0) for a in ("sets_held_decoded", "sets_expired", "sets_evicted"))
    held = max(sums.get("sets_held", 0) - ended, 0)
    return problems(found, held=held, open_records=still_open)


def newest_rows(program: Program, view: str, n: int, by: str) -> tuple[pa.Table, int] | None:
    """The first n rows of the newest open window by a counter, as JSON keys and values, and the
    start of the window (ns). None if no window is open. Raises ViewError.
    """
    plan = next((p for p in program.views if p.name == view), None)
    if plan is None:
        known = ", ".join(p.name for p in program.views)
        raise ViewError(f"no view {view!r}; there are: {known}")
    if plan.windows is None:
        raise ViewError(f"view {view!r} has no window: its rows are in its sinks")
    if by not in {f.name for f in plan.values}:
        counters = ", ".join(f.name for f in plan.values)
        raise ViewError(f"view {view!r} does not count {by!r}; it counts: {counters}")
    import ray

    names = [aggregate_name(view, p) for p in range(plan.partitions)]
    calls = [ray.get_actor(name, NAMESPACE).newest.remote(n, by) for name in names]
    parts = [part for part in _get(calls) if part is not None]
    if not parts:
        return None
    start = max(int(pc.max(part[WINDOW]).as_py()) for part in parts)
    newest = pa.scalar(start, pa.int64())
    table = pa.concat_tables([p.filter(pc.equal(p[WINDOW], newest)) for p in parts])
    table = table.unify_dictionaries()
    table = table.take(pc.sort_indices(table, sort_keys=[(by, "descending")])[:n])
    encoding = replace(program.encoding(view), records="rows")
    return render(table, list(plan.fields), encoding, (start, start + plan.windows.width)), start


def rows_table(view: str, rows: pa.Table, start: int) -> Table:
    """Rows for a terminal."""
    when = datetime.fromtimestamp(start / 1e9, UTC).strftime("%H:%M:%S")
    table = Table(title=f"{view}, window of {when} UTC", box=box.SIMPLE_HEAD, pad_edge=False)
    if "others" in rows.column_names and not pc.any(rows["others"]).as_py():
        rows = rows.drop_columns("others")
    for name in rows.column_names:
        table.add_column(name, justify="right" if name in COUNTERS else "left", overflow="fold")
    for row in rows.to_pylist():
        table.add_row(*(_cell(name, value) for name, value in row.items()))
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
    """The biggest rows of a view's newest open window, again and again."""
    with _connected(config) as (program, _):
        console = _console()
        if once or as_json or not console.is_terminal:
            found = newest_rows(program, view, n, by)
            if as_json:
                typer.echo(json.dumps(found[0].to_pylist() if found else [], default=str))
            else:
                console.print(rows_table(view, *found) if found else "no open window")
            return
        with Screen(console=console, screen=True) as screen:
            while True:
                found = newest_rows(program, view, n, by)
                screen.update(rows_table(view, *found) if found else "no open window")
                time.sleep(REFRESH_SECONDS)
