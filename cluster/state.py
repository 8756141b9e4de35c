"""`flowray state`: snapshots, looked at and started from; and whether the state store is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from cluster.look import COUNTERS, amount
from cluster.replay import load_program
from cluster.topology import absolute
from flowray.errors import FlowrayError
from flowray.filesystems import shown
from flowray.settings.compile import Program
from flowray.settings.model import Settings
from flowray.sinks.render import render
from flowray.state.snapshots import LATEST, Shelf, SnapshotError, find_snapshot
from flowray.state.store import LocalStore, open_store, patiently
from flowray.views.fold import RECORDS
from flowray.views.window import WINDOW

PIPE_WIDTH = 240
CHECKPOINTS = "checkpoints/"


class StateError(FlowrayError):
    """A state path that cannot be used so."""


def reached(settings: Settings) -> None:
    """Wait until the state store can be written. Raises StateError for a local one that cannot."""
    store = open_store(settings.state.path)

    def write() -> None:
        store.replace("written", b"")
        store.delete("written")

    if not isinstance(store, LocalStore):
        patiently("flowray", write, tell=lambda line: typer.echo(line, err=True))
        return
    try:
        write()
    except OSError as error:
        raise StateError(f"state.path: {store} cannot be written: {error}") from None


def seeded(settings: Settings, from_state: str | None) -> Settings:
    """The same with the snapshot named that `--from-state` or `state.start_from` tells. Raises
    StateError if the state path is in use already (with the option alone: that counts), and
    SnapshotError.
    """
    state = settings.state
    told = from_state or state.start_from
    if told is None:
        return settings
    found = None
    if not patiently("flowray", lambda: open_store(state.path).names(CHECKPOINTS)):
        location, name = patiently("flowray", lambda: find_snapshot(told, state.shelf))
        place, question, query = location.partition("?")
        found = f"{place}/{name}{question}{query}"
    elif from_state is not None:
        place = shown(state.path)
        raise StateError(f"--from-state: {place} has checkpoints already; give an empty state.path")
    update = {"state": state.model_copy(update={"start_from": found})}
    return settings.model_copy(update=update)


def _shelf(config: Path | None) -> tuple[Program, Shelf]:
    program = load_program(config)
    return program, Shelf(open_store(absolute(program.settings).state.shelf))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def ls(config: Path | None, *, as_json: bool) -> None:
    """All snapshots, oldest first."""
    _, shelf = _shelf(config)
    try:
        rows = [_row(shelf, name) for name in shelf.names()]
    except OSError as error:
        raise SnapshotError(f"{shelf.store}: {error}") from None
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo(f"no snapshots in {shelf.store}")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("name", "state") else "right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    _console().print(table)


def _row(shelf: Shelf, name: str) -> dict[str, Any]:
    parts = list(shelf.manifests(name).values())
    described = [part["aggregator"] for part in parts]
    return {
        "name": name,
        "state": "complete" if shelf.complete(name) else "incomplete",
        "parts": len(parts),
        "windows": sum(len(d["open"]) for d in described),
        "waiting": sum(len(d["outbox"]) for d in described),
        "octets": sum(part["octets"] for part in parts),
    }


def show(config: Path | None, name: str, view: str | None, n: int, *, as_json: bool) -> None:
    """What a snapshot holds: its manifests, or the biggest rows of a view's open windows."""
    program, shelf = _shelf(config)
    try:
        # An incomplete one may be looked at by its name.
        name = shelf.resolve(name) if name == LATEST else name
        manifests = shelf.manifests(name)
        if not manifests:
            raise SnapshotError(f"no snapshot {name} in {shelf.store}")
        if view is None:
            _show_parts(name, manifests, as_json=as_json)
            return
        if not any(part["view"] == view for part in manifests.values()):
            known = ", ".join(sorted({part["view"] for part in manifests.values()}))
            raise SnapshotError(f"snapshot {name} has no view {view!r}, but {known}")
        parts = [key for key, part in sorted(manifests.items()) if part["view"] == view]
        tables = [shelf.windows(name, key) for key in parts]
    except OSError as error:
        raise SnapshotError(f"{shelf.store}: {error}") from None
    _show_rows(program, view, [table for table in tables if table.num_rows], n, as_json=as_json)


def _show_parts(name: str, manifests: dict[str, dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"name": name, "parts": manifests}))
        return
    first = next(iter(manifests.values()))
    console = _console()
    console.print(f"snapshot {name} by flowray {first['version']}, config {first['config'][:12]}")
    columns = ("part", "at", "windows", "shards", "waiting for sinks", "octets", "ledger")
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for key, part in sorted(manifests.items()):
        described = part["aggregator"]
        accounts = ", ".join(f"{account} {n}" for account, n in part["ledger"].items())
        shards = {shard for shard, *_ in described["received"]}
        waiting = {sink: s["commits"] for sink, s in part["sinks"].items() if s["commits"]}
        table.add_row(
            key,
            part["at"],
            str(len(described["open"])),
            str(len(shards)),
            ", ".join(f"{sink} {n}" for sink, n in waiting.items()),
            str(part["octets"]),
            accounts,
        )
    console.print(table)


def _show_rows(
    program: Program, view: str, tables: list[pa.Table], n: int, *, as_json: bool
) -> None:
    plan = next((p for p in program.views if p.name == view), None)
    if plan is None:
        raise SnapshotError(f"view {view!r} is not in this configuration, which tells its fields")
    rows: list[dict[str, Any]] = []
    if tables:
        whole = pa.concat_tables(tables).unify_dictionaries()
        counters = [name for name in COUNTERS if name in whole.column_names]
        by = "bytes" if "bytes" in counters else (*counters, RECORDS)[0]
        whole = whole.sort_by([(WINDOW, "ascending"), (by, "descending")])
        whole = whole[:n] if n else whole
        encoding = replace(program.encoding(view), records="rows")
        rendered = render(whole, list(plan.fields), encoding, None)
        rows = [
            {"window": start, **row}
            for start, row in zip(whole[WINDOW].to_pylist(), rendered.to_pylist(), strict=True)
        ]
    if as_json:
        typer.echo(json.dumps(rows, default=str))
        return
    if not rows:
        typer.echo("no open window")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, justify="right" if column in COUNTERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(column, value) for column, value in row.items()))
    _console().print(table)


def _cell(name: str, value: Any) -> str:
    if name in COUNTERS:
        return amount(value)
    return "" if value is None else str(value)
