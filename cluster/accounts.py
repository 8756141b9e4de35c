"""The ledger and the state of what runs, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from flowray.ingest.ledger import problems

EXPORTER_COLUMNS = ("datagrams", "decoded", "records", "sequence_gap", "restarts", "skewed")
"""Accounts that everybody wants to see; others are named where they are not zero."""

VIEW_COLUMNS = ("offered", "filtered", "sampled_out", "aggregated", "committed", "late", "others")

ALARMING = {"sequence_gap", "skewed"}
"""What is lost or wrong outside, though the ledger balances: yellow."""


def ledger_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Exporters and views, an account a column."""
    exporters = found["exporters"].items()
    yield _accounts("exporter", sorted(exporters), EXPORTER_COLUMNS)
    yield _accounts("view", found["views"].items(), VIEW_COLUMNS)


def _accounts(
    title: str, rows: Iterable[tuple[str, Mapping[str, int]]], columns: tuple[str, ...]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("also", overflow="fold")
    for name, accounts in rows:
        cells = [
            Text(str(accounts.get(c, 0)), "yellow" if c in ALARMING and accounts.get(c) else "")
            for c in columns
        ]
        rest = (f"{a.replace('_', ' ')} {n}" for a, n in accounts.items() if a not in columns)
        table.add_row(name, *cells, ", ".join(rest))
    return table


def live_problems(found: Mapping[str, Any]) -> list[str]:
    """What does not balance in accounts taken while records move: open ones are no problem."""
    still_open = {
        view: max(accounts.get("aggregated", 0) - accounts.get("committed", 0), 0)
        for view, accounts in found["views"].items()
    }
    return problems(dict(found), held=found.get("held", 0), open_records=still_open)


def kernel_drops(shards: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """(shard, address listened on, datagrams that the kernel had no room for)."""
    return [
        (name, address, n)
        for name, shard in shards.items()
        for address, n in shard.get("drops_by_socket", {}).items()
    ]


def warnings(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(line, style) of what is lost or does not balance."""
    for shard, address, n in kernel_drops(status["shards"]):
        if n:
            yield f"{shard}: {n} datagrams dropped by the kernel at {address}", "yellow"
    if status["kernel_drops_of_retired"]:
        yield f"shards that are gone: {status['kernel_drops_of_retired']} dropped", "yellow"
    for line in status["ledger_problems"]:
        yield f"the ledger does not balance: {line}", "red"
