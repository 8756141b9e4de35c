"""Peers, routes and their changes as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from rich import box, filesize
from rich.table import Table

from flowray.pb import rib_pb2 as pb

Row: TypeAlias = dict[str, Any]

_COLUMNS = {
    "prefix or NLRI": ("ip_prefix", "nlri"),
    "RD": ("rd",),
    "path id": ("as_path_id",),
    "next hop": ("bgp_nexthop",),
    "AS path": ("as_path",),
    "origin": ("origin",),
    "pref": ("local_pref",),
    "MED": ("med",),
    "label": ("mpls_label",),
    "communities": ("comms", "ecomms", "lcomms"),
    "RPKI": ("roa",),
    "peer": ("peer_ip_src", "peer_ip"),
    "router": ("bmp_router",),
    "table": ("bmp_rib_type",),
    "": ("stale",),
}
"""Columns, and the keys of a row whose values they show."""

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def _cell(row: Row, keys: Sequence[str]) -> str:
    if keys == ("stale",):
        return "stale" if row.get("stale") else ""
    return " ".join(str(row[key]) for key in keys if key in row)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _shown(rows: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """The columns in which any row has something."""
    keys = {key for row in rows for key in row}
    return {name: of for name, of in _COLUMNS.items() if keys.intersection(of)}


def routes_table(rows: Sequence[Row]) -> Table | str:
    """Routes, one a line."""
    if not rows:
        return "no routes"
    shown = _shown(rows)
    table = _table(*shown)
    for row in rows:
        table.add_row(*(_cell(row, keys) for keys in shown.values()))
    return table


def changes_table(changes: Sequence[Row], times: tuple[int, int]) -> Table | str:
    """Changes: `+` a route that came, `-` one that went, `~` what one was, and below what it is.
    `times` (ns) are those of the tables, 0 where a time says nothing.
    """
    since = " to ".join(_time(ns) if ns else "now" for ns in times) if any(times) else ""
    if not changes:
        return f"no difference {since}".rstrip()
    sides = [side for c in changes for side in (c["before"], c["after"]) if side is not None]
    shown = _shown(sides)
    table = _table(" ", *shown)
    table.title = since or None
    for change in changes:
        mark, style = _MARKS[change["change"]]
        for side in (change["before"], change["after"]):
            if side is not None:
                table.add_row(mark, *(_cell(side, keys) for keys in shown.values()), style=style)
                mark = ""
    return table


def peers_table(peers: Sequence[pb.Peer]) -> Table | str:
    """Peers, one table of routes a line."""
    if not peers:
        return "no peers"
    table = _table("peer", "AS", "BGP id", "router", "table", "state", "family")
    for name in ("routes", "memory"):
        table.add_column(name, justify="right")
    table.add_column("complete")
    for peer in peers:
        own = [peer.address, str(peer.asn), peer.bgp_id, _router(peer), _view(peer), _state(peer)]
        for tables in peer.tables or [None]:
            table.add_row(*own, *_of_table(tables))
            own = [""] * len(own)
    return table


def _router(peer: pb.Peer) -> str:
    return peer.router if peer.protocol == "bmp" else ""


def _view(peer: pb.Peer) -> str:
    return f"{peer.view} {peer.rd}".rstrip()


def _state(peer: pb.Peer) -> str:
    since = ""
    if peer.HasField("since_ns"):
        since = f" since {_time(peer.since_ns)}"
    return f"{peer.state}{', stale' if peer.stale else ''}{since}"


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _of_table(table: pb.Table | None) -> tuple[str, ...]:
    if table is None:
        return ("", "0", "0", "")
    complete = "yes" if table.end_of_rib else ""
    return table.family, str(table.routes), filesize.decimal(table.octets), complete
